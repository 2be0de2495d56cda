"""MetaImage and NRRD, with SimpleITK as the oracle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - as its documentation has it

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.files import read_grid, read_volume, strip_suffix, write_image, write_labels
from unetpipe.imaging.geometry import Grid


def world_lps(image: sitk.Image, index: tuple[int, ...]) -> np.ndarray:
    """Where SimpleITK puts a voxel."""
    return np.array(image.TransformIndexToPhysicalPoint(index))


def scan(shape: tuple[int, ...] = (4, 5, 6), components: int = 1) -> sitk.Image:
    """An oblique image without symmetry, of the given size in (I, J, K)."""
    array = np.arange(np.prod(shape) * components, dtype=np.int16).reshape(*reversed(shape), components)
    image = sitk.GetImageFromArray(array if components > 1 else array[..., 0], isVector=components > 1)
    rotation = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix()
    image.SetDirection(rotation if len(shape) == 3 else (0.8, -0.6, 0.6, 0.8))
    image.SetSpacing((0.7, 1.3, 2.9)[: len(shape)])
    image.SetOrigin((-30.5, 20.25, 7.0)[: len(shape)])
    return image


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [True, False])
def test_landmarks_lie_where_simpleitk_puts_them(tmp_path: Path, suffix: str, compressed: bool) -> None:
    """Every corner voxel has SimpleITK's value and, after LPS to RAS, its place to 1e-9 mm."""
    image = scan()
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path), useCompression=compressed)
    volume = read_volume(path)
    assert volume.array.dtype == np.int16
    for index in np.ndindex(2, 2, 2):
        voxel = tuple(int(i * (n - 1)) for i, n in zip(index, (4, 5, 6), strict=True))
        assert volume.array[(0, *voxel)] == image[voxel]
        expected = world_lps(image, voxel) * (-1, -1, 1)
        assert np.allclose((volume.grid.matrix @ (*voxel, 1))[:3], expected, atol=1e-9)
    assert read_grid(path) == (1, volume.grid)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_vector_pixels_are_channels(tmp_path: Path, suffix: str) -> None:
    """Component c of a voxel is channel c."""
    image = scan(components=3)
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    volume = read_volume(tmp_path / f"a{suffix}")
    assert volume.array.shape == (3, 4, 5, 6)
    assert tuple(volume.array[:, 3, 1, 2]) == image[3, 1, 2]
    assert read_grid(tmp_path / f"a{suffix}") == (3, volume.grid)


def test_the_fourth_axis_is_channels(tmp_path: Path) -> None:
    """A 4-D image of two volumes gives two channels."""
    image = sitk.JoinSeries([scan(), scan() + 1000])
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    volume = read_volume(tmp_path / "a.mha")
    assert volume.array.shape == (2, 4, 5, 6)
    assert volume.array[1, 3, 1, 2] == image[3, 1, 2, 1]
    assert volume.grid == Grid.of((4, 5, 6), volume.grid.matrix)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize(
    ("further", "components", "channels"), [((1,), 1, 1), ((1, 1), 1, 1), ((2, 1), 1, 2), ((1,), 3, 3), ((1, 1), 3, 3)]
)
def test_further_axes_of_one_entry_do_not_count(
    tmp_path: Path, suffix: str, further: tuple[int, ...], components: int, channels: int
) -> None:
    """As in NIfTI: channels are vector pixels, or the one axis after the third that has several entries."""
    stored = np.arange(4 * 5 * 6 * channels, dtype=np.int16).reshape(channels, 6, 5, 4)
    array = np.moveaxis(stored, 0, -1) if components > 1 else stored
    array = array.reshape(*reversed(further), 6, 5, 4, *([3] if components > 1 else []))
    image = sitk.GetImageFromArray(array, isVector=components > 1)
    image.SetSpacing((0.7, 1.3, 2.9, *(1.0 for _ in further)))
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    volume = read_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(volume.array, stored.transpose(0, 3, 2, 1))
    assert volume.grid.spacing_mm == pytest.approx((0.7, 1.3, 2.9))
    assert read_grid(tmp_path / f"a{suffix}") == (channels, volume.grid)


