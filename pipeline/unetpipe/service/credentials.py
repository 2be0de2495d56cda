"""Credentials for a DICOMweb server, from the environment, so that no command line, config or log holds them.

UNETPIPE_DICOMWEB_TOKEN                                   bearer token
UNETPIPE_DICOMWEB_USER, UNETPIPE_DICOMWEB_PASSWORD        basic authentication
UNETPIPE_DICOMWEB_CA                                      PEM file of the authorities that sign its certificate
UNETPIPE_DICOMWEB_CERT, UNETPIPE_DICOMWEB_KEY             PEM files of a client certificate
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from unetpipe.documents import Record
from unetpipe.errors import ServiceError

_PREFIX = "UNETPIPE_DICOMWEB_"


class Credentials(Record):
    """Credentials of this program, and the authorities that it trusts. The text form leaves out all of them.

    Attributes:
        token: Bearer token.
        user, password: For basic authentication.
        authorities: PEM file of certificate authorities; the system's unless given.
        certificate: PEM files of a client certificate and its key.
    """

    token: str = ""
    user: str = ""
    password: str = ""
    authorities: Path | None = None
    certificate: tuple[Path, Path] | None = None

    def __repr__(self) -> str:
        return "Credentials(...)"

    __str__ = __repr__

    @property
    def are_secret(self) -> bool:
        """Whether there is a token or a password."""
        return bool(self.token or self.password)


def credentials_from(environment: Mapping[str, str] = os.environ) -> Credentials:
    """Read the credentials.

    Raises:
        ServiceError: If there is a token and a user, half of a pair, or a file is not there.
    """
    token, user, password, ca, cert, key = (
        environment.get(_PREFIX + name, "") for name in ("TOKEN", "USER", "PASSWORD", "CA", "CERT", "KEY")
    )
    if token and user:
        raise ServiceError(f"expected either {_PREFIX}TOKEN or {_PREFIX}USER, got both")
    for one, other, names in ((user, password, "USER and PASSWORD"), (cert, key, "CERT and KEY")):
        if bool(one) != bool(other):
            raise ServiceError(f"expected both of {_PREFIX}{names}, got one")
    for path in filter(None, (ca, cert, key)):
        if not Path(path).is_file():
            raise ServiceError(f"{_PREFIX}CA, CERT and KEY must name files, got {path}")
    return Credentials(
        token=token,
        user=user,
        password=password,
        authorities=Path(ca) if ca else None,
        certificate=(Path(cert), Path(key)) if cert else None,
    )


def require_safe(url: str, credentials: Credentials) -> None:
    """Refuse a URL with which secrets would be seen by others.

    Raises:
        ServiceError: If the URL is none of HTTP, holds credentials, or would carry them over a network in clear text.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ServiceError(f"--dicomweb and --send-to take the URL of a DICOMweb server: {error}") from error
    if parts.username or parts.password:
        raise ServiceError(f"the URL holds credentials, which others can see: give them as {_PREFIX}USER and PASSWORD")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServiceError(f"{url}: expected the URL of a DICOMweb server, such as https://HOST/dicom-web")
    if parts.scheme == "http" and credentials.are_secret and not _is_loopback(parts.hostname):
        raise ServiceError("credentials are sent over https only: http would show them to everyone on the way")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
