"""Small files that claim to be huge are refused by a stated limit, before memory is taken for them."""

import gzip
import json
import resource
import struct
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from unetpipe.bundle.read import read_bundle
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.dataset.layouts.recognition import inspect_dataset
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.errors import DatasetError, PlanError, UnetpipeError
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_grid, read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_volume
from unetpipe.imaging.size_limit import reading_at_most
from unetpipe.inference.inputs import find_inputs
from unetpipe.stages.evaluate import evaluate
from unetpipe.stages.preprocess import preprocess

SIDE = 50_000
MB = 2**20
GRID = Grid.of((9, 8, 4), np.diag([-0.7, -0.9, 2.5, 1.0]))
Bomb = Callable[[Path], Path]


@contextmanager
def little_memory(megabytes: int = 100) -> Iterator[None]:
    """See that no more memory is set aside by Python and numpy, and none taken by libraries in C."""
    unit = 1 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * MB
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < 2 * megabytes * MB


def _nifti2(folder: Path, name: str = "scan.nii", side: int = SIDE) -> Path:
    header = nib.Nifti2Header()
    header.set_data_dtype(np.int16)
    header["dim"][:4] = 3, side, side, side
    header["magic"], header["vox_offset"] = header.single_magic, 544
    header.set_sform(np.eye(4), 1)
    content = header.binaryblock + bytes(1000 - 540)
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


def _endless(folder: Path) -> Path:
    """A gzip stream of 100 kB that goes on for 100 MB after a volume of 64 voxels."""
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), folder / "scan.nii")
    content = (folder / "scan.nii").read_bytes() + bytes(100 * MB)
    (folder / "scan.nii.gz").write_bytes(gzip.compress(content, 1))
    return folder / "scan.nii.gz"


def _metaimage(folder: Path, size: int = SIDE, data: bytes = zlib.compress(bytes(500))) -> Path:
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "CompressedData": True,
        "ElementSpacing": "1 1 1",
        "DimSize": f"{size} {size} {size}",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    text = "".join(f"{name} = {value}\n" for name, value in fields.items())
    (folder / "scan.mha").write_bytes(text.encode() + data)
    return folder / "scan.mha"


def _nrrd(folder: Path, encoding: str) -> Path:
    text = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {SIDE} {SIDE} {SIDE}\nendian: little\nencoding: {encoding}\n\n"
    (folder / "scan.nrrd").write_bytes(text.encode() + gzip.compress(bytes(500)))
    return folder / "scan.nrrd"


def _png(folder: Path) -> Path:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "scan.png")
    content = bytearray((folder / "scan.png").read_bytes())
    struct.pack_into(">2I", content, 16, SIDE, SIDE)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    (folder / "scan.png").write_bytes(content)
    return folder / "scan.png"


def _tiff(folder: Path, pages: int = 1, side: int = SIDE) -> Path:
    tifffile.imwrite(folder / "scan.tif", np.zeros((pages, 4, 4), np.uint8), compression="zlib")
    with tifffile.TiffFile(folder / "scan.tif", mode="r+b") as file:
        for page in file.pages:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                page.tags[name].overwrite(side)
    return folder / "scan.tif"


def _dicom(folder: Path, change: Callable[[pydicom.Dataset], object]) -> Path:
    write_series(folder / "series", np.zeros(GRID.shape, np.int16), GRID, seed=3)
    for file in (folder / "series").iterdir():
        data = pydicom.dcmread(file)
        change(data)
        data.save_as(file)
    return folder / "series"


def _rows(data: pydicom.Dataset) -> None:
    data.Rows = data.Columns = 65_535


def _less_rows(data: pydicom.Dataset) -> None:
    data.Rows = data.Columns = 20_000


def _frames(data: pydicom.Dataset) -> None:
    data.NumberOfFrames = 2**31 - 1


def _codestream(data: pydicom.Dataset) -> None:
    """A picture in JPEG 2000 that is larger than its file says."""
    data.Rows, data.Columns = 40, 45
    data.PixelData = np.zeros((40, 45), np.int16).tobytes()
    data.compress(JPEG2000Lossless, generate_instance_uid=False)
    stream = bytearray(next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1)))
    struct.pack_into(">2I", stream, 8, 60_000, 60_000)
    data.PixelData = encapsulate([bytes(stream)])


def _deflated(data: pydicom.Dataset) -> None:
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.add_new(0x00091010, "OB", bytes(80 * MB))
    data.add_new(0x00090010, "LO", "X")


def _zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        series = _dicom(folder, lambda data: setattr(data, "PixelData", bytes(80 * MB)))
        for file in series.iterdir():
            archive.write(file, file.name)
            break
    return folder / "study.zip"