@pytest.mark.parametrize(("further", "components"), [((2, 2), 1), ((2,), 3)])
def test_two_axes_of_channels_are_refused(tmp_path: Path, further: tuple[int, ...], components: int) -> None:
    """Nothing says which are the channels."""
    shape = (*reversed(further), 6, 5, 4, *([3] if components > 1 else []))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape), isVector=components > 1), str(tmp_path / "a.mha"))
    with pytest.raises(GeometryError, match=r"^a\.mha: expected 2 or 3 axes and channels"):
        read_grid(tmp_path / "a.mha")


@pytest.mark.parametrize("components", [1, 3])
def test_two_axes_stay_two(tmp_path: Path, components: int) -> None:
    """A 2-D image, grey or colour, has I along its first axis and the in-plane directions of the file."""
    image = scan((4, 5), components)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    volume = read_volume(tmp_path / "a.mha")
    assert volume.array.shape == (components, 4, 5)
    pixel = image[3, 1]
    assert tuple(volume.array[:, 3, 1]) == (pixel if components > 1 else (pixel,))
    assert np.allclose((volume.grid.matrix @ (3, 1, 0, 1))[:2], -world_lps(image, (3, 1)))
    write_image(tmp_path / "b.mha", volume.array, volume.grid)
    again = read_volume(tmp_path / "b.mha")
    assert np.array_equal(again.array, volume.array)
    assert again.grid.difference_mm(volume.grid) < 1e-9


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_names_are_kept_in_the_header(tmp_path: Path, suffix: str, oblique: Grid) -> None:
    """SimpleITK finds the classes as a field of the header."""
    path = tmp_path / f"a{suffix}"
    write_labels(path, np.ones(oblique.shape, np.uint8), oblique, {1: "liver"})
    assert sitk.ReadImage(str(path)).GetMetaData("labels") == '{"1": "liver"}'


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("kind", ["empty", "text", "cut in the header", "cut in the voxels", "flipped bit"])
def test_damage_is_named_with_the_file_and_without_its_folder(tmp_path: Path, suffix: str, kind: str) -> None:
    """Also a flipped bit inside compressed voxels, where ITK itself returns what came before it."""
    good = tmp_path / f"good{suffix}"
    array = np.random.default_rng(0).integers(0, 50, (30, 30, 30)).astype(np.uint8)
    write_labels(good, array, Grid.of(array.shape, np.eye(4)), {})
    raw = good.read_bytes()
    middle = len(raw) // 2
    contents = {
        "empty": b"",
        "text": b"no image\n" * 30,
        "cut in the header": raw[:60],
        "cut in the voxels": raw[:-20],
        "flipped bit": raw[:middle] + bytes([raw[middle] ^ 0x20]) + raw[middle + 1 :],
    }
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(contents[kind])
    with pytest.raises(ImageFileError, match=r"^bad\.") as caught:
        read_volume(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_data_file_is_named(tmp_path: Path) -> None:
    """A .mhd without its .raw."""
    sitk.WriteImage(scan(), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink(missing_ok=True)
    (tmp_path / "a.zraw").unlink(missing_ok=True)
    with pytest.raises(ImageFileError, match=r"a\.mhd: .*data file is missing"):
        read_volume(tmp_path / "a.mhd")


def test_two_files_are_not_written(tmp_path: Path, oblique: Grid) -> None:
    """A header beside its voxels cannot be replaced in one step."""
    with pytest.raises(ImageFileError, match=r"choose \.mha"):
        write_labels(tmp_path / "a.mhd", np.zeros(oblique.shape, np.uint8), oblique, {})


def test_a_sagittal_picture_is_refused(tmp_path: Path) -> None:
    """Two axes of direction cosines cannot say that a plane is not axial."""
    affine = np.eye(4)[:, [1, 2, 0, 3]]
    with pytest.raises(GeometryError, match="not axial"):
        write_labels(tmp_path / "a.mha", np.zeros((3, 4), np.uint8), Grid.of((3, 4), affine), {})


def restated(path: Path, unit: str, form: str) -> Path:
    """Write an NRRD file whose header names the unit of its numbers, per axis of space or of the array."""
    sitk.WriteImage(scan(), str(path))
    header, voxels = path.read_bytes().split(b"\n\n", 1)
    text = header.decode()
    if form == "units":  # for files that are in no space
        lines = [line for line in text.splitlines() if not line.startswith(("space", "kinds"))]
        text = "\n".join([*lines, "spacings: 0.7 1.3 2.9"])
    path.write_bytes(f'{text}\n{form}: "{unit}" "{unit}" "{unit}"\n\n'.encode() + voxels)
    return path


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("um", 1e-3), ("µm", 1e-3), ("microns", 1e-3), ("mm", 1), ("", 1), ("cm", 10), ("m", 1e3), ("nm", 1e-6)],
)
@pytest.mark.parametrize("form", ["space units", "units"])
def test_nrrd_is_read_in_mm(tmp_path: Path, unit: str, factor: float, form: str) -> None:
    """Spacing and origin come out in mm, whatever the header states them in; ITK does not look."""
    grid = read_volume(restated(tmp_path / "a.nrrd", unit, form)).grid
    theirs = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert np.allclose(grid.spacing_mm, np.array(theirs.GetSpacing()) * factor)
    assert np.allclose(grid.matrix[:3, 3], np.array(theirs.GetOrigin()) * factor * (-1, -1, 1))
    assert read_grid(tmp_path / "a.nrrd") == (1, grid)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(
            ("MM", 1),
            ("Millimeter", 1),
            ("Micron", 1e-3),
            ("micrometre", 1e-3),
            ("Micrometres", 1e-3),
            ("\N{GREEK CAPITAL LETTER MU}m", 1e-3),
        ),
        *(("centimetre", 10), ("centimetres", 10), ("nanometre", 1e-6), ("Metre", 1e3)),
        *(("pixel", 1), ("Pixels", 1), ("voxel", 1), ("voxels", 1)),
    ],
)
def test_units_are_known_in_every_spelling(tmp_path: Path, unit: str, factor: float) -> None:
    """British or American, with capitals or without; pixels are no length, as where none is stated."""
    grid = read_grid(restated(tmp_path / "a.nrrd", unit, "space units"))[1]
    assert grid.spacing_mm == pytest.approx(np.array([0.7, 1.3, 2.9]) * factor)


