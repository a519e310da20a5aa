"""Float32 copies of 16-bit weights, so that small updates are not rounded away.

A bfloat16 number has 8 significant bits: adding an update smaller than 1/512 of a weight changes nothing. Optimizers
therefore work on float32 copies ("master weights", Micikevicius et al., 2018, arXiv:1710.03740), and the model receives
the rounded result of each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import Parameter

_SIXTEEN_BIT = (torch.bfloat16, torch.float16)


class MasterWeights:
    """Pairs of 16-bit parameters and the float32 copies that stand in for them in the optimizer.

    Parameters of other types stand for themselves; without 16-bit parameters all methods do nothing.
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[Parameter, Parameter]] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def for_optimizer(self, parameter: Parameter) -> Parameter:
        """What the optimizer should work on in place of ``parameter``."""
        if parameter.dtype not in _SIXTEEN_BIT:
            return parameter
        for mine, master in self._pairs:
            if mine is parameter:
                return master
        master = Parameter(parameter.detach().float())
        self._pairs.append((parameter, master))
        return master

    def replace(self, old: Parameter, new: Parameter) -> tuple[Parameter, Parameter]:
        """Exchange a parameter; returns what the optimizer must exchange for what."""
        for index, (parameter, master) in enumerate(self._pairs):
            if parameter is old:
                del self._pairs[index]
                return master, self.for_optimizer(new)
        return old, self.for_optimizer(new)

    def original(self, master: Parameter) -> Parameter:
        """The parameter of the model behind one of the optimizer's."""
        return next((parameter for parameter, copy in self._pairs if copy is master), master)

    def zero_grad(self) -> None:
        """Forget gradients that were not taken, because the step they belong to was interrupted."""
        for parameter, _ in self._pairs:
            parameter.grad = None

    def take_gradients(self) -> None:
        """Move the gradients of the 16-bit parameters to their copies, before clipping and the optimizer's step."""
        for parameter, master in self._pairs:
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    @torch.no_grad()
    def give_values(self) -> None:
        """Round the copies into the 16-bit parameters, after the optimizer's step."""
        if self._pairs:
            torch._foreach_copy_([parameter.data for parameter, _ in self._pairs], [m.data for _, m in self._pairs])

    @torch.no_grad()
    def refresh(self) -> None:
        """Read the copies anew from the model, after its weights were changed from outside (a best model reloaded)."""
        for parameter, master in self._pairs:
            master.copy_(parameter)

    def state_dict(self) -> dict[str, Any]:
        """The copies, in the order of the optimizer's parameters: what rounding hides must survive a checkpoint."""
        return {"masters": [master.detach() for _, master in self._pairs]}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the copies.

        Raises:
            ValueError: the number or the shapes of the copies do not fit the model.
        """
        masters: list[torch.Tensor] = list(state["masters"])
        shapes = [tuple(tensor.shape) for tensor in masters]
        expected = [tuple(master.shape) for _, master in self._pairs]
        if shapes != expected:
            raise ValueError(
                f"The checkpoint has {len(shapes)} float32 copies of 16-bit weights, the model needs {len(expected)}"
                " (or their shapes differ). Load it into the model it was written for, in the same dtype."
            )
        for (_, master), tensor in zip(self._pairs, masters, strict=True):
            master.copy_(tensor)
