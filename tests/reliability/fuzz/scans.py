"""Targets: files of scans and labels, of every format that is read."""

import io
import zipfile
from pathlib import Path

import mutators
import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
import tifffile
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from target import Target, each, of_tests

from unetpipe.imaging.dicom.label_target import LabelTarget
from unetpipe.imaging.dicom.listing import list_volumes
from unetpipe.imaging.dicom.options import DicomOptions
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import files_of, is_image, read_grid, read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_names, read_label_volume

AFFINE = np.diag([-1.0, 1.5, 2.0, 1.0])
GRID = Grid.of((9, 8, 6), np.diag([-0.7, -0.9, 2.5, 1.0]))
CHOICES = (DicomOptions(), DicomOptions(fix_geometry=True), DicomOptions(series="Modality=MR", phase=1))


def voxels(dtype: str = "<i2") -> np.ndarray:
    """A small array without symmetry, (I, J, K)."""
    return np.random.default_rng(1).integers(0, 3, GRID.shape).astype(dtype)


def read_file(_folder: Path, changed: Path, _out: Path) -> None:
    """Everything that reads one file."""
    each(
        lambda: is_image(changed) and files_of(changed),
        lambda: read_grid(changed),
        lambda: read_volume(changed),
        lambda: read_label_volume(changed),
        lambda: read_label_names(changed),
    )


def read_header(folder: Path, changed: Path, out: Path) -> None:
    """A header that names a file of voxels, and either of the two damaged."""
    header = next((one for one in (changed.with_suffix(".mhd"), changed.with_suffix(".nhdr")) if one.exists()), changed)
    read_file(folder, header, out)


def make_nifti(folder: Path) -> None:
    """Both versions, both byte orders, scaled, in colour and with channels."""
    for name, kind, dtype in (
        ("a", nib.Nifti1Image, "<i2"),
        ("b", nib.Nifti2Image, "<f4"),
        ("c", nib.Nifti1Image, "u1"),
    ):
        nib.save(kind(voxels(dtype), AFFINE), folder / f"{name}.nii")
    scaled = nib.Nifti1Image(voxels(), AFFINE)
    scaled.header.set_slope_inter(0.5, -3)
    nib.save(scaled, folder / "d.nii")
    header = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image(voxels(), AFFINE, header), folder / "e.nii")
    nib.save(nib.Nifti1Image(np.stack([voxels()] * 2, -1), AFFINE), folder / "f.nii")
    colours = voxels("u1")[..., None].repeat(3, -1).copy().view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nib.save(nib.Nifti1Image(colours, AFFINE), folder / "g.nii")


def make_gzip(folder: Path) -> None:
    """Compressed files, one of them with extensions."""
    image = nib.Nifti1Image(voxels("f4"), AFFINE)
    nib.save(image, folder / "a.nii.gz")
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b'{"labels": {"1": "liver"}}'))
    nib.save(image, folder / "b.nii.gz")


def make_pair(folder: Path) -> None:
    """The two files of one image."""
    nib.save(nib.Nifti1Pair(voxels(), AFFINE), folder / "a.hdr")


def make_itk(*suffixes: str):
    """Plain and compressed files, one of vectors, and a segmentation by 3D Slicer."""

    def make(folder: Path) -> None:
        image, vectors = (
            SimpleITK.GetImageFromArray(voxels().T),
            SimpleITK.GetImageFromArray(np.stack([voxels().T] * 2, -1), isVector=True),
        )
        for suffix in suffixes:
            for compressed in (False, True):
                SimpleITK.WriteImage(image, str(folder / f"{'c' if compressed else 'p'}{suffix}"), compressed)
            SimpleITK.WriteImage(vectors, str(folder / f"v{suffix}"), True)
        if ".nrrd" in suffixes:
            for key, value in {
                "ID": "s",
                "Name": "liver",
                "LabelValue": "1",
                "Layer": "0",
                "Extent": "0 8 0 7 0 5",
            }.items():
                image.SetMetaData(f"Segment0_{key}", value)
            SimpleITK.WriteImage(image, str(folder / "s.seg.nrrd"), True)

    return make


