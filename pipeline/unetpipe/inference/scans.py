"""The scans behind a path that a person gives: a file, a folder, a DICOM source, a zip, a dataset or a list."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetpipe.dataset.layouts.listing import CHANNEL_SUFFIX, holds_every_channel
from unetpipe.dataset.layouts.presence import absence, has_name
from unetpipe.dataset.layouts.reading import GUESSED
from unetpipe.dataset.layouts.recognition import inspect_scans, is_dataset
from unetpipe.dataset.manifest import Case
from unetpipe.errors import DatasetError, Fault, ImageFileError, listed
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.sources import is_dicom
from unetpipe.imaging.files import strip_suffix
from unetpipe.inference.archives import folders_of, unpack
from unetpipe.inference.scan_folders import (
    common_folder,
    folders_below,
    holds_dicom,
    image_files_in,
    is_dicom_file,
    is_zip,
    segmentations_in,
    visible_in,
)

log = logging.getLogger(__name__)
_PICTURES = (".png", ".jpg", ".jpeg")  # previews, where they lie in a tree of DICOM series
_WAY_ON = "name them by a wildcard, or by --images patterns"
_LISTED = 5
_DICOM = "DICOM"  # in place of the name of a file or folder, which may be a patient's


@dataclass(frozen=True)
class Scan:
    """A scan that was found.

    Attributes:
        place: Absolute path that it is called after, such as its file without the number of a channel.
        paths: One file per channel, or one with all of them, or one DICOM source.
        id: Name of the scan in its list or layout; None where the scan is named after its path.
        fault: Why the scan cannot be read, where that is known already; empty where it is not.
        dicom: Choice of the volume in each path's DICOM source; empty where the list or the source needs none.
    """

    place: Path
    paths: tuple[Path, ...]
    id: str | None = None
    fault: str = ""
    dicom: tuple[DicomOptions, ...] = ()


class ScanFinder:
    """Lists scans, and collects what is wrong with the paths that were given.

    Attributes:
        faults: Faults of all paths so far.
    """

    def __init__(
        self,
        channels: Sequence[str],
        patterns: Sequence[str],
        scratch: Path,
        *,
        splits: bool = True,
        says_names: bool = True,
    ) -> None:
        """Start without reading anything yet.

        Args:
            channels: Names of the model's channels, by which those of a dataset that names its own are put in order. If
                several, files CASE_0000, CASE_0001, ... are channels of CASE.
            patterns: One per channel, to apply to folders; see `dataset.layouts.patterns`.
            scratch: Temporary folder for what zips hold; it must be there until the scans have been read.
            splits: Make a scan of each study of a folder that holds files of several studies.
            says_names: Name what lies in folders, where something is wrong with it; else it is counted.
        """
        self._channels, self._patterns, self._scratch, self._splits = channels, patterns, scratch, splits
        self._says_names = says_names
        self.faults: list[Fault] = []

    def find(self, paths: Iterable[Path]) -> list[Scan]:
        """The scans behind all paths, in no order."""
        scans: list[Scan] = []
        files: list[Path] = []
        for path in paths:
            reason = absence(path)
            if reason and not has_name(path):
                self._fault(path.name, "missing", reason)
            elif reason:
                files.append(path)
            elif self._patterns or (is_dataset(path) and not image_files_in(path)):
                scans += self._in_dataset(path)
            elif path.is_dir():
                scans += self._in_folder(path)
            elif is_zip(path):
                scans += self._in_zip(path)
            else:
                files.append(path)
        dicom = {path for path in files if is_dicom_file(path)}
        return [*scans, *self._slices(sorted(dicom)), *self._by_channel([path for path in files if path not in dicom])]

    def _in_dataset(self, path: Path) -> list[Scan]:
        try:
            cases, faults, names = inspect_scans(path, self._patterns)
        except DatasetError as error:
            cases, faults, names = [], list(error.faults), ()
        self.faults += [fault for fault in faults if fault.severity == "error"]
        if any(fault.kind == "encoding" for fault in faults):
            log.warning("a list of cases %s", GUESSED)
        return [scan for case in self._in_order(path, cases, names) for scan in self._of_list(case)]

    def _in_order(self, path: Path, cases: list[Case], names: Sequence[str]) -> list[Case]:
        """Scans with their channels in the model's order, where the dataset names them as the model does."""
        wanted = [name.casefold() for name in self._channels]
        found = [name.casefold() for name in names]
        if len(wanted) < 2 or not found or wanted == found:
            return cases
        if not set(wanted) <= set(found) or len(set(found)) < len(found):
            pairs = ", ".join(f"{own} for {name}" for name, own in zip(self._channels, names, strict=False))
            log.warning("channels are called otherwise than the model's; by their order %s", pairs)
            return cases
        if not all(len(case.images) == len(found) for case in cases):
            own, theirs = ", ".join(self._channels), ", ".join(names)
            self._fault(path.name, "channels", f"the model takes {own} in this order, and files hold {theirs}")
            return cases
        order = [found.index(name) for name in wanted]
        return [
            case.model_copy(
                update={
                    "images": tuple(case.images[number] for number in order),
                    "dicom": tuple(case.dicom[number] for number in order) if case.dicom else (),
                }
            )
            for case in cases
        ]

    def _of_list(self, case: Case) -> list[Scan]:
        """The scans that a case of a list stands for: several where its one image is a folder of several studies."""
        image = case.images[0]
        if len(case.images) > 1 or case.dicom or not image.is_dir():
            return [Scan(image, case.images, case.id, dicom=case.dicom)]
        scans = self._by_study(image)
        if len(scans) == 1:
            return [Scan(image, case.images, case.id)]
        return [replace(scan, id=f"{case.id}_{number}") for number, scan in enumerate(scans, start=1)]

    def _in_folder(self, folder: Path) -> list[Scan]:
        """The images and zips in a folder, and the DICOM series in it or anywhere below."""
        if holds_dicom(folder):
            return self._by_study(folder)
        series, others = folders_below(folder)
        of_series = self._series(series)
        images, pictures = _without_pictures(image_files_in(folder), beside=of_series)
        scans = self._by_channel(images, whole_folder=True)
        named = self._says_names and not series  # folders of DICOM files are often called after patients
        said = folder.name if named else "a folder"
        segmentations = segmentations_in(folder)
        if segmentations:
            log.warning("%s: segmentations are left out: %s", said, self._names(segmentations, said=named))
        for path in visible_in(folder):
            if path.suffix.lower() == ".zip" and path.is_file():
                scans += self._in_zip(path)
        scans += of_series
        left_out = sorted([*pictures, *(image for other in others[1:] for image in image_files_in(other))])
        if left_out and series:
            log.warning(
                "images of other formats in a tree of DICOM series are left out: %d; %s", len(left_out), _WAY_ON
            )
        elif left_out and scans:
            log.warning(
                "%s: images in subfolders are left out: %s; %s", said, self._names(left_out, said=named), _WAY_ON
            )
        elif left_out:
            self._fault(said, "empty", f"its images are in subfolders: {self._names(left_out, said=named)}; {_WAY_ON}")
        elif not scans:
            self._fault(said, "empty", "no image and no DICOM series in this folder")
        return scans

    def _in_zip(self, archive: Path) -> list[Scan]:
        """Find all images and series of a zip. A single one is named after the zip."""
        try:
            if is_dicom(archive) and len(folders_of(archive)) == 1:
                return self._by_study(archive)  # read as it is
            folder = unpack(archive, self._scratch)
        except ImageFileError as error:
            return [Scan(archive, (archive,), fault=str(error))]
        series, others = folders_below(folder)
        scans = of_series = self._series(series)
        left_out = 0
        for other in others:
            images, pictures = _without_pictures(image_files_in(other), beside=of_series)
            scans = scans + self._by_channel(images, whole_folder=True)
            left_out += len(pictures)
        if left_out:
            log.warning("pictures in a zip of DICOM series are left out: %d", left_out)
        if not scans:
            return [Scan(archive, (archive,), fault="no image and no DICOM series in this zip")]
        if len(scans) == 1:
            return [replace(scans[0], place=archive)]
        return [replace(scan, place=archive.parent / scan.place.relative_to(folder.parent)) for scan in scans]

    def _by_study(self, source: Path) -> list[Scan]:
        """A scan of each study in a folder of DICOM files or a zip; one scan where it holds one study."""
        from unetpipe.imaging.dicom.study import studies_in  # pydicom

        whole = _series_in(source)
        try:
            studies = studies_in(source) if self._splits else []
        except ImageFileError:  # which the scan fails with when it is read
            return [whole]
        if len(studies) < 2:
            return [whole]
        log.warning("a DICOM source that holds %d studies gives a scan of each", len(studies))
        name = strip_suffix(source.name)
        return [
            replace(whole, place=source.with_name(f"{name}_{number}"), dicom=(DicomOptions(study=study),))
            for number, study in enumerate(studies, start=1)
        ]

    def _series(self, folders: Sequence[Path]) -> list[Scan]:
        """A scan per study of a tree; what holds no image is left out.

        A study that shares its folder with others, as where folders are named after modalities, is a scan per series.
        """
        if len(folders) < 2:
            return [scan for folder in folders for scan in self._by_study(folder)]
        from unetpipe.imaging.dicom.study import first_identifiers  # pydicom

        scans: list[Scan] = []
        studies: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        imageless = 0
        for folder in folders:
            of_folder = self._by_study(folder)
            if len(of_folder) > 1:
                scans += of_folder
            elif (found := first_identifiers(folder)) is None:
                imageless += 1
            else:
                study, uid = found
                studies[study or uid or str(folder)][uid or str(folder)].append(folder)
        if imageless:
            log.warning("%d folders of DICOM files without an image of a series are left out", imageless)
        known = [folder for series in studies.values() for parts in series.values() for folder in parts]
        below = Counter(place for folder in known for place in (folder, *folder.parents))
        for series in studies.values():
            together = [folder for parts in series.values() for folder in parts]
            for parts in [together] if _is_alone(together, below) else series.values():
                if _is_alone(parts, below):
                    scans.append(_series_in(common_folder(parts)))
                else:
                    message = f"one series is spread over {len(parts)} folders that hold others too"
                    self._fault(_DICOM, "spread", f"{message}: give each series a folder")
        return scans

    def _slices(self, files: Sequence[Path]) -> list[Scan]:
        """Single DICOM files, each an image of its own; several of one series are a folder to be named as one."""
        series_of = {file: _series_of(file) or str(file) for file in files}
        grouped: dict[tuple[Path, str], list[Path]] = defaultdict(list)
        for file, series in series_of.items():
            grouped[file.parent, series].append(file)
        others = _others_of([place for place, slices in grouped.items() if len(slices) == 1], named=set(series_of))
        for place, slices in grouped.items():
            if len(slices) > 1:
                self._fault(_DICOM, "slices", f"{len(slices)} files of one series: name their folder instead")
            elif place in others:
                log.warning("the other files of the series of a DICOM file are left out; name their folder")
        return [Scan(slices[0], (slices[0],)) for slices in grouped.values() if len(slices) == 1]

    def _by_channel(self, files: Sequence[Path], *, whole_folder: bool = False) -> list[Scan]:
        """Image files, or groups of them where the model takes several channels."""
        count = len(self._channels)
        matches = {file: CHANNEL_SUFFIX.fullmatch(strip_suffix(file.name)) for file in files}
        # a folder in nnU-Net's naming; a lone CASE_0000 may simply be called so
        numbered = whole_folder and all(match and match[2] == "0000" for match in matches.values())
        alone: list[Path] = []
        grouped: dict[Path, dict[int, Path]] = defaultdict(dict)
        for file, match in matches.items():
            if match and int(match[2]) < count > 1:
                first = grouped[file.with_name(match[1])].setdefault(int(match[2]), file)
                if first != file:
                    self._fault(match[1], "channels", f"two files of channel {match[2]}: keep one of them")
            else:
                alone.append(file)
        scans: list[Scan] = []
        for place, parts in grouped.items():
            if holds_every_channel(parts[min(parts)], count):  # numbered pictures in colour, or 4-D images
                alone += parts.values()
                continue
            name = place.name if self._says_names else "..."
            lacking = [f"{name}_{n:04d}" for n in range(count) if n not in parts]
            if lacking:
                self._fault(place.name, "channels", f"channel files missing: {', '.join(lacking)}")
            scans.append(Scan(place, tuple(parts[n] for n in sorted(parts))))
        names = {file: match[1] for file, match in matches.items() if numbered and match}
        return scans + [Scan(file.with_name(names.get(file, file.name)), (file,)) for file in alone]

    def _names(self, paths: Sequence[Path], *, said: bool) -> str:
        if not said:
            return str(len(paths))
        return listed(["/".join(path.parts[-2:]) for path in paths], most=_LISTED)

    def _fault(self, case: str, kind: str, message: str) -> None:
        self.faults.append(Fault(case=case, kind=kind, message=message))


