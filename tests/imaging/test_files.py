"""One volume in and out, whatever its format."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - as its documentation has it
from numpy.typing import NDArray

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import files_of, is_image, read_grid, read_volume, strip_suffix, write_image, write_labels
from unetpipe.imaging.geometry import Grid

FORMATS = [".nii", ".nii.gz", ".mha", ".nrrd"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_labels_keep_grid_and_axis_order(tmp_path: Path, oriented_grid: Grid, suffix: str) -> None:
    """Written and read back: same values, same axis order, the same affine to 1e-6 of its own size."""
    labels = np.random.default_rng(0).integers(0, 4, oriented_grid.shape)
    path = tmp_path / f"a{suffix}"
    write_labels(path, labels, oriented_grid, {1: "liver", 2: "spleen", 3: "aorta"})
    volume = read_volume(path)
    assert np.array_equal(volume.array[0], labels)
    assert np.allclose(volume.grid.matrix, oriented_grid.matrix, rtol=1e-6, atol=1e-6)
    assert read_grid(path) == (1, volume.grid)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_nibabel_and_simpleitk_agree_on_what_was_written(tmp_path: Path, oriented_grid: Grid, suffix: str) -> None:
    """Both see the same value at the same place in the patient, for every axis order."""
    array = np.arange(np.prod(oriented_grid.shape), dtype=np.float32).reshape(1, *oriented_grid.shape)
    path = tmp_path / f"a{suffix}"
    write_image(path, array, oriented_grid)
    theirs = sitk.ReadImage(str(path))
    for voxel in ((0, 0, 0), (4, 1, 2), (3, 5, 6)):
        place = (oriented_grid.matrix @ (*voxel, 1))[:3]
        assert np.allclose(theirs.TransformIndexToPhysicalPoint(voxel), place * (-1, -1, 1), atol=1e-4)
        assert theirs[voxel] == array[(0, *voxel)]
    if suffix == ".nii.gz":
        image = nib.load(path)
        assert np.allclose(image.affine, oriented_grid.matrix, atol=1e-5)
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        assert np.array_equal(np.asarray(image.dataobj), array[0])


def test_an_sform_survives_to_the_last_bit(tmp_path: Path, oblique: Grid) -> None:
    """The affine of a file that came as NIfTI goes back as it was: both are float32."""
    nib.save(nib.Nifti1Image(np.zeros(oblique.shape, np.uint8), oblique.matrix), tmp_path / "source.nii.gz")
    _, source = read_grid(tmp_path / "source.nii.gz")
    write_labels(tmp_path / "labels.nii.gz", np.zeros(source.shape, np.uint8), source, {})
    assert read_grid(tmp_path / "labels.nii.gz")[1] == source


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((0, 255), np.uint8),
        ((0, 256), np.uint16),
        ((-1, 3), np.int16),
        ((0, 65536), np.int32),
        ((-1, 2**31), np.int64),
    ],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_labels_take_the_smallest_type(tmp_path: Path, values: tuple[int, int], kind: type, suffix: str) -> None:
    """The stored integer type holds the values and is no larger."""
    labels = np.array(values, np.int64).reshape(2, 1, 1)
    path = tmp_path / f"a{suffix}"
    write_labels(path, labels, Grid.of((2, 1, 1), np.eye(4)), {})
    assert read_volume(path).array.dtype == kind
    assert np.array_equal(read_volume(path).array[0], labels)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16, np.bool_])
def test_images_of_several_channels_come_back(
    tmp_path: Path, oblique: Grid, voxels: Callable[[Grid], NDArray[np.int16]], suffix: str, kind: type
) -> None:
    """Channel for channel; half precision as float32 and truth values as 0 and 1."""
    array = np.stack([voxels(oblique), voxels(oblique) // 2]).astype(kind)
    write_image(tmp_path / f"a{suffix}", array, oblique)
    volume = read_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(volume.array, array)
    assert volume.array.dtype == {np.float16: np.float32, np.bool_: np.uint8}.get(kind, kind)


@pytest.mark.parametrize("suffix", [*FORMATS, ".png", ".tif"])
def test_a_picture_comes_back(tmp_path: Path, suffix: str) -> None:
    """Two axes stay two in every format."""
    labels, grid = np.arange(12).reshape(4, 3), Grid.of((4, 3), np.eye(4), "voxel" if suffix == ".png" else "mm")
    write_labels(tmp_path / f"a{suffix}", labels, grid, {})
    volume = read_volume(tmp_path / f"a{suffix}")
    assert volume.grid == grid
    assert np.array_equal(volume.array[0], labels)


def test_a_wrong_shape_is_refused_before_anything_is_written(tmp_path: Path, oblique: Grid) -> None:
    """Labels and images must have the grid's shape."""
    with pytest.raises(GeometryError, match="do not fit"):
        write_labels(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8), oblique, {})
    with pytest.raises(GeometryError, match="does not fit"):
        write_image(tmp_path / "a.nii", np.zeros((1, 2, 2, 2), np.uint8), oblique)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, oblique: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """The previous labels stay, and no temporary file."""
    path = tmp_path / "a.nii.gz"
    write_labels(path, np.ones(oblique.shape, np.uint8), oblique, {})
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_stream", fail)
    with pytest.raises(ImageFileError, match=r"^a\.nii\.gz: cannot be written \(No space left on device\)$"):
        write_labels(path, np.zeros(oblique.shape, np.uint8), oblique, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.b.NII.GZ", "a.b"),
        ("a.nii", "a"),
        ("a_0000.mha", "a_0000"),
        ("a.png", "a"),
        ("a.gz", "a.gz"),
        ("case.1", "case.1"),
    ],
)
def test_suffixes_are_stripped(name: str, stem: str) -> None:
    """Known suffixes only, in either case."""
    assert strip_suffix(name) == stem


