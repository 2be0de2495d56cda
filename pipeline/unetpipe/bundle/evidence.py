"""What a run measured of its model: how it was trained, and how good its labels are in cases that it had not seen."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from unetpipe.documents import Record
from unetpipe.evaluation.summary import bootstrap_interval, pool
from unetpipe.training.budget_choice import BudgetChoice

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_SEED = 0  # of the bootstrap, as `unetpipe evaluate` has it unless told otherwise


class FoldEvidence(Record):
    """One network's training, and the Dice of its labels in the cases that were held out.

    Attributes:
        training_cases, held_out_cases: Number of cases that it learned from, and that it did not.
        epochs, iterations, batch_size: Length of the training, and patches in each of its steps.
        choice: The plan that a budget in minutes left time for, and why; None where the plan was followed as it is.
        optimizer, loss: Names of the optimiser and the loss.
        seconds: Time of the training with all of its validation.
        device: Name of the device.
        memory_gb: Most memory in use while it was trained, in GiB: the GPU's tensors, or of the whole process.
        dice: Dice of each structure in each case that is counted, by the structure's name; None where neither
            reference nor labels hold it.
        patients: Number of the patient of each of these cases.
        patients_apart: Whether patients are known, and none is both learned from and held out; None of bundles that are
            older than this.
        unseen: Whether these cases had no part in choosing the weights or the end of training.
        seconds_per_case: Time from a case's file to its labels.
        inference_memory_gb: Most of the GPU's memory in use meanwhile; None where it was not a GPU.
    """

    training_cases: int
    held_out_cases: int
    epochs: int
    iterations: int
    batch_size: int
    choice: BudgetChoice | None = None
    optimizer: str
    loss: str
    seconds: Amount
    device: str
    memory_gb: Amount | None = None
    dice: Mapping[str, tuple[Share | None, ...]]
    patients: tuple[int, ...]
    patients_apart: bool | None = None
    unseen: bool
    seconds_per_case: Amount
    inference_memory_gb: Amount | None = None

    @model_validator(mode="after")
    def _each_case_has_a_patient(self) -> Self:
        if any(len(values) != len(self.patients) for values in self.dice.values()):
            raise ValueError(f"the Dice of each structure should be known in {len(self.patients)} cases")
        return self

    @property
    def predicted_cases(self) -> int:
        """Number of held-out cases that there was time to predict."""
        return min(self.held_out_cases, self.choice.held_out) if self.choice else self.held_out_cases

    @property
    def plan_sentence(self) -> str:
        """What was trained of the plan, and why; empty without a budget in minutes."""
        return f"{self.choice.name}: {self.choice.sentence}, {self.iterations} were made" if self.choice else ""


class Evidence(Record):
    """The evidence of all networks of a bundle.

    The dataset's name is not in it: a folder may be named after a patient. What the data is, a person states (`About`).

    Attributes:
        folds: Evidence of each network.
    """

    folds: tuple[FoldEvidence, ...]

    @model_validator(mode="before")
    @classmethod
    def _forget_the_dataset(cls, given: Any) -> Any:
        """Leave out the dataset's name, which the first bundles with evidence have."""
        return {key: value for key, value in given.items() if key != "dataset"} if isinstance(given, dict) else given

    @property
    def cases(self) -> int:
        """Number of cases that the Dice is measured in."""
        return sum(len(fold.patients) for fold in self.folds)


class DiceFigure(Record):
    """Dice of one structure over all cases that were held out by some fold.

    Attributes:
        name: Name of the structure.
        mean: Mean over patients.
        low, high: 95 % bootstrap interval of the mean, by patients.
        patients: Number of patients in whom reference or labels hold the structure.
    """

    name: str
    mean: float
    low: float
    high: float
    patients: int


def dice_figures(evidence: Evidence) -> list[DiceFigure]:
    """The Dice of each structure, cases of all folds pooled; structures that no case holds are left out."""
    names = list(dict.fromkeys(name for fold in evidence.folds for name in fold.dice))
    rows = [
        [np.nan if value is None else value for value in case]
        for fold in evidence.folds
        for case in zip(*(fold.dice.get(name, (None,) * len(fold.patients)) for name in names), strict=True)
    ]
    if not rows:
        return []
    patients = [f"{index} {patient}" for index, fold in enumerate(evidence.folds) for patient in fold.patients]
    table = pool(np.array(rows, dtype=float), patients)
    low, high = bootstrap_interval(table, _SEED)
    counts = np.isfinite(table).sum(axis=0)
    return [
        DiceFigure(
            name=name,
            mean=float(np.nanmean(table[:, n])),
            low=float(low[n]),
            high=float(high[n]),
            patients=int(counts[n]),
        )
        for n, name in enumerate(names)
        if counts[n]
    ]
