"""TIFF, written by tifffile, Pillow and SimpleITK."""

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - as its documentation has it
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import files_of, read_grid, read_volume, strip_suffix, write_image, write_labels
from unetpipe.imaging.formats import pictures
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume

COLOURS = np.random.default_rng(1).integers(0, 255, (47, 61, 3)).astype(np.uint8)
STACK = np.random.default_rng(2).integers(0, 5000, (6, 7, 5)).astype(np.uint16)


def as_read(pixels: NDArray[Any]) -> NDArray[Any]:
    """(rows, columns[, samples]) as (C, x, y)."""
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 1, 0)


def check(path: Path, expected: NDArray[Any]) -> None:
    """The file holds exactly these numbers, and its header says how many channels there are and how large they are."""
    volume = read_volume(path)
    assert volume.array.dtype == expected.dtype
    assert np.array_equal(volume.array, expected)
    assert read_grid(path) == (len(expected), volume.grid)


def patch(path: Path, **tags: Any) -> Path:
    """Exchange the values of tags in place."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, value in tags.items():
            file.pages.first.tags[name].overwrite(value)
    return path


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
def test_every_type_keeps_its_values(tmp_path: Path, kind: str, compression: str | None) -> None:
    """Both byte orders, with and without compression."""
    array = (np.random.default_rng(0).random((5, 4)) * 100).astype(kind)
    for order in "<>":
        options = {"compression": compression, "photometric": "minisblack", "byteorder": order}
        tifffile.imwrite(tmp_path / "a.tif", array, **options)
        check(tmp_path / "a.tif", as_read(array))


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 7},
        {"compression": "zlib", "predictor": 2},
        {"compression": "zlib", "tile": (32, 16)},
        {"planarconfig": "separate"},
    ],
    ids=str,
)
def test_colours_keep_all_their_bits(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    """Red, green and blue in strips, tiles and planes, small and big files, 8 and 16 bits and floating."""
    if "predictor" in options and kind == "f4":
        return
    colours = COLOURS.astype(kind) * (257 if kind == "u2" else 1)
    stored = np.moveaxis(colours, -1, 0) if "planarconfig" in options else colours
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **options)
    check(tmp_path / "a.tif", as_read(colours))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd"])
@pytest.mark.parametrize("width", [16, 49, 61])
def test_no_size_makes_colours_something_else(tmp_path: Path, compression: str | None, width: int) -> None:
    """What Pillow writes comes back, whatever its byte counts happen to be."""
    Image.fromarray(COLOURS[:, :width]).save(tmp_path / "a.tif", compression=compression)
    check(tmp_path / "a.tif", as_read(COLOURS[:, :width]))


def compressed(data: bytes, compression: str) -> bytes:
    """Compress by libtiff."""
    file = io.BytesIO()
    Image.frombytes("L", (len(data), 1), data).save(file, "TIFF", compression=compression)
    file.seek(0)
    with tifffile.TiffFile(file) as opened:
        page = opened.pages.first
        return file.getvalue()[page.dataoffsets[0] :][: page.databytecounts[0]]


@pytest.mark.parametrize(("compression", "code"), [("tiff_lzw", 5), ("zstd", 50000)])
@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("kind", ["<u2", ">u2", "<f4", "u1"])
def test_what_tifffile_leaves_to_others_is_read(
    tmp_path: Path, compression: str, code: int, tiled: bool, predictor: int, kind: str
) -> None:
    """Colours of any type in strips and tiles, with and without differences between neighbours."""
    colours = COLOURS.astype(kind) * np.array(kind == "u1" or 257, kind)
    across, down = (32, 16) if tiled else (61, 10)

    def segments() -> Iterator[bytes]:
        for y in range(0, 47, down):
            for x in range(0, 61, across):
                block = np.zeros((down if tiled else min(down, 47 - y), across, 3), kind)
                part = colours[y : y + down, x : x + across]
                block[: part.shape[0], : part.shape[1]] = part
                numbers = block.view(f"{kind[:-2]}u{kind[-1]}")
                if predictor == 2:
                    numbers[:, 1:] = numbers[:, 1:] - numbers[:, :-1]
                yield compressed(numbers.tobytes(), compression)

    tifffile.imwrite(
        tmp_path / "a.tif",
        segments(),
        shape=colours.shape,
        dtype=colours.dtype,
        byteorder=">" if kind[0] == ">" else "<",
        photometric="rgb",
        compression="zlib",
        predictor=predictor == 2 and kind[1] != "f",
        **({"tile": (down, across)} if tiled else {"rowsperstrip": down}),
    )
    patch(tmp_path / "a.tif", Compression=code)
    if predictor == 2 and kind[1] == "f":
        return  # tifffile has no such tag to be patched
    check(tmp_path / "a.tif", as_read(colours.astype(colours.dtype.newbyteorder("="))))


def test_lzw_of_16_bit_colours_is_read(tmp_path: Path) -> None:
    """As ITK writes it, and Pillow cannot read it."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.tif"))
    writer.UseCompressionOn()
    writer.SetCompressor("LZW")
    writer.Execute(sitk.GetImageFromArray(COLOURS.astype(np.uint16) * 257, isVector=True))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.compression == tifffile.COMPRESSION.LZW
    check(tmp_path / "a.tif", as_read(COLOURS.astype(np.uint16) * 257))


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr"])
def test_jpeg_in_tiff_is_an_image_and_no_label(tmp_path: Path, mode: str) -> None:
    """Colours are Pillow's; as labels the values would be wrong."""
    Image.fromarray(COLOURS).convert(mode).save(tmp_path / "a.tif", compression="jpeg")
    with Image.open(tmp_path / "a.tif") as picture:
        check(tmp_path / "a.tif", as_read(np.asarray(picture)))
    with pytest.raises(ImageFileError, match=r"^a\.tif: labels stored with loss \(JPEG\)"):
        read_label_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "group3", "group4", "tiff_lzw", "packbits"])
