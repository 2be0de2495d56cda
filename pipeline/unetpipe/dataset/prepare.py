"""Cases from their files to the arrays that training reads. Needs torch: import it only where cases are prepared."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore

import numpy as np
import torch
from numpy.typing import NDArray

from unetpipe.dataset.case_label import read_case_label
from unetpipe.dataset.checks.statistics import CaseStatistics
from unetpipe.dataset.keys import case_key
from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.memory_budget import MemoryBudget, preparation_bytes
from unetpipe.dataset.planning.plan import Plan
from unetpipe.dataset.store import EncodedCase, cases_folder, encode_case
from unetpipe.errors import DatasetError, Fault, ImageFileError, UnetpipeError
from unetpipe.imaging.geometry import Spacing, orientation_to_ras
from unetpipe.imaging.image import read_image
from unetpipe.imaging.network_input import CroppedImage, network_label
from unetpipe.imaging.preprocessing import Placement, Preprocessing
from unetpipe.progress import Progress

_LARGEST = float(np.finfo(np.float16).max)
_WRITERS = 4
"""Threads that wait for the disk while others compute."""
_WAITING = 8
"""Prepared cases, compressed, that may wait for a writer."""


def prepare_cases(
    work: Path,
    cases: Sequence[Case],
    statistics: Mapping[str, CaseStatistics],
    manifest: Manifest,
    plan: Plan,
    configuration: str,
    *,
    workers: int,
    budget: MemoryBudget,
    progress: Progress,
) -> None:
    """Prepare and store cases, in threads.

    Args:
        work: The work folder.
        cases: Which of the manifest's.
        statistics: Of each case, by id.
        manifest: Of the dataset.
        plan: Its plan.
        configuration: Which of the plan's.
        workers: Threads.
        budget: Cases are held back until they fit.
        progress: Advanced once per case.

    Raises:
        DatasetError: If a file has changed since it was checked; names the case.
    """
    spec, patch = plan.preprocessing(configuration), plan.configurations[configuration].patch_size
    folder, room = cases_folder(work, configuration), BoundedSemaphore(_WAITING)

    def encode(case: Case) -> EncodedCase:
        known = statistics[case.id]
        with budget.hold(preparation_bytes(known.shape, known.spacing_mm, len(known.channels), spec)):
            array, placement, spacing_mm = prepare_case(case, known, manifest, spec)
            return encode_case(
                array,
                case=case.id,
                key=case_key(known, manifest, plan, configuration),
                placement=placement,
                spacing_mm=spacing_mm,
                classes=len(manifest.labels),
                patch_size=patch,
                preprocessing=spec,
            )

    def prepare(case: Case) -> Future[None]:
        with _blamed_on(case):
            encoded = encode(case)
        room.acquire()
        return writers.submit(write, case, encoded)

    def write(case: Case, encoded: EncodedCase) -> None:
        try:
            with _blamed_on(case):
                encoded.write(folder, manifest.file_names[case.id])
        finally:
            room.release()

    with (
        _shared_cores(workers),
        progress.task("preprocessing", len(cases)) as advance,
        ThreadPoolExecutor(_WRITERS) as writers,
        ThreadPoolExecutor(workers) as threads,
    ):
        futures = {threads.submit(prepare, case): case for case in cases}
        try:
            for future in as_completed(futures):
                future.result().result()
                advance(note=futures[future].id)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _blamed_on(case: Case) -> Iterator[None]:
    """Say which case an error is about."""
    try:
        yield
    except UnetpipeError as error:
        raise DatasetError([Fault(case=case.id, kind="preprocessing", message=str(error))]) from error
    except Exception as error:
        error.add_note(f"while preprocessing case {case.id}")
        raise


@contextmanager
def _shared_cores(workers: int) -> Iterator[None]:
    """Let torch use as many threads per worker as there are cores for each; with all in each they stand in line."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare_case(
    case: Case, statistics: CaseStatistics, manifest: Manifest, spec: Preprocessing
) -> tuple[NDArray[np.float16], Placement, Spacing]:
    """Read, crop, normalise and resample a case.

    Returns:
        float16 (C + 1, \\*network): channels, then the class index, -1 where ignored; where it lies in its file; its
        voxel size in mm, which is the target's to within the rounding of the shape.

    Raises:
        ImageFileError: If the files have changed since they were checked.
        GeometryError: Likewise.
    """
    if case.label is None:
        raise ImageFileError(f"{case.id} has no label")
    image = CroppedImage(read_image(case.images, case.dicom, adopt_affine=statistics.affine_adopted), spec)
    placement = image.placement
    stored = torch.empty((len(spec.normalization) + 1, *placement.shape), dtype=torch.float16)
    for number, channel in enumerate(image.channels()):
        stored[number] = channel.clamp_(-_LARGEST, _LARGEST)
    del channel  # before the label is read
    source = placement.source
    label = read_case_label(case.label, source, manifest, adopt_affine=statistics.affine_adopted)
    label = orientation_to_ras(source).to_ras(label)
    stored[-1] = network_label(label, image, manifest.label_values, manifest.ignore_value)
    return stored.numpy(), placement, image.grid.spacing_mm
