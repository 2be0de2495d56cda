"""A bundle as one zip."""

import zipfile
from pathlib import Path

from unetpipe.bundle.verify import bundle_files
from unetpipe.files import atomic_path

# the earliest that a zip can say: the same for every file, so that equal bundles give equal zips
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, target: Path) -> None:
    """Zip what belongs to the bundle under a folder of the zip's name; the same files give the same bytes."""
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in sorted(bundle_files(folder)):
            name = Path(target.stem, path.relative_to(folder)).as_posix()
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.external_attr = 0o644 << 16
            # weights hardly shrink
            entry.compress_type = (
                zipfile.ZIP_STORED if path.suffix in {".pt", ".ts", ".pt2", ".bin"} else zipfile.ZIP_DEFLATED
            )
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as member:
                while block := source.read(1 << 20):
                    member.write(block)
