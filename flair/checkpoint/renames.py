"""Names that one weight has had: under adapters or not, in older libraries and in newer ones.

Two names mean the same weight if they are equal once everything that came and went is taken out of them. Nothing is
renamed that has its place already, and nothing on a guess: the names must pair off and the shapes be equal.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch

_WRAPPER = re.compile(r"^(_orig_mod\.)?(base_model\.(model\.)?)?")
_WRAPPINGS = re.compile(r"\.token_adapter(?=\.base_layer\.)|\.(base_layer|original_module)(?=\.)")
_COMPILED = re.compile(r"\._orig_mod(?=\.)")
_RENAMED = (
    (re.compile(r"(?:(?<=\.)|^)gamma$"), "weight"),
    (re.compile(r"(?:(?<=\.)|^)beta$"), "bias"),
    (re.compile(r"(?:(?<=\.)|^)parametrizations\.weight\.original0$"), "weight_g"),
    (re.compile(r"(?:(?<=\.)|^)parametrizations\.weight\.original1$"), "weight_v"),
)
ADAPTER_PART = re.compile(
    r"\.(lora_[A-Za-z_]+|hada_\w+|lokr_\w+|ia3_l|oft_[A-Za-z]+|boft_\w+|vera_\w+|hra_\w+|miss_block|bone_block|"
    r"fourierft_\w+|shira_\w+|trainable_tokens_\w+|ln_tuning_layers|randlora_\w+|road_\w+|ada[A-Z]\w*|modules_to_save)"
    r"(?:\.([^.]+))?"
)
"""The part of a name that only an adapter's weight has, and the adapter's name after it."""
PROMPT_PART = re.compile(r"(?:^|\.)prompt_encoder\.([^.]+)\.")
_COPY = re.compile(r"\.modules_to_save\.[^.]+\.")
_TENSOR_NAMES = ("weight", "bias")
COMPUTED = ("position_ids", "masked_bias", "token_type_ids")
"""Last parts of the names of constants that some versions of transformers saved and others compute."""


def is_adapter_name(name: str) -> bool:
    """Whether only an adapter has a weight of this name; its copy of a trained module included."""
    return ADAPTER_PART.search(f".{name}") is not None or PROMPT_PART.search(name) is not None


def is_plain_transformer(names: Iterable[str]) -> bool:
    """Whether these are the weights of a transformer that no adapters were around."""
    return not any(name.startswith(("base_model.", "prompt_encoder.")) or is_adapter_name(name) for name in names)


def without_wrappings(name: str) -> str:
    """A name without what peft puts between a module's name and its own weights."""
    return _WRAPPINGS.sub("", name)


def plain_name(name: str) -> str:
    """A name without what adapters, compilers and older versions put into it, and without the adapter's own name."""
    name = without_wrappings(_COMPILED.sub("", _WRAPPER.sub("", name, count=1)))
    match = ADAPTER_PART.search(f".{name}")
    if match:
        dotted = f".{name}"
        rest = dotted[match.end() :]
        kept = match.group(2) if match.group(2) in _TENSOR_NAMES and not rest else None
        # peft wrote `lora_A.weight` before it had named adapters
        name = (dotted[: match.end(1)] + (f".{kept}" if kept else "") + rest).removeprefix(".")
    for pattern, new in _RENAMED:
        name = pattern.sub(new, name)
    return name


def fit_names(incoming: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a file under the names that a network has for them.

    Args:
        incoming: state-dict key -> tensor, from the file.
        own: the network's state dict.

    Returns:
        The same tensors. Those that found no place keep their names; the network's constants and, for a file without
        any adapter, its adapters are added.
    """
    by_name: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, names, others in ((0, incoming, own), (1, own, incoming)):
        for name in names:
            if name not in others:
                by_name[plain_name(name)][side].append(name)
    pairs = [(old[0], new[0]) for old, new in by_name.values() if len(old) == len(new) == 1]
    new_names = {old: new for old, new in pairs if _same_shape(incoming[old], own[new])}
    renamed = {new_names.get(name, name): value for name, value in incoming.items()}
    return {**renamed, **_added(renamed, own, is_plain_transformer(incoming))}


def _added(renamed: Mapping[str, Any], own: Mapping[str, Any], without_adapters: bool) -> dict[str, Any]:
    """What the network has and a file of its kind need not have."""
    added: dict[str, Any] = {}
    for name, value in own.items():
        if name in renamed:
            continue
        if name.rpartition(".")[2] in COMPUTED:
            added[name] = value
        elif without_adapters and is_adapter_name(name):
            # a module that is trained whole begins as a copy of the original one
            added[name] = renamed.get(_COPY.sub(".original_module.", name), value)
    return added


def _same_shape(one: Any, other: Any) -> bool:
    shapes = [tuple(t.shape) if isinstance(t, torch.Tensor) else None for t in (one, other)]
    return shapes[0] == shapes[1]
