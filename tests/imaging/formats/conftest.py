"""Damage that tests of every format do to files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.files import read_grid, read_volume

Damage = Callable[[Path, int, int], None]


@pytest.fixture
def damage(tmp_path: Path) -> Damage:
    """Read copies of a file with bytes exchanged or cut off; each gives a volume or one line that names it.

    Args of the function: the file, the number of copies, and the number of bytes at its start to be changed.
    """

    def check(good: Path, copies: int, reach: int) -> None:
        raw, generator, messages = good.read_bytes(), np.random.default_rng(5), []
        bad = tmp_path / f"bad{''.join(good.suffixes)}"
        for _ in range(copies):
            changed = bytearray(raw)
            for at in generator.integers(0, min(reach, len(raw)), generator.integers(1, 5)):
                changed[at] = generator.integers(256)
            bad.write_bytes(changed[: generator.integers(len(raw))] if generator.random() < 0.1 else changed)
            for read in (read_volume, read_grid):
                try:
                    read(bad)
                except (ImageFileError, GeometryError) as error:
                    messages.append(str(error))
        assert len(messages) > copies // 20
        assert [message for message in messages if not message.startswith(f"{bad.name}: ") or "\n" in message] == []
        assert [message for message in messages if str(tmp_path) in message] == []

    return check
