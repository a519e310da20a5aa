"""Dictionary: indices, files, and data of released versions."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair.data.dictionary import Dictionary


def filled(*items: str, add_unk: bool = True) -> Dictionary:
    dictionary = Dictionary(add_unk=add_unk)
    for item in items:
        dictionary.add_item(item)
    return dictionary


def test_unknown_items() -> None:
    dictionary = filled("a", "b")
    assert dictionary.get_items() == ["<unk>", "a", "b"]
    assert dictionary.get_idx_for_items(["b", "?", "a"]) == [2, 0, 1]
    strict = filled("a", add_unk=False)
    with pytest.raises(IndexError):
        strict.get_idx_for_item("?")
    with pytest.raises(IndexError):
        strict.get_idx_for_items(["a", "?"])
    with pytest.raises(IndexError):
        strict.get_item_for_index(1)


def test_str() -> None:
    assert str(filled("a", "b")) == "Dictionary with 3 tags: <unk>, a, b"


def test_equality() -> None:
    assert filled("a") == filled("a")
    assert filled("a") != filled("b")
    assert filled("a") != filled("<unk>", "a", add_unk=False)


def test_span_problem() -> None:
    assert filled("B-PER").is_span_prediction_problem()
    assert not filled("PER").is_span_prediction_problem()
    declared = filled("PER")
    declared.span_labels = True
    assert declared.is_span_prediction_problem()


def test_start_and_stop_tags() -> None:
    dictionary = filled("a")
    assert not dictionary.start_stop_tags_are_set()
    dictionary.set_start_stop_tags()
    assert dictionary.start_stop_tags_are_set()
    assert dictionary.get_items()[-2:] == ["<START>", "<STOP>"]


@given(st.lists(st.text(max_size=5)), st.booleans(), st.booleans())
def test_dict_and_back(items: list[str], add_unk: bool, span_labels: bool) -> None:
    dictionary = filled(*(i for i in items if i.isprintable()), add_unk=add_unk)
    dictionary.span_labels = span_labels
    again = Dictionary.from_dict(json.loads(json.dumps(dictionary.to_dict())))
    assert again == dictionary
    assert (again.span_labels, again.multi_label) == (span_labels, False)


@given(st.lists(st.binary(min_size=1, max_size=4), unique=True))
def test_bytes_that_are_no_utf8_survive(items: list[bytes]) -> None:
    dictionary = Dictionary(add_unk=False)
    dictionary.idx2item = list(items)
    dictionary.item2idx = {item: index for index, item in enumerate(items)}
    assert Dictionary.from_dict(json.loads(json.dumps(dictionary.to_dict()))) == dictionary


def test_removed_items_survive_as_data() -> None:
    dictionary = filled("a", "b")
    dictionary.remove_item("a")
    assert dictionary.get_idx_for_item("b") == 2  # not re-indexed
    assert Dictionary.from_dict(dictionary.to_dict()) == dictionary


def test_file(tmp_path) -> None:
    dictionary = filled("ä", "b")
    dictionary.save(tmp_path / "d.pkl")
    assert Dictionary.load_from_file(tmp_path / "d.pkl") == dictionary
    assert Dictionary.load(str(tmp_path / "d.pkl")) == dictionary
    with pytest.raises(FileNotFoundError):
        Dictionary.load(str(tmp_path / "missing"))


def test_file_with_objects_is_refused(tmp_path) -> None:
    path = tmp_path / "d.pkl"
    path.write_bytes(pickle.dumps({"idx2item": [], "item2idx": {}, "x": print}))
    with pytest.raises(ValueError, match="print"):
        Dictionary.load_from_file(path)


def test_old_state() -> None:
    old = Dictionary.__new__(Dictionary)
    old.__setstate__({"item2idx": {b"<unk>": 0, b"a": 1}, "idx2item": [b"<unk>", b"a"]})
    assert old.add_unk
    assert not old.span_labels
    assert old.get_idx_for_item("a") == 1
    assert pickle.loads(pickle.dumps(old)) == old
    assert Dictionary.__module__ == "flair.data"


def test_a_path_object_names_a_file(tmp_path: Path) -> None:
    filled("a").save(tmp_path / "d.pkl")
    assert Dictionary.load(tmp_path / "d.pkl") == filled("a")
    with pytest.raises(FileNotFoundError, match=r"'.*none\.pkl'"):
        Dictionary.load(tmp_path / "none.pkl")
