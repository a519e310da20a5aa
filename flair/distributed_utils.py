"""Training in several processes, one per device."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from flair import _runtime

if TYPE_CHECKING:
    from flair.data.corpus import Corpus

logger = _runtime.logger


def launch_distributed(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run ``fn(*args, **kwargs)`` in one process per CUDA device.

    Without CUDA it runs in as many processes as the environment variable ``FLAIR_WORLD_SIZE`` says (default 1), which
    talk through gloo. ``fn`` must be importable (defined at module level).

    Returns:
        What ``fn`` returned in the main process.

    Raises:
        ValueError: ``FLAIR_WORLD_SIZE`` is no number of processes.
    """
    world_size = torch.cuda.device_count() if torch.cuda.is_available() else _processes_without_cuda()
    logger.info(f"Launching {world_size} processes")
    with mp.get_context("spawn").Manager() as manager:
        results = manager.dict()
        mp.spawn(_run_process, args=(world_size, results, fn, args, kwargs), nprocs=world_size)
        return results[0]


def _processes_without_cuda() -> int:
    wanted = os.environ.get("FLAIR_WORLD_SIZE", "1")
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"The environment variable FLAIR_WORLD_SIZE is {wanted!r}; it must be 1 or more processes.")
    return int(wanted)


def _run_process(rank: int, world_size: int, results: Any, fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    os.environ.setdefault("MASTER_ADDR", "localhost")
    os.environ.setdefault("MASTER_PORT", "12355")
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(rank)
        _runtime.device = torch.device(rank)
    if rank:
        logger.handlers.clear()
    dist.init_process_group("nccl" if cuda else "gloo", rank=rank, world_size=world_size)
    try:
        result = fn(*args, **kwargs)
        if rank == 0:
            results[0] = result
    finally:
        dist.destroy_process_group()


def is_main_process() -> bool:
    """Whether this is the only process or the one with rank 0."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def aggregate(value: Any, aggregation_fn: Callable[[list[Any]], Any] = np.mean) -> Any:
    """Gather a value from all processes and reduce it; the value itself in a single process."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return aggregation_fn(gathered)


def validate_corpus_same_each_process(corpus: Corpus) -> None:
    """Compare a sample of each split over all processes.

    Raises:
        ValueError: the splits differ; naming the split.
    """
    for name in ("train", "dev", "test"):
        split = getattr(corpus, name)
        if split is None:
            continue
        size = len(split)  # type: ignore[arg-type]
        chosen = random.Random(0).sample(range(size), min(10, size))
        fingerprint = [size, *(str(split[index]) for index in chosen)]
        if aggregate(fingerprint, lambda prints: any(other != prints[0] for other in prints)) is True:
            raise ValueError(
                f"The {name} split is not the same in every process. Set a seed before the corpus is created: "
                "flair.set_seed(42)."
            )
