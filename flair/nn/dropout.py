"""Dropout variants for sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """Drops the same features at every position of a sequence (https://arxiv.org/abs/1512.05287)."""

    def __init__(self, dropout_rate: float = 0.5, batch_first: bool = True, inplace: bool = False) -> None:
        """Set the rate.

        Args:
            dropout_rate: probability that a feature of a sequence is set to zero; the others are scaled up.
            batch_first: input is ``[batch, time, features]``, else ``[time, batch, features]``.
            inplace: only shown, kept for the signature; the input is never changed.
        """
        super().__init__()
        self.dropout_rate = dropout_rate
        self.batch_first = batch_first
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``[batch, time, features]``; the identity outside training."""
        if not self.training or not self.dropout_rate:
            return x
        shape = (x.size(0), 1, x.size(2)) if self.batch_first else (1, x.size(1), x.size(2))
        keep = 1 - self.dropout_rate
        mask = torch.empty(shape, device=x.device, dtype=x.dtype).bernoulli_(keep)
        return x * (mask / keep if keep else mask)

    def extra_repr(self) -> str:
        return f"p={self.dropout_rate}{', inplace' if self.inplace else ''}"


class WordDropout(nn.Module):
    """Sets whole words to zero, without scaling the rest."""

    def __init__(self, dropout_rate: float = 0.05, inplace: bool = False) -> None:
        """Set the rate.

        Args:
            dropout_rate: probability that a word's vector is set to zero.
            inplace: only shown, kept for the signature; the input is never changed.
        """
        super().__init__()
        self.dropout_rate = dropout_rate
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``[batch, time, features]``; the identity outside training."""
        if not self.training or not self.dropout_rate:
            return x
        mask = torch.empty((x.size(0), x.size(1), 1), device=x.device, dtype=x.dtype)
        return x * mask.bernoulli_(1 - self.dropout_rate)

    def extra_repr(self) -> str:
        return f"p={self.dropout_rate}{', inplace' if self.inplace else ''}"
