"""NIfTI, with nibabel as the oracle."""

import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.files import read_grid, read_volume, write_image
from unetpipe.imaging.formats import nifti
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume

KINDS = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_voxels_and_affine_are_nibabels(tmp_path: Path, oblique: Grid, kind: type, suffix: str) -> None:
    """Every stored type comes back as it is, with nibabel's affine."""
    array = (np.random.default_rng(0).random(oblique.shape) * 100).astype(kind)
    path = tmp_path / f"a{suffix}"
    nib.save(nib.Nifti1Image(array, oblique.matrix, dtype=kind), path)
    volume = read_volume(path)
    assert volume.array.dtype == kind
    assert np.array_equal(volume.array[0], array)
    assert np.array_equal(volume.grid.matrix, nib.load(path).affine)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
def test_byte_order_and_version_do_not_matter(tmp_path: Path, order: str, image_class: type, oblique: Grid) -> None:
    """Both versions, both byte orders; arrays come in the machine's."""
    array = np.arange(np.prod(oblique.shape), dtype=np.int16).reshape(oblique.shape)
    header = image_class.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    path = tmp_path / "a.nii.gz"
    nib.save(image_class(array, oblique.matrix, header), path)
    volume = read_volume(path)
    assert np.array_equal(volume.array[0], array)
    assert volume.array.dtype.isnative
    assert np.array_equal(volume.grid.matrix, nib.load(path).affine)


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, -1024.0), (0.37, 5.0), (1.0, 3.0)])
def test_scaling_is_applied(tmp_path: Path, slope: float, intercept: float) -> None:
    """Integers stored with a slope come out as nibabel scales them, to float32's precision."""
    stored = np.random.default_rng(0).integers(-3000, 3000, (5, 6, 7)).astype(np.int16)
    image = nib.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(slope, intercept)
    path = tmp_path / "a.nii"
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[352:] = stored.tobytes(order="F")  # nibabel rescales on saving: put the stored values back
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(raw)
    array = read_volume(path).array[0]
    assert array.dtype == np.float32
    assert np.allclose(array, nib.load(path).get_fdata(), rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 7.0), (np.nan, 0.0), (1.0, 0.0)])
def test_no_slope_means_no_scaling(tmp_path: Path, slope: float, intercept: float) -> None:
    """A slope of 0 or NaN means that values are as stored, and their type stays."""
    stored = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(stored, np.eye(4)), path)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(raw)
    assert np.array_equal(read_volume(path).array[0], stored)
    assert read_volume(path).array.dtype == np.int16


@pytest.mark.parametrize("highest", [2, 7, 200])
def test_labels_that_a_slope_rounds_are_whole(tmp_path: Path, highest: int) -> None:
    """A mask of real numbers saved with the header of a CT is stored as multiples of a tiny slope."""
    labels = np.random.default_rng(0).integers(0, highest + 1, (5, 6, 7))
    header = nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.eye(4)).header
    nib.save(nib.Nifti1Image(labels.astype(np.float64), np.eye(4), header), tmp_path / "a.nii")
    assert not np.array_equal(read_volume(tmp_path / "a.nii").array[0], labels)
    volume = read_label_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.array[0], labels)
    assert volume.notes == ("labels are stored by a slope; whole numbers are taken",)


