"""From what a user passes to ``load`` to a decoded state and the class to build from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flair import _runtime
from flair.checkpoint import CheckpointError, load_state
from flair.checkpoint.migrations import recognised_class
from flair.class_utils import get_non_abstract_subclasses


def is_abstract(cls: type) -> bool:
    return bool(getattr(cls, "__abstractmethods__", None))


def read_state(cls: Any, model_path: str | Path | dict[str, Any], *, allow_pickle: bool = False) -> dict[str, Any]:
    """The state that a path, a pretrained name, or a dict (decoded already, or as ``torch.load`` gives it) stands for.

    Raises:
        FileNotFoundError: on a concrete class, when there is neither a file nor a pretrained model of that name.
        ValueError: the same on an abstract class.
        CheckpointError: for a dict that is no model state.
    """
    if isinstance(model_path, dict):
        if "state_dict" not in model_path and "model_states" not in model_path:
            raise CheckpointError(
                f"{cls.__name__}.load was given a dict without 'state_dict' (keys: {', '.join(map(str, model_path))}). "
                "Pass a path, a pretrained name, or what a model's _get_state_dict() returned."
            )
        return load_state(model_path)
    identifier = str(model_path)
    path = _resolve_by_any_class(cls, identifier) if is_abstract(cls) else cls._fetch_model(identifier)
    try:
        state = load_state(path, allow_pickle=allow_pickle)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"No model file or folder at {path!r}, and no pretrained model of that name."
        ) from error
    state.setdefault("origin", f"File: {path}")
    return state


def _resolve_by_any_class(cls: Any, identifier: str) -> str:
    """For an abstract class: the local path of the first model class that knows this pretrained name."""
    if Path(identifier).exists():
        return identifier
    for candidate in _runtime.known_model_classes():
        if not issubclass(candidate, cls) or is_abstract(candidate):
            continue
        try:
            resolved = candidate._fetch_model(identifier)
        except Exception as error:
            _runtime.logger.debug(f"{candidate.__name__} cannot fetch {identifier!r}: {error}")
            continue  # a name that one class cannot fetch may belong to another
        if resolved != identifier:
            return resolved
    raise ValueError(
        f"Could not find any model with name '{identifier}': it is no local path and no pretrained name. "
        "See https://huggingface.co/models?filter=flair for published models."
    )


def class_of(cls: type, state: dict[str, Any]) -> Any:
    """The class to build from a state: the one it names where that is known, else the one asked.

    Raises:
        CheckpointError: the state holds a model of another family, or names none that is known.
    """
    name = state.get("__cls__")
    if name is None and is_abstract(cls):
        name = recognised_class(state, guess=True)
    if name is None and is_abstract(cls):
        raise CheckpointError(
            f"The file does not say which model class it holds. Load it with that class instead of "
            f"{cls.__name__}, for example TextClassifier.load(path)."
        )
    if name is None or name == cls.__name__:
        return cls
    found = _runtime.find_model_class(name) or _subclass_named(name, cls)
    if found is None:
        if is_abstract(cls):
            raise CheckpointError(f"The file holds a model of class {name!r}, which is not known. Import it first.")
        return cls  # a subclass that only exists in the script that saved it
    if issubclass(found, cls):
        return found if is_abstract(cls) else cls
    if issubclass(cls, found):
        return cls
    raise CheckpointError(
        f"The file holds a {name}, not a {cls.__name__}. Load it with {name}.load(...) or Classifier.load(...)."
    )


def _subclass_named(name: str, cls: type) -> type | None:
    """A user's own class; only classes whose modules were imported are found."""
    base: Any = next(ancestor for ancestor in reversed(cls.__mro__) if ancestor.__name__ == "Model")
    return next((found for found in get_non_abstract_subclasses(base) if found.__name__ == name), None)


@contextmanager
def file_is_to_blame(state: dict[str, Any], *, arguments_given: bool = False) -> Iterator[None]:
    """While a model is built from a file: whatever its contents make go wrong is reported as a damaged file.

    Args:
        state: what the file holds.
        arguments_given: the caller passed options that may be to blame as well. Errors about them stay as they are.

    Raises:
        CheckpointError: in place of any other error but missing packages, missing files and a full GPU.
    """
    try:
        yield
    except (CheckpointError, ImportError, FileNotFoundError, torch.cuda.OutOfMemoryError):
        raise
    except BaseException as error:
        known = isinstance(error, Exception)
        if not known and type(error).__name__ != "PanicException":  # what libraries written in Rust raise
            raise
        if "origin" not in state or (arguments_given and isinstance(error, (ValueError, TypeError, OSError))):
            raise  # the caller's own state or options
        raise CheckpointError(
            f"The file describes a model that cannot be built here: {type(error).__name__}: {error}\n"
            f"{state.get('origin', '')}"
        ) from error


def announce(model_class: type, state: dict[str, Any]) -> None:
    """The lines that tools read from the log when a model is loaded."""
    card = state.get("model_card") or {}
    if not isinstance(card, dict):
        raise CheckpointError(f"The model card in the file is a {type(card).__name__} and no dict.")
    line = "-" * 50
    for text in (
        line,
        f"- Loading {model_class.__name__}",
        line,
        f"- Model license: {card.get('license_info', 'No license information available')}",
        line,
    ):
        _runtime.logger.info(text)