def test_two_colours_are_0_and_1(tmp_path: Path, compression: str | None) -> None:
    """Masks of one bit, also as fax machines compress them."""
    mask = COLOURS[..., 0] > 127
    Image.fromarray(mask).save(tmp_path / "a.tif", compression=compression)
    check(tmp_path / "a.tif", as_read(mask.astype(np.uint8)))
    assert np.array_equal(read_label_volume(tmp_path / "a.tif").array, as_read(mask))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("grey", [True, False])
def test_an_image_has_the_colours_of_its_table_and_a_label_its_indices(
    tmp_path: Path, grey: bool, bits: int, compression: str | None
) -> None:
    """Colours, or the greys of a table without colours; the indices are what a label means."""
    indices = COLOURS[..., 0] % 16
    source = Image.fromarray(indices).convert("P")
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(256, 3)
    table = ramp if grey else ramp * np.array([1, 2, 3], np.uint8)
    source.putpalette(table.tobytes())
    source.save(tmp_path / "a.tif", compression=compression)
    if bits == 4:
        packed = np.pad(indices, ((0, 0), (0, 1)))
        data = (packed[:, ::2] << 4 | packed[:, 1::2]).tobytes()
        four_bits(tmp_path / "a.tif", data if compression is None else compressed(data, compression), table)
        if compression is not None:
            patch(tmp_path / "a.tif", Compression=5 if compression == "tiff_lzw" else 8)
    check(tmp_path / "a.tif", as_read(table[indices][..., : 1 if grey else 3]))
    assert np.array_equal(read_label_volume(tmp_path / "a.tif").array, as_read(indices))


