"""Tries inputs one after the other in this process, within limits of time, memory, files and what may be executed.

Run by `campaign.py`, which says which targets and numbers. Prints one line of JSON before an input is
read, with its number, and one after it, with the outcome.
"""

import contextlib
import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

from target import Target

from unetpipe.errors import UnetpipeError

SECONDS = 10.0
"""Processor time that one input may take."""
SECONDS_IN_C = 120.0
"""Time after which the process is ended where no Python code runs any more."""
MEGABYTES = 1000
"""Memory that one input may take beside what the process has when it begins."""
_FORBIDDEN = {"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen"}
_FORBIDDEN |= {"socket.connect", "socket.bind", "pickle.find_class", "ctypes.dlopen", "webbrowser.open"}


class TooLongError(BaseException):
    """An input took more processor time than it may; not caught by what catches every Exception."""


class Watch:
    """Notes what Python is asked to do outside the folder of the inputs, or to execute.

    Args:
        inside: Folder below which files may be written.
    """

    def __init__(self, inside: Path) -> None:
        self.on, self.seen, self._inside = False, list[str](), str(inside)
        self._thread = threading.excepthook
        threading.excepthook = self._in_thread
        sys.addaudithook(self._note)

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _FORBIDDEN:
            self.seen.append(f"executed {event}{args!r:.200}")
        writes = (
            event == "open" and isinstance(args[0], str) and isinstance(args[1], str) and set(args[1]) & set("wax+")
        )
        if writes or event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link"):
            named = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else ""
            path = os.path.abspath(named)  # noqa: PTH100 - links stay as they are
            if not path.startswith(self._inside) and not path.startswith("/dev/"):
                self.seen.append(f"leaked by writing {path} ({event})")

    @contextlib.contextmanager
    def noise(self) -> Iterator[None]:
        """Note what Python code prints, and what a library in C does that names a file: an error alone is to be shown.

        libtiff, libjpeg and ITK write lines of their own about damaged pixels.
        """
        with tempfile.TemporaryFile() as heard, redirect_stdout(StringIO()) as out, redirect_stderr(out):
            kept = [os.dup(number) for number in (1, 2)]
            for number in (1, 2):
                os.dup2(heard.fileno(), number)
            try:
                yield
            finally:
                for number, before in zip((1, 2), kept, strict=True):
                    os.dup2(before, number)
                    os.close(before)
                heard.seek(0)
                if text := out.getvalue():
                    self.seen.append(f"printed: {text[:2000]}")
                if self._inside in (text := heard.read(20_000).decode(errors="replace")):
                    self.seen.append(f"leaked in lines of a library: {text[:2000]}")

    def _in_thread(self, args: Any) -> None:
        self.seen.append(f"traceback in a thread: {args.exc_type.__name__}")
        self._thread(args)


def main() -> None:
    """Try the inputs that the command line names: ``child.py FOLDER SEED`` and lines NAME, FIRST, LAST on stdin."""
    root, seed = Path(sys.argv[1]), sys.argv[2]
    import all_targets

    watch = Watch(root)
    _calm()
    for name, first, last in map(json.loads, sys.stdin.read().splitlines()):
        target = next(one for one in all_targets.TARGETS if one.name == name)
        template = root / "good"
        shutil.rmtree(template, ignore_errors=True)
        template.mkdir()
        target.make(template)
        _warm_up(target, template, root)
        for number in range(first, last):
            print(json.dumps({"target": name, "number": number}), flush=True)
            outcome = try_one(target, template, root, seed, number, watch)
            print(json.dumps({"target": name, "number": number, **outcome}), flush=True)


def _warm_up(target: Target, template: Path, root: Path) -> None:
    """Read the undamaged files, so that what is imported on the way is; then set the limit of memory."""
    unlimited = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
    for path, _ in target.mutable(template):
        shutil.rmtree(root / "out", ignore_errors=True)
        (root / "out").mkdir()
        with contextlib.suppress(UnetpipeError):
            target.read(template, path, root / "out")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEGABYTES * 2**20, unlimited))


def try_one(target: Target, template: Path, root: Path, seed: str, number: int, watch: Watch) -> dict[str, Any]:
    """Damage a copy of the good files as the seed and number say, read it, and judge what happens."""
    case, out, elsewhere = root / "case", root / "out", root / "elsewhere"
    for folder in (case, out, elsewhere):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, case, symlinks=True)
    for folder in (out, elsewhere):
        folder.mkdir()
    random = Random(f"{seed}/{target.name}/{number}")
    path, mutator = random.choice(target.mutable(case))
    path.write_bytes(mutator(random, path.read_bytes()))
    before, started = listing(root), time.process_time()
    os.chdir(elsewhere)
    watch.seen, watch.on = [], True
    kind, text = "result", ""
    try:
        with limited(), watch.noise():
            target.read(case, path, out)
    except UnetpipeError as error:
        kind, text = "refused", str(error)
        fault = bad_message(text) or ("it took all memory" if ran_out_of_memory(error) else "")
        kind, text = ("fault", f"{fault}: {text[:300]!r}") if fault else (kind, text)
    except TooLongError:
        kind, text = "hung", f"more than {SECONDS} s: {traceback.format_exc()[-2000:]}"
    except BaseException as error:
        kind, text = "fault", f"{type(error).__name__}: {traceback.format_exc()[-3000:]}"
    watch.on = False
    os.chdir(root)
    if watch.seen:
        text = "; ".join(watch.seen)
        kind = next((one for one in ("executed", "leaked") if f"{one} " in text), "fault")
    if (after := listing(root)) != before:
        kind, text = "leaked", f"wrote outside the output folder: {sorted(set(after) ^ set(before))[:5]}"
    return {"outcome": kind, "text": text, "file": path.name, "seconds": time.process_time() - started}


def bad_message(text: str) -> str:
    """What is wrong with the lines of an error; empty if they can be shown to a person."""
    lines = text.split("\n")
    if not text.strip() or not all(line.isprintable() for line in lines):
        return "a message that cannot be printed"
    if len(lines) > 1000 or any(len(line) > 2100 for line in lines):
        return "a message too long to read"
    return "a traceback" if "Traceback (most recent" in text else ""


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether a MemoryError is behind an error."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def listing(root: Path) -> list[tuple[str, int, int]]:
    """Every file and folder but those of the output folder, with size and time of change."""
    found = []
    for path in sorted(root.rglob("*")):
        if root / "out" not in (path, *path.parents) and not path.name.startswith("torchinductor_"):
            status = path.lstat()
            found.append((str(path.relative_to(root)), status.st_size if path.is_file() else 0, status.st_mtime_ns))
    return found


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise TooLongError after the processor time of one input; end the process where that does not help."""

    def too_long(*_: object) -> None:
        raise TooLongError

    signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(SECONDS_IN_C, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()


def _calm() -> None:
    """One thread for torch and numpy, no core files, no files larger than any input needs, no warnings."""
    import warnings

    warnings.simplefilter("ignore")  # as the command line does
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))


if __name__ == "__main__":
    main()
