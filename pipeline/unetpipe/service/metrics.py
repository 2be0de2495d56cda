"""Counters of a node, in the text format of Prometheus."""

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

Counter = Literal[
    "instances_received", "instances_refused", "studies", "results_sent", "send_failures", "segmentation_seconds"
]
_HELP: dict[str, str] = {
    "instances_received": "Instances that were stored.",
    "instances_refused": "Instances that were refused, by reason.",
    "studies": "Studies that left the queue, by outcome.",
    "results_sent": "Results that their destination has taken.",
    "send_failures": "Attempts to send a result that failed.",
    "segmentation_seconds": "Time spent on segmentation.",
}


class Metrics:
    """Counts events from any thread, and asks for the value of each gauge when it is read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], float] = defaultdict(float)
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def count(self, counter: Counter, label: str = "", by: float = 1) -> None:
        """Add to a counter.

        Args:
            counter: Name of the counter.
            label: A label such as ``outcome="segmented"``, never of a study; empty for a counter without labels.
            by: Number to add.
        """
        with self._lock:
            self._counts[counter, label] += by

    def total(self, counter: Counter, label: str = "") -> int:
        """Whole value of a counter."""
        with self._lock:
            return int(self._counts[counter, label])

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Add a value that is read whenever the metrics are."""
        self._gauges[name] = (description, read)

    def text(self) -> str:
        """All metrics in the text format of Prometheus, version 0.0.4."""
        with self._lock:
            counts = dict(self._counts)
        lines = []
        for name, description in _HELP.items():
            lines += [f"# HELP unetpipe_{name}_total {description}", f"# TYPE unetpipe_{name}_total counter"]
            found = {label: value for (counter, label), value in sorted(counts.items()) if counter == name}
            for label, value in (found or {"": 0.0}).items():
                lines.append(f"unetpipe_{name}_total{f'{{{label}}}' if label else ''} {value:.15g}")
        for name, (description, read) in self._gauges.items():
            lines += [f"# HELP unetpipe_{name} {description}", f"# TYPE unetpipe_{name} gauge"]
            lines.append(f"unetpipe_{name} {read():.15g}")
        return "\n".join(lines) + "\n"