def four_bits(path: Path, data: bytes, table: NDArray[np.uint8]) -> None:
    """A file of one strip of 61 x 47 indices of 4 bits, which no library writes."""
    colours = (table[:16].T.astype("<u2") * 257).tobytes()
    entries = [
        (256, 4, 1, 61),
        (257, 4, 1, 47),
        (258, 3, 1, 4),
        (259, 3, 1, 1),
        (262, 3, 1, 3),
        (273, 4, 1, 8 + len(colours)),
        (277, 3, 1, 1),
        (278, 4, 1, 47),
        (279, 4, 1, len(data)),
        (320, 3, 48, 8),
    ]
    start = 8 + len(colours) + len(data) + len(data) % 2
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    strip = data + b"\0" * (len(data) % 2)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", start) + colours + strip + struct.pack("<H", 10) + directory + bytes(4)
    )


def test_a_colour_table_of_8_bits_is_taken_as_such(tmp_path: Path) -> None:
    """Some writers forget that TIFF's tables have 16 bits; libtiff takes a table without any higher value so."""
    table = np.arange(768, dtype=np.uint16).reshape(3, 256) % 251
    tifffile.imwrite(tmp_path / "a.tif", COLOURS[..., 0], photometric="palette", colormap=table)
    check(tmp_path / "a.tif", as_read(table.T.astype(np.uint8)[COLOURS[..., 0]]))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_white_that_is_zero_is_shown_white_and_is_the_label_zero(tmp_path: Path, kind: type) -> None:
    """An image is seen; a label is what is stored."""
    array = COLOURS[..., 0].astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    check(tmp_path / "a.tif", as_read(np.iinfo(kind).max - array))
    assert np.array_equal(read_label_volume(tmp_path / "a.tif").array, as_read(array))


@pytest.mark.parametrize("extra", ["assocalpha", "unassalpha", "unspecified"])
def test_alpha_is_dropped_and_other_samples_are_channels(tmp_path: Path, extra: str) -> None:
    """A fourth sample that is not alpha may be infrared."""
    array = np.concatenate([COLOURS, COLOURS[..., :1]], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=[extra])
    check(tmp_path / "a.tif", as_read(array[..., : 4 if extra == "unspecified" else 3]))
    grey = array[..., :2]
    tifffile.imwrite(tmp_path / "b.tif", grey, photometric="minisblack", planarconfig="contig", extrasamples=[extra])
    check(tmp_path / "b.tif", as_read(grey[..., : 2 if extra == "unspecified" else 1]))


def test_inks_become_colours(tmp_path: Path) -> None:
    """CMYK as Pillow converts it, to its rounding."""
    Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as picture:
        expected = as_read(np.asarray(picture.convert("RGB")))
    found = read_volume(tmp_path / "a.tif").array
    assert read_grid(tmp_path / "a.tif")[0] == 3
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_as_viewers_show_them(tmp_path: Path, orientation: int) -> None:
    """Orientations 1 to 8 give Pillow's transposed picture, also of labels and stacks; others change nothing."""
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", COLOURS, photometric="rgb", extratags=tags)
    source = Image.fromarray(COLOURS)
    source.getexif()[274] = orientation
    expected = as_read(np.asarray(ImageOps.exif_transpose(source)))
    check(tmp_path / "a.tif", expected)
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(COLOURS, -1, 0), photometric="minisblack", extratags=tags)
    stack = read_label_volume(tmp_path / "b.tif")
    assert np.array_equal(stack.array[0], np.moveaxis(expected, 0, -1))
    assert stack.grid.shape == stack.array.shape[1:]


