"""How a batch is cut into chunks of similar length, so that little computation goes into padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CPU_OVERHEAD = 30.0
"""What one more forward pass costs on a CPU, in sub-tokens."""
CUDA_OVERHEAD = 1500.0
"""The same on a GPU, where launching kernels dominates small batches."""


def plan_chunks(
    lengths: Sequence[int], rows: Sequence[int] | None = None, overhead: float = CPU_OVERHEAD
) -> list[list[int]]:
    """Split sentences into chunks that minimise the sum of ``rows * longest + overhead`` over the chunks.

    Dynamic programming over the sentences in ascending order of length; an optimal split only ever joins neighbours.

    Args:
        lengths: positions of each sentence's longest row.
        rows: number of rows (windows) of each sentence, 1 by default.
        overhead: fixed cost of one forward pass, in positions.

    Returns:
        The chunks, each a list of indices into ``lengths``; every index occurs once.
    """
    count = len(lengths)
    sizes = np.asarray(lengths, dtype=np.float64)
    order = np.argsort(sizes, kind="stable")
    if count <= 1 or sizes[order[0]] == sizes[order[-1]]:
        return [order.tolist()] if count else []
    sizes = sizes[order]
    rows_before = (
        np.arange(count + 1.0)
        if rows is None
        else np.concatenate([[0.0], np.cumsum(np.asarray(rows, dtype=np.float64)[order])])
    )
    best = np.zeros(count + 1)
    start_of = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        costs = best[:end] + (rows_before[end] - rows_before[:end]) * sizes[end - 1]
        start_of[end] = start = int(costs.argmin())
        best[end] = costs[start] + overhead
    chunks: list[list[int]] = []
    end = count
    while end:
        start = int(start_of[end])
        chunks.append(order[start:end].tolist())
        end = start
    return chunks[::-1]
