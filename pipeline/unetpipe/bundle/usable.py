"""Whether models can be used as they are here and now: trained to their end, by the steps that run here."""

import logging
from collections.abc import Iterator, Sequence

from unetpipe.bundle.read import Bundle
from unetpipe.errors import BundleError
from unetpipe.imaging.preprocessing import step_code
from unetpipe.imaging.steps import require_steps

log = logging.getLogger(__name__)


def require_usable(bundles: Sequence[Bundle]) -> None:
    """Try the preprocessing steps of models and of their first stages, and say what a person should know of either.

    Raises:
        ComponentError: If a step cannot be used, such as one of an extension that was not imported.
        BundleError: If one of several models is not trained to its end.
    """
    for bundle in bundles:
        if not bundle.spec.finished:
            if len(bundles) > 1:
                raise BundleError(f"{bundle.name} is not trained to its end, so that it cannot be averaged yet")
            log.warning("%s is not trained to its end", bundle.name)
        for one in with_first_stage(bundle):
            if one.spec.preprocessing.only_normalizes:
                continue
            require_steps(one.spec.preprocessing)
            if one.spec.step_code not in ((), step_code(one.spec.preprocessing.steps)):
                log.warning(
                    "%s was trained when the file of its preprocessing steps was another: its labels may be wrong",
                    one.name,
                )


def with_first_stage(bundle: Bundle) -> Iterator[Bundle]:
    """A model, and the one whose labels it is given."""
    yield bundle
    if bundle.spec.first_stage is not None:
        yield bundle.parts[bundle.spec.first_stage.name]
