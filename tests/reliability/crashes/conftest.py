"""Commands that are killed at chosen points, and their folders compared with those of undisturbed ones."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

_FORKS = Path(__file__).with_name("forks.py")
_LIMIT_SECONDS = 240.0
Contents = dict[str, Any]
Read = Callable[[Path], Contents]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        codes: Exit code of each process; minus the signal's number if a signal ended it.
        seconds: How long it took.
        events: Changes of files that its first process made; 0 if that was killed.
        hung: Whether it had to be killed for its limit of time.
        said: What it printed.
    """

    codes: tuple[int, ...]
    seconds: float
    events: int
    hung: bool
    said: str


class Forks:
    """The process that runs commands in forks of itself."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, count()
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(_FORKS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(
        self,
        where: Path,
        *words: object,
        events: int | None = None,
        seconds: float | None = None,
        ranks: int = 1,
        limit: float = _LIMIT_SECONDS,
        **faults: Any,
    ) -> Ended:
        """Run a command, and disturb it in the way that is asked for; see `forks.py`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = self._folder / f"{next(self._number)}.said"
        order = {"words": [str(word) for word in words], "where": str(where), "said": str(said)}
        order |= {"events": events, "seconds": seconds, "ranks": ranks, "limit": limit, **faults}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return Ended(**answer | {"codes": tuple(answer["codes"])}, said=said.read_text() if said.exists() else "")

    def end(self) -> None:
        """Let it end, and wait for it."""
        self._process.communicate(timeout=300)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs commands without loading torch anew."""
    started = Forks(tmp_path_factory.mktemp("said"))
    yield started
    started.end()


@dataclass
class Crashes:
    """What became of commands that were killed.

    Attributes:
        killed: How many kills found the command at work.
        lost: Tries after which the same command did not give what an undisturbed one gives.
        hung: Commands that did not end.
        reports: What differed, for a person to read.
    """

    killed: int = 0
    lost: int = 0
    hung: int = 0
    reports: list[str] = field(default_factory=list)


@pytest.fixture
def crash(forks: Forks, tmp_path: Path) -> Callable[..., Crashes]:
    """Kill a command again and again, and see whether the same command ends as an undisturbed one.

    The folder of each try is made by `start`. Odd tries kill by the clock, even ones before a change of a file.
    """

    def crash(
        words: Sequence[object],
        *,
        kills: int,
        start: Callable[[Path], object],
        read: Read,
        seed: int,
        ranks: int = 1,
        again: Sequence[object] = (),
    ) -> Crashes:
        draws, found = random.Random(seed), Crashes()
        calm = tmp_path / "calm"
        start(calm)
        whole = forks.run(calm, *words, ranks=ranks)
        assert whole.codes == (0,) * ranks, whole.said
        expected = read(calm)
        attempt = 0
        while found.killed < kills:
            where = tmp_path / f"try_{attempt}"
            start(where)
            for _ in range(2):  # the second one may find what the first has left
                by_time = attempt % 2 == 1
                at = {"seconds": draws.uniform(0.02, 0.95) * whole.seconds} if by_time else {}
                ended = forks.run(
                    where, *words, *again, events=None if by_time else draws.randint(1, whole.events), ranks=ranks, **at
                )
                found.hung += ended.hung
                found.killed += -9 in ended.codes[:1]
            ended = forks.run(where, *words, *again, ranks=ranks)
            found.hung += ended.hung
            different = [] if ended.codes == (0,) * ranks else [f"codes {ended.codes}: {ended.said[-800:]}"]
            if not different:
                different = differences(expected, read(where))
            found.lost += bool(different)
            found.reports += [f"try {attempt}: {line}" for line in different]
            shutil.rmtree(where)
            attempt += 1
            assert attempt < 4 * kills + 4, "the kills come too late"
        return found

    return crash


def differences(expected: Contents, found: Contents) -> list[str]:
    """Files that are there in one of two folders alone, or differ."""
    lines = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    lines += [f"{name} should not be there" for name in sorted(found.keys() - expected.keys())]
    return lines + [
        f"{name} differs" for name in sorted(expected.keys() & found.keys()) if expected[name] != found[name]
    ]


@dataclass(frozen=True)
class Command:
    """A command, and how its outputs are compared with those of an undisturbed run.

    Attributes:
        words: The command without `unetpipe`.
        out: Its output, in the folder that it runs in.
        unlike: Patterns of files that say how long something took or when it was made.
        start: Makes a folder to run in.
    """

    words: tuple[str, ...]
    out: str
    unlike: tuple[str, ...]
    start: Callable[[Path], object]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Six small scans to segment."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(6):
        voxels = np.random.default_rng(number).normal(size=(22, 20, 18)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, 1.0, 1.0, 1.0])), folder / f"scan_{number}.nii.gz")
    return folder


@pytest.fixture
def commands(balls: Path, balls_work: Path, bundle_folder: Path, scans: Path, tmp_path: Path) -> dict[str, Command]:
    """The commands that write, by name, each on inputs of its own."""
    (tmp_path / balls.name).symlink_to(balls)  # where the manifest of a copied work folder looks for it

    def to_preprocess(where: Path) -> None:
        shutil.copytree(balls, where / "set")

    def to_infer(where: Path) -> None:
        shutil.copytree(scans, where / "scans")
        shutil.copytree(bundle_folder, where / "bundle")

    def to_evaluate(where: Path) -> None:
        for part in ("references", "predictions"):
            shutil.copytree(balls / "labelsTr", where / part)

    def to_train(where: Path) -> None:
        shutil.copytree(balls_work, where / "work")

    train = ("train", "work", "--fold", "0", "--epochs", "2", "--iterations", "1", "--device", "cpu")
    measured = ("checkpoint*", "metrics.jsonl", "README.md", "metadata.json")
    return {
        "preprocess": Command(("preprocess", "set", "--out", "work"), "work", ("preview.html",), to_preprocess),
        "train": Command((*train, "--tracking", "none"), "work/runs", measured, to_train),
        "infer": Command(
            ("infer", "bundle", "scans", "--out", "labels", "--device", "cpu"),
            "labels",
            ("predictions.json",),
            to_infer,
        ),
        "evaluate": Command(
            ("evaluate", "predictions", "references", "--out", "report"), "report", ("*.html",), to_evaluate
        ),
    }


@pytest.fixture
def contents() -> Callable[..., Contents]:
    """Read the bytes of every file of a folder; of those that are named, only that they are there."""

    def read(folder: Path, *unlike: str) -> Contents:
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        return {
            name: None if any(Path(name).match(one) for one in unlike) else path.read_bytes()
            for name, path in files.items()
        }

    return read
