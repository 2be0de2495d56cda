"""`WORK/preview.html`: every case in three planes, so that a flipped or shifted label is seen before training.

One file that loads nothing from elsewhere. It holds case ids and the decisions of the work folder, and neither paths
nor patients.
"""

import base64
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja2
import numpy as np

from unetpipe.dataset.manifest import Manifest
from unetpipe.dataset.planning.fingerprint import Fingerprint
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.store import CaseStore
from unetpipe.errors import Fault
from unetpipe.files import write_text
from unetpipe.report.histograms import histogram_svg
from unetpipe.report.thumbnails import COLOURS, case_png

PREVIEW_SCHEMA = 3
"""Raise it when the same cases come to be drawn differently."""
_AXES = ("right", "anterior", "superior")


def write_preview(
    work: Path,
    manifest: Manifest,
    fingerprint: Fingerprint,
    plan: Plan,
    configuration: str,
    warnings: Sequence[Fault],
    *,
    workers: int,
) -> Path:
    """Draw all cases and the fingerprint. A preview that already shows the same is not written again.

    Args:
        work: The work folder, whose cases are preprocessed.
        manifest: Manifest of the dataset.
        fingerprint: Fingerprint of the dataset.
        plan: Plan of the dataset.
        configuration: Name of the plan's configuration whose arrays are drawn.
        warnings: Warnings of the checks, listed at the top and beside the cases that they concern.
        workers: Number of threads that draw.

    Returns:
        Path of the file.
    """
    path = work / "preview.html"
    store = CaseStore(work, configuration)
    shown = (
        PREVIEW_SCHEMA,
        [store.key(case) for case in store.ids],
        manifest.model_dump_json(),
        fingerprint.model_dump_json(),
        plan.model_dump_json(),
        configuration,
        [str(fault) for fault in warnings],
    )
    key = hashlib.sha256(repr(shown).encode()).hexdigest()
    if path.exists() and f"content {key}" in path.open(encoding="utf-8").read(400):
        return path
    side = 128 if len(store.ids) <= 100 else 96
    with ThreadPoolExecutor(workers) as threads:
        pictures = list(threads.map(lambda case: case_png(store, case, side), store.ids))
    notes: dict[str, list[str]] = {}
    for fault in warnings:
        notes.setdefault(fault.case, []).append(fault.message)
    by_id = {case.id: case for case in fingerprint.cases}
    write_text(
        path,
        _template().render(
            key=key,
            manifest=manifest,
            plan=plan,
            name=configuration,
            configuration=plan.configurations[configuration],
            classes=[
                (label.name, label.value, COLOURS[number % len(COLOURS)])
                for number, label in enumerate(manifest.labels[1:])
            ],
            histograms=_histograms(manifest, fingerprint),
            warnings=warnings,
            cases=[
                (case, by_id[case], base64.b64encode(picture).decode(), "; ".join(notes.get(case, [])))
                for case, picture in zip(store.ids, pictures, strict=True)
            ],
        ),
    )
    return path


def _histograms(manifest: Manifest, fingerprint: Fingerprint) -> list[str]:
    """Voxel size and count along each axis, and the volume of each class over the cases that have it."""
    cases = fingerprint.cases
    drawn = []
    for axis in range(manifest.spatial_dims):
        name = _AXES[axis] if manifest.spatial_dims == 3 else ("across", "down")[axis]
        drawn.append(histogram_svg(f"voxel size, {name}", [case.spacing_mm[axis] for case in cases], " mm"))
        drawn.append(histogram_svg(f"voxels, {name}", [case.shape[axis] for case in cases]))
    for number, label in enumerate(manifest.labels[1:]):
        thousand = 1000 if manifest.spatial_dims == 3 else 1  # mm³ in a ml
        volumes = [
            case.class_voxels[label.value] * float(np.prod(case.spacing_mm)) / thousand
            for case in cases
            if case.class_voxels.get(label.value)
        ]
        missing = len(cases) - len(volumes)
        title = f"{label.name}" + (f" (absent in {missing})" if missing else "")
        unit = " ml" if manifest.spatial_dims == 3 else " mm²"
        drawn.append(histogram_svg(title, volumes, unit, COLOURS[number % len(COLOURS)]))
    return [one for one in drawn if one]


def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("unetpipe.report")
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(
        "preview.html"
    )
