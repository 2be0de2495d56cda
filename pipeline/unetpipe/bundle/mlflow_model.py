"""The code of a registered model, which MLflow copies into the model and runs there, so that nothing is pickled."""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from unetpipe.bundle.predictor import Predictor


class SegmentationModel(PythonModel):  # type: ignore[misc] # MLflow is checked without its types
    """Segments one scan per call with the bundle that lies in the model."""

    def load_context(self, context: Any) -> None:
        """Open the bundle."""
        self._predictor = Predictor(context.artifacts["bundle"])

    def predict(self, model_input):  # type: ignore[no-untyped-def] # MLflow would take hints for a schema
        """Segment a scan.

        Args:
            model_input: ``image``, intensities as stored, in float32, (C, I, J, K) or (C, I, J); ``affine``, 4x4, which
                maps voxel indices to RAS+ mm.

        Returns:
            Label values on the same grid, (I, J, K) or (I, J).
        """
        return self._predictor.predict(model_input["image"], model_input["affine"])


set_model(SegmentationModel())
