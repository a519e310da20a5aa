"""What adapter a file holds, read off its weights: released versions did not save the configuration."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flair.checkpoint.renames import ADAPTER_PART, PROMPT_PART

_BEFORE = re.compile(r"^.*?\bbase_model\.model\.")


@dataclass
class Adapted:
    """The adapter's weights by kind, with the modules that they belong to."""

    shapes: dict[str, list[tuple[str, tuple[int, ...]]]] = field(default_factory=dict)
    """``lora_A`` and the like -> (module, shape) of each such weight."""
    bare: set[str] = field(default_factory=set)
    """Modules without adapters."""

    def ranks(self, kind: str, axis: int) -> dict[str, int]:
        """Module -> size of an axis of its weight."""
        return {module: shape[axis] for module, shape in self.shapes.get(kind, []) if len(shape) > axis}

    def modules(self, *kinds: str) -> list[str]:
        return sorted({module for kind in kinds for module, _ in self.shapes.get(kind, [])})


def find_adapted(tensors: Mapping[str, Any]) -> Adapted:
    """Sort out the names and shapes of a state dict."""
    found = Adapted()
    for name, tensor in tensors.items():
        inner = _BEFORE.sub("", name)
        match = ADAPTER_PART.search(f".{inner}")
        prompt = PROMPT_PART.search(name)
        if match:
            module = f".{inner}"[1 : match.start()] if match.start() else ""
            found.shapes.setdefault(match.group(1), []).append((module, tuple(tensor.shape)))
        elif prompt:
            kind = "prompt_encoder." + name[prompt.end() :]
            found.shapes.setdefault(kind, []).append(("", tuple(tensor.shape)))
        else:
            found.bare.add(inner.replace(".base_layer.", ".").rpartition(".")[0])
    found.bare -= set(found.modules(*found.shapes))
    return found


def _targets(modules: Iterable[str], bare: Iterable[str]) -> list[str]:
    """The shortest names of modules that mean these modules and no others."""
    modules, bare = list(modules), list(bare)
    names: dict[str, None] = {}
    for module in modules:
        last = module.rpartition(".")[2]
        clashes = last.isdigit() or any(other == last or other.endswith(f".{last}") for other in bare)
        names[module if clashes else last] = None
    return sorted(names)


def _lora(found: Adapted, kind: str = "LoraConfig", rank: str = "r") -> tuple[str, dict[str, Any]]:
    ranks = {**found.ranks("lora_A", 0), **found.ranks("lora_embedding_A", 0)}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    modules = list(ranks)
    options: dict[str, Any] = {rank: usual, "lora_alpha": ..., "target_modules": _targets(modules, found.bare)}
    others = {module: size for module, size in ranks.items() if size != usual}
    if others and kind == "LoraConfig":
        options["rank_pattern"] = others
    if "lora_magnitude_vector" in found.shapes:
        options["use_dora"] = True
    return kind, options


def _adalora(found: Adapted) -> tuple[str, dict[str, Any]]:
    kind, options = _lora(found, "AdaLoraConfig", "init_r")
    return kind, {**options, "total_step": ...}


def _factors(kind: str, part: str, other: str) -> Callable[[Adapted], tuple[str, dict[str, Any]]]:
    def describe(found: Adapted) -> tuple[str, dict[str, Any]]:
        ranks = found.ranks(part, 0) or found.ranks(other, 0)
        modules = found.modules(*found.shapes)
        rank = max(ranks.values(), default=...)
        return kind, {"r": rank, "alpha": ..., "target_modules": _targets(modules, found.bare)}

    return describe


def _ia3(found: Adapted) -> tuple[str, dict[str, Any]]:
    shapes = found.shapes["ia3_l"]
    inner = [module for module, shape in shapes if shape[0] == 1]
    targets = _targets([module for module, _ in shapes], found.bare)
    return "IA3Config", {"target_modules": targets, "feedforward_modules": _targets(inner, found.bare)}


def _vera(found: Adapted) -> tuple[str, dict[str, Any]]:
    ranks = found.ranks("vera_lambda_d", 0)
    modules = found.modules("vera_lambda_d", "vera_lambda_b")
    return "VeraConfig", {"r": max(ranks.values(), default=...), "target_modules": _targets(modules, found.bare)}


def _oft(found: Adapted) -> tuple[str, dict[str, Any]]:
    elements = found.ranks("oft_R", 1)
    block: Any = ...
    if elements:  # a skew-symmetric matrix of n rows has n (n - 1) / 2 of them
        block = round((1 + math.sqrt(1 + 8 * max(elements.values()))) / 2)
    targets = _targets(found.modules("oft_R", "oft_r"), found.bare)
    return "OFTConfig", {"r": 0, "oft_block_size": block, "target_modules": targets}


def _layer_norms(found: Adapted) -> tuple[str, dict[str, Any]]:
    return "LNTuningConfig", {"target_modules": _targets(found.modules("ln_tuning_layers"), found.bare)}


_METHODS: tuple[tuple[str, str, Callable[[Adapted], tuple[str, dict[str, Any]]]], ...] = (
    ("lora_E", "AdaLoRA", _adalora),
    ("lora_A", "LoRA", _lora),
    ("lora_embedding_A", "LoRA", _lora),
    ("hada_w1_b", "LoHa", _factors("LoHaConfig", "hada_w1_b", "hada_w1_b")),
    ("lokr_w2", "LoKr", _factors("LoKrConfig", "lokr_w1_b", "lokr_w2_b")),
    ("lokr_w2_b", "LoKr", _factors("LoKrConfig", "lokr_w1_b", "lokr_w2_b")),
    ("ia3_l", "IA3", _ia3),
    ("vera_lambda_d", "VeRA", _vera),
    ("oft_R", "OFT", _oft),
    ("ln_tuning_layers", "LN tuning", _layer_norms),
)
"""A kind of weight that gives a method away, the method's name, and how its configuration is read off. First wins."""


def explain_missing_config(tensors: Mapping[str, Any], model_class: str, path: str | None) -> str | None:
    """For a file that holds adapter weights without a configuration: what was found, and the call that loads it.

    Returns:
        Text for an error, or None for a file without adapter weights.
    """
    found = find_adapted(tensors)
    if not found.shapes:
        return None
    where = _source(path) if path else "state"
    opening = f"{path or 'The state'} holds the weights of an adapter without the configuration they were trained with"
    known = next(((title, describe) for part, title, describe in _METHODS if part in found.shapes), None)
    if known is None:
        kinds = ", ".join(sorted(found.shapes)[:4])
        return f"{opening} ({kinds}). Pass it: {model_class}.load({where}, peft_config=...)."
    title, describe = known
    kind, options = describe(found)
    saved = [module for module, _ in found.shapes.get("modules_to_save", [])]
    if saved:
        options["modules_to_save"] = _targets(saved, found.bare)
    open_ones = [name for name, value in options.items() if value is ...]
    arguments = ", ".join(f"{name}={'...' if value is ... else _source(value)}" for name, value in options.items())
    fill = " and ".join(open_ones)
    ask = f", in which {fill} (...) is to be filled in: no weight tells" if fill else ""
    return (
        f"{opening}, as versions up to 0.15.1 saved them. It is a {title} adapter, loaded by this call{ask}.\n\n"
        f"from peft import {kind}\n\n"
        f"{model_class}.load({where}, peft_config={kind}({arguments}))\n"
    )


def _source(value: Any) -> str:
    """As Python source."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict, str)) else repr(value)
