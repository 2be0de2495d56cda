"""PNG and JPEG, with Pillow's pixels as the truth."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import read_grid, read_volume, write_image, write_labels
from unetpipe.imaging.formats import pictures
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume


def picture(mode: str, size: tuple[int, int] = (5, 3)) -> Image.Image:
    """A picture without symmetry, 5 wide and 3 high."""
    values = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 4)).astype(np.uint8)
    return Image.fromarray(values, "RGBA").convert(mode)


def palette_picture(grey: bool, **options: Any) -> Image.Image:
    """Indices 0 to 14 with a colour each, or a grey each."""
    indexed = Image.frombytes("P", (5, 3), bytes(range(15)))
    ramp = np.repeat(np.arange(0, 255, 17, dtype=np.uint8), 3).reshape(15, 3)
    indexed.putpalette((ramp if grey else ramp * np.array([1, 2, 3], np.uint8)).tobytes())
    indexed.info |= options
    return indexed


def png(depth: int, colour_type: int, rows: list[bytes], table: bytes = b"", width: int = 4) -> bytes:
    """A PNG file made by hand, of any depth."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + (chunk(b"PLTE", table) if table else b"") + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(("depth", "row"), [(2, b"\x1b"), (4, b"\x01\x23")])
def test_labels_of_few_bits_keep_their_numbers(tmp_path: Path, depth: int, row: bytes) -> None:
    """0 to 3 in grey of 2 or 4 bits are these labels, however bright viewers show them."""
    path = tmp_path / "a.png"
    path.write_bytes(png(depth, 0, [row, row]))
    assert read_label_volume(path).array[0, :, 1].tolist() == [0, 1, 2, 3]
    assert read_volume(path).array[0, 3, 1] == 255 * 3 // (2**depth - 1)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("LA", 1), ("1", 1)])
def test_the_first_axis_runs_along_columns(tmp_path: Path, mode: str, channels: int) -> None:
    """Array (C, x, y) with Pillow's pixel at (x, y); alpha is dropped; a pixel counts as 1 mm."""
    path = tmp_path / "a.png"
    source = picture(mode)
    source.save(path)
    volume = read_volume(path)
    assert volume.array.shape == (channels, 5, 3)
    assert read_grid(path) == (channels, volume.grid)
    assert (volume.grid.spacing_mm, volume.grid.unit) == ((1, 1), "voxel")
    expected = source.getpixel((4, 1))
    values = (expected,) if isinstance(expected, int) else expected
    assert tuple(volume.array[:, 4, 1]) == tuple(v == 255 if mode == "1" else v for v in values[:channels])


@pytest.mark.parametrize("transparency", [None, 3, b"\0\1\2"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("grey", [True, False])
def test_an_image_has_the_colours_of_its_table_and_a_label_its_indices(
    tmp_path: Path, grey: bool, bits: int, transparency: object
) -> None:
    """Colours, or the greys of a table without colours, whatever is transparent; the indices are what a label means."""
    source = palette_picture(grey)
    source.save(tmp_path / "a.png", bits=bits, **({} if transparency is None else {"transparency": transparency}))
    image = read_volume(tmp_path / "a.png")
    assert np.array_equal(image.array, np.asarray(source.convert("RGB")).transpose(2, 1, 0)[: 1 if grey else 3])
    assert read_grid(tmp_path / "a.png") == (len(image.array), image.grid)
    label = read_label_volume(tmp_path / "a.png")
    assert np.array_equal(label.array, np.arange(15).reshape(3, 5).T[None])
    assert label.grid == image.grid


def test_an_index_without_colour_is_damage(tmp_path: Path) -> None:
    """A table of two colours has none for index 3."""
    (tmp_path / "a.png").write_bytes(png(8, 3, [bytes([0, 1, 3, 0])], bytes([0, 0, 0, 9, 8, 7])))
    with pytest.raises(ImageFileError, match=r"^a\.png: "):
        read_volume(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_are_turned_as_viewers_show_them(tmp_path: Path, orientation: int, suffix: str) -> None:
    """EXIF orientations 1 to 8 give Pillow's transposed picture and its size; others change nothing."""
    source = picture("RGB", (24, 16))
    source.getexif()[274] = orientation
    source.save(tmp_path / f"a{suffix}", exif=source.getexif(), quality=100)
    if orientation == 6 and suffix == ".png":  # behind the pixels, where it may stand too
        raw = (tmp_path / "a.png").read_bytes()
        start = raw.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(raw[start : start + 4], "big")
        (tmp_path / "a.png").write_bytes(raw[:start] + raw[end:-12] + raw[start:end] + raw[-12:])
    with Image.open(tmp_path / f"a{suffix}") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored)).transpose(2, 1, 0)
    volume = read_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(volume.array, expected)
    assert read_grid(tmp_path / f"a{suffix}") == (3, volume.grid)
    assert volume.grid.shape == expected.shape[1:]


def test_labels_are_turned_as_their_image(tmp_path: Path) -> None:
    """Also indices of a colour table."""
    source = palette_picture(grey=False)
    source.getexif()[274] = 6
    source.save(tmp_path / "a.png", exif=source.getexif())
    assert np.array_equal(read_label_volume(tmp_path / "a.png").array[0], np.rot90(np.arange(15).reshape(3, 5), -1).T)


def test_grey_of_16_bits_keeps_its_values(tmp_path: Path) -> None:
    """The bytes of PNG come in the machine's order."""
    array = np.random.default_rng(0).integers(0, 65535, (1, 5, 3)).astype(np.uint16)
    write_image(tmp_path / "a.png", array, Grid.of((5, 3), np.eye(4)))
    assert np.array_equal(read_volume(tmp_path / "a.png").array, array)
    assert read_volume(tmp_path / "a.png").array.dtype == np.uint16


@pytest.mark.parametrize("colour_type", [2, 4, 6])
def test_colour_and_alpha_of_16_bits_are_refused(tmp_path: Path, colour_type: int) -> None:
    """Pillow would give the upper half of each number."""
    samples = {2: 3, 4: 2, 6: 4}[colour_type]
    (tmp_path / "a.png").write_bytes(png(16, colour_type, [bytes(range(8 * samples))]))
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=r"^a\.png: colour or alpha of 16 bits"):
            read(tmp_path / "a.png")


