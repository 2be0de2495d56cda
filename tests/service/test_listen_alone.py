"""`listen` as a function: it serves until a signal comes, and says what it has done."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom

from unetpipe.service.config import ListenConfig
from unetpipe.service.listen import listen


def test_a_node_without_a_destination_keeps_its_results(
    make_bundle: Callable[..., Path],
    write_study: Callable[..., list[Path]],
    send: Callable[..., list[int | None]],
    free_port: Callable[[], int],
    wait_for: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """Rules choose between a model and none; the segmentation stays in the folder, and a signal ends the node."""
    make_bundle("brain")
    (tmp_path / "rules.yaml").write_text(
        "- {series: Modality=MR, model: brain}\n- {series: Modality=CT, model: null}\n"
    )
    config = ListenConfig(
        rules=tmp_path / "rules.yaml",
        out=tmp_path / "node",
        port=free_port(),
        health_port=free_port(),
        caller=("SENDER",),
        quiet_seconds=3600,
        at_release=True,
        device="cpu",
        uncoded=True,
        seg_type="labelmap",
    )
    brain, body = (
        write_study(tmp_path / modality, seed, modality=modality) for seed, modality in enumerate(("MR", "CT"))
    )
    problems: list[BaseException] = []

    def call() -> None:
        try:
            wait_for(lambda: send(brain, config.port) == [0] * 4)
            assert send(body, config.port) == [0] * 4
            wait_for(lambda: list((tmp_path / "node" / "results").glob("*.dcm")))
            wait_for(lambda: not list((tmp_path / "node" / "incoming").iterdir()))
        except BaseException as error:
            problems.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    caller = threading.Thread(target=call)
    caller.start()
    result = listen(config)
    caller.join()
    assert problems == []
    assert (result.received, result.segmented, result.sent, result.results_waiting) == (8, 1, 0, 1)
    assert (result.studies_waiting, result.dead_letters) == (0, 0)
    (file,) = (tmp_path / "node" / "results").glob("*.dcm")
    found = pydicom.dcmread(file)
    assert found.SegmentationType == "LABELMAP"
    assert found.StudyInstanceUID == pydicom.dcmread(brain[0]).StudyInstanceUID
