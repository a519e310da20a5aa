"""Euclidean geometry."""

from __future__ import annotations

from torch import Tensor, nn

from flair.nn.precision import compute_dtype


class EuclideanDistance(nn.Module):
    """Squared distance."""

    def forward(self, mat_1: Tensor, mat_2: Tensor) -> Tensor:
        """``[..., dim]`` and ``[m, dim]`` -> ``[..., m]``."""
        difference = compute_dtype(mat_1).unsqueeze(-2) - compute_dtype(mat_2)
        return difference.square().sum(-1)


class EuclideanMean(nn.Module):
    """The mean of rows."""

    def forward(self, data: Tensor) -> Tensor:
        """``[n, dim]`` -> ``[dim]``."""
        return data.mean(0)
