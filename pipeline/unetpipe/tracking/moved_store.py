"""A work folder's own store after the folder was moved or copied: MLflow keeps absolute places of artifacts."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlparse

STORE: Final = "mlflow.db"
ARTIFACTS: Final = "mlartifacts"

_PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def follow_folder(work: Path, experiment: str) -> None:
    """Let the store of a work folder name its artifacts where they lie now, in the same folder.

    Without it what is written to a copy would go into the folder that was copied, and a folder that was moved could
    not be written to at all. A server's store, and one that several folders share, are left as they are.

    Args:
        work: Work folder.
        experiment: Name of the experiment whose artifacts are beside the store.

    Raises:
        sqlite3.Error: If the store cannot be read or, where that is needed, written.
    """
    store, artifacts = work.resolve() / STORE, work.resolve() / ARTIFACTS
    if not (store.is_file() and artifacts.is_dir()):
        return
    now = artifacts.as_uri()
    with closing(sqlite3.connect(store, timeout=20)) as database, database:
        found = database.execute("select artifact_location from experiments where name = ?", [experiment]).fetchone()
        before = found[0] if found else None
        if before in (None, now) or not _was_own(before):
            return
        for table, column in _PLACES.items():
            database.execute(
                f"update {table} set {column} = ? || substr({column}, ?) where substr({column} || '/', 1, ?) = ?",
                [now, len(before) + 1, len(before) + 1, f"{before}/"],
            )


def _was_own(place: str) -> bool:
    """Whether artifacts lay beside a work folder's store: no server's, nor those of another folder."""
    path = Path(unquote(urlparse(place).path))
    own = place.startswith("file:///") and path.name == ARTIFACTS
    return own and (not path.exists() or (path.parent / STORE).is_file())
