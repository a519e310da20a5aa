"""Finding subclasses by name, and importing optional libraries."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Optional, Protocol, TypeVar, Union, overload

T = TypeVar("T")


class StringLike(Protocol):
    """Anything that can be turned into a string."""

    def __str__(self) -> str: ...


def get_non_abstract_subclasses(cls: type[T]) -> Iterable[type[T]]:
    """All subclasses that can be instantiated, at any depth, each class before its own subclasses."""
    for subclass in cls.__subclasses__():
        if not inspect.isabstract(subclass):
            yield subclass
        yield from get_non_abstract_subclasses(subclass)


def get_state_subclass_by_name(cls: type[T], cls_name: Optional[str]) -> type[T]:
    """The subclass of ``cls`` that is called ``cls_name``; ``None`` means ``cls`` itself.

    Raises:
        ValueError: when no imported subclass has that name.
    """
    if cls_name is None or cls_name == cls.__name__:
        return cls
    for subclass in get_non_abstract_subclasses(cls):
        if subclass.__name__ == cls_name:
            return subclass
    known = sorted({subclass.__name__ for subclass in get_non_abstract_subclasses(cls)})
    raise ValueError(f"Class {cls_name!r} is no known subclass of {cls.__name__}. Known: {', '.join(known)}.")


@overload
def lazy_import(group: str, module: str, first_symbol: None) -> ModuleType: ...


@overload
def lazy_import(group: str, module: str, first_symbol: str, *symbols: str) -> list[Any]: ...


def lazy_import(
    group: str, module: str, first_symbol: Optional[str] = None, *symbols: str
) -> Union[list[Any], ModuleType]:
    """Import an optional library, or some names of it.

    Args:
        group: the extra of this package that installs the library.
        module: the module to import.
        first_symbol: a name in the module; without one the module itself is returned.
        symbols: further names.

    Raises:
        ImportError: library or name is missing; naming the extra to install.
    """
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"Could not import {module!r}, which this needs. Install the extra that brings it: "
            f"pip install 'flair[{group}]' ({error})"
        ) from error
    if first_symbol is None:
        return imported
    try:
        return [getattr(imported, symbol) for symbol in (first_symbol, *symbols)]
    except AttributeError as error:
        raise ImportError(
            f"There is no {error.name!r} in the installed {module!r}: its version does not fit. Install the one of the "
            f"extra: pip install --upgrade 'flair[{group}]'"
        ) from error
