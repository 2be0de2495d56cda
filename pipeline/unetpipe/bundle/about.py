"""What only a person can say about a model: who made it, from which data, by which terms."""

from collections.abc import Mapping
from typing import Any

from unetpipe.bundle.archive import shown
from unetpipe.documents import Record

_UNSTATED_AUTHORS = "not stated"
_UNSTATED_COPYRIGHT = "see LICENSE"


class About(Record):
    """Statements about a model that go into its metadata and its card.

    Attributes:
        authors: Who made the model.
        copyright: Whose it is.
        data_source: Where its training data comes from.
        references: Publications about the model or its data.
    """

    authors: str = _UNSTATED_AUTHORS
    copyright: str = _UNSTATED_COPYRIGHT
    data_source: str = ""
    references: tuple[str, ...] = ()

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "About":
        """Read what a bundle's metadata says; what is no text is left out."""
        texts = {key: shown(metadata[key]) for key in ("authors", "copyright", "data_source") if metadata.get(key)}
        given = metadata.get("references")
        references = tuple(shown(one) for one in given) if isinstance(given, list) else ()
        return cls(**texts, references=references)
