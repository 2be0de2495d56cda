"""Files of a format that an extension reads."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from unetpipe.components import register
from unetpipe.errors import ComponentError, GeometryError, ImageFileError
from unetpipe.imaging.files import code_digest, is_image, read_grid, read_volume, strip_suffix, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.volume import Volume

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


class NumpyReader:
    """Reads arrays of one channel."""

    def read(self, path: Path) -> Volume:
        array = np.load(path)
        return Volume(array[None], Grid.of(array.shape, AFFINE))

    def read_grid(self, path: Path) -> tuple[int, Grid]:
        return 1, Grid.of(np.load(path, mmap_mode="r").shape, AFFINE)


def write(path: Path, array: np.ndarray) -> Path:
    with path.open("wb") as file:
        np.save(file, array)
    return path


def test_a_registered_suffix_is_an_image(tmp_path: Path) -> None:
    """Its files are found, named and read as those of any format, whatever the case of the suffix."""
    array = np.arange(24.0).reshape(2, 3, 4)
    path = write(tmp_path / "scan.a.VOL.np", array)
    assert not is_image(path)
    register("reader", ".vol.np")(NumpyReader)
    assert is_image(path)
    assert strip_suffix(path.name) == "scan.a"
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, array[None])
    assert read_grid(path) == (1, volume.grid)
    assert volume.grid.spacing_mm == (1.0, 2.0, 3.0)


def test_a_reader_may_take_the_place_of_a_format(tmp_path: Path) -> None:
    """The person's own reader is asked first, and the package still writes it; longer suffixes are others."""
    register("reader", ".nii")(NumpyReader)
    assert read_volume(write(tmp_path / "a.nii", np.zeros((2, 3, 4)))).array.shape == (1, 2, 3, 4)
    write_labels(tmp_path / "b.nii", np.ones((2, 3, 4), np.uint8), Grid.of((2, 3, 4), AFFINE), {})
    assert nib.load(tmp_path / "b.nii").shape == (2, 3, 4)
    write_labels(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8), Grid.of((2, 3, 4), AFFINE), {})
    assert read_volume(tmp_path / "a.nii.gz").array.max() == 1


def test_a_registered_format_is_not_written(tmp_path: Path) -> None:
    """What only an extension reads is refused as an output, by name."""
    register("reader", ".vol")(NumpyReader)
    with pytest.raises(ImageFileError, match=r"a\.vol: \.vol files are read by an extension and not written"):
        write_labels(tmp_path / "a.vol", np.ones((2, 3, 4), np.uint8), Grid.of((2, 3, 4), AFFINE), {})


def _reader(read: Any, read_grid: Any = None) -> type:
    return type("Reader", (), {"read": read, "read_grid": read_grid or (lambda _, __: (1, None))})


@pytest.mark.parametrize(
    ("reader", "error", "message"),
    [
        (_reader(lambda *_: 1 / 0), ImageFileError, r"^a\.vol: the reader of \.vol fails: division by zero$"),
        (_reader(lambda *_: "voxels"), ImageFileError, "gives no Volume"),
        (
            _reader(lambda *_: Volume(np.zeros((2, 3, 4)), Grid.of((2, 3, 4), AFFINE))),
            ImageFileError,
            r"array of shape \(2, 3, 4\) with a grid of shape \(2, 3, 4\); channels come first",
        ),
        (_reader(lambda *_: Grid.of((1, 1, 1), np.zeros((4, 4)))), GeometryError, r"^a\.vol: "),
        (
            type("Half", (), {"read": lambda *_: None}),
            ComponentError,
            r"the reader of \.vol files has no method read_grid",
        ),
        (lambda needs: needs, ComponentError, "cannot be built"),
    ],
)
def test_what_a_reader_does_wrong_is_one_line(tmp_path: Path, reader: Any, error: type, message: str) -> None:
    """An exception of the reader, or something else than a volume, names the file and the suffix."""
    register("reader", ".vol")(reader)
    with pytest.raises(error, match=message) as raised:
        read_volume(write(tmp_path / "a.vol", np.zeros((2, 3, 4))))
    assert "\n" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


def test_a_grid_that_is_none_is_refused(tmp_path: Path) -> None:
    """Where headers alone are read the reader's answer is checked too."""
    register("reader", ".vol")(_reader(lambda *_: None))
    with pytest.raises(ImageFileError, match="gives no number of channels with a Grid"):
        read_grid(write(tmp_path / "a.vol", np.zeros((2, 3, 4))))


@pytest.mark.parametrize("word", ["vol", ".VOL", "."])
def test_a_reader_is_registered_under_a_suffix(tmp_path: Path, word: str) -> None:
    """Another word is refused when the next file is looked at."""
    register("reader", word)(NumpyReader)
    with pytest.raises(ComponentError, match="suffix in small letters"):
        is_image(tmp_path / "a.nii")


def test_files_depend_on_the_code_that_reads_them() -> None:
    """Other code, another digest; the package's own formats have none, since its version stands for them."""
    register("reader", ".vol")(NumpyReader)
    assert len(code_digest(Path("a.vol"))) == 64
    assert code_digest(Path("a.nii")) == ""
