"""Getting hold of a Hugging Face model: configuration, weights, dtype, and clear errors."""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from flair.embeddings._transformer.file_params import NO_CODE
from flair.nn.precision import DTypeLike, common_dtype, resolve_dtype

T = TypeVar("T")

HUB_ALIASES = {
    "bert-base-cased": "google-bert/bert-base-cased",
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-base-multilingual-cased": "google-bert/bert-base-multilingual-cased",
    "distilbert-base-uncased": "distilbert/distilbert-base-uncased",
    "distilbert-base-multilingual-cased": "distilbert/distilbert-base-multilingual-cased",
    "gpt2": "openai-community/gpt2",
    "roberta-base": "FacebookAI/roberta-base",
    "roberta-large": "FacebookAI/roberta-large",
    "xlm-roberta-base": "FacebookAI/xlm-roberta-base",
    "xlm-roberta-large": "FacebookAI/xlm-roberta-large",
}
"""Names that moved on the hub; an offline cache may hold a model under either."""

ENCODER_DECODERS = ("t5", "mt5")
"""Model types of which only the encoder is loaded."""

BAR_DELAY = 3.0
"""Seconds that copying weights takes before a progress bar appears: models of some gigabytes."""


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("TRANSFORMERS_OFFLINE", "0").upper() in ("1", "TRUE", "YES")


def _explain(name: str, error: Exception) -> OSError:
    """One error that says what was looked for, where, and what to do."""
    if Path(name).is_dir():
        return OSError(
            f"The folder {name!r} does not hold a complete transformer ({error}). It needs config.json, the weights "
            f"(model.safetensors) and the tokenizer's files, as written by save_pretrained()."
        )
    if Path(name).is_file():
        return NotADirectoryError(
            f"{name!r} is a file. A transformer is given by the folder that save_pretrained() wrote (config.json, the "
            f"weights, the tokenizer's files) or by its name on the hub; a saved flair model is read with "
            f"its class's load()."
        )
    where = (
        "the Hugging Face cache does not have it, and downloads are off (HF_HUB_OFFLINE / TRANSFORMERS_OFFLINE is set)"
        if _is_offline()
        else "the Hugging Face hub did not give it"
    )
    return FileNotFoundError(
        f"Transformer {name!r} not found: no such folder exists here, and {where}. Pass the path of a local folder "
        f"written by save_pretrained(), e.g. TransformerEmbeddings('/path/to/model'). ({type(error).__name__}: "
        f"{str(error).strip().splitlines()[0] if str(error).strip() else ''})"
    )


def from_hub(load: Callable[..., T], name: str, **options: Any) -> T:
    """Call a ``from_pretrained`` with the name given and with the other name the hub knows the model by.

    Raises:
        FileNotFoundError: neither a local folder nor a model that the hub or its cache has.
        OSError: a folder without the files of a model.
    """
    other = {**HUB_ALIASES, **{new: old for old, new in HUB_ALIASES.items()}}.get(name)
    names = [name] if other is None or Path(name).exists() else [name, other]
    errors: list[Exception] = []
    for candidate in names:
        try:
            return load(candidate, **options)
        except OSError as error:
            errors.append(error)
        except ValueError as error:
            # hub ids and paths that do not parse as one are ValueErrors of huggingface_hub
            if type(error).__name__ != "HFValidationError":
                raise
            errors.append(error)
    raise _explain(name, errors[0]) from errors[0]


def load_config(name: str, **options: Any) -> Any:
    """The model's Hugging Face configuration."""
    from transformers import AutoConfig

    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise _explain(name, FileNotFoundError("config.json is missing"))
    return from_hub(AutoConfig.from_pretrained, name, **options)


def _model_class(config: Any) -> Any:
    import transformers

    return transformers.T5EncoderModel if config.model_type in ENCODER_DECODERS else transformers.AutoModel


def library_version() -> tuple[int, int]:
    """Major and minor version of the installed transformers library."""
    import transformers

    major, minor = transformers.__version__.split(".")[:2]
    return int(major), int(minor)


def _dtype_keyword() -> str:
    """Transformers 4.56 renamed ``torch_dtype`` to ``dtype``."""
    return "dtype" if library_version() >= (4, 56) else "torch_dtype"


def _requested_dtype(dtype: DTypeLike, options: dict[str, Any]) -> torch.dtype | str:
    """The dtype to load in: our policy, else what the model's keyword arguments say, else float32."""
    passed = [options.pop(key) for key in ("dtype", "torch_dtype") if key in options]
    if dtype is None and passed and passed[-1] is not None:
        dtype = passed[-1]
    if dtype is None:
        return torch.float32
    return resolve_dtype(dtype) or "auto"


