"""The dtype policy: one floating-point type for a whole model.

A policy is ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (whatever the weights at hand are stored in).
Everything that computes a probability (softmax, log-sum-exp, Viterbi, losses) runs in float32 whatever the policy,
see :func:`compute_dtype`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

DTypeLike = str | torch.dtype | None

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
_ALIASES = {"fp32": "float32", "float": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}


def resolve_dtype(dtype: DTypeLike) -> torch.dtype | None:
    """Turn a policy into a torch dtype; ``None`` and ``"auto"`` give ``None`` ("keep what the weights have").

    Raises:
        ValueError: for anything that is no floating-point policy, naming the accepted ones.
    """
    if dtype is None:
        return None
    if isinstance(dtype, torch.dtype):
        if dtype not in DTYPES.values():
            raise ValueError(f"dtype={dtype} is no floating-point policy. Use one of {', '.join(DTYPES)} or 'auto'.")
        return dtype
    name = str(dtype).removeprefix("torch.").lower()
    if name == "auto":
        return None
    name = _ALIASES.get(name, name)
    if name not in DTYPES:
        raise ValueError(f"Unknown dtype {dtype!r}. Use one of {', '.join(DTYPES)} or 'auto'.")
    return DTYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    """The JSON spelling of a dtype: ``torch.bfloat16`` -> ``"bfloat16"``."""
    return str(dtype).removeprefix("torch.")


def check_device_supports(dtype: torch.dtype | None, device: torch.device) -> None:
    """Raise for a dtype that the device has no kernels for, saying what to pass instead.

    Raises:
        ValueError: float16 on a CPU, or bfloat16 on a CUDA device without support for it.
    """
    if dtype == torch.float16 and device.type == "cpu":
        raise ValueError("dtype='float16' needs a CUDA device, this model is on the CPU. Pass dtype='bfloat16'.")
    if dtype == torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(f"{device} does not support bfloat16. Pass dtype='float16' or dtype='float32'.")


def common_dtype(tensors: Iterable[torch.Tensor]) -> torch.dtype | None:
    """The floating-point dtype that holds most of the elements; ``None`` without floating-point tensors."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in tensors:
        if tensor.is_floating_point():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.numel()
    return max(sizes, key=lambda kind: sizes[kind]) if sizes else None


def compute_dtype(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32 where it is stored in a 16-bit type, else unchanged: for losses and probabilities."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
