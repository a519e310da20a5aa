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


class QuickDropout(nn.Dropout):
    """``torch.nn.Dropout`` that draws its mask from 16 random bits per element on a CPU.

    Sampling Bernoulli variables one by one is a tenth of a small transformer's training step on a CPU; random 64-bit
    integers cost a quarter of it for four elements each. The probability is rounded to a multiple of 1/65536, and the
    scale to match it, so the expectation is the input exactly. Elsewhere it is ``torch.nn.Dropout``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape; the identity outside training."""
        dropped = round(self.p * 65536)
        if not self.training or self.inplace or input.device.type != "cpu" or not 0 < dropped < 65536:
            return super().forward(input)
        count = input.numel()
        bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        mask = torch.empty(input.shape, dtype=input.dtype)
        torch.ge(bits.view(torch.int16)[:count].view(input.shape), dropped - 32768, out=mask)
        return input * mask.mul_(65536 / (65536 - dropped))


def dropped(values: torch.Tensor, *layers: nn.Module | None) -> torch.Tensor:
    """The values after those of the dropouts that there are, one after the other."""
    for layer in layers:
        if layer is not None:
            values = layer(values)
    return values


def quicken_dropout(network: nn.Module) -> None:
    """Make the ``torch.nn.Dropout`` modules of a network, none of which hold weights, :class:`QuickDropout`."""
    for module in network.modules():
        if type(module) is nn.Dropout:
            module.__class__ = QuickDropout
