"""The scans that inputs stand for, and the names of their outputs."""

import glob
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unetpipe.dataset.case_names import distinct_names, file_names
from unetpipe.dataset.layouts.presence import absence, as_on_disk, has_name
from unetpipe.dataset.layouts.reading import GUESSED, is_guessed, read_text
from unetpipe.dataset.layouts.recognition import LISTS
from unetpipe.dataset.manifest import Case
from unetpipe.dataset.privacy.case_ids import KEEP_NAMES, CaseIds, hidden
from unetpipe.dataset.privacy.source_names import SourceNames
from unetpipe.errors import DATASET, DatasetError, Fault
from unetpipe.imaging.dicom.options import DicomOptions, choice_per_image
from unetpipe.imaging.dicom.sources import is_dicom
from unetpipe.inference.scans import ScanFinder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputCase:
    """One scan to segment.

    Attributes:
        id: Name of the scan: its file or DICOM folder without suffix and channel number, or its name in a list.
        paths: One file per channel, or one with all of them, or one DICOM source.
        file_name: File name of the scan's outputs, without suffix.
        dicom: Choice of the volume in each path's DICOM source; empty where each holds a single one.
        fault: Why the scan cannot be read, where that is known already, such as that it is a Git LFS pointer; empty
            where it is not.
        name: What the scan would be called, where its id is a pseudonym; None where the id is that.
    """

    id: str
    paths: tuple[Path, ...]
    file_name: str
    dicom: tuple[DicomOptions, ...] = ()
    fault: str = ""
    name: str | None = None

    @property
    def is_dicom(self) -> bool:
        """Whether the scan is a DICOM source."""
        return is_dicom(self.paths[0])


def find_inputs(
    inputs: Iterable[Path],
    channels: Sequence[str],
    *,
    patterns: Sequence[str] = (),
    dicom: Sequence[DicomOptions] = (),
    ids: CaseIds = KEEP_NAMES,
    scratch: Path,
) -> list[InputCase]:
    """List the scans, sorted by id.

    Scans whose files have the same name are called by what their paths differ in, such as ``p1`` and ``p2`` for
    ``p1/t1.nii.gz`` and ``p2/t1.nii.gz``. A scan that is given twice counts once. One that cannot be read, such as a
    damaged zip or a file that was not fetched, is listed with its fault, so that the others can be segmented.

    Args:
        inputs: Image files, DICOM files, zips, folders of these, DICOM series and trees of them, datasets of any layout
            with or without labels, CSV and JSON lists, wildcards.
        channels: Names of the model's channels, by which those of a dataset that names its own are put in order. If
            several, files CASE_0000, CASE_0001, ... are the channels of CASE.
        patterns: One per channel, to apply to inputs that are folders; see `dataset.layouts.patterns`.
        dicom: Choice of the volume in DICOM sources, one for all channels or one per channel.
        ids: What scans are called.
        scratch: Temporary folder for what zips hold; it must be there until the scans have been read.

    Raises:
        DatasetError: If there is no scan; listing every input that does not exist or holds none, every missing channel,
            and every id that lists give to two scans, or every scan's fault where none can be read.
        ImageFileError: If there are several choices of a series, and another number of images.
    """
    splits = not any(one.names_one_series for one in dicom)
    finder = ScanFinder(
        channels,
        patterns,
        scratch,
        splits=splits,
        says_names=ids.kind != "hash",
    )
    scans = list(dict.fromkeys(finder.find(path.absolute() for path in _expanded(inputs))))
    names = iter(distinct_names([scan.place for scan in scans if scan.id is None]))
    named = [
        Case(id=next(names) if scan.id is None else scan.id, images=scan.paths, dicom=scan.dicom) for scan in scans
    ]
    cases = [hidden(case, pseudonym) for case, pseudonym in zip(named, ids.pseudonyms(named), strict=True)]
    if count := ids.record(cases):
        log.info("scans that are called by pseudonyms: %d; unetpipe-private has the table of their names", count)
    unusable = [scan.fault or _absence(scan.paths) for scan in scans]
    faults = list(finder.faults)
    for name, count in Counter(case.id for case in cases).items():
        if count > 1:
            faults.append(Fault(case=name, kind="duplicate", message=f"{count} inputs have this name"))
    if not cases and not faults:
        faults.append(
            Fault(case=DATASET, kind="no_cases", message="there is no scan to segment, such as in an empty list")
        )
    if faults or all(unusable):
        faults += [
            Fault(case=case.id if case.name else case.images[0].name, kind="unreadable", message=reason)
            for case, reason in zip(cases, unusable, strict=True)
            if reason
        ]
    if faults:
        source_names = SourceNames.of(cases)
        raise DatasetError([source_names.hide_in(fault) for fault in faults])
    written = file_names(case.id for case in cases)
    found = []
    for case, fault in zip(cases, unusable, strict=True):
        paths, chosen = choice_per_image(case.images, dicom, case.dicom)
        found.append(InputCase(case.id, paths, written[case.id], chosen, fault, case.name))
    return sorted(found, key=lambda case: case.id)


def read_list(file: Path) -> list[Path]:
    """Inputs that a list names: a CSV or JSON list of cases is an input itself.

    Other files are text with one input per line, relative to the file's folder and perhaps as another system writes it;
    empty lines and ``# ...`` do not count.

    Raises:
        DatasetError: If it cannot be read.
    """
    if file.suffix.lower() in LISTS:
        return [file]
    lines = read_text(file).splitlines()
    if is_guessed(file):
        log.warning("a list of inputs %s", GUESSED)
    return [as_on_disk(file.parent / line.strip()) for line in lines if line.strip() and not line.startswith("#")]


def shard_of(cases: Sequence[InputCase], shard: str) -> list[InputCase]:
    """Take every n-th case: "3/16" is the third of sixteen parts, which together hold each case once.

    Raises:
        DatasetError: If the shard is not I/N with 1 <= I <= N.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise DatasetError.of("shard", f"expected I/N with I from 1 to N, such as 3/16, got {shard!r}")
    return list(cases[int(match[1]) - 1 :: int(match[2])])


def _absence(paths: Sequence[Path]) -> str:
    """Why one of a scan's files cannot be read, with its name where there are several; empty where all are there."""
    reasons = [(path, reason) for path in paths if (reason := absence(path))]
    return "; ".join(f"{path.name} {reason}" if len(paths) > 1 else reason for path, reason in reasons)


def _expanded(inputs: Iterable[Path]) -> Iterator[Path]:
    """Inputs with what wildcards match; brackets that match nothing as a choice of letters are part of a name."""
    for path in inputs:
        if has_name(path) or not glob.has_magic(str(path)):
            yield path
        else:
            yield from _matches(str(path)) or _matches(str(path).replace("[", "[[]")) or [path]


def _matches(pattern: str) -> list[Path]:
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns
    return [Path(match) for match in sorted(matches)]
