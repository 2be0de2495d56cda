"""The contents of a DICOM source: series of its studies, damaged files, and files that are no image."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from threading import Lock

from unetpipe.errors import GeometryError, ImageFileError, UnetpipeError, counted
from unetpipe.imaging.dicom.attributes import number_if_sound, text, without_validation
from unetpipe.imaging.dicom.frames import Frame, frames_of, in_one_sense
from unetpipe.imaging.dicom.headers import Damaged, Image, read_header
from unetpipe.imaging.dicom.phases import SeriesPart, volumes_in
from unetpipe.imaging.dicom.sources import DicomFile, ImageNames, list_files, looks_like_dicom, resembles

_AHEAD = 32
"""How many files ahead of the one whose header is read the system is asked to read."""
_MOST_SOURCES = 4
_LISTING = Lock()
_State = tuple[int, int]  # of a file: its size, and when it was changed
_STUDIES: dict[Path, dict[PurePath, tuple[str, _State]]] = {}
"""Study of each image of the last few folders of several: a scan of one of them reads the headers of no other one."""
_FEW = 3
"""Series of fewer slices than this in each plane are scouts where there are others."""


@dataclass(frozen=True)
class Series:
    """The images of one series.

    Attributes:
        number: Number of the series in the list of the source's series, from 1.
        images: Images of the series, at least one.
        frames: Frames of the images, without those that have no position.
        problem: Reason why an image of the series has no position.
    """

    number: int
    images: tuple[Image, ...]
    frames: tuple[Frame, ...]
    problem: UnetpipeError | None = None

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return self.images[0].series

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return self.images[0].study

    @property
    def modality(self) -> str:
        """DICOM modality, such as ``CT``; empty where the file does not say."""
        return self.images[0].modality

    @property
    def kind(self) -> str:
        """Description of the series that does not identify the patient."""
        count = len(self.frames) or len(self.images)
        what = f"{self.modality or 'unknown'} image"
        return f"{counted(count, what)} of {self.images[0].size}"

    @cached_property
    def volumes(self) -> list[SeriesPart]:
        """The volumes of the series."""
        return volumes_in(self.frames)


@dataclass(frozen=True)
class Contents:
    """The contents of a source.

    Attributes:
        series: Ordered by study, then by series number.
        damaged: Files that should be images but cannot be read.
        left_out: Number of files of each kind that are no image of a volume.
    """

    series: tuple[Series, ...]
    damaged: tuple[Damaged, ...]
    left_out: Counter[str]

    @property
    def described_left_out(self) -> str:
        """Numbers of files left out, such as ``2 not DICOM, 1 localizer``; empty if there are none."""
        return ", ".join(
            f"{count} {kind}" for kind, count in sorted(self.left_out.items(), key=lambda item: item[0].lower())
        )


def read_contents(
    path: Path, keywords: tuple[str, ...] = (), study: str | None = None, *, as_label: bool = False
) -> Contents:
    """Read the headers of all files of a source.

    Args:
        path: A folder of any depth, a zip, or a file.
        keywords: Attributes to read beside those that are always read.
        study: StudyInstanceUID of the images to keep; images of other studies are counted as left out.
        as_label: Stored values are the classes of a label map.

    Raises:
        ImageFileError: If a zip is damaged or a file cannot be opened.
    """
    images: list[Image] = []
    damaged: list[Damaged] = []
    left_out: Counter[str] = Counter()
    unknown: list[tuple[DicomFile, bytes]] = []
    seen: set[str] = set()
    files, others = _files_of(path, study)
    if others:
        left_out["image of another study"] = others
    for file in files[:_AHEAD]:
        file.prefetch()
    for index, file in enumerate(files):
        if len(seen) <= 1 and index + _AHEAD < len(files):  # a study of several series will not be read whole
            files[index + _AHEAD].prefetch()
        head = file.head()
        if not looks_like_dicom(head):
            unknown.append((file, head))
            continue
        found = read_header(file, keywords)
        seen.add(found.series if isinstance(found, Image) else "")
        if isinstance(found, Image) and study not in (None, found.study):
            left_out["image of another study"] += 1
        elif isinstance(found, Image):
            images.append(found)
        elif isinstance(found, Damaged):
            damaged.append(found)
        else:
            left_out[found.kind] += 1
    images, copies = _without_copies(images)
    if copies:
        left_out["byte-identical copy"] += copies
    names: dict[object, list[str]] = {}
    for image in images:
        names.setdefault(image.file.path.parent, []).append(image.file.path.name)
    patterns = {folder: ImageNames.of(listed) for folder, listed in names.items()}
    for file, head in unknown:
        if resembles(file, head, patterns.get(file.path.parent, ImageNames.of(()))):
            empty = "is a link to a file that is not there" if file.absent else "is empty"
            reason = "holds no DICOM" if head else empty
            damaged.append(Damaged(file, f"a file that is named like a slice {reason}"))
        else:
            left_out["not DICOM"] += 1
    return Contents(_series(images, as_label=as_label), tuple(damaged), left_out)


@without_validation
def first_identifiers(path: Path, study: str | None = None) -> tuple[str, str] | None:
    """StudyInstanceUID and SeriesInstanceUID of the first image of a source; None where there is no image.

    Either is empty where it cannot be read.

    Args:
        path: A folder of any depth, a zip, or a file.
        study: StudyInstanceUID that the image has to have, where the source holds several studies.
    """
    for file in _files_of(path, study)[0]:
        if looks_like_dicom(file.head()):
            found = read_header(file)
            if isinstance(found, Image | Damaged):
                of_study = found.study if isinstance(found, Image) else ""
                if study in (None, of_study):
                    return of_study, found.series
    return None


@without_validation
def studies_in(path: Path) -> list[str]:
    """StudyInstanceUIDs of a source's images, in the order of `Contents.series`; without those that say none."""
    firsts: dict[str, tuple[str, str]] = {}
    study_of: dict[PurePath, tuple[str, _State]] = {}
    is_folder = path.is_dir()
    for file in list_files(path):
        found = read_header(file) if looks_like_dicom(file.head()) else None
        if isinstance(found, Image) and found.study:
            if is_folder and (state := _state(file)) is not None:
                study_of[file.path] = found.study, state
            moment = text(found.data, "StudyDate"), text(found.data, "StudyTime")
            firsts[found.study] = min(moment, firsts.get(found.study, moment))
    _remember(path, study_of if len(firsts) > 1 else {})
    return sorted(firsts, key=lambda study: (firsts[study], study))