def _is_alone(folders: Sequence[Path], below: Mapping[Path, int]) -> bool:
    """Whether the folder that holds these folders holds no other one with DICOM files, of which it has so many."""
    return below[common_folder(folders)] == len(folders)


def _others_of(places: Iterable[tuple[Path, str]], named: Collection[Path]) -> set[tuple[Path, str]]:
    """Of folders and series, those where the folder holds another file of the series than those that are named."""
    wanted: dict[Path, set[str]] = defaultdict(set)
    for folder, series in places:
        wanted[folder].add(series)
    found: set[tuple[Path, str]] = set()
    for folder, sought in wanted.items():
        for file in visible_in(folder):
            if not sought:
                break
            if file not in named and file.is_file() and (series := _series_of(file)) in sought:
                found.add((folder, series))
                sought.discard(series)
    return found


def _series_of(file: Path) -> str:
    from unetpipe.imaging.dicom.study import first_identifiers  # pydicom

    found = first_identifiers(file)
    return "" if found is None else found[1]


def _without_pictures(images: list[Path], *, beside: Sequence[Scan]) -> tuple[list[Path], list[Path]]:
    """Images of a folder that are scans, and pictures that are not, as they lie beside series; all are without any."""
    pictures = [image for image in images if beside and image.name.lower().endswith(_PICTURES)]
    return [image for image in images if image not in pictures], pictures


def _series_in(folder: Path) -> Scan:
    images = image_files_in(folder)
    if images:
        log.warning("images of other formats beside the files of a DICOM series are left out: %d", len(images))
    return Scan(folder, (folder,))
