"""What the scores of all cases say about the models: each by itself, against the others, and in groups of cases."""

from collections.abc import Mapping, Sequence

from unetpipe.evaluation.comparison import compare
from unetpipe.evaluation.definitions import DEFINITIONS
from unetpipe.evaluation.document import Evaluation, ModelEvaluation, digest
from unetpipe.evaluation.inputs import Inputs
from unetpipe.evaluation.named_metrics import NamedMetric
from unetpipe.evaluation.predicted_dice import check_predictions
from unetpipe.evaluation.ranking import rank_scores
from unetpipe.evaluation.scoring import Scored
from unetpipe.evaluation.subgroups import compare_subgroups
from unetpipe.evaluation.summary import summarise
from unetpipe.metrics.scores import HIGHER_IS_BETTER


def draw_conclusions(
    scored: Scored,
    inputs: Inputs,
    metrics: Sequence[NamedMetric],
    columns: Mapping[str, Mapping[str, str]],
    seed: int,
) -> Evaluation:
    """Summarise the scores of each model, and compare the models with each other.

    Args:
        scored: Scores of every case of every model.
        inputs: What was scored.
        metrics: Metrics that a person named.
        columns: Values of each case in the columns that split the cases into groups, by the column's name.
        seed: Seed of the bootstrap.
    """
    classes, scores = scored.classes, scored.scores
    higher_is_better = {**HIGHER_IS_BETTER, **{metric.name: metric.higher_is_better for metric in metrics}}
    return Evaluation(
        dataset=inputs.dataset,
        cases=len(inputs.references),
        references_sha256=digest(inputs.references),
        seed=seed,
        models=tuple(
            ModelEvaluation(
                name=model.name,
                made_by=model.made_by,
                missing=model.missing,
                extra=model.extra,
                classes=tuple(summarise(scores[model.name], classes, inputs.patients, seed)),
            )
            for model in inputs.models
        ),
        ranking=tuple(rank_scores(scores, classes, inputs.patients, seed)) if len(scores) > 1 else (),
        comparisons=(
            tuple(compare(scores, classes, inputs.patients, seed, higher_is_better)) if len(scores) > 1 else ()
        ),
        predicted_dice=tuple(check_predictions(scores, classes, {one.name: one.predicted for one in inputs.models})),
        subgroups=tuple(compare_subgroups(scores, classes, inputs.patients, columns, seed)),
        definitions=DEFINITIONS | {metric.name: metric.meaning for metric in metrics},
        higher_is_better=higher_is_better,
        hints=scored.hints,
    )
