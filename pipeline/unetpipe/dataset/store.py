"""Preprocessed cases on disk: `WORK/cases/<configuration>/<name>.b2nd` and `<name>.json`, named by `case_names`.

One blosc2 array per case, float16 (C + 1, \\*spatial): the image's channels, then the class index (-1 where ignored).
Blocks are what a read decompresses at least: up to 32 voxels per axis; 128 in pictures, and in slices of volumes, which
are one voxel thick. So a patch costs little more than itself. The JSON is written last: where it is, the array is
whole. The only module that knows blosc2.
"""

import json
import math
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, model_validator

from unetpipe.dataset.case_names import case_id
from unetpipe.dataset.class_locations import locate_annotated, locate_classes
from unetpipe.documents import Record, read_document
from unetpipe.errors import PlanError
from unetpipe.files import atomic_path, write_text
from unetpipe.imaging.geometry import Shape, Spacing
from unetpipe.imaging.preprocessing import Placement, Preprocessing, step_code

if TYPE_CHECKING:  # it takes a third of a second to import: only where arrays are read and written
    import blosc2

STORE_SCHEMA = 5
"""Part of every case's key: raise it when the same input leads to another preprocessed case."""
_EDGES = {2: (2048, 128), 3: (256, 32)}
"""Longest edges of chunks and of blocks, by the number of axes along which patches have more than one voxel. Each chunk
takes blosc2 a tenth of a millisecond or more, whatever it holds."""


Places = Annotated[Sequence[int], PlainSerializer(list, return_type=list[int])]
"""Positions in a flattened array: in memory an `array` where a `CaseStore` has read them."""


class CaseRecord(Record):
    """Description of a stored case, in its JSON file.

    Attributes:
        key: Hash of everything that the array depends on.
        source: Hash of the files and label values alone; None where an earlier version of unetpipe made the array.
        placement: Position of the array in the file it came from.
        preprocessing: Preprocessing that made the array; None where an earlier version of unetpipe made it.
        code: Code of its steps (`imaging.preprocessing.step_code`); None where an earlier version made the array.
        spacing_mm: Exact voxel size of the array.
        class_voxels: Number of voxels of each class in the array, in network order; ignored voxels count for no class.
        locations: Up to 1000 voxels of each foreground class index that occurs, evenly drawn, as positions in
            the flattened array.
        annotated: The same of all voxels that are not ignored, where some are; empty where none is.
    """

    id: str
    key: str
    source: str | None = None
    placement: Placement
    preprocessing: Preprocessing | None = None
    code: tuple[str, ...] | None = None
    spacing_mm: Spacing
    class_voxels: tuple[int, ...]
    locations: dict[str, Places]
    annotated: Places = ()

    @model_validator(mode="after")
    def _lie_in_the_array(self) -> Self:
        size = math.prod(self.placement.shape)
        if any(at and not 0 <= min(at) <= max(at) < size for at in (*self.locations.values(), self.annotated)):
            raise ValueError(f"locations must be voxels of the array, 0 to {size - 1}")
        return self

    @property
    def coordinates(self) -> dict[str, NDArray[np.int64]]:
        """The `locations` as voxel indices, shape (n, axes)."""
        shape = self.placement.shape
        return {name: np.stack(np.unravel_index(at, shape), axis=-1) for name, at in self.locations.items()}


class CaseStore:
    """The stored cases of one configuration. Reads are safe from many threads.

    Args:
        work: Work folder.
        configuration: Name of a configuration of the plan, such as ``3d_fullres``.

    Raises:
        PlanError: If the configuration has not been preprocessed.
    """

    def __init__(self, work: Path, configuration: str) -> None:
        self.folder = cases_folder(work, configuration)
        if not self.folder.is_dir():
            parent = self.folder.parent
            found = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
            raise PlanError(
                f"configuration {configuration!r} is not preprocessed in {work}; found {', '.join(found) or 'none'}"
            )
        self._record = lru_cache(maxsize=None)(self._read_record)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Ids of the stored cases, sorted."""
        return tuple(sorted(self._names))

    def record(self, case: str) -> CaseRecord:
        """Description of a case; its file is read once.

        Raises:
            PlanError: If it is not stored.
        """
        return self._record(case)

    def key(self, case: str) -> str:
        """Hash of everything that a case's array depends on."""
        return self.record(case).key

    def read(self, case: str, start: Shape, stop: Shape) -> NDArray[np.float16]:
        """Read a box of a case's array.

        Args:
            case: Case id.
            start: First voxel along each spatial axis.
            stop: Voxel after the last; both within the array.

        Returns:
            float16 (C + 1, \\*(stop - start)).

        Raises:
            PlanError: If it is not stored, or damaged.
        """
        return self._voxels(case, (slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True))))

    def load(self, case: str) -> NDArray[np.float16]:
        """Read a whole case, (C + 1, \\*spatial).

        Raises:
            PlanError: If it is not stored, or damaged.
        """
        return self._voxels(case, (slice(None),))

    def _voxels(self, case: str, box: tuple[slice, ...]) -> NDArray[np.float16]:
        array = self._open(case)
        try:
            return np.asarray(array[box])
        except (RuntimeError, ValueError) as error:  # blosc2's, of bytes that are damaged
            raise _damaged(case) from error

    def _open(self, case: str) -> "blosc2.NDArray":
        import blosc2

        # one handle per read: it takes 0.2 ms, and a shared handle is not safe from threads
        path = self._path(case, ".b2nd")
        if not path.is_file():
            raise PlanError(f"case {case} is not stored in {self.folder}")
        try:
            return blosc2.open(str(path), mode="r", mmap_mode="r", dparams=blosc2.DParams(nthreads=1))
        except Exception as error:  # blosc2 raises many kinds where bytes contradict each other
            raise _damaged(case) from error

    def _read_record(self, case: str) -> CaseRecord:
        record = read_document(self._path(case, ".json"), CaseRecord)
        # in 8 bytes for each place instead of the 36 of a list: there are a thousand for each class and case
        locations = {name: array("q", places) for name, places in record.locations.items()}
        return record.model_copy(update={"locations": locations, "annotated": array("q", record.annotated)})

    @cached_property
    def _names(self) -> dict[str, str]:
        """File name by case id."""
        found = (path for path in self.folder.glob("*.json") if not path.name.startswith("."))
        # some file systems hand out letters decomposed: only ASCII names are sure to be as they were written
        return {
            (path.stem.isascii() and case_id(path.stem)) or read_document(path, CaseRecord).id: path.stem
            for path in found
        }

    def _path(self, case: str, suffix: str) -> Path:
        if case not in self._names:
            raise PlanError(f"case {case} is not stored in {self.folder}")
        return self.folder / f"{self._names[case]}{suffix}"


