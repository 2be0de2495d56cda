"""MLflow's server on SQLite and on PostgreSQL, each started once, and all that their databases hold."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy

ACCOUNT = "slartibartfast"  # whose name no store may hold
_READY_SECONDS = 180


@dataclass(frozen=True)
class Server:
    """A server of MLflow.

    Attributes:
        uri: Its address.
        database: Address of its database.
        artifacts: Folder that it keeps files in.
    """

    uri: str
    database: str
    artifacts: Path

    def everything(self) -> dict[str, list[str]]:
        """Every value of every table, as text, by the name of the table."""
        engine = sqlalchemy.create_engine(self.database)
        with engine.connect() as connection:
            tables = sqlalchemy.inspect(connection).get_table_names()
            return {
                name: [
                    str(value)
                    for row in connection.execute(sqlalchemy.text(f'SELECT * FROM "{name}"'))
                    for value in row
                ]
                for name in tables
            }


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps files itself, as a team would run it."""
    folder = tmp_path_factory.mktemp("server")
    if request.param == "sqlite":
        with _serving(folder, f"sqlite:///{folder}/store.db") as started:
            yield started
    else:
        with _postgresql() as database, _serving(folder, database) as started:
            yield started


@pytest.fixture(scope="module")
def on_server(server: Server) -> Iterator[Server]:
    """The server, named in the environment of a person whose name no store may hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        patch.setenv("LOGNAME", ACCOUNT)
        yield server


@pytest.fixture
def serve(tmp_path: Path) -> Callable[[str], AbstractContextManager[str]]:
    """Serve a model with `mlflow models serve`, and give the address to send scans to."""

    @contextmanager
    def serving(model: str) -> Iterator[str]:
        port = _free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model, "--env-manager", "local"]
        with _started([*command, "--port", str(port)], f"http://127.0.0.1:{port}/ping", tmp_path) as address:
            yield address.replace("/ping", "/invocations")

    return serving


@contextmanager
def _serving(folder: Path, database: str) -> Iterator[Server]:
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", f"{folder}/artifacts", "--serve-artifacts"]
    with _started(command, f"http://127.0.0.1:{port}/health", folder) as uri:
        yield Server(uri.removesuffix("/health"), database, folder / "artifacts")


@contextmanager
def _started(command: list[str], address: str, folder: Path) -> Iterator[str]:
    """Run a server until left; entered when it answers at an address."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow calls uvicorn by its name
        "LOGNAME": ACCOUNT,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        _wait_for(lambda: urllib.request.urlopen(address, timeout=2).status == 200, process, folder / "server.log")
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(120)


def _wait_for(ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready():
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server does not answer: {log.read_text()[-2000:]}")


@contextmanager
def _postgresql() -> Iterator[str]:
    """A database server of its own, which does not run as root: it is the user postgres who starts it."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda one: int(one.parent.name))
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root can start PostgreSQL as the user postgres")
    account = pwd.getpwnam("postgres")
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/unetpipe-pg-XXXXXX"], text=True).strip())
    os.chown(folder, account.pw_uid, account.pw_gid)
    port, data = _free_port(), folder / "data"

    def call(*words: str) -> None:
        command = ["runuser", "-u", "postgres", "--", str(programs / words[0]), *words[1:]]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=300)

    try:
        call("initdb", "--pgdata", str(data), "--auth=trust", "--username=mlflow", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "--pgdata", str(data), "--wait", "--log", str(folder / "log"), "--options", options, "start")
        try:
            yield f"postgresql+pg8000://mlflow@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "--pgdata", str(data), "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
