"""PEFT configurations: reading what users pass, checking it, and turning it into plain data and back."""

from __future__ import annotations

import copy
import difflib
import warnings
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from flair import _runtime

NOT_FOR_ENCODERS = {
    "ADAPTION_PROMPT": "it only knows the attention of llama-like decoders",
    "CPT": "it only works with the task type CAUSAL_LM",
    "MULTITASK_PROMPT_TUNING": "its forward pass needs the id of a task for every sentence",
    "POLY": "its forward pass needs the id of a task for every sentence",
    "XLORA": "it mixes trained LoRA adapters inside a causal language model",
}
"""Methods that cannot give features, and why."""

PREPENDING = ("PROMPT_TUNING", "P_TUNING")
"""Methods whose virtual tokens show up as positions of the hidden states."""

ACROSS_POSITIONS = ("LILY", "XLORA", "POLY")
"""Methods whose layers weigh their experts by all positions of the batch, its padding included."""

PLAIN_INITIALISATION = (True, False, "gaussian")


@dataclass
class AdapterState:
    """The adapters around a model, as plain data."""

    adapters: dict[str, dict[str, Any]]
    active: list[str]
    trainable: list[str] | None = None
    """Names of the parameters that learn; None for those that peft chooses."""
    enabled: bool = True
    folders: dict[str, str] = field(default_factory=dict)
    """Where the weights of adapters lie that were named by a path."""
    objects: dict[str, Any] = field(default_factory=dict)
    """The configurations as the user gave them: they may hold what no file can (SHiRA's mask function)."""

    def configs(self) -> dict[str, Any]:
        """A ``PeftConfig`` for each adapter, to wrap a model with for the first time."""
        return self.objects or {name: checked(config_from_dict(values)) for name, values in self.adapters.items()}

    def to_dict(self) -> dict[str, Any]:
        """What saved files carry."""
        return {
            "adapters": self.adapters,
            "active": self.active,
            "trainable": self.trainable,
            "enabled": self.enabled,
        }


def plain(value: Any) -> Any:
    """A configuration value as JSON-able data: sets become sorted lists, enums their values, dtypes their names.

    Raises:
        TypeError: for an object that no file can hold, naming its class.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=lambda item: (str(type(item)), item))
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key.value if isinstance(key, Enum) else key: plain(item) for key, item in value.items()}
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    raise TypeError(f"A PEFT configuration with a {type(value).__name__} in it cannot be saved: {value!r}.")


def config_to_dict(config: Any) -> dict[str, Any]:
    """A ``PeftConfig`` as plain data."""
    return plain(config.to_dict())


def installed_peft() -> Any:
    """The package peft.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError("Adapters need the package peft: pip install peft.") from error
    return peft


def config_from_dict(values: dict[str, Any]) -> Any:
    """The ``PeftConfig`` of a dict that names its ``peft_type``.

    Raises:
        ValueError: without a ``peft_type``, or with one that the installed peft does not know.
    """
    peft = installed_peft()
    values = dict(values)
    name = values.get("peft_type")
    name = getattr(name, "value", name)
    known = sorted(str(getattr(kind, "value", kind)) for kind in peft.PeftType)
    if name not in known:
        raise ValueError(
            f"peft_config names the method {name!r} ('peft_type'), and peft {peft.__version__} knows: "
            f"{', '.join(known)}. A newer peft may know it: pip install -U peft."
        )
    _refuse(name)
    if values.get("megatron_config") is not None:
        raise ValueError("peft_config has a megatron_config, which names a module of Python code to be imported.")
    values["peft_type"] = name
    return peft.PeftConfig.from_peft_type(**values)


def _refuse_unknown(values: dict[str, Any], config: Any) -> None:
    """What a user misspelt must not go unnoticed (in a file, an unknown option is one of a newer peft)."""
    known = [field.name for field in fields(config)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else f" It takes: {', '.join(known)}."
            raise ValueError(f"peft_config has {key!r}, which {type(config).__name__} does not take.{hint}")


def checked(config: Any) -> Any:
    """The configuration for feature extraction: task type set, methods that cannot do it refused.

    Raises:
        ValueError: a method that does not apply to feature extraction, with the reason.
    """
    peft = installed_peft()
    _refuse(method_name(config))
    wanted = peft.TaskType.FEATURE_EXTRACTION
    task = getattr(config.task_type, "value", config.task_type)
    if task is not None and task != wanted.value:
        _runtime.logger.warning(
            f"peft_config has task_type={task!r}; embeddings are features, so {wanted.value!r} is used instead."
        )
    config.task_type = wanted
    return config


def _refuse(method: str) -> None:
    if method in NOT_FOR_ENCODERS:
        raise ValueError(
            f"The PEFT method {method} cannot be used with TransformerEmbeddings: {NOT_FOR_ENCODERS[method]}."
        )


def method_name(config: Any) -> str:
    """The peft type as a string, e.g. ``"LORA"``."""
    return str(getattr(config.peft_type, "value", config.peft_type))


def for_rebuilding(values: dict[str, Any]) -> Any:
    """The configuration to wrap a model with whose adapter weights are loaded afterwards.

    Initialisations that read data or change the base weights (PiSSA, OLoRA, CorDA, EVA, LoftQ ...) are replaced by the
    plain one: what they did is in the weights already.
    """
    config = checked(config_from_dict(values))
    if not config.is_prompt_learning:
        config.inference_mode = False
    if getattr(config, "init_lora_weights", True) not in PLAIN_INITIALISATION:
        config.init_lora_weights = True
    if method_name(config) == "SHIRA" and config.mask_fn is None:
        # The function was the user's own, and the mask that it made is in the file. Any other has its size.
        config.mask_fn = type(config)().mask_fn
    return config


def read_peft_config(peft_config: Any) -> AdapterState:
    """Whatever users or files pass as ``peft_config``: a ``PeftConfig``, its dict, our saved form, or a path.

    Raises:
        TypeError: for anything else.
        ValueError: for a method that does not apply.
    """
    if isinstance(peft_config, str | Path):
        return AdapterState({}, ["default"], folders={"default": str(peft_config)})
    if isinstance(peft_config, dict) and "adapters" in peft_config and "peft_type" not in peft_config:
        return AdapterState(
            dict(peft_config["adapters"]),
            list(peft_config.get("active") or list(peft_config["adapters"])[:1]),
            peft_config.get("trainable"),
            bool(peft_config.get("enabled", True)),
        )
    if isinstance(peft_config, dict):
        values = peft_config
        with warnings.catch_warnings():  # peft's advice for files; here is no file
            warnings.filterwarnings("ignore", "Unexpected keyword arguments")
            peft_config = config_from_dict(values)
        _refuse_unknown(values, peft_config)
    if not hasattr(peft_config, "peft_type"):
        raise TypeError(
            f"peft_config is a {type(peft_config).__name__}; pass a PeftConfig (e.g. peft.LoraConfig()), its dict with "
            f"a 'peft_type', or the path of a saved adapter."
        )
    config = checked(copy.deepcopy(peft_config))
    return AdapterState({"default": config_to_dict(config)}, ["default"], objects={"default": config})