@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"compression": "zlib"}, {"bigtiff": True}], ids=str)
def test_pages_are_slices(tmp_path: Path, options: dict[str, Any]) -> None:
    """A stack of equal pages is a volume without lengths, however it is written."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", **options)
    check(tmp_path / "a.tif", STACK.transpose(2, 1, 0)[None])
    assert (read_grid(tmp_path / "a.tif")[1].spacing_mm, read_grid(tmp_path / "a.tif")[1].unit) == ((1, 1, 1), "voxel")


def test_a_file_beside_a_stack_states_its_lengths(tmp_path: Path) -> None:
    """nnU-Net's: of images without the number of their channel, slices first; what is no length is said."""
    for name in ("a_0000.tif", "a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, STACK, photometric="minisblack")
    (tmp_path / "a.json").write_text('{"spacing": [1.5, 0.2, 0.1]}')
    for name in ("a_0000.tif", "a.tif"):
        assert read_grid(tmp_path / name)[1].spacing_mm == pytest.approx((0.1, 0.2, 1.5))
        assert read_volume(tmp_path / name).grid.unit == "mm"
    assert files_of(tmp_path / "a_0000.tif") == [tmp_path / "a_0000.tif", tmp_path / "a.json"]
    assert read_grid(tmp_path / "b.tif")[1].spacing_mm == (1, 1, 1)
    (tmp_path / "b.json").write_text('{"spacing": [0, "x", 0.1]}')
    volume = read_volume(tmp_path / "b.tif")
    assert volume.grid.spacing_mm == (1, 1, 1)
    assert any("which is no length" in note for note in volume.notes)
    (tmp_path / "b.json").write_text("[")
    assert read_volume(tmp_path / "b.tif").notes == ()


def test_pages_that_pillow_writes_are_slices(tmp_path: Path) -> None:
    """With LZW, page by page."""
    first, *others = (Image.fromarray(page) for page in STACK)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression="tiff_lzw")
    check(tmp_path / "a.tif", STACK.transpose(2, 1, 0)[None])


@pytest.mark.parametrize(
    ("name", "factor", "unit"),
    [("µm", 1e-3, "um"), ("nm", 1e-6, "nm"), ("mm", 1, "mm"), ("cm", 10, "cm"), ("m", 1e3, "m"), (None, 1e-3, "um")],
)
@pytest.mark.parametrize("axes", ["ZYX", "YX", "CYX", "ZCYX", "CZYX", "ZYXS"])
def test_ome_states_lengths_and_channels(tmp_path: Path, axes: str, name: str | None, factor: float, unit: str) -> None:
    """Physical sizes in OME's units, micrometres where none is given; channels are channels and slices are slices."""
    sizes = {"Z": 6, "C": 2, "Y": 7, "X": 5, "S": 3}
    array = np.arange(np.prod([sizes[axis] for axis in axes]), dtype=np.uint16).reshape([sizes[axis] for axis in axes])
    metadata = {"axes": axes}
    for axis, size in zip("XYZ", (0.5, 0.25, 2.0), strict=True):
        metadata[f"PhysicalSize{axis}"] = size
        metadata |= {f"PhysicalSize{axis}Unit": name} if name else {}
    colour = "rgb" if "S" in axes else "minisblack"
    tifffile.imwrite(tmp_path / "a.ome.tif", array, photometric=colour, metadata=metadata)
    spatial = [axis for axis in "XYZ" if axis in axes]
    channel = next((axis for axis in "CS" if axis in axes), "")
    expected = array.transpose([axes.index(axis) for axis in (*channel, *spatial)])
    check(tmp_path / "a.ome.tif", expected if channel else expected[None])
    grid = read_grid(tmp_path / "a.ome.tif")[1]
    assert np.allclose(grid.spacing_mm, np.array([0.5, 0.25, 2.0])[: len(spatial)] * factor)
    assert grid.unit == unit
    assert strip_suffix("a.ome.tif") == "a"


@pytest.mark.parametrize("orientation", [1, 6])
def test_lengths_are_turned_with_the_picture(tmp_path: Path, orientation: int) -> None:
    """Columns of 0.5 and rows of 0.25 micrometres exchange where the picture lies on its side."""
    tags = [(274, "H", 1, orientation, True)]
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK[0], metadata=metadata, extratags=tags)
    grid = read_volume(tmp_path / "a.ome.tif").grid
    turned = orientation == 6
    assert np.allclose(grid.spacing_mm, (0.25e-3, 0.5e-3) if turned else (0.5e-3, 0.25e-3))
    assert grid.shape == ((7, 5) if turned else (5, 7))


