"""The patch that the folds of a run have in common, so that their networks can be averaged: `patch.json` of the run.

Under a budget in minutes each fold chooses a patch by how fast its machine is. Folds that a cluster starts at the same
time cannot see each other's checkpoints yet: the first of them to choose writes this file, and the others follow it.
"""

import time
from pathlib import Path

from unetpipe.dataset.run_folders import fold_folder
from unetpipe.documents import Record, read_document
from unetpipe.files import new_path
from unetpipe.imaging.geometry import Shape

_FILE = "patch.json"
_FRESH_SECONDS = 600.0  # in which a fold that has chosen makes its folder


class RunPatch(Record):
    """A patch, and the fold that chose it.

    Attributes:
        name: Name of the plan's configuration.
    """

    fold: int
    name: str
    patch_size: Shape


def agree_on_patch(run: Path, own: RunPatch) -> RunPatch:
    """Take the patch that another fold of a run has chosen, or let the others take one's own.

    Args:
        run: Folder of the run's folds.
        own: What this fold would choose.

    Returns:
        What all folds take. The choice of a fold whose folder has been removed does not count.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / _FILE
    if path.is_file():
        found = read_document(path, RunPatch)
        is_fresh = time.time() - path.stat().st_mtime < _FRESH_SECONDS
        if found.fold == own.fold or not (is_fresh or fold_folder(run, found.fold).is_dir()):
            path.unlink()
    with new_path(path) as temporary:
        temporary.write_text(own.model_dump_json() + "\n", encoding="utf-8")
    return read_document(path, RunPatch)
