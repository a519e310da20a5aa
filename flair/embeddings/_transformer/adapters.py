"""Adapters (PEFT) around the transformer: wrapping, rebuilding, handling, merging."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import torch

from flair import _runtime
from flair.checkpoint.renames import COMPUTED, fit_names, is_plain_transformer, plain_name
from flair.embeddings._transformer.adapter_files import can_be_repeated, fill_adapter, read_config, write_adapter
from flair.embeddings._transformer.loading import published_weights
from flair.embeddings._transformer.peft_config import (
    ACROSS_POSITIONS,
    PREPENDING,
    AdapterState,
    config_to_dict,
    for_rebuilding,
    method_name,
    read_peft_config,
)
from flair.embeddings._transformer.peft_names import base_weights, belongs_to_adapter
from flair.embeddings._transformer.prompts import fit_prompt, why_prompt_fails
from flair.embeddings._transformer.quantised import prepared


def is_wrapped(model: torch.nn.Module) -> bool:
    """Whether adapters are around this model."""
    return hasattr(model, "peft_config") and hasattr(model, "base_model") and hasattr(model, "get_base_model")


class AdapterMixin:
    """Adapters on :class:`flair.embeddings.TransformerEmbeddings`, under the names of transformers' adapter mixin."""

    if TYPE_CHECKING:
        model: Any
        base_model_name: str
        stride: int
        training: bool
        _weights_missing: bool

        def train(self, mode: bool = True) -> Any: ...

        def register_load_state_dict_post_hook(self, hook: Any) -> Any: ...

        def _materialise(self) -> None: ...

        def _max_length(self) -> int | None: ...

    # -- construction and rebuilding ----------------------------------------------------------------------------------

    def _init_adapters(self, peft_config: Any, checkpointing: Optional[dict[str, Any]]) -> None:
        self.peft_gradient_checkpointing_kwargs = checkpointing
        self._adapters_disabled = False
        self._shared: list[list[str]] = []
        self._held_elsewhere: set[str] = set()
        self._pending: AdapterState | None = None
        self.register_load_state_dict_post_hook(_after_loading)
        if peft_config is None:
            return
        state = read_peft_config(peft_config)
        if self._weights_missing:
            # Some methods derive tensors from the base weights, so these have to be there first.
            self._pending = state
            return
        if state.folders:
            self._wrap_saved(state.folders)
        else:
            self._wrap(state.configs())
        self._after_wrapping()

    def _wrap(self, configs: dict[str, Any], known_to_work: bool = False) -> None:
        """Put adapters around the bare model."""
        import peft

        for name, config in configs.items():
            learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            if config.is_prompt_learning:
                fit_prompt(config, self.base_model())
            if getattr(config, "init_lora_weights", None) == "loftq" and not torch.cuda.is_available():
                raise ValueError(
                    "init_lora_weights='loftq' quantises base weights on a CUDA device, and there is none. Adapters "
                    "initialised elsewhere load here; to start one, use another initialisation (True, 'pissa', ...)."
                )
            try:
                with _without_false_alarms():
                    if is_wrapped(self.model):
                        self.model.add_adapter(name, config)
                    else:
                        self.model = peft.get_peft_model(self.model, config, adapter_name=name)
            except (ValueError, KeyError, AssertionError) as error:
                raise ValueError(_explain_targets(self.model, config, error)) from error
            if config.is_prompt_learning and not known_to_work:
                reason = why_prompt_fails(self.model)
                if reason is not None:
                    self._take_back(name, learning)
                    raise ValueError(reason)
            _keep_indices(self.model)
            _warn_of_unmatched(self.base_model(), config)

    def _wrap_saved(self, folders: dict[str, str]) -> None:
        """Put adapters of peft's format around the model and load their weights."""
        for name, folder in folders.items():
            config = read_config(folder)
            learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            self._wrap({name: config})
            try:
                fill_adapter(self.model, name, folder)
            except ValueError:
                self._take_back(name, learning)
                raise

    def _take_back(self, name: str, learning: list[torch.nn.Parameter]) -> None:
        """Remove an adapter that turned out not to fit; the parameters given learn again."""
        if len(self.model.peft_config) > 1:
            self.model.delete_adapter(name)
        else:
            self.model = self._unloaded(self.model)
        for parameter in learning:
            parameter.requires_grad_(True)

    def _after_wrapping(self) -> None:
        """Mode, length limit and gradient checkpointing follow for the adapters' own modules."""
        self.train(self.training)
        if self.stride > 0 and self._virtual_tokens():
            self.stride = (self._max_length() or 2 * self.stride) // 2
        if self.peft_gradient_checkpointing_kwargs:
            base = self.base_model()
            # transformers 5.20 and later have a new name for it
            enable = getattr(base, "activation_checkpointing_enable", base.gradient_checkpointing_enable)
            enable(self.peft_gradient_checkpointing_kwargs)
            base.enable_input_require_grads()

    def _wrap_pending(self, weights_follow: bool = False) -> None:
        """Put the adapters that waited for the base weights around them."""
        if self._pending is None:
            return
        state, self._pending = self._pending, None
        if state.folders:
            self._wrap_saved(state.folders)
        elif not weights_follow:
            self._wrap(state.configs())
        else:
            self._wrap({n: for_rebuilding(values) for n, values in state.adapters.items()}, known_to_work=True)
            for name, values in state.adapters.items():
                if "init_lora_weights" in values:  # readers of an exported adapter repeat what was done to the base
                    self.model.peft_config[name].init_lora_weights = values["init_lora_weights"]
        self._restore(state)

    def _restore(self, state: AdapterState) -> None:
        """Active adapters, switched off or on, and which weights learn."""
        if not state.folders and self.active_adapters() != state.active:
            self.set_adapter(state.active if len(state.active) > 1 else state.active[0])
        if not state.enabled:
            self.disable_adapters()
        if state.trainable is not None:
            trainable = set(state.trainable)
            for name, parameter in self.model.named_parameters():
                if parameter.is_floating_point():
                    parameter.requires_grad_(name in trainable)
        self._after_wrapping()

    def _load_adapters(self, incoming: dict[str, Any]) -> None:
        """Base weights in, adapters around them, before torch copies the wrapped model's state dict.

        ``incoming`` may come from a plain transformer: its weights then get the names that they have under adapters,
        and the adapters are new.
        """
        if self._pending is not None:
            own = self.model.state_dict()
            is_plain = is_plain_transformer(incoming)
            if is_plain:
                _rename(incoming, own)
            weights = base_weights(incoming, own)
            absent = _absent(own, weights)
            self._shared = _shared_parameters(self.model)
            self.model.load_state_dict(weights, strict=False, assign=True)
            self._share_again()
            self._wrap_pending(weights_follow=not is_plain)
            if is_plain:
                strange = {name: value for name, value in incoming.items() if name not in own}
                complete = {n: value for n, value in self.model.state_dict().items() if plain_name(n) not in absent}
                incoming.clear()
                incoming.update({**complete, **strange})
        _rename(incoming, self.model.state_dict())
        if is_wrapped(self.model):
            self._match_dtypes(incoming)
            self._shared = _shared_parameters(self.model)

    def _share_again(self) -> None:
        """Assigned weights are one parameter a name: those that adapters shared between layers become one again."""
        for first, *others in self._shared:
            parameter = self.model.get_parameter(first)
            for name in others:
                path, _, leaf = name.rpartition(".")
                setattr(self.model.get_submodule(path), leaf, parameter)
        self._shared = []

    def _match_dtypes(self, incoming: dict[str, Any]) -> None:
        """Adapter weights keep the precision they were saved with, whatever peft would give new ones."""
        base = {name for name, _ in self.model.named_parameters() if ".base_layer." in name}
        for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]:
            stored = incoming.get(name)
            if name in base or not isinstance(stored, torch.Tensor) or not tensor.is_floating_point():
                continue
            if not stored.is_floating_point() or stored.dtype == tensor.dtype:
                continue
            if belongs_to_adapter(name, self.model.peft_config):
                tensor.data = tensor.data.to(stored.dtype)

    def _adapter_params(self) -> dict[str, Any] | None:
        """The adapters as plain data for saved files, None without."""
        if self._pending is not None:
            return self._pending.to_dict()
        if not is_wrapped(self.model):
            return None
        return AdapterState(
            {name: config_to_dict(config) for name, config in self.model.peft_config.items()},
            self.active_adapters(),
            [name for name, parameter in self.model.named_parameters() if parameter.requires_grad],
            self._adapters_enabled(),
        ).to_dict()

    # -- what the forward pass needs ----------------------------------------------------------------------------------

    def base_model(self) -> Any:
        """The transformer inside, without adapters' wrapper (their layers stay in it)."""
        return self.model.get_base_model() if is_wrapped(self.model) else self.model

    def _without_adapters(self) -> Any:
        """The bare transformer; a copy of it if there are adapters."""
        return self._unloaded(copy.deepcopy(self.model)) if is_wrapped(self.model) else self.model

    @property
    def peft_config(self) -> Any:
        """The active adapter's ``PeftConfig``, None without adapters."""
        if not is_wrapped(self.model):
            return None
        return self.model.peft_config[self.active_adapters()[0]]

    def _virtual_tokens(self) -> int:
        """Positions that prompt-type adapters take from the model's limit."""
        if not is_wrapped(self.model) or not self._adapters_enabled():
            return 0
        config = self.peft_config
        return int(config.num_virtual_tokens) if config.is_prompt_learning else 0

    def _has_virtual_tokens(self) -> bool:
        return self._virtual_tokens() > 0

    def _positions_are_independent(self) -> bool:
        """Whether every adapter treats a position the same in whatever row it stands."""
        if not is_wrapped(self.model):
            return True
        return not self._has_virtual_tokens() and all(
            method_name(config) not in ACROSS_POSITIONS and not getattr(config, "alora_invocation_tokens", None)
            for config in self.model.peft_config.values()
        )

    def _without_virtual_tokens(self, states: tuple[torch.Tensor, ...], positions: int) -> tuple[torch.Tensor, ...]:
        """Cut the positions that prompt tuning puts before the text."""
        count = self._virtual_tokens()
        if not count or method_name(self.peft_config) not in PREPENDING:
            return states
        return tuple(state[:, count : count + positions] for state in states)

    # -- handling -----------------------------------------------------------------------------------------------------

    def _adapters_enabled(self) -> bool:
        return not self._adapters_disabled

    def active_adapters(self) -> list[str]:
        """Names of the adapters in use."""
        if not is_wrapped(self.model):
            return []
        active = getattr(self.model, "active_adapters", None) or self.model.active_adapter
        return [active] if isinstance(active, str) else list(active)

    def set_adapter(self, name: Union[str, list[str]]) -> None:
        """Use (and train) this adapter, or several of one method together.

        Raises:
            ValueError: for a name that no adapter has.
        """
        self._materialise()
        names = [name] if isinstance(name, str) else list(name)
        for one in names:
            self._check_known(one)
        if len(names) == 1:
            self.model.set_adapter(names[0])
        else:
            self.model.base_model.set_adapter(names)

    def add_adapter(self, adapter_config: Any, adapter_name: str = "default") -> None:
        """Put a new adapter around the transformer and use it.

        Args:
            adapter_config: a ``PeftConfig`` or its dict.
            adapter_name: what it is called here.

        Raises:
            ValueError: the name is taken, the method does not apply or cannot stand beside the adapters there are.
        """
        self._materialise()
        self._check_new(adapter_name)
        state = read_peft_config(adapter_config)
        if state.folders:
            self.load_adapter(state.folders["default"], adapter_name)
            return
        (config,) = state.configs().values()
        self._wrap({adapter_name: config})
        self.set_adapter(adapter_name)
        self._after_wrapping()

    def load_adapter(self, path: Union[str, Path], adapter_name: str = "default") -> None:
        """Load an adapter that :meth:`save_adapter` or peft wrote, and use it.

        Raises:
            ValueError: the name is taken, or the method does not apply.
            FileNotFoundError: no adapter lies there.
        """
        self._materialise()
        self._check_new(adapter_name)
        self._wrap_saved({adapter_name: str(path)})
        self.set_adapter(adapter_name)
        self._after_wrapping()

    def save_adapter(self, path: Union[str, Path], adapter_name: Optional[str] = None) -> None:
        """Write one adapter to a folder in peft's format (the active one by default).

        Only the adapter is written, not the embedding matrix that holds the [FLERT] token. One whose initialisation
        changed the base weights by chance or by data (``pissa_niter_*``, LoRA-GA, CorDA) is written as a plain LoRA of
        twice the rank, for the transformer as it was published.

        Raises:
            ValueError: no such adapter, or one that changed the base weights and cannot be written so (LoftQ; or the
                published transformer is not to be found).
        """
        self._materialise()
        name = adapter_name or next(iter(self.active_adapters()), None)
        self._check_known(name)
        write_adapter(self.model, str(name), path, self._published_weights)

    def _write_adapters(self, folder: Path) -> None:
        """Every adapter into a folder of its name."""
        for name, config in self.model.peft_config.items():
            if can_be_repeated(config):
                write_adapter(self.model, name, folder / name, self._published_weights)
            else:
                _runtime.logger.info(
                    f"The adapter {name!r} changed the base weights: {folder.name}/ does not have it by itself. For "
                    f"plain peft, write it with save_adapter."
                )

    def _published_weights(self) -> dict[str, torch.Tensor]:
        """The transformer's weights before any adapter, from where the transformer came from."""
        return published_weights(self.base_model_name, getattr(self, "base_revision", None))

    def disable_adapters(self) -> None:
        """Compute with the bare transformer until :meth:`enable_adapters`."""
        self._materialise()
        self._check_known(None, any_adapter=True)
        if hasattr(self.model.base_model, "disable_adapter_layers"):
            self.model.base_model.disable_adapter_layers()
        self._adapters_disabled = True

    def enable_adapters(self) -> None:
        """Compute with the adapters again."""
        self._materialise()
        self._check_known(None, any_adapter=True)
        if hasattr(self.model.base_model, "enable_adapter_layers"):
            self.model.base_model.enable_adapter_layers()
        self._adapters_disabled = False

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter; without any left the bare transformer remains, trainable as a whole."""
        self._materialise()
        self._check_known(adapter_name)
        remaining = [name for name in self.model.peft_config if name != adapter_name]
        if not remaining:
            self.model = self._unloaded(self.model)
            self._adapters_disabled = False
            prepared(self.model.requires_grad_(True))
            return
        if adapter_name in self.active_adapters():
            self.set_adapter(remaining[0])
        self.model.delete_adapter(adapter_name)

    def merge_adapters(self, tolerance: Optional[float] = None) -> float:
        """Fold the active adapters into the transformer's weights; afterwards it is a plain transformer.

        The sums are computed in float32 and stored in the weights' own type.

        Args:
            tolerance: the largest change of the last hidden states that is accepted, relative to their largest
                value; by default 1e-4 for float32 and 5e-2 for 16-bit weights.

        Returns:
            The change measured on a probe batch.

        Raises:
            ValueError: the method cannot be merged, the base is quantised, there are adapters that are not active, or
                the change is above the tolerance. The embedding is left as it was.
        """
        self._materialise()
        self._check_known(None, any_adapter=True)
        idle = sorted(set(self.model.peft_config) - set(self.active_adapters()))
        if idle:
            raise ValueError(
                f"Merging would lose the adapters {idle}, which are not active. Activate them with set_adapter, save "
                f"them with save_adapter, or remove them with delete_adapter."
            )
        method = method_name(self.peft_config)
        if getattr(self.base_model(), "quantization_method", None) is not None:
            raise ValueError("The base is quantised: adapters cannot be folded into its weights. Load it in bfloat16.")
        if not hasattr(self.model.base_model, "merge_and_unload"):
            raise ValueError(f"{method} adapters add inputs instead of changing weights and cannot be merged.")
        dtype = next(p.dtype for p in self.base_model().parameters() if p.is_floating_point())
        if tolerance is None:
            tolerance = 1e-4 if dtype in (torch.float32, torch.float64) else 5e-2
        training = self.model.training
        self.model.eval()
        before = self._probe(self.model)
        merged = copy.deepcopy(self.model).float()
        try:
            merged = merged.base_model.merge_and_unload(safe_merge=True).to(dtype).eval()
        except (NotImplementedError, AttributeError, ValueError, TypeError) as error:
            self.model.train(training)
            raise ValueError(f"{method} adapters cannot be merged: {error}") from error
        change = ((self._probe(merged) - before).abs().max() / before.abs().max().clamp(min=1e-6)).item()
        self.model.train(training)
        if not change <= tolerance:
            raise ValueError(
                f"Merging changes the outputs by {change:.1e} (relative), more than the tolerance of {tolerance:.1e}; "
                f"nothing was merged. Merge in float32, or pass a larger tolerance."
            )
        self.model = _without_marks(merged).train(training).requires_grad_(True)
        return change

    def _probe(self, model: Any) -> torch.Tensor:
        """The last hidden states for a fixed batch of random sub-tokens, float32."""
        config = self.base_model().config
        length = min(24, self._max_length() or 24)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(0, config.vocab_size, (4, length), generator=generator)
        device = next(model.parameters()).device
        mask = torch.ones_like(ids)
        with torch.no_grad():
            output = model(input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True)
        return (output.get("hidden_states") or output.get("encoder_hidden_states"))[-1].float()

    @staticmethod
    def _unloaded(model: Any) -> Any:
        """The bare transformer out of its wrapper."""
        return _without_marks(
            model.base_model.unload() if hasattr(model.base_model, "unload") else model.get_base_model()
        )

    def _check_new(self, name: str) -> None:
        if is_wrapped(self.model) and name in self.model.peft_config:
            raise ValueError(
                f"There is an adapter {name!r} already. Choose another adapter_name, or delete_adapter({name!r}) first."
            )

    def _check_known(self, name: Optional[str], any_adapter: bool = False) -> None:
        known = list(self.model.peft_config) if is_wrapped(self.model) else []
        if not known:
            raise ValueError("This transformer has no adapters. Add one with add_adapter or load_adapter.")
        if not any_adapter and name not in known:
            raise ValueError(f"There is no adapter {name!r}. Adapters here: {', '.join(known)}.")


def _without_marks(model: Any) -> Any:
    """Remove what peft notes on a transformer that it wraps."""
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        vars(model).pop(attribute, None)
    return model


def _rename(incoming: dict[str, Any], own: dict[str, Any]) -> None:
    renamed = fit_names(incoming, own)
    incoming.clear()
    incoming.update(renamed)


def _absent(own: dict[str, torch.Tensor], weights: dict[str, Any]) -> set[str]:
    """The weights of a bare model that a file does not have, under any of their names."""
    present = {own[name].data_ptr() for name in weights}
    return {
        plain_name(name)
        for name, value in own.items()
        if name not in weights and value.data_ptr() not in present and name.rpartition(".")[2] not in COMPUTED
    }


def _after_loading(embedding: AdapterMixin, outcome: Any) -> None:
    embedding._share_again()
    outcome.missing_keys[:] = [key for key in outcome.missing_keys if key not in embedding._held_elsewhere]
    embedding._held_elsewhere = set()


def _shared_parameters(model: Any) -> list[list[str]]:
    """For each parameter with several names: its names."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