@pytest.mark.parametrize(("slope", "stored"), [(1 / 255, [0, 127, 255]), (0.5, [0, 1, 2]), (0.009, [0, 55, 111])])
def test_fractions_are_not_made_whole(tmp_path: Path, slope: float, stored: list[int]) -> None:
    """Probabilities in 255ths are no label map, nor is what a coarser slope keeps apart."""
    image = nib.Nifti1Image(np.array(stored, np.uint8).reshape(3, 1, 1), np.eye(4))
    nib.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([slope, 0], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(ImageFileError, match="whole numbers, got 0"):
        read_label_volume(tmp_path / "a.nii")


def test_the_sform_wins_and_the_qform_follows(tmp_path: Path, oblique: Grid) -> None:
    """The sform where it has a code, else qform, else nibabel's base affine."""
    array = np.zeros(oblique.shape, np.uint8)
    image = nib.Nifti1Image(array, None)
    image.header.set_zooms((1, 2, 3))
    image.set_qform(oblique.matrix, code=1)
    path = tmp_path / "a.nii"
    for sform_code, qform_code in ((2, 1), (0, 1), (0, 0)):
        image.set_sform(np.diag([2.0, 3, 4, 1]), code=sform_code)
        image.header["qform_code"] = qform_code
        image.to_filename(path)
        assert np.array_equal(read_volume(path).grid.matrix, nib.load(path).affine)
        assert read_grid(path) == (1, read_volume(path).grid)


@pytest.mark.parametrize(
    ("shape", "channels", "spatial"),
    [
        ((4, 5, 6), 1, (4, 5, 6)),
        ((4, 5, 6, 1), 1, (4, 5, 6)),
        ((4, 5, 6, 3), 3, (4, 5, 6)),
        ((4, 5, 6, 1, 2), 2, (4, 5, 6)),
        ((4, 5), 1, (4, 5)),
        ((4, 5, 1), 1, (4, 5, 1)),
    ],
)
def test_the_last_of_four_axes_is_the_channels(
    tmp_path: Path, shape: tuple[int, ...], channels: int, spatial: tuple[int, ...]
) -> None:
    """Shape in the file, channels and spatial shape; ITK's fifth axis counts too."""
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    volume = read_volume(path)
    assert volume.array.shape == (channels, *spatial)
    assert np.array_equal(volume.array[-1], array.reshape(*spatial, channels)[..., -1])
    assert read_grid(path) == (channels, volume.grid)


def test_colour_voxels_are_three_channels(tmp_path: Path) -> None:
    """RGB as one structured voxel type gives red, green, blue."""
    array = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
    structured = array.copy().view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nib.save(nib.Nifti1Image(structured, np.eye(4)), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.array, np.moveaxis(array, -1, 0))
    assert read_grid(tmp_path / "a.nii")[0] == 3


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    """Nothing sensible can be done with them."""
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.complex64), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ImageFileError, match=r"a\.nii: complex"):
        read_volume(tmp_path / "a.nii")


@pytest.mark.parametrize("affine", [np.diag([0.0, 1, 1, 1]), np.array([[1.0, 2, 0, 0]] * 3 + [[0, 0, 0, 1]])])
def test_an_unusable_affine_names_the_file(tmp_path: Path, affine: np.ndarray) -> None:
    """Zero spacing and parallel axes are a GeometryError that tells which file it is, and not where it lies."""
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header["qform_code"] = 0
    image.header["sform_code"] = 2
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
    path = tmp_path / "a.nii"
    with path.open("wb") as file:
        file.write(image.header.binaryblock + bytes(4) + bytes(8))
    for read in (read_volume, read_grid):
        with pytest.raises(GeometryError, match=r"^a\.nii: ") as caught:
            read(path)
        assert str(tmp_path) not in str(caught.value)


def test_a_spacing_of_zero_in_the_qform_is_refused(tmp_path: Path) -> None:
    """Where the sform does not say otherwise; nibabel would silently take 1 mm."""
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    for sform_code, refused in ((0, True), (1, False)):
        image.header["sform_code"], image.header["qform_code"] = sform_code, 1
        image.header["pixdim"][3] = 0
        (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(4) + bytes(8))
        if refused:
            with pytest.raises(GeometryError, match=r"^a\.nii: voxel spacing must be positive"):
                read_volume(tmp_path / "a.nii")
        else:
            assert read_grid(tmp_path / "a.nii")[1].spacing_mm == (1, 1, 1)


@pytest.mark.parametrize(("offset", "value"), [(70, 1), (70, 9999), (42, 30000), (42, -5), (40, 0), (40, 8)])
def test_a_header_with_nonsense_in_it_is_named(tmp_path: Path, offset: int, value: int) -> None:
    """Unknown voxel types, sizes that no file could hold, negative sizes, impossible numbers of axes."""
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[offset : offset + 2] = np.int16(value).tobytes()
    raw[44:48] = np.array([30000, 30000], np.int16).tobytes() if value == 30000 else raw[44:48]
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises((ImageFileError, GeometryError), match=r"^a\.nii: "):
        read_volume(tmp_path / "a.nii")


def test_a_file_without_permission_does_not_tell_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system's message holds the whole path; ours does not."""
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(nifti.igzip, "open", refuse)
    with pytest.raises(ImageFileError, match=r"Permission denied\)$") as caught:
        read_volume(path)
    assert str(tmp_path) not in str(caught.value)


