"""How ranks are started."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unetpipe.config.train import TrainConfig
from unetpipe.training.distributed import launcher


def test_ranks_look_for_modules_where_their_launcher_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m` would look into the current folder first, for whatever torch and the package import."""
    calls: list[tuple[str, ...]] = []

    def start(_settings: object, _program: str) -> Callable[..., None]:
        return lambda *words: calls.append(words[:-1])

    monkeypatch.setattr(launcher, "elastic_launch", start)
    monkeypatch.chdir(tmp_path)
    elsewhere = [entry for entry in sys.path if entry and Path(entry) != tmp_path]
    for path in (elsewhere, ["", *elsewhere], [str(tmp_path), *elsewhere]):
        monkeypatch.setattr(sys, "path", path)
        launcher.launch(TrainConfig(work=Path("work")), 2)
    rank = ("-m", "unetpipe.cli.rank")
    assert calls == [("-P", *rank), rank, rank]
