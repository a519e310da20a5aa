"""Embeddings of early versions, and files of word vectors that are not trusted."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from flair.checkpoint import UnsafeCheckpointError
from flair.data import Sentence
from flair.embeddings import FastTextEmbeddings, WordEmbeddings
from flair.embeddings.legacy import CharLMEmbeddings, DocumentLSTMEmbeddings, DocumentMeanEmbeddings, ELMoEmbeddings

WORDS = ["the", "cat", "sat"]


def words():
    made = WordEmbeddings(None, vocab={w: i for i, w in enumerate(WORDS)}, embedding_length=3, name="w")
    made.embedding.weight.data[:-1] = torch.eye(3)
    return made


def test_mean():
    embedding = DocumentMeanEmbeddings([words()])
    (sentence,) = embedding.embed(Sentence("the cat"))
    assert sentence.embedding.tolist() == [0.5, 0.5, 0.0]
    with pytest.raises(NotImplementedError):
        embedding.save_embeddings()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_does_not_depend_on_the_batch(bidirectional):
    embedding = DocumentLSTMEmbeddings([words()], hidden_size=4, bidirectional=bidirectional)
    alone = embedding.encode_documents([Sentence("the cat")])
    together = embedding.encode_documents([Sentence("the cat sat the cat"), Sentence("the cat")])
    assert alone.shape == (1, 16 if bidirectional else 4)
    torch.testing.assert_close(alone[0], together[1])


def test_what_cannot_work_says_what_does():
    with pytest.raises(NotImplementedError, match="FlairEmbeddings"):
        CharLMEmbeddings("news-forward")
    with pytest.raises(ImportError, match="TransformerWordEmbeddings"):
        ELMoEmbeddings()


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_pickles_of_vectors_run_nothing(tmp_path, capsys):
    (tmp_path / "evil.gensim").write_bytes(pickle.dumps(Evil()))
    for load in (WordEmbeddings, FastTextEmbeddings):
        with pytest.raises(UnsafeCheckpointError, match="print"):
            load(str(tmp_path / "evil.gensim"))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("separately", [None, ["vectors"]])
def test_vectors_equal_gensims_own_reading(tmp_path, separately):
    keyed = pytest.importorskip("gensim.models").KeyedVectors(3)
    keyed.add_vectors(WORDS, np.random.RandomState(0).randn(3, 3).astype(np.float32))
    keyed.save(str(tmp_path / "v.gensim"), separately=separately)
    embedding = WordEmbeddings(str(tmp_path / "v.gensim"))
    assert list(embedding.vocab) == keyed.index_to_key
    assert torch.equal(embedding.embedding.weight[:-1], torch.from_numpy(keyed.vectors))
    if separately:
        array = tmp_path / "v.gensim.vectors.npy"
        array.write_bytes(array.read_bytes()[:-4])
        with pytest.raises(ValueError, match="damaged or cut off"):
            WordEmbeddings(str(tmp_path / "v.gensim"))
        np.save(array, np.array([[Evil()]], dtype=object), allow_pickle=True)
        with pytest.raises(UnsafeCheckpointError):
            WordEmbeddings(str(tmp_path / "v.gensim"))
        array.unlink()
        with pytest.raises(ValueError, match="not beside it"):
            WordEmbeddings(str(tmp_path / "v.gensim"))


def test_layout_of_gensim_3(tmp_path):
    module = pytest.importorskip("gensim.models.keyedvectors")
    entries = {}
    for index, word in reversed(list(enumerate(WORDS))):
        entries[word] = module.CompatVocab(count=1, index=index)
    table = module.KeyedVectors.__new__(module.KeyedVectors)
    table.__dict__ = {"vocab": entries, "vector_size": 3, "vectors": np.eye(3, dtype=np.float32)}
    (tmp_path / "old.gensim").write_bytes(pickle.dumps(table, protocol=2))
    embedding = WordEmbeddings(str(tmp_path / "old.gensim"))
    assert embedding.vocab == {"the": 0, "cat": 1, "sat": 2}
    assert torch.equal(embedding.embedding.weight[:-1], torch.eye(3))


def test_truncated_binary(tmp_path):
    keyed = pytest.importorskip("gensim.models").KeyedVectors(3)
    keyed.add_vectors(WORDS, np.eye(3, dtype=np.float32))
    path = tmp_path / "v.bin"
    keyed.save_word2vec_format(str(path), binary=True)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cut off"):
        WordEmbeddings(str(path))


@pytest.mark.parametrize("wrong", ["text", None, ["text"], 3])
def test_only_data_points_are_embedded(wrong):
    for embedding in (words(), DocumentMeanEmbeddings([words()])):
        with pytest.raises(TypeError, match="takes data points"):
            embedding.embed(wrong)
