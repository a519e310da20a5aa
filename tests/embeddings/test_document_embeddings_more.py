"""Document embeddings by language models, tf-idf and sentence-transformers."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from flair.data import Dictionary, Sentence
from flair.embeddings import (
    DocumentCNNEmbeddings,
    DocumentLMEmbeddings,
    DocumentRNNEmbeddings,
    DocumentTFIDFEmbeddings,
    FlairEmbeddings,
    SentenceTransformerDocumentEmbeddings,
)
from flair.embeddings.base import load_embeddings
from flair.models import LanguageModel, TextClassifier

TEXTS = ["the cat sat on the mat .", "a dog can't sit", "cats"]


class Library(torch.nn.Module):
    """Stands for sentence_transformers.SentenceTransformer."""

    def __init__(self, name, cache_folder=None):
        super().__init__()
        self.layer = torch.nn.Linear(1, 3)

    def get_sentence_embedding_dimension(self):
        return 3

    @torch.inference_mode()
    def encode(self, texts, batch_size, convert_to_tensor, show_progress_bar):
        return self.layer(torch.tensor([[float(len(text))] for text in texts]))


@pytest.fixture
def library(monkeypatch):
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = Library
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)


def language_models():
    characters = Dictionary()
    for character in "abcdefghijklmnopqrstuvwxyz .":
        characters.add_item(character)
    return [FlairEmbeddings(LanguageModel(characters, forward, 5, 1, embedding_size=4)) for forward in (True, False)]


def make(kind):
    if kind == "lm":
        return DocumentLMEmbeddings(language_models())
    if kind == "tfidf":
        return DocumentTFIDFEmbeddings([Sentence(text) for text in TEXTS])
    return SentenceTransformerDocumentEmbeddings("some/model", batch_size=2)


@pytest.mark.parametrize("kind", ["lm", "tfidf", "library"])
@pytest.mark.parametrize("form", ["model.pt", "model.safetensors", "model"])
def test_classifiers_save_load_and_learn(kind, form, tmp_path, library):
    labels = Dictionary(add_unk=False)
    labels.add_item("a")
    labels.add_item("b")
    classifier = TextClassifier(make(kind), label_type="c", label_dictionary=labels)
    loss, _ = classifier.forward_loss([Sentence(text).add_label("c", "a") for text in TEXTS])
    loss.backward()
    assert classifier.decoder.weight.grad.abs().sum() > 0
    classifier.eval()
    classifier.save(tmp_path / form)
    twin = TextClassifier.load(tmp_path / form)
    texts = [Sentence(text) for text in TEXTS]
    assert torch.equal(twin.embeddings.encode_documents(texts), classifier.embeddings.encode_documents(texts))


@pytest.mark.parametrize("kind", ["lm", "tfidf", "library"])
def test_both_roads_agree_and_params_round_trip(kind, library):
    embedding = make(kind)
    batch = embedding.encode_documents([Sentence(text) for text in TEXTS])
    assert batch.shape == (3, embedding.embedding_length)
    sentences = embedding.embed([Sentence(text) for text in TEXTS])
    torch.testing.assert_close(torch.stack([sentence.embedding for sentence in sentences]), batch)
    twin = load_embeddings(embedding.save_embeddings())
    assert twin.name == embedding.name
    assert torch.equal(twin.encode_documents([Sentence(text) for text in TEXTS]), batch)


def test_language_models_end_at_the_edges():
    embedding = make("lm")
    (sentence,) = embedding.embed(Sentence(TEXTS[0]))
    forward, backward = embedding.get_names()
    assert torch.equal(sentence.get_embedding([forward]), sentence[-1].get_embedding([forward]))
    assert torch.equal(sentence.get_embedding([backward]), sentence[0].get_embedding([backward]))
    with pytest.raises(ValueError, match="without tokens"):
        embedding.embed(Sentence(""))
    with pytest.raises(ValueError, match="two embeddings of the name"):
        DocumentLMEmbeddings([embedding.embeddings[0]] * 2)


def test_tfidf_counts_words_of_the_text():
    embedding = make("tfidf")
    assert "can" in embedding.vectorizer.vocabulary_
    assert embedding.encode_documents([Sentence("unseen")]).abs().sum() == 0
    with pytest.raises(ValueError, match="either sentences"):
        DocumentTFIDFEmbeddings([Sentence("a")], vectorizer=embedding.vectorizer)
    with pytest.raises(ValueError, match="got none"):
        DocumentTFIDFEmbeddings([])


def test_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match="sentence-transformers"):
        SentenceTransformerDocumentEmbeddings()


BEFORE = ["dropout", "locked_dropout", "word_dropout", "word_reprojection_map"]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            lambda **rates: DocumentRNNEmbeddings(language_models(), hidden_size=4, **rates),
            ["dropout", "locked_dropout"],
        ),
        (lambda **rates: DocumentCNNEmbeddings(language_models(), kernels=((3, 2),), **rates), ["dropout"]),
    ],
    ids=["rnn", "cnn"],
)
def test_dropout_applies_to_words_and_to_the_result(made, expected):
    """As in released versions; a CNN's result has no time axis that a mask could be locked along."""
    model = made(dropout=0.2, word_dropout=0.3, locked_dropout=0.4).train()
    applied = []
    for name, layer in model.named_children():
        if name in BEFORE:
            layer.register_forward_hook(lambda *_, name=name: applied.append(name))
    model.embed([Sentence(text) for text in TEXTS])
    assert applied == BEFORE + expected
