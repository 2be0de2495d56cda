"""The site's secret, and the ids that are made from it.

The secret lies in ``unetpipe-private``, a folder beside the one that a command writes, or in the folder that the
environment variable UNETPIPE_PRIVATE names. Only its owner can read it. Whoever has the secret and a study's UIDs can
compute the study's id; nobody can compute UIDs from an id.
"""

import hashlib
import hmac
import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from unetpipe.errors import UnetpipeError
from unetpipe.files import new_path

log = logging.getLogger(__name__)

VARIABLE = "UNETPIPE_PRIVATE"
_FOLDER = "unetpipe-private"
_WORK_FOLDER, _BUNDLE = ("manifest.json", "plan.yaml"), ("configs/metadata.json",)
"""Files by which folders are known that are handed on."""
_SECRET = "secret"
_KEY_BYTES = 32
_ID_DIGITS = 16
_OTHERS = 0o077
"""Permissions of the group and of everybody else."""


@dataclass(frozen=True)
class Secret:
    """A key that ids are made with.

    Attributes:
        key: Random bytes.
    """

    key: bytes = field(repr=False)

    def digest(self, *parts: str) -> str:
        """The first 64 bits, as hexadecimal digits, of the HMAC-SHA256 of texts."""
        message = "\0".join(parts).encode(errors="surrogateescape")
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()[:_ID_DIGITS]


def private_folder(folder: Path) -> Path:
    """The folder that holds the secret and the tables of sources; not in a work folder or bundle, which others get.

    One that an earlier version made in such a folder is used until somebody moves it: another secret would give every
    study another id.

    Args:
        folder: Work folder, or folder of predictions, that a command writes.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    outside, earlier = _outside(folder), earlier_private_folder(folder)
    return earlier if _has_secret(earlier) else outside


def _has_secret(folder: Path) -> bool:
    return os.path.isfile(folder / _SECRET)  # noqa: PTH113 - which is no error in a folder of somebody else's


def _outside(folder: Path) -> Path:
    """Beside the outermost work folder or bundle that holds a folder, or beside the folder."""
    folder = folder.resolve()
    handed_on = [
        place
        for place in folder.parents
        if any(all((place / name).is_file() for name in marks) for marks in (_WORK_FOLDER, _BUNDLE))
    ]
    return (handed_on[-1] if handed_on else folder).parent / _FOLDER


def earlier_private_folder(folder: Path) -> Path:
    """Where earlier versions had it, though it lay in a work folder or bundle."""
    return folder.resolve().parent / _FOLDER


def site_secret(folder: Path) -> Secret:
    """Read the secret of a folder that a command writes; the first call makes it.

    Raises:
        UnetpipeError: If it can be neither read nor made.
    """
    path, earlier, outside = private_folder(folder) / _SECRET, earlier_private_folder(folder), _outside(folder)
    if earlier.is_dir() and earlier != outside and VARIABLE not in os.environ:
        advice = f"move it to {outside}"
        if _has_secret(earlier) and _has_secret(outside):
            advice = f"{outside} has another secret: move it elsewhere, and name that by {VARIABLE}"
        log.warning("%s names patients, and lies in a folder that may be handed on: %s", earlier, advice)
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & _OTHERS:
            log.warning("the secret of this site's case ids can be read by other users: chmod 600 %s", path)
        return Secret(bytes.fromhex(path.read_text(encoding="ascii")))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no secret of unetpipe"
        raise UnetpipeError(
            f"{path}: the secret of this site's case ids cannot be used ({reason}): name another folder by "
            f"{VARIABLE}, or keep the dataset's names by --case-ids name"
        ) from error


def _make(path: Path) -> None:
    """Write a new secret under another name and give it its own, unless another process was faster."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with new_path(path, private=True) as temporary:
        temporary.write_text(secrets.token_hex(_KEY_BYTES), encoding="ascii")