@contextmanager
def _without_false_alarms() -> Iterator[None]:
    """Peft asks transformers by a deprecated name, which is no concern of the user's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        yield


def _kinds(base: Any) -> tuple[list[str], list[str]]:
    """The last parts of the names of linear modules, and of other modules with weights of their own."""
    linear: set[str] = set()
    other: set[str] = set()
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D":
            linear.add(name.rpartition(".")[2])
        elif name and module._parameters:
            other.add(name.rpartition(".")[2])
    return sorted(linear), sorted(other - linear)


def _explain_targets(model: Any, config: Any, error: Exception) -> str:
    """Peft's complaint, and the modules that target_modules could name."""
    base = model.get_base_model() if is_wrapped(model) else model
    message = f"{type(config).__name__} does not fit {type(base).__name__}: {str(error).rstrip('. ')}."
    if "target" in str(error).lower():
        linear, other = _kinds(base)
        message += f" Linear modules of this model, for target_modules: {', '.join(linear)}."
        message += f" Other modules with weights: {', '.join(other)}." if other else ""
    return message


def _keep_indices(model: Any) -> None:
    """SHiRA notes which weights it changes in a plain dict; as buffers the notes get into files."""
    for module in model.modules():
        indices = vars(module).get("shira_indices")
        if isinstance(indices, dict):
            from peft.tuners._buffer_dict import BufferDict

            del module.shira_indices
            module.shira_indices = BufferDict(indices, persistent=True)


def _warn_of_unmatched(base: Any, config: Any) -> None:
    """Peft is silent about modules_to_save that the model does not have."""
    names = {name for name, _ in base.named_modules()}
    wanted = getattr(config, "modules_to_save", None) or []
    absent = [want for want in wanted if not any(f".{name}".endswith(f".{want}") for name in names)]
    if absent:
        _runtime.logger.warning(
            f"modules_to_save names {', '.join(map(repr, absent))}, which {type(base).__name__} does not have: "
            f"no effect. (The head of a flair model is always trained and saved.)"
        )
