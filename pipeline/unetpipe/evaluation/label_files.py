"""Label files of an evaluation, found and given to cases."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unetpipe.dataset.case_names import match_ids
from unetpipe.dataset.layouts.listing import may_be_image
from unetpipe.dataset.layouts.presence import absence
from unetpipe.dataset.run_folders import VALIDATION, fold_folders, run_folder
from unetpipe.errors import DatasetError, Fault
from unetpipe.imaging.files import strip_suffix

Files = Mapping[str, Path]
"""Files by case id."""


def label_files(path: Path) -> list[Path]:
    """The label files of a folder, or the one file; of a fold's folder, those that it predicted for held-out cases."""
    if (path / "configs" / "metadata.json").is_file() and (path / VALIDATION).is_dir():
        path = path / VALIDATION  # beside it lies curves.png, which is no label map
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError.of("missing", f"{path.name}: no such file or folder")
    by_infer = any(path.glob("predictions*.json"))  # whose folders hold the same labels in other forms
    files = [file for file in sorted(path.iterdir()) if may_be_image(file) and not file.name.startswith(".")]
    return [file for file in files if not (by_infer and file.is_dir())]


def validations(work: Path, run: str) -> list[Path]:
    """Label files that the folds of a run predicted for the cases they held out."""
    folds = fold_folders(run_folder(work, run)).values()
    folders = [folder for fold in folds if (folder := fold / VALIDATION).is_dir()]
    if not folders:
        raise DatasetError.of("missing", f"no fold of run {run!r} has a validation folder")
    return [file for folder in folders for file in label_files(folder)]


def files_by_case(files: Sequence[Path], ids: Iterable[str]) -> Files:
    """Files by case id: one of `ids` where a file belongs to one, else its own name without suffix."""
    names = {file: strip_suffix(file.name) for file in files}
    if unreadable := [ascii(name) for name in names.values() if not _is_text(name)]:
        message = "its file name is not UTF-8: rename it"
        raise DatasetError([Fault(case=name, kind="bad_name", message=message) for name in unreadable])
    known = match_ids(names.values(), ids)
    found: dict[str, Path] = {}
    faults = []
    for file, name in names.items():
        case = known.get(name, name)
        if reason := absence(file):
            faults.append(Fault(case=case, kind="missing", message=f"{file.name} {reason}"))
        if case in found:
            faults.append(Fault(case=case, kind="duplicate", message=_both(found[case], file)))
        found[case] = file
    if faults:
        raise DatasetError(faults)
    if not found:
        raise DatasetError.of("empty", "a folder of label files is empty")
    return found


def _both(one: Path, other: Path) -> str:
    """Say which two files belong to one case; those of one name are in two folds of a run."""
    if one.name != other.name:
        return f"two files: {one.name} and {other.name}"
    folds = f"{one.parent.parent.name} and {other.parent.parent.name}"
    reason = "folds.json is another than it was, or names it in both"
    return f"predicted by {folds}, which should hold out different cases: {reason}"


def _is_text(name: str) -> bool:
    """Whether a file name is text; Python stands bytes that are not for by halves of surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