def _damaged(case: str) -> PlanError:
    return PlanError(f"case {case}: its stored array is damaged: delete it and run `unetpipe preprocess` again")


def cases_folder(work: Path, configuration: str) -> Path:
    """The folder of a configuration's cases."""
    return work / "cases" / configuration


def stored_key(work: Path, configuration: str, name: str) -> str | None:
    """Key of the case whose files have this name; None where it is not, not wholly, or not readably stored."""
    return _stored(work, configuration, name, "key")


def stored_source(work: Path, configuration: str, name: str) -> str | None:
    """Hash of what that case was made from; None besides where an earlier version of unetpipe made it."""
    return _stored(work, configuration, name, "source")


def _stored(work: Path, configuration: str, name: str, field: str) -> str | None:
    folder = cases_folder(work, configuration)
    try:
        value = json.loads((folder / f"{name}.json").read_bytes())[field]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return str(value) if value is not None and (folder / f"{name}.b2nd").is_file() else None


@dataclass(frozen=True)
class EncodedCase:
    """A case in the form in which it is stored.

    Attributes:
        record: Description of the case.
        frame: Compressed array, in blosc2's frame format.
    """

    record: CaseRecord
    frame: bytes

    def write(self, folder: Path, name: str) -> None:
        """Store it in a folder, in place of an earlier one of this name. Mostly waits for the disk."""
        description = folder / f"{name}.json"
        # a kill between the two writes must not leave an old description beside a new array
        description.unlink(missing_ok=True)
        with atomic_path(folder / f"{name}.b2nd") as temporary:
            temporary.write_bytes(self.frame)
        write_text(description, self.record.model_dump_json() + "\n")


def encode_case(
    array: NDArray[np.float16],
    *,
    case: str,
    key: str,
    source: str | None = None,
    placement: Placement,
    spacing_mm: Spacing,
    classes: int,
    thin: Sequence[bool] = (),
    preprocessing: Preprocessing | None = None,
) -> EncodedCase:
    """Compress and describe a case. The same array always gives the same bytes.

    Args:
        array: (C + 1, \\*spatial), the class index last.
        case: Case id.
        key: Hash of everything that the array depends on.
        source: Hash of the files and label values alone.
        placement: Position of the array in its file.
        spacing_mm: Voxel size of the array.
        classes: Number of classes, background included.
        thin: Whether patches are one voxel thick along each axis; by default along none.
        preprocessing: Preprocessing that made the array, for training to compare with the plan.
    """
    import blosc2

    along = [*zip(array.shape[1:], thin or [False] * (array.ndim - 1), strict=True)]
    longest, edge = _EDGES[max(2, sum(not one for _, one in along))]
    chunk = tuple(1 if one else _even(n, longest) for n, one in along)
    stored = blosc2.asarray(
        array,
        chunks=(1, *chunk),
        blocks=(1, *(_even(n, edge) for n in chunk)),
        cparams=blosc2.CParams(
            codec=blosc2.Codec.ZSTD, clevel=1, filters=[blosc2.Filter.SHUFFLE], filters_meta=[0], nthreads=1
        ),
        dparams=blosc2.DParams(nthreads=1),
        contiguous=True,
    )
    counts, locations = locate_classes(array[-1], classes, seed=case)
    record = CaseRecord(
        id=case,
        key=key,
        source=source,
        placement=placement,
        preprocessing=preprocessing,
        code=None if preprocessing is None else step_code(preprocessing.steps),
        spacing_mm=spacing_mm,
        class_voxels=counts,
        locations=locations,
        annotated=locate_annotated(array[-1], seed=case),
    )
    return EncodedCase(record, stored.to_cframe())


def _even(length: int, most: int) -> int:
    """Length of equal parts of an axis: what parts would jut out of the array is compressed with it."""
    return math.ceil(length / math.ceil(length / most))


def remove_others(work: Path, configuration: str, keep: set[str]) -> None:
    """Remove all files but those of these names: of cases no longer in the dataset, and leftovers of a kill."""
    folder, kept = cases_folder(work, configuration), {unicodedata.normalize("NFC", name) for name in keep}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        is_kept = unicodedata.normalize("NFC", path.stem) in kept
        if path.name.startswith(".tmp-") or (path.suffix in {".b2nd", ".json"} and not is_kept):
            path.unlink()
