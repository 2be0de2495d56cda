"""docs/clinic.md does what it says: its commands are run as they stand there, on other ports."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clinic.md"
PORTS = ("4242", "8042", "11112", "9464")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@pytest.mark.slow
def test_the_walk_through_works(
    bundle_folder: Path,
    write_study: Callable[..., list[Path]],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    """From an empty folder with a model and a study, the page's commands end with segmentations in the archive."""
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"], "/usr/sbin"])
    needed = [shutil.which(name, path=path) for name in ("Orthanc", "dcmsend", "curl")]
    if not all(needed) or not PLUGIN.is_file():
        pytest.skip("Orthanc with its DICOMweb plugin, dcmtk or curl is not installed (.ci/run installs them)")
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    for port in PORTS:
        assert port in commands
        commands = commands.replace(port, str(free_port()))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "unetpipe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unetpipe "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "reader"
    folder.mkdir()
    write_study(folder / "study" / "deep", 1)
    environment = os.environ | {"PATH": path}
    zipped = ["unetpipe", "bundle", str(bundle_folder), "--zip", str(folder / "liver.zip")]
    subprocess.run(zipped, env=environment, check=True, capture_output=True, timeout=120)
    # job control, as in the shell of a reader; what is still running when a command fails is ended
    script = f"set -emo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{commands}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, timeout=300)
    logs = "".join(file.read_text() for file in folder.glob("*.log"))
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode() + logs
    output = done.stdout.decode()
    assert "ok\n" in output
    assert "unetpipe_results_sent_total 1" in output
    assert re.search(r"stored +1\b", output)
    assert "stopping" in logs
    assert len(list((folder / "labels" / "dicom-seg").iterdir())) == 1