def test_a_micro_sign_in_latin_1_is_one(tmp_path: Path) -> None:
    """Headers that older programs wrote are not in UTF-8."""
    path = restated(tmp_path / "a.nrrd", "µm", "space units")
    path.write_bytes(path.read_bytes().replace("µ".encode(), "µ".encode("latin-1")))
    grid = read_grid(path)[1]
    assert (grid.unit, grid.spacing_mm) == ("um", pytest.approx((0.7e-3, 1.3e-3, 2.9e-3)))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("unit", ["um", "cm", "nm", "m", "mm", "voxel"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6)])
def test_labels_beside_a_scan_state_lengths_as_it_does(
    tmp_path: Path, suffix: str, unit: Any, shape: tuple[int, ...]
) -> None:
    """The place is the scan's, in its unit where the format has that, else in mm."""
    affine = np.diag([-0.02, -0.03, 0.05 if len(shape) == 3 else 1, 1])
    affine[: len(shape), 3] = (1.5, -2.5, 3.5)[: len(shape)]
    grid = Grid.of(shape, affine, unit)
    write_labels(tmp_path / f"a{suffix}", np.ones(shape, np.uint8), grid, {1: "liver"})
    volume = read_volume(tmp_path / f"a{suffix}")
    assert np.allclose(volume.grid.matrix, affine)
    assert volume.grid.unit == (
        unit if unit in ("um", "cm") or (suffix, unit) in ((".nrrd", "nm"), (".nrrd", "m")) else "mm"
    )
    if unit in ("um", "cm"):
        expected = np.abs(np.diag(affine))[: len(shape)] * {"um": 1e3, "cm": 0.1}[unit]
        assert np.allclose(sitk.ReadImage(str(tmp_path / f"a{suffix}")).GetSpacing(), expected)


