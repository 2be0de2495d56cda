"""The identity of a run: its options, and digests of the files that it is made from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpipe.config.train import TrainConfig
from unetpipe.dataset.folds import Fold
from unetpipe.dataset.run_folders import fold_folder, run_folder
from unetpipe.dataset.training_set import TrainingSet
from unetpipe.extensions import extension_digest, extension_name, package_digest
from unetpipe.training.initial_model import InitialModel

_ELSEWHERE = {"work", "folds", "init"}  # fields that do not say what a run is; work and init are paths
_WITHOUT_EFFECT = {"gpus"}  # a run is the same for any number of processes
_OF_MODEL = {"init_rate"}  # without effect where a run starts from no model; earlier versions had another default
_MODEL, _FOLDS = "the model of --init", "folds.json"
# what checkpoints of earlier versions do not know of: all preprocessed cases, and all files of a package
_CASES, _PACKAGE = "dataset", "the code of extension "


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """The options and inputs that a resumed run must share with its start.

    Attributes:
        options: The config's fields as JSON has them, but for paths.
        digests: Digests of the run's inputs, by the name of the file in which a person would find the difference.
    """

    options: Mapping[str, Any]
    digests: Mapping[str, str]

    @classmethod
    def of(cls, config: TrainConfig, data: TrainingSet, initial: InitialModel | None = None) -> "RunIdentity":
        """Describe the run that a config asks for, and the model that it starts from."""
        extensions: dict[str, str] = {}
        for one in config.extension:  # two files in two folders may have one name
            name = f"extension {extension_name(one)}"
            extensions[name] = extensions.get(name, "") + extension_digest(one)[:16]
            if whole := package_digest(one):
                extensions[f"{_PACKAGE}{extension_name(one)}"] = whole[:16]
        digests = extensions | input_digests(data)
        if initial is not None:
            digests[_MODEL] = initial.plan.digest[:16]
        return cls(options=run_options(config), digests=digests)

    def changes(self, now: "RunIdentity") -> list[str]:
        """Say what another start would change in the run, a phrase for each; nothing where it is the same run."""
        options = [f"{name} was {before}, is {after}" for name, before, after in self._other_options(now)]
        return options + [f"{name} has changed" for name in self._other_files(now)]

    def contradictions(self, other: "RunIdentity") -> list[str]:
        """Say in what another rank, that should train the same run, differs from this one; a phrase for each."""
        options = [f"{name} {theirs} and not {own}" for name, own, theirs in self._other_options(other)]
        return options + [f"another {name}" for name in self._other_files(other)]

    def is_made_from(self, data: TrainingSet) -> bool:
        """Whether a fold is still what the run was trained on."""
        now = RunIdentity(options=self.options, digests={**self.digests, **input_digests(data)})
        return not self._other_files(now)

    def is_of_split(self, fold: Fold) -> bool:
        """Whether the run learned from the cases that a fold trains on, and held out those that it holds out."""
        return self.digests.get(_FOLDS) in (None, _digest([fold.train, fold.validation]))

    def _other_options(self, other: "RunIdentity") -> list[tuple[str, Any, Any]]:
        own = run_options(TrainConfig(work=Path())) | dict(self.options)
        unused = _WITHOUT_EFFECT if _MODEL in self.digests else _WITHOUT_EFFECT | _OF_MODEL
        return [
            (f"--{name.replace('_', '-')}", own[name], theirs)
            for name, theirs in other.options.items()
            if own[name] != theirs and name not in unused
        ]

    def _other_files(self, other: "RunIdentity") -> list[str]:
        names = dict.fromkeys([*other.digests, *self.digests])
        noted = (name for name in names if not name.startswith((_CASES, _PACKAGE)) or name in self.digests)
        return [name for name in noted if other.digests.get(name) != self.digests.get(name)]


def input_digests(data: TrainingSet) -> dict[str, str]:
    """Digests of what a fold is trained on, by the name of the file in which a person would find the difference."""
    plan = [data.name, data.configuration.model_dump(mode="json"), data.preprocessing.model_dump()]
    dataset = [data.manifest.channels, [label.model_dump() for label in data.manifest.labels]]
    dataset += [[region.model_dump() for region in data.manifest.regions]] if data.manifest.regions else []
    parts = {"plan.yaml": plan, "manifest.json": dataset, _FOLDS: [data.training, data.validation]}
    cases = [*data.training, *data.validation]
    parts[_CASES] = [data.store.key(case) for case in cases]
    if data.first_stage is not None:
        parts["the first stage's labels"] = [data.first_stage.key(case) for case in cases]
    return {name: _digest(part) for name, part in parts.items()}


def own_folder(config: TrainConfig) -> Path:
    """The folder that holds the run of a config's fold."""
    return fold_folder(run_folder(config.work, config.run_name), config.fold)


def run_options(config: TrainConfig) -> dict[str, Any]:
    """The fields of a config that say what a run is, as JSON has them: no path is among them."""
    named = [extension_name(extension) for extension in config.extension]
    return config.model_dump(mode="json", exclude=_ELSEWHERE) | {"extension": named}


def _digest(part: Any) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()[:16]