class _PatientBars:
    """While entered, the transformers library shows no bar for work that takes less than :data:`BAR_DELAY` seconds.

    Version 5 draws one for the weights of every model, however small. Its own switch would silence the downloads'
    bars as well. Several threads may be inside; what the user set up is back when the last one has left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._users_hook: Callable[..., Any] | None = None

    def _bar(self, factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        options = {"delay": BAR_DELAY, **options}
        return self._users_hook(factory, args, options) if self._users_hook else factory(*args, **options)

    def _set_hook(self, hook: Callable[..., Any] | None) -> Any:
        from transformers import logging

        # version 4 has no hook, and a bar for checkpoints of several files only; nor have the first releases of 5
        return logging.set_tqdm_hook(hook) if hasattr(logging, "set_tqdm_hook") else None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._users_hook = self._set_hook(self._bar)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set_hook(self._users_hook)


patient_bars = _PatientBars()


def load_model(name: str, config: Any, dtype: DTypeLike, /, **options: Any) -> torch.nn.Module:
    """The pretrained model in evaluation mode. ``dtype`` None is float32, "auto" the checkpoint's own type.

    Nothing is left to the library's default, which differs between transformers 4 (float32) and 5 (the checkpoint's).
    """
    options = dict(options)
    wanted = _requested_dtype(dtype, options)
    options[_dtype_keyword()] = wanted
    with patient_bars:
        model = from_hub(_model_class(config).from_pretrained, name, config=config, **options)
    if config.model_type in ENCODER_DECODERS and common_dtype(model.parameters()) == torch.bfloat16:
        model.to(torch.bfloat16)  # transformers 4.50 leaves T5's feed-forward outputs, and so its states, in float32
    model.eval()
    return model


def published_weights(name: str, revision: str | None = None) -> dict[str, torch.Tensor]:
    """The weights of a transformer as it was published, by their names in it.

    Model files name it, so no code beside the weights is run.
    """
    options: dict[str, Any] = {**NO_CODE, **({"revision": revision} if revision else {})}
    model = load_model(name, load_config(name, **options), "auto", **options)
    return {key: value.detach() for key, value in model.state_dict().items()}


def checkpoints_activations(network: Any) -> bool:
    """Whether the backward pass computes the layers a second time."""
    recent = hasattr(type(network), "is_activation_checkpointing")  # transformers 5.20 deprecated the other name
    return bool(getattr(network, "is_activation_checkpointing" if recent else "is_gradient_checkpointing", False))


@contextlib.contextmanager
def _uninitialised() -> Iterator[None]:
    """Build modules whose parameters are allocated but not drawn; buffers are computed as usual."""
    try:
        from transformers import initialization as home
    except ImportError:  # transformers 4
        from transformers import modeling_utils as home  # type: ignore[no-redef]
    with home.no_init_weights():
        yield


def build_model(config: Any, dtype: DTypeLike, /, **options: Any) -> torch.nn.Module:
    """A model of this configuration whose weights are still to be loaded, in evaluation mode."""
    options = dict(options)
    wanted = _requested_dtype(dtype, options)
    attention = getattr(config, "_attn_implementation", None)
    model_class = _model_class(config)
    with _uninitialised():
        if hasattr(model_class, "from_config"):
            model = model_class.from_config(config, trust_remote_code=False, **{_dtype_keyword(): wanted})
        else:
            model = model_class._from_config(config, **{_dtype_keyword(): wanted})
    if attention is not None and getattr(model.config, "_attn_implementation", None) is None:
        model.config._attn_implementation = attention
    model.tie_weights()  # transformers 5 ties when it draws the weights, which it does not do here
    model.eval()
    return model


def initialise(model: torch.nn.Module) -> None:
    """Draw the weights of a model from :func:`build_model` for which no weights came."""
    for module in model.modules():
        if hasattr(module, "_is_hf_initialized"):
            module._is_hf_initialized = False  # type: ignore[assignment]
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    for module in model.modules():
        if hasattr(module, "reset_parameters") and callable(module.reset_parameters):
            module.reset_parameters()
    model.init_weights()  # type: ignore[operator]


def config_from_dict(values: dict[str, Any]) -> Any:
    """A configuration object from the dict in a saved file (``config_state_dict``)."""
    from transformers import CONFIG_MAPPING, PretrainedConfig

    values = dict(values)
    model_type = values.pop("model_type", None) or "bert"
    attention = values.pop("attn_implementation", None)
    values.pop("_attn_implementation_autoset", None)
    try:
        config_class = CONFIG_MAPPING[model_type]
    except KeyError:
        config_class = PretrainedConfig
    config = config_class.from_dict(values)
    if attention is not None:
        config._attn_implementation = attention
    return config


def config_to_dict(config: Any) -> dict[str, Any]:
    """The dict that saved files carry: the configuration and the attention implementation, plain data."""
    values = dict(config.to_dict())
    attention = getattr(config, "_attn_implementation", None)
    values["attn_implementation"] = attention if isinstance(attention, str) else None
    # Readers that take every hidden state from the output rely on it; ours asks in each call.
    values["output_hidden_states"] = True
    for key, value in values.items():
        if isinstance(value, torch.dtype):
            values[key] = str(value).removeprefix("torch.")
    return values


def hidden_size(config: Any) -> int:
    """Dimensions of one hidden state."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    for key in ("hidden_size", "d_model", "dim", "emb_dim", "n_embd"):
        if isinstance(getattr(config, key, None), int):
            return int(getattr(config, key))
    raise ValueError(f"{type(config).__name__} does not say how large its hidden states are.")


def hidden_state_count(config: Any) -> int:
    """Number of hidden states a forward pass gives: one per layer, and the embedding layer's."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    for key in ("num_hidden_layers", "num_layers", "encoder_layers", "n_layers", "n_layer"):
        if isinstance(getattr(config, key, None), int):
            return int(getattr(config, key)) + 1
    raise ValueError(f"{type(config).__name__} does not say how many layers it has; name them: layers='-1,-2'.")


def forward_parameters(model: torch.nn.Module) -> set[str]:
    """The keyword arguments that the model's forward accepts."""
    return set(inspect.signature(model.forward).parameters)
