"""The models that inference takes: bundles of this package, and bundles that others made."""

from pathlib import Path

from unetpipe.bundle.archive import read_metadata
from unetpipe.bundle.foreign.read import ForeignBundle, read_foreign_bundle
from unetpipe.bundle.read import Bundle, read_bundle
from unetpipe.bundle.spec import SPEC_KEY

AnyBundle = Bundle | ForeignBundle


def averaged_models(bundle: AnyBundle) -> tuple[AnyBundle, ...]:
    """A model, and those inside of its bundle whose logits are averaged with its own."""
    return bundle.averaged if isinstance(bundle, Bundle) else (bundle,)


def read_model(path: Path) -> AnyBundle:
    """Read a bundle folder or zip, of this package's or of others' making.

    Raises:
        BundleError: If it is missing, damaged, unsafe, or not one that can be run; says the first thing that is not
            understood.
    """
    metadata = read_metadata(path)
    return read_bundle(path) if SPEC_KEY in metadata else read_foreign_bundle(path)
