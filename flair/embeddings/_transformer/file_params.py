"""What a file may say about a transformer: data, and nothing that makes the transformers library run code."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from flair.checkpoint import CheckpointError, UnsafeCheckpointError

NO_CODE = {"trust_remote_code": False}
"""For every ``from_pretrained`` whose argument a file names: refuse code beside the model, and do not ask the user."""

_LOADER_OPTIONS = ("transformers_config_kwargs", "transformers_model_kwargs", "transformers_tokenizer_kwargs")
_KERNELS = ("attn_implementation", "experts_implementation")


def checked_params(params: Mapping[str, Any], classes: Iterable[type], further: Iterable[str] = ()) -> dict[str, Any]:
    """Constructor arguments from a file, without those that reach into the transformers library.

    Args:
        params: what the file holds.
        classes: the constructors' classes.
        further: other keys that are fine.

    Raises:
        CheckpointError: an argument that the constructors do not have.
    """
    known = {name for cls in classes for name in inspect.signature(cls.__init__).parameters} | set(further)  # type: ignore[misc]
    unknown = sorted(str(key) for key in params if key not in known or key in ("self", "kwargs"))
    if unknown:
        raise CheckpointError(f"The transformer in the file has unknown settings: {', '.join(unknown)}.")
    return {**params, **{name: dict(NO_CODE) for name in _LOADER_OPTIONS}}


def checked_config(values: Any) -> dict[str, Any]:
    """A transformer's configuration from a file.

    Raises:
        CheckpointError: it is no dict.
        UnsafeCheckpointError: it names a repository to take computing kernels, which are code, from.
    """
    if not isinstance(values, dict):
        raise CheckpointError(f"The transformer's configuration in the file is a {type(values).__name__} and no dict.")
    todo: list[Any] = [values]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo.extend(item.values())
            for key, value in item.items():
                if any(name in str(key) for name in _KERNELS) and "/" in str(value):
                    raise UnsafeCheckpointError(
                        f"The transformer in the file computes with code of the repository {value!r} ({key}), so "
                        f"nothing was loaded."
                    )
        elif isinstance(item, list):
            todo.extend(item)
    return values
