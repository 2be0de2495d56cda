"""Runs commands in forks of itself, so that torch is loaded once for all, and kills them where it is asked to.

Reads an order in JSON from each line of stdin and answers it with one. An order has

- `words`: the command without `unetpipe`; `where`: the folder it runs in; `ranks`: processes that run it together;
- `events`: the first process is killed before it writes, renames or removes a file in `where` for the so-many-th time;
- `seconds`: it is killed after so long;
- `environment`: variables that are set;
- `memory`, `file`: bytes that a process may take beyond those that it has now, and that a file may have;
- `vanishes`: a path, which is removed when it is opened to be read for the second time, or for the first (`once`);
- `clock`: the time of day jumps back and forth by days; `no_locks`: the file system has no locks;
- `limit`: all are killed after so long, and `hung` is true in the answer.

An answer has the `codes` of the processes, how many such `events` there were in the first one, and what they said.
"""

import errno
import fcntl
import json
import os
import random
import resource
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import blosc2  # noqa: F401 - this and the following are what commands import
import jinja2  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import mlflow  # noqa: F401
import monai.bundle  # noqa: F401
import torch

import unetpipe.__main__
import unetpipe.bundle.predictor
import unetpipe.dataset.prepare
import unetpipe.report.html
import unetpipe.report.preview
import unetpipe.service.listen
import unetpipe.stages.evaluate
import unetpipe.stages.infer
import unetpipe.stages.package
import unetpipe.stages.preprocess
import unetpipe.stages.train

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _count_changes(where: Path, until: int | None) -> list[int]:
    """Count this process's changes of files below a folder, and kill it before one of them."""
    seen, root = [0], f"{where}{os.sep}"

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITING):
            return
        if event != "open" and event not in _CHANGES:
            return
        if not isinstance(args[0], str | os.PathLike) or not str(Path(args[0]).absolute()).startswith(root):
            return
        seen[0] += 1
        if seen[0] == until:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    return seen


def _disturb(order: dict[str, Any]) -> None:
    """Give this process the faults that are asked for."""
    os.environ.update(order.get("environment", {}))
    if "memory" in order:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + order["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if "file" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file"], order["file"]))
    if "vanishes" in order:
        path, opened = Path(order["vanishes"]), [0 if not order.get("once") else 1]

        def vanish(event: str, args: tuple[Any, ...]) -> None:
            if event == "open" and isinstance(args[0], str | os.PathLike) and Path(args[0]).resolve() == path:
                opened[0] += 1
                if opened[0] == 2:
                    path.unlink()

        sys.addaudithook(vanish)
    if order.get("clock"):
        now, draws = time.time, random.Random(0)
        time.time = lambda: now() + draws.uniform(-10, 10) * 86400
    if order.get("no_locks"):

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        fcntl.flock = refuse


def _run(order: dict[str, Any], rank: int, port: int) -> int:
    """Run a command in this process, and return its exit code."""
    where = Path(order["where"])
    os.chdir(where)
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if order["ranks"] > 1:
        place = {"WORLD_SIZE": str(order["ranks"]), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
    seen = _count_changes(where, order["events"] if rank == 0 else None)
    _disturb(order)
    sys.argv = ["unetpipe", *order["words"]]
    code = 0
    try:
        unetpipe.__main__.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if rank == 0:
        Path(order["said"]).with_suffix(".events").write_text(str(seen[0]))
    return code


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started, children = time.monotonic(), {}
    for rank in range(order["ranks"]):
        child = os.fork()
        if not child:
            code = 70
            try:
                code = _run(order, rank, port)
            finally:
                os._exit(code)
        children[child] = rank
    first = next(iter(children))
    codes: dict[int, int] = {}
    hung = False
    while children:
        elapsed = time.monotonic() - started
        if order["seconds"] is not None and elapsed > order["seconds"] and first in children:
            os.kill(first, signal.SIGKILL)
        if elapsed > order["limit"]:
            hung = True
            for child in children:
                os.kill(child, signal.SIGKILL)
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[children.pop(child)] = os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    events = Path(order["said"]).with_suffix(".events")
    return {
        "codes": [codes[rank] for rank in sorted(codes)],
        "seconds": time.monotonic() - started,
        "events": int(events.read_text()) if events.exists() else 0,
        "hung": hung,
    }


torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(_answer(json.loads(line))), flush=True)
