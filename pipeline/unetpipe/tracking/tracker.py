"""The tracker protocol: it receives a run's parameters, curves and files, besides the run's own folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["FINISHED", "FAILED", "KILLED"]
DatasetContext = Literal["training", "validation"]


@dataclass(frozen=True, kw_only=True)
class TrackedDataset:
    """Cases that a run learns from or validates on, identified and not named.

    Attributes:
        context: What the run does with them.
        digest: Digest of the dataset and of which cases these are.
        profile: Figures to show, such as the number of cases.
    """

    context: DatasetContext
    digest: str
    profile: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """The run that a tracker writes to.

    Attributes:
        work: Work folder that the run belongs to; a local store may lie in it.
        name: Name in the list of runs.
        run_id: Id of a run to continue; None starts a run.
        parent_id: Id of the run that this one is a part of; None where there is none.
        datasets: Cases that it is about.
        only_add: Leave the status and the times of a continued run as they are, because it has ended.
    """

    work: Path
    name: str
    run_id: str | None = None
    parent_id: str | None = None
    datasets: tuple[TrackedDataset, ...] = ()
    only_add: bool = False


class Tracker(Protocol):
    """The destination of a run's parameters, curves and files.

    A class with these methods that is registered as a ``tracker`` (see `components.register`), and whose constructor
    takes a `TrackedRun` as ``run``, can be named by ``--tracking``. It is made and called in one thread of its own, and
    may raise whatever it wants: the run goes on without it (see `BackgroundTracker`).
    """

    @property
    def run_id(self) -> str | None:
        """Id by which the store knows the run, to continue it later; None while that is not known."""

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record what the run was asked to do; mappings may be nested. Those of a continued run are the same again."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Label the run."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add a point at `step` to each of the named curves. All points of a continued run come again first."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a copy of a file, in a folder of the run's files."""

    def finish(self, status: Status) -> None:
        """Close the run."""


TrackerFactory = Callable[..., Tracker]
"""Makes a tracker of a `TrackedRun`, passed as ``run``."""


class NullTracker:
    """A tracker that records nothing."""

    run_id = None
    complete = False

    def wait_for_id(self) -> None: ...

    def parameters(self, values: Mapping[str, Any]) -> None: ...

    def tags(self, values: Mapping[str, str]) -> None: ...

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def artifact(self, path: Path, folder: str | None = None) -> None: ...

    def finish(self, status: Status) -> None: ...
