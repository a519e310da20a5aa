"""LoRA adapters whose initialisation changed the base weights, rewritten for the unchanged base.

PiSSA, LoRA-GA and CorDA take their first product ``s·B0·A0`` out of a base weight ``W`` and train from there:
``W - s·B0·A0 + s·B·A``. Where chance or data chose that product, an adapter's configuration cannot repeat it. But it is
what the present base lacks, so the same output comes from the published ``W`` and an adapter of twice the rank:
``W + [s·B, -s·B0]·[A; A0]``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

TOLERANCE = 1e-5
"""The largest part of a change that a product of the adapter's rank may leave over, relative to the base weight."""


def as_plain_lora(
    model: Any, name: str, tensors: Mapping[str, torch.Tensor], published: Mapping[str, torch.Tensor]
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Configuration and tensors of a plain LoRA on the published base that computes what this adapter does.

    Args:
        model: the wrapped transformer.
        name: its adapter.
        tensors: the adapter's own tensors, as peft writes them.
        published: the weights of the base transformer before adapters were put around it, by name.

    Raises:
        ValueError: the adapter is of a variant whose products do not simply add to the weights, or the base differs by
            more than a product of the adapter's rank.
    """
    from peft.tuners.lora.layer import Conv1D, LoraLayer

    config = copy.deepcopy(model.peft_config[name])
    added = dict(tensors)
    for place, layer in model.get_base_model().named_modules():
        if not isinstance(layer, LoraLayer) or name not in layer.r:
            continue
        base = layer.get_base_layer()
        if name not in layer.lora_A or layer.use_dora.get(name) or layer.lora_bias.get(name):
            raise ValueError(f"it has other parts than two matrices at {place!r}")
        if not isinstance(base, (torch.nn.Linear, Conv1D)):
            raise ValueError(f"{place!r} is a {type(base).__name__}")
        if f"{place}.weight" not in published:
            raise ValueError(f"the base transformer has no {place}.weight")
        was = published[f"{place}.weight"].float()
        lacking = was - base.weight.detach().float().cpu()
        rank = layer.r[name]
        left, sizes, right = torch.linalg.svd(lacking.T if isinstance(base, Conv1D) else lacking, full_matrices=False)
        if rank < len(sizes) and float(sizes[rank]) > TOLERANCE * float(was.norm()):
            raise ValueError(f"the base weight at {place!r} differs by more than rank {rank}")
        roots = sizes[:rank].sqrt()
        down, up = (getattr(layer, part)[name].weight.detach().float().cpu() for part in ("lora_A", "lora_B"))
        key = f"base_model.model.{place}"
        added[f"{key}.lora_A.weight"] = torch.cat([down, roots.unsqueeze(1) * right[:rank]])
        added[f"{key}.lora_B.weight"] = torch.cat([layer.scaling[name] * up, -left[:, :rank] * roots], dim=1)
    config.r *= 2
    config.lora_alpha = config.r  # the scale is in the matrices now
    config.rank_pattern = {pattern: 2 * rank for pattern, rank in config.rank_pattern.items()}
    config.alpha_pattern = dict(config.rank_pattern)
    defaults = type(config)()
    for option in ("init_lora_weights", "use_rslora", "corda_config", "lora_ga_config", "loftq_config"):
        if hasattr(defaults, option):  # not every version of peft has them all
            setattr(config, option, getattr(defaults, option))
    return config, {key: tensor.contiguous() for key, tensor in added.items()}
