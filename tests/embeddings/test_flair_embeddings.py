"""Contextual string embeddings: which states are read, and what is kept."""

from __future__ import annotations

import pytest
import torch

from flair.data import Dictionary, Sentence
from flair.embeddings import FlairEmbeddings, PooledFlairEmbeddings
from flair.embeddings.base import load_embeddings
from flair.embeddings.token import replace_with_language_code
from flair.models import LanguageModel


def language_model(forward: bool = True, **options) -> LanguageModel:
    torch.manual_seed(0)
    dictionary = Dictionary()
    for character in "abcdefghij .,\n":
        dictionary.add_item(character)
    return LanguageModel(dictionary, forward, 6, 1, embedding_size=4, **options)


@torch.no_grad()
def state(lm: LanguageModel, read: str) -> torch.Tensor:
    """The state after reading a text from the beginning."""
    return lm.eval()(torch.tensor(lm.indices(read)).view(-1, 1), lm.init_hidden(1), decode=False)[0][-1, 0]


@pytest.mark.parametrize(
    ("options", "forward", "reads"),
    [
        ({}, True, ["\nabc ", "\nabc , ", "\nabc , Dea "]),
        ({"with_whitespace": False}, True, ["\nabc", "\nabc ,", "\nabc , Dea"]),
        ({"tokenized_lm": False}, True, ["\nabc,", "\nabc, ", "\nabc,  Dea "]),
        ({"is_lower": True}, True, ["\nabc ", "\nabc , ", "\nabc , dea "]),
        ({}, False, ["\naeD , cba ", "\naeD , ", "\naeD "]),
        ({"with_whitespace": False}, False, ["\naeD , cba", "\naeD ,", "\naeD"]),
        ({"tokenized_lm": False}, False, ["\naeD  ,cba ", "\naeD  ,c", "\naeD "]),
    ],
)
def test_reads_at_word_borders(options, forward, reads):
    lm = language_model(forward)
    embeddings = FlairEmbeddings(lm, **options)
    sentence = Sentence("abc,  Dea")
    assert [token.text for token in sentence] == ["abc", ",", "Dea"]
    embeddings.embed(sentence)
    for token, read in zip(sentence, reads, strict=True):
        assert torch.allclose(token.embedding, state(lm, read), atol=1e-6), read


def test_tensor_road_equals_embed_and_keeps_order():
    embeddings = FlairEmbeddings(language_model(), chars_per_chunk=4)
    texts = ["a bad cab , a dad", "b", "abc . def"]
    padded, lengths = embeddings.encode_tokens([Sentence(text) for text in texts])
    assert padded.shape == (3, 6, 6)
    assert lengths.tolist() == [6, 1, 3]
    for row, text in enumerate(texts):
        sentence = Sentence(text)
        embeddings.embed(sentence)
        vectors = torch.stack([token.embedding for token in sentence])
        assert torch.allclose(padded[row, : len(sentence)], vectors, atol=1e-6)
        assert padded[row, len(sentence) :].abs().sum() == 0


def test_stored_vectors_are_used_instead_of_computing_again():
    embeddings = FlairEmbeddings(language_model())
    sentence = Sentence("abc def")
    for token in sentence:
        token.set_embedding(embeddings.name, torch.full((6,), 7.0))
    assert (embeddings.encode_tokens([sentence])[0] == 7).all()


def test_modes_and_gradients():
    frozen = FlairEmbeddings(language_model())
    assert frozen.static_embeddings
    assert not frozen.train().lm.training
    assert not frozen.encode_tokens([Sentence("abc")])[0].requires_grad
    tuned = FlairEmbeddings(language_model(), fine_tune=True)
    assert not tuned.static_embeddings
    assert tuned.train().lm.training
    tuned.encode_tokens([Sentence("abc def")])[0].sum().backward()
    assert tuned.lm.encoder.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("options", [{}, {"fine_tune": True, "is_lower": True, "with_whitespace": False}])
@pytest.mark.parametrize("lm_options", [{}, {"recurrent_type": "GRU", "nout": 3}])
def test_round_trip(options, lm_options):
    embeddings = FlairEmbeddings(language_model(**lm_options), **options)
    back = load_embeddings(embeddings.save_embeddings())
    assert back.name == embeddings.name
    assert back.embedding_length == embeddings.embedding_length
    one, two = (made.encode_tokens([Sentence("Abc de, fg")])[0] for made in (embeddings, back))
    assert torch.equal(one, two)


def test_names():
    assert replace_with_language_code("german-forward") == "de-forward"
    with pytest.raises(ValueError, match="no-such-model"):
        FlairEmbeddings("no-such-model")


def test_bfloat16():
    embeddings = FlairEmbeddings(language_model()).to(torch.bfloat16)
    assert embeddings.encode_tokens([Sentence("abc de")])[0].dtype == torch.bfloat16


@pytest.mark.parametrize("pooling", ["min", "max", "mean", "fade"])
def test_pooling(pooling):
    base = FlairEmbeddings(language_model())
    pooled = PooledFlairEmbeddings(base, pooling=pooling)
    sentence = Sentence("abc d abc")
    pooled.embed(sentence)
    first, second = (sentence[i].get_embedding([base.name]) for i in (0, 2))
    expected = {
        "min": torch.minimum(first, second),
        "max": torch.maximum(first, second),
        "mean": (first + second) / 2,
        "fade": (first + second) / 2,
    }[pooling]
    for index in (0, 2):
        assert torch.allclose(sentence[index].get_embedding([pooled.name]), expected)
    assert pooled.word_count == {"abc": 2, "d": 1}
    assert pooled.embedding_length == 12
    assert pooled.train().word_count == {}


def test_pooling_capitalized_only():
    base = FlairEmbeddings(language_model())
    pooled = PooledFlairEmbeddings(base, only_capitalized=True)
    sentence = Sentence("abc Abc abc")
    vectors, lengths = pooled.encode_tokens([sentence])
    assert vectors.shape == (1, 3, 12)
    assert lengths.tolist() == [3]
    assert pooled.word_count == {"Abc": 1}
    assert torch.equal(vectors[..., :6], vectors[..., 6:])
    back = load_embeddings(pooled.save_embeddings())
    assert back.only_capitalized
    assert back.name == pooled.name