def make_pictures(folder: Path) -> None:
    """Every colour mode of PNG that is read, and JPEG."""
    grey = (voxels("u1")[:, :, 0] * 80).T
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = (
            Image.fromarray(grey.astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(grey).convert(mode)
        )
        picture.save(folder / f"{mode.replace(';', '')}.png")
    for mode in ("L", "RGB", "CMYK"):
        Image.fromarray(grey).convert(mode).save(folder / f"{mode}.jpg")


def make_tiff(folder: Path) -> None:
    """Single pictures and stacks, plain, compressed, tiled, with a palette, in OME's and ImageJ's form."""
    stack = voxels("u1").T * 80
    tifffile.imwrite(folder / "plain.tif", stack[0])
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "zstd", "jpeg"):
        Image.fromarray(stack[0].repeat(2, 0)).save(folder / f"{compression}.tif", compression=compression)
    tifffile.imwrite(folder / "tiles.tif", stack[0], tile=(16, 16))
    tifffile.imwrite(folder / "ome.ome.tif", stack, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5})
    tifffile.imwrite(folder / "imagej.tif", stack.astype(np.uint16), imagej=True, metadata={"spacing": 2, "unit": "um"})
    tifffile.imwrite(
        folder / "rgb.tif", np.stack([stack[0]] * 3, -1), photometric="rgb", predictor=2, compression="zlib"
    )
    Image.fromarray(stack[0]).convert("P").save(folder / "palette.tif")
    Image.fromarray(stack[0] > 80).save(folder / "group4.tif", compression="group4")
    tifffile.imwrite(folder / "big.tif", stack, bigtiff=True)


def make_series(folder: Path) -> None:
    """A series of six slices, and a second one beside it."""
    write_series(folder / "study" / "one", voxels(), GRID, seed=3)
    write_series(folder / "study" / "two", voxels(), GRID, modality="CT", seed=4)


def read_series(folder: Path, changed: Path, _out: Path) -> None:
    """The series of the damaged file, and the tree that both lie in."""
    series = changed.parent
    each(
        lambda: list_volumes(folder / "study"),
        lambda: read_grid(series),
        *(lambda choice=choice: read_volume(series, choice) for choice in CHOICES),
        lambda: read_volume(changed),
    )


def make_files(folder: Path) -> None:
    """Single files: enhanced multi-frame, a mosaic of Siemens', and every way to compress that is written here."""
    conftest = of_tests("imaging/dicom/conftest.py")
    write_series(folder / "enhanced", voxels(), GRID, seed=3)
    conftest.SeriesFolder(folder / "enhanced").make_enhanced()
    large = np.tile(voxels(), (5, 5, 1))[:, :, :1]  # JPEG 2000 halves pictures five times
    write_series(folder / "plain", large, Grid.of(large.shape, GRID.matrix), seed=3)
    plain = pydicom.dcmread(next((folder / "plain").iterdir()))
    for name, syntax in (("rle", RLELossless), ("j2k", JPEG2000Lossless), ("jls", JPEGLSLossless)):
        copy = pydicom.dcmread(next((folder / "plain").iterdir()))
        copy.compress(syntax, generate_instance_uid=False)
        copy.save_as(folder / f"{name}.dcm")
    plain.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    plain.save_as(folder / "deflated.dcm")
    _write_jpegs(folder, next((folder / "plain").iterdir()), large[:, :, 0].T.astype(np.uint8))


