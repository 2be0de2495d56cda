"""The C-STORE provider of a node: associations in, instances on disk.

AE titles say who a caller claims to be, which is no authentication: the port belongs in a network that is trusted.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined] # made when the module is imported

from unetpipe.errors import ImageFileError, ServiceError
from unetpipe.imaging.dicom.instances import identify
from unetpipe.service.config import ListenConfig
from unetpipe.service.node import Node
from unetpipe.service.quiet import quiet_libraries
from unetpipe.service.spool import FullError

log = logging.getLogger(__name__)

_SUCCESS, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000
_IDLE_SECONDS = 60.0
_ASSOCIATIONS = 20


class Receiver:
    """Stores what callers send.

    Args:
        node: Node that stores the instances.
        at_release: Whether the release of an association completes the studies that it has sent.
    """

    def __init__(self, node: Node, *, at_release: bool) -> None:
        self._node = node
        self._at_release = at_release
        self._lock = threading.Lock()
        self._sent: dict[object, set[str]] = defaultdict(set)

    def store(self, event: Event) -> int:
        """Store one instance, and return the status of DICOM that its sender is told."""
        try:
            return self._store(event)
        except FullError as error:
            return self._refuse("full", _OUT_OF_RESOURCES, str(error))
        except OSError as error:
            return self._refuse("disk", _OUT_OF_RESOURCES, error.strerror or "the disk does not take it")
        except ImageFileError as error:
            return self._refuse("damaged", _CANNOT_UNDERSTAND, str(error))
        except Exception as error:  # what pynetdicom raises on damaged requests is not documented
            return self._refuse("damaged", _CANNOT_UNDERSTAND, type(error).__name__)

    def _store(self, event: Event) -> int:
        data = event.encoded_dataset()
        found = identify(data)
        if self._node.names.result_of(found.instance) in self._node.journal:  # an archive has routed it back
            return _SUCCESS
        study, series, instance = self._node.names.of(found)
        with self._lock:
            self._sent[event.assoc].add(study)
        self._node.spool.store(data, study, series, instance)
        self._node.metrics.count("instances_received")
        return _SUCCESS

    def _refuse(self, reason: str, status: int, message: str) -> int:
        self._node.metrics.count("instances_refused", f'reason="{reason}"')
        log.warning("an instance was refused: %s", message)
        return status

    def released(self, event: Event) -> None:
        """Complete the studies of an association that its caller has ended as it should.

        What another association sends as well is completed when the last of them is released.
        """
        for study in self._forget(event):
            if self._at_release:
                self._node.spool.complete(study)

    def ended(self, event: Event) -> None:
        """Forget an association that broke off: its caller will send again what it is not sure of."""
        self._forget(event)

    def _forget(self, event: Event) -> set[str]:
        """Forget an association, and return the studies that it alone has sent."""
        with self._lock:
            studies = self._sent.pop(event.assoc, set())
            return studies.difference(*self._sent.values())


@contextmanager
def receiving(config: ListenConfig, receiver: Receiver) -> Iterator[None]:
    """Accept associations until left; those that are open then are aborted, and their callers send again.

    Raises:
        ServiceError: If the address cannot be used.
    """
    node = AE(ae_title=config.ae_title)
    node.require_called_aet = True
    node.require_calling_aet = list(config.caller)
    node.maximum_associations = _ASSOCIATIONS
    node.network_timeout = node.acse_timeout = node.dimse_timeout = _IDLE_SECONDS
    for context in AllStoragePresentationContexts:
        node.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    node.add_supported_context(Verification)
    handlers: list[EventHandlerType] = [
        (evt.EVT_C_STORE, receiver.store),
        (evt.EVT_RELEASED, receiver.released),
        (evt.EVT_ABORTED, receiver.ended),
        (evt.EVT_CONN_CLOSE, receiver.ended),
    ]
    with quiet_libraries:
        try:
            node.start_server((config.host, config.port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise ServiceError(f"--host {config.host} --port {config.port}: {error.strerror}") from error
        try:
            yield
        finally:
            node.shutdown()
