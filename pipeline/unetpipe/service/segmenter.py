"""The models of a node, loaded once and kept."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from unetpipe.bundle.predictor import Predictor
from unetpipe.config.infer import InferConfig
from unetpipe.errors import ServiceError
from unetpipe.service.config import ListenConfig
from unetpipe.service.rules import Rule
from unetpipe.stages.infer import infer_with, load_predictor


class Segmenter:
    """Segments studies as `unetpipe infer` does.

    Args:
        rules: Rules whose models are loaded, each once.
        config: Options of the node.

    Raises:
        ExtensionError: If an extension is not there or fails while it is imported.
        BundleError: If a model cannot be used.
    """

    def __init__(self, rules: Sequence[Rule], config: ListenConfig) -> None:
        self._config = config
        self._predictors: dict[Path | None, Predictor] = {}
        for rule in rules:
            if rule.model is not None and rule.model not in self._predictors:
                self._predictors[rule.model] = load_predictor(self._options(rule, config.out, config.out))

    def identity(self, rule: Rule) -> str:
        """Hash of what a result depends on beside the study: the models, and how they are used."""
        models = [(bundle.sha256, bundle.version) for bundle in self._predictors[rule.model].bundles]
        config = self._config
        used = (rule.series, rule.phase, rule.fix_geometry, config.tta, config.seg_type, config.uncoded)
        return hashlib.sha256(repr((models, used)).encode()).hexdigest()

    def segment(self, study: Path, rule: Rule, out: Path) -> tuple[Path, tuple[str, ...]]:
        """Write the segmentation of a study, and return its file and what a person should check.

        Args:
            study: Folder of the study.
            rule: Rule that the study meets.
            out: Folder to write into.

        Raises:
            ServiceError: If the study holds no volume that the rule chooses, or it cannot be segmented.
            DatasetError: If the study holds no image.
        """
        result = infer_with(self._predictors[rule.model], self._options(rule, study, out))
        if result.failed:
            raise ServiceError("; ".join(result.failed.values()))
        files = sorted(out.glob("dicom-seg/*.dcm"))
        if len(files) != 1:
            raise ServiceError(f"expected one segmentation of a study, got {len(files)}")
        return files[0], tuple(warning for found in result.warnings.values() for warning in found)

    def _options(self, rule: Rule, study: Path, out: Path) -> InferConfig:
        config = self._config
        return InferConfig(
            models=tuple(filter(None, [rule.model])),
            inputs=(study,),
            out=out,
            series=() if rule.series is None else (rule.series,),
            phase=rule.phase,
            fix_geometry=rule.fix_geometry,
            format=("dicom-seg",),
            seg_type=config.seg_type,
            uncoded=config.uncoded,
            max_voxels=config.max_voxels,
            device=config.device,
            precision=config.precision,
            tta=config.tta,
            case_ids="name",  # folders of the spool have pseudonyms already
            extension=config.extension,
        )
