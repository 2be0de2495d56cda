"""The augmentation as a whole: what is drawn, what the presets and the options change, what is refused."""

from typing import Any

import pytest
import torch

from unetpipe.config.train import TrainConfig
from unetpipe.errors import TrainingError
from unetpipe.training.batches.augmentation.augmentation import Augmentation
from unetpipe.training.batches.augmentation.intensity import Gamma
from unetpipe.training.batches.augmentation.spatial import Mirror
from unetpipe.training.batches.draws import Draws

OFF = {name: False for name in Augmentation.model_fields if name != "steps"}

# mean and standard deviation of the image, sum of the label: of six batches in 3-D and in 2-D
AS_IT_WAS = {
    (12, 10, 8): [
        (0.4879, 0.25157, 3888),
        (0.50496, 0.18729, 3763),
        (0.50745, 0.26617, 3842),
        (0.50959, 0.20314, 3775),
        (0.51236, 0.16029, 3859),
        (0.49436, 0.18777, 3809),
    ],
    (24, 16): [
        (0.5079, 0.27882, 1528),
        (0.50562, 0.29846, 1537),
        (0.50401, 0.25564, 1570),
        (0.47718, 0.28738, 1557),
        (0.50107, 0.2178, 1542),
        (0.49423, 0.2733, 1520),
    ],
}


@pytest.mark.parametrize("patch", AS_IT_WAS)
def test_the_default_of_a_fixed_seed_is_the_one_it_was(patch: tuple[int, ...]) -> None:
    """Draws, transforms and their order together; what differs means that one has changed."""
    augmentation = Augmentation(mirror=Mirror(axes=(0,)))
    generator = torch.Generator().manual_seed(0)
    for number, (mean, deviation, labels) in enumerate(AS_IT_WAS[patch]):
        image = torch.rand((4, 2, *augmentation.source_shape(patch)), generator=generator)
        label = (3 * image[:, 0]).to(torch.int16)
        image, label = augmentation(image, label, patch, Draws(7, number, range(4)))
        assert (float(image.mean()), float(image.std())) == pytest.approx((mean, deviation), abs=2e-4)
        assert int(label.sum()) == pytest.approx(labels, abs=3)


