"""The names that peft gives to weights, and those that they have without it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flair.checkpoint.renames import without_wrappings

_ADAPTER_PARTS = (".lora_", ".modules_to_save.", "prompt_encoder.", ".ln_tuning_")


def bare_name(key: str) -> str:
    """The name a weight has in the plain transformer: without the wrappers of peft and of the embedding."""
    name = key.removeprefix("model.")
    for prefix in ("base_model.model.", "base_model."):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return without_wrappings(name)


def base_weights(incoming: dict[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """From a wrapped model's state dict: the weights of the bare model, under the bare model's names."""
    own = set(own)
    found: dict[str, Any] = {}
    for key, value in incoming.items():
        bare = without_wrappings(key.removeprefix("base_model."))
        for name in (bare.removeprefix("model."), bare):
            if name in own:
                found.setdefault(name, value)
                break
    return found


def belongs_to_adapter(name: str, adapters: Iterable[str]) -> bool:
    """Whether a parameter of a wrapped model is no weight of the bare transformer."""
    return any(part in name for part in (*_ADAPTER_PARTS, *(f".{adapter}" for adapter in adapters)))
