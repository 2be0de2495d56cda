"""Two network namespaces joined by a link of a given bandwidth and latency, for scaling.py. Needs root and ip.

`tc netem` would do the same between two virtual devices, but many kernels of virtual machines lack it. Here each
namespace has a TUN device, and a thread carries packets from one to the other when they are due.
"""

import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic

ADDRESSES = ("10.219.3.1", "10.219.3.2")
_NAMES = ("unetpipe0", "unetpipe1")
_MTU = 65_000  # few large packets, so that a thread of Python keeps up with 1 Gbit/s
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


@contextmanager
def linked(mbit_s: float, latency_ms: float) -> Iterator[Sequence[Sequence[str]]]:
    """Join two namespaces until the block ends; gives the words before a command that is to run in each.

    Args:
        mbit_s: Bandwidth in each direction.
        latency_ms: Time that a packet takes beyond that, one way.
    """
    over = threading.Event()
    with ExitStack() as stack:
        ends = [stack.enter_context(_namespace(name, own)) for name, own in zip(_NAMES, ADDRESSES, strict=True)]
        carrier = threading.Thread(target=_carry, args=(ends, mbit_s * 1e6 / 8, latency_ms / 1000, over))
        carrier.start()
        stack.callback(carrier.join)
        stack.callback(over.set)
        yield [("ip", "netns", "exec", name, "env", "GLOO_SOCKET_IFNAME=tun0") for name in _NAMES]


@contextmanager
def _namespace(name: str, address: str) -> Iterator[int]:
    """Make a namespace with a TUN device; gives the file through which its packets come and go."""
    _call("ip", "netns", "add", name)
    try:
        end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        _call("ip", "link", "set", name, "netns", name, "name", "tun0")
        _call("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "tun0")
        _call("ip", "-n", name, "link", "set", "tun0", "mtu", str(_MTU), "txqueuelen", "10000", "up")
        _call("ip", "-n", name, "link", "set", "lo", "up")
        yield end
        os.close(end)
    finally:
        _call("ip", "netns", "del", name)


def _carry(ends: Sequence[int], bytes_s: float, latency_s: float, over: threading.Event) -> None:
    """Carry packets between two ends; each leaves when those before it have been sent, and arrives a latency later."""
    waiting: list[tuple[float, int, int, bytes]] = []  # time of arrival, number, end to arrive at, packet
    free_at, number = [0.0, 0.0], 0
    while not over.is_set():
        patience = min(0.1, max(0.0, waiting[0][0] - monotonic())) if waiting else 0.1
        for end in select.select(ends, [], [], patience)[0]:
            side = ends.index(end)
            packet = os.read(end, _MTU + 100)
            free_at[side] = max(free_at[side], monotonic()) + len(packet) / bytes_s
            number += 1
            heapq.heappush(waiting, (free_at[side] + latency_s, number, ends[1 - side], packet))
        while waiting and waiting[0][0] <= monotonic():
            *_, end, packet = heapq.heappop(waiting)
            os.write(end, packet)


def _call(*words: str) -> None:
    subprocess.run(words, check=True)
