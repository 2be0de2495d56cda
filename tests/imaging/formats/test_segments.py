"""Segmentations as 3D Slicer saves them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from unetpipe.errors import ImageFileError
from unetpipe.imaging.files import read_grid, read_volume
from unetpipe.imaging.geometry import Grid
from unetpipe.imaging.labels import read_label_names, read_label_volume

SHAPE = (4, 5, 6)
LIVER, TUMOUR = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
LIVER[1:3, 1:4, 2:5], TUMOUR[3, 2, 1:4] = True, True


def save(path: Path, layers: NDArray[np.uint8], pairs: dict[str, object]) -> Path:
    """A file of layers (layers, I, J, K), or of one (I, J, K), with the header of a segmentation."""
    many = layers.ndim == 4
    lines = [
        "NRRD0004",
        "type: unsigned char",
        f"dimension: {layers.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, layers.shape))}",
        f"space directions: {'none ' if many else ''}(0.7,0,0) (0,0.8,0) (0,0,2.5)",
        f"kinds: {'list ' if many else ''}domain domain domain",
        "encoding: raw",
        "space origin: (-10,20,30)",
        *(f"{key}:={value}" for key, value in pairs.items()),
        "Segmentation_MasterRepresentation:=Binary labelmap",
    ]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + layers.tobytes(order="F"))
    return path


def segment(number: int, name: str, **others: object) -> dict[str, object]:
    """Its entries in a header."""
    keys = {"ID": f"Segment_{number + 1}", "Name": name, "Extent": "0 3 0 4 0 5", "Tags": "a:b|c=d"} | others
    return {f"Segment{number}_{key}": value for key, value in keys.items()}


def test_one_layer_keeps_its_values_and_has_names(tmp_path: Path) -> None:
    """What Slicer 4.11 and later save where no segments overlap."""
    labels = (LIVER * 7 + TUMOUR * 3).astype(np.uint8)
    pairs = segment(0, "Leber, große", LabelValue=7, Layer=0) | segment(1, "tumour", LabelValue=3, Layer=0)
    volume = read_label_volume(save(tmp_path / "a.seg.nrrd", labels, pairs))
    assert np.array_equal(volume.array[0], labels)
    assert volume.names == read_label_names(tmp_path / "a.seg.nrrd") == {7: "Leber, große", 3: "tumour"}
    assert volume.grid == Grid.of(SHAPE, np.array([[-0.7, 0, 0, 10], [0, -0.8, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]]))
    assert read_grid(tmp_path / "a.seg.nrrd")[1] == volume.grid


@pytest.mark.parametrize("values", [(1, 1), (4, 2)])
def test_layers_become_one_map(tmp_path: Path, values: tuple[int, int]) -> None:
    """Values are the segments' own if no two share one, else their numbers in the order of the header."""
    layers = np.stack([LIVER * values[0], TUMOUR * values[1]]).astype(np.uint8)
    pairs = segment(0, "liver", LabelValue=values[0], Layer=0) | segment(1, "tumour", LabelValue=values[1], Layer=1)
    volume = read_label_volume(save(tmp_path / "a.seg.nrrd", layers, pairs))
    liver, tumour = (1, 2) if values == (1, 1) else values
    assert volume.names == read_label_names(tmp_path / "a.seg.nrrd") == {liver: "liver", tumour: "tumour"}
    assert np.array_equal(volume.array[0], LIVER * liver + TUMOUR * tumour)
    assert read_volume(tmp_path / "a.seg.nrrd").array.shape == (2, *SHAPE)


def test_older_files_have_a_layer_per_segment(tmp_path: Path) -> None:
    """Before 4.11 no header said which layer a segment is in, and every value was 1."""
    layers = np.stack([LIVER, TUMOUR]).astype(np.uint8)
    volume = read_label_volume(save(tmp_path / "a.seg.nrrd", layers, segment(0, "liver") | segment(1, "tumour")))
    assert volume.names == {1: "liver", 2: "tumour"}
    assert np.array_equal(volume.array[0], LIVER + TUMOUR * 2)
    single = read_label_volume(save(tmp_path / "b.seg.nrrd", LIVER.astype(np.uint8), segment(0, "liver")))
    assert single.names == {1: "liver"}
    assert np.array_equal(single.array[0], LIVER)


def test_segments_that_overlap_are_refused(tmp_path: Path) -> None:
    """One of the two would be lost."""
    layers = np.stack([LIVER, (LIVER | TUMOUR) * 2]).astype(np.uint8)
    pairs = segment(0, "liver", LabelValue=1, Layer=0) | segment(1, "both", LabelValue=2, Layer=1)
    with pytest.raises(ImageFileError, match=r"^a\.seg\.nrrd: segment both shares 18 voxels"):
        read_label_volume(save(tmp_path / "a.seg.nrrd", layers, pairs))


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"LabelValue": 1, "Layer": 5}, "segment liver is in layer 5, but there are 2"),
        ({"LabelValue": "one", "Layer": 0}, "layer '0' or value 'one' of segment liver is no number"),
        ({"LabelValue": 3, "Layer": 0}, "18 voxels of its layers belong to no segment"),
    ],
)
def test_a_header_that_does_not_fit_its_layers_is_refused(
    tmp_path: Path, others: dict[str, object], reason: str
) -> None:
    """A segment without a layer, a value that is none, and voxels without a segment."""
    layers = np.stack([LIVER, TUMOUR * 2]).astype(np.uint8)
    pairs = segment(0, "liver", **others) | segment(1, "tumour", LabelValue=2, Layer=1)
    with pytest.raises(ImageFileError, match=rf"^a\.seg\.nrrd: {reason}"):
        read_label_volume(save(tmp_path / "a.seg.nrrd", layers, pairs))


def test_an_ordinary_file_has_no_segments(tmp_path: Path) -> None:
    """Several channels stay several, and are no label map."""
    save(tmp_path / "a.nrrd", np.stack([LIVER, TUMOUR]).astype(np.uint8), {"Segmentation": "none"})
    with pytest.raises(ImageFileError, match="one channel, got 2"):
        read_label_volume(tmp_path / "a.nrrd")
    assert read_label_names(tmp_path / "a.nrrd") == read_label_names(tmp_path / "missing.nrrd") == {}