def test_a_unit_that_is_no_length_is_refused(tmp_path: Path) -> None:
    """Seconds say nothing about where a voxel lies."""
    with pytest.raises(ImageFileError, match=r"^a\.nrrd: its unit of length 's' is not known"):
        read_volume(restated(tmp_path / "a.nrrd", "s", "space units"))


@pytest.mark.parametrize("name", ["a.MHA", "a.NRRD", "a.SEG.NRRD"])
def test_suffixes_may_be_in_capitals(tmp_path: Path, name: str) -> None:
    """They name the same formats."""
    sitk.WriteImage(scan(), str(tmp_path / name.lower()))
    (tmp_path / name.lower()).rename(tmp_path / name)
    assert read_volume(tmp_path / name).array.shape == (1, 4, 5, 6)
    assert strip_suffix(name) == "a"


@pytest.mark.parametrize(("header", "data"), [("a.mhd", "a.raw"), ("a.mhd", "a.zraw"), ("a.nhdr", "a.raw")])
def test_a_linked_header_finds_the_data_beside_the_link(tmp_path: Path, header: str, data: str) -> None:
    """Stores that address files by content keep neither names nor folders: only the links are beside each other."""
    store, links = tmp_path / "store", tmp_path / "links"
    store.mkdir()
    links.mkdir()
    sitk.WriteImage(scan(), str(tmp_path / header), useCompression=data == "a.zraw")
    data = next(path.name for path in tmp_path.glob("a.*raw*"))
    for number, name in enumerate((header, data)):
        (tmp_path / name).rename(store / f"{number:064x}")
        (links / name).symlink_to(f"../store/{number:064x}")
    assert np.array_equal(read_volume(links / header).array[0], sitk.GetArrayFromImage(scan()).T)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_sizes_that_no_file_could_hold_are_refused(tmp_path: Path, suffix: str, compressed: bool) -> None:
    """Before any memory is taken for them."""
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(scan(), str(path), useCompression=compressed)
    path.write_bytes(
        path.read_bytes().replace(b" 4 5 6\n", b" 900 1000 1000\n").replace(b": 4 5 6", b": 900 1000 1000")
    )
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=rf"^a\{suffix}: truncated"):
            read(path)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.filterwarnings("error")
def test_any_damage_is_one_line(
    tmp_path: Path, suffix: str, compressed: bool, damage: Callable[[Path, int, int], None]
) -> None:
    """Bytes exchanged for others give a volume or one line with the file's name, never another error."""
    sitk.WriteImage(scan(), str(tmp_path / f"a{suffix}"), useCompression=compressed)
    damage(tmp_path / f"a{suffix}", 300, 700)


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    """Nothing sensible can be done with them."""
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkComplexFloat32), str(tmp_path / "a.nrrd"))
    with pytest.raises(ImageFileError, match=r"^a\.nrrd: voxels of type complex"):
        read_grid(tmp_path / "a.nrrd")


def test_units_of_colours_are_no_units_of_length(tmp_path: Path) -> None:
    """NRRD's `units` has an entry for every axis, also for that of the colours, which comes first."""
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 3 4 5\nkinds: RGB-color domain domain\n"
        'spacings: nan 0.5 0.25\nunits: "" "um" "um"\nencoding: raw\n\n'
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(3 * 4 * 5))
    grid = read_grid(tmp_path / "a.nrrd")[1]
    assert (grid.shape, grid.unit) == ((4, 5), "um")
    assert grid.spacing_mm == pytest.approx((0.5e-3, 0.25e-3))