def _remember(path: Path, study_of: dict[PurePath, tuple[str, _State]]) -> None:
    """Keep the studies of a folder's images in place of those of the folder that was listed longest ago."""
    with _LISTING:
        _STUDIES.pop(path, None)
        if study_of:
            _STUDIES[path] = study_of
        while len(_STUDIES) > _MOST_SOURCES:
            del _STUDIES[next(iter(_STUDIES))]


def _state(file: DicomFile) -> _State | None:
    """The state of a file of a folder; None of a link to what is not there."""
    try:
        status = Path(file.path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _files_of(path: Path, study: str | None) -> tuple[list[DicomFile], int]:
    """Files of a source less the images that are known to be of other studies, and how many these are."""
    files, known = list_files(path), _STUDIES.get(path, {})
    if study is None or not known:
        return files, 0

    def is_other(file: DicomFile) -> bool:
        of = known.get(file.path)
        return of is not None and of[0] != study and of[1] == _state(file)

    kept = [file for file in files if not is_other(file)]
    return kept, len(files) - len(kept)


def candidates(series: Sequence[Series]) -> list[Series]:
    """The series that a person may mean by "the volume": those with a place, less the scouts beside volumes.

    A scout has few slices, or planes of three directions; one that fits a volume's own plane is no scout, but may be a
    slice of that volume under another identifier.
    """
    placed = [one for one in series if one.frames]
    volumes = [one for one in placed if not _is_scout(one)]
    if not volumes:
        return placed
    planes = [frame.place for one in volumes for frame in (part.frames[0] for part in one.volumes)]

    def belongs(one: Series) -> bool:
        return any(frame.place.same_plane(plane) for frame in one.frames for plane in planes)

    return [one for one in placed if one in volumes or belongs(one)]


def _is_scout(series: Series) -> bool:
    sizes = [len(part.frames) for part in series.volumes]
    directions: list[Frame] = []
    for frame in (part.frames[0] for part in series.volumes):
        if not any(frame.place.is_parallel(other.place) for other in directions):
            directions.append(frame)
    return max(sizes) < _FEW or len(directions) >= 3


def _series(images: Iterable[Image], *, as_label: bool) -> tuple[Series, ...]:
    grouped: dict[tuple[str, str], list[Image]] = {}
    for image in images:
        grouped.setdefault((image.study, image.series), []).append(image)
    ordered = sorted(grouped.values(), key=_order)
    return tuple(_one_series(number, tuple(one), as_label=as_label) for number, one in enumerate(ordered, start=1))


def _order(images: Sequence[Image]) -> tuple[str, str, str, float, str]:
    first = images[0]
    date, time = text(first.data, "StudyDate"), text(first.data, "StudyTime")
    return date, time, first.study, number_if_sound(first.data, "SeriesNumber") or 0.0, first.series


def _one_series(number: int, images: tuple[Image, ...], *, as_label: bool) -> Series:
    frames: list[Frame] = []
    problem: UnetpipeError | None = None
    for image in images:
        try:
            frames += frames_of(image, as_label=as_label)
        except (GeometryError, ImageFileError) as error:
            problem = problem or error
    return Series(number, images, in_one_sense(frames), problem)


def _without_copies(images: list[Image]) -> tuple[list[Image], int]:
    """Images without those whose bytes are those of an earlier one, and how many these are."""
    same_name: dict[tuple[str, int], list[Image]] = {}
    for image in images:
        same_name.setdefault((text(image.data, "SOPInstanceUID"), image.file.size), []).append(image)
    copies: set[int] = set()
    for group in same_name.values():
        seen: set[bytes] = set()
        for image in group if len(group) > 1 else ():
            digest = image.file.digest()
            if digest in seen:
                copies.add(id(image))
            seen.add(digest)
    return [image for image in images if id(image) not in copies], len(copies)
