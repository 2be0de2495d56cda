"""What only a person can say about a model: who made it, from which data, by which terms."""

from collections.abc import Mapping
from typing import Any

from unetpipe.documents import Record

_METHODS = (
    'Isensee et al. "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation." '
    "Nature Methods 18 (2021): 203-211. https://doi.org/10.1038/s41592-020-01008-z",
    'Cardoso et al. "MONAI: An open-source framework for deep learning in healthcare." arXiv:2211.02701 (2022).',
)


_LONGEST = 10_000
"""Characters of a statement."""


class About(Record):
    """Statements about a model that go into its metadata and its card.

    Attributes:
        authors: Who made the model.
        copyright: Who holds the copyright.
        data_source: Where the training data comes from.
        references: Publications about the model or its data.
    """

    authors: str = "not stated"
    copyright: str = "Copyright: whoever trained the model"
    data_source: str = ""
    references: tuple[str, ...] = ()

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "About":
        """Read what a bundle's metadata says; what is no text is left out."""
        texts = {key: _text(metadata[key]) for key in ("authors", "copyright", "data_source") if metadata.get(key)}
        given = metadata.get("references")
        references = [_text(one) for one in given] if isinstance(given, list) else []
        return cls(**texts, references=tuple(one for one in references if one not in _METHODS))

    @property
    def all_references(self) -> tuple[str, ...]:
        """Publications of the methods that every model of unetpipe rests on, and then the model's own."""
        return (*_METHODS, *self.references)

    def stated(self, **statements: Any) -> "About":
        """Return these statements with others in their place; empty ones leave what is there."""
        return self.model_copy(update={name: value for name, value in statements.items() if value})

    def entries(self) -> dict[str, Any]:
        """The entries of a bundle's metadata."""
        return {**self.model_dump(), "references": list(self.all_references)}


def _text(statement: object) -> str:
    """A statement on its lines, without control characters."""
    return "".join(one if one.isprintable() or one == "\n" else " " for one in str(statement))[:_LONGEST]
