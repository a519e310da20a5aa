"""One training of a language model, from the first split to the test."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, cast

import torch
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader
from tqdm import tqdm

from flair import _runtime
from flair.checkpoint import save_state
from flair.nn.language_model import LanguageModel
from flair.nn.precision import compute_dtype
from flair.optim import SGDW, ReduceLRWDOnPlateau
from flair.trainers._language_model.text import TextDataset
from flair.trainers.loop import NonFiniteLossError
from flair.trainers.optimization import Optimization
from flair.trainers.plan import TrainingPlan
from flair.trainers.state import random_states, restore_random_states, to_cpu
from flair.training_utils import add_file_handler

if TYPE_CHECKING:
    from flair.trainers.language_model_trainer import LanguageModelTrainer

_LINE = "-" * 89


@dataclass(frozen=True)
class LanguageModelPlan:
    """The arguments of a training. The names that :class:`Optimization` reads are those of other trainings."""

    base_path: Path
    sequence_length: int
    learning_rate: float
    mini_batch_size: int
    anneal_factor: float
    patience: int
    max_grad_norm: Optional[float]
    max_epochs: int
    checkpoint: bool
    grow_to_sequence_length: int
    num_workers: int
    use_amp: bool
    optimizer: type[Optimizer] = SGD
    kwargs: dict[str, Any] = field(default_factory=dict)
    decoder_learning_rate: Optional[float] = None

    def check(self) -> None:
        """Raise for sizes that make no sense."""
        for name in ("sequence_length", "mini_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if not 0 < self.anneal_factor < 1:
            raise ValueError(f"anneal_factor={self.anneal_factor} must be between 0 and 1.")

    def autocast_dtype(self) -> Optional[torch.dtype]:
        """The type of mixed precision; None without. On CPUs recurrent layers would not gain by it."""
        return torch.float16 if self.use_amp and _runtime.device.type == "cuda" else None

    def length_of(self, splits_done: int) -> int:
        """Characters per step: with ``grow_to_sequence_length``, one more for every split until that is reached."""
        return max(self.sequence_length, min(self.grow_to_sequence_length, self.sequence_length + splits_done + 1))


def batchify(data: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Cut a text ``[characters]`` into ``batch_size`` equal parts, side by side: ``[rows, batch_size]``.

    What does not fill a row is left out.
    """
    rows = len(data) // batch_size
    return data[: rows * batch_size].view(batch_size, rows).t().contiguous()


