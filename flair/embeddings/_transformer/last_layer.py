"""The last hidden state of models whose final normalisation comes after it.

Up to transformers 4 these models gave the state before their final norm as ``hidden_states[-1]``; transformers 5 gives
the normalised output. Embeddings, and the models trained on them, are defined on the former.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

FINAL_NORMS = {"biogpt": "layer_norm", "modernbert": "final_norm", "roberta-prelayernorm": "LayerNorm"}
"""Model type -> the module that normalises the last hidden state."""

_seen = threading.local()


def _keep(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
    _seen.state = args[0]


def watch_last_state(model: Any) -> bool:
    """Catch the state before the final norm in every forward pass from now on; False where the model has none."""
    norm = FINAL_NORMS.get(model.config.model_type)
    if norm is None:
        return False
    getattr(model, norm).register_forward_pre_hook(_keep)
    return True


def take_last_state() -> torch.Tensor:
    """The state caught in this thread's latest forward pass."""
    state = _seen.state
    del _seen.state
    return state
