"""NIfTI headers that readers disagree about, built field by field."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - as its documentation has it
from nibabel.nifti1 import Nifti1Extension

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.files import read_grid, read_volume, write_labels
from unetpipe.imaging.geometry import Grid

AFFINE = np.array([[0.8, 0, 0, -20.0], [0, 1.25, 0, 30.0], [0, 0, 3.0, 7.0], [0, 0, 0, 1]])
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def save(path: Path, voxels: np.ndarray = VOXELS, affine: np.ndarray = AFFINE, kind: Any = nib.Nifti1Image) -> Path:
    """A scan whose sform and qform say the same."""
    image = kind(voxels, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)
    return path


def edit(path: Path, **fields: Any) -> Path:
    """Set fields of a header in place; a tuple sets the first entries of an array."""
    raw = path.read_bytes()
    header = nib.Nifti1Header(raw[:348], check=False)
    for name, value in fields.items():
        entries = slice(len(value)) if isinstance(value, tuple) else ...
        field = header[name].copy()
        field[entries] = value
        header[name] = field
    path.write_bytes(header.binaryblock + raw[348:])
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("name", "factor"), [("unknown", 1), ("mm", 1), ("micron", 1e-3), ("meter", 1e3)])
def test_lengths_are_read_in_mm(tmp_path: Path, kind: type, name: str, factor: float) -> None:
    """Whatever the unit of the header, spacing and origin come out in mm; an unknown unit is mm. ITK agrees."""
    image = kind(VOXELS, AFFINE)
    image.header.set_xyzt_units(name)
    nib.save(image, tmp_path / "a.nii.gz")
    channels, grid = read_grid(tmp_path / "a.nii.gz")
    expected = AFFINE.copy()
    expected[:3] *= factor
    assert channels == 1
    assert np.allclose(grid.matrix, expected, rtol=1e-6)
    if kind is nib.Nifti1Image:  # ITK reads no NIfTI-2
        assert np.allclose(sitk.ReadImage(str(tmp_path / "a.nii.gz")).GetSpacing(), grid.spacing_mm)
    assert read_volume(tmp_path / "a.nii.gz").grid == grid


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["micron", "meter", "mm"])
def test_labels_beside_a_scan_state_lengths_as_it_does(tmp_path: Path, kind: type, name: str) -> None:
    """The unit of the scan is that of its labels, whose sform is the scan's to the last bit."""
    image = kind(VOXELS, AFFINE.astype(np.float32))
    image.header.set_xyzt_units(name)
    nib.save(image, tmp_path / "a.nii")
    grid = read_grid(tmp_path / "a.nii")[1]
    write_labels(tmp_path / "b.nii", VOXELS, grid, {})
    labels = nib.load(tmp_path / "b.nii")
    assert labels.header.get_xyzt_units()[0] == name
    assert np.array_equal(labels.affine, image.affine)
    assert labels.header["qform_code"] == 1
    assert read_grid(tmp_path / "b.nii")[1].difference_mm(grid) == 0


def test_a_scan_in_micrometres_fits_its_label_in_mm(tmp_path: Path) -> None:
    """Two headers of one place in two units put every voxel where the other has it."""
    for name, unit, factor in (("scan", "micron", 1e3), ("label", "mm", 1)):
        image = nib.Nifti1Image(VOXELS, np.diag([factor, factor, factor, 1]) @ AFFINE)
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / f"{name}.nii")
    assert read_grid(tmp_path / "scan.nii")[1].difference_mm(read_grid(tmp_path / "label.nii")[1]) < 1e-5


def test_a_unit_that_nifti_does_not_know_is_mm_and_noted(tmp_path: Path) -> None:
    """Codes 4 to 7 name no unit of length; time units in the higher bits do not matter."""
    volume = read_volume(edit(save(tmp_path / "a.nii"), xyzt_units=5 | 8))
    assert np.allclose(volume.grid.matrix, AFFINE)
    assert "unknown code 5" in volume.notes[0]


def test_voxels_begin_after_the_header_where_the_offset_is_zero(tmp_path: Path) -> None:
    """A single file has no voxels at byte 0: that is where the header stands."""
    volume = read_volume(edit(save(tmp_path / "a.nii"), vox_offset=0))
    assert np.array_equal(volume.array[0], VOXELS)


def test_an_offset_of_zero_with_other_bytes_after_the_voxels_is_refused(tmp_path: Path) -> None:
    """Where the file is longer than header and voxels, nothing says which bytes are the voxels."""
    path = edit(save(tmp_path / "a.nii"), vox_offset=0)
    path.write_bytes(path.read_bytes() + bytes(16))
    with pytest.raises(ImageFileError, match=r"^a\.nii: the header does not say where voxels begin"):
        read_volume(path)