def test_cmyk_is_read_as_colour(tmp_path: Path) -> None:
    """Four inks give three channels."""
    picture("CMYK", (16, 16)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as stored:
        expected = np.asarray(stored.convert("RGB")).transpose(2, 1, 0)
    assert np.array_equal(read_volume(tmp_path / "a.jpg").array, expected)
    assert read_grid(tmp_path / "a.jpg")[0] == 3


@pytest.mark.parametrize("highest", [1, 255, 256, 65535])
def test_labels_come_back(tmp_path: Path, highest: int) -> None:
    """Label pictures of 8 and 16 bits."""
    labels = np.zeros((5, 3), np.int64)
    labels[4, 1] = highest
    write_labels(tmp_path / "a.png", labels, Grid.of((5, 3), np.eye(4)), {highest: "cell"})
    assert np.array_equal(read_label_volume(tmp_path / "a.png").array[0], labels)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG"])
def test_jpeg_is_an_image_and_no_label(tmp_path: Path, name: str) -> None:
    """A lossy format invents classes: it is neither read nor written as labels."""
    picture("L", (16, 16)).save(tmp_path / name, "JPEG")
    assert read_volume(tmp_path / name).array.shape == (1, 16, 16)
    with pytest.raises(ImageFileError, match=f"^{name}: labels stored with loss"):
        read_label_volume(tmp_path / name)
    with pytest.raises(ImageFileError, match="with loss"):
        write_labels(tmp_path / "b.jpg", np.zeros((5, 3), np.uint8), Grid.of((5, 3), np.eye(4)), {})


def test_a_photograph_with_a_second_picture_in_it_is_read(tmp_path: Path) -> None:
    """Cameras add previews and depth maps after the picture (MPO)."""
    source = picture("RGB", (16, 16))
    source.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture("RGB", (8, 8))])
    assert read_volume(tmp_path / "a.jpg").array.shape == (3, 16, 16)


def test_pictures_that_follow_each_other_are_refused(tmp_path: Path) -> None:
    """An animation is no single picture."""
    picture("L").save(tmp_path / "a.png", save_all=True, append_images=[picture("L", (5, 3)).rotate(180)])
    with pytest.raises(ImageFileError, match="got 2 that follow"):
        read_grid(tmp_path / "a.png")


@pytest.mark.filterwarnings("error")
def test_a_huge_picture_is_refused_with_the_limit(tmp_path: Path) -> None:
    """One line names the size and the limit, before any pixel is decoded, and Pillow warns of nothing."""
    (tmp_path / "a.png").write_bytes(png(8, 0, [b""], width=pictures.MAX_PIXELS + 1))
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=r"^a\.png: .* 268435457 x 1 pixels; at most 268,435,456 \(16384 x"):
            read(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(png(8, 0, [b""], width=100_000_000))  # Pillow's own limit is 89 million
    assert read_grid(tmp_path / "a.png")[1].shape == (100_000_000, 1)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
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


@pytest.mark.parametrize(("suffix", "mode"), [(".png", "P"), (".png", "RGB"), (".jpg", "RGB"), (".jpg", "CMYK")])
@pytest.mark.filterwarnings("error")
def test_any_damage_is_one_line(
    tmp_path: Path, suffix: str, mode: str, damage: Callable[[Path, int, int], None]
) -> None:
    """Bytes exchanged for others give a picture or one line with the file's name, never another error."""
    source = picture("RGB", (40, 30))
    source.getexif()[274] = 6
    source.convert(mode).save(tmp_path / f"a{suffix}", exif=source.getexif())
    damage(tmp_path / f"a{suffix}", 200, 10_000)


def test_no_changed_bit_changes_a_label(tmp_path: Path) -> None:
    """PNG has checksums for all that it holds; each bit of a file is either without effect or found."""
    labels = np.zeros((20, 30), np.uint8)
    labels[5:12, 4:20] = 3
    write_labels(tmp_path / "a.png", labels, Grid.of(labels.shape, np.eye(4)), {3: "cell"})
    raw, found = (tmp_path / "a.png").read_bytes(), 0
    for at in range(8, len(raw)):
        (tmp_path / "b.png").write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
        try:
            assert np.array_equal(read_label_volume(tmp_path / "b.png").array[0], labels)
        except ImageFileError:
            found += 1
    assert found > len(raw) // 2


def test_a_volume_does_not_become_a_picture(tmp_path: Path, oblique: Grid) -> None:
    """Three axes cannot be written as PNG."""
    with pytest.raises(ImageFileError, match=r"a\.png: cannot hold"):
        write_labels(tmp_path / "a.png", np.zeros(oblique.shape, np.uint8), oblique, {})


def test_negative_labels_do_not_fit_a_picture(tmp_path: Path) -> None:
    """PNG has no negative values, and no half-written file stays behind."""
    with pytest.raises(ImageFileError, match="int16"):
        write_labels(tmp_path / "a.png", np.full((5, 3), -1), Grid.of((5, 3), np.eye(4)), {})
    assert not list(tmp_path.iterdir())
