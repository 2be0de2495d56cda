"""The optional libraries of the DICOM network."""

from collections.abc import Iterator
from contextlib import contextmanager

from unetpipe.errors import ServiceError


@contextmanager
def clinic_extra() -> Iterator[None]:
    """Import modules that need the extra `clinic` inside this.

    Raises:
        ServiceError: If it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("pynetdicom", "dicomweb_client"):
            raise
        raise ServiceError(f"{error.name} is not installed: pip install 'unetpipe[clinic]'") from error
