"""The bundles that can be called by their names."""

from unetpipe.bundle.catalogue import ListedBundle, list_bundles
from unetpipe.config.models import ModelsConfig
from unetpipe.documents import Record


class ModelsResult(Record):
    """The result of `models`.

    Attributes:
        bundles: A row for each bundle.
    """

    bundles: tuple[ListedBundle, ...]


def models(config: ModelsConfig) -> ModelsResult:  # noqa: ARG001 - there is one action
    """List the bundles that ship with unetpipe, and those in the folder that `UNETPIPE_BUNDLES` names."""
    return ModelsResult(bundles=list_bundles())
