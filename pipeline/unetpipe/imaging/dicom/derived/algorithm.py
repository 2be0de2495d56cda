"""The algorithm that made an object, as the object names it. Nothing here needs pydicom."""

from collections.abc import Iterable

from unetpipe.documents import Record

MANUFACTURER = "unetpipe"
_LONGEST = 64  # characters of the value representation LO


class Model(Record):
    """Identity of one model; `sha256` is the hash of its weights."""

    name: str
    version: str
    sha256: str


class Algorithm(Record):
    """Identity of one or several models whose predictions were averaged.

    Attributes:
        models: Models, at least one.
        software: Version of unetpipe.
    """

    models: tuple[Model, ...]
    software: str

    @property
    def name(self) -> str:
        """Names of the models, each once, as far as 64 characters take them."""
        return _listed(model.name for model in self.models)

    @property
    def version(self) -> str:
        """Versions of the models, each once."""
        return _listed(model.version for model in self.models)

    @property
    def described(self) -> str:
        """Models with their versions, each once, as far as 64 characters take them."""
        return _listed(f"{model.name} {model.version}" for model in self.models)

    @property
    def parameters(self) -> dict[str, str]:
        """What identifies each model: its name, its version and the hash of its weights."""
        return {
            f"model {number}": f"{model.name} {model.version} sha256 {model.sha256}"
            for number, model in enumerate(self.models, start=1)
        }

    @property
    def serial_number(self) -> str:
        """The weights of the first model, which stand for the device's serial number."""
        return self.models[0].sha256[:_LONGEST]


def _listed(texts: Iterable[str]) -> str:
    plain = ", ".join(dict.fromkeys(texts)).replace("\\", "/")
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 3]}..."
