"""The form of a target: good files, how they are damaged, and what reads them."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mutators import Mutator

from unetpipe.errors import UnetpipeError

TESTS = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """A kind of input.

    Attributes:
        name: Name in reports.
        make: Writes good files into an empty folder.
        damage: Mutator of each file that may be damaged, by a pattern of its path in the folder; the first that fits.
        read: Reads a folder, of which the one file was damaged, and may write into another, empty folder.
        weight: Share of the inputs, in comparison with other targets.
    """

    name: str
    make: Callable[[Path], None]
    damage: Mapping[str, Mutator]
    read: Callable[[Path, Path, Path], object]
    weight: float = 1.0

    def mutable(self, folder: Path) -> list[tuple[Path, Mutator]]:
        """The files of a folder that may be damaged, in the order of their names."""
        found: dict[Path, Mutator] = {}
        for pattern, mutator in self.damage.items():
            for path in folder.glob(pattern):
                found.setdefault(path, mutator)
        return sorted(found.items())


def each(*calls: Callable[[], object]) -> None:
    """Make all calls, also after one that refuses its input.

    Raises:
        UnetpipeError: That of the first call that refused.
    """
    refused: list[UnetpipeError] = []
    for call in calls:
        try:
            call()
        except UnetpipeError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def of_tests(module: str) -> ModuleType:
    """A module of the suite by its path below ``tests``, for what it can write."""
    spec = importlib.util.spec_from_file_location(Path(module).stem, TESTS / module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
