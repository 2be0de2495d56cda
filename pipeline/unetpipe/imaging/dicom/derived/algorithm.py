"""The algorithm that made an object, as the object names it. Nothing here needs pydicom."""

from collections.abc import Mapping

from unetpipe.documents import Record

MANUFACTURER = "unetpipe"
_LONGEST = 64  # characters of the value representation LO


class Algorithm(Record):
    """Identity of one or several models whose predictions were averaged.

    Attributes:
        weights: Hash of the weights of each model, by its name and version, such as ``liver 1.2.0``.
        software: Version of unetpipe.
    """

    weights: Mapping[str, str]
    software: str

    @property
    def name(self) -> str:
        """Names of the models, as far as 64 characters take them."""
        return _shortened(", ".join(dict.fromkeys(model.rpartition(" ")[0] for model in self.weights)))

    @property
    def version(self) -> str:
        """Versions of the models, each once."""
        return _shortened(", ".join(dict.fromkeys(model.rpartition(" ")[2] for model in self.weights)))

    @property
    def described(self) -> str:
        """Models with their versions, as far as 64 characters take them."""
        return _shortened(", ".join(self.weights))

    @property
    def parameters(self) -> dict[str, str]:
        """What identifies the weights: the hash of each model's file."""
        return {f"sha256 of {model}": digest for model, digest in self.weights.items()}

    @property
    def serial_number(self) -> str:
        """The weights of the first model, which stand for the device's serial number."""
        return next(iter(self.weights.values()))[:_LONGEST]


def _shortened(text: str) -> str:
    plain = text.replace("\\", "/")
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 3]}..."
