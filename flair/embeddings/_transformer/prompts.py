"""Prompt-type adapters: their sizes, and whether a transformer can take them."""

from __future__ import annotations

from typing import Any

import torch

from flair.embeddings._transformer import loading
from flair.embeddings._transformer.peft_config import PREPENDING, method_name

_LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")


def fit_prompt(config: Any, base: Any) -> None:
    """Fill in the sizes that the user left open and peft would not find, or not find rightly.

    Virtual tokens stand beside the vectors of words, which some models (ALBERT, ELECTRA) make smaller than their
    hidden states.
    """
    if config.token_dim is None:
        if method_name(config) in PREPENDING:
            config.token_dim = int(base.get_input_embeddings().weight.shape[1])
        elif not {"hidden_size", "n_embd", "d_model"} & set(base.config.to_dict()):
            config.token_dim = loading.hidden_size(base.config)  # DistilBERT's "dim"
    for option, names in (("num_layers", _LAYERS), ("num_attention_heads", _HEADS)):
        if getattr(config, option) is None:
            found = (getattr(base.config, name, None) for name in names)
            setattr(config, option, next((value for value in found if isinstance(value, int)), None))


def why_prompt_fails(model: Any) -> str | None:
    """Run the wrapped model on a few sub-tokens: None if the prompt has an effect, else what is wrong."""
    base, config = model.get_base_model(), model.active_peft_config
    method = method_name(config)
    what = f"{method} does not work with {type(base).__name__}"
    device = next(base.parameters()).device
    ids = torch.arange(3, device=device).unsqueeze(0)
    prompt = [parameter for parameter in model.prompt_encoder.parameters() if parameter.requires_grad]
    try:
        with torch.enable_grad():
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=True)[0].float()
            if not prompt:
                return None
            weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(device)
            gradients = torch.autograd.grad((output * weights).sum(), prompt, allow_unused=True)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        cause = "" if method in PREPENDING else " It hands the model a cache (past_key_values), as decoders take it."
        return f"{what}: {str(error).rstrip('. ')}.{cause} Methods that change weights, such as LoRA, do work."
    if not any(gradient is not None and bool(gradient.any()) for gradient in gradients):
        return f"{what}: the model ignores the virtual tokens (it takes no past_key_values). LoRA, for one, does work."
    return None
