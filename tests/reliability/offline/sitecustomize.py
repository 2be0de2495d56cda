"""Python runs this at its start where its folder is on PYTHONPATH: no way to other machines, and every try is noted.

Loopback addresses and sockets of this machine stay open. A try fails as without a network, and goes into the file that
UNETPIPE_TRIED names, since who calls home in a background thread hides its errors.
"""

import errno
import ipaddress
import os
import socket
from typing import Any


def _is_here(address: Any) -> bool:
    """Whether an address is of this machine; paths are those of its own sockets."""
    if not isinstance(address, tuple):
        return True
    host = address[0] if isinstance(address[0], str) else bytes(address[0] or b"").decode()
    if host in ("", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse(address: Any) -> None:
    with open(os.environ["UNETPIPE_TRIED"], "a", encoding="utf-8") as file:  # noqa: PTH123 - as little as possible is imported
        file.write(f"{address}\n")
    raise OSError(errno.ENETUNREACH, "Network is unreachable")


def _guarded(name: str, position: int) -> None:
    inner = getattr(socket.socket, name)

    def call(self: socket.socket, *arguments: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(arguments[position]):
            _refuse(arguments[position])
        return inner(self, *arguments)

    setattr(socket.socket, name, call)


def _guarded_lookup(name: str) -> None:
    inner = getattr(socket, name)

    def call(host: Any, *arguments: Any, **options: Any) -> Any:
        if not _is_here((host,)):
            _refuse((host,))
        return inner(host, *arguments, **options)

    setattr(socket, name, call)


_guarded("connect", 0)
_guarded("connect_ex", 0)
_guarded("sendto", -1)
for _lookup in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
    _guarded_lookup(_lookup)