@pytest.mark.parametrize(
    ("unit", "factor"), [("micron", 1e-3), ("um", 1e-3), ("\\u00B5m", 1e-3), ("mm", 1), ("inch", 25.4)]
)
@pytest.mark.parametrize("spacing", [2.5, -2.5, None])
def test_imagej_states_lengths(tmp_path: Path, unit: str, factor: float, spacing: float | None) -> None:
    """Resolutions are pixels per unit; a slice distance of 1 is not written, and has no sign."""
    metadata = {"unit": unit, "axes": "ZYX"} | ({} if spacing is None else {"spacing": spacing})
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(2, 4), metadata=metadata)
    check(tmp_path / "a.tif", STACK.transpose(2, 1, 0)[None])
    expected = np.array([0.5, 0.25, abs(spacing or 1.0)]) * factor
    assert np.allclose(read_grid(tmp_path / "a.tif")[1].spacing_mm, expected)


def test_imagej_states_a_unit_along_each_axis(tmp_path: Path) -> None:
    """Those of rows and slices where they are not that of columns."""
    metadata = {"unit": "um", "yunit": "\\u00B5m", "zunit": "mm", "spacing": 0.005, "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(2, 4), metadata=metadata)
    grid = read_grid(tmp_path / "a.tif")[1]
    assert np.allclose(grid.spacing_mm, (0.5e-3, 0.25e-3, 5e-3))
    assert grid.unit == "um"


def test_imagej_channels_and_pixels(tmp_path: Path) -> None:
    """A hyperstack's channels are channels; a unit of pixels is no length."""
    array = np.arange(6 * 3 * 7 * 5, dtype=np.uint16).reshape(6, 3, 7, 5)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "ZCYX", "unit": "pixel"})
    check(tmp_path / "a.tif", array.transpose(1, 3, 2, 0))
    assert read_grid(tmp_path / "a.tif")[1].unit == "voxel"


def test_imagej_stores_negative_values_by_a_line(tmp_path: Path) -> None:
    """It has no signed numbers of 16 bits, so that Hounsfield units are 32768 too high but for its calibration."""
    values = STACK.astype(np.int32) - 1024
    metadata = {"axes": "ZYX", "cf": 0, "c0": -32768.0, "c1": 1.0, "vunit": "Gray Value"}
    tifffile.imwrite(tmp_path / "a.tif", (values + 32768).astype(np.uint16), imagej=True, metadata=metadata)
    check(tmp_path / "a.tif", values.transpose(2, 1, 0)[None].astype(np.float32))
    assert np.array_equal(read_label_volume(tmp_path / "a.tif").array[0], values.transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("metadata", "noted"),
    [
        ({}, False),
        ({"PhysicalSizeX": 1, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 1, "PhysicalSizeYUnit": "pixel"}, True),
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, True),
        ({"PhysicalSizeX": 0.0, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.0}, True),
        ({"PhysicalSizeX": 1, "PhysicalSizeXUnit": "parsec", "PhysicalSizeY": 1, "PhysicalSizeZ": 1}, True),
    ],
    ids=str,
)
def test_lengths_that_are_none_are_not_used(tmp_path: Path, metadata: dict[str, Any], noted: bool) -> None:
    """No distance of slices, sizes of 0 and unknown units: the file states no lengths, and a note says which."""
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "ZYX"} | metadata)
    volume = read_volume(tmp_path / "a.ome.tif")
    assert (volume.grid.spacing_mm, volume.grid.unit) == ((1, 1, 1), "voxel")
    assert len(volume.notes) == noted


def test_a_resolution_for_printing_is_no_length(tmp_path: Path) -> None:
    """72 dots per inch say nothing about what is pictured."""
    Image.fromarray(COLOURS).save(tmp_path / "a.tif", dpi=(72, 72))
    assert read_grid(tmp_path / "a.tif")[1] == Grid.of((61, 47), np.eye(4), "voxel")


