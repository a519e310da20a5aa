"""Batches computed without padding: equal to padded ones, in values and gradients, or not packed at all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_transformers import make_model_folder

from flair.data import Sentence
from flair.embeddings import TransformerDocumentEmbeddings, TransformerEmbeddings, TransformerWordEmbeddings
from flair.embeddings._transformer.loading import library_version
from flair.embeddings._transformer.packing import PackedRows, can_pack
from tests.peft.adapted import METHODS, build, config_of, logits, train

TEXTS = [
    "George Washington went to Washington",
    "x",
    "the quick brown fox jumps over the lazy dog " * 4,
    "I love this film",
    "a b c d",
    "the <pad> [PAD] film",
]
FAMILIES = ["bert", "roberta", "electra", "distilbert", "albert", "xlm-roberta"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(kind: str) -> str:
        if kind not in made:
            made[kind] = str(make_model_folder(tmp_path_factory.mktemp(kind), kind, max_length=24))
        return made[kind]

    return folder


def outputs(embedding: TransformerEmbeddings, packing: bool) -> torch.Tensor:
    embedding._packing_works = packing
    sentences = [Sentence(text) for text in TEXTS]
    if embedding.token_embedding:
        return embedding.encode_tokens(sentences)[0]
    return embedding.encode_documents(sentences)


def packed_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of layers with every packed forward pass."""
    calls: list[int] = []
    attend = PackedRows._attend
    monkeypatch.setattr(PackedRows, "_attend", lambda *a, **k: calls.append(1) or attend(*a, **k))
    return calls


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"layers": "all", "layer_mean": False}, {"allow_long_sentences": False}])
def test_equal_to_padded(folders, kind, options, monkeypatch):
    calls = packed_calls(monkeypatch)
    embedding = TransformerWordEmbeddings(folders(kind), **options)
    padded = outputs(embedding, False)
    assert not calls
    torch.testing.assert_close(outputs(embedding, True), padded, atol=1e-5, rtol=1e-5)
    assert embedding._packing_works
    assert bool(calls) == can_pack(embedding.base_model())
    if library_version() >= (5, 0) or kind in ("bert", "roberta", "xlm-roberta"):
        assert calls  # version 4 has no scaled dot-product attention for ELECTRA, no positions for DistilBERT


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_gradients_are_equal(folders, kind, pooling):
    gradients = []
    for packing in (False, True):
        embedding = TransformerDocumentEmbeddings(folders(kind), cls_pooling=pooling, fine_tune=True)
        embedding.train()
        outputs(embedding, packing).square().sum().backward()
        found = {name: p.grad for name, p in embedding.named_parameters() if p.grad is not None}
        gradients.append(found)
    assert set(gradients[0]) == set(gradients[1])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_every_peft_method(folders, method):
    model = build("classifier", folders("bert"), config_of(method))
    train(model)
    packed = logits(model)
    assert model.embeddings._packing_works == (method != "SHADOW")  # whose second encoder attends once more a layer
    model.embeddings._packing_works = False
    torch.testing.assert_close(packed, logits(model), atol=1e-4, rtol=1e-4)


def test_networks_that_are_not_packed(folders, monkeypatch):
    calls = packed_calls(monkeypatch)
    for kind in ("mpnet", "deberta-v2", "modernbert", "t5", "gpt2", "llama"):
        outputs(TransformerWordEmbeddings(folders(kind)), True)
    eager = TransformerWordEmbeddings(folders("bert"), transformers_model_kwargs={"attn_implementation": "eager"})
    assert not can_pack(eager.base_model())
    outputs(eager, True)
    outputs(TransformerWordEmbeddings(folders("bert"), force_max_length=True), True)
    assert not calls


def test_changed_layers_fall_back_to_padding(folders):
    embedding = TransformerWordEmbeddings(folders("bert"))
    network = embedding.base_model()
    network.encoder.layer = network.encoder.layer[:1]
    expected = outputs(embedding, False)
    torch.testing.assert_close(outputs(embedding, True), expected, atol=1e-5, rtol=1e-5)
    assert not embedding._packing_works


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_unpack_inverts_pack(lengths):
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    values = torch.arange(mask.numel()).view_as(mask) * mask
    rows = PackedRows(mask)
    packed = rows.pack(values)
    assert packed.shape == (1, sum(lengths))
    assert torch.equal(rows.unpack(packed.unsqueeze(2).float()).squeeze(2).long(), values)