def steps(rows: torch.Tensor, sequence_length: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs ``[sequence, batch]`` and what follows each of them, flat ``[sequence * batch]``."""
    for start in range(0, len(rows) - 1, sequence_length):
        end = min(start + sequence_length, len(rows) - 1)
        yield rows[start:end], rows[start + 1 : end + 1].reshape(-1)


def evaluate(model: LanguageModel, rows: torch.Tensor, sequence_length: int) -> float:
    """The loss per row of a text ``[rows, batch]``, without dropout.

    The first row is counted although there is nothing to predict it from, as released versions do.
    """
    device = model.encoder.weight.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    with model._without_training(), torch.no_grad():
        hidden: Any = model.init_hidden(rows.size(1))
        for inputs, targets in steps(rows, sequence_length):
            prediction, _, hidden = model.forward(inputs.to(device), hidden)
            loss = functional.cross_entropy(compute_dtype(prediction).flatten(0, 1), targets.to(device))
            total += loss.double() * len(inputs)
    return float(total) / len(rows)


def perplexity(loss: float) -> float:
    """``exp(loss)``, infinite where that is no number."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


class LanguageModelRun:
    """Carries out a plan. Where a checkpoint was loaded, it goes on as if it had never stopped."""

    def __init__(self, trainer: LanguageModelTrainer, plan: LanguageModelPlan) -> None:
        plan.check()
        self.trainer = trainer
        self.plan = plan
        self.model = trainer.model
        self.data: TextDataset = trainer.corpus.train
        self.valid = self._evaluation_rows(trainer.corpus.valid, "valid")
        self.test = self._evaluation_rows(trainer.corpus.test, "test")
        self.epoch = trainer.epoch
        """From 0."""
        self.split = trainer.split
        """Splits of the epoch that are done."""
        self.best_loss = float(trainer.loss)
        self.order: Optional[list[int]] = None
        self.steps_of_epoch = 0
        self.has_best = trainer.epoch > 0 or trainer.split > 0
        self.model.to(_runtime.device)
        self.optimization = Optimization(self.model, cast(TrainingPlan, plan))
        self.optimizer = self.optimization.optimizer
        self.scheduler = self._make_scheduler()
        self._reader = ThreadPoolExecutor(max_workers=1) if plan.num_workers > 0 else None
        self._python_state: Any = None
        self._restore()

    def _evaluation_rows(self, text: torch.Tensor, name: str) -> torch.Tensor:
        rows = batchify(text, self.plan.mini_batch_size)
        if len(rows) < 2:
            raise RuntimeError(
                f"The {name} text has {len(text)} characters: too few for a mini_batch_size of "
                f"{self.plan.mini_batch_size}, which needs two rows of that size."
            )
        return rows

    def _make_scheduler(self) -> Any:
        decays_weights = isinstance(self.optimizer, (AdamW, SGDW))
        kind: type[ReduceLROnPlateau] = ReduceLRWDOnPlateau if decays_weights else ReduceLROnPlateau
        return kind(self.optimizer, mode="min", factor=self.plan.anneal_factor, patience=self.plan.patience)

    def _restore(self) -> None:
        """Take over the states that came with a checkpoint. Released checkpoints have that of the optimizer only."""
        trainer = self.trainer
        if trainer.optimizer_state is not None:
            self._load_optimizer_state(trainer.optimizer_state)
            rate = self.optimizer.param_groups[0]["lr"]
            if rate != self.plan.learning_rate:
                _runtime.logger.info(f"continuing with the learning rate of the checkpoint: {rate:g}")
        if trainer.scaler_state is not None:
            self.optimization.load_state_dict(trainer.scaler_state)
        state = trainer.training_state
        if state is not None:
            self.scheduler.load_state_dict(state["scheduler"])
            self.order = state["order"]
            restore_random_states(state["random"])
        if self.split >= len(self.data):
            self.epoch, self.split, self.order = self.epoch + 1, 0, None

    def _load_optimizer_state(self, state: dict[str, Any]) -> None:
        try:
            self.optimizer.load_state_dict(state)
            lacking = sorted(set(self.optimizer.defaults) - set(self.optimizer.param_groups[0]))
            if lacking:  # torch accepts the state of any other optimizer, and fails in the first step
                raise ValueError(f"it lacks {', '.join(lacking)}")
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"The state of the optimizer does not fit {type(self.optimizer).__name__}: {error}. Continue with the "
                "optimizer of the checkpoint, or set optimizer_state=None to start with a fresh one."
            ) from error

    # --- the course of a training ---

    def execute(self) -> None:
        """Train, and test the best model."""
        plan, log = self.plan, _runtime.logger
        plan.base_path.mkdir(parents=True, exist_ok=True)
        handler = add_file_handler(log, plan.base_path / "training.log")
        if plan.use_amp and plan.autocast_dtype() is None:
            log.warning(f"use_amp=True has no effect on {_runtime.device}: recurrent layers gain by it on GPUs only.")
        try:
            try:
                for epoch in range(self.epoch, plan.max_epochs):
                    self._train_epoch(epoch)
            except KeyboardInterrupt:
                log.info(_LINE)
                log.info("Exiting from training early")
            finally:
                if self._reader is not None:
                    self._reader.shutdown(cancel_futures=True)
            self._test()
        finally:
            handler.close()
            log.removeHandler(handler)

    def _train_epoch(self, epoch: int) -> None:
        started = time.time()
        self.epoch = epoch
        self.steps_of_epoch = 0
        if epoch > 0 and self.split == 0:
            self._save_checkpoint(f"epoch_{epoch}.pt")
        if self.order is None:
            self.order = self._draw_order(shuffle=epoch > 0)
        remaining = self.order[self.split :]
        for indices in self._read(remaining):
            self._train_split(indices)
        if remaining and self.steps_of_epoch == 0:
            raise RuntimeError(
                f"No file of {self.data.path} is long enough for a mini_batch_size of {self.plan.mini_batch_size}. "
                "Lower mini_batch_size, or join the files."
            )
        self.split, self.order = 0, None
        _runtime.logger.info(f"Epoch time: {time.time() - started:.2f}")

    def _draw_order(self, shuffle: bool) -> list[int]:
        """The order of the splits, drawn as a data loader draws it: equal seeds give equal trainings."""
        return [int(index) for index in DataLoader(range(len(self.data)), batch_size=None, shuffle=shuffle)]  # type: ignore[arg-type]

    def _read(self, order: list[int]) -> Iterator[torch.Tensor]:
        """The texts of the splits; with workers, the next one is read while the current one is trained on.

        Python's random generator belongs to the reading alone, so that both ways draw the same numbers. What it was
        before a reading that runs ahead is kept for checkpoints.
        """
        if self._reader is None:
            for index in order:
                yield self.data[index]
            return
        ahead: Optional[Future] = self._reader.submit(self.data.__getitem__, order[0]) if order else None
        for following in [*order[1:], None]:
            assert ahead is not None
            indices = ahead.result()
            if following is not None:
                self._python_state = random.getstate()
                ahead = self._reader.submit(self.data.__getitem__, following)
            yield indices
            self._python_state = None

    def _train_split(self, indices: torch.Tensor) -> None:
        plan, log, n = self.plan, _runtime.logger, len(self.data)
        started = time.time()
        number = self.split + 1
        length = plan.length_of(self.epoch * n + self.split)
        rate = self.optimizer.param_groups[0]["lr"]
        log.info(f"Sequence length is {length}")
        log.info(f"Split {number}\t - ({datetime.now():%H:%M:%S})")
        self._train_on(batchify(indices, plan.mini_batch_size), length, number)
        loss = evaluate(self.model, self.valid, plan.sequence_length)
        self.scheduler.step(loss)
        self.split = number
        if loss < self.best_loss:
            self.best_loss = loss
            self.model.save(plan.base_path / "best-lm.pt")
            self.has_best = True
            log.info("best split so far")
        log.info(f"best loss so far {self.best_loss:.8f}")
        log.info(self.model.generate_text())
        if plan.checkpoint:
            self._save_checkpoint("checkpoint.pt")
        seconds = time.time() - started
        self._report(
            f"| end of split {number:3d} /{n:3d} | epoch {self.epoch + 1:3d} | time: {seconds:5.2f}s | "
            f"valid loss {loss:.4f} | valid ppl {perplexity(loss):.4f} | learning rate {rate:3.4f}",
            before=True,
        )
        log.info(f"{int(seconds)} seconds for train split {number}")

    def _train_on(self, rows: torch.Tensor, length: int, number: int) -> None:
        """One pass over a text ``[rows, batch]``; states are carried over from step to step, gradients are not."""
        device = self.model.encoder.weight.device
        every, total = self.trainer.log_interval, math.ceil((len(rows) - 1) / length)
        if total < 1:
            _runtime.logger.warning(
                f"{self.data.files[(self.order or [])[number - 1]]} is too short for a mini_batch_size of "
                f"{self.plan.mini_batch_size} and is skipped."
            )
            return
        self.model.train()
        hidden: Any = self.model.init_hidden(rows.size(1))
        collected = torch.zeros((), device=device)
        since = time.time()
        title = f"Epoch {self.epoch + 1}, split {number}/{len(self.data)}"
        with tqdm(total=total, desc=title, unit="batch", leave=False, disable=_progress_bar_disabled()) as bar:
            for step, (inputs, targets) in enumerate(steps(rows, length), 1):
                self.optimization.zero_grad()
                hidden = self.model.repackage_hidden(hidden)
                with self.optimization.autocast():
                    prediction, _, hidden = self.model.forward(inputs.to(device), hidden)
                loss = functional.cross_entropy(compute_dtype(prediction).flatten(0, 1), targets.to(device))
                self.optimization.backward(loss)
                self.optimization.clip()
                self.optimization.step()
                collected += loss.detach()
                bar.update()
                if step % every == 0 or step == total:
                    count = (step - 1) % every + 1
                    mean = self._checked(float(collected) / count, number, step)
                    bar.set_postfix_str(f"loss {mean:.4f}", refresh=False)
                    collected.zero_()
                if step % every == 0:
                    milliseconds = (time.time() - since) * 1000 / every
                    since = time.time()
                    with tqdm.external_write_mode():
                        _runtime.logger.info(
                            f"| split {number:3d}/{len(self.data):3d} | {step:5d}/{total:5d} batches "
                            f"| ms/batch {milliseconds:5.2f} | loss {mean:.4f} | ppl {perplexity(mean):5.4f}"
                        )
        self.steps_of_epoch += total

    def _checked(self, loss: float, number: int, step: int) -> float:
        if math.isfinite(loss):
            return loss
        raise NonFiniteLossError(
            f"The loss became {loss} before batch {step} of split {number} in epoch {self.epoch + 1} (learning rate "
            f"{self.optimizer.param_groups[0]['lr']:g}). Files written before are untouched. Try a lower learning_rate "
            "or clip."
        )

    def _test(self) -> None:
        """The loss on the test text, of the best model if there is one. The trained model keeps its last weights."""
        self.model.eval()
        tested, best = self.model, self.plan.base_path / "best-lm.pt"
        if self.has_best and best.exists():
            tested = LanguageModel.load_language_model(best).to(next(self.model.parameters()).device)
        loss = evaluate(tested, self.test, self.plan.sequence_length)
        self._report(f"TEST: valid loss {loss:.4f} | valid ppl {perplexity(loss):8.4f}", before=False)

    def _report(self, summary: str, before: bool) -> None:
        with open(self.plan.base_path / "loss.txt", "a", encoding="utf-8") as file:
            file.write(f"{summary}\n")
        if before:
            _runtime.logger.info(_LINE)
        _runtime.logger.info(summary)
        _runtime.logger.info(_LINE)

    # --- checkpoints ---

    def _save_checkpoint(self, name: str) -> None:
        """Write everything that the rest of the training depends on. All of it is data."""
        states = random_states()
        if self._python_state is not None:
            version, internal, gauss = self._python_state
            states["python"] = {"version": version, "internal": list(internal), "gauss": gauss}
        state = {
            **self.model.__getstate__(),
            "optimizer_state_dict": to_cpu(self.optimizer.state_dict()),
            "epoch": self.epoch,
            "split": self.split,
            "loss": self.best_loss,
            "scaler_state": to_cpu(self.optimization.state_dict()),
            "training_state": {
                "scheduler": {k: v for k, v in self.scheduler.state_dict().items() if not callable(v)},
                "order": self.order,
                "random": states,
            },
        }
        save_state(state, self.plan.base_path / name)


def _progress_bar_disabled() -> Optional[bool]:
    """A value for tqdm's ``disable``; None lets it decide by whether stderr is a terminal."""
    choice = os.environ.get("FLAIR_PROGRESS")
    return None if choice is None else choice.lower() in ("0", "false", "no", "")
