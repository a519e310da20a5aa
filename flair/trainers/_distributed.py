"""The few collective operations that training needs; all of them do nothing in a single process."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

from flair.distributed_utils import is_main_process

T = TypeVar("T")

__all__ = [
    "barrier",
    "from_main_process",
    "is_distributed",
    "is_main_process",
    "mean_over_processes",
    "rank",
    "world_size",
]


def is_distributed() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def barrier() -> None:
    """Wait until all processes are here."""
    if is_distributed():
        dist.barrier()


def from_main_process(value: T) -> T:
    """The main process's value, on every process."""
    if not is_distributed():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def mean_over_processes(numerator: float, denominator: float) -> float:
    """``sum(numerator) / sum(denominator)`` over all processes; 0 where there is nothing to divide by."""
    pairs: list[tuple[float, float]] = [(numerator, denominator)]
    if is_distributed():
        pairs = [(0.0, 0.0)] * world_size()
        dist.all_gather_object(pairs, (numerator, denominator))
    total = sum(pair[1] for pair in pairs)
    return sum(pair[0] for pair in pairs) / total if total else 0.0
