"""What is the same image to a person is the same to the package, however two files store it.

`make fuzz` tries each property on thousands of examples, the suite on a few.
"""

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import from_matvec, voxel_sizes
from nibabel.eulerangles import euler2mat
from numpy.typing import NDArray

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.evaluation.pairing import gather_inputs
from unetpipe.evaluation.scoring import score_all
from unetpipe.imaging.alignment import aligned
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.geometry import Grid, orientation_to_ras
from unetpipe.imaging.image import read_image
from unetpipe.imaging.labels import read_label_volume
from unetpipe.imaging.network_input import CroppedImage, network_image, network_label
from unetpipe.imaging.preprocessing import ChannelNormalization, Preprocessing
from unetpipe.progress import SilentProgress
from unetpipe.stages.evaluate import evaluate

EXAMPLES = settings(
    max_examples=int(os.environ.get("UNETPIPE_EXAMPLES", "40")),
    derandomize="UNETPIPE_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NIFTI_UNITS = {"unknown": (0, 1.0), "meter": (1, 1e-3), "mm": (2, 1.0), "micron": (3, 1e3)}
"""Code of each unit in `xyzt_units`, and how many of it are a millimetre."""
ITK_UNITS = {"m": 1e-3, "cm": 0.1, "mm": 1.0, "um": 1e3}
"""How many of each unit that MetaImage and NRRD state are a millimetre."""
DICOM = ""
"""Suffix of a folder with a series."""


@dataclass(frozen=True)
class Truth:
    """An image as a person thinks of it.

    Attributes:
        values: Whole numbers that every type of file holds, shape (I, J, K).
        labels: 0, 1 or 2 of each voxel.
        affine: Voxel to RAS+ millimetres.
    """

    values: NDArray[np.int16]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Storage:
    """A way to store an array.

    Attributes:
        order, flips: Order of the stored axes, and which of them run backwards.
        suffix: Format of the file, or of the folder of a DICOM series.
        dtype: Type of the stored numbers.
        scaled: Whether a slope and an intercept, of NIfTI or DICOM, stand between stored numbers and values.
        unit: Unit of the spacing.
        codes: NIfTI's qform and sform codes.
        trailing: Number of further axes of size 1.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    suffix: str
    dtype: str
    scaled: bool = False
    unit: Literal["unknown", "meter", "mm", "micron", "m", "cm", "um"] = "mm"
    codes: tuple[int, int] = (0, 1)
    trailing: int = 0

    def write(self, folder: Path, name: str, array: NDArray[Any], affine: NDArray[np.float64]) -> Path:
        """Write an array that has these axes and this affine in the way of this storage."""
        array, affine = self._turned(array, affine)
        path = folder / f"{name}{self.suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        if ".nii" in self.suffix:
            self._write_nifti(path, array, affine)
        elif self.suffix == DICOM:
            self._write_dicom(path, array, affine)
        else:
            _write_itk(path, array.astype(self.dtype), affine, self.unit)
        return path

    def _write_dicom(self, path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
        """A series whose slices lie along the last axis; a reader may reverse them."""
        stored = (array.astype(np.int16) + 3) * 2 if self.scaled else array.astype(np.int16)
        write_series(path, stored, Grid.of(array.shape, affine), seed=1)
        for file in path.iterdir() if self.scaled else ():
            image = pydicom.dcmread(file)
            image.RescaleSlope, image.RescaleIntercept = "0.5", "-3"
            image.save_as(file)

    def _turned(self, array: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The array with its axes in another order and direction, and the affine that keeps every voxel in place."""
        step = np.zeros((4, 4))
        step[3, 3] = 1
        shape = [array.shape[axis] for axis in self.order]
        for new, (old, back) in enumerate(zip(self.order, self.flips, strict=True)):
            step[old, new] = -1 if back else 1
            step[old, 3] = shape[new] - 1 if back else 0
        turned = array.transpose(self.order)
        turned = np.flip(turned, [axis for axis, back in enumerate(self.flips) if back])
        return np.ascontiguousarray(turned), affine @ step

    def _write_nifti(self, path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
        """Header and numbers as they are: nibabel would choose its own slope and intercept."""
        code, of_a_mm = NIFTI_UNITS[self.unit]
        slope, inter = (0.5, -3.0) if self.scaled else (1.0, 0.0)
        stored = ((array.astype(np.float64) - inter) / slope).astype(self.dtype)
        scaled = from_matvec(affine[:3, :3] * of_a_mm, affine[:3, 3] * of_a_mm)
        endianness = "<" if stored.dtype.byteorder in "=|<" else ">"
        header = nib.Nifti1Header(endianness=endianness)
        header.set_data_dtype(stored.dtype)
        header.set_data_shape((*stored.shape, *(1,) * self.trailing))
        header.set_qform(scaled, self.codes[0])
        header.set_sform(scaled, self.codes[1])
        header["pixdim"][1:4] = voxel_sizes(scaled)
        header["xyzt_units"] = code
        header["vox_offset"] = 352
        header["scl_slope"], header["scl_inter"] = (slope, inter) if self.scaled else (0, 0)
        whole = header.binaryblock + bytes(4) + stored.tobytes(order="F")
        path.write_bytes(gzip.compress(whole, 1) if path.suffix == ".gz" else whole)


def _write_itk(path: Path, array: NDArray[Any], affine: NDArray[np.float64], unit: str) -> None:
    image = SimpleITK.GetImageFromArray(array.T)
    physical = LPS @ affine
    spacing = voxel_sizes(physical)
    image.SetSpacing((spacing * ITK_UNITS[unit]).tolist())
    image.SetOrigin((physical[:3, 3] * ITK_UNITS[unit]).tolist())
    image.SetDirection((physical[:3, :3] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=bool(array.shape[0] % 2))
    if unit != "mm":  # ITK states none
        mark = b"ElementSpacing =" if path.suffix in (".mha", ".mhd") else b"space directions:"
        stated = b"DistanceUnits = %b\n" if path.suffix in (".mha", ".mhd") else b'space units: "%b" "%b" "%b"\n'
        stated %= (unit.encode(),) * stated.count(b"%b")
        path.write_bytes(path.read_bytes().replace(mark, stated + mark, 1))


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    """Images of a few voxels, anywhere and turned by up to 40 degrees about each axis."""
    shape = draw(st.tuples(*[st.integers(2, 9)] * 3))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    values = random.integers(3, 120, shape).astype(np.int16)
    labels = random.choice(np.array([0, 0, 1, 2], np.uint8), shape)
    labels[0, 0, 0] = 1
    spacing = draw(st.tuples(*[st.sampled_from([0.01, 0.5, 1.0, 1.5, 7.0])] * 3))
    angles = draw(st.tuples(*[st.sampled_from([0.0, 0.0, 0.1, -0.4, 0.68])] * 3))
    turned = euler2mat(*angles) if sum(map(bool, angles)) < 2 else euler2mat(angles[0] / 2, 0, angles[2] / 2)
    origin = draw(st.tuples(*[st.sampled_from([0.0, -120.5, 33.0])] * 3))
    return Truth(values, labels, from_matvec(turned @ np.diag(spacing), origin))


@st.composite
def storages(draw: st.DrawFn, *, dicom: bool = False) -> Storage:
    """Ways to store numbers from 0 to 126, in files and, where it may be so, as a DICOM series."""
    order = draw(st.permutations((0, 1, 2)))
    flips = draw(st.tuples(*[st.booleans()] * 3))
    suffixes = [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"]
    suffix = draw(st.sampled_from([*suffixes, DICOM] if dicom else suffixes))
    nifti, scaled = ".nii" in suffix, draw(st.booleans())
    types = ["u1", "i1", "<i2", "<u2", "<i4", "<u4", "<f4", "<f8"] + ([">i2", ">f4", "<i8", "<u8"] if nifti else [])
    dtype = draw(st.sampled_from(types))
    if suffix == DICOM:
        return Storage(tuple(order), flips, suffix, "<i2", scaled=scaled)
    if not nifti:
        return Storage(tuple(order), flips, suffix, dtype, unit=draw(st.sampled_from(sorted(ITK_UNITS))))
    return Storage(
        tuple(order),
        flips,
        suffix,
        dtype if dtype not in ("u1", "i1") or not scaled else "<i2",
        scaled=scaled,
        unit=draw(st.sampled_from(["unknown", "meter", "mm", "micron"])),
        codes=draw(st.sampled_from([(0, 1), (1, 0), (1, 1), (0, 2), (1, 4)])),
        trailing=draw(st.integers(0, 2)),
    )


PREPROCESSING = Preprocessing(
    spacing_mm=(1.0, 0.8, 1.2), interpolation=("cubic",) * 3, normalization=(ChannelNormalization(scheme="zscore"),)
)


def spec_of(grid: Grid) -> Preprocessing:
    """Target voxels of about the image's own size along each axis."""
    factors = (1.0, 1.3, 0.9)
    spacing = tuple(size * factor for size, factor in zip(grid.spacing_mm, factors, strict=True))
    return PREPROCESSING.model_copy(update={"spacing_mm": spacing})


@EXAMPLES
@given(truths(), storages(dicom=True), storages(dicom=True), storages(), storages())
def test_two_files_of_one_image_give_one_network_input(
    truth: Truth, one: Storage, other: Storage, label_of_one: Storage, label_of_other: Storage
) -> None:
    """The arrays that training sees do not depend on axis order, format, type, scaling, unit or header."""
    arrays = []
    with TemporaryDirectory() as name:
        for folder, storage, label_storage in (
            (Path(name) / "a", one, label_of_one),
            (Path(name) / "b", other, label_of_other),
        ):
            image = read_image([storage.write(folder, "image", truth.values, truth.affine)])
            label = read_label_volume(label_storage.write(folder, "label", truth.labels, truth.affine))
            cropped = CroppedImage(image, spec_of(image.grid))
            on_image = aligned(label, image.source).array[0]
            classes = network_label(orientation_to_ras(image.source).to_ras(on_image), cropped, (0, 1, 2), None)
            arrays.append((network_image(image, spec_of(image.grid)).values.numpy(), classes.numpy()))
    (first, first_classes), (second, second_classes) = arrays
    assert first.shape == second.shape
    np.testing.assert_allclose(first, second, atol=2e-3)
    assert (first_classes != second_classes).mean() < 0.002  # a tie of two classes, decided by rounding


@EXAMPLES
@given(truths(), storages(), storages())
def test_a_label_is_where_its_image_is(truth: Truth, image: Storage, label: Storage) -> None:
    """Read on the image's grid, each label voxel lies on the image voxel that it was drawn on."""
    with TemporaryDirectory() as folder:
        scan = read_image([image.write(Path(folder), "image", truth.values, truth.affine)])
        volume = read_label_volume(label.write(Path(folder) / "labels", "label", truth.labels, truth.affine))
        marked = read_image([label.write(Path(folder) / "marks", "image", truth.labels, truth.affine)])
    assert scan.grid.shape == marked.grid.shape
    assert sorted(zip(scan.channels[0].ravel().tolist(), marked.channels[0].ravel().tolist(), strict=True)) == sorted(
        zip(truth.values.ravel().tolist(), truth.labels.ravel().tolist(), strict=True)
    )
    assert np.bincount(volume.array.ravel()).tolist() == np.bincount(truth.labels.ravel()).tolist()


@EXAMPLES
@given(truths(), storages(), storages())
def test_metrics_do_not_depend_on_how_files_are_stored(truth: Truth, one: Storage, other: Storage) -> None:
    """Dice 1 of what is the same, the volume that the spacing gives, and the same scores of what is not the same."""
    moved = np.roll(truth.labels, 1, axis=0)
    with TemporaryDirectory() as name:
        same = _compared(Path(name) / "same", truth, one, other, truth.labels)
        result = evaluate(same)
        rows = (same.out / "metrics.csv").read_text().splitlines()
        first = _scores(_compared(Path(name) / "a", truth, one, other, moved))
        second = _scores(_compared(Path(name) / "b", truth, other, one, moved))
    assert all(row.dice == 1 and row.hd95_mm == 0 for row in result.classes)
    voxel_ml = abs(np.linalg.det(truth.affine)) / 1000
    reference_ml = float(rows[1].split(",")[-3])
    np.testing.assert_allclose(reference_ml, (truth.labels == 1).sum() * voxel_ml, rtol=1e-4)
    assert first.keys() == second.keys()
    for value, ours in first.items():
        for metric, score in ours.items():
            np.testing.assert_allclose(score, second[value][metric], rtol=1e-4, err_msg=metric)


def _compared(
    folder: Path, truth: Truth, reference: Storage, prediction: Storage, predicted: NDArray[np.uint8]
) -> EvaluateConfig:
    """Labels and a prediction, each stored in its way, to be evaluated."""
    reference.write(folder / "reference", "case", truth.labels, truth.affine)
    prediction.write(folder / "prediction", "case", predicted, truth.affine)
    return EvaluateConfig(
        predictions=(folder / "prediction",),
        reference=folder / "reference",
        out=folder / "out",
        report=False,
        workers=1,
    )


def _scores(config: EvaluateConfig) -> dict[int, dict[str, float]]:
    """Metrics of each class by its value."""
    scored = score_all(gather_inputs(config), config, (), 1, SilentProgress())
    return {score.value: score.metrics() for scores in scored.scores.values() for score in scores}
