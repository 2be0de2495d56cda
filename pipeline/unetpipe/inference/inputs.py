"""Which scans a person means by files, folders, wildcards and lists. Nothing is opened but folders."""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unetpipe.errors import DatasetError, Fault
from unetpipe.imaging.dicom.sources import is_dicom
from unetpipe.imaging.files import has_image_suffix, is_image, strip_suffix

_CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net's naming: case_0000.nii.gz, case_0001.nii.gz, ...


@dataclass(frozen=True)
class InputCase:
    """One scan to segment.

    Attributes:
        id: Name of its outputs: the file's or DICOM folder's own, without suffix and channel number.
        paths: One file per channel, or one with all of them, or one DICOM folder.
    """

    id: str
    paths: tuple[Path, ...]

    @property
    def is_dicom(self) -> bool:
        """Whether it is a DICOM series."""
        return is_dicom(self.paths[0])


def find_inputs(inputs: Iterable[Path], channels: int) -> list[InputCase]:
    """List the scans, sorted by id.

    Args:
        inputs: Image files, folders of them, DICOM series folders, folders of such folders, wildcards.
        channels: Of the model. Several: files CASE_0000, CASE_0001, ... are the channels of CASE.

    Raises:
        DatasetError: If an input does not exist or holds no scan, a channel is missing, or two scans have one name.
    """
    faults: list[Fault] = []
    cases: list[InputCase] = []
    single: list[Path] = []
    for path in _expanded(inputs):
        if not path.is_dir():
            single.append(path)
            if not path.exists():
                faults.append(Fault(case=path.name, kind="missing", message="no such file or folder"))
            continue
        files, folders = _listing(path)
        if files:
            cases += _cases(files, channels, faults, whole_folder=True)
        elif any(is_dicom(file) for file in path.iterdir() if file.is_file()):
            cases.append(InputCase(path.resolve().name, (path,)))
            continue
        cases += (series := [InputCase(folder.name, (folder,)) for folder in folders if is_image(folder)])
        if not files and not series:
            faults.append(Fault(case=path.name, kind="empty", message="no image and no DICOM series in this folder"))
    cases += _cases(single, channels, faults, whole_folder=False)
    for name, count in Counter(case.id for case in cases).items():
        if count > 1:
            faults.append(Fault(case=name, kind="duplicate", message=f"{count} inputs have this name"))
    if faults:
        raise DatasetError(faults)
    return sorted(cases, key=lambda case: case.id)


def read_list(file: Path) -> list[Path]:
    """Inputs named in a text file, one per line, relative to its folder; empty lines and ``# ...`` are left out.

    Raises:
        DatasetError: If it cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError([Fault(case=file.name, kind="list", message="not a readable text file")]) from error
    return [file.parent / line.strip() for line in lines if line.strip() and not line.startswith("#")]


def shard_of(cases: Sequence[InputCase], shard: str) -> list[InputCase]:
    """Every n-th case: "3/16" is the third of sixteen parts, which together hold each case once.

    Raises:
        DatasetError: If the shard is not I/N with 1 <= I <= N.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        message = f"expected I/N with I from 1 to N, such as 3/16, got {shard!r}"
        raise DatasetError([Fault(case="dataset", kind="shard", message=message)])
    return list(cases[int(match[1]) - 1 :: int(match[2])])


def _expanded(inputs: Iterable[Path]) -> Iterable[Path]:
    for path in inputs:
        if path.exists() or not glob.has_magic(str(path)):
            yield path
        else:
            matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
            yield from [Path(match) for match in matches] or [path]


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in visible if has_image_suffix(path.name) and not path.is_dir()]
    return files, [path for path in visible if path.is_dir()]


def _cases(files: list[Path], channels: int, faults: list[Fault], *, whole_folder: bool) -> list[InputCase]:
    matches = {file: _CHANNEL.fullmatch(strip_suffix(file.name)) for file in files}
    if channels == 1:
        # a folder in nnU-Net's naming; a lone CASE_0000 may simply be called so
        numbered = whole_folder and all(match and match[2] == "0000" for match in matches.values())
        return [InputCase(m[1] if numbered and m else strip_suffix(file.name), (file,)) for file, m in matches.items()]
    cases: list[InputCase] = []
    grouped: dict[tuple[Path, str], dict[int, Path]] = {}
    for file, match in matches.items():
        if match and int(match[2]) < channels:
            grouped.setdefault((file.parent, match[1]), {})[int(match[2])] = file
        else:
            cases.append(InputCase(strip_suffix(file.name), (file,)))
    for (_, name), parts in grouped.items():
        lacking = [f"{name}_{n:04d}" for n in range(channels) if n not in parts]
        if lacking:
            faults.append(Fault(case=name, kind="channels", message=f"channel files missing: {', '.join(lacking)}"))
        cases.append(InputCase(name, tuple(parts[n] for n in sorted(parts))))
    return cases
