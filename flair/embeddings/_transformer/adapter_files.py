"""Adapters as folders in peft's own format: reading them strictly, writing them whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from flair import _runtime
from flair.embeddings._transformer.peft_config import checked, config_from_dict, installed_peft
from flair.embeddings._transformer.plain_lora import as_plain_lora

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_UNREPEATABLE = ("pissa_niter", "lora_ga", "corda", "loftq")
"""Initialisations of LoRA that change the base weights by chance or by data: the configuration cannot repeat them."""


def read_config(path: str | Path) -> Any:
    """The configuration of a saved adapter, ready to train on.

    Raises:
        FileNotFoundError: no adapter lies there.
        ValueError: a method that is unknown or does not apply.
    """
    local = Path(path) / CONFIG
    try:
        if local.is_file():
            values = json.loads(local.read_text(encoding="utf-8"))
            if not isinstance(values, dict):
                raise ValueError(f"{local} is no adapter configuration: it holds a {type(values).__name__}.")
            config = config_from_dict(values)
        else:
            config = installed_peft().PeftConfig.from_pretrained(str(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{local} is no adapter configuration: {error}.") from error
    except (ValueError, OSError) as error:
        if local.is_file():
            raise
        raise FileNotFoundError(
            f"No adapter at {str(path)!r}: expected a folder with {CONFIG} and adapter_model.safetensors, or a name on "
            f"the hub ({str(error).splitlines()[0]})."
        ) from error
    config = checked(config)
    # Of prompts that a network computes only the result is in the file; peft reads it in this mode only.
    config.inference_mode = config.is_prompt_learning and (
        hasattr(config, "encoder_reparameterization_type") or bool(getattr(config, "prefix_projection", False))
    )
    if config.inference_mode:
        _runtime.logger.info(
            f"The {config.peft_type.value} adapter at {str(path)!r} holds computed prompts, without the network that "
            f"computed them. Training goes on with the prompts themselves."
        )
    return config


def fill_adapter(model: Any, name: str, folder: str | Path) -> None:
    """Give an adapter that is around the model already the weights of a folder.

    Adapters that were trained under a task's head fit too; the head is left out.

    Raises:
        ValueError: weights without a place, places without weights, or shapes that differ.
    """
    from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    own = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    try:
        weights = load_peft_weights(str(folder), device="cpu")
        weights = _without_head(weights, own, model.get_base_model(), str(folder))
        outcome: Any = set_peft_model_state_dict(model, weights, adapter_name=name)
    except (RuntimeError, KeyError, OSError) as error:
        raise ValueError(f"The adapter at {str(folder)!r} does not fit this transformer: {error}") from error
    missing = [key for key in own if key not in weights] if len(weights) < len(own) else []
    # prompts have another name in the file than in the model
    unexpected = [key for key in outcome.unexpected_keys if key not in own]
    if missing or unexpected:
        raise ValueError(
            f"The adapter at {str(folder)!r} does not fit this transformer. Weights that it has and the transformer "
            f"has no place for: {_some(unexpected)}; places without weights: {_some(missing)}. It was "
            f"trained on another architecture, or its configuration was changed."
        )


def _some(keys: Iterable[str], most: int = 4) -> str:
    keys = list(keys)
    shown = ", ".join(keys[:most]) or "none"
    return f"{shown} and {len(keys) - most} more" if len(keys) > most else shown


def _without_head(
    weights: dict[str, torch.Tensor], own: Mapping[str, Any], base: Any, folder: str
) -> dict[str, torch.Tensor]:
    """From an adapter around ``BertForSequenceClassification`` and the like, the part around the transformer."""
    inner = f"base_model.model.{getattr(base, 'base_model_prefix', '')}."
    if any(key in own for key in weights) or not any(key.startswith(inner) for key in weights):
        return weights
    heads = sorted(key for key in weights if not key.startswith(inner))
    if heads:
        _runtime.logger.warning(
            f"The adapter at {folder!r} was trained with a task head, which embeddings do not have: left out are "
            f"{_some(heads)}."
        )
    return {f"base_model.model.{k.removeprefix(inner)}": v for k, v in weights.items() if k.startswith(inner)}


def can_be_repeated(config: Any) -> bool:
    """Whether an adapter's configuration says what its initialisation did to the base weights."""
    return not str(getattr(config, "init_lora_weights", "")).startswith(_UNREPEATABLE)


def write_adapter(
    model: Any, name: str, folder: str | Path, published: Callable[[], Mapping[str, torch.Tensor]]
) -> None:
    """Write one adapter of a wrapped model.

    Args:
        model: the wrapped transformer.
        name: the adapter.
        folder: where to; made if it is not there.
        published: gives the base weights as they were before. Only called for adapters that changed them in a way that
            their configuration cannot repeat: these are written as plain LoRA of twice the rank.

    Raises:
        ValueError: the adapter has changed the base weights in a way that the format cannot tell.
    """
    config = model.peft_config[name]
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        written = Path(scratch)
        if can_be_repeated(config):
            model.save_pretrained(scratch, selected_adapters=[name], save_embedding_layers=False)
            written = written if name == "default" else written / name
        else:
            _write_plain_lora(model, name, written, published)
        for file in written.iterdir():
            if file.is_file():
                file.replace(target / file.name)


def _write_plain_lora(model: Any, name: str, folder: Path, published: Callable[[], Mapping[str, torch.Tensor]]) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    tensors = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    try:
        config, plain = as_plain_lora(model, name, tensors, published())
    except (ValueError, OSError) as error:
        raise ValueError(
            f"The adapter {name!r} was initialised by {model.peft_config[name].init_lora_weights!r}, which changed the "
            f"transformer's own weights, and cannot be written as a plain LoRA: {error}. "
            f"Save the model: model.save(path, adapters_only=True)."
        ) from error
    save_file({key: tensor.cpu() for key, tensor in plain.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    config.inference_mode = True
    config.save_pretrained(str(folder))
