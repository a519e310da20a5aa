"""Lower the learning rate when the score stops improving."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from flair import _runtime
from flair.trainers.plugins.base import TrainerPlugin, TrainingInterrupt
from flair.trainers.plugins.metric_records import MetricRecord
from flair.training_utils import AnnealOnPlateau


class AnnealingPlugin(TrainerPlugin):
    """Multiplies the learning rates by a factor after some epochs without improvement, and ends a hopeless training.

    An epoch is better when the main score on dev is higher, or equal with a lower dev loss; without dev data (or with
    ``train_with_dev``) when the training loss is lower.
    """

    def __init__(
        self,
        base_path: Union[str, Path],
        min_learning_rate: Union[float, list[float]],
        anneal_factor: float,
        patience: int,
        initial_extra_patience: int,
        anneal_with_restarts: bool,
    ) -> None:
        """Set the schedule.

        Args:
            base_path: the training folder, in which ``best-model.pt`` lies for restarts.
            min_learning_rate: the training ends when a learning rate falls below it; a list has one value for each
                parameter group.
            anneal_factor: what to multiply learning rates with; must be below 1.
            patience: epochs without improvement that are accepted.
            initial_extra_patience: further ones accepted before the first annealing.
            anneal_with_restarts: after annealing, go on from the weights of the best epoch.

        Raises:
            ValueError: for a factor of 1 or more (when the training is set up).
        """
        super().__init__()
        self.base_path = base_path
        self.min_learning_rate = min_learning_rate
        self.anneal_factor = anneal_factor
        self.patience = patience
        self.initial_extra_patience = initial_extra_patience
        self.anneal_with_restarts = anneal_with_restarts
        self.scheduler: AnnealOnPlateau

    def store_learning_rate(self) -> None:
        """Remember the rates of all parameter groups, to see later whether annealing changed them."""
        groups = self.trainer.optimizer.param_groups
        self.current_learning_rate = [group["lr"] for group in groups]
        self.current_momentum = [group.get("momentum", 0) for group in groups]

    @TrainerPlugin.hook
    def after_setup(self, train_with_dev: bool, optimizer: Any, **kw: Any) -> None:
        """Create the scheduler for the trainer's optimizer."""
        scores_are_losses = train_with_dev or not self.corpus.dev
        self.scheduler = AnnealOnPlateau(
            factor=self.anneal_factor,
            patience=self.patience,
            initial_extra_patience=self.initial_extra_patience,
            mode="min" if scores_are_losses else "max",
            optimizer=self.trainer.optimizer,
        )
        self.store_learning_rate()

    @TrainerPlugin.hook
    def after_evaluation(self, current_model_is_best: bool, validation_scores: tuple, **kw: Any) -> None:
        """Anneal if it is time to, and interrupt the training when a rate got too small."""
        bad_epochs_before = self.scheduler.num_bad_epochs
        reduced = self.scheduler.step(*validation_scores)
        self.store_learning_rate()
        # Annealing resets the counter, so the epoch that caused it is added to the count from before.
        bad_epochs = bad_epochs_before + 1 if reduced else self.scheduler.num_bad_epochs

        message = f" - {bad_epochs} epochs without improvement"
        if reduced:
            message += f" (above 'patience')-> annealing learning_rate to {self.current_learning_rate}"
        _runtime.logger.info(message)
        # The count is noted one step ahead: it is what the epoch to come starts with.
        self.trainer._record(MetricRecord.scalar("bad_epochs", bad_epochs, self.scheduler.last_epoch + 1))

        if reduced and self.anneal_with_restarts:
            best = Path(self.base_path) / "best-model.pt"
            if best.exists():
                _runtime.logger.info("resetting to best model")
                self.trainer._load_model(best)
        if any(rate < least for rate, least in zip(self.current_learning_rate, self._minima(), strict=True)):
            raise TrainingInterrupt("learning rate too small - quitting training!")

    def _minima(self) -> list[float]:
        groups = len(self.current_learning_rate)
        if isinstance(self.min_learning_rate, (list, tuple)):
            if len(self.min_learning_rate) != groups:
                raise ValueError(
                    f"min_learning_rate={self.min_learning_rate} has {len(self.min_learning_rate)} values, "
                    f"the optimizer has {groups} parameter groups. Pass one value, or one for each group."
                )
            return list(self.min_learning_rate)
        return [self.min_learning_rate] * groups

    def __str__(self) -> str:
        return (
            f"AnnealOnPlateau | patience: '{self.patience}', anneal_factor: '{self.anneal_factor}', "
            f"min_learning_rate: '{self.min_learning_rate}'"
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting bad epochs; factor and patience are those of this plugin, which may be new."""
        before = dict(state["scheduler"])
        extra_is_used_up = before["effective_patience"] == before["default_patience"]
        patience = self.patience + (0 if extra_is_used_up else self.initial_extra_patience)
        settings = {"factor": self.anneal_factor, "default_patience": self.patience, "effective_patience": patience}
        self.scheduler.load_state_dict({**before, **settings})
        self.store_learning_rate()

    def get_state(self) -> dict[str, Any]:
        return {
            **super().get_state(),
            "base_path": str(self.base_path),
            "min_learning_rate": self.min_learning_rate,
            "anneal_factor": self.anneal_factor,
            "patience": self.patience,
            "initial_extra_patience": self.initial_extra_patience,
            "anneal_with_restarts": self.anneal_with_restarts,
        }
