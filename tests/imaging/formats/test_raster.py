"""Pictures, with Pillow's pixels as the truth."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import read_grid, read_volume, write_image, write_labels
from unetpipe.imaging.geometry import Grid


def picture(mode: str, size: tuple[int, int] = (5, 3)) -> Image.Image:
    """A picture without symmetry, 5 wide and 3 high."""
    values = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 4)).astype(np.uint8)
    return Image.fromarray(values, "RGBA").convert(mode)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("LA", 1), ("P", 1), ("1", 1)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_first_axis_runs_along_columns(tmp_path: Path, mode: str, channels: int, suffix: str) -> None:
    """Array (C, x, y) with Pillow's pixel at (x, y); alpha is dropped, palettes give indices."""
    path = tmp_path / f"a{suffix}"
    source = picture(mode)
    source.save(path)
    volume = read_volume(path)
    assert volume.array.shape == (channels, 5, 3)
    assert read_grid(path) == (channels, volume.grid)
    assert volume.grid.spacing_mm == (1, 1)
    expected = source.getpixel((4, 1))
    values = (expected,) if isinstance(expected, int) else expected
    assert tuple(volume.array[:, 4, 1]) == tuple(v == 255 if mode == "1" else v for v in values[:channels])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_deep_grey_keeps_its_values(tmp_path: Path, kind: type) -> None:
    """16-bit, 32-bit and floating pictures come back as written."""
    array = (np.random.default_rng(0).random((1, 5, 3)) * 250).astype(kind)
    path = tmp_path / "a.tif"
    write_image(path, array, Grid.of((5, 3), np.eye(4)))
    assert np.array_equal(read_volume(path).array, array)
    assert read_volume(path).array.dtype == kind


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("highest", [1, 255, 256, 65535])
def test_labels_come_back(tmp_path: Path, suffix: str, highest: int) -> None:
    """Label pictures of 8 and 16 bits."""
    labels = np.zeros((5, 3), np.int64)
    labels[4, 1] = highest
    path = tmp_path / f"a{suffix}"
    write_labels(path, labels, Grid.of((5, 3), np.eye(4)), {highest: "cell"})
    assert np.array_equal(read_volume(path).array[0], labels)


def test_jpeg_is_read_and_never_written_as_labels(tmp_path: Path) -> None:
    """A lossy format would invent classes."""
    picture("RGB", (16, 16)).save(tmp_path / "a.jpg")
    assert read_volume(tmp_path / "a.jpg").array.shape == (3, 16, 16)
    with pytest.raises(ImageFileError, match="with loss"):
        write_labels(tmp_path / "b.jpg", np.zeros((5, 3), np.uint8), Grid.of((5, 3), np.eye(4)), {})


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("kind", ["empty", "text", "start only", "half"])
def test_damage_is_named_with_the_file_and_without_its_folder(tmp_path: Path, suffix: str, kind: str) -> None:
    """Whatever is wrong with a picture, it is an ImageFileError with the file's name in it."""
    path = tmp_path / f"bad{suffix}"
    picture("RGB", (64, 64)).save(path)
    raw = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"no\n" * 50, "start only": raw[:16], "half": raw[: len(raw) // 2]}[kind])
    with pytest.raises(ImageFileError, match=r"^bad\.") as caught:
        read_volume(path)
    assert str(tmp_path) not in str(caught.value)


def test_pages_are_refused(tmp_path: Path) -> None:
    """A stack of pages is no single picture."""
    picture("L").save(tmp_path / "a.tif", save_all=True, append_images=[picture("L")])
    with pytest.raises(ImageFileError, match="2 pages"):
        read_grid(tmp_path / "a.tif")


def test_a_volume_does_not_become_a_picture(tmp_path: Path, oblique: Grid) -> None:
    """Three axes cannot be written as PNG."""
    with pytest.raises(ImageFileError, match=r"a\.png: cannot hold"):
        write_labels(tmp_path / "a.png", np.zeros(oblique.shape, np.uint8), oblique, {})


def test_negative_labels_do_not_fit_a_picture(tmp_path: Path) -> None:
    """PNG has no negative values, and no half-written file stays behind."""
    with pytest.raises(ImageFileError, match="int16"):
        write_labels(tmp_path / "a.png", np.full((5, 3), -1), Grid.of((5, 3), np.eye(4)), {})
    assert not list(tmp_path.iterdir())
