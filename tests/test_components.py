"""Parts by word and by definition: what is built, and what is refused before anything is imported."""

import pytest

from unetpipe.components import build, find, parse_definition, register, registered, takes
from unetpipe.errors import ComponentError


def test_a_definition_builds_a_class_of_monai_with_its_arguments() -> None:
    """The definition's own arguments win over those that the package passes."""
    loss = build("loss", {"_target_": "monai.losses.TverskyLoss", "alpha": 0.25}, alpha=0.5, beta=0.75)
    assert (type(loss).__name__, loss.alpha, loss.beta) == ("TverskyLoss", 0.25, 0.75)


def test_a_registered_word_is_found_and_its_name_is_taken() -> None:
    """A part is found by its word among those of its kind only, and no second part may have the word."""
    register("metric", "test_counted")(lambda scale: 3 * scale)
    assert build("metric", "test_counted", scale=2) == 6
    assert "test_counted" in registered("metric")
    with pytest.raises(ComponentError, match="there is no loss 'test_counted'"):
        find("loss", "test_counted")
    with pytest.raises(ComponentError, match="two metric parts"):
        register("metric", "test_counted")(lambda: 0)


@pytest.mark.parametrize("target", ["os.system", "torch.load", "monai.losses.os.system", "builtins.eval", "", None, 3])
def test_names_that_lead_elsewhere_are_refused(target: object) -> None:
    """A loss comes from MONAI's or PyTorch's losses, whatever a definition says."""
    with pytest.raises(ComponentError):
        build("loss", {"_target_": target})


def test_arguments_that_do_not_fit_are_one_line() -> None:
    """What a constructor says about its arguments becomes one line that names the part."""
    with pytest.raises(ComponentError, match=r"loss monai\.losses\.DiceLoss cannot be built") as told:
        build("loss", {"_target_": "monai.losses.DiceLoss", "unheard_of": 1})
    assert "\n" not in str(told.value)


def test_arguments_may_be_definitions_of_the_same_kind() -> None:
    """As in MONAI's config language, what is inside is built first; a description is a comment."""
    inner = {"_target_": "monai.losses.DiceLoss", "squared_pred": True}
    loss = build("loss", {"_target_": "monai.losses.MaskedLoss", "_desc_": "of a part of the image", "loss": inner})
    assert loss.loss.squared_pred


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"_target_": "monai.losses.DiceLoss", "other_act": "$torch.exp"}, "plain values, .* got '[$]torch.exp'"),
        ({"_target_": "monai.losses.DiceLoss", "weight": ["@weights"]}, "plain values, .* got '@weights'"),
        ({"_target_": "monai.losses.DiceLoss", "_mode_": "callable"}, "may not have the key _mode_"),
        ({"_target_": "monai.losses.MaskedLoss", "loss": {"_target_": "os.system"}}, "there is no loss 'os.system'"),
        ({"_target_": "monai.losses.dice.LossReduction"}, "there is no loss class monai.losses.dice.LossReduction"),
        ({"_target_": "monai.losses.NoSuch"}, "there is no loss class monai.losses.NoSuch"),
        ({"_target_": "torch.nn.functional.cross_entropy"}, "there is no loss class torch.nn.functional"),
        ({"alpha": 1}, "needs a _target_ that names a class, got None"),
    ],
)
def test_nothing_in_a_definition_is_evaluated(definition: dict[str, object], message: str) -> None:
    """Expressions, references and classes that a module only imports are refused, wherever they stand."""
    with pytest.raises(ComponentError, match=message):
        build("loss", definition)


def test_the_arguments_of_a_part_are_those_of_its_constructor() -> None:
    """Of a class, a derived one and a function."""
    from monai.transforms import RandFlipd

    class Derived(RandFlipd):
        """Nothing of its own."""

    assert {"keys", "prob", "spatial_axis"} <= takes(Derived) == takes(RandFlipd)
    assert takes(lambda width, depth=2: None) == {"width", "depth"}  # noqa: ARG005 - its signature counts


def test_a_kind_that_there_is_not_is_refused() -> None:
    """Where the part is registered, and not where its name is looked for."""
    with pytest.raises(ComponentError, match=r"a part is one of loss, network, .* got 'losses'"):
        register("losses", "mine")  # type: ignore[arg-type]  # what is tried


def test_typed_yaml_becomes_a_definition() -> None:
    """A mapping that was typed is read as one; a word stays a word."""
    assert parse_definition("{_target_: monai.losses.DiceLoss, squared_pred: true}") == {
        "_target_": "monai.losses.DiceLoss",
        "squared_pred": True,
    }
    assert parse_definition("dice_ce") == "dice_ce"
    with pytest.raises(ComponentError, match="not YAML"):
        parse_definition("{_target_: [")
