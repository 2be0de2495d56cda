"""Which candidate is taken, and which of its classes are better with only their largest component."""

from collections.abc import Mapping, Sequence

import numpy as np

from unetpipe.choice.candidates import Candidate
from unetpipe.choice.held_out import HeldOutCase
from unetpipe.evaluation.ranking import RankedModel
from unetpipe.training.postprocessing import classes_to_reduce

RULE = (
    "Of the models that are not behind the best mean Dice beyond chance (95 % interval of the difference in the same "
    "patients), the one with the fewest parts is taken, and of these the one with the highest mean Dice."
)


def chosen_candidate(ranking: Sequence[RankedModel], candidates: Sequence[Candidate]) -> Candidate:
    """Apply `RULE`. nnU-Net takes the highest mean, whatever it costs and however little it is ahead.

    Args:
        ranking: Candidates in the order of their mean Dice, the best first.
        candidates: The same candidates in any order.
    """
    by_name: Mapping[str, Candidate] = {candidate.name: candidate for candidate in candidates}
    return min((by_name[one.name] for one in ranking if one.tied), key=lambda candidate: candidate.models)


def classes_reduced(cases: Sequence[HeldOutCase]) -> list[int]:
    """Class indices of which only the largest component is kept, ascending.

    That has to be better over all cases (`classes_to_reduce`), and in no fold worse on average.
    """
    gains = np.nan_to_num(np.array([case.gains for case in cases]))
    folds = np.array([case.fold for case in cases])
    of_folds = np.stack([gains[folds == fold].mean(0) for fold in np.unique(folds)])
    return [index for index in classes_to_reduce(gains) if (of_folds[:, index] >= 0).all()]
