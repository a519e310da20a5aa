"""Optimizers and learning-rate schedules beyond torch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Optional

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

required: Any = object()


class SGDW(Optimizer):
    """SGD with decoupled weight decay (https://arxiv.org/abs/1711.05101)."""

    def __init__(
        self,
        params: Any,
        lr: Any = required,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
    ) -> None:
        """Take the arguments of :class:`torch.optim.SGD`.

        Raises:
            ValueError: no learning rate, a negative value, or Nesterov without momentum or with dampening.
        """
        if lr is not required and lr < 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        if lr is required:
            raise ValueError("parameter group didn't specify a value of required optimization parameter lr")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("nesterov", False)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:  # type: ignore[override]
        """One step; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            momentum = group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad
                if momentum:
                    state = self.state[parameter]
                    if "momentum_buffer" not in state:
                        buffer = state["momentum_buffer"] = update.clone()
                    else:
                        buffer = state["momentum_buffer"]
                        buffer.mul_(momentum).add_(update, alpha=1 - group["dampening"])
                    update = update.add(buffer, alpha=momentum) if group["nesterov"] else buffer
                if group["weight_decay"]:
                    parameter.sub_(parameter, alpha=group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])
        return loss


class ExpAnnealLR(LRScheduler):
    """Exponential way from the initial learning rate to ``end_lr`` in a number of steps."""

    def __init__(self, optimizer: Optimizer, end_lr: float, iterations: int, last_epoch: int = -1) -> None:
        self.end_lr = end_lr
        self.iterations = iterations
        super().__init__(optimizer, last_epoch=last_epoch)

    def get_lr(self) -> list[Any]:
        # The first step is taken at once: after `iterations - 1` further ones the end is reached.
        share = (self.last_epoch + 1) / self.iterations
        return [base * (self.end_lr / base) ** share for base in self.base_lrs]


class LinearSchedulerWithWarmup(LambdaLR):
    """Linear rise from 0 over the warm-up steps, then linear fall to 0."""

    def __init__(self, optimizer: Optimizer, num_train_steps: int, num_warmup_steps: int, last_epoch: int = -1) -> None:
        def factor(step: int) -> float:
            if step < num_warmup_steps:
                return step / max(1, num_warmup_steps)
            return max(0.0, (num_train_steps - step) / max(1, num_train_steps - num_warmup_steps))

        super().__init__(optimizer, lr_lambda=factor, last_epoch=last_epoch)


class ReduceLRWDOnPlateau(ReduceLROnPlateau):
    """Reduces learning rate and weight decay when a metric stops improving."""

    def step(self, metrics: Any, epoch: Optional[int] = None) -> None:  # type: ignore[override]
        """Record a metric; reduce both rates after more than ``patience`` bad epochs."""
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._improves(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr(self.last_epoch)
            self._reduce_weight_decay()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _reduce_weight_decay(self) -> None:
        """By the same rule as the learning rate: not below ``min_lr``, and not by less than ``eps``."""
        for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            old = float(group.get("weight_decay", 0.0))
            new = max(old * self.factor, least)
            if old - new > self.eps:
                group["weight_decay"] = new

    def _improves(self, value: float) -> bool:
        best = float(self.best)
        if not math.isfinite(best):
            return value < best if self.mode == "min" else value > best
        sign = 1.0 if self.mode == "max" else -1.0
        margin = abs(self.threshold) * (abs(best) if self.threshold_mode == "rel" else 1.0)
        return sign * value > sign * best + margin
