"""From a complete study to a result, one study at a time.

What is done is on disk before what it was made from is removed: the result is made in OUT/segmented, the journal says
so, the result moves to OUT/results, from where it is sent, and then the study goes. A kill between any two of these
loses nothing, and makes and sends nothing twice.
"""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from unetpipe.components import first_line
from unetpipe.errors import DeviceError, ImageFileError, UnetpipeError
from unetpipe.files import sync_folder
from unetpipe.imaging.dicom.choice import NoImageError
from unetpipe.imaging.dicom.headers import NO_IMAGE_MODALITIES
from unetpipe.imaging.dicom.instances import identify, renumber
from unetpipe.service.journal import NO_MODEL, Segmented
from unetpipe.service.node import Node
from unetpipe.service.retries import reason_of
from unetpipe.service.rules import Rule, rule_for
from unetpipe.service.spool import PRIVATE, Study

log = logging.getLogger(__name__)


class StudySegmenter(Protocol):
    """Segments studies (`segmenter.Segmenter`)."""

    def identity(self, rule: Rule) -> str:
        """Hash of what a result depends on beside the study."""

    def segment(self, study: Path, rule: Rule, out: Path) -> tuple[Path, tuple[str, ...]]:
        """Write the segmentation of a study, and return its file and what a person should check."""


class Worker:
    """Segments the studies of a spool.

    Args:
        node: Node whose studies are segmented.
        rules: Rules that choose the model.
        segmenter: Loaded models.
        announce: Called when there is a new result.
    """

    def __init__(
        self, node: Node, rules: Sequence[Rule], segmenter: StudySegmenter, *, announce: Callable[[], None]
    ) -> None:
        self._node, self._rules, self._segmenter, self._announce = node, rules, segmenter, announce
        for made in node.segmented.glob("*.dcm"):
            if made.stem in node.journal:  # the process was killed before it was moved
                made.replace(node.results / made.name)

    def step(self) -> bool:
        """Take one study as far as it goes; False where none is complete, or the disk gives none.

        A study that the disk does not let go, as a full one, stays where it is until the node starts again.
        """
        try:
            study = self._node.spool.take()
        except OSError as error:
            log.warning("no study can be taken: %s", reason_of(error))
            return False
        if study is None:
            return False
        outcome, failure = self._outcome(study)
        try:
            self._put_away(study, failure)
        except OSError as error:
            reasons = "; ".join(filter(None, (failure, reason_of(error))))
            log.warning("study %s waits for the next start of the node: %s", study.name, reasons)
        self._node.metrics.count("studies", f'outcome="{outcome}"')
        log.info("study %s: %s", study.name, outcome)
        return True

    def _outcome(self, study: Study) -> tuple[str, str]:
        """Segment a study; what has become of it, and why it has failed, if it has.

        Raises:
            DeviceError: If no other study can be segmented either.
        """
        try:
            if study.fault:
                raise UnetpipeError(study.fault)
            return self._segmented(study), ""
        except NoImageError:
            return "without_images", ""  # such as a dose report that comes after its images
        except DeviceError:
            raise  # the study waits for the next start
        except UnetpipeError as error:
            return "failed", first_line(error)
        except Exception as error:  # one study must not end the node
            return "failed", type(error).__name__

    def _put_away(self, study: Study, failure: str) -> None:
        """Remove a study that is done, or make it a dead letter where there is a reason for it.

        Raises:
            OSError: If the disk does not take it.
        """
        if not failure:
            self._node.spool.remove(study)
            return
        failed = Segmented(study=study.name, series=_images_of(study), model=NO_MODEL)
        self._node.journal.add(self._node.names.result(failed), failed)
        self._node.spool.bury(study, failure)
        log.warning("study %s is a dead letter: %s", study.name, failure)

    def _segmented(self, study: Study) -> str:
        """Segment a study, unless that has been done.

        Raises:
            NoImageError: If it holds other objects only.
            UnetpipeError: If it cannot be segmented.
        """
        rule = rule_for(study.folder, self._rules)
        if rule is None:
            raise UnetpipeError("no rule chooses a model for it")
        if rule.model is None:
            return "ignored"
        segmented = Segmented(study=study.name, series=_images_of(study), model=self._segmenter.identity(rule))
        if self._node.journal.is_repeat(segmented):
            return "repeated"
        if self._node.journal.is_remainder(segmented):
            raise UnetpipeError("slices came after others of their series were dealt with: send the whole study again")
        name = self._node.names.result(segmented)
        made = self._node.segmented / f"{name}.dcm"
        if not made.exists():  # it does where the process was killed before the journal said so
            self._segment(study, rule, made)
        self._node.journal.add(name, segmented)
        made.replace(self._node.results / made.name)
        self._announce()
        return "segmented"

    def _segment(self, study: Study, rule: Rule, made: Path) -> None:
        start = time.perf_counter()
        shutil.rmtree(self._node.scratch, ignore_errors=True)
        try:
            self._node.scratch.mkdir(mode=PRIVATE)
            file, warnings = self._segmenter.segment(study.folder, rule, self._node.scratch)
            for warning in warnings:
                log.warning("study %s: %s", study.name, warning)
            series, instance = self._node.names.uids_of(made.stem)
            renumber(file, series=series, instance=instance)
            file.replace(made)
            sync_folder(made.parent)
        finally:
            shutil.rmtree(self._node.scratch, ignore_errors=True)  # a full disk needs room for what comes next
        self._node.metrics.count("segmentation_seconds", by=time.perf_counter() - start)


def _images_of(study: Study) -> dict[str, tuple[str, ...]]:
    """Names of the instances of each series but those of other objects, which may come and go beside the images.

    An earlier result or a dose report makes no other study of the same images. A study of such objects alone has all.
    """
    series = study.series()
    images = {one: names for one, names in series.items() if not _is_other(study.folder / one / f"{names[0]}.dcm")}
    return images or series


def _is_other(file: Path) -> bool:
    try:
        return identify(file).modality in NO_IMAGE_MODALITIES
    except ImageFileError:
        return False
