"""The bundles that can be called by their names."""

import logging

from unetpipe.bundle.catalogue import VARIABLE, ListedBundle, list_bundles
from unetpipe.config.models import ModelsConfig
from unetpipe.documents import Record

log = logging.getLogger(__name__)


class ModelsResult(Record):
    """The result of `models`.

    Attributes:
        bundles: A row for each bundle.
    """

    bundles: tuple[ListedBundle, ...]


def models(config: ModelsConfig) -> ModelsResult:  # noqa: ARG001 - there is one action
    """List the bundles that ship with unetpipe, and those in the folder that `UNETPIPE_BUNDLES` names."""
    bundles = list_bundles()
    if not bundles:
        log.info("there are no bundles; those in the folder that %s names would be listed", VARIABLE)
    return ModelsResult(bundles=bundles)
