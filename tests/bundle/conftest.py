"""Running bundles by MONAI alone, and hostile ones within bounds."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

RunMonai = Callable[..., str]
Bounded = Callable[[], AbstractContextManager[None]]

_SECONDS = 5  # of this process's own time, so that a busy machine changes nothing
_MEGABYTES = 2000


@pytest.fixture
def bounded() -> Bounded:
    """A context that lets its code take no more than five seconds of computing and 2 GB of memory."""

    def too_long(*_: Any) -> None:
        raise AssertionError(f"more than {_SECONDS} s")

    @contextmanager
    def limit() -> Iterator[None]:
        first = _peak_mb()
        before = signal.signal(signal.SIGPROF, too_long)
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
        assert _peak_mb() - first < _MEGABYTES

    return limit


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.fixture
def run_monai(tmp_path: Path) -> RunMonai:
    """Run configs of a bundle by ``python -m monai.bundle run`` where unetpipe cannot be imported; gives the output."""
    absent = tmp_path / "without_unetpipe" / "unetpipe"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ImportError('unetpipe is not installed')")

    def run(bundle: Path, *configs: str, processes: int = 1, **overrides: object) -> str:
        launcher = [sys.executable]
        if processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        files = [str(bundle / "configs" / f"{name}.json") for name in configs]
        options = [item for name, value in overrides.items() for item in (f"--{name}", str(value))]
        done = subprocess.run(
            [
                *launcher,
                "-m",
                "monai.bundle",
                "run",
                "--config_file",
                str(files),
                "--bundle_root",
                str(bundle),
                *options,
            ],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(absent.parent), "CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
