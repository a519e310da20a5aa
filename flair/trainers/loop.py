"""The training loop: batches in, finished optimizer steps out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flair.trainers.optimization import Optimization
from flair.training_utils import EmbeddingStorageMode, identify_dynamic_embeddings, store_embeddings

LossFunction = Callable[[list[Any]], tuple[Tensor, int]]


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became infinite or undefined."""


@dataclass(frozen=True)
class Position:
    """Where in a training a batch stands; these are the keyword arguments of the batch events."""

    batch_no: int
    """Number of the batch within its epoch, from 0."""
    batch: list[Any]
    total_number_of_batches: int
    """Batches in this epoch."""
    epoch: int
    """Number of the epoch, from 1."""
    batch_count: int
    """Batches since the training began, this one included."""

    def as_arguments(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    position: Position
    loss: float
    """Summed over the data points of the batch."""
    count: int
    """The number of data points."""
    gradient_norm: Optional[Tensor]
    """Before clipping, a CPU scalar; None when gradients are not clipped."""
    optimizer_was_run: bool
    """False when the gradient scaler skipped the step, or nothing in the batch gave a loss."""


class LossModule(nn.Module):
    """A model whose forward pass is its loss, which is what DistributedDataParallel needs to see."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: list[Any]) -> tuple[Tensor, int]:
        return self.model.forward_loss(batch)


def chunks(batch: Sequence[Any], size: Optional[int]) -> list[list[Any]]:
    """Cut a batch into parts of at most ``size`` data points, whose gradients are accumulated."""
    if size is None or len(batch) <= size:
        return [list(batch)]
    return [list(batch[start : start + size]) for start in range(0, len(batch), size)]


class TrainingLoop:
    """Runs batches through loss, gradients and optimizer."""

    def __init__(
        self,
        loss_function: LossFunction,
        optimization: Optimization,
        dispatch: Callable[..., None],
        chunk_size: Optional[int],
        embeddings_storage_mode: EmbeddingStorageMode,
        trained_embeddings: Sequence[str] = (),
    ) -> None:
        """Set the parts.

        Args:
            loss_function: the summed loss of a batch and the number of data points it was summed over.
            optimization: the optimizer with all that belongs to it.
            dispatch: called with the name and the arguments of each event.
            chunk_size: the most data points for one forward pass.
            embeddings_storage_mode: what happens to embeddings on data points after a batch.
            trained_embeddings: names of embeddings that change in training and are therefore never stored.
        """
        self._loss_function = loss_function
        self._optimization = optimization
        self._dispatch = dispatch
        self._chunk_size = chunk_size
        self._storage_mode = embeddings_storage_mode
        self._trained_embeddings = list(trained_embeddings)
        self._knows_trained_embeddings = False
        self.batch_count = 0

    def epoch(self, batches: Iterable[list[Any]], total: int, epoch: int) -> Iterator[Step]:
        """Train on the batches of one epoch, yielding after each step.

        Raises:
            NonFiniteLossError: the loss is not a number; the weights are those after the last good step.
        """
        for batch_no, batch in enumerate(batches):
            self.batch_count += 1
            position = Position(batch_no, batch, total, epoch, self.batch_count)
            self._dispatch("before_training_batch", **position.as_arguments())
            self._optimization.zero_grad()
            loss, count = self._accumulate_gradients(batch)
            yield self._finish(position, loss, count)
            self._release_embeddings(batch)

    def _accumulate_gradients(self, batch: list[Any]) -> tuple[Optional[Tensor], int]:
        total_loss: Optional[Tensor] = None
        total_count = 0
        parts = chunks(batch, self._chunk_size)
        for number, part in enumerate(parts, start=1):
            with self._synchronising(last=number == len(parts)):
                with self._optimization.autocast():
                    loss, count = self._loss_function(part)
                if count == 0 and not loss.requires_grad:
                    continue  # nothing to learn from, for example sentences without any candidate
                self._optimization.backward(loss)
            detached = loss.detach().float()
            total_loss = detached if total_loss is None else total_loss + detached
            total_count += count
        return total_loss, total_count

    def _synchronising(self, last: bool) -> AbstractContextManager:
        """Processes exchange gradients once a batch, with its last part."""
        if last or not isinstance(self._loss_function, DistributedDataParallel):
            return nullcontext()
        return self._loss_function.no_sync()

    def _finish(self, position: Position, loss: Optional[Tensor], count: int) -> Step:
        optimization = self._optimization
        if loss is None:
            return Step(position, 0.0, 0, None, optimizer_was_run=False)
        norm = optimization.clip()
        # Both numbers are fetched at once: on a GPU this is the only place where a step waits for the device.
        figures = torch.stack([loss, norm.float().to(loss.device)] if norm is not None else [loss]).cpu()
        value = figures[0].item()
        self._check(position, value, figures[1].item() if norm is not None else 0.0)
        self._dispatch("before_training_optimizer_step", **position.as_arguments())
        was_run = optimization.step()
        return Step(position, value, count, figures[1] if norm is not None else None, was_run)

    def _check(self, position: Position, loss: float, norm: float) -> None:
        if not math.isfinite(loss):
            what = f"The loss is {loss}"
        elif not math.isfinite(norm) and not self._optimization.scaler.is_enabled():
            what = f"The loss is {loss:.4f}, but the norm of its gradient is {norm}"
        else:
            return  # a scaler meets infinite gradients by skipping the step and lowering its scale
        rates = ", ".join(f"{rate:g}" for rate in self._optimization.learning_rates())
        raise NonFiniteLossError(
            f"{what} in epoch {position.epoch}, batch {position.batch_no + 1} of {position.total_number_of_batches} "
            f"(learning rate {rates}). The weights were not changed by this batch, and saved models are untouched. "
            "Try a lower learning_rate, a warm-up (fine_tune's warmup_fraction), a lower max_grad_norm; with use_amp "
            "try amp_dtype='bfloat16' or switch it off; with a float16 model load it with dtype='bfloat16' or "
            "'float32'. If it is always the same batch, look at its texts and labels."
        )

    def _release_embeddings(self, batch: list[Any]) -> None:
        if not self._knows_trained_embeddings and self._storage_mode != "none":
            # Gradients tell about embeddings that do not say of themselves whether they are static.
            self._trained_embeddings = sorted({*self._trained_embeddings, *(identify_dynamic_embeddings(batch) or ())})
            self._knows_trained_embeddings = True
        store_embeddings(batch, self._storage_mode, self._trained_embeddings)
