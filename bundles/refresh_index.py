"""Bring the index of the bundles that ship up to date with the folders beside this file.

Licence and address are kept from the index, where a person has written them.
"""

from importlib.resources import files
from pathlib import Path

from unetpipe.bundle.catalogue import Index, IndexedBundle, described, read_index
from unetpipe.bundle.read import read_bundle
from unetpipe.documents import write_document


def refreshed(folder: Path, before: Index) -> Index:
    """The index of all bundles in a folder."""
    found = sorted(path.parents[1] for path in folder.glob("*/configs/metadata.json"))
    return Index(bundles=tuple(_entry(path, before.get(path.name)) for path in found))


def _entry(path: Path, before: IndexedBundle | None) -> IndexedBundle:
    return IndexedBundle(
        name=path.name,
        **described(path),
        sha256=read_bundle(path).sha256,
        licence=before.licence if before else "unknown",
        source=before.source if before else "",
    )


if __name__ == "__main__":
    target = Path(str(files("unetpipe.bundle") / "resources" / "index.json"))
    write_document(target, refreshed(Path(__file__).parent, read_index()))
