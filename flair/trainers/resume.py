"""Go on with a training from a checkpoint, as if it had never stopped.

A checkpoint is a model file with the state of a training beside the weights, as plain data. It can be gone on with when
it was taken at the end of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import TYPE_CHECKING, Any, Optional, Union

import torch
from torch.utils.data import Subset

from flair import _runtime
from flair.checkpoint import CheckpointError, load_state
from flair.checkpoint.atomic import replacing_file
from flair.checkpoint.objects import name_of
from flair.data.corpus import Corpus
from flair.nn.model import Model
from flair.trainers._distributed import is_main_process, rank
from flair.trainers.arguments import is_data, plan_from, written
from flair.trainers.optimization import Optimization
from flair.trainers.plan import TrainingPlan
from flair.trainers.plugins.base import BasePlugin
from flair.trainers.state import random_states, restore_random_states, restore_sampler, sampler_state, to_cpu

if TYPE_CHECKING:
    from flair.trainers.run import TrainingRun

FORMAT = 1
"""Of the entry "training" in a checkpoint's optimizer state."""

_SPLITS = ("train", "dev", "test")


# --- gathering ---


def training_state(run: TrainingRun) -> dict[str, Any]:
    """All that a training consists of beside weights and optimizer state, as data."""
    return {
        "format": FORMAT,
        "epoch": run.epoch,
        "complete": run.epoch_is_complete,
        "batch_count": run.loop.batch_count,
        "validates_on_dev": run.validates_on_dev,
        "best_score": run.best_score,
        "best_epoch": run.best_epoch,
        "sampler_seed": run.sampler_seed,
        "sampler": sampler_state(run.plan.sampler),
        "train_sample": list(run.train_sample.indices) if run.train_sample is not None else None,
        "corpus": _sizes(run.corpus),
        "optimizer": name_of(type(run.optimization.optimizer)),
        "parameters": [[name, list(shape)] for name, shape in _trained(run.model, run.optimization)],
        "plugin_states": [_state_of(plugin) for plugin in run.trainer.plugins],
        "random": random_states(),
        **written(run.plan),
        **to_cpu(run.optimization.state_dict()),
    }


def _state_of(plugin: BasePlugin) -> dict[str, Any]:
    state = to_cpu(plugin.state_dict())
    return {"class": name_of(type(plugin)), "state": state if is_data(state) else None}


def _trained(model: Model, optimization: Optimization) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of what the optimizer changes, in its order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [optimization.masters.original(parameter) for parameter in optimization.parameters()]
    return [(names.get(id(parameter), "?"), tuple(parameter.shape)) for parameter in parameters]


def _sizes(corpus: Corpus) -> dict[str, int]:
    return {name: len(getattr(corpus, name, None) or ()) for name in _SPLITS}


# --- restoring ---


