"""Distances from inner products. All take ``a`` ``[n, dim]`` and ``b`` ``[m, dim]`` and give ``[n, m]``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from flair.nn.precision import compute_dtype


def dot_product(a: Tensor, b: Tensor, normalize: bool = False) -> Tensor:
    """All inner products of rows; of unit vectors with ``normalize``."""
    a, b = compute_dtype(a), compute_dtype(b)
    if normalize:
        a, b = functional.normalize(a, dim=-1), functional.normalize(b, dim=-1)
    return a @ b.transpose(-2, -1)


class CosineDistance(nn.Module):
    """The negative cosine."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return -dot_product(a, b, normalize=True)


class LogitCosineDistance(nn.Module):
    """The negative logit of the cosine scaled to 0..1."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return -torch.logit(0.5 + 0.5 * dot_product(a, b, normalize=True), eps=1e-6)


class NegativeScaledDotProduct(nn.Module):
    """The negative inner product over the square root of the dimension, as in attention."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return -dot_product(a, b) / a.size(-1) ** 0.5