@pytest.mark.parametrize("axes", ["TYX", "TZYX"])
def test_time_points_are_refused(tmp_path: Path, axes: str) -> None:
    """They are neither slices nor channels."""
    array = STACK if axes == "TYX" else STACK.reshape(2, 3, 7, 5)
    tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata={"axes": axes})
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=f"^a.ome.tif: expected columns, rows, slices and .* along {axes}"):
            read(tmp_path / "a.ome.tif")


def test_pages_of_several_sizes_are_refused_but_thumbnails_are_not_counted(tmp_path: Path) -> None:
    """Two pictures are not one; a reduced copy of the first is part of it."""
    for subfiletype, refused in ((0, True), (1, False)):
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(COLOURS, photometric="rgb", metadata=None)
            writer.write(COLOURS[:20, :30], photometric="rgb", metadata=None, subfiletype=subfiletype)
        if refused:
            with pytest.raises(ImageFileError, match=r"got 2 \(47x61x3, 20x30x3\)"):
                read_grid(tmp_path / "a.tif")
        else:
            check(tmp_path / "a.tif", as_read(COLOURS))


def test_planes_in_other_files_are_missed(tmp_path: Path) -> None:
    """OME may spread a stack over files; what is not there must not become zeros."""
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        text = file.ome_metadata or ""
    longer = text.replace('SizeZ="6"', 'SizeZ="8"').replace('PlaneCount="6"', 'PlaneCount="8"')
    tifffile.imwrite(tmp_path / "b.ome.tif", STACK, description=longer.encode(), metadata=None)
    with pytest.raises(ImageFileError, match=r"^b\.ome\.tif: "):
        read_volume(tmp_path / "b.ome.tif")


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        ("Compression", 34712, "compression .*JPEG.*2000.* is not supported"),
        ("PhotometricInterpretation", 8, "colours of the kind .*CIELAB.* are not supported"),
        ("PhotometricInterpretation", 6, "YCbCr are supported in JPEG compression only"),
        ("SampleFormat", (5, 5, 5), "are not supported"),
        ("StripByteCounts", 0, "damaged"),
        ("ImageWidth", 1 << 29, r"536870912 x 47 pixels; at most 268,435,456"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, tag: str, value: object, reason: str) -> None:
    """Compressions and colours without a decoder, complex numbers, missing strips, and too many pixels."""
    assert pictures.MAX_PIXELS == 268_435_456
    kind = np.float32 if tag == "SampleFormat" else np.uint8  # only then there is such a tag
    tifffile.imwrite(tmp_path / "a.tif", COLOURS.astype(kind), photometric="rgb")
    patch(tmp_path / "a.tif", **{tag: value})
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=f"^a.tif: .*{reason}"):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize("unit", ["um", "mm", "nm", "m", "cm", "voxel"])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 6)])
@pytest.mark.parametrize("highest", [1, 300, 70000, -2])
def test_labels_come_back_where_they_were(tmp_path: Path, unit: Any, shape: tuple[int, ...], highest: int) -> None:
    """Values, voxel size and the unit that it is stated in; classes are named in the description."""
    sizes = [1, 1, 1] if unit == "voxel" else [2e-3, 3e-3, 5e-3 if len(shape) == 3 else 1]
    grid = Grid.of(shape, np.diag([*sizes, 1]), unit)
    labels = np.zeros(shape, np.int64)
    labels[1, 2] = highest
    write_labels(tmp_path / "a.tif", labels, grid, {highest: "cell"})
    volume = read_label_volume(tmp_path / "a.tif")
    assert np.array_equal(volume.array[0], labels)
    assert (volume.grid.shape, volume.grid.unit) == (grid.shape, grid.unit)
    assert np.allclose(volume.grid.matrix, grid.matrix)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert '"cell"' in file.pages.first.description.replace("&quot;", '"')


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 6)])
def test_images_come_back(tmp_path: Path, channels: int, kind: type, shape: tuple[int, ...]) -> None:
    """Any number of channels, of two or three axes."""
    array = (np.random.default_rng(0).random((channels, *shape)) * 250).astype(kind)
    write_image(tmp_path / "a.tif", array, Grid.of(shape, np.diag([2.0, 3, 5 if len(shape) == 3 else 1, 1])))
    check(tmp_path / "a.tif", array)


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    """No time, no program and no machine are in the file, also where OME asks for an identifier."""
    for name in ("a.tif", "b.tif"):
        write_labels(tmp_path / name, STACK, Grid.of(STACK.shape, np.diag([2e-3, 2e-3, 2e-3, 1]), "um"), {1: "cell"})
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sizes_that_no_file_could_hold_are_refused(tmp_path: Path, compression: str | None) -> None:
    """Before any memory is taken for them, although the picture is below the limit."""
    tifffile.imwrite(tmp_path / "a.tif", COLOURS, photometric="rgb", compression=compression, metadata=None)
    patch(tmp_path / "a.tif", ImageWidth=16_000, ImageLength=16_000)
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=r"^a\.tif: truncated"):
            read(tmp_path / "a.tif")


