"""A run's folder is for one training at a time: two would write over each other's checkpoints."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unetpipe.errors import TrainingError

_LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a run's folder, which is made if it is not there.

    Raises:
        TrainingError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = f"{folder.parent.name}/{folder.name}"
            raise TrainingError(f"run {name} is being trained by another process") from None
        yield
