"""The classic U-Net on photographs, from folders of PNG files to predicted PNG files."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from unetpipe.config.infer import InferConfig
from unetpipe.config.preprocess import PreprocessConfig
from unetpipe.config.train import TrainConfig
from unetpipe.stages.infer import infer
from unetpipe.stages.preprocess import preprocess
from unetpipe.stages.train import train

SIZE = 64


def _photograph(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A reddish disc to find and a greenish one of the same brightness that is not to be found."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image = rng.normal((120, 110, 100), 12, (SIZE, SIZE, 3))
    label = np.zeros((SIZE, SIZE), np.uint8)
    for colour, value in (((60, -60, 0), 1), ((-60, 60, 0), 0)):
        disc = np.hypot(rows - rng.uniform(12, SIZE - 12), columns - rng.uniform(12, SIZE - 12)) < rng.uniform(7, 11)
        image[disc] += colour
        label[disc] = value
    return np.clip(image, 0, 255).astype(np.uint8), label


def write_photographs(folder: Path, cases: int) -> Path:
    rng = np.random.default_rng(0)
    for part in ("images", "labels", "new"):
        (folder / part).mkdir(parents=True)
    for case in range(cases):
        image, label = _photograph(rng)
        Image.fromarray(image).save(folder / "images" / f"photo_{case:02d}.png")
        Image.fromarray(label).save(folder / "labels" / f"photo_{case:02d}.png")
    Image.fromarray(_photograph(rng)[0]).save(folder / "new" / "unseen.png")
    return folder


@pytest.mark.slow
def test_classic_unet_learns_rgb_images(tmp_path: Path) -> None:
    """A binary task with three channels: Dice above 0.85 on held-out images; a new image gives a PNG of 0 and 1."""
    data = write_photographs(tmp_path / "data", cases=12)
    new = data / "new"
    new.rename(tmp_path / "new")
    work = tmp_path / "work"
    preprocess(PreprocessConfig(dataset=data, out=work, preview=False, folds=3))
    plan = yaml.safe_load((work / "plan.yaml").read_text())
    configuration = plan["configurations"]["2d"]
    configuration["features"] = [min(16 * 2**level, 64) for level in range(len(configuration["features"]))]
    (work / "plan.yaml").write_text(yaml.safe_dump(plan))
    config = TrainConfig(work=work, network="unet", device="cpu", epochs=5, iterations=16)
    result = train(config)
    assert result.mean_dice is not None
    assert result.mean_dice > 0.85
    infer(InferConfig(models=(result.bundle,), inputs=(tmp_path / "new",), out=tmp_path / "out", device="cpu"))
    with Image.open(tmp_path / "out" / "unseen.png") as out:
        assert out.size == (SIZE, SIZE)
        assert set(np.unique(np.asarray(out))) == {0, 1}
