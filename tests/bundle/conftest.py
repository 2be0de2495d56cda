"""Running bundles by MONAI alone."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunMonai = Callable[..., str]


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
