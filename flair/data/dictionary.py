"""Two-way mapping between strings (labels, characters) and indices."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Union

from flair import _runtime
from flair.file_utils import cached_path

UNKNOWN = b"<unk>"

_CHARACTER_URL = "https://flair.informatik.hu-berlin.de/resources/characters"
_CHARACTER_FILES = {
    "chars": "common_characters",
    "chars-large": "common_characters_large",
    "chars-xl": "common_characters_xl",
    "chars-lemmatizer": "common_characters_lemmatizer",
}
PRETRAINED = {
    name: f"{_CHARACTER_URL}/{file}" for key, file in _CHARACTER_FILES.items() for name in (key, f"common-{key}")
}
"""Short name -> URL of a character dictionary; cached under ``<cache_root>/datasets``."""


def _encode(item: str) -> bytes:
    return item.encode("utf-8", errors="surrogateescape")


def _decode(item: bytes) -> str:
    return item.decode("utf-8", errors="surrogateescape")


class Dictionary:
    """Gives each item an index, in the order of adding. Items are kept as UTF-8 bytes, as in released files."""

    def __init__(self, add_unk: bool = True) -> None:
        """Make an empty dictionary.

        Args:
            add_unk: reserve index 0 for unknown items (``<unk>``).
        """
        self.item2idx: dict[bytes, int] = {}
        self.idx2item: list[bytes] = []
        self.add_unk = add_unk
        self.multi_label = False
        self.span_labels = False
        if add_unk:
            self.add_item("<unk>")

    def remove_item(self, item: str) -> None:
        """Remove an item; the indices of the others stay."""
        key = _encode(item)
        if key in self.item2idx:
            self.idx2item.remove(key)
            del self.item2idx[key]

    def add_item(self, item: str) -> int:
        """Add an item unless it is there; returns its index."""
        key = _encode(item)
        if key not in self.item2idx:
            self.item2idx[key] = len(self.idx2item)
            self.idx2item.append(key)
        return self.item2idx[key]

    def get_idx_for_item(self, item: str) -> int:
        """The index of an item; 0 for an unknown one.

        Raises:
            IndexError: the item is unknown and the dictionary has no ``<unk>``.
        """
        index = self.item2idx.get(_encode(item))
        if index is not None:
            return index
        if self.add_unk:
            return 0
        raise IndexError(
            f"The string {item!r} is not in this dictionary, which has: {', '.join(self.get_items()[:50])}. "
            "Create it with add_unk=True to map unknown items to <unk>."
        )

    def get_idx_for_items(self, items: list[str]) -> list[int]:
        """The indices of several items; errors as in :meth:`get_idx_for_item`."""
        return [self.get_idx_for_item(item) for item in items]

    def get_items(self) -> list[str]:
        """All items, by index."""
        return [_decode(item) for item in self.idx2item]

    def __len__(self) -> int:
        return len(self.idx2item)

    def __iter__(self) -> Iterator[str]:
        return iter(self.get_items())

    def get_item_for_index(self, idx: int) -> str:
        """The item at an index (IndexError when out of range)."""
        return _decode(self.idx2item[idx])

    def has_item(self, item: str) -> bool:
        return _encode(item) in self.item2idx

    def set_start_stop_tags(self) -> None:
        """Add the tags that open and close a sequence in a CRF."""
        self.add_item("<START>")
        self.add_item("<STOP>")

    def is_span_prediction_problem(self) -> bool:
        """Whether the labels are those of spans, declared or by BIO(ES) prefixes."""
        return self.span_labels or any(item[:2] in ("B-", "S-", "I-") for item in self.get_items())

    def start_stop_tags_are_set(self) -> bool:
        return {b"<START>", b"<STOP>"} <= self.item2idx.keys()

    def save(self, savefile: PathLike | str) -> None:
        """Write items and indices as a pickle of plain containers."""
        Path(savefile).write_bytes(pickle.dumps({"idx2item": self.idx2item, "item2idx": self.item2idx}))

    def to_dict(self) -> dict[str, Any]:
        """All there is to know, as JSON-able data."""
        data: dict[str, Any] = {
            "items": self.get_items(),
            "add_unk": self.add_unk,
            "multi_label": self.multi_label,
            "span_labels": self.span_labels,
        }
        if self.item2idx != {item: index for index, item in enumerate(self.idx2item)}:
            data["indices"] = {_decode(item): index for item, index in self.item2idx.items()}
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Dictionary:
        """Rebuild from :meth:`to_dict`."""
        dictionary = cls(add_unk=False)
        dictionary.idx2item = [_encode(item) for item in data["items"]]
        if "indices" in data:  # items were removed, or stand there twice
            dictionary.item2idx = {_encode(item): int(index) for item, index in data["indices"].items()}
        else:
            dictionary.item2idx = {item: index for index, item in enumerate(dictionary.idx2item)}
        dictionary.add_unk = bool(data["add_unk"])
        dictionary.multi_label = bool(data.get("multi_label", False))
        dictionary.span_labels = bool(data.get("span_labels", False))
        return dictionary

    def __setstate__(self, d: dict[str, Any]) -> None:
        """Accept instances that older versions pickled."""
        self.__dict__ = {"multi_label": False, "span_labels": False, **d}
        if "add_unk" not in d:
            self.add_unk = UNKNOWN in self.idx2item
        self.__dict__.pop("item2idx_not_encoded", None)  # a cache of 0.15.1

    @classmethod
    def load_from_file(cls, filename: Union[str, Path]) -> Dictionary:
        """Read what :meth:`save` wrote. Only plain containers are accepted.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is no dictionary.
        """
        with open(filename, "rb") as file:
            try:
                mappings = _PlainUnpickler(file, encoding="latin1").load()
                idx2item, item2idx = mappings["idx2item"], mappings["item2idx"]
            except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
                raise ValueError(f"{filename} is not a dictionary written by Dictionary.save(): {error}") from error
        as_bytes = [item if isinstance(item, bytes) else item.encode("latin1") for item in idx2item]
        dictionary = cls(add_unk=False)
        dictionary.idx2item = as_bytes
        dictionary.item2idx = {
            item if isinstance(item, bytes) else item.encode("latin1"): index for item, index in item2idx.items()
        }
        dictionary.add_unk = UNKNOWN in dictionary.idx2item
        return dictionary

    @classmethod
    def load(cls, name: Union[str, Path]) -> Dictionary:
        """Load a dictionary by short name ("chars", "common-chars-large", ...) or path.

        Raises:
            FileNotFoundError: neither.
        """
        url = PRETRAINED.get(str(name).lower())
        if url is not None:
            return cls.load_from_file(cached_path(url, cache_dir="datasets"))
        if not Path(name).exists():
            known = ", ".join(sorted(PRETRAINED))
            raise FileNotFoundError(f"No dictionary file at {str(name)!r}. Short names are: {known}.")
        return cls.load_from_file(name)

    def __eq__(self, o: object) -> bool:
        if not isinstance(o, Dictionary):
            return NotImplemented
        return self.item2idx == o.item2idx and self.idx2item == o.idx2item and self.add_unk == o.add_unk

    __hash__ = object.__hash__

    def __str__(self) -> str:
        return f"Dictionary with {len(self)} tags: {', '.join(self.get_items()[:50])}"


def _bytes_of_text(text: str, encoding: str) -> bytes:
    """What protocols 0 to 2 write in place of bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"the file encodes {type(text).__name__} as {encoding!r}, and bytes are latin1")
    return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    """Reads containers, numbers, strings and bytes; refuses every class."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):
            return _bytes_of_text
        _runtime.logger.error(f"Refused to load {module_name}.{global_name} from a dictionary file.")
        raise pickle.UnpicklingError(f"the file refers to {module_name}.{global_name}, and a dictionary has no objects")


Dictionary.__module__ = "flair.data"
