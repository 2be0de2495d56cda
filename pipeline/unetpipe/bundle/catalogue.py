"""Bundles that can be called by their names: those that ship with unetpipe, and those in a folder of the user's.

The index, which every installation has, says which bundles ship, and where to get them. They lie in the folder
`bundles` of a checkout, in `share/unetpipe/bundles` of an installation that has them, or in the folder that
`UNETPIPE_BUNDLES` names.
"""

import os
import sys
from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Literal

from unetpipe.bundle.archive import METADATA, read_metadata, shown
from unetpipe.documents import Record
from unetpipe.errors import BundleError

VARIABLE = "UNETPIPE_BUNDLES"


class IndexedBundle(Record):
    """A bundle that ships with unetpipe.

    Attributes:
        name: Name of its folder or zip.
        version: Version of the model.
        task: What it segments in what.
        licence: Terms of the weights, which follow from those of the data that they were trained on.
        size_mb: Size of its files in MB (10^6 bytes).
        sha256: Hash of its weights, as predictions.json has it.
        source: Address that it can be downloaded from; empty where it comes with a checkout only.
    """

    name: str
    version: str
    task: str
    licence: str
    size_mb: float
    sha256: str
    source: str = ""


class Index(Record):
    """All bundles that ship with unetpipe: `bundle/resources/index.json`."""

    schema_version: Literal[1] = 1
    bundles: tuple[IndexedBundle, ...] = ()

    def get(self, name: str) -> IndexedBundle | None:
        """The bundle of a name; None where no such bundle ships."""
        return next((one for one in self.bundles if one.name == name), None)


class ListedBundle(Record):
    """A row of `unetpipe models list`.

    Attributes:
        name, version, task, licence, size_mb: As in the index; of a bundle that is here, as its own metadata has them.
        where: Folder or zip; the address to download it from where it is not here.
        here: Whether it is on this machine.
    """

    name: str
    version: str
    task: str
    licence: str
    size_mb: float
    where: str
    here: bool


def read_index() -> Index:
    """Read the index of this version of unetpipe."""
    return Index.model_validate_json((package_files("unetpipe.bundle") / "resources" / "index.json").read_bytes())


def find_named(name: str) -> Path | None:
    """Find the folder or zip of a bundle by its name; None where there is none.

    Args:
        name: Name without a folder.
    """
    return next((path for path in _places() if _name(path) == name), None)


def list_bundles() -> tuple[ListedBundle, ...]:
    """List the bundles that can be called by their names, and those of the index that are not here."""
    index = read_index()
    rows: dict[str, ListedBundle] = {}
    for path in _places():
        rows.setdefault(_name(path), _row(path, index.get(_name(path))))
    for one in index.bundles:
        row = one.model_dump(exclude={"sha256", "source"})
        rows.setdefault(
            one.name, ListedBundle(**row, where=one.source or "bundles/ of unetpipe's repository", here=False)
        )
    return tuple(rows[name] for name in sorted(rows))


def described(path: Path) -> dict[str, Any]:
    """Version, task and size in MB of a bundle folder or zip.

    Raises:
        BundleError: If its metadata cannot be read.
    """
    metadata = read_metadata(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {
        "version": shown(metadata.get("version", "")),
        "task": shown(metadata.get("task", "")),
        "size_mb": round(sum(file.stat().st_size for file in files) / 1e6, 1),
    }


def _row(path: Path, indexed: IndexedBundle | None) -> ListedBundle:
    licence = indexed.licence if indexed else "see its model card"
    try:
        contents = described(path)
    except BundleError as error:
        contents = {"version": "", "task": f"cannot be read: {error}", "size_mb": 0.0}
    return ListedBundle(name=_name(path), **contents, licence=licence, where=str(path), here=True)


def _places() -> Iterator[Path]:
    """Every bundle that lies in one of the folders; the user's own first."""
    own = [Path(os.environ[VARIABLE])] if os.environ.get(VARIABLE) else []
    for folder in (*own, *_shipped_folders()):
        if folder.is_dir():
            yield from sorted(one for one in folder.iterdir() if (one / METADATA).is_file() or one.suffix == ".zip")


def _shipped_folders() -> Iterator[Path]:
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "pyproject.toml").is_file():
        yield checkout / "bundles"
    yield Path(sys.prefix) / "share" / "unetpipe" / "bundles"


def _name(path: Path) -> str:
    return path.name.removesuffix(".zip")
