"""A DICOMweb server: series are looked up (QIDO-RS), fetched (WADO-RS) and results stored (STOW-RS).

Messages hold no UID: neither URLs nor what a server answers are repeated.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from dicomweb_client.web import DICOMwebClient

from unetpipe.errors import ServiceError
from unetpipe.imaging.dicom.headers import NO_IMAGE_MODALITIES
from unetpipe.imaging.dicom.instances import read_whole
from unetpipe.service.credentials import Credentials, require_safe
from unetpipe.service.quiet import quiet_libraries
from unetpipe.service.retries import RefusedError, UnavailableError, retried

Value = TypeVar("Value")

_TIMEOUT_SECONDS = (10.0, 120.0)  # to connect, and without a byte of the answer
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_ROOM = 0xA7  # "out of resources", the high byte of a failure reason (PS3.18, table 10.5.3-1)
_CONFLICT = 409  # nothing was stored; the body says why
_FAILED, _REASON = "00081198", "00081197"  # FailedSOPSequence, FailureReason
_STORE_ANSWERS = frozenset(f"application/{kind}" for kind in ("dicom+json", "json", "dicom+xml", "xml"))
_REFUSED = frozenset({400, 406, 409, 413, 415, 422})


@dataclass(frozen=True)
class ServedSeries:
    """A series of a study on the server.

    Attributes:
        uid: SeriesInstanceUID.
        instances: Number of its instances; None where the server does not say.
    """

    uid: str
    instances: int | None


class DicomwebServer:
    """A DICOMweb server. Requests that fetch are repeated while it is unavailable.

    Args:
        url: URL of its DICOMweb service.
        credentials: Credentials that it is sent, and the authorities that vouch for it.

    Raises:
        ServiceError: If the URL cannot be used, or would show credentials to others.
    """

    def __init__(self, url: str, credentials: Credentials) -> None:
        require_safe(url, credentials)
        session = _Session()
        if credentials.token:
            session.auth = _bearer(credentials.token)
        elif credentials.user:
            session.auth = (credentials.user, credentials.password)
        if credentials.authorities is not None:
            session.verify = str(credentials.authorities)
        if credentials.certificate is not None:
            session.cert = (str(credentials.certificate[0]), str(credentials.certificate[1]))
        try:
            self._client = DICOMwebClient(url.rstrip("/"), session=session, timeout=_TIMEOUT_SECONDS)
        except ValueError as error:
            raise ServiceError(f"{url}: dicomweb-client does not take this URL") from error
        self._client.set_http_retry_params(retry=False)  # its retries send an empty body after a large one

    def image_series(self, study: str) -> list[ServedSeries]:
        """The series of a study that may hold images.

        Raises:
            UnavailableError: If the server does not answer.
            ServiceError: If it refuses, or there is no such study.
        """
        found = self._all_series(study)
        series = [one for modality, one in found if modality not in NO_IMAGE_MODALITIES]
        if not series:
            raise ServiceError(f"the DICOMweb server has {'no image series of' if found else 'not got'} the study")
        return series

    def _all_series(self, study: str) -> list[tuple[str | None, ServedSeries]]:
        """All series of a study, asked for until there is nothing new: a server may give a few at a time."""
        found: dict[str, tuple[str | None, ServedSeries]] = {}
        given = 0
        while True:
            page = self._page(study, given)
            given += len(page)
            new = {one.uid: (modality, one) for modality, one in page if one.uid not in found}
            if not new:
                return [*found.values()]
            found |= new

    def _page(self, study: str, offset: int) -> list[tuple[str | None, ServedSeries]]:
        """The series of a study after as many, or the first of them."""

        def search() -> list[tuple[str | None, ServedSeries]]:
            return [*map(_served, self._client.search_for_series(study, offset=offset or None))]

        return retried(lambda: self._asked(search))

    def fetch(self, study: str, series: ServedSeries, folder: Path) -> None:
        """Write all instances of a series into a folder, under names that begin with its UID.

        Raises:
            UnavailableError: If the server does not answer, or breaks off.
            ServiceError: If it refuses, or gives fewer or more instances than it says it has.
        """
        count = retried(lambda: self._asked(lambda: self._fetch(study, series, folder)))
        if count != (series.instances or count) or not count:
            raise ServiceError(f"the DICOMweb server has {series.instances} instances of a series, but gave {count}")

    def _fetch(self, study: str, series: ServedSeries, folder: Path) -> int:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        media = (("application/dicom", "*"),)
        count = 0
        for data in self._client.iter_series(study, series.uid, media_types=media):
            data.save_as(folder / f"{series.uid}-{count:06d}.dcm", enforce_file_format=True)
            count += 1
        return count

    def store(self, path: Path) -> None:
        """Store one instance.

        Raises:
            UnavailableError: If the server does not answer, or has no room now.
            RefusedError: If it refuses the instance.
            ServiceError: If it refuses whatever is asked, as without the right credentials, or another answers for it,
                as the page of a proxy where people log in.
            ImageFileError: If the file is damaged.
        """
        data = read_whole(path)
        answer = self._asked(lambda: self._client.store_instances([data]))
        failed = answer.get("FailedSOPSequence")  # Orthanc gives an empty one on success
        if failed:
            raise _not_stored(failed[0].get("FailureReason"))

    @quiet_libraries
    def _asked(self, request: Callable[[], Value]) -> Value:
        with _plain_errors():
            return request()


class _Session(requests.Session):
    """Prefers authorities of its own to those of REQUESTS_CA_BUNDLE, and takes no page for an answer to what it sends.

    The client takes any answer without a list of failures for success, a login page included. What it sends in parts is
    sent once: after a redirection there would be nothing left of it.
    """

    def post(self, *arguments: Any, **named: Any) -> requests.Response:
        answer = super().post(*arguments, **named)
        media = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        changed = answer.request.method != "POST" or (answer.history and not isinstance(named.get("data"), bytes))
        if answer.ok and (changed or (answer.content and media not in _STORE_ANSWERS)):
            raise requests.exceptions.InvalidHeader
        answer.headers["Content-Type"] = media  # the client knows it without parameters only
        return answer

    def merge_environment_settings(self, *arguments: Any, **named: Any) -> Any:
        settings = super().merge_environment_settings(*arguments, **named)
        return settings if self.verify is True else {**settings, "verify": self.verify}


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise the errors of HTTP as ours, without URLs.

    Raises:
        UnavailableError: If the same request may succeed in a moment.
        RefusedError: If the server does not take what it was sent.
        ServiceError: If it refuses for another reason, or its answer cannot be used.
        OSError: If this machine's disk does not take what was fetched.
    """
    try:
        yield
    except requests.exceptions.SSLError:
        raise ServiceError("TLS: the certificate of the DICOMweb server is not trusted, or it refuses ours") from None
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
        raise UnavailableError("the DICOMweb server cannot be reached, or broke off") from None
    except requests.HTTPError as error:
        answer = error.response
        status = 0 if answer is None else answer.status_code
        if answer is not None and status == _CONFLICT and (reason := _failure_reason(answer)) is not None:
            raise _not_stored(reason) from None
        kind = UnavailableError if status in _BUSY else RefusedError if status in _REFUSED else ServiceError
        raise kind(f"the DICOMweb server answered with HTTP status {status}") from None
    except Exception as error:  # also what libraries raise on an answer that is damaged
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
            raise
        raise ServiceError(f"the exchange with the DICOMweb server failed ({type(error).__name__})") from None


def _failure_reason(answer: requests.Response) -> int | None:
    """The reason that a server gives in DICOM JSON for not having stored an instance; None where it gives none."""
    try:
        reason = answer.json()[_FAILED]["Value"][0][_REASON]["Value"][0]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return reason if isinstance(reason, int) else None


def _not_stored(reason: object) -> ServiceError:
    kind = UnavailableError if isinstance(reason, int) and reason >> 8 == _NO_ROOM else RefusedError
    return kind(f"the DICOMweb server did not store the result (failure reason {reason})")


def _bearer(token: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Show a token: as an `auth`, so that a .netrc does not replace it."""

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def _served(series: dict[str, Any]) -> tuple[str | None, ServedSeries]:
    """Modality and identifiers of a series in DICOM JSON, each attribute a tag with its values.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: If this is no series.
    """

    def first(tag: str) -> Any:
        return next(iter(series.get(tag, {}).get("Value", [])), None)

    modality, uid, count = (first(tag) for tag in ("00080060", "0020000E", "00201209"))
    if not isinstance(uid, str):
        raise TypeError("a series without UID")
    return modality, ServedSeries(uid, None if count is None else int(count))
