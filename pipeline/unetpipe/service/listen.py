"""`unetpipe listen`: a DICOM node that segments what it is sent.

Associations are served in threads of their own, results are sent in another, and studies are segmented in the caller's
thread, so that a signal ends the node between two studies. What waits then is done after the next start.
"""

import contextlib
import logging
import threading

from unetpipe.documents import Record
from unetpipe.service.clinic import clinic_extra
from unetpipe.service.config import ListenConfig
from unetpipe.service.credentials import credentials_from
from unetpipe.service.delivery import Delivery, Destination
from unetpipe.service.health import serving
from unetpipe.service.node import Node, opened
from unetpipe.service.rules import Rule, read_rules
from unetpipe.service.segmenter import Segmenter
from unetpipe.service.worker import Worker
from unetpipe.stop_signals import stop_requested

log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.2


class ListenResult(Record):
    """What a node has done while it ran.

    Attributes:
        received: Instances stored.
        segmented: Studies segmented.
        repeated: Studies that had been segmented before.
        sent: Results that their destination has taken.
        studies_waiting: Studies that wait for the next start.
        results_waiting: Results that stay, or wait to be sent.
        dead_letters: Studies and results in OUT/dead-letter.
    """

    received: int
    segmented: int
    repeated: int
    sent: int
    studies_waiting: int
    results_waiting: int
    dead_letters: int


def listen(config: ListenConfig) -> ListenResult:
    """Receive studies, segment them and send results, until a signal ends it (SIGINT, SIGTERM).

    Raises:
        ServiceError: If pynetdicom is not installed, a port or the folder is in use, or an option cannot be used.
        BundleError: If a model cannot be used.
    """
    with clinic_extra():
        from unetpipe.service.receiver import Receiver, receiving
    rules = _rules(config)
    destination = _destination(config)
    with contextlib.ExitStack() as running:
        node = running.enter_context(opened(config))
        segmenter = Segmenter(rules, config)
        delivery = None if destination is None else Delivery(node, destination)
        if delivery is not None:
            running.enter_context(delivery.running())
        worker = Worker(node, rules, segmenter, announce=delivery.wake if delivery else lambda: None)
        running.enter_context(serving(config.health_port, node.metrics, lambda: _problems(node, delivery)))
        stop = running.enter_context(stop_requested())
        running.enter_context(receiving(config, Receiver(node, at_release=config.at_release)))
        log.info("listening on %s port %d as %s", config.host, config.port, config.ae_title)
        threading.Thread(target=_say_when, args=[stop], daemon=True).start()
        running.callback(stop.set)  # also after an error, so that the thread ends
        while not stop.is_set():
            if not worker.step():
                stop.wait(_IDLE_SECONDS)
    return _result(node)


def _say_when(stop: threading.Event) -> None:
    """Answer a signal at once: the study that is being segmented may take minutes."""
    stop.wait()
    log.info("stopping after the study that is being segmented; what waits then is done after the next start")


def _problems(node: Node, delivery: Delivery | None) -> list[str]:
    """What `/healthz` names: each calls for a person."""
    problems = []
    if node.spool.is_full:
        problems.append("the folder of the node has reached its size")
    if delivery is not None and not delivery.is_alive:
        problems.append("results are not sent any more: start the node again")
    return problems


def _rules(config: ListenConfig) -> tuple[Rule, ...]:
    """The rules of the file that is given, or the one that every study meets.

    Raises:
        ServiceError: If the file cannot be used.
    """
    if config.rules is not None:
        return read_rules(config.rules)
    return tuple(Rule(model=model) for model in filter(None, [config.model]))


def _destination(config: ListenConfig) -> Destination | None:
    """Where results go; None where they stay.

    Raises:
        ServiceError: If a library is not installed, the address is wrong, or credentials cannot be used.
    """
    if config.send_to is None:
        return None
    with clinic_extra():
        if config.send_to.startswith(("http://", "https://")):
            from unetpipe.service.dicomweb import DicomwebServer

            return DicomwebServer(config.send_to, credentials_from())
        from unetpipe.service.dimse import DicomNode

        return DicomNode(config.send_to, config.ae_title)


def _result(node: Node) -> ListenResult:
    metrics = node.metrics
    return ListenResult(
        received=metrics.total("instances_received"),
        segmented=metrics.total("studies", 'outcome="segmented"'),
        repeated=metrics.total("studies", 'outcome="repeated"'),
        sent=metrics.total("results_sent"),
        studies_waiting=node.spool.waiting,
        results_waiting=node.results_waiting,
        dead_letters=node.spool.dead_letters,
    )
