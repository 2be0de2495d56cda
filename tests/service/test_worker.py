"""From a complete study to a result that is sent once, wherever the process is killed in between."""

import contextlib
import errno
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from unetpipe.errors import DeviceError, ServiceError
from unetpipe.imaging.dicom.instances import identify
from unetpipe.service import spool
from unetpipe.service.config import ListenConfig
from unetpipe.service.delivery import Delivery
from unetpipe.service.dimse import DicomNode
from unetpipe.service.journal import Journal
from unetpipe.service.node import Node, opened
from unetpipe.service.retries import RefusedError, UnavailableError
from unetpipe.service.rules import Rule
from unetpipe.service.spool import Spool
from unetpipe.service.worker import Worker

WriteStudy = Callable[..., list[Path]]
WaitFor = Callable[..., Any]


class Killed(BaseException):
    """Stands for kill -9: nothing of the program runs after it."""


class Segmenter:
    """Writes the first image of a study as its segmentation."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: BaseException | None = None

    def identity(self, rule: Rule) -> str:
        return str(rule.model)

    def segment(self, study: Path, rule: Rule, out: Path) -> tuple[Path, tuple[str, ...]]:
        del rule
        self.calls += 1
        if self.error is not None:
            raise self.error
        data = pydicom.dcmread(sorted(study.rglob("*.dcm"))[0])
        data.save_as(out / "segmentation.dcm")
        return out / "segmentation.dcm", ("empty: no class was found",)


class Archive:
    """Takes results, unless it is told not to."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.errors: list[BaseException] = []

    def store(self, path: Path) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.taken.append(identify(path).instance)


@pytest.fixture
def config(tmp_path: Path) -> ListenConfig:
    return ListenConfig(model=tmp_path / "model", out=tmp_path / "node", caller=("A",), quiet_seconds=1e-9)


@contextlib.contextmanager
def working(config: ListenConfig, segmenter: Segmenter) -> Iterator[tuple[Node, Worker]]:
    assert config.model is not None
    with opened(config) as node:
        yield node, Worker(node, [Rule(model=config.model)], segmenter, announce=lambda: None)


def receive(node: Node, files: list[Path]) -> None:
    for file in files:
        node.spool.store(file.read_bytes(), *node.names.of(identify(file)))


def test_a_result_replaces_its_study(config: ListenConfig, write_study: WriteStudy, tmp_path: Path) -> None:
    """The result is named after what it was made of and has UIDs that follow from it; the study is gone."""
    files = write_study(tmp_path / "study", 1)
    with working(config, Segmenter()) as (node, worker):
        receive(node, files)
        assert worker.step()
        assert not worker.step()
        result = next(node.results.glob("*.dcm"))
        found = identify(result)
        assert (found.series, found.instance) == node.names.uids_of(result.stem)
        assert found.study == identify(files[0]).study
        assert pydicom.dcmread(result).file_meta.MediaStorageSOPInstanceUID == found.instance
    assert [file.name for file in config.out.rglob("*.dcm")] == [result.name]


