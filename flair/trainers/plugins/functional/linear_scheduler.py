"""Warm up, then lower the learning rate linearly to zero."""

from __future__ import annotations

from typing import Any

from flair.optim import LinearSchedulerWithWarmup
from flair.trainers._distributed import world_size
from flair.trainers.plugins.base import TrainerPlugin


class LinearSchedulerPlugin(TrainerPlugin):
    """Raises the learning rates linearly from zero, then lowers them linearly to zero at the last batch."""

    def __init__(self, warmup_fraction: float) -> None:
        """Set the schedule.

        Args:
            warmup_fraction: the part of all optimizer steps during which rates go up, 0 to 1.
        """
        super().__init__()
        self.warmup_fraction = warmup_fraction
        self.scheduler: LinearSchedulerWithWarmup

    def store_learning_rate(self) -> None:
        """Remember the rates of all parameter groups."""
        groups = self.trainer.optimizer.param_groups
        self.current_learning_rate = [group["lr"] for group in groups]
        self.current_momentum = [group.get("momentum", 0) for group in groups]

    @TrainerPlugin.hook
    def after_setup(self, dataset_size: int, mini_batch_size: int, max_epochs: int, **kwargs: Any) -> None:
        """Create the scheduler for the number of steps that this training will take."""
        steps = int((dataset_size + mini_batch_size - 1) / mini_batch_size / world_size() * max_epochs)
        self.scheduler = LinearSchedulerWithWarmup(
            self.trainer.optimizer,
            num_train_steps=steps,
            num_warmup_steps=int(steps * self.warmup_fraction),
        )
        self.store_learning_rate()

    @TrainerPlugin.hook
    def before_training_epoch(self, **kwargs: Any) -> None:
        """Remember the rates the epoch starts with."""
        self.previous_learning_rate = self.current_learning_rate

    @TrainerPlugin.hook
    def after_training_batch(self, optimizer_was_run: bool, **kwargs: Any) -> None:
        """Go one step on, unless the gradient scaler skipped this one."""
        if optimizer_was_run:
            self.scheduler.step()
            self.store_learning_rate()

    def __str__(self) -> str:
        return f"LinearScheduler | warmup_fraction: '{self.warmup_fraction}'"

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the same step of a schedule whose length and initial rates may be new."""
        scheduler, groups = self.scheduler, self.trainer.optimizer.param_groups
        initial = [group["initial_lr"] for group in groups]
        scheduler.load_state_dict({**state["scheduler"], "base_lrs": initial})
        for group, rate, factor in zip(groups, initial, scheduler.lr_lambdas, strict=True):
            group["lr"] = rate * factor(scheduler.last_epoch)
        self.store_learning_rate()

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "warmup_fraction": self.warmup_fraction}
