"""Splitting a transformer with adapters into the published base, which a file can refer to, and what is its own.

A weight belongs to the base if it is equal to the bit to the base's: no list of frozen modules decides that, so layers
that were unfrozen, embedding rows that were added and methods that change the base weights (PiSSA, OLoRA ...) are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flair.checkpoint import CheckpointError
from flair.embeddings._transformer.loading import load_config, load_model


def bare_name(key: str) -> str:
    """The name a weight has in the plain transformer: without the wrappers of peft and of the embedding."""
    name = key.removeprefix("model.")
    for prefix in ("base_model.model.", "base_model."):
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return name.replace(".base_layer.", ".").replace(".original_module.", ".")


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, independent of the order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
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
    for key, tensor in tensors.items():
        bare = bare_name(key)
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
        "dtypes": {key: str(tensors[key].dtype).removeprefix("torch.") for key in keys},
        "keys": keys,
        "rows": rows,
    }
    if len(set(description["dtypes"].values())) == 1:
        description["dtypes"] = next(iter(description["dtypes"].values()))
    return description, kept


def _extends(tensor: torch.Tensor, base: torch.Tensor) -> bool:
    """Whether a matrix is the base's with rows added below."""
    return (
        tensor.dim() == base.dim() == 2
        and tensor.shape[1:] == base.shape[1:]
        and len(tensor) > len(base)
        and torch.equal(tensor[: len(base)], base)
    )


def fetch_base(
    description: Mapping[str, Any], stored: Mapping[str, torch.Tensor], location: str | Path | None = None
) -> dict[str, torch.Tensor]:
    """Get back the weights that a file saved with ``adapters_only`` left out.

    Args:
        description: what :func:`split_base` recorded.
        stored: the stored tensors of this embedding, by state-dict key; added rows are put below the base's.
        location: where the base transformer is, if not under its recorded name.

    Raises:
        CheckpointError: the base cannot be found, or is not the one that the adapters were trained on.
    """
    reference = _load_reference(description["name"], description["revision"], location)
    dtypes = description["dtypes"]
    found: dict[str, torch.Tensor] = {}
    used: dict[str, torch.Tensor] = {}
    where = location or description["name"]
    for key, bare in description["keys"].items():
        if bare not in reference:
            raise CheckpointError(
                f"The base transformer at {str(where)!r} has no weight {bare!r}: it is another model."
            )
        kind = dtypes if isinstance(dtypes, str) else dtypes[key]
        used[bare] = found[key] = reference[bare].to(getattr(torch, kind))
    actual = fingerprint(used)
    if actual != description["fingerprint"]:
        raise CheckpointError(
            f"The base transformer at {str(where)!r} is not the one these adapters were trained on (fingerprint "
            f"{actual[:12]}…, expected {description['fingerprint'][:12]}…). "
            "Pass the right one: load(path, base_model=...)."
        )
    for key in description["rows"]:
        found[key] = torch.cat([found[key], stored[key].to(found[key].dtype)])
    return found


def _load_reference(name: str, revision: str | None, location: str | Path | None) -> dict[str, torch.Tensor]:
    """The plain transformer's weights."""
    source = str(location) if location is not None else name
    try:
        options = {"revision": revision} if revision and location is None else {}
        model = load_model(source, load_config(source, **options), "auto", **options)
    except Exception as error:
        raise CheckpointError(
            f"The base transformer {source!r}, which this model's adapters belong to, could not be loaded: {error}\n"
            "Pass a folder or another name that holds it: load(path, base_model=...); or save the full model."
        ) from error
    return {key: value.detach() for key, value in model.state_dict().items()}
