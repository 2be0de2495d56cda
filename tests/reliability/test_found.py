"""What damaged inputs once did, each in its smallest form: none of them may do so again."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
import torch
from torch import nn

from unetpipe.cli.options import ConfigError, _read_yaml
from unetpipe.cluster.config import SubmitConfig
from unetpipe.cluster.profiles import resources_for
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.dataset.folds import Fold, Folds
from unetpipe.dataset.planning.plan import read_plan
from unetpipe.dataset.store import CaseStore, stored_key
from unetpipe.documents import write_if_changed
from unetpipe.errors import BundleError, ComponentError, Fault, ImageFileError, PlanError, UnetpipeError
from unetpipe.imaging.dicom.listing import list_volumes
from unetpipe.imaging.dicom.sources import DicomFile, is_dicom
from unetpipe.imaging.dicom.synthetic import write_series
from unetpipe.imaging.files import read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.inference.ensemble import Ensemble
from unetpipe.inference.inputs import find_inputs, read_list
from unetpipe.networks.summary import summarize_network
from unetpipe.service.rules import read_rules
from unetpipe.stages.preprocess import preprocess

GRID = Grid.of((9, 8, 4), np.diag([-0.7, -0.9, 2.5, 1.0]))
NRRD = b"NRRD0004\ntype: short\ndimension: 3\n%ssizes: 2 2 2\nendian: little\nencoding: raw\n\n" + bytes(16)
MHA = (
    b"ObjectType = Image\nNDims = 3\n%sElementSpacing = 1 1 1\nDimSize = 2 2 2\nElementType = MET_SHORT\n"
    b"ElementDataFile = LOCAL\n" + bytes(16)
)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A series of four slices."""
    write_series(tmp_path / "series", np.zeros(GRID.shape, np.int16), GRID, seed=3)
    return tmp_path / "series"


@pytest.mark.parametrize("line", [b"[" * 5000, b"kinds: " + b"x" * 5000, b"x" * 5000 + b": 1"])
def test_a_long_line_of_nrrd_does_not_end_the_process(line: bytes, tmp_path: Path) -> None:
    """ITK's reader of NRRD writes such a line past the end of a buffer when it quotes it in a message."""
    (tmp_path / "scan.nrrd").write_bytes(NRRD % (line + b"\n"))
    with pytest.raises(ImageFileError, match=r"scan.nrrd: bad header: a line has 50\d\d characters"):
        read_volume(tmp_path / "scan.nrrd")


def test_long_lines_that_nobody_parses_are_read(tmp_path: Path) -> None:
    """Comments and values of keys may be as long as they like."""
    (tmp_path / "scan.nrrd").write_bytes(NRRD % (b"#" + b"x" * 5000 + b"\nkey:=" + b"x" * 5000 + b"\n"))
    assert read_volume(tmp_path / "scan.nrrd").array.shape == (1, 2, 2, 2)
    (tmp_path / "scan.mha").write_bytes(MHA % (b"labels = " + b"x" * 5000 + b"\n"))
    assert read_volume(tmp_path / "scan.mha").array.shape == (1, 2, 2, 2)


def test_metaimage_prints_nothing_of_its_own(tmp_path: Path) -> None:
    """A line that ends MetaIO's reading of the header is refused before MetaIO reports it on standard error."""
    (tmp_path / "scan.mha").write_bytes(MHA % (b"Comment = " + b"x" * 5000 + b"\n"))
    program = "import sys; from pathlib import Path; from unetpipe.imaging.files import read_volume\n"
    program += "try:\n read_volume(Path(sys.argv[1]))\nexcept Exception as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "scan.mha")], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout == "scan.mha: bad header: a line has 5011 characters, expected at most 400\n"


def test_an_element_of_gigabytes_sets_no_memory_aside(series: Path) -> None:
    """A file gives at most as many bytes as it has, whatever length is stated."""
    file = next(series.iterdir())
    with DicomFile(file).open() as stream:
        assert len(stream.read(2**40)) == file.stat().st_size


def test_control_characters_of_a_header_are_escaped(series: Path) -> None:
    """What a terminal would obey is printed as text."""
    for file in series.iterdir():
        data = pydicom.dcmread(file)
        data.Modality = "\x1b[2J"
        data.SeriesDescription = "a\x1b[31mb"
        data.save_as(file)
    _, rows = list_volumes(series)
    assert rows[0].modality == "\\x1b[2J"
    assert rows[0].description == "a\\x1b[31mb"


@pytest.mark.parametrize("text", ["day: !!timestamp 2026-99-99", "number: " + "9" * 5000, "[" * 3000])
def test_yaml_that_no_value_can_be_made_of_is_one_line(text: str, tmp_path: Path) -> None:
    """A date that is none, a number without end and endless depth, in every file that a person writes."""
    (tmp_path / "file.yaml").write_text(text)
    for read in (
        lambda: _read_yaml(tmp_path / "file.yaml"),
        lambda: read_rules(tmp_path / "file.yaml"),
        lambda: resources_for("train", SubmitConfig(profiles=tmp_path / "file.yaml", command=("train",))),
    ):
        with pytest.raises((ConfigError, UnetpipeError), match=r"is not YAML|is nested deeper"):
            read()


