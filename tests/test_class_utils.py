"""Finding subclasses and importing optional libraries."""

from __future__ import annotations

import abc
import sys
import types

import pytest

from flair.class_utils import get_non_abstract_subclasses, get_state_subclass_by_name, lazy_import


class Animal(abc.ABC):
    @abc.abstractmethod
    def sound(self) -> str: ...


class Dog(Animal):
    def sound(self) -> str:
        return "woof"


class Puppy(Dog): ...


class Bird(Animal): ...  # still abstract


class Crow(Bird):
    def sound(self) -> str:
        return "caw"


def test_subclasses_that_can_be_made_at_any_depth() -> None:
    assert list(get_non_abstract_subclasses(Animal)) == [Dog, Puppy, Crow]
    assert list(get_non_abstract_subclasses(Puppy)) == []


def test_subclass_by_name() -> None:
    assert get_state_subclass_by_name(Animal, "Crow") is Crow
    assert get_state_subclass_by_name(Animal, "Puppy") is Puppy
    assert get_state_subclass_by_name(Dog, None) is Dog
    assert get_state_subclass_by_name(Dog, "Dog") is Dog
    for name in ("Cat", "Bird"):
        with pytest.raises(ValueError, match=rf"'{name}' .* of Animal.*Crow, Dog, Puppy"):
            get_state_subclass_by_name(Animal, name)


def test_lazy_import_gives_modules_and_symbols() -> None:
    import collections

    assert lazy_import("any", "collections", None) is collections
    assert lazy_import("any", "collections") is collections
    assert lazy_import("any", "collections", "Counter", "deque") == [collections.Counter, collections.deque]
    assert lazy_import("any", "collections.abc", "Mapping")[0] is collections.abc.Mapping


def test_a_missing_library_names_its_extra() -> None:
    with pytest.raises(ImportError, match=r"'no_such_library_here'.*pip install 'flair\[word-embeddings\]'") as caught:
        lazy_import("word-embeddings", "no_such_library_here", "Thing")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_library_without_the_symbol_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "old_library", types.ModuleType("old_library"))
    with pytest.raises(ImportError, match=r"'Thing'.*'old_library'.*flair\[extra\]"):
        lazy_import("extra", "old_library", "Thing")