def test_what_is_an_image(tmp_path: Path, oblique: Grid) -> None:
    """Files by suffix; folders by DICOM content."""
    (tmp_path / "a.nrrd").touch()
    (tmp_path / "notes.txt").write_text("not an image, but longer than a DICOM preamble " * 10)
    assert is_image(tmp_path / "a.nrrd")
    assert not is_image(tmp_path / "missing.nii")
    assert not is_image(tmp_path / "notes.txt")
    assert not is_image(tmp_path)
    write_series(tmp_path / "series", np.zeros(oblique.shape, np.int16), oblique, seed=0)
    assert is_image(tmp_path / "series")


@pytest.mark.parametrize("name", ["missing.nii.gz", "notes.txt", "a.nii.gz.part"])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """Missing files and unknown formats."""
    if not name.startswith("missing"):
        (tmp_path / name).write_text("x")
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=f"^{name}: (no such file|unknown format)"):
            read(tmp_path / name)


def test_reading_nifti_needs_no_torch() -> None:
    """Scoring and checking must start fast: neither torch, monai nor SimpleITK is imported."""
    code = "import sys, unetpipe.imaging.files, unetpipe.imaging.formats.nifti; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "monai", "SimpleITK"} & set(names)


EVERY = [".nii", ".nii.gz", ".mha", ".nrrd", ".seg.nrrd", ".png", ".tif", ".ome.tif"]


@pytest.mark.parametrize("suffix", EVERY)
def test_a_link_counts_under_its_own_name(tmp_path: Path, suffix: str) -> None:
    """Stores that address files by content (Hugging Face, DVC, git-annex) keep them without any suffix."""
    labels = np.arange(12).reshape(4, 3) if suffix == ".png" else np.arange(24).reshape(4, 3, 2)
    write_labels(tmp_path / f"a{suffix}", labels, Grid.of(labels.shape, np.eye(4)), {})
    expected = read_volume(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(tmp_path / ("0a1b" * 16))
    (tmp_path / f"a{suffix}").symlink_to("0a1b" * 16)
    volume = read_volume(tmp_path / f"a{suffix}")
    assert np.array_equal(volume.array, expected.array)
    assert read_grid(tmp_path / f"a{suffix}")[1] == expected.grid
    assert is_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", EVERY)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "a link to a file that is not there; was it fetched?"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 1\n", "a Git LFS pointer, .* not fetched"),
        (b"/annex/objects/SHA256E-s1--0a\n", "a git-annex pointer, .* not fetched"),
        (b"<!DOCTYPE html><html>Sign in</html>", "holds a web page, not "),
    ],
    ids=["link", "lfs", "annex", "html"],
)
def test_what_was_not_fetched_is_said(tmp_path: Path, suffix: str, content: bytes | None, reason: str) -> None:
    """A broken link, and the small files that stores and servers leave in place of large ones."""
    path = tmp_path / f"a{suffix}"
    if content is None:
        path.symlink_to("0a1b" * 16)
    else:
        path.write_bytes(content)
    for read in (read_volume, read_grid):
        with pytest.raises(ImageFileError, match=rf"^a{suffix}: .*{reason}"):
            read(path)


