"""A trained model whose weights a run starts from."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from unetpipe.components import Definition
from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.dataset.planning.adoption import AdoptedModel, require_adopted, require_channels
from unetpipe.dataset.training_set import TrainingSet
from unetpipe.errors import TrainingError, counted
from unetpipe.networks.build import input_channels, output_channels
from unetpipe.networks.parts import encoder_names, head_names, with_outputs
from unetpipe.training.optimization.start import StartingWeights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialModel:
    """A model as fine-tuning takes it over.

    Attributes:
        plan: Preprocessing, patch and shape of its network.
        definition: Definition of its network.
        weights: State dict of its network.
        scheme: Classes and regions that its outputs stand for.
    """

    plan: AdoptedModel
    definition: Definition
    weights: Mapping[str, Tensor]
    scheme: LabelScheme

    def require_suits(self, data: TrainingSet) -> None:
        """See that the work folder was preprocessed for this model.

        Raises:
            PlanError: If the plan is another than the model's, or channels are others or in another order.
            TrainingError: If the model's network takes another number of channels.
        """
        require_channels(self.plan, data.manifest.channels)
        require_adopted(self.plan, data.plan, data.name)
        if input_channels(self.definition) not in (0, len(data.manifest.channels)):
            raise TrainingError(
                f"{self.plan.name} takes {counted(input_channels(self.definition), 'channel')}, "
                f"the dataset has {len(data.manifest.channels)}"
            )

    def definition_for(self, data: TrainingSet) -> Definition:
        """The model's network with as many outputs as the dataset needs."""
        scheme = data.manifest.label_scheme
        single = output_channels(self.definition) == 1 and scheme.count == 2 and not scheme.overlapping
        return with_outputs(self.definition, 1 if single else scheme.count)

    def start(self, data: TrainingSet, *, rate: float, frozen: bool) -> StartingWeights:
        """The weights to start from, without the head where the dataset's classes are others.

        Args:
            data: The training data.
            rate: Learning rate of these weights, as a share of that of all others.
            frozen: Keep the encoder's weights as they are.
        """
        definition = self.definition_for(data)
        same = _classes(self.scheme) == _classes(data.manifest.label_scheme)
        dropped = frozenset() if same else head_names(definition)
        kept = {name: tensor for name, tensor in self.weights.items() if name not in dropped}
        encoder = encoder_names(definition, data.configuration.patch_size) if frozen else frozenset()
        return StartingWeights(weights=kept, rate=rate, frozen=encoder)

    def report(self, start: StartingWeights) -> None:
        """Say what was loaded and what was not."""
        left = sorted(self.weights.keys() - start.weights.keys())
        # a DynUNet's tensors have two names
        values = sum({tensor.data_ptr(): tensor.numel() for tensor in start.weights.values()}.values()) / 1e6
        log.info("%s: loaded %d weights (%.1f million values)", self.plan.name, len(start.weights), values)
        if left:
            log.info("%s: not loaded, as the classes differ: %s", self.plan.name, ", ".join(left))
        if start.frozen:
            log.info("%s: %d weights of the encoder stay as they are", self.plan.name, len(start.frozen))


def _classes(scheme: LabelScheme) -> tuple[bool, tuple[str, ...]]:
    return scheme.overlapping, scheme.names
