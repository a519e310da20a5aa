"""Filling a freshly built network with the tensors of a file, without losing or inventing any."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from flair.checkpoint import CheckpointError
from flair.checkpoint.files import path_in
from flair.checkpoint.inferred_adapter import explain_missing_config
from flair.checkpoint.renames import COMPUTED, is_adapter_name

_SHAPES = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\((.*?)\) from checkpoint, "
    r"the shape in current model is torch\.Size\((.*?)\)"
)
_ALIGNMENT = 64
"""Bytes; torch allocates at multiples of it."""
_SMALL = 1 << 20
"""Bytes."""


def fill_parameters(
    network: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    *,
    origin: str = "",
    shared_with_others: Container[str] = (),
) -> None:
    """Give every parameter and buffer of ``network`` its tensor, taking over the tensors' dtypes and memory.

    Tensors are assigned, not copied (but for small ones at odd addresses): memory-mapped weights stay mapped until they
    are first used. Parameters that the network shares between modules stay shared.

    Args:
        network: the module to fill.
        tensors: state-dict key -> tensor.
        origin: a line about the file (path, versions) for the error message.
        shared_with_others: names of tensors that another model uses too: these are never copied.

    Raises:
        CheckpointError: when a tensor finds no place, a parameter finds no tensor, or shapes differ.
    """
    shared = _shared_names(network)
    try:
        outcome = network.load_state_dict(_aligned(tensors, shared_with_others), strict=False, assign=True)
    except RuntimeError as error:  # torch reports mismatching shapes this way
        raise CheckpointError(describe_mismatch([], [], origin, _wrong_shapes(error))) from error
    filled = set(tensors)
    missing = [
        key
        for key in outcome.missing_keys
        if not (shared.get(key, set()) & filled) and key.rpartition(".")[2] not in COMPUTED
    ]
    unexpected = list(outcome.unexpected_keys)
    if missing or unexpected:
        advice = None
        if any(map(is_adapter_name, unexpected)) and not any(map(is_adapter_name, network.state_dict())):
            advice = explain_missing_config(tensors, type(network).__name__, path_in(origin))
        raise CheckpointError(f"{advice}\n{origin}" if advice else describe_mismatch(missing, unexpected, origin))
    _share_again(network, shared, filled)


def _aligned(tensors: Mapping[str, torch.Tensor], fixed: Container[str]) -> dict[str, torch.Tensor]:
    """The same tensors, small ones copied to where torch itself would allocate them.

    Matrix kernels for small and odd shapes add up in another order at other addresses, and a mapped file has its
    tensors at any: the last bit of a score would depend on the length of the file's header. Large products rearrange
    their operands first.
    """
    copies: dict[tuple[int, torch.Size], torch.Tensor] = {}

    def aligned(tensor: torch.Tensor) -> torch.Tensor:
        if type(tensor) not in (torch.Tensor, nn.Parameter) or tensor.layout != torch.strided:
            return tensor
        address = tensor.data_ptr()
        if tensor.device.type != "cpu" or address % _ALIGNMENT == 0 or tensor.nbytes > _SMALL:
            return tensor
        return copies.setdefault((address, tensor.shape), tensor.detach().clone())  # shared tensors stay shared

    return {key: tensor if key in fixed else aligned(tensor) for key, tensor in tensors.items()}


def _shared_names(network: nn.Module) -> dict[str, set[str]]:
    """For each parameter that has several names: name -> all its names."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    return {name: set(group) for group in names.values() if len(group) > 1 for name in group}


def _share_again(network: nn.Module, shared: Mapping[str, set[str]], filled: set[str]) -> None:
    """Assigning makes one parameter of each name; put a single object back under all names of a group."""
    done: set[str] = set()
    for name, group in shared.items():
        if name in done:
            continue
        done |= group
        try:
            source = next(candidate for candidate in sorted(group) if candidate in filled)
            parameter = network.get_parameter(source)
            for other in group - {source}:
                path, _, leaf = other.rpartition(".")
                setattr(network.get_submodule(path), leaf, parameter)
        except (StopIteration, AttributeError):  # the network was rebuilt while loading and has no such name any more
            continue


def _wrong_shapes(error: RuntimeError) -> dict[str, tuple[str, str]]:
    """From torch's account: key -> (shape in the file, shape in the model)."""
    return {key: (found, wanted) for key, found, wanted in _SHAPES.findall(str(error))} or {str(error): ("", "")}