@pytest.mark.parametrize("offset", [1, 348, 351, -352, 352.5, np.nan, np.inf])
def test_an_offset_inside_the_header_is_refused(tmp_path: Path, offset: float) -> None:
    """Voxels begin at a whole byte at or after 352."""
    with pytest.raises(ImageFileError, match=r"^a\.nii: bad header: voxels cannot begin"):
        read_volume(edit(save(tmp_path / "a.nii"), vox_offset=offset))


def extended(path: Path, offset: int) -> Path:
    """A scan with a header extension of 32 bytes, which says that its voxels begin at `offset`."""
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.header.extensions.append(Nifti1Extension(6, b"about twenty bytes"))
    nib.save(image, path)
    assert len(path.read_bytes()) == 384 + VOXELS.nbytes
    return edit(path, vox_offset=offset)


def test_extensions_are_skipped(tmp_path: Path) -> None:
    """Voxels are those at the offset, whatever stands before it; an extension may leave room after it."""
    assert np.array_equal(read_volume(extended(tmp_path / "a.nii", 384)).array[0], VOXELS)
    raw = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(raw[:384] + bytes(16) + raw[384:])
    assert np.array_equal(read_volume(edit(tmp_path / "a.nii", vox_offset=400)).array[0], VOXELS)


@pytest.mark.parametrize("offset", [352, 368])
def test_extensions_are_not_read_as_voxels(tmp_path: Path, offset: int) -> None:
    """An offset that was not moved behind a new extension would take the extension for the first voxels."""
    with pytest.raises(ImageFileError, match="where voxels begin"):
        read_volume(extended(tmp_path / "a.nii", offset))


def test_an_extension_that_is_announced_and_not_there_does_no_harm(tmp_path: Path) -> None:
    """Some writers leave other bytes than zeros after the header; the file's length shows where the voxels are."""
    path = save(tmp_path / "a.nii")
    raw = path.read_bytes()
    path.write_bytes(raw[:348] + b"\1\0\0\0" + raw[352:])
    assert np.array_equal(read_volume(path).array[0], VOXELS)


@pytest.mark.parametrize(
    ("dim", "channels"),
    [
        ((6, 4, 5, 6, 1, 1, 1), 1),
        ((7, 4, 5, 3, 1, 1, 1, 2), 2),
        ((5, 4, 5, 3, 2, 1), 2),
        ((5, 4, 5, 3, 1, 2), 2),
        ((4, 4, 5, 6, 0), 1),
        ((7, 4, 5, 6, 0, 0, 0, 0), 1),
        ((3, 4, 5, 6, -9, 77), 1),
    ],
)
def test_axes_of_one_entry_do_not_count(tmp_path: Path, dim: tuple[int, ...], channels: int) -> None:
    """One further axis may hold channels, whichever it is; a size of 0 there is 1, as in the standard's library."""
    volume = read_volume(edit(save(tmp_path / "a.nii"), dim=dim))
    assert volume.array.shape == (channels, *dim[1:4])
    stored = VOXELS.ravel(order="F").reshape((*dim[1:4], channels), order="F")
    assert np.array_equal(np.moveaxis(volume.array, 0, -1), stored)
    assert read_grid(tmp_path / "a.nii") == (channels, volume.grid)


@pytest.mark.parametrize(
    "dim", [(3, 4, 0, 6), (3, 4, -5, 6), (4, 4, 5, 3, -2), (6, 4, 5, 1, 2, 3, 1), (1, 4), (3, 0, 5, 6)]
)
def test_an_image_without_voxels_is_refused(tmp_path: Path, dim: tuple[int, ...]) -> None:
    """Sizes of 0 along spatial axes, negative sizes, one axis, and two further axes."""
    for read in (read_volume, read_grid):
        with pytest.raises(GeometryError, match=r"^a\.nii: expected 2"):
            read(edit(save(tmp_path / "a.nii"), dim=dim))


@pytest.mark.parametrize("excess", [6e-7, 1e-5, 5e-4])
def test_a_rounded_quaternion_is_made_a_unit_one(tmp_path: Path, excess: float) -> None:
    """A half turn whose stored square sum exceeds 1 is the same half turn; ITK takes it too."""
    b, c = np.sqrt((1 + excess) * 0.64), np.sqrt((1 + excess) * 0.36)
    path = edit(save(tmp_path / "a.nii"), sform_code=0, quatern_b=b, quatern_c=c, quatern_d=0)
    matrix = read_volume(path).grid.matrix
    expected = np.array([[0.28, 0.96, 0], [0.96, -0.28, 0], [0, 0, -1]]) * (0.8, 1.25, 3)
    assert np.allclose(matrix[:3, :3], expected, atol=1e-5)
    direction = np.array(sitk.ReadImage(str(path)).GetDirection()).reshape(3, 3)
    assert np.allclose(direction * [[-1], [-1], [1]], matrix[:3, :3] / (0.8, 1.25, 3), atol=1e-5)