@pytest.mark.parametrize(
    ("owner", "step"), [(Segmenter, "segment"), (Journal, "add"), (Spool, "remove")], ids=lambda value: str(value)
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_loses_nothing_and_repeats_nothing(
    owner: type, step: str, after: bool, config: ListenConfig, write_study: WriteStudy, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Killed before or after any step, the next process ends with the same result, once, and nothing else."""
    files = write_study(tmp_path / "study", 1)
    original = getattr(owner, step)

    def killed(*arguments: Any) -> Any:
        if after:
            original(*arguments)
        raise Killed

    with working(config, Segmenter()) as (node, worker):
        receive(node, files)
        monkeypatch.setattr(owner, step, killed)
        with pytest.raises(Killed):
            worker.step()
        monkeypatch.undo()
    known = Journal(config.out / "journal")
    assert all(file.stem in known for file in (config.out / "results").iterdir())  # what may be sent by now
    with working(config, Segmenter()) as (node, worker):
        while worker.step():
            pass
        assert len(list(node.results.iterdir())) == 1
        assert node.spool.waiting == node.spool.dead_letters == 0
        receive(node, files)  # the sender has lost its acknowledgement, too
        assert worker.step()
        assert len(list(node.results.iterdir())) == 1
        assert node.metrics.total("studies", 'outcome="repeated"') >= 1


def test_the_same_study_has_the_same_result_after_a_day(
    config: ListenConfig, write_study: WriteStudy, tmp_path: Path
) -> None:
    """When the journal has forgotten it, it is segmented again, under the same identifiers."""
    files, segmenter = write_study(tmp_path / "study", 1), Segmenter()
    names = []
    for _ in range(2):
        with working(config, segmenter) as (node, worker):
            receive(node, files)
            assert worker.step()
            result = next(node.results.glob("*.dcm"))
            names.append(result.name)
            result.unlink()
        for record in (config.out / "journal").iterdir():
            record.unlink()
    assert segmenter.calls == 2
    assert names[0] == names[1]


def test_other_objects_make_no_other_study(config: ListenConfig, write_study: WriteStudy, tmp_path: Path) -> None:
    """A dose report or an earlier result that comes with the images again changes neither outcome nor name."""
    files = write_study(tmp_path / "study", 1)
    note = pydicom.dcmread(files[0])
    note.Modality, note.SeriesInstanceUID, note.SOPInstanceUID = "KO", "1.2.3.4.5", "1.2.3.4.5.6"
    note.file_meta.MediaStorageSOPInstanceUID = note.SOPInstanceUID
    note.save_as(tmp_path / "note.dcm")
    segmenter = Segmenter()
    with working(config, segmenter) as (node, worker):
        receive(node, files)
        assert worker.step()
        (first,) = node.results.glob("*.dcm")
        receive(node, [*files, tmp_path / "note.dcm"])
        assert worker.step()
        assert [path.name for path in node.results.glob("*.dcm")] == [first.name]
        assert segmenter.calls == 1


def test_other_objects_and_studies_of_ignored_kinds_are_forgotten(
    config: ListenConfig, write_study: WriteStudy, tmp_path: Path
) -> None:
    """A report without its images, and a study whose rule has no model, leave a count and nothing else."""
    report = write_study(tmp_path / "report", 1, slices=1, Modality="SR")
    with opened(config) as node:
        rules = [Rule(series="Modality=MR", model=None), Rule(series="Modality=CT", model=Path("model"))]
        worker = Worker(node, rules, Segmenter(), announce=lambda: None)
        others = [
            write_study(tmp_path / modality, seed, Modality=modality) for seed, modality in ((2, "MR"), (3, "PT"))
        ]
        for files in (report, *others):
            receive(node, files)
            assert worker.step()
        for outcome in ("without_images", "ignored", "failed"):
            assert node.metrics.total("studies", f'outcome="{outcome}"') == 1
        assert node.spool.waiting == 0
        assert node.spool.dead_letters == 1


@pytest.mark.parametrize("fails", [False, True])
def test_slices_that_come_late_are_no_volume(
    config: ListenConfig, write_study: WriteStudy, tmp_path: Path, fails: bool
) -> None:
    """The rest of a series is a dead letter, whether its first part was segmented or failed; all of it is not."""
    files, segmenter = write_study(tmp_path / "study", 1, slices=6), Segmenter()
    with working(config, segmenter) as (node, worker):
        segmenter.error = ServiceError("MISSING_SLICE") if fails else None
        receive(node, files[:3])
        assert worker.step()
        segmenter.error = None
        receive(node, files[3:])
        assert worker.step()
        reasons = [json.loads(file.read_text())["reason"] for file in config.out.rglob("dead-letter/*/reason.json")]
        late = "slices came after others of their series were dealt with: send the whole study again"
        assert sorted(reasons) == (["MISSING_SLICE", late] if fails else [late])
        receive(node, files)
        assert worker.step()
        assert len(list(node.results.iterdir())) == (1 if fails else 2)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ServiceError("SEVERAL_SERIES: choose"), "SEVERAL_SERIES: choose"), (KeyError("Doe^Jane"), "KeyError")],
)
def test_a_study_that_fails_is_a_dead_letter(
    error: Exception, reason: str, config: ListenConfig, write_study: WriteStudy, tmp_path: Path, logged: list[str]
) -> None:
    """Its files and the reason are kept, errors of libraries are not quoted, and the next study is segmented."""
    segmenter = Segmenter()
    with working(config, segmenter) as (node, worker):
        segmenter.error = error
        receive(node, write_study(tmp_path / "study", 1))
        assert worker.step()
        segmenter.error = None
        receive(node, write_study(tmp_path / "other", 2))
        assert worker.step()
        assert node.spool.dead_letters == len(list(node.results.iterdir())) == 1
    kept = next((config.out / "dead-letter").iterdir())
    assert json.loads((kept / "reason.json").read_text()) == {"reason": reason}
    assert len(list(kept.rglob("*.dcm"))) == 4
    assert "Doe" not in "".join(logged)


def test_a_gpu_that_has_failed_ends_the_node(config: ListenConfig, write_study: WriteStudy, tmp_path: Path) -> None:
    """No other study can be segmented either: this one waits for the next start, and is then segmented."""
    segmenter = Segmenter()
    segmenter.error = DeviceError("the device cuda has failed")
    with working(config, segmenter) as (node, worker):
        receive(node, write_study(tmp_path / "study", 1))
        with pytest.raises(DeviceError):
            worker.step()
        assert node.spool.dead_letters == 0
    segmenter.error = None
    with working(config, segmenter) as (node, worker):
        assert worker.step()
        assert len(list(node.results.glob("*.dcm"))) == 1


def test_results_are_sent_when_the_archive_is_back(
    config: ListenConfig, write_study: WriteStudy, wait_for: WaitFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive that takes nothing now is asked again; one that refuses a result makes it a dead letter."""
    monkeypatch.setattr("unetpipe.service.delivery._FIRST_WAIT_SECONDS", 0.01)
    archive = Archive()
    archive.errors = [UnavailableError("away"), ServiceError("wrong password"), KeyError("x"), RefusedError("not this")]
    with working(config, Segmenter()) as (node, worker):
        for seed in (1, 2):
            receive(node, write_study(tmp_path / str(seed), seed))
            assert worker.step()
        with Delivery(node, archive).running():
            wait_for(lambda: not list(node.results.glob("*.dcm")))
        assert len(archive.taken) == node.spool.dead_letters == 1
        assert node.metrics.total("send_failures") == 4


def test_a_result_that_is_taken_away_ends_nothing(
    config: ListenConfig, write_study: WriteStudy, wait_for: WaitFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person may move one before, while or after it is sent: the others are sent."""
    monkeypatch.setattr("unetpipe.service.delivery._FIRST_WAIT_SECONDS", 0.01)
    taken: list[str] = []

    class Thief:
        def store(self, path: Path) -> None:
            path.unlink()
            taken.append(path.name)
            if len(taken) < 3:
                raise (FileNotFoundError(path), RefusedError("not this"))[len(taken) - 1]

    with working(config, Segmenter()) as (node, worker):
        for seed in (1, 2, 3, 4):
            receive(node, write_study(tmp_path / str(seed), seed))
            assert worker.step()
        delivery = Delivery(node, Thief())
        with delivery.running():
            wait_for(lambda: len(taken) == 4 and node.metrics.total("results_sent") == 2)
            assert delivery.is_alive
        assert node.spool.dead_letters == 0


def test_a_full_disk_does_not_end_the_sending(
    config: ListenConfig, write_study: WriteStudy, wait_for: WaitFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    logged: list[str],
) -> None:  # fmt: skip
    """A result that cannot become a dead letter waits until there is room, leaves no trace, and stops no other."""
    monkeypatch.setattr("unetpipe.service.delivery._FIRST_WAIT_SECONDS", 0.01)
    full = threading.Event()
    full.set()
    write = spool.write_document

    def written(path: Path, document: Any) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, document)

    taken: list[str] = []

    class Choosy:
        def store(self, path: Path) -> None:
            if path == refused:
                raise RefusedError("not this")
            taken.append(path.name)

    with working(config, Segmenter()) as (node, worker):
        for seed in (1, 2):
            receive(node, write_study(tmp_path / str(seed), seed))
            assert worker.step()
        refused = min(node.results.glob("*.dcm"), key=lambda file: file.stat().st_mtime)
        monkeypatch.setattr(spool, "write_document", written)
        delivery = Delivery(node, Choosy())
        with delivery.running():
            wait_for(lambda: node.metrics.total("send_failures") > 2 and taken)
            assert refused.exists()
            full.clear()
            wait_for(lambda: node.spool.dead_letters == 1 and not refused.exists())
            assert delivery.is_alive
        assert [path.name for path in (config.out / "dead-letter").iterdir()] == [refused.stem]
    assert any("No space left on device" in line for line in logged)
    assert str(tmp_path) not in "".join(logged)


def full_disk(*_: Any, **__: Any) -> None:
    """Stands for what a full disk does not take."""
    raise OSError(errno.ENOSPC, "No space left on device", "/name/of/a/file")


@pytest.mark.parametrize("place", ["journal", "spool"])
def test_a_full_disk_does_not_end_the_node(
    config: ListenConfig, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str,
    logged: list[str],
) -> None:  # fmt: skip
    """A study that can be neither segmented nor recorded as failed stays until the next start; others go on."""
    segmenter = Segmenter()
    files, others = (write_study(tmp_path / str(seed), seed) for seed in (1, 2))
    with working(config, segmenter) as (node, worker):
        segmenter.error = OSError(errno.ENOSPC, "No space left on device", "/name/of/a/file")
        receive(node, files)
        monkeypatch.setattr(f"unetpipe.service.{place}.write_document", full_disk)
        assert worker.step()
        assert not node.scratch.exists()
        monkeypatch.undo()
        segmenter.error = None
        receive(node, files)  # what comes again of it waits
        receive(node, others)
        assert worker.step()
        assert not worker.step()
        assert len(list(node.results.glob("*.dcm"))) == 1
        assert node.spool.dead_letters == 0
        assert node.spool.waiting == 1
    assert any("waits for the next start of the node: OSError; No space left on device" in line for line in logged)
    assert "/name/of/a/file" not in "".join(logged)
    with working(config, segmenter) as (node, worker):
        for _ in range(4):
            worker.step()
        assert len(list(node.results.glob("*.dcm"))) == 2
        assert node.spool.waiting == node.spool.dead_letters == 0


@pytest.mark.parametrize("step", ["take", "remove"])
def test_a_disk_that_lets_no_study_go_does_not_end_the_node(
    config: ListenConfig, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A study that cannot be taken is asked for again; one that cannot be removed is, at the next start."""
    segmenter = Segmenter()
    with working(config, segmenter) as (node, worker):
        receive(node, write_study(tmp_path / "study", 1))
        monkeypatch.setattr(Spool, step, full_disk)
        assert worker.step() == (step == "remove")
        monkeypatch.undo()
        assert worker.step() == (step == "take")
        assert len(list(node.results.glob("*.dcm"))) == 1
    with working(config, segmenter) as (node, worker):
        assert worker.step() == (step == "remove")
        assert [*config.out.glob("working/*")] == []
    assert segmenter.calls == 1


def test_a_node_that_cannot_be_reached_is_unavailable(
    write_study: WriteStudy, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Neither a closed port nor an unknown name is a reason to give up."""
    (file,) = write_study(tmp_path / "study", 1, slices=1)
    for address in (f"ARCHIVE@127.0.0.1:{free_port()}", "ARCHIVE@host.invalid:104"):
        with pytest.raises(UnavailableError, match="cannot be reached"):
            DicomNode(address, "UNETPIPE").store(file)


def test_a_node_of_the_default_transfer_syntax_takes_results(
    write_study: WriteStudy, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Every node takes implicit VR, some take nothing else: a file of explicit VR is sent so."""
    (file,) = write_study(tmp_path / "study", 1, slices=1)
    assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    archive, port, taken = AE(ae_title="ARCHIVE"), free_port(), []
    archive.add_supported_context(CTImageStorage, ImplicitVRLittleEndian)

    def take(event: evt.Event) -> int:
        taken.append((event.context.transfer_syntax, event.dataset.SOPInstanceUID))
        return 0

    server = archive.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    DicomNode(f"ARCHIVE@127.0.0.1:{port}", "UNETPIPE").store(file)
    server.shutdown()
    assert taken == [(ImplicitVRLittleEndian, pydicom.dcmread(file).SOPInstanceUID)]


def test_a_node_that_does_not_store_segmentations_refuses(
    write_study: WriteStudy, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """A result of a kind, or with a status, that will never be taken is refused; a lack of room is not."""
    (file,) = write_study(tmp_path / "study", 1, slices=1)
    statuses = [0xA700, 0xC001, 0xB000]
    archive, port = AE(ae_title="ARCHIVE"), free_port()
    archive.add_supported_context(Verification)
    handlers = [(evt.EVT_C_STORE, lambda _: statuses.pop(0))]
    server = archive.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    node = DicomNode(f"ARCHIVE@127.0.0.1:{port}", "UNETPIPE")
    with pytest.raises(RefusedError, match="does not store objects of this kind"):
        node.store(file)
    archive.shutdown()
    archive.add_supported_context(CTImageStorage)
    server = archive.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    with pytest.raises(UnavailableError, match="no room for the result now"):
        node.store(file)
    with pytest.raises(RefusedError, match="refused the result with status C001"):
        node.store(file)
    node.store(file)  # a warning: stored with changes
    server.shutdown()
