"""What the shards of `infer` have reported, as one predictions.json: nothing is left out without a word."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unetpipe.config.infer import MergeConfig
from unetpipe.documents import Record, write_document
from unetpipe.errors import DatasetError, Fault
from unetpipe.inference.predictions import Prediction, Predictions, predictions_path, read_predictions

log = logging.getLogger(__name__)


class MergeResult(Record):
    """What `merge` found.

    Attributes:
        scans: Scans of all shards.
        predictions: The file that was written.
        failed: Why there are no labels, by scan.
    """

    scans: int
    predictions: Path
    failed: dict[str, str]


def merge(config: MergeConfig) -> MergeResult:
    """Merge the reports of all shards.

    Raises:
        DatasetError: Lists every shard that is missing or did not come to its end, labels that are not there, scans
            that are in two shards, and shards of other models than the first. Nothing is written then.
    """
    names = {shard: f"{shard}/{config.shards}" for shard in range(1, config.shards + 1)}
    found = {shard: read_predictions(predictions_path(config.out, name)) for shard, name in names.items()}
    reports = [report for report in found.values() if report is not None]
    faults = [fault for shard, report in found.items() for fault in _faults(names[shard], report, reports, config.out)]
    cases = sorted((case for report in reports for case in report.cases), key=lambda case: case.id)
    repeated = [case for case, count in Counter(case.id for case in cases).items() if count > 1]
    faults += [
        _fault(case, "repeated", "is in more than one shard: were they given the same scans?") for case in repeated
    ]
    if faults:
        raise DatasetError(faults)
    path = predictions_path(config.out)
    write_document(path, _merged(reports, cases))
    failed = {case.id: case.error or "" for case in cases if case.status == "failed"}
    return MergeResult(scans=len(cases), predictions=path, failed=failed)


def _faults(name: str, report: Predictions | None, reports: Sequence[Predictions], out: Path) -> list[Fault]:
    case = f"shard {name}"
    if report is None:
        return [_fault(case, "missing", f"{predictions_path(out, name).name} is not there, or cannot be read")]
    faults = []
    if report.scans != len(report.cases):
        number = "an unknown number of" if report.scans is None else report.scans
        faults.append(_fault(case, "incomplete", f"reports {len(report.cases)} of {number} scans: it was interrupted"))
    if report.models != reports[0].models:
        faults.append(_fault(case, "other_model", "was segmented by other models than the first shard"))
    absent = [one.id for one in report.cases if not all((out / name).is_file() for name in one.outputs)]
    faults += [_fault(one, "no_labels", "was segmented, but its labels are not there") for one in absent]
    return faults


def _merged(reports: Sequence[Predictions], cases: Sequence[Prediction]) -> Predictions:
    first = reports[0]
    return Predictions(
        models=first.models,
        versions={name: str(one) for name, one in _joined("version of", (r.versions for r in reports)).items()},
        device=", ".join(dict.fromkeys(report.device for report in reports)),
        settings=_joined("setting", (report.settings for report in reports)),
        scans=len(cases),
        cases=tuple(cases),
    )


def _joined(kind: str, mappings: Iterable[Mapping[str, str | float]]) -> dict[str, str | float]:
    """One mapping; values that differ between shards, which may have run on different machines, become a list."""
    values: dict[str, dict[str | float, None]] = {}
    for mapping in mappings:
        for name, value in mapping.items():
            values.setdefault(name, {})[value] = None
    for name, different in values.items():
        if len(different) > 1:
            log.warning("%s %s differs between shards: %s", kind, name, ", ".join(map(str, different)))
    return {name: next(iter(one)) if len(one) == 1 else ", ".join(map(str, one)) for name, one in values.items()}


def _fault(case: str, kind: str, message: str) -> Fault:
    return Fault(case=case, kind=kind, message=message)