def test_messages_stay_on_their_lines() -> None:
    """Errors of the package and faults of cases can be printed whatever they quote, and end."""
    assert str(UnetpipeError("a\x1b[2J\nb\r")) == "a\\x1b[2J\nb\\r"
    assert str(Fault(case="a\nb", kind="k", message="c\0d")) == "a\\nb: c\\x00d"
    assert len(str(UnetpipeError("x" * 10**6))) < 2100


def test_a_zip_that_ends_early_is_damaged(tmp_path: Path) -> None:
    """Also where its list of members is whole, and a member is not."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", bytes(500))
    content = bytearray(stream.getvalue())
    content[content.index(b"PK\1\2") + 20 : content.index(b"PK\1\2") + 28] = b"\xff\xff\xff\0" * 2
    (tmp_path / "study.zip").write_bytes(content)
    assert not is_dicom(tmp_path / "study.zip")
    with pytest.raises(UnetpipeError, match="zip"):
        find_inputs([tmp_path / "study.zip"], ["image"], scratch=tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "ab\0c"])
def test_names_that_no_file_can_have_are_missing(name: str, tmp_path: Path) -> None:
    """In a list of scans and in a table of cases."""
    (tmp_path / "scans.txt").write_text(f"{name}\n")
    (tmp_path / "cases.csv").write_text(f"image,label\n{name},{name}\n")
    for read in (
        lambda: find_inputs(read_list(tmp_path / "scans.txt"), ["image"], scratch=tmp_path),
        lambda: preprocess(PreprocessConfig(dataset=tmp_path / "cases.csv", check=True)),
    ):
        with pytest.raises(UnetpipeError, match="cannot be reached"):
            read()


def test_a_damaged_array_of_a_work_folder_is_named(work: Path) -> None:
    """Wherever it is damaged."""
    store = CaseStore(work, read_plan(work).default)
    path = store.folder / "ball_0.b2nd"
    content = path.read_bytes()
    damages: list[Callable[[bytes], bytes]] = [lambda data: data[:50], lambda data: bytes(64) + data[64:]]
    for damage in damages:
        path.write_bytes(damage(content))
        with pytest.raises(PlanError, match="case ball_0: its stored array is damaged"):
            store.load("ball_0")


def test_a_damaged_record_of_a_work_folder_is_named(work: Path) -> None:
    """Voxels that patches are drawn around lie in the array."""
    store = CaseStore(work, read_plan(work).default)
    path = store.folder / "ball_0.json"
    content = json.loads(path.read_text())
    content["locations"]["1"][0] = 2**32 - 1
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match=r"ball_0.json: \(document\): locations must be voxels of the array"):
        store.record("ball_0")


def test_a_network_that_cannot_compute_is_one_line() -> None:
    """A bundle's definition may be built and still fail on every window."""

    class Fails(nn.Module):
        def forward(self, _windows: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("non-positive stride is not supported\nand more")

    ensemble = Ensemble([Fails()], device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(BundleError, match=r"^the network fails on a window of 1 x 4 x 4 x 4: non-positive stride"):
        ensemble(torch.zeros(1, 1, 4, 4, 4))


def test_a_strip_of_more_bytes_than_the_file_is_refused(tmp_path: Path) -> None:
    """Its length is a number in the file, of which a reader would make room before it reads."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 9), np.uint8), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripByteCounts"].overwrite(2**31, dtype="I")
    with pytest.raises(ImageFileError, match=r"damaged: a strip or tile of more than the .* bytes of the file"):
        read_volume(path)


def test_a_stored_case_of_endless_depth_counts_as_not_stored(work: Path) -> None:
    """It is preprocessed again, as any other that cannot be read."""
    store = CaseStore(work, read_plan(work).default)
    (store.folder / "ball_0.json").write_text("[" * 100_000)
    assert stored_key(work, read_plan(work).default, "ball_0") is None


def test_a_document_that_is_no_text_is_written_anew(tmp_path: Path) -> None:
    """What is compared with the new document need not be UTF-8."""
    (tmp_path / "folds.json").write_bytes(b"\xff")
    write_if_changed(
        tmp_path / "folds.json", Folds(folds=(Fold(train=("a",), validation=("b",)),), seed=0, by_patient=False)
    )
    assert json.loads((tmp_path / "folds.json").read_text())["folds"][0]["train"] == ["a"]


def test_a_network_too_large_for_its_patch_is_described_in_one_line() -> None:
    """Its layers raise errors of many kinds, of several lines."""
    with pytest.raises(ComponentError, match="the network does not run on a patch of 4x4x4: "):
        summarize_network(nn.Conv3d(1, 2, 5), 1, (4, 4, 4))
