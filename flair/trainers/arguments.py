"""The arguments of a training as data for a checkpoint, and from there back to a plan."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

from torch.optim import Optimizer
from torch.utils.data import Sampler

from flair import _runtime, samplers
from flair.checkpoint import CheckpointError
from flair.checkpoint.codec import Encoder
from flair.checkpoint.objects import name_of
from flair.samplers import FlairSampler
from flair.trainers.plan import TrainingPlan
from flair.trainers.plugins.base import BasePlugin
from flair.trainers.plugins.functional.anneal_on_plateau import AnnealingPlugin
from flair.trainers.plugins.functional.batch_growth import BatchGrowthPlugin
from flair.trainers.plugins.functional.checkpoints import CheckpointPlugin
from flair.trainers.plugins.functional.deepncm_trainer_plugin import DeepNCMPlugin
from flair.trainers.plugins.functional.linear_scheduler import LinearSchedulerPlugin
from flair.trainers.plugins.loggers.metric_history import MetricHistoryPlugin
from flair.trainers.plugins.loggers.tensorboard import TensorboardLogger

_REBUILT: tuple[type[BasePlugin], ...] = (
    AnnealingPlugin,
    BatchGrowthPlugin,
    CheckpointPlugin,
    DeepNCMPlugin,
    LinearSchedulerPlugin,
    MetricHistoryPlugin,
    TensorboardLogger,
)
"""Plugins whose settings (:meth:`BasePlugin.get_state`) are the arguments of their constructor."""

_DEFAULT_SCHEDULERS = (AnnealingPlugin, LinearSchedulerPlugin)
_OF_SCHEDULERS = frozenset(
    (
        *("anneal_factor", "anneal_with_restarts", "initial_extra_patience"),
        *("min_learning_rate", "patience", "warmup_fraction"),
    )
)
_FIELDS = frozenset(item.name for item in fields(TrainingPlan))


def is_data(value: Any) -> bool:
    """Whether a model file can hold a value."""
    try:
        Encoder().encode(value)
    except (CheckpointError, RecursionError):
        return False
    return True


# --- writing ---


def written(plan: TrainingPlan) -> dict[str, Any]:
    """A plan as data.

    Returns:
        "arguments" by name (those of the optimizer among them), "plugins", and under "missing" what a file cannot hold,
        by name of the argument, with a description.
    """
    given = {name: value for name, value in plan.as_arguments().items() if name not in ("plugins", "kwargs", "epoch")}
    options = {name: value for name, value in plan.kwargs.items() if name != "lr" or value != plan.learning_rate}
    arguments: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, value in {**given, **options}.items():
        value = _reference(value)
        if is_data(value):
            arguments[name] = value
        else:
            missing[name] = f"a {name_of(type(value))}"
    return {
        "arguments": arguments,
        "missing": missing,
        "plugins": [_written_plugin(plugin) for plugin in plan.plugins],
    }


def _reference(value: Any) -> Any:
    """Classes, and objects that a class makes without arguments, by name; anything else as it is."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type):
        return {"class": name_of(value)}
    if isinstance(value, FlairSampler) and getattr(samplers, type(value).__name__, None) is type(value):
        return {"instance": name_of(type(value))}
    return value


def _written_plugin(plugin: BasePlugin) -> dict[str, Any]:
    settings: Optional[dict[str, Any]] = None
    if type(plugin) in _REBUILT:
        settings = {name: value for name, value in plugin.get_state().items() if name != "__cls__"}
        if not is_data(settings):
            settings = None
    return {"class": name_of(type(plugin)), "settings": settings}


# --- reading ---


def plan_from(stored: Mapping[str, Any], overrides: Mapping[str, Any], epoch: int) -> TrainingPlan:
    """The plan of a training that goes on.

    Args:
        stored: what :func:`written` returned.
        overrides: arguments that take the place of stored ones. Settings of stored plugins may be among them. Of
            ``plugins``, each one takes the place of a stored plugin of its class, or is a new one.
        epoch: the number of epochs done.

    Raises:
        ValueError: the file could not hold something that ``overrides`` lacks; the message names the argument.
        TypeError: an argument that cannot be overridden.
    """
    given = dict(overrides)
    if "epoch" in given:
        raise TypeError(f"epoch={given['epoch']!r} cannot be chosen: the checkpoint was taken after epoch {epoch}.")
    plugins = _plugins(stored["plugins"], given)
    for name in sorted(_OF_SCHEDULERS & set(given)):
        raise TypeError(f"{name}={given[name]!r} has no effect: the training had no plugin with that setting.")
    for name, description in stored["missing"].items():
        if name not in given:
            raise ValueError(
                f"The training was started with {name}=<{description}>, which a file cannot hold. Pass it again: "
                f"resume(..., {name}=...)."
            )
    arguments = {name: value for name, value in stored["arguments"].items() if name not in given}
    if "learning_rate" in given:
        arguments.pop("lr", None)
    arguments = {name: _resolved(name, value) for name, value in arguments.items()}
    arguments.update(given, epoch=epoch, plugins=plugins)
    options = {name: arguments.pop(name) for name in list(arguments) if name not in _FIELDS}
    return TrainingPlan.of(**arguments, kwargs=options)


def _resolved(name: str, value: Any) -> Any:
    """What stands behind a reference. Nothing is imported for it: a file must not decide what code runs."""
    if not isinstance(value, dict) or not {"class", "instance"} & set(value):
        return value
    qualified = value.get("class") or value["instance"]
    module, _, attribute = qualified.rpartition(".")
    found: Any = getattr(sys.modules.get(module), attribute, None)
    if not isinstance(found, type) or not issubclass(found, (Optimizer, Sampler)):
        raise ValueError(
            f"The training was started with {name}={qualified}, which is not known here. Import or define it first, "
            f"or pass it again: resume(..., {name}=...)."
        )
    factory: Any = found
    return factory if "class" in value else factory()


def _plugins(stored: list[dict[str, Any]], given: dict[str, Any]) -> list[BasePlugin]:
    """The plugins of the training; takes what concerns them out of ``given``."""
    own = [plugin() if isinstance(plugin, type) else plugin for plugin in given.pop("plugins", None) or []]
    keeps_schedulers = given.pop("attach_default_scheduler", True)
    used: set[str] = set()
    plugins: list[BasePlugin] = []
    for entry in stored:
        qualified, settings = entry["class"], entry["settings"]
        replacement = next((plugin for plugin in own if name_of(type(plugin)) == qualified), None)
        if replacement is not None:
            own = [plugin for plugin in own if plugin is not replacement]
            plugins.append(replacement)
            continue
        cls = next((cls for cls in _REBUILT if name_of(cls) == qualified), None)
        if cls in _DEFAULT_SCHEDULERS and not keeps_schedulers:
            continue
        if cls is None or settings is None:
            raise ValueError(
                f"The training was started with a plugin of class {qualified}, which a file cannot hold. Pass it "
                "again: resume(..., plugins=[...])."
            )
        changed = {name: given[name] for name in settings if name in given}
        used.update(changed)
        plugins.append(cls(**{**settings, **changed}))
    for name in used - _FIELDS:
        del given[name]
    for plugin in own:
        _runtime.logger.info(f"The plugin {plugin} is new in this training and starts without a state.")
    return [*plugins, *own]