def test_same_seed_same_batch() -> None:
    """All randomness comes from the draws."""
    image = torch.randn(4, 2, 12, 10, 8, generator=torch.Generator().manual_seed(5))
    label = torch.zeros(4, 12, 10, 8)
    first, second, other = (Augmentation()(image, label, (12, 10, 8), Draws(s, 0, range(4)))[0] for s in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_sample_is_augmented_alike_in_whichever_part_of_the_batch_it_is() -> None:
    """Two ranks that hold samples 0 and 2, 1 and 3 of a batch get, together, what one process gets for all four."""
    image = torch.randn(4, 2, 12, 10, 8, generator=torch.Generator().manual_seed(5))
    label = (image[:, 0] > 0).to(torch.int16)
    often = Augmentation.of("default", {name: {"probability": 0.7} for name in OFF}, (0, 1, 2), 3)
    whole = often(image, label, (8, 8, 8), Draws(3, 5, range(4)))
    for places in (range(0, 4, 2), range(1, 4, 2)):
        part = often(image[places], label[places], (8, 8, 8), Draws(3, 5, places))
        assert all(torch.allclose(own, all_of[places], atol=1e-5) for own, all_of in zip(part, whole, strict=True))


@pytest.mark.parametrize("strength", ["none", "default"])
def test_nothing_is_changed_when_everything_is_off(strength: Any) -> None:
    """By the preset or by the options: the middle of the image comes back bit by bit."""
    augmentation = Augmentation.of(strength, {} if strength == "none" else OFF, (0, 1), 3)
    image = torch.randn((3, 2, 12, 10, 8), generator=torch.Generator().manual_seed(0))
    for number in range(10):
        out, _ = augmentation(image, torch.zeros(3, 12, 10, 8), (8, 10, 6), Draws(0, number, range(3)))
        assert torch.equal(out, image[:, :, 2:10, :, 1:7])
    assert augmentation.mirror_axes == ()


def test_presets_scale_how_often_and_not_how_much() -> None:
    """Strong: every probability half as large again, but that of mirroring."""
    published, strong = Augmentation.of("default", {}, (0, 1), 3), Augmentation.of("strong", {}, (0, 1), 3)
    assert published == Augmentation(mirror=Mirror(axes=(0, 1)))
    assert strong.gamma == Gamma(probability=1.5 * published.gamma.probability)
    assert strong.mirror == published.mirror
    assert strong.mirror_axes == (0, 1)


def test_options_change_single_transforms() -> None:
    """What an option names wins over the preset, whatever its strength; all else stays as the preset has it."""
    options = {"rotation": {"probability": 0.3, "degrees": [-10, 5]}, "blur": False, "mirror": {"axes": [2]}}
    light = Augmentation.of("light", {}, (0, 1), 3)
    changed = Augmentation.of("light", options, (0, 1), 3)
    assert (changed.rotation.probability, changed.rotation.degrees) == (0.3, (-10, 5))
    assert (changed.blur.probability, changed.blur.sigma) == (0, light.blur.sigma)
    assert changed.mirror_axes == (2,)
    assert changed.noise == light.noise
    assert Augmentation.of("light", {"blur": {}}, (0, 1), 3) == light
    only_gamma = Augmentation.of("none", {"gamma": {"probability": 1}}, (0, 1), 3)
    assert (only_gamma.gamma.probability, only_gamma.inverted_gamma.probability) == (1, 0)


def test_options_may_be_typed_or_written() -> None:
    """``transform.field`` and a mapping of mappings are one config, which a resume compares."""
    typed = {"rotation.probability": "0.3", "rotation.degrees": "[-10, 10]", "blur": "off"}
    written = {"rotation": {"probability": 0.3, "degrees": [-10, 10]}, "blur": False}
    configs = [TrainConfig.model_validate({"work": ".", "augmentation_options": given}) for given in (typed, written)]
    assert configs[0] == configs[1]
    assert configs[0].augmentation_options == written
    with pytest.raises(ValueError, match="blur is given as a whole and by its fields"):
        TrainConfig.model_validate({"work": ".", "augmentation_options": {"blur": "off", "blur.sigma": "[1, 2]"}})
    with pytest.raises(ValueError, match="is not YAML"):
        TrainConfig.model_validate({"work": ".", "augmentation_options": {"blur.sigma": "[1, 2"}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": False}, "there is no transform 'rotate', only rotation, scaling, mirror, noise"),
        ({"rotation": {"angle": 3}}, "rotation has no 'angle', only probability, degrees, degrees_in_plane"),
        ({"rotation": 0.3}, "rotation takes probability, degrees, degrees_in_plane, or off, got 0.3"),
        ({"rotation": True}, "rotation takes .* or off, got True"),
        ({"gamma": {"probability": 3}}, "gamma.probability: .* less than or equal to 1, got 3"),
        ({"gamma": {"exponent": [2, 1]}}, r"gamma.exponent: the lower end .* first, got \[2, 1\]"),
        ({"gamma": {"exponent": [0, 1]}}, "gamma.exponent: .* greater than 0, got 0"),
        ({"noise": {"variance": 0.2}}, "noise.variance: .* tuple, got 0.2"),
        ({"rotation": {"degrees": [-300, 0]}}, "rotation.degrees: .* -180, got -300"),
        ({"mirror": {"axes": [0, 3]}}, r"mirror.axes are from 0 to 2, got \[0, 3\]"),
    ],
)
def test_what_is_no_option_is_refused(options: dict[str, Any], message: str) -> None:
    """In one line that names the choices."""
    with pytest.raises(TrainingError, match=f"--augmentation-options: {message}") as error:
        Augmentation.of("default", options, (0, 1, 2), 3)
    assert "\n" not in str(error.value)
