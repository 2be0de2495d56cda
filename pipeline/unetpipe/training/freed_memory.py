"""Memory that was freed and is still the process's."""

import ctypes


def give_back() -> None:
    """Return it to the operating system, where the C library is glibc.

    glibc keeps what lies between blocks that are in use, of which a long training gathers ever more.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
