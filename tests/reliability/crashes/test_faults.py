"""Resources that fail: one clear line, exit code 1, nothing half-written, and the same command again does it all."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

Tries = Callable[[int, int], int]
Record = Callable[..., None]
COMMAND = "UNETPIPE_RELIABILITY=full pytest tests/reliability/crashes/test_faults.py"
QUICK, ALL = ("train", "infer"), ("preprocess", "train", "infer", "evaluate")

_HOLD = """
import sys
from pathlib import Path
from unetpipe.folder_lock import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _mounted(place: Path, options: str) -> Iterator[None]:
    """A small file system in memory."""
    place.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"file systems cannot be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _is_one_line(said: str) -> bool:
    """Whether the error is one line, or one and a line for each case, and no traceback."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    return len(errors) == 1 and "Traceback" not in said


def _judge(ended: Any, out: Path) -> list[str]:
    """What is wrong with the end of a command that met a fault."""
    wrong = [] if ended.codes == (1,) else [f"codes {ended.codes}"]
    wrong += [] if _is_one_line(ended.said) or "failed:" in ended.said else [f"not one line: {ended.said[-600:]}"]
    return wrong + [f"{path.name} was left" for path in out.rglob(".tmp-*")]


class Trial:
    """Commands that meet a fault, and what they do after it.

    Attributes:
        tried, lost, hung: As `record_fault` counts them.
    """

    def __init__(self, forks: Any, contents: Any, folder: Path) -> None:
        self._forks, self._contents, self._folder = forks, contents, folder
        self._calm: dict[str, Any] = {}
        self.tried = self.lost = self.hung = 0

    def expected(self, name: str, command: Any) -> Any:
        """What an undisturbed run writes."""
        if name not in self._calm:
            where = self._folder / f"calm_{name}"
            command.start(where)
            ended = self._forks.run(where, *command.words)
            assert ended.codes == (0,), ended.said
            self._calm[name] = self._contents(where / command.out, *command.unlike)
        return self._calm[name]

    def note(self, ended: Any, wrong: list[str]) -> None:
        """Count a command that met its fault."""
        self.tried += 1
        self.hung += ended.hung
        self.lost += bool(wrong)
        for line in wrong:
            print(line)

    def again(self, name: str, command: Any, where: Path) -> list[str]:
        """What is wrong after the same command without the fault."""
        ended = self._forks.run(where, *command.words)
        if ended.codes != (0,):
            return [f"{name} again: codes {ended.codes}: {ended.said[-600:]}"]
        found, expected = self._contents(where / command.out, *command.unlike), self.expected(name, command)
        names = expected.keys() | found.keys()
        return [f"{name} again: {one} differs" for one in sorted(names) if expected.get(one, 0) != found.get(one, 0)]


@pytest.fixture
def trial(forks: Any, contents: Any, tmp_path: Path) -> Trial:
    """Commands that meet a fault."""
    return Trial(forks, contents, tmp_path)


def test_a_full_disk(
    commands: Any, forks: Any, trial: Trial, tries: Tries, record_fault: Record, tmp_path: Path
) -> None:
    """A file system in memory that ends somewhere in the outputs; with more room the command goes on."""
    draws = random.Random(1)
    for name in ALL if tries(0, 1) else QUICK:
        needed = sum(len(one or b"") + 4096 for one in trial.expected(name, commands[name]).values())
        for number in range(tries(1, 4)):
            where = tmp_path / f"{name}_{number}"
            commands[name].start(where)
            out = where / commands[name].out
            pages = max(1, int(needed * draws.uniform(0.05, 0.7)) // 4096)  # none would be without a limit
            with _mounted(out, f"size={pages * 4096}"):
                ended = forks.run(where, *commands[name].words)
                wrong = _judge(ended, out)
                subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
                trial.note(ended, wrong + trial.again(name, commands[name], where))
    record_fault(
        "full disk",
        tried=trial.tried,
        lost=trial.lost,
        hung=trial.hung,
        outcome="one line, exit code 1, only whole files; with more room the same command goes on",
        command=COMMAND,
    )


def test_a_folder_that_cannot_be_written(
    commands: Any, forks: Any, trial: Trial, tries: Tries, record_fault: Record, tmp_path: Path
) -> None:
    """A file system that is mounted read-only."""
    for name in ALL if tries(0, 1) else QUICK:
        where = tmp_path / name
        commands[name].start(where)
        out = where / commands[name].out
        with _mounted(out, "ro"):
            ended = forks.run(where, *commands[name].words)
            trial.note(ended, [] if "Read-only file system" in ended.said else [ended.said, *_judge(ended, out)])
    record_fault(
        "read-only outputs",
        tried=trial.tried,
        lost=trial.lost,
        hung=trial.hung,
        outcome="one line, exit code 1",
        command=COMMAND,
    )


def test_a_limit_of_a_file_s_size(
    commands: Any, forks: Any, trial: Trial, tries: Tries, record_fault: Record, tmp_path: Path
) -> None:
    """`ulimit -f`, below the largest file that a command writes."""
    draws = random.Random(2)
    for name in ALL if tries(0, 1) else QUICK:
        largest = max(len(one or b"") for one in trial.expected(name, commands[name]).values())
        for number in range(tries(1, 3)):
            where = tmp_path / f"{name}_{number}"
            commands[name].start(where)
            ended = forks.run(where, *commands[name].words, file=int(largest * draws.uniform(0.2, 0.9)))
            wrong = _judge(ended, where / commands[name].out)
            trial.note(ended, wrong + trial.again(name, commands[name], where))
    record_fault(
        "files that may not grow (`ulimit -f`)",
        tried=trial.tried,
        lost=trial.lost,
        hung=trial.hung,
        outcome="one line, exit code 1, only whole files; without the limit the same command goes on",
        command=COMMAND,
    )


def _with_large_volumes(command: Any) -> Any:
    """The same command with one image, and label, of 128 voxels along each axis.

    Where single numbers find no memory any more, CPython itself may not end; so what does not fit has to be large.
    """

    def start(where: Path) -> None:
        command.start(where)
        for file in [*where.glob("set/*Tr/ball_2.nii.gz"), *where.glob("scans/scan_3.nii.gz")]:
            small = nib.load(file)
            times = [-(-128 // size) for size in small.shape]
            voxels = np.tile(np.asanyarray(small.dataobj), times)[:128, :128, :128]
            nib.save(nib.Nifti1Image(voxels, small.affine), file)

    return replace(command, start=start)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited, and what is taken is read, as Linux does")
def test_too_little_memory(
    commands: Any, forks: Any, trial: Trial, tries: Tries, record_fault: Record, tmp_path: Path
) -> None:
    """`ulimit -v`, mostly below what a command takes; where it is enough, nothing differs.

    oneDNN does not look whether it has got the memory that a convolution asks for, which may end the process.
    """
    draws, failed, ended_by_signal = random.Random(3), 0, 0
    for name in ("preprocess", "infer") if tries(0, 1) else ("preprocess",):
        command = _with_large_volumes(commands[name])
        for number in range(tries(1, 6)):
            where = tmp_path / f"{name}_{number}"
            command.start(where)
            ended = forks.run(where, *command.words, memory=int(draws.uniform(24e6, 120e6)))
            failed += ended.codes == (1,)
            ended_by_signal += ended.codes[0] < 0
            wrong = _judge(ended, where / command.out) if ended.codes[0] > 0 else []
            trial.note(ended, wrong + trial.again(name, command, where))
    assert failed
    record_fault(
        "too little memory (`ulimit -v`)",
        tried=trial.tried,
        lost=trial.lost,
        hung=trial.hung,
        outcome=f"one line, exit code 1 ({ended_by_signal} times a library ended the process); only whole files; "
        "with more memory the same command goes on",
        command=COMMAND,
    )


def test_an_input_that_vanishes(commands: Any, forks: Any, trial: Trial, record_fault: Record, tmp_path: Path) -> None:
    """While it is read; what does not need it is done."""
    inputs = {
        "preprocess": ("set/imagesTr/ball_2.nii.gz", "ball_2"),
        "infer": ("scans/scan_3.nii.gz", "scan_3"),
        "evaluate": ("predictions/ball_4.nii.gz", "ball_4"),
    }
    for name, (file, case) in inputs.items():
        for once in (True, False):
            where = tmp_path / f"{name}_{once}"
            commands[name].start(where)
            ended = forks.run(where, *commands[name].words, vanishes=str((where / file).resolve()), once=once)
            if not once and (where / file).exists():
                continue  # it is read once
            wrong = _judge(ended, where / commands[name].out)
            wrong += [] if case in ended.said else [f"no word of {case}: {ended.said[-400:]}"]
            if name == "infer":
                left = {path.name for path in (where / "labels").glob("scan_*")}
                wrong += [] if len(left) == 5 else [f"labels of {sorted(left)}"]
            trial.note(ended, wrong)
    record_fault(
        "an input that vanishes while it is read",
        tried=trial.tried,
        lost=trial.lost,
        hung=trial.hung,
        outcome="one line that names the case, exit code 1; infer segments the others",
        command=COMMAND,
    )


def test_two_commands_in_one_folder(
    commands: Any, forks: Any, trial: Trial, tries: Tries, record_fault: Record, tmp_path: Path
) -> None:
    """The second one says which process holds the folder; when that was killed, the folder is free at once."""
    held = {"train": "work/runs/default/fold_0"}
    for name in ALL if tries(0, 1) else QUICK:
        where = tmp_path / name
        commands[name].start(where)
        folder = where / held.get(name, commands[name].out)
        words = [sys.executable, "-c", _HOLD, str(folder)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=dict(os.environ)) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            ended = forks.run(where, *commands[name].words)
            wrong = _judge(ended, where / commands[name].out)
            wrong += [] if f"in use by process {holder.pid} on" in ended.said else [ended.said]
            holder.kill()
        trial.note(ended, wrong + trial.again(name, commands[name], where))
    record_fault(
        "two commands that write into one folder",
        tried=trial.tried,
        lost=trial.lost,
        hung=trial.hung,
        outcome="the second is refused in a line that names process and machine of the first; a killed one holds none",
        command=COMMAND,
    )


@pytest.mark.parametrize(
    ("fault", "name", "outcome"),
    [
        ({"clock": True}, "a clock that jumps by days", "nothing differs"),
        ({"no_locks": True}, "a file system without locks", "nothing differs; a stamp that is renewed holds folders"),
    ],
)
def test_nothing_differs(
    commands: Any,
    forks: Any,
    trial: Trial,
    contents: Any,
    tries: Tries,
    record_fault: Record,
    tmp_path: Path,
    fault: Any,
    name: str,
    outcome: str,
) -> None:
    """Each command ends with the files of an undisturbed run."""
    for stage in ALL if tries(0, 1) else QUICK:
        command, where = commands[stage], tmp_path / stage
        command.start(where)
        ended = forks.run(where, *command.words, **fault)
        found, expected = contents(where / command.out, *command.unlike), trial.expected(stage, command)
        wrong = [] if ended.codes == (0,) else [f"{stage}: codes {ended.codes}: {ended.said[-600:]}"]
        names = expected.keys() | found.keys()
        wrong += [f"{one} differs" for one in sorted(names) if expected.get(one, 0) != found.get(one, 0)]
        trial.note(ended, wrong)
    record_fault(name, tried=trial.tried, lost=trial.lost, hung=trial.hung, outcome=outcome, command=COMMAND)
