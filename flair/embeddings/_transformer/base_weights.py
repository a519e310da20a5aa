"""Splitting a transformer with adapters into the published base, which a file can refer to, and what is its own.

A weight belongs to the base if it is equal to the bit to the base's: no list of frozen modules decides that, so layers
that were unfrozen, embedding rows that were added and methods that change the base weights (PiSSA, OLoRA ...) are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flair.checkpoint import CheckpointError
from flair.checkpoint.folder import WEIGHTS
from flair.checkpoint.renames import plain_name, without_wrappings
from flair.embeddings._transformer.loading import published_weights
from flair.embeddings._transformer.peft_names import bare_name
from flair.embeddings._transformer.quantised import PACKED
from flair.embeddings.transformer import TransformerEmbeddings

_ROW = 512
"""Bytes."""


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, independent of the order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """As :func:`fingerprint`, at the speed of memory: over weighted sums of the bytes instead of all of them.

    It tells one transformer from another, which is what loading has to; it is no protection against forgery.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy()
        rows = len(raw) // _ROW
        words = np.frombuffer(raw.data, dtype="<u8", count=rows * _ROW // 8).reshape(rows, _ROW // 8)
        weights = np.arange(1, 2 * rows + 1, 2, dtype=np.uint64)
        total = int((words.sum(axis=1, dtype=np.uint64) * weights).sum(dtype=np.uint64))
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {total}\n".encode())
        digest.update(raw[rows * _ROW :].data)
    return digest.hexdigest()


def split_base(embedding: Any, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Separate what the base transformer provides from what the model must store.

    Args:
        embedding: the transformer embedding with adapters.
        tensors: its state dict.

    Returns:
        A description of the base (name, revision, dtype, fingerprint, and for each omitted key its name in the base),
        and the tensors to store. Of a resized embedding matrix only the added or changed rows are stored.

    Raises:
        CheckpointError: when the base transformer cannot be found to compare with.
    """
    name, revision = embedding.base_model_name, getattr(embedding, "base_revision", None)
    reference = _load_reference(name, revision, None)
    keys: dict[str, str] = {}
    rows: dict[str, int] = {}
    kept: dict[str, torch.Tensor] = {}
    used: dict[str, torch.Tensor] = {}
    names = {key: bare_name(key) for key in tensors}
    known = {_place(tensors[key]): name for key, name in names.items() if name in reference}
    for key, tensor in tensors.items():
        # prompt tuning keeps the word embeddings under a second name
        bare = known.get(_place(tensor), names[key])
        base = reference.get(bare)
        if base is not None:
            base = base.to(tensor.dtype)
            if torch.equal(base, tensor.cpu()) if base.shape == tensor.shape else False:
                keys[key], used[bare] = bare, base
                continue
            if _extends(tensor.cpu(), base):
                keys[key], used[bare], rows[key] = bare, base, len(base)
                kept[key] = tensor[len(base) :].clone()
                continue
        kept[key] = tensor
    description = {
        "name": name,
        "revision": revision,
        "fingerprint": fingerprint(used),
        "checksum": checksum(used),
        "dtypes": {key: str(tensors[key].dtype).removeprefix("torch.") for key in keys},
        "keys": keys,
        "rows": rows,
    }
    if len(set(description["dtypes"].values())) == 1:
        description["dtypes"] = next(iter(description["dtypes"].values()))
    return description, kept


def without_packed_bases(state: Any) -> Any:
    """A model's state without quantised transformers, which are loaded from where they came from."""
    if isinstance(state, dict):
        return {key: without_packed_bases(value) for key, value in state.items() if key != PACKED}
    return [without_packed_bases(item) for item in state] if isinstance(state, list) else state


def _place(tensor: torch.Tensor) -> tuple[int, torch.Size]:
    """Equal for two names of one tensor."""
    return tensor.data_ptr(), tensor.shape


def _extends(tensor: torch.Tensor, base: torch.Tensor) -> bool:
    """Whether a matrix is the base's with rows added below."""
    return (
        tensor.dim() == base.dim() == 2
        and tensor.shape[1:] == base.shape[1:]
        and len(tensor) > len(base)
        and torch.equal(tensor[: len(base)], base)
    )


def add_base(
    tensors: Mapping[str, torch.Tensor],
    bases: Mapping[str, Mapping[str, Any]],
    location: str | Path | torch.nn.Module | None = None,
) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Complete the tensors of a file with those of the base transformer.

    Args:
        tensors: what the file holds.
        bases: what :func:`split_base` recorded, by the prefix of the embedding; empty for a file that holds all.
        location: where the base transformer is, if not under its recorded name; or a model in memory that has it,
            whose tensors are used as they are.

    Returns:
        All tensors, and the names of those that belong to a model in memory too.

    Raises:
        CheckpointError: the base cannot be found, or is not the one that the adapters were trained on.
    """
    found: dict[str, torch.Tensor] = {}
    for prefix, description in bases.items():
        start = f"{prefix}."
        stored = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        found.update({f"{prefix}.{key}": value for key, value in fetch_base(description, stored, location).items()})
    if not isinstance(location, torch.nn.Module):
        return {**tensors, **found}, set()
    if not bases:
        found = _held_already(tensors, location)
    return {**tensors, **found}, set(found)


def _held_already(tensors: Mapping[str, torch.Tensor], model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a full file that a model in memory has, to the bit."""
    references = list(_references_in(model))
    found: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        parts = without_wrappings(key).split(".")
        for own in (reference.get(".".join(parts[n:])) for n in range(len(parts) - 1) for reference in references):
            if own is not None and own.dtype == tensor.dtype and torch.equal(own.cpu(), tensor):
                found[key] = own
                break
    twins = {_place(tensors[key]): own for key, own in found.items()}
    found.update({key: twins[_place(tensor)] for key, tensor in tensors.items() if _place(tensor) in twins})
    if not found:
        raise CheckpointError(
            f"The {type(model).__name__} given as base_model has no weight in common with this model: its transformer "
            "is another, has another dtype, or was trained. Load without base_model=... ."
        )
    return found


def fetch_base(
    description: Mapping[str, Any],
    stored: Mapping[str, torch.Tensor],
    location: str | Path | torch.nn.Module | None = None,
) -> dict[str, torch.Tensor]:
    """Get back the weights that a file saved with ``adapters_only`` left out.

    Args:
        description: what :func:`split_base` recorded.
        stored: the stored tensors of this embedding, by state-dict key; added rows are put below the base's.
        location: where the base transformer is, if not under its recorded name; or a model that has it.

    Raises:
        CheckpointError: the base cannot be found, or is not the one that the adapters were trained on.
    """
    if not isinstance(location, torch.nn.Module):
        where = repr(str(location or description["name"]))
        stored_weights = _read_weights(description, location)
        if stored_weights is not None:
            with contextlib.suppress(CheckpointError):
                return _matched(description, stored, stored_weights, where)
        reference = _load_reference(description["name"], description["revision"], location)
        return _matched(description, stored, reference, where)
    errors = []
    for reference in _references_in(location):
        try:
            return _matched(description, stored, reference, f"the given {type(location).__name__}")
        except CheckpointError as error:
            errors.append(error)
    raise errors[0]


def _matched(
    description: Mapping[str, Any],
    stored: Mapping[str, torch.Tensor],
    reference: Mapping[str, torch.Tensor],
    where: str,
) -> dict[str, torch.Tensor]:
    """The omitted tensors out of a base, under their names in the model."""
    dtypes = description["dtypes"]
    found: dict[str, torch.Tensor] = {}
    used: dict[str, torch.Tensor] = {}
    for key, bare in description["keys"].items():
        if bare not in reference:
            raise CheckpointError(f"The base transformer at {where} has no weight {bare!r}: it is another model.")
        base = reference[bare].to(getattr(torch, dtypes if isinstance(dtypes, str) else dtypes[key]))
        used[bare] = found[key] = base
        rows = description["rows"].get(key)
        if rows is not None:
            used[bare] = base[:rows]
            added = stored[key].to(base.dtype)
            if len(base) == rows or not torch.equal(base[rows:].cpu(), added):
                found[key] = torch.cat([used[bare], added.to(base.device)])
    quick = description.get("checksum")
    if quick is not None and checksum(used) == quick:
        return found
    actual = fingerprint(used)
    if actual != description["fingerprint"]:
        raise CheckpointError(
            f"The base transformer at {where} is not the one these adapters were trained on (fingerprint "
            f"{actual[:12]}…, expected {description['fingerprint'][:12]}…). "
            "Pass the right one: load(path, base_model=...)."
        )
    return found


def _references_in(model: torch.nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """The weights of each transformer in a model, an embedding or a bare transformer, under their bare names.

    Raises:
        CheckpointError: there is none in it.
    """
    embeddings: list[Any] = [module for module in model.modules() if isinstance(module, TransformerEmbeddings)]
    if not embeddings and not hasattr(model, "get_input_embeddings"):
        raise CheckpointError(
            f"The {type(model).__name__} given as base_model has no transformer in it. Pass a model with transformer "
            "embeddings, such embeddings, a transformer, or where one is stored."
        )
    for embedding in embeddings:
        embedding._materialise()
    for module in embeddings or [model]:
        yield {bare_name(key): tensor for key, tensor in module.state_dict().items()}


def _read_weights(
    description: Mapping[str, Any], location: str | Path | torch.nn.Module | None
) -> dict[str, torch.Tensor] | None:
    """The weights of a base transformer straight from its file, without building it; None if that is not so simple.

    Simple is one file of safetensors on this machine, with the names that the transformer has now, or those of a model
    with a head around it.
    """
    from huggingface_hub import try_to_load_from_cache
    from safetensors import SafetensorError, safe_open

    name = str(description["name"] if location is None else location)
    file: Any = Path(name) / WEIGHTS
    try:
        if not file.is_file():
            revision = description["revision"] if location is None else None
            file = None if Path(name).exists() else try_to_load_from_cache(name, WEIGHTS, revision=revision)
        if not isinstance(file, (str, Path)):
            return None
        wanted = set(description["keys"].values())
        with safe_open(file, framework="pt", device="cpu") as weights:
            held: dict[str, str] = {}
            for key in weights.keys():  # noqa: SIM118 - it is no dict
                for bare in (plain_name(key), plain_name(key.partition(".")[2])):
                    if bare in wanted:
                        held.setdefault(bare, key)
            return {bare: weights.get_tensor(held[bare]) for bare in wanted} if held.keys() >= wanted else None
    except (SafetensorError, OSError, ValueError, RuntimeError):
        return None


def _load_reference(name: str, revision: str | None, location: str | Path | None) -> dict[str, torch.Tensor]:
    """The plain transformer's weights."""
    source = str(location) if location is not None else name
    try:
        return published_weights(source, revision if location is None else None)
    except Exception as error:
        raise CheckpointError(
            f"The base transformer {source!r}, which this model's adapters belong to, could not be loaded: {error}\n"
            "Pass a folder or another name that holds it: load(path, base_model=...); or save the full model."
        ) from error
