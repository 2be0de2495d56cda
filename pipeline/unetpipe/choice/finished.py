"""The chosen model as it is handed on: post-processing, and the evidence of what was chosen, decided once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetpipe.bundle.ensemble import TrainedModel
from unetpipe.bundle.evidence import Evidence, FoldEvidence
from unetpipe.choice.candidates import Candidate
from unetpipe.choice.decision import classes_reduced
from unetpipe.choice.held_out import HeldOutCase
from unetpipe.dataset.manifest import Manifest
from unetpipe.documents import Record
from unetpipe.metrics.overlap import Overlap, mean_dice
from unetpipe.training.case_files import CaseFiles


class LargestComponentRow(Record):
    """What keeping only the largest component of some classes changes in one class or region.

    Attributes:
        name: Name of the class or region.
        dice: Mean Dice over the held-out cases as the networks have it.
        largest_only: Mean Dice with only the largest components.
    """

    name: str
    dice: float | None
    largest_only: float | None


@dataclass(frozen=True)
class FinishedModel:
    """A chosen model.

    Attributes:
        candidate: What was chosen.
        cases: Its held-out cases.
        largest: Names of the classes of which only the largest component is kept.
        overlaps: Overlaps of each case with that.
        manifest: Manifest of the dataset.
    """

    candidate: Candidate
    cases: Sequence[HeldOutCase]
    largest: tuple[str, ...]
    overlaps: Sequence[Sequence[Overlap]]
    manifest: Manifest

    def parts(self, ranking: Sequence[str]) -> dict[str, TrainedModel]:
        """The models that the bundle holds, by names that nobody typed; the better one is the first.

        Args:
            ranking: Names of all candidates, the best first.
        """
        parts: dict[str, TrainedModel] = {}
        for run in sorted(self.candidate.runs, key=lambda run: ranking.index(run.name)):
            spec = run.ensemble.spec.model_copy(update={"postprocessing": self.largest})
            if not parts and spec.evidence is not None:
                spec = spec.model_copy(update={"evidence": self._evidence(spec.evidence)})
            again = "_again" if run.configuration in parts else ""
            parts[run.configuration + again] = replace(run.ensemble, spec=spec)
        return parts

    def gains(self) -> tuple[LargestComponentRow, ...]:
        """What the post-processing changes in each class or region; empty where there is none."""
        if not self.largest:
            return ()
        before, after = (mean_dice(found) for found in ((case.overlaps for case in self.cases), self.overlaps))
        names = self.manifest.label_scheme.names
        rows = zip(names, before, after, strict=True)
        return tuple(LargestComponentRow(name=name, dice=dice, largest_only=kept) for name, dice, kept in rows)

    def _evidence(self, evidence: Evidence) -> Evidence:
        """The evidence of the trainings, with the Dice of what was chosen."""
        return Evidence(folds=tuple(self._of_fold(fold, one) for fold, one in enumerate(evidence.folds)))

    def _of_fold(self, fold: int, evidence: FoldEvidence) -> FoldEvidence:
        own = [(case, overlaps) for case, overlaps in zip(self.cases, self.overlaps, strict=True) if case.fold == fold]
        patients = {case.id: case.patient or case.id for case in self.manifest.cases}
        numbers: dict[str, int] = {}
        dice = zip(*([overlap.known_dice for overlap in overlaps] for _, overlaps in own), strict=True)
        # cases that chose weights, an end of training or the post-processing are not unseen any more
        unseen = evidence.unseen and len(evidence.patients) == evidence.predicted_cases and not self.largest
        choice = evidence.choice and evidence.choice.model_copy(update={"held_out": len(own)})
        return evidence.model_copy(
            update={
                "dice": dict(zip(self.manifest.label_scheme.names, dice, strict=True)),
                "patients": tuple(numbers.setdefault(patients[case.id], len(numbers)) for case, _ in own),
                "unseen": unseen,
                "choice": choice,
                "seconds_per_case": round(sum(case.seconds for case, _ in own) / len(own), 3),
            }
        )


def finished_model(
    candidate: Candidate, cases: Sequence[HeldOutCase], manifest: Manifest, labels: Path
) -> FinishedModel:
    """Decide on the post-processing of a chosen model, and compare its labels anew where there is some.

    Args:
        candidate: What was chosen.
        cases: Its held-out cases.
        manifest: Manifest of the dataset.
        labels: Folder of its labels, which stay as they are.
    """
    reduced, files = classes_reduced(cases), CaseFiles(manifest)
    overlaps: list[tuple[Overlap, ...]] = [case.overlaps for case in cases]
    if reduced:
        overlaps = [
            files.overlaps(files.reference(case.id, case.source), files.reduced(case.id, reduced, labels))
            for case in cases
        ]
    names = tuple(manifest.labels[index].name for index in reduced)
    return FinishedModel(candidate, cases, names, overlaps, manifest)
