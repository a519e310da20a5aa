"""One optimizer step: parameter groups, mixed precision, loss scaling, gradient clipping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from flair import _runtime
from flair.trainers._distributed import is_main_process
from flair.trainers.master_weights import MasterWeights
from flair.trainers.plan import TrainingPlan


class Optimization:
    """Everything between the loss of a batch and the changed weights."""

    def __init__(self, model: nn.Module, plan: TrainingPlan) -> None:
        """Create the optimizer over all parameters of the model that take gradients.

        Raises:
            ValueError: there are none.
            TypeError: the optimizer does not know an argument that was passed to the training.
        """
        self.masters = MasterWeights()
        self.max_grad_norm = plan.max_grad_norm
        self.optimizer: Optimizer = self._create_optimizer(model, plan)
        self._device_type = _runtime.device.type
        self._autocast_dtype = plan.autocast_dtype()
        # Only float16 has so small a range that gradients must be scaled to survive.
        self.scaler = torch.amp.GradScaler(self._device_type, enabled=self._autocast_dtype == torch.float16)

    def _create_optimizer(self, model: nn.Module, plan: TrainingPlan) -> Optimizer:
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        if not named:
            raise ValueError(
                f"{type(model).__name__} has no parameters that take gradients, there is nothing to train. "
                "Create the embeddings with fine_tune=True or leave a layer unfrozen (requires_grad_(True))."
            )
        arguments = {**_fused_kernels(plan, [parameter for _, parameter in named]), **plan.kwargs}
        if plan.decoder_learning_rate is None:
            return plan.optimizer([self.masters.for_optimizer(parameter) for _, parameter in named], **arguments)
        rest = [(name, parameter) for name, parameter in named if "embeddings" not in name]
        embeddings = [(name, parameter) for name, parameter in named if "embeddings" in name]
        groups: list[dict[str, Any]] = [
            {"params": [self.masters.for_optimizer(parameter) for _, parameter in group], "lr": rate}
            for group, rate in ((rest, plan.decoder_learning_rate), (embeddings, plan.learning_rate))
            if group
        ]
        if is_main_process():
            _runtime.logger.info(
                f"Modifying learning rate to {plan.decoder_learning_rate} for the following parameters: "
                f"{[name for name, _ in rest]}"
            )
        return plan.optimizer(groups, **arguments)

    def autocast(self) -> AbstractContextManager:
        """The context in which losses are computed."""
        if self._autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self._device_type, dtype=self._autocast_dtype)

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.masters.zero_grad()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self.scaler.scale(loss).backward()

    def clip(self) -> Optional[Tensor]:
        """Prepare the gradients for the step; returns their total norm before clipping (None without clipping)."""
        self.masters.take_gradients()
        if self.max_grad_norm is None:
            return None
        self.scaler.unscale_(self.optimizer)
        return torch.nn.utils.clip_grad_norm_(list(self.parameters()), self.max_grad_norm)

    def step(self) -> bool:
        """Change the weights; returns False when the scaler skipped the step because of an overflow."""
        if not self.scaler.is_enabled():
            self.optimizer.step()
            self.masters.give_values()
            return True
        scale_before = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.masters.give_values()
        return self.scaler.get_scale() >= scale_before

    def replace_parameter(self, old: Parameter, new: Parameter) -> None:
        """Let the optimizer work on another parameter, before its first step."""
        old, new = self.masters.replace(old, new)
        for group in self.optimizer.param_groups:
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]

    def learning_rates(self) -> list[float]:
        """The learning rate of each parameter group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def momenta(self) -> list[float]:
        """The momentum of each parameter group; 0 for optimizers without one."""
        return [group.get("momentum", 0) for group in self.optimizer.param_groups]

    def parameters(self) -> Iterator[Parameter]:
        """What the optimizer works on, group by group."""
        for group in self.optimizer.param_groups:
            yield from group["params"]

    def state_dict(self) -> dict[str, Any]:
        """The scaler's state and the float32 copies of 16-bit weights (the optimizer has a state of its own)."""
        return {"scaler": self.scaler.state_dict(), "master_weights": self.masters.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.masters.load_state_dict(state["master_weights"])


def _fused_kernels(plan: TrainingPlan, parameters: list[Parameter]) -> dict[str, Any]:
    """Ask Adam and AdamW for their fused kernels, unless the user chose an implementation.

    They give the same result up to the last bits, and are several times faster on CPUs.
    """
    if plan.optimizer not in (torch.optim.Adam, torch.optim.AdamW):
        return {}
    if {"fused", "foreach", "capturable", "differentiable"} & set(plan.kwargs):
        return {}
    devices = {parameter.device.type for parameter in parameters}
    supported = devices <= {"cpu"} or devices <= {"cuda"}
    return {"fused": True} if supported and all(p.is_floating_point() for p in parameters) else {}
