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
        self._predictors: dict[Path, Predictor] = {}
        for rule in rules:
            if rule.model not in self._predictors:
                self._predictors[rule.model] = load_predictor(self._options(rule, config.out, config.out))

    def identity(self, rule: Rule) -> str:
        """Hash of what a result depends on beside the study: the weights, and how they are used."""
        weights = [bundle.sha256 for bundle in self._predictors[rule.model].bundles]
        used = [str(rule.phase), str(rule.fix_geometry), str(rule.series), str(self._config.tta)]
        return hashlib.sha256("\0".join((*weights, *used)).encode()).hexdigest()

    def segment(self, study: Path, rule: Rule, out: Path) -> Path:
        """Write the segmentation of a study, and return its file.

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
        return files[0]

    def _options(self, rule: Rule, study: Path, out: Path) -> InferConfig:
        config = self._config
        return InferConfig(
            models=(rule.model,),
            inputs=(study,),
            out=out,
            series=() if rule.series is None else (rule.series,),
            phase=rule.phase,
            fix_geometry=rule.fix_geometry,
            format=("dicom-seg",),
            seg_type=config.seg_type,
            uncoded=config.uncoded,
            device=config.device,
            precision=config.precision,
            tta=config.tta,
            extension=config.extension,
        )
