"""What is checked before a training begins, so that it does not fail hours later."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flair import _runtime
from flair.checkpoint import CheckpointError, load_state, save_state
from flair.data.corpus import Corpus
from flair.nn.model import Model
from flair.trainers._distributed import is_distributed
from flair.trainers.plan import TrainingPlan

_REBUILD_LIMIT = 1_000_000_000
"""Models with more bytes of weights than this are not rebuilt for the check, only their configuration is written."""


def check_ready(plan: TrainingPlan, model: Model, corpus: Corpus) -> None:
    """Check everything that needs no work.

    Raises:
        RuntimeError: ``multi_gpu=True`` outside of a distributed run.
        TypeError: something else was given as model or corpus.
        ValueError: there is no training data.
    """
    if plan.multi_gpu and not is_distributed():
        raise RuntimeError("multi_gpu=True can only used inside flair.distributed_utils.launch_distributed()")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"ModelTrainer needs a flair model, got {type(model).__name__}.")
    if not hasattr(corpus, "train"):
        raise TypeError(
            f"ModelTrainer needs a Corpus, got {type(corpus).__name__}. Read the data first, for example with "
            "ClassificationCorpus(folder)."
        )
    if not corpus.train:
        sizes = ", ".join(
            f"{name}: {len(split) if split is not None else 'none'}"  # type: ignore[arg-type]
            for name, split in (("train", corpus.train), ("dev", corpus.dev), ("test", corpus.test))
        )
        raise ValueError(
            f"The train split of corpus {corpus.name!r} is empty ({sizes}), there is nothing to train on. Check the "
            "paths and the file format of the corpus, and whether a filter or downsampling removed everything."
        )


def check_model_survives_save(model: Model, **additions: Any) -> None:
    """Write the model's configuration to a file, read it back and build the model from it, sharing the weights.

    The weights themselves are neither written nor copied. Random generators are left as they were.

    Args:
        model: the model that is going to be saved.
        **additions: further entries that its files will have, such as ``model_card``.

    Raises:
        CheckpointError: some part of the model cannot be written, or the model cannot be rebuilt from what was written.
    """
    state = {**model._get_state_dict(), **additions}
    tensors = state.get("state_dict")
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    advice = (
        "Training stops here, before any work is lost. Custom parts of a model must be describable as data: "
        "see Model._get_state_dict and Embeddings.to_params."
    )
    with _random_state_kept(), _quiet_logger(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pt"
        try:
            save_state({**state, "state_dict": {}} if tensors is not None else state, file)
            loaded = load_state(file)
        except Exception as error:
            raise CheckpointError(f"This {type(model).__name__} cannot be saved: {error}\n{advice}") from error
        if tensors is None or size > _REBUILD_LIMIT:
            return
        try:
            type(model).load({**loaded, "state_dict": dict(tensors)})
        except Exception as error:
            raise CheckpointError(
                f"This {type(model).__name__} can be saved, but not loaded again: {error}\n{advice}"
            ) from error


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Building a model draws initial weights; a training must not depend on whether the check ran."""
    python_state: Any = random.getstate()
    numpy_state: Any = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _quiet_logger() -> Iterator[None]:
    level = _runtime.logger.level
    _runtime.logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _runtime.logger.setLevel(level)