def damaged(raw: bytes) -> dict[str, bytes]:
    """Ways in which a file can be broken."""
    middle = len(raw) // 2
    return {
        "empty": b"",
        "a few bytes": raw[:10],
        "cut inside": raw[:middle],
        "cut at the end": raw[:-9],
        "text": b"this is no image at all\n" * 40,
        "zeros": bytes(1000),
    }


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", damaged(b""))
def test_damage_is_named_with_the_file_and_without_its_folder(tmp_path: Path, suffix: str, kind: str) -> None:
    """Whatever is wrong with a file, it is an ImageFileError with the file's name in it."""
    good = tmp_path / f"good{suffix}"
    array = np.random.default_rng(0).integers(0, 1000, (20, 20, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4)), good)
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(damaged(good.read_bytes())[kind])
    with pytest.raises(ImageFileError, match=r"^bad\.nii") as caught:
        read_volume(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_flipped_bit_in_compressed_voxels_is_noticed(tmp_path: Path) -> None:
    """Gzip's checksum is looked at, although all voxels are there before it."""
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).integers(0, 9, (30, 30, 30)).astype(np.uint8), np.eye(4)), path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(ImageFileError, match="damaged"):
        read_volume(path)


def test_the_grid_is_read_from_the_first_bytes(tmp_path: Path) -> None:
    """`read_grid` needs no more of a compressed file than its start."""
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((60, 60, 60)), np.diag([1.0, 2, 3, 1])), path)
    path.write_bytes(path.read_bytes()[: 1 << 16])
    assert read_grid(path)[1].spacing_mm == (1, 2, 3)


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    """Parallel compressors write a file in pieces."""
    array = np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype(np.uint8)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    raw = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw[:3000]) + gzip.compress(raw[3000:]))
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").array[0], array)


def test_a_sheared_affine_is_written_without_a_qform(tmp_path: Path) -> None:
    """A quaternion cannot hold shear, so only the sform is written, and it is exact to float32."""
    affine = np.array([[1, 0.2, 0, 5], [0, 1.5, 0.3, -6], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    path = tmp_path / "a.nii.gz"
    write_image(path, np.zeros((1, 3, 4, 5), np.float32), Grid.of((3, 4, 5), affine))
    assert nib.load(path).header["qform_code"] == 0
    assert np.allclose(read_volume(path).grid.matrix, affine, rtol=1e-7, atol=1e-6)


def test_the_same_labels_give_the_same_bytes(tmp_path: Path, oblique: Grid) -> None:
    """No time stamp and no file name in the compressed file."""
    for name in ("a.nii.gz", "b.nii.gz"):
        nifti.write(tmp_path / name, np.ones((1, *oblique.shape), np.uint8), oblique, {1: "liver"})
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_labels_are_compressed_by_zlib(tmp_path: Path) -> None:
    """Whose bytes follow from the labels alone; ISA-L's parse of the same labels differed once in thousands."""
    labels = np.random.default_rng(0).integers(0, 3, (1, 30, 20, 10), dtype=np.uint8)
    nifti.write(tmp_path / "a.nii.gz", labels, Grid.of((30, 20, 10), np.eye(4)))
    packed = (tmp_path / "a.nii.gz").read_bytes()
    compressor = zlib.compressobj(1, wbits=31)
    body = compressor.compress(gzip.decompress(packed)) + compressor.flush()
    assert packed[10:] == body[10:]  # behind the header of gzip


def test_class_names_are_in_a_header_comment(tmp_path: Path, oblique: Grid) -> None:
    """Any reader shows them as a comment extension; the voxels are not moved by it."""
    array = np.arange(np.prod(oblique.shape), dtype=np.int16).reshape(oblique.shape)
    nifti.write(tmp_path / "a.nii.gz", array[None], oblique, {0: "background", 5: "rein gauche é"})
    image = nib.load(tmp_path / "a.nii.gz")
    assert "rein gauche é".encode() in image.header.extensions[0].get_content()
    assert np.array_equal(np.asarray(image.dataobj), array)


def test_a_picture_of_several_channels_is_refused(tmp_path: Path) -> None:
    """NIfTI would take the channels for slices."""
    with pytest.raises(ImageFileError, match="2-D images of 3 channels"):
        write_image(tmp_path / "a.nii", np.zeros((3, 4, 5), np.float32), Grid.of((4, 5), np.eye(4)))


def test_a_real_scan_is_read_as_nibabel_reads_it(shared_data: Path) -> None:
    """Task04's first case: voxels and affine."""
    path = shared_data / "Task04_Hippocampus" / "imagesTr" / "hippocampus_004.nii.gz"
    volume, theirs = read_volume(path), nib.load(path)
    assert np.array_equal(volume.array[0], np.asarray(theirs.dataobj))
    assert np.array_equal(volume.grid.matrix, theirs.affine)
