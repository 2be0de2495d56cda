"""`kill -9` of preprocess, infer, evaluate and bundle: the same command again gives the files of an undisturbed run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Crash = Callable[..., Any]
Tries = Callable[[int, int], int]
Record = Callable[..., None]
COMMAND = "UNETPIPE_RELIABILITY=full pytest tests/reliability/crashes"


def test_preprocess(crash: Crash, tries: Tries, record_fault: Record, balls: Path, contents: Any) -> None:
    """Every file of the work folder but the page, which says when it was made, has the same bytes."""

    def start(where: Path) -> None:
        where.mkdir()
        (where / "set").symlink_to(balls)

    found = crash(
        ["preprocess", "set", "--out", "work"],
        kills=tries(2, 16),
        start=start,
        read=lambda where: contents(where / "work", "preview.html"),
        seed=1,
    )
    print(*found.reports, sep="\n")
    record_fault(
        "kill -9 while preprocessing",
        tried=found.killed,
        lost=found.lost,
        hung=found.hung,
        outcome="the same command goes on, and the work folder has the bytes of an undisturbed run",
        command=COMMAND,
    )


@pytest.mark.parametrize("again", [(), ("--skip-existing",)])
def test_infer(
    crash: Crash, tries: Tries, record_fault: Record, bundle_folder: Path, scans: Path, contents: Any, again: Any
) -> None:
    """Labels have the same bytes; predictions.json has the same scans, and differs in seconds and statuses."""

    def start(where: Path) -> None:
        where.mkdir()
        (where / "scans").symlink_to(scans)
        (where / "bundle").symlink_to(bundle_folder)

    found = crash(
        ["infer", "bundle", "scans", "--out", "labels", "--device", "cpu"],
        kills=tries(2, 10),
        start=start,
        read=lambda where: contents(where / "labels", "predictions.json"),
        seed=2,
        again=again,
    )
    print(*found.reports, sep="\n")
    record_fault(
        f"kill -9 while segmenting{', then --skip-existing' if again else ''}",
        tried=found.killed,
        lost=found.lost,
        hung=found.hung,
        outcome="every label map is whole or not there; the same command gives those of an undisturbed run",
        command=COMMAND,
    )


def test_evaluate(crash: Crash, tries: Tries, record_fault: Record, balls: Path, contents: Any) -> None:
    """Tables and summary have the same bytes; the report says when it was made."""

    def start(where: Path) -> None:
        shutil.copytree(balls / "labelsTr", where / "references")
        shutil.copytree(balls / "labelsTr", where / "predictions")

    found = crash(
        ["evaluate", "predictions", "references", "--out", "report"],
        kills=tries(2, 10),
        start=start,
        read=lambda where: contents(where / "report", "*.html"),
        seed=3,
    )
    print(*found.reports, sep="\n")
    record_fault(
        "kill -9 while evaluating",
        tried=found.killed,
        lost=found.lost,
        hung=found.hung,
        outcome="tables and summary are those of an undisturbed run",
        command=COMMAND,
    )


def test_bundle(crash: Crash, tries: Tries, record_fault: Record, bundle_folder: Path, contents: Any) -> None:
    """Folder and zip have the same bytes, but for TorchScript, in which torch orders constants as it likes."""

    def start(where: Path) -> None:
        shutil.copytree(bundle_folder, where / "bundle")

    def read(where: Path) -> dict[str, Any]:
        (where / "unpacked").mkdir()
        if (where / "model.zip").exists():
            shutil.unpack_archive(where / "model.zip", where / "unpacked")
            (where / "model.zip").unlink()
        return contents(where, "model.ts", "exports.json")

    found = crash(
        ["bundle", "bundle", "--torchscript", "--zip", "model.zip"],
        kills=tries(2, 10),
        start=start,
        read=read,
        seed=4,
    )
    print(*found.reports, sep="\n")
    record_fault(
        "kill -9 while bundling",
        tried=found.killed,
        lost=found.lost,
        hung=found.hung,
        outcome="folder and zip have the bytes of an undisturbed run",
        command=COMMAND,
    )
