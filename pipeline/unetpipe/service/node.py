"""The state that the threads of a node share, in a folder that one process holds at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unetpipe.dataset.privacy.secret import site_secret
from unetpipe.errors import ServiceError
from unetpipe.folder_lock import claimed
from unetpipe.service.config import ListenConfig
from unetpipe.service.journal import Journal
from unetpipe.service.metrics import Metrics
from unetpipe.service.names import Names
from unetpipe.service.spool import PRIVATE, Limits, Spool


@dataclass(frozen=True)
class Node:
    """State of a node.

    Attributes:
        spool: Studies that were received.
        journal: Studies that were segmented or have failed.
        names: Names of studies and results.
        metrics: Counters.
        segmented: Folder of results that the journal does not know yet.
        results: Folder of the results.
        scratch: Folder for the segmentation that is being made.
    """

    spool: Spool
    journal: Journal
    names: Names
    metrics: Metrics
    segmented: Path
    results: Path
    scratch: Path

    @property
    def results_waiting(self) -> int:
        """Number of results that have not been sent."""
        return sum(1 for _ in self.results.glob("*.dcm"))


@contextmanager
def opened(config: ListenConfig) -> Iterator[Node]:
    """Hold the folder of a node, which is made if it is not there, until left.

    Raises:
        ServiceError: If others can read it.
        UnetpipeError: If another process holds it, or the site's secret can be neither read nor made.
    """
    root = config.out
    root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    if root.stat().st_mode & 0o077:
        raise ServiceError(f"{root} will hold patient data, but others can read it: chmod 700 it, or name a new folder")
    with claimed(root):
        limits = Limits(studies=config.max_studies, size_bytes=config.max_gb * 1e9, quiet_seconds=config.quiet_seconds)
        segmented, results = root / "segmented", root / "results"
        for folder in (segmented, results):
            folder.mkdir(mode=PRIVATE, exist_ok=True)
        node = Node(
            spool=Spool(root, limits),
            journal=Journal(root / "journal"),
            names=Names(site_secret(root)),
            metrics=Metrics(),
            segmented=segmented,
            results=results,
            scratch=root / "scratch",
        )
        _measure(node, limits)
        yield node


def _measure(node: Node, limits: Limits) -> None:
    """Show the state of a node among its metrics."""
    gauge, spool = node.metrics.gauge, node.spool
    gauge("studies_waiting", "Studies that are being received or wait.", lambda: spool.waiting)
    gauge("studies_waiting_limit", "Studies that may wait.", lambda: limits.studies)
    gauge("results_waiting", "Results that have not been sent.", lambda: node.results_waiting)
    gauge("dead_letters", "Studies and results that failed.", lambda: spool.dead_letters)
    gauge("folder_bytes", "Size of the folder of the node.", lambda: spool.used_bytes)
    gauge("folder_bytes_limit", "Size from which instances are refused.", lambda: limits.size_bytes)