def _write_jpegs(folder: Path, plain: Path, pixels: np.ndarray) -> None:
    """JPEG with loss, and without by ITK, in files that say where they lie."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, JPEGLosslessSV1

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    image = SimpleITK.GetImageFromArray(pixels[None])
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.SetFileName(str(folder / "itk.dcm"))
    writer.Execute(image)
    lossless = pydicom.dcmread(folder / "itk.dcm")
    (folder / "itk.dcm").unlink()
    for name, syntax, encoded in (
        ("jpeg", JPEGBaseline8Bit, encapsulate([stream.getvalue()])),
        ("lossless", JPEGLosslessSV1, lossless.PixelData),
    ):
        data = pydicom.dcmread(plain)
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = encoded
        data["PixelData"].is_undefined_length = True
        data.save_as(folder / f"{name}.dcm")


def read_dicom_file(_folder: Path, changed: Path, _out: Path) -> None:
    """One file that is a source of its own."""
    each(
        lambda: list_volumes(changed),
        *(lambda choice=choice: read_volume(changed, choice) for choice in CHOICES),
        lambda: read_label_volume(changed),
    )


def make_segmentations(folder: Path) -> None:
    """Segmentations of every kind and a structure set, drawn on a series."""
    segmentations = of_tests("imaging/dicom/test_segmentations.py")
    write_series(folder / "image", voxels(), GRID, seed=3)
    grid = read_grid(folder / "image")[1]
    labels = segmentations.frames(segmentations.label_map(grid))
    for kind in ("BINARY", "LABELMAP", "FRACTIONAL"):
        pixels = labels if kind != "FRACTIONAL" else (labels == 1).astype(np.float32)
        try:
            segmentations.write_segmentation(folder / "image", folder / f"{kind}.dcm", pixels, kind)
        except (ValueError, TypeError):  # another number of segments than a fraction has
            continue
    square = segmentations.square(2, 6)
    segmentations.structure_set(
        folder / "rtstruct.dcm", grid, {"liver": [(1, square), (2, square)], "tumour": [(3, square)]}
    )


def read_segmentation(folder: Path, changed: Path, _out: Path) -> None:
    """A segmentation on its own grid, and drawn into classes on the image's."""
    grid = read_grid(folder / "image")[1]
    classes = {frozenset([name]): value for value, name in enumerate(("liver", "left kidney", "tumour"), start=1)}
    each(
        lambda: read_label_volume(changed),
        lambda: read_label_volume(changed, LabelTarget(grid, classes)),
        lambda: read_label_volume(changed, LabelTarget(grid, {})),
    )


def make_zip(folder: Path) -> None:
    """A zip of a study, and one of files of other formats."""
    make_series(folder / "files")
    make_gzip(folder / "files")
    for name, pattern in (("study.zip", "study/*/*"), ("scans.zip", "*.nii.gz")):
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((folder / "files").glob(pattern)):
                archive.write(file, file.relative_to(folder / "files"))


def read_zip(_folder: Path, changed: Path, out: Path) -> None:
    """A zip as `infer` takes it, and as a source of DICOM."""
    from unetpipe.inference.inputs import find_inputs

    def read_scans() -> None:
        for case in find_inputs([changed], ["image"], scratch=out):
            each(*(lambda path=path, choice=choice: read_volume(path, choice) for path, choice in _sources(case)))

    each(read_scans, lambda: list_volumes(changed))


def _sources(case) -> list:
    return [(path, (case.dicom or [None] * len(case.paths))[index]) for index, path in enumerate(case.paths)]


def _member(name: str) -> mutators.Mutator:
    return mutators.dicom if name.endswith(".dcm") else mutators.gzipped(mutators.nifti)


_NRRD = mutators.after_header(b"\n\n")
_META = mutators.after_header(b"ElementDataFile = LOCAL\n")
TARGETS = (
    Target("NIfTI", make_nifti, {"*.nii": mutators.nifti}, read_file, 2),
    Target("NIfTI in gzip", make_gzip, {"*.nii.gz": mutators.gzipped(mutators.nifti)}, read_file, 2),
    Target("NIfTI pairs", make_pair, {"*.hdr": mutators.nifti, "*.img": mutators.any_bytes}, read_file, 0.5),
    Target("MetaImage", make_itk(".mha"), {"*.mha": _META}, read_file),
    Target("NRRD", make_itk(".nrrd"), {"*.nrrd": _NRRD}, read_file),
    Target(
        "MHD and NHDR",
        make_itk(".mhd", ".nhdr"),
        {"*.?hd*": mutators.any_text, "*raw*": mutators.any_bytes},
        read_header,
    ),
    Target("PNG and JPEG", make_pictures, {"*.png": mutators.png, "*.jpg": mutators.any_bytes}, read_file, 1.5),
    Target("TIFF", make_tiff, {"*.tif": mutators.tiff}, read_file, 1.5),
    Target("DICOM series", make_series, {"study/*/*.dcm": mutators.dicom}, read_series, 2),
    Target("DICOM files", make_files, {"**/*.dcm": mutators.dicom}, read_dicom_file, 2),
    Target("DICOM SEG and RTSTRUCT", make_segmentations, {"*.dcm": mutators.dicom}, read_segmentation, 2),
    Target("zips of scans", make_zip, {"*.zip": mutators.zipped(_member)}, read_zip),
)