def test_a_quaternion_that_is_none_is_refused(tmp_path: Path) -> None:
    """A square sum of 1.5 is no rounding."""
    path = edit(save(tmp_path / "a.nii"), sform_code=0, quatern_b=1.2, quatern_c=0.25)
    with pytest.raises(GeometryError, match=r"^a\.nii: the qform is invalid"):
        read_volume(path)


def test_an_empty_sform_gives_way_to_the_qform(tmp_path: Path) -> None:
    """Twelve zeros are no affine, whatever code stands beside them; without a qform the file is refused."""
    empty = {"srow_x": 0, "srow_y": 0, "srow_z": 0}
    volume = read_volume(edit(save(tmp_path / "a.nii"), **empty))
    assert np.allclose(volume.grid.matrix, AFFINE)
    assert volume.notes == ("the header's sform is all zero; the qform is taken",)
    with pytest.raises(GeometryError, match="no qform"):
        read_volume(edit(tmp_path / "a.nii", qform_code=0))


UNUSABLE_SFORMS = {
    "an offset alone": (np.diag([0.0, 0, 0, 1]) + np.eye(4, k=3), "an axis without length"),
    "NaN": (AFFINE * np.where(np.eye(4, k=1), np.nan, 1), "not finite"),
    "infinity": (np.where(np.eye(4, k=3), np.inf, AFFINE), "not finite"),
    "no second column": (AFFINE * (1, 0, 1, 1), "an axis without length"),
    "two equal columns": (AFFINE[:, [0, 0, 2, 3]], "two that run the same way"),
}


@pytest.mark.parametrize("kind", UNUSABLE_SFORMS)
def test_an_unusable_sform_gives_way_to_the_qform(tmp_path: Path, kind: str) -> None:
    """Whatever makes it no affine is noted; without a qform the error names the sform."""
    affine, fault = UNUSABLE_SFORMS[kind]
    rows = {f"srow_{name}": tuple(row) for name, row in zip("xyz", affine, strict=False)}
    volume = read_volume(edit(save(tmp_path / "a.nii"), **rows))
    assert np.allclose(volume.grid.matrix, AFFINE)
    (note,) = volume.notes
    assert note.startswith("the header's sform ")
    assert fault in note
    assert note.endswith("; the qform is taken")
    with pytest.raises(GeometryError, match=rf"^a\.nii: the sform .*{fault}.*, and there is no qform"):
        read_volume(edit(tmp_path / "a.nii", qform_code=0))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("stated", [2.5, 0])
def test_a_flat_axis_without_direction_runs_along_the_normal(tmp_path: Path, axis: int, stated: float) -> None:
    """One slice needs no column of the sform: its axis is the normal of the others, as long as pixdim says, or 1 mm."""
    voxels = VOXELS.take([0], axis=axis)
    affine = AFFINE.copy()
    affine[:3, axis] = 0
    save(tmp_path / "a.nii", voxels)
    pixdim = [1, 0.8, 1.25, 3.0]
    pixdim[1 + axis] = stated
    rows = {f"srow_{name}": tuple(row) for name, row in zip("xyz", affine, strict=False)}
    volume = read_volume(edit(tmp_path / "a.nii", pixdim=tuple(pixdim), qform_code=0, **rows))
    expected = AFFINE.copy()
    expected[:3, axis] = np.eye(3)[axis] * (stated or 1)
    assert np.allclose(volume.grid.matrix, expected)
    assert np.array_equal(volume.array[0], voxels)
    write_labels(tmp_path / "b.nii", voxels, volume.grid, {})
    assert read_grid(tmp_path / "b.nii")[1].difference_mm(volume.grid) < 1e-5


def test_a_flat_picture_of_two_axes_needs_no_third_column(tmp_path: Path) -> None:
    """Two axes say nothing about a third."""
    path = save(tmp_path / "a.nii", VOXELS[..., 0])
    affine = AFFINE.copy()
    affine[:3, 2] = 0
    rows = {f"srow_{name}": tuple(row) for name, row in zip("xyz", affine, strict=False)}
    grid = read_volume(edit(path, **rows)).grid
    assert np.allclose(grid.matrix, AFFINE)


def test_a_contradiction_of_sform_and_spacing_is_noted(tmp_path: Path) -> None:
    """The sform is taken, as nibabel does; that its voxels are others than pixdim's is said with both."""
    path = edit(save(tmp_path / "a.nii"), pixdim=(1, 0.8, 1.25, 5.0))
    volume = read_volume(path)
    assert np.allclose(volume.grid.matrix, nib.load(path).affine)
    assert "0.8 x 1.25 x 3" in volume.notes[0]
    assert "0.8 x 1.25 x 5" in volume.notes[0]