@dataclass(frozen=True)
class ResumePoint:
    """Where a training goes on."""

    model: Model
    optimizer: dict[str, Any]
    """The optimizer's state."""
    training: dict[str, Any]
    """What :func:`training_state` returned."""
    source: Optional[Path]
    """The file, where it is known."""

    @classmethod
    def of(cls, model_or_path: Union[Model, str, Path], model_class: type[Model]) -> ResumePoint:
        """Read a checkpoint.

        Args:
            model_or_path: a model loaded from a checkpoint, or the path of one.
            model_class: the class to load a file with.

        Raises:
            FileNotFoundError: no such file.
            CheckpointError: a model without training state, or one that was saved in the middle of an epoch.
        """
        source = None if isinstance(model_or_path, Model) else Path(model_or_path)
        model = model_or_path if isinstance(model_or_path, Model) else model_class.load(model_or_path)
        name = f"The model in {source}" if source is not None else f"This {type(model).__name__}"
        optimizer = dict(model.optimizer_state_dict or {})
        training = optimizer.pop("training", None)
        if training is None or "format" not in training:
            raise CheckpointError(
                f"{name} was saved without the state of its training, so that training cannot be resumed. Train with "
                "save_model_each_k_epochs=1 and save_optimizer_state=True, and resume from a model_epoch_<n>.pt."
            )
        if training["format"] > FORMAT:
            raise CheckpointError(
                f"{name} has a training state of format {training['format']}; this version of flair reads up to "
                f"{FORMAT}. Update flair."
            )
        if not training["complete"]:
            before = training["epoch"] - 1
            raise CheckpointError(
                f"{name} was saved when the training was interrupted inside of epoch {before + 1}. "
                + (
                    f"Resume from a model that was saved at the end of an epoch, such as model_epoch_{before}.pt of "
                    "the same training."
                    if before
                    else "No epoch was finished, so that there is nothing to go on from."
                )
            )
        return cls(model, optimizer, training, source)

    @property
    def epoch(self) -> int:
        """The number of epochs done."""
        return self.training["epoch"]

    def plan(self, additional_epochs: Optional[int], overrides: Mapping[str, Any]) -> TrainingPlan:
        """The plan to go on with.

        Raises:
            ValueError: an argument that a file cannot hold is missing, or both ways to say how long were used.
            TypeError: an argument that cannot be overridden.
        """
        given = dict(overrides)
        if additional_epochs is not None:
            if "max_epochs" in given:
                raise ValueError(
                    f"additional_epochs={additional_epochs} and max_epochs={given['max_epochs']} both say how long "
                    "to train. Pass one of them."
                )
            given["max_epochs"] = self.epoch + additional_epochs
        plan = plan_from(self.training, given, self.epoch)
        if name_of(plan.optimizer) != self.training["optimizer"]:
            raise ValueError(
                f"The checkpoint holds the state of a {self.training['optimizer']}, which a {name_of(plan.optimizer)} "
                "cannot go on with. Leave optimizer out, or start a new training from the model."
            )
        if plan.max_epochs <= self.epoch:
            _runtime.logger.warning(
                f"All {plan.max_epochs} epochs are done already, there is nothing to train. Pass additional_epochs "
                "to train further."
            )
        return plan

    def check(self, corpus: Corpus, plan: TrainingPlan) -> None:
        """Compare model and corpus with those of the checkpoint, and let the same parameters take gradients.

        Raises:
            CheckpointError: parameters are missing or have other shapes.
        """
        parameters = dict(self.model.named_parameters())
        trained = {name: tuple(shape) for name, shape in self.training["parameters"]}
        missing = [name for name in trained if name not in parameters]
        differing = [
            f"{name} {tuple(parameters[name].shape)} instead of {shape}"
            for name, shape in trained.items()
            if name in parameters and not _fits(tuple(parameters[name].shape), shape, plan.reduce_transformer_vocab)
        ]
        if missing or differing:
            lists = {"missing": missing, "of another shape": differing}
            parts = "; ".join(f"{text}: {', '.join(names)}" for text, names in lists.items() if names)
            raise CheckpointError(
                f"The optimizer's state does not fit this {type(self.model).__name__}. Parameters {parts}. Resume with "
                "the model from the checkpoint, unchanged."
            )
        for name, parameter in parameters.items():
            if parameter.requires_grad != (name in trained):
                parameter.requires_grad_(name in trained)
        for split, size in _sizes(corpus).items():
            before = self.training["corpus"][split]
            if size != before:
                _runtime.logger.warning(
                    f"The {split} split has {size} data points, the training so far had {before}. It goes on with "
                    "other data, and will not be what it would have been without the interruption."
                )

    def train_sample(self, corpus: Corpus, plan: TrainingPlan) -> Optional[Subset]:
        """The part of the training data that is evaluated; None where it must be drawn anew."""
        indices = self.training["train_sample"]
        same = plan.monitor_train_sample == self.training["arguments"].get("monitor_train_sample")
        if not same or not indices or indices[-1] >= _sizes(corpus)["train"]:
            return None
        return Subset(corpus.train, indices)  # type: ignore[arg-type]

    def restore(self, run: TrainingRun) -> None:
        """Bring a run that is set up, but has not begun, to where the checkpoint was taken. Call it last.

        Raises:
            CheckpointError: the state does not fit the optimizer or a plugin. The model can then be tried again.
        """
        try:
            self._restore(run)
        except BaseException:
            self.model.optimizer_state_dict = {**self.optimizer, "training": self.training}
            raise

    def _restore(self, run: TrainingRun) -> None:
        training = self.training
        self._restore_optimizer(run)
        run.optimization.load_state_dict({name: training[name] for name in ("scaler", "master_weights")})
        self._restore_plugins(run)
        run.loop.batch_count = training["batch_count"]
        run.epoch, run.epoch_is_complete = self.epoch, True
        run.sampler_seed = training["sampler_seed"]
        restore_sampler(run.plan.sampler, training["sampler"])
        self._restore_best(run)
        restore_random_states(training["random"])
        if rank():
            # The states are those of the main process, and equal ones would drop the same units everywhere.
            torch.manual_seed(run.sampler_seed + 7919 * self.epoch + rank())
        _runtime.logger.info(f"Resuming the training after epoch {self.epoch} of {run.plan.max_epochs}")

    def _restore_optimizer(self, run: TrainingRun) -> None:
        found = _trained(run.model, run.optimization)
        expected = [(name, tuple(shape)) for name, shape in self.training["parameters"]]
        if found != expected:
            names = [f"{new} instead of {old}" for new, old in zip(found, expected, strict=False) if new != old]
            raise CheckpointError(
                f"The optimizer's state is for {len(expected)} parameters, this training has {len(found)}: "
                f"{'; '.join(names) or 'the first ones are the same'}. Resume with the arguments and the corpus that "
                "the training began with."
            )
        optimizer = run.optimization.optimizer
        fresh = [dict(group) for group in optimizer.param_groups]
        groups = len(self.optimizer["param_groups"])
        if groups != len(fresh):
            raise CheckpointError(
                f"The optimizer's state has {groups} parameter groups, this training has {len(fresh)}. "
                "Give decoder_learning_rate only if the training began with one."
            )
        optimizer.load_state_dict(self.optimizer)
        for name in self._changed_options(run.plan):
            for group, new in zip(optimizer.param_groups, fresh, strict=True):
                if name == "lr":
                    # A schedule that was just set up may have changed the rate, but it noted the initial one.
                    group["lr"] = new.get("initial_lr", new["lr"])
                    if "initial_lr" in group:
                        group["initial_lr"] = group["lr"]
                else:
                    group[name] = new[name]

    def _changed_options(self, plan: TrainingPlan) -> list[str]:
        """Options of the optimizer that are not those of the checkpoint."""
        before = self.training["arguments"]
        rate = before.get("lr", before.get("learning_rate"))
        changed = [name for name, value in plan.kwargs.items() if name != "lr" and _differs(value, before.get(name))]
        if _differs(plan.kwargs["lr"], rate) or _differs(
            plan.decoder_learning_rate, before.get("decoder_learning_rate")
        ):
            changed.append("lr")
        return changed

    def _restore_plugins(self, run: TrainingRun) -> None:
        states = list(self.training["plugin_states"])
        for plugin in run.trainer.plugins:
            entry = next((entry for entry in states if entry["class"] == name_of(type(plugin))), None)
            if entry is None:
                continue
            states.remove(entry)
            if entry["state"] is None:
                raise CheckpointError(
                    f"The checkpoint could not hold the state of the plugin {entry['class']}. Let its state_dict() "
                    "return plain containers, strings, numbers and tensors."
                )
            plugin.load_state_dict(entry["state"])

    def _restore_best(self, run: TrainingRun) -> None:
        plan, best_epoch = run.plan, self.training["best_epoch"]
        if run.validates_on_dev != self.training["validates_on_dev"]:
            _runtime.logger.warning("The best model is now chosen by another score, so earlier epochs do not count.")
            return
        run.best_score, run.best_epoch = self.training["best_score"], best_epoch
        if not plan.keeps_best_model() or best_epoch is None or not is_main_process():
            return
        target = plan.base_path / "best-model.pt"
        if _epoch_of(target) == best_epoch:
            return
        if best_epoch == self.epoch:
            run.trainer._save_model(target, save_optimizer_state=False)
            return
        stored = Path(self.training["arguments"]["base_path"])
        folders = [plan.base_path, stored, *([self.source.parent] if self.source is not None else [])]
        for file in [folder / name for folder in folders for name in ("best-model.pt", f"model_epoch_{best_epoch}.pt")]:
            if _epoch_of(file) == best_epoch:
                with replacing_file(target) as new, file.open("rb") as old:
                    copyfileobj(old, new)
                return
        _runtime.logger.warning(
            f"The best model so far was that of epoch {best_epoch}, and its file is not found in {plan.base_path}."
            + (" What lies there as best-model.pt is of another epoch." if target.exists() else "")
        )


def _fits(full: tuple[int, ...], trained: tuple[int, ...], may_have_fewer_rows: bool) -> bool:
    return full == trained or (may_have_fewer_rows and full[1:] == trained[1:] and full[:1] >= trained[:1])


def _differs(value: Any, other: Any) -> bool:
    return type(value) is not type(other) or bool(value != other)


def _epoch_of(file: Path) -> Optional[int]:
    """The epoch after which a model was saved; None if that cannot be told."""
    if not file.is_file():
        return None
    try:
        card = load_state(file).get("model_card")
    except CheckpointError:
        return None
    return card["training_parameters"].get("epoch") if card and "training_parameters" in card else None