def describe_mismatch(
    missing: Iterable[str],
    unexpected: Iterable[str],
    origin: str = "",
    shapes: Mapping[str, tuple[str, str]] | None = None,
) -> str:
    """A short account of keys that do not match, grouped by module, with the likely cause.

    Args:
        missing: parameters of the model that the file lacks.
        unexpected: tensors of the file that the model lacks.
        origin: a line about the file and the versions.
        shapes: key -> (shape in the file, shape in the model), where they differ.
    """
    missing, unexpected, shapes = list(missing), list(unexpected), shapes or {}
    lines = ["The file and the model do not match: nothing was loaded."]
    if origin:
        lines.append(origin)
    for title, keys in (
        ("of the model that the file does not have", missing),
        ("of the file that the model has no place for", unexpected),
        ("of another shape than the model's", list(shapes)),
    ):
        if keys:
            lines.append(f"{len(keys)} {'tensor' if len(keys) == 1 else 'tensors'} {title}:")
            lines.extend(f"  {group}{_shapes_of(keys, shapes)}" for group in _grouped(keys))
    lines.append(f"Likely cause: {_likely_cause(missing, unexpected, shapes)}")
    return "\n".join(lines)


def _shapes_of(keys: list[str], shapes: Mapping[str, tuple[str, str]]) -> str:
    if len(keys) != 1 or keys[0] not in shapes or not shapes[keys[0]][0]:
        return ""
    return f"  ({shapes[keys[0]][0]} in the file, {shapes[keys[0]][1]} in the model)"


def _grouped(keys: list[str], most: int = 8) -> list[str]:
    """The keys, counted by module: by the innermost module for which there are few enough rows."""
    parts = [[part if not part.isdigit() else "*" for part in key.split(".")] for key in keys]
    groups: dict[tuple[str, ...], list[str]] = {}
    for depth in range(max(map(len, parts)), 0, -1):
        groups = defaultdict(list)
        for key, path in zip(keys, parts, strict=True):
            groups[tuple(path[:depth])].append(key)
        if len(groups) <= most:
            break
    whole = {tuple(path) for path in parts}
    rows = [
        group[0] if len(group) == 1 else f"{'.'.join(path)}{'' if path in whole else '.…'}  ({len(group)}×)"
        for path, group in groups.items()
    ]
    return rows if len(rows) <= most else [*rows[:most], f"… and {len(rows) - most} more groups"]


def _likely_cause(missing: list[str], unexpected: list[str], shapes: Mapping[str, tuple[str, str]]) -> str:
    if any(is_adapter_name(key) for key in missing) and not any(is_adapter_name(key) for key in unexpected):
        return (
            "the file lacks weights of the adapters that the model has: it is incomplete, or its adapters are of "
            "another method or rank than the configuration says."
        )
    if any(is_adapter_name(key) for key in unexpected):
        return "the file's adapters are not those of the configuration (peft_config): method, targets or name differ."
    if shapes:
        rows = [
            key for key in shapes if "word_embeddings" in key or "embed_tokens" in key or key.endswith("wte.weight")
        ]
        if rows:
            return "the configuration and the weights in the file belong to vocabularies of different sizes."
        heads = [key for key in shapes if key.partition(".")[0] in ("decoder", "linear", "crf", "loss_function")]
        if len(heads) == len(shapes):
            return "the file has another number of labels than its own dictionary says, or another embedding length."
        return "the configuration in the file belongs to a transformer of another size."
    if missing and not unexpected:
        return "the file is incomplete, or was saved by a model with fewer layers or another head."
    if unexpected and not missing:
        return "the file was saved by a model with more layers or another head."
    return "the file was saved by a model of another architecture, or by an incompatible library version."


def cast_floating(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """The same tensors with floating-point ones in ``dtype`` (``None``: as they are)."""
    if dtype is None:
        return dict(tensors)
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}


def with_transformer_options(params: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Embedding parameters in which every transformer, however deep in a stack, has the options that are not None."""
    options = {name: value for name, value in options.items() if value is not None}

    def visit(value: Any) -> Any:
        if isinstance(value, list):
            return [visit(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        if "config_state_dict" in value:
            return {**value, **options}
        return {key: visit(item) for key, item in value.items()}

    return visit(dict(params))