@pytest.mark.parametrize("suffix", EVERY)
@pytest.mark.parametrize("other", [*EVERY, ".jpg"])
def test_content_of_another_format_is_named(tmp_path: Path, suffix: str, other: str) -> None:
    """A file that holds something else than its suffix says is one line with both."""
    image = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    write_image(tmp_path / f"b{other}", image, Grid.of((4, 3), np.eye(4), "voxel"))
    (tmp_path / f"b{other}").rename(tmp_path / f"a{suffix}")
    same = {"seg.nrrd": "nrrd", "ome.tif": "tif"}
    kinds = [same.get(one.lstrip("."), one.lstrip(".")) for one in (suffix, other)]
    if kinds[0] == kinds[1]:
        assert np.array_equal(read_volume(tmp_path / f"a{suffix}").array, image)
        return
    reason = {("nii", "nii.gz"): "is compressed: call it .nii.gz", ("nii.gz", "nii"): "is not compressed: call it .nii"}
    with pytest.raises(ImageFileError, match=rf"^a{suffix}: {reason.get((kinds[0], kinds[1]), 'holds ')}"):
        read_volume(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["a.hdr", "a.img", "a.IMG.gz"])
def test_nifti_in_two_files_is_refused(tmp_path: Path, name: str) -> None:
    """With what to do about it."""
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ImageFileError, match=rf"^{name}: NIfTI and ANALYZE in two files .* convert to .nii.gz"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("suffix", [*EVERY, ".jpg"])
def test_suffixes_may_be_in_capitals(tmp_path: Path, suffix: str) -> None:
    """Windows and old scanners write them so."""
    image = np.arange(12, dtype=np.uint8).reshape(1, 4, 3)
    write_image(tmp_path / f"a{suffix.upper()}", image, Grid.of((4, 3), np.eye(4), "voxel"))
    assert read_volume(tmp_path / f"a{suffix.upper()}").array.shape == image.shape
    assert read_grid(tmp_path / f"a{suffix.upper()}")[0] == 1
    assert strip_suffix(f"a{suffix.upper()}") == "a"


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_header_knows_the_files_of_its_voxels(tmp_path: Path, suffix: str) -> None:
    """What is remembered of a file must be forgotten when its voxels change, also where they are in another file."""
    sitk.WriteImage(sitk.Image(3, 4, 5, sitk.sitkInt16), str(tmp_path / f"a{suffix}"))
    (data,) = set(tmp_path.iterdir()) - {tmp_path / f"a{suffix}"}
    assert files_of(tmp_path / f"a{suffix}") == [tmp_path / f"a{suffix}", data]
    data.unlink()
    assert files_of(tmp_path / f"a{suffix}") == [tmp_path / f"a{suffix}"]
    (tmp_path / f"a{suffix}").write_text("damaged")
    assert files_of(tmp_path / f"a{suffix}") == [tmp_path / f"a{suffix}"]


@pytest.mark.parametrize("listed", [True, False])
def test_a_header_of_many_files_has_all_of_its_folder(tmp_path: Path, listed: bool) -> None:
    """A file for each slice, listed or numbered: which ones they are is not worked out."""
    sitk.WriteImage(sitk.Image(3, 4, 2, sitk.sitkUInt8), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    for number in (1, 2):
        (tmp_path / f"s{number}.raw").write_bytes(bytes([number] * 12))
    named = "LIST\ns1.raw\ns2.raw\n" if listed else "s%d.raw 1 2 1\n"
    text = (tmp_path / "a.mhd").read_text().replace("a.raw\n", named)
    (tmp_path / "a.mhd").write_text(text)
    assert files_of(tmp_path / "a.mhd") == [tmp_path / name for name in ("a.mhd", "s1.raw", "s2.raw")]
    assert np.array_equal(read_volume(tmp_path / "a.mhd").array[0, 0, 0], [1, 2])
