"""How many processor cores this process may use."""

import os


def available_cores() -> int:
    """Count the cores that this process may run on: those of a job's allocation, not all of the machine's.

    Linux tells a process its affinity; macOS and Windows have none, and all cores count there.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
