"""Tensors in torch's format: the same ones give the same bytes, and a disk that is full is named as the reason."""

from pathlib import Path
from typing import Any

import torch


def save_tensors(content: Any, path: Path) -> None:
    """Write a file that `torch.load(weights_only=True)` reads.

    Given a path, torch would write its name into the file, and temporary names are random.

    Args:
        content: Tensors and plain Python values, in containers.
        path: The file to write.

    Raises:
        OSError: If the disk does not take it; torch itself would raise what its writer fails with as it closes.
    """
    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
