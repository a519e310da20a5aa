"""Losses that torch does not have."""

from __future__ import annotations

from typing import Optional

from torch import Tensor, nn
from torch.nn.modules.loss import _WeightedLoss

from flair.nn.precision import compute_dtype


class SigmoidLoss(_WeightedLoss):
    """Negative log-likelihood of independent class probabilities."""

    def __init__(
        self,
        weight: Optional[Tensor] = None,
        size_average: Optional[bool] = None,
        reduce: Optional[bool] = None,
        reduction: str = "mean",
    ) -> None:
        """Take the arguments of :class:`torch.nn.NLLLoss`."""
        super().__init__(weight, size_average, reduce, reduction)
        self.sigmoid = nn.Sigmoid()
        self.nll_loss = nn.NLLLoss(weight, reduction=self.reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of logits ``[batch, classes]`` for class indices ``[batch]``."""
        return self.nll_loss(nn.functional.logsigmoid(compute_dtype(input)), target)