def test_what_tiff_cannot_hold_is_refused(tmp_path: Path) -> None:
    """OME has no 64-bit integers; nothing half-written stays behind."""
    with pytest.raises(ImageFileError, match=r"^a\.tif: cannot hold voxels of type int64"):
        write_labels(tmp_path / "a.tif", np.full((4, 5, 6), 1 << 40), Grid.of((4, 5, 6), np.eye(4)), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["empty", "text", "start only", "half", "only its name"])
def test_damage_is_named_with_the_file_and_without_its_folder(tmp_path: Path, kind: str) -> None:
    """Whatever is wrong with a file, it is an ImageFileError with the file's name in it."""
    Image.fromarray(COLOURS).save(tmp_path / "a.tif", compression="tiff_lzw")
    raw = (tmp_path / "a.tif").read_bytes()
    contents = {"empty": b"", "text": b"no\n" * 50, "start only": raw[:16], "half": raw[: len(raw) // 2]}
    (tmp_path / "bad.tif").write_bytes(contents.get(kind, b"II*\0\x08\0\0\0\0\0"))
    with pytest.raises(ImageFileError, match=r"^bad\.tif: ") as caught:
        read_volume(tmp_path / "bad.tif")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("kind", ["plain", "zlib", "lzw", "jpeg", "palette", "ome", "imagej"])
@pytest.mark.filterwarnings("error")
def test_any_damage_is_one_line(
    tmp_path: Path, kind: str, damage: Callable[[Path, int, int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Bytes exchanged for others give a volume or one line with the file's name.

    Nothing else is on standard error, but for what libtiff says there of damaged strips.
    """
    path = tmp_path / "a.tif"
    if kind in ("lzw", "jpeg"):
        Image.fromarray(COLOURS).save(path, compression={"lzw": "tiff_lzw"}.get(kind, kind))
    elif kind == "palette":
        Image.fromarray(COLOURS).convert("P").save(path)
    elif kind in ("ome", "imagej"):
        options: dict[str, Any] = {"imagej": True} if kind == "imagej" else {"ome": True}
        tifffile.imwrite(path, STACK, metadata={"axes": "ZYX", "unit": "um", "PhysicalSizeX": 1.0}, **options)
    else:
        tifffile.imwrite(path, COLOURS, photometric="rgb", compression=None if kind == "plain" else kind)
    with tifffile.TiffFile(path) as file:  # so that most changes fall on tags
        first, last = file.pages.first.offset, len(path.read_bytes())
    damage(path, 150, last if first > 1000 else 1000)
    assert kind in ("lzw", "jpeg") or capfd.readouterr().err == ""


def test_axes_without_a_meaning_are_refused(tmp_path: Path) -> None:
    """Four axes and no word what they are; not damage."""
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 5, 64, 60), np.uint8), photometric="minisblack")
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=r"^b.tif: expected columns, rows, slices and .* got 2x5x64x60 along"):
            read(tmp_path / "b.tif")
