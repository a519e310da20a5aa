"""Float32 matrix products by oneDNN on processors for which torch's own are slow.

Torch computes float32 linear layers with MKL, which leaves the 512-bit instructions of AMD processors unused; oneDNN,
which is part of torch as well, uses them (measured on a Zen processor: 440 instead of 205 GFLOP/s on two cores).
``torch.backends.mkldnn.flags(enabled=False)`` switches to MKL.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

FEWEST_ROWS = 32
FEWEST_WEIGHTS = 2**14
"""Below these sizes preparing a product costs more than it saves."""


def faster_here() -> bool:
    """Whether linear layers gain from :func:`quick_linear` on this machine."""
    return bool(torch.backends.mkldnn.enabled) and _is_slow_with_mkl()


@functools.cache
def _is_slow_with_mkl() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and _vendor() == "AuthenticAMD"
    )


def _vendor() -> str:
    """The processor's maker as Linux names it, nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def quick_linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``torch.nn.functional.linear`` by oneDNN where types and sizes suit it.

    Args:
        input: ``[..., in_features]``.
        weight: ``[out_features, in_features]``.
        bias: ``[out_features]``.

    Returns:
        ``[..., out_features]``, equal to the original up to rounding. Differentiable once.
    """
    if not _suits(input, weight, bias):
        return linear(input, weight, bias)
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in (input, weight, bias)):
        return _Linear.apply(input, weight, bias)  # type: ignore[no-any-return]
    return _product(input, weight, bias)


def quick_products() -> contextlib.AbstractContextManager[Any]:
    """Around any computation: its linear layers by :func:`quick_linear`, where that is faster on this machine."""
    return QuickLinear() if faster_here() and not is_recorded() else contextlib.nullcontext()


def is_recorded() -> bool:
    """Whether the computation is being written down as a graph, in which nothing of this thread must show."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


class QuickLinear(TorchFunctionMode):
    """While entered, linear layers called in this thread are computed by :func:`quick_linear`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (quick_linear if func is linear else func)(*args, **(kwargs or {}))


def _suits(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    return (
        all(type(part) in _PLAIN and part.dtype == torch.float32 for part in (input, weight))
        and (bias is None or (type(bias) in _PLAIN and bias.dtype == torch.float32))
        and input.device.type == weight.device.type == "cpu"
        and weight.ndim == 2
        and input.ndim >= 2
        and input.shape[-1] == weight.shape[1]
        and weight.numel() >= FEWEST_WEIGHTS
        and input.numel() >= FEWEST_ROWS * input.shape[-1]
        and not torch.is_autocast_enabled("cpu")
    )


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _product(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


class _Linear(torch.autograd.Function):
    """A linear layer whose three products (output and both gradients) are oneDNN's."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(input, weight)
        return _product(input, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        for_input = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_input = _product(gradient, weight.t(), None)
        rows = gradient.flatten(0, -2)
        if ctx.needs_input_grad[1]:
            for_weight = _product(rows.t(), input.flatten(0, -2).t(), None)
        if ctx.needs_input_grad[2]:
            for_bias = rows.sum(dim=0)
        return for_input, for_weight, for_bias
