"""Move the class prototypes of DeepNCM decoders along with the training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from flair.nn.decoder import DeepNCMDecoder
from flair.trainers.plugins.base import TrainerPlugin


class DeepNCMPlugin(TrainerPlugin):
    """Updates the prototypes of all :class:`~flair.nn.decoder.DeepNCMDecoder` parts of a model (also a multitask one).

    "condensation" moves them after each epoch, "online" and "decay" after each batch.
    """

    @property
    def decoders(self) -> Iterable[DeepNCMDecoder]:
        """All DeepNCM decoders of the model.

        Raises:
            ValueError: the model has none.
        """
        modules: Iterable[torch.nn.Module] = self.model.modules()
        found = [module for module in modules if isinstance(module, DeepNCMDecoder)]
        if not found:
            raise ValueError(
                f"DeepNCMPlugin needs a model with a DeepNCMDecoder, this {type(self.model).__name__} has none. "
                "Pass decoder=DeepNCMDecoder(...) to the model, or leave the plugin out."
            )
        return found

    @TrainerPlugin.hook
    def after_training_epoch(self, **kwargs: Any) -> None:
        """Move the prototypes of "condensation" decoders."""
        for decoder in self.decoders:
            if decoder.mean_update_method == "condensation":
                decoder.update_prototypes()

    @TrainerPlugin.hook
    def after_training_batch(self, **kwargs: Any) -> None:
        """Move the prototypes of "online" and "decay" decoders."""
        for decoder in self.decoders:
            if decoder.mean_update_method in ("online", "decay"):
                decoder.update_prototypes()

    def __str__(self) -> str:
        return "DeepNCMPlugin"