def test_a_contradiction_of_sform_and_qform_is_noted_where_both_mean_one_space(tmp_path: Path) -> None:
    """Two places in the scanner's space contradict each other; a template's space beside the scanner's does not."""
    path = edit(save(tmp_path / "a.nii"), qoffset_x=-28)
    volume = read_volume(path)
    assert np.allclose(volume.grid.matrix, AFFINE)
    assert volume.notes == ("the header's sform and qform lie up to 10 voxels apart; the sform is taken",)
    assert read_volume(edit(path, sform_code=4)).notes == ()
    assert read_volume(edit(path, sform_code=1, qoffset_x=-20.1)).notes == ()


@pytest.mark.parametrize("codes", [(0, 1), (0, 0), (0, 7), (9, 0)])
def test_negative_spacing_and_odd_codes_mean_what_nifti_says(tmp_path: Path, codes: tuple[int, int]) -> None:
    """A voxel's size has no sign, any positive code means that a form is there, and only the sign of qfac counts."""
    good = read_volume(edit(save(tmp_path / "a.nii"), sform_code=min(codes[0], 1), qform_code=min(codes[1], 1))).grid
    path = edit(save(tmp_path / "b.nii"), sform_code=codes[0], qform_code=codes[1], pixdim=(0.5, -0.8, 1.25, -3.0))
    volume = read_volume(path)
    assert np.allclose(volume.grid.matrix, good.matrix)
    left = read_volume(edit(path, pixdim=(-0.5,))).grid.matrix
    assert np.allclose(left[:3, 2], good.matrix[:3, 2] * (-1 if codes[1] else 1))


@pytest.mark.parametrize("code", [2, 1001, 1002, 1007, 2003, -5, 30000])
def test_intents_change_nothing(tmp_path: Path, code: int) -> None:
    """What values are meant for, known or not, does not change them."""
    volume = read_volume(edit(save(tmp_path / "a.nii"), intent_code=code, intent_p1=3))
    assert np.array_equal(volume.array[0], VOXELS)


def test_a_scale_without_intercept_is_refused_and_colours_have_none(tmp_path: Path) -> None:
    """NaN as intercept of a valid slope makes every value NaN; a scale beside colours has no meaning."""
    with pytest.raises(ImageFileError, match=r"^a\.nii: bad header: scl_slope is 2, but scl_inter is nan"):
        read_volume(edit(save(tmp_path / "a.nii"), scl_slope=2, scl_inter=np.nan))
    colours = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    save(tmp_path / "c.nii", colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0])
    assert np.array_equal(read_volume(edit(tmp_path / "c.nii", scl_slope=2)).array, np.moveaxis(colours, -1, 0))


def test_a_header_of_two_files_is_refused(tmp_path: Path) -> None:
    """The voxels of a pair are elsewhere; its header under the name of a single file, and ANALYZE's, are named."""
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), tmp_path / "a.hdr")
    (tmp_path / "b.nii").write_bytes((tmp_path / "a.hdr").read_bytes())
    with pytest.raises(ImageFileError, match=r"^b\.nii: .* pair of files"):
        read_volume(tmp_path / "b.nii")
    with pytest.raises(ImageFileError, match=r"^c\.nii: .*ANALYZE"):
        read_volume(edit(save(tmp_path / "c.nii"), magic=b""))


def test_a_transfer_as_text_is_noticed(tmp_path: Path) -> None:
    """NIfTI-2 has line ends in its magic string, which such a transfer changes."""
    raw = save(tmp_path / "a.nii", kind=nib.Nifti2Image).read_bytes()
    (tmp_path / "a.nii").write_bytes(raw[:8] + b"\n\n\x1a\n" + raw[12:])
    with pytest.raises(ImageFileError, match="as if it were text"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.filterwarnings("error")
def test_any_damage_to_a_header_is_one_line(
    tmp_path: Path, kind: type, damage: Callable[[Path, int, int], None]
) -> None:
    """Bytes of the header exchanged for others give a volume or one line with the file's name, never another error."""
    damage(save(tmp_path / "a.nii", kind=kind), 400, 600)


def test_a_grid_in_a_unit_that_nifti_lacks_is_written_in_mm(tmp_path: Path) -> None:
    """Nanometres and centimetres have no code, and a picture without lengths has the unknown unit."""
    for unit, name in (("nm", "mm"), ("cm", "mm"), ("voxel", "unknown")):
        write_labels(tmp_path / "a.nii", VOXELS, Grid.of(VOXELS.shape, AFFINE, unit), {})  # type: ignore[arg-type]  # a str
        assert nib.load(tmp_path / "a.nii").header.get_xyzt_units()[0] == name
        assert np.allclose(nib.load(tmp_path / "a.nii").affine, AFFINE)
