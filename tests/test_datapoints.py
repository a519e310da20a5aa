"""Embeddings and metadata of data points; pairs, triples, images."""

from __future__ import annotations

import copy

import pytest
import torch

from flair.data.image import Image
from flair.data.pair import DataPair, DataTriple
from flair.data.sentence import Sentence
from flair.data.units import BoundingBox, EntityCandidate, Token


def test_embeddings_are_joined_by_name() -> None:
    sentence = Sentence("a b")
    assert sentence.embedding.shape == (0,)
    sentence.set_embedding("b", torch.tensor([2.0]))
    sentence.set_embedding("a", torch.tensor([1.0]))
    assert sentence.embedding.tolist() == [1.0, 2.0]
    assert sentence.get_embedding(["b"]).tolist() == [2.0]
    assert sentence.get_embedding([]).tolist() == [1.0, 2.0]
    sentence.clear_embeddings(["b"])
    assert sentence._get_all_embedding_names() == {"a"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype: torch.dtype) -> None:
    token = Sentence("a")[0]
    token.set_embedding("x", torch.ones(1, dtype=dtype))
    assert token.embedding.dtype is torch.float32


def test_clearing_reaches_the_parts() -> None:
    sentence = Sentence("a b")
    for part in (sentence, sentence[0], sentence[0:2]):
        part.set_embedding("x", torch.ones(1, requires_grad=True))
    assert sentence._get_dynamic_embedding_names() == {"x"}
    sentence.clear_embeddings()
    assert [len(p.embedding) for p in (sentence, sentence[0], sentence[0:2])] == [0, 0, 0]


def test_metadata() -> None:
    token = Token("a")
    assert not token.has_metadata("bbox")
    token.add_metadata("bbox", BoundingBox("0", 1, 2, 3))
    assert token.get_metadata("bbox").right == 2
    with pytest.raises(KeyError):
        token.get_metadata("nope")


def test_token() -> None:
    token = Token("x")
    assert (repr(token), token.idx) == ('Token[-2]: "x"', -1)
    sentence = Sentence("a b")
    sentence[1].head_id = 1
    assert sentence[1].get_head() is sentence[0]
    assert sentence[0].get_head() is None
    sentence[0].add_label("pos", "N", 0.5)
    assert repr(sentence[0]) == 'Token[0]: "a" → N (0.5000)'


def test_has_label_takes_both_spellings() -> None:
    token = Token("a")
    token.add_label("pos", "N")
    assert token.has_label(typename="pos")
    assert token.has_label(type="pos")
    assert not token.has_label(type="other")


def test_groups() -> None:
    pair = DataPair(Sentence(["a"]), Sentence(["b", "c"]))
    assert str(pair) == "DataPair: 'Sentence[1]: \"a\"' + 'Sentence[2]: \"b c\"'"
    assert (pair.text, len(pair)) == ("a || b c", 3)
    pair.first.set_embedding("x", torch.tensor([1.0]))
    pair.second.set_embedding("x", torch.tensor([2.0]))
    assert pair.embedding.tolist() == [1.0, 2.0]
    pair.add_label("same", "yes")
    assert copy.deepcopy(pair).get_label("same").value == "yes"
    assert pair
    assert not DataPair(Sentence(""), Sentence(""))
    assert Image()
    triple = DataTriple(Sentence("a"), Sentence("b"), Sentence("c"))
    assert triple.text == "a || b||c"


def test_image_and_candidate() -> None:
    assert str(Image(imageURL="u")) == "Image:  u"
    assert str(Image(torch.zeros(1, 2))) == "Image: torch.Size([1, 2]) "
    assert str(EntityCandidate("i", "n", "db", ["a", "b"])) == "EntityLinkingCandidate: db:i - n - a|b"
