"""Sending results by C-STORE."""

import re
from pathlib import Path

from pynetdicom import AE
from pynetdicom.association import Association

from unetpipe.errors import ServiceError
from unetpipe.imaging.dicom.instances import identify, read_whole
from unetpipe.service.quiet import quiet_libraries
from unetpipe.service.retries import RefusedError, UnavailableError

_ADDRESS = re.compile(r"(?P<title>[^@]{1,16})@(?P<host>[^@:]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
_SECONDS = 30.0
_IMPLICIT_LITTLE_ENDIAN, _EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


class DicomNode:
    """Another node that takes results.

    Args:
        address: AETITLE@HOST:PORT.
        calling: AE title of this node.

    Raises:
        ServiceError: If the address is written otherwise.
    """

    def __init__(self, address: str, calling: str) -> None:
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise ServiceError(f"{address}: expected AETITLE@HOST:PORT or the URL of a DICOMweb server")
        self._title, self._host, self._port = match["title"], match["host"].strip("[]"), int(match["port"])
        self._calling = calling

    @quiet_libraries
    def store(self, path: Path) -> None:
        """Send one instance.

        Raises:
            UnavailableError: If the node cannot be reached, or has no room now.
            RefusedError: If it refuses this kind of object, or the instance.
            ImageFileError: If the file is damaged.
        """
        found = identify(path)
        here = AE(ae_title=self._calling)
        here.connection_timeout = here.acse_timeout = here.dimse_timeout = here.network_timeout = _SECONDS
        here.add_requested_context(found.sop_class, _offered(found.syntax))
        try:
            association = here.associate(self._host, self._port, ae_title=self._title)
        except OSError as error:  # a name that is not known
            raise UnavailableError(f"{self._title} cannot be reached: {error.strerror}") from error
        if not association.is_established:
            raise self._refusal(association)
        try:
            status = association.send_c_store(read_whole(path)).get("Status")
        finally:
            association.release()
        _require_stored(status)

    def _refusal(self, association: Association) -> ServiceError:
        if association.rejected_contexts:
            return RefusedError(f"{self._title} does not store objects of this kind")
        return UnavailableError(f"{self._title} cannot be reached, or does not accept the association")


def _offered(syntax: str) -> list[str]:
    """The transfer syntax of a file, and where it is not compressed the one that every node takes (PS3.5, 10.1)."""
    return [syntax, _IMPLICIT_LITTLE_ENDIAN] if syntax == _EXPLICIT_LITTLE_ENDIAN else [syntax]


def _require_stored(status: int | None) -> None:
    """Raise unless a status means that the instance is stored.

    Raises:
        UnavailableError: If there is no status, or it says that resources are lacking.
        RefusedError: If the instance is refused.
    """
    if status is None:
        raise UnavailableError("the node did not answer to the result")
    if status >> 8 == 0xA7:
        raise UnavailableError(f"the node has no room for the result now (status {status:04X})")
    if status != 0 and status >> 12 != 0xB:
        raise RefusedError(f"the node refused the result with status {status:04X}")