BOMBS: dict[str, tuple[Bomb, str]] = {
    "NIfTI of 50,000³": (_nifti2, r"scan.nii: 50000 x 50000 x 50000 voxels are more than the .* --max-voxels"),
    "compressed NIfTI of 50,000³": (lambda f: _nifti2(f, "scan.nii.gz"), "--max-voxels"),
    "NIfTI of less than the limit": (lambda f: _nifti2(f, side=1000), "1000 bytes cannot hold"),
    "gzip without end": (_endless, "scan.nii.gz: the file goes on for more than 64 MiB behind its voxels"),
    "MetaImage of 50,000³": (_metaimage, "--max-voxels"),
    "MetaImage of a longer stream": (
        lambda f: _metaimage(f, 4, zlib.compress(bytes(100 * MB), 1)),
        "more voxels are compressed than its header says",
    ),
    "NRRD of 50,000³": (lambda f: _nrrd(f, "raw"), "--max-voxels"),
    "compressed NRRD of 50,000³": (lambda f: _nrrd(f, "gzip"), "--max-voxels"),
    "NRRD in text of 50,000³": (lambda f: _nrrd(f, "ascii"), "--max-voxels"),
    "PNG of 50,000²": (_png, "50000 x 50000 pixels; at most"),
    "TIFF of 50,000²": (_tiff, "50000 x 50000 pixels; at most"),
    "TIFF of large pages": (lambda f: _tiff(f, 8, 16_000), r"bytes cannot hold|--max-voxels"),
    "DICOM of false rows": (lambda f: _dicom(f, _rows), "DICOM series: 65535 x 65535 x 1 voxels .* --max-voxels"),
    "DICOM of rows below the limit": (lambda f: _dicom(f, _less_rows), r"--max-voxels|cannot be decoded"),
    "DICOM of false frames": (lambda f: _dicom(f, _frames), "MULTIFRAME"),
    "JPEG 2000 of another size": (lambda f: _dicom(f, _codestream), "the header says"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_memory_is_taken(bomb: str, tmp_path: Path) -> None:
    """As an image and as a label, in one line that says what was found and which limit there is."""
    make, message = BOMBS[bomb]
    path = make(tmp_path)
    assert bomb != "NIfTI of 50,000³" or path.stat().st_size == 1000
    for read in (read_volume, read_label_volume):
        with little_memory(), pytest.raises(UnetpipeError, match=message) as caught:
            read(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("make", [lambda f: _dicom(f, _deflated), _zipped], ids=["deflated", "in a zip"])
def test_what_unpacks_to_more_than_an_image_is_refused(make: Bomb, tmp_path: Path) -> None:
    """A deflated file, or a member of a zip: the bytes of the largest image that may be read are the limit."""
    path = make(tmp_path)
    with little_memory(), reading_at_most(1000), pytest.raises(UnetpipeError, match=r"damaged|--max-voxels"):
        read_volume(path)


def test_the_limit_is_an_option(tmp_path: Path) -> None:
    """It counts channels, holds for images and labels, and is what a run says for as long as the run lasts."""
    array = np.zeros((5, 4, 3, 2), np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "scan.nii")
    with reading_at_most(array.size):
        assert read_volume(tmp_path / "scan.nii").array.shape == (2, 5, 4, 3)
    for read in (read_volume, read_grid):
        with (
            reading_at_most(array.size - 1),
            pytest.raises(UnetpipeError, match=r"^scan.nii: 5 x 4 x 3 x 2 channels voxels are more than the 119 that"),
        ):
            read(tmp_path / "scan.nii")
    read_volume(tmp_path / "scan.nii")


def test_stages_name_the_case_that_is_too_large(balls: Path, tmp_path: Path) -> None:
    """`preprocess` lists each one and writes nothing; `evaluate` refuses too."""
    with pytest.raises(DatasetError, match=r"20 x 20 x 20 voxels are more than the 7,999 that --max-voxels") as caught:
        preprocess(PreprocessConfig(dataset=balls, out=tmp_path / "work", max_voxels=7999))
    assert "ball_0" in str(caught.value)
    assert not (tmp_path / "work").exists()
    labels = balls / "labelsTr"
    with pytest.raises(DatasetError, match="--max-voxels"):
        evaluate(EvaluateConfig(predictions=(labels,), reference=labels, out=tmp_path / "out", max_voxels=7999))


def test_a_zip_of_a_million_members_is_refused(tmp_path: Path) -> None:
    """As a study, as scans and as a model, before the list of its members is read."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    listing = entry * 1_000_000
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(listing), 0, 0)
    path = tmp_path / "study.zip"
    path.write_bytes(listing + end)
    del listing
    for read in (read_volume, read_bundle, lambda one: find_inputs([one], ["image"], scratch=tmp_path)):
        with little_memory(), pytest.raises(UnetpipeError, match=r"lists more files|holds no DICOM"):
            read(path)


PLANS = {
    "nested": ("[" * 5000, "nested deeper"),
    "of aliases": (
        "\n".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}' if n else '1'] * 9)}]" for n in range(9)),
        "aliases",
    ),
    "of itself": ("default: &a [*a]", "part of"),
    "long": ("a: " + "x" * 2**19, "more than the 262,144 that are read"),
    "no text": ("\0", "is not YAML"),
    "a long number": ("default: " + "9" * 10_000, "is not YAML"),
}


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_that_is_no_plan_is_one_line(plan: str, tmp_path: Path) -> None:
    """Depth, aliases and size are refused before the parser takes them on."""
    text, message = PLANS[plan]
    (tmp_path / "plan.yaml").write_text(text)
    with little_memory(), pytest.raises(PlanError, match=message) as caught:
        read_plan(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["cases.csv", "cases.json"])
def test_a_list_without_end_is_refused(name: str, tmp_path: Path) -> None:
    """By its size, before it is read."""
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**30)
    with little_memory(), pytest.raises(DatasetError, match="of a list that is read"):
        inspect_dataset(tmp_path / name)


def test_a_list_of_lists_is_refused(tmp_path: Path) -> None:
    """Depth comes to one line, too."""
    (tmp_path / "cases.json").write_text("[" * 10**6)
    with little_memory(), pytest.raises(DatasetError, match="not valid JSON"):
        inspect_dataset(tmp_path / "cases.json")
    (tmp_path / "cases.json").write_text(json.dumps([{"image": "a" * 10**6}]))
    with pytest.raises(DatasetError):
        inspect_dataset(tmp_path / "cases.json")
