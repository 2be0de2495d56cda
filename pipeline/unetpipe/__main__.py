"""`python -m unetpipe` and the `unetpipe` command."""

import gc
import getpass
import os

from unetpipe.cli import app

_ALLOCATIONS = 50_000  # between two garbage collections, in place of Python's 700


def main() -> None:
    """Run the command line on `sys.argv`; exits 0, 1 (the input's fault), 2 (wrong usage) or 130 (interrupted)."""
    # read by torch at its first tensor: large ones get huge pages, which makes writing to new ones four times as fast
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # numpy's matrices here are mostly small, and its threads would go on to wait in a loop on cores that others need
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # torch brings half a million objects that live to the end: to walk through them dozens of times takes long
    gc.set_threshold(_ALLOCATIONS)
    _name_the_user()
    app(prog_name="unetpipe")


def _name_the_user() -> None:
    """Let libraries that ask for a user's name go on where the user has none, as in a container run by any number."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["LOGNAME"] = str(os.getuid())


if __name__ == "__main__":
    main()
