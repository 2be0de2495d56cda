"""What is checked of models before they are used."""

from types import SimpleNamespace
from typing import Any

import pytest

from unetpipe.bundle import usable
from unetpipe.bundle.usable import require_usable
from unetpipe.errors import BundleError


def model(name: str, *, code: tuple[str, ...] = (), first: Any = None, finished: bool = True) -> Any:
    """A model with a step of its own, trained when its file was `code`."""
    preprocessing = SimpleNamespace(only_normalizes=False, steps=name)
    part = None if first is None else SimpleNamespace(name="first")
    spec = SimpleNamespace(finished=finished, preprocessing=preprocessing, step_code=code, first_stage=part)
    return SimpleNamespace(name=name, spec=spec, parts={"first": first})


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps that were tried; the file of every step is ``now``."""
    found: list[str] = []
    monkeypatch.setattr(usable, "require_steps", lambda preprocessing: found.append(preprocessing.steps))
    monkeypatch.setattr(usable, "step_code", lambda _: ("now",))
    return found


def test_steps_whose_file_has_changed_are_named(tried: list[str], logged: list[str]) -> None:
    """Of a model, and of the first stage of a cascade; not of one that does not say what its file was."""
    require_usable([model("whole", code=("now",), first=model("coarse", code=("before",))), model("old")])
    assert tried == ["whole", "coarse", "old"]
    assert [line.split(" was")[0] for line in logged] == ["coarse"]


def test_several_models_are_trained_to_their_end(logged: list[str]) -> None:
    """One alone may be tried before."""
    require_usable([model("early", finished=False)])
    assert logged == ["early is not trained to its end"]
    with pytest.raises(BundleError, match="early is not trained to its end, so that it cannot be averaged yet"):
        require_usable([model("whole"), model("early", finished=False)])
