"""What a report shows of a case."""

import base64
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.dataset.label_scheme import Region
from unetpipe.evaluation.inputs import Inputs
from unetpipe.evaluation.pairing import gather_inputs
from unetpipe.imaging.files import write_image, write_labels
from unetpipe.imaging.geometry import Grid
from unetpipe.metrics.overlap import Overlap
from unetpipe.metrics.scores import ClassScore, Outcome
from unetpipe.metrics.surface import SurfaceScores
from unetpipe.report.overlays import LONGEST, Chosen, choose_cases, codes_of, view_case

# axes run P, S, L: K, I, J of RAS+, one of them turned
PSL = Grid.of((30, 20, 10), np.array([[0, 0, -3, 0], [-1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]]))


def unpacked(packed: str, shape: list[int]) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).reshape(shape)


def inputs_of(folder: Path, *models: str, images: bool = False) -> Inputs:
    return gather_inputs(
        EvaluateConfig(
            predictions=tuple(folder / model for model in models),
            reference=folder / "reference",
            images=folder / "images" if images else None,
            out=folder,
        )
    )


def labelled(value: int, start: tuple[int, int, int] = (12, 8, 4)) -> np.ndarray:
    labels = np.zeros(PSL.shape, np.uint8)
    labels[tuple(slice(at, at + 3) for at in start)] = value
    return labels


def test_volumes_are_turned_cropped_and_opened_at_the_error(tmp_path: Path) -> None:
    """A view is RAS+, cropped to the labels and a margin, and starts where most voxels are wrong."""
    write_labels(tmp_path / "reference" / "a.nii.gz", labelled(7), PSL, {})
    predicted = labelled(7)
    predicted[13, 9, 5] = 0
    write_labels(tmp_path / "prediction" / "a.nii.gz", predicted, PSL, {})
    scan = np.random.default_rng(0).normal(50, 10, (1, *PSL.shape)).astype(np.float32)
    write_image(tmp_path / "images" / "a.nii.gz", scan, PSL)
    view = view_case(Chosen("a", "worst"), inputs_of(tmp_path, "prediction", images=True), {7: "organ"})
    assert view["spacing"] == [3.0, 1.0, 2.0]
    # 3 voxels with 12 mm on each side, as far as the volume goes
    assert view["shape"] == [10 - max(0, 10 - 3 - 4 - 4), 27, 15]
    reference, prediction, image = (
        unpacked(packed, view["shape"]) for packed in (view["reference"], view["predictions"][0], view["image"])
    )
    assert np.argwhere(reference != prediction).tolist() == [view["start"]]
    assert set(np.unique(reference)) == {0, 1}
    grey = image[tuple(view["start"])] / 255 * (view["high"] - view["low"]) + view["low"]
    assert abs(grey - scan[0, 13, 9, 5]) < 0.5


def test_scans_elsewhere_are_not_shown(tmp_path: Path) -> None:
    """A scan on another grid, or one that cannot be read, leaves the labels alone on the page."""
    for folder in ("reference", "prediction"):
        for case in "ab":
            write_labels(tmp_path / folder / f"{case}.nii.gz", labelled(1), PSL, {})
    write_image(tmp_path / "images" / "a.nii.gz", np.zeros((1, 5, 5, 5), np.float32), PSL.cropped((0, 0, 0), (5, 5, 5)))
    (tmp_path / "images" / "b.nii.gz").write_bytes(b"broken")
    inputs = inputs_of(tmp_path, "prediction", images=True)
    assert [view_case(Chosen(case, ""), inputs, {1: "organ"})["image"] for case in "ab"] == [None, None]


def test_missing_prediction_and_large_volume(tmp_path: Path) -> None:
    """A model without a prediction shows none; a long axis is thinned and its spacing grows."""
    grid = Grid.of((500, 6, 6), nib.affines.from_matvec(np.eye(3), (0, 0, 0)))
    write_labels(tmp_path / "reference" / "a.nii.gz", np.ones(grid.shape, np.uint8), grid, {})
    write_labels(tmp_path / "one" / "a.nii.gz", np.ones(grid.shape, np.uint8), grid, {})
    write_labels(tmp_path / "two" / "b.nii.gz", np.ones(grid.shape, np.uint8), grid, {})
    view = view_case(Chosen("a", ""), inputs_of(tmp_path, "one", "two"), {1: "organ"})
    assert view["predictions"][1] is None
    assert view["shape"][0] == 125 <= LONGEST
    assert view["spacing"][0] == 4.0


def score(case: str, dice: float, outcome: Outcome = "matched") -> ClassScore:
    overlap = Overlap(both=round(100 * dice), reference=100, prediction=100)
    return ClassScore(
        case=case,
        value=1,
        outcome=outcome,
        overlap=overlap,
        surface=SurfaceScores(),
        lesions=None,
        tolerance_mm=1.0,
        voxel_ml=1.0,
    )


def test_choice_of_cases() -> None:
    """Worst three, median and best of the first model, and where models differ most; nothing without a prediction."""
    first = [score(name, dice) for name, dice in zip("abcdefg", (0.9, 0.2, 0.8, 0.5, 0.7, 0.6, 0.3), strict=True)]
    second = [score("c", 0.1), score("b", 0.25)]
    missing = score("x", 0.0, "no_prediction")
    chosen = {item.case: item.why for item in choose_cases({"one": [*first, missing], "two": second})}
    assert chosen == {
        "c": "models differ most",
        "b": "worst",
        "g": "2. worst",
        "d": "3. worst",
        "f": "median",
        "a": "best",
    }
    assert choose_cases({"one": [missing]}) == []


def test_regions_and_ignored_voxels_are_shown_as_they_are_scored(tmp_path: Path) -> None:
    """Values that the same regions hold have one number, and what takes no part is nothing."""
    reference, predicted = labelled(2), labelled(1)
    reference[0, 0, 0], predicted[0, 0, 0] = 9, 1
    write_labels(tmp_path / "reference" / "a.nii.gz", reference, PSL, {})
    write_labels(tmp_path / "prediction" / "a.nii.gz", predicted, PSL, {})
    regions = (Region(name="whole", values=(1, 2, 3), written=1), Region(name="core", values=(3,), written=3))
    inputs = replace(inputs_of(tmp_path, "prediction"), regions=regions, ignore_value=9)
    names = {1: "whole", 3: "core"}
    view = view_case(Chosen("a", "worst"), inputs, names)
    ours, theirs = (unpacked(packed, view["shape"]) for packed in (view["reference"], view["predictions"][0]))
    assert (ours == theirs).all()
    codes, members = codes_of(names, regions)
    assert codes == {1: 1, 2: 1, 3: 2}
    assert members == [[1, 2], [2]]
    assert codes_of({4: "a", 7: "b"}, ()) == ({4: 1, 7: 2}, [[1], [2]])


def test_a_perfect_case_opens_where_its_structures_are(tmp_path: Path) -> None:
    """Where nothing is wrong, and not in the margin."""
    for folder in ("reference", "prediction"):
        write_labels(tmp_path / folder / "a.nii.gz", labelled(7), PSL, {})
    view = view_case(Chosen("a", "best"), inputs_of(tmp_path, "prediction"), {7: "organ"})
    reference = unpacked(view["reference"], view["shape"])
    assert reference[tuple(view["start"])] == 1
