"""Word vectors, character, one-hot, hash and stacked embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import flair
from flair.data import Dictionary, Sentence
from flair.embeddings import (
    BytePairEmbeddings,
    CharacterEmbeddings,
    HashEmbeddings,
    MuseCrosslingualEmbeddings,
    OneHotEmbeddings,
    StackedEmbeddings,
    WordEmbeddings,
)
from flair.embeddings.base import load_embeddings

WORDS = ["the", "cat", "Cat", "##", "berlin", "0a0"]
VECTORS = np.arange(1, 19, dtype=np.float32).reshape(6, 3)


@pytest.fixture
def file(tmp_path):
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(WORDS, VECTORS.tolist())]
    (tmp_path / "vectors.txt").write_text("6 3\n" + "\n".join(lines) + "\n")
    return tmp_path / "vectors.txt"


def table(**options) -> WordEmbeddings:
    made = WordEmbeddings(None, vocab={w: i for i, w in enumerate(WORDS)}, embedding_length=3, name="w", **options)
    made.embedding.weight.data[:-1] = torch.from_numpy(VECTORS)
    return made


def test_lookup_order():
    words = {"Cat": 2, "CAT": 1, "THE": 0, "42": 3, "1A2": 5, "dog": None, "Berlin": 4}
    sentence = Sentence(list(words))
    table().embed(sentence)
    for token, row in zip(sentence, words.values(), strict=True):
        expected = torch.zeros(3) if row is None else torch.from_numpy(VECTORS[row])
        assert torch.equal(token.embedding, expected), token.text


def test_reads_text_files(file, tmp_path):
    embeddings = WordEmbeddings(str(file))
    assert embeddings.name == str(file)
    assert embeddings.vocab == {word: row for row, word in enumerate(WORDS)}
    assert torch.equal(embeddings.embedding.weight[:-1], torch.from_numpy(VECTORS))
    assert embeddings.embedding.weight[-1].abs().sum() == 0
    bare = tmp_path / "bare.txt"
    bare.write_text(file.read_text().split("\n", 1)[1])
    assert torch.equal(WordEmbeddings(str(bare), no_header=True).embedding.weight, embeddings.embedding.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2 3\ncat 1 2 3\n", "line 1.*no_header=True"),
        ("2 3\nthe 1 2 3\ncat 1 2\n", r"line 3 \('cat'\): expected 3 numbers, found 2"),
        ("2 3\nthe 1 2 x\ncat 1 2 3\n", r"line 2 \('the'\): not a vector"),
        ("3 3\nthe 1 2 3\n", "ends after 1 words, line 1 announces 3"),
        ("1 3\nthe 1 2 3\ncat 1 2 3\n", "line 3: line 1 announces 1 words"),
        ("1 3\nthe\t1\t2\t3\n", "line 2.*found 0. A single space stands before each number"),
        ("99999999999999 3\nthe 1 2 3\n", "ends after 1 words, line 1 announces 99999999999999"),
        ("1 99999999999999\nthe 1 2 3\n", "line 1: 99999999999999 dimensions"),
    ],
)
def test_malformed_text_files(tmp_path, content, message):
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        WordEmbeddings(str(tmp_path / "bad.txt"))


def test_header_where_none_is_expected(file):
    with pytest.raises(ValueError, match=r"vectors\.txt, line 1 announces .* leave out no_header"):
        WordEmbeddings(str(file), no_header=True)


def test_byte_order_mark(file, tmp_path):
    (tmp_path / "marked.txt").write_text("\ufeff" + file.read_text())
    assert WordEmbeddings(str(tmp_path / "marked.txt")).vocab == WordEmbeddings(str(file)).vocab


def test_vectors_of_another_kind_than_their_suffix_says(file, tmp_path):
    """Text read as binary would be vectors of nonsense, without any error."""
    keyed = pytest.importorskip("gensim.models").KeyedVectors(3)
    keyed.add_vectors(WORDS, VECTORS)
    keyed.save_word2vec_format(str(tmp_path / "ok.bin"), binary=True)
    keyed.save(str(tmp_path / "ok.gensim"))
    binary, gensim, text = ((tmp_path / name).read_bytes() for name in ("ok.bin", "ok.gensim", "vectors.txt"))
    for name, content, message in (
        ("text.bin", text, r"text\.bin holds word2vec text.*Rename"),
        ("gensim.bin", gensim, r"gensim\.bin holds no word vectors.*suffix \.txt"),
        ("cut.bin", binary[:-5], r"cut\.bin holds no word vectors.*cut off"),
        ("binary.txt", binary, r"binary\.txt, line 2"),
        ("gensim.txt", gensim, r"gensim\.txt, line 1: expected the number of words"),
        ("text.vec", text, r"text\.vec holds no word vectors.*suffix \.txt"),
        ("cut.gensim", gensim[:-20], r"cut\.gensim holds no word vectors.*ends early"),
        ("empty.gensim", b"", r"empty\.gensim holds no word vectors"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            WordEmbeddings(str(tmp_path / name))
    for name in ("folder.txt", "folder.bin", "folder"):
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=f"{name} is a folder"):
            WordEmbeddings(str(tmp_path / name))


def test_byte_pairs_name_their_file(file, tmp_path):
    pytest.importorskip("sentencepiece")
    with pytest.raises(FileNotFoundError, match=r"gone\.model is not there"):
        BytePairEmbeddings(model_file_path=tmp_path / "gone.model")
    with pytest.raises(ValueError, match=r"vectors\.txt holds no SentencePiece model"):
        BytePairEmbeddings(model_file_path=file)


def test_gensim_files(tmp_path, monkeypatch):
    keyed = pytest.importorskip("gensim.models").KeyedVectors(3)
    keyed.add_vectors(WORDS, VECTORS)
    keyed.save(str(tmp_path / "vectors.gensim"))
    keyed.save_word2vec_format(str(tmp_path / "vectors.bin"), binary=True)
    (tmp_path / "embeddings").mkdir()
    keyed.save(str(tmp_path / "embeddings" / "turian"), separately=["vectors"])
    monkeypatch.setattr(flair._runtime, "cache_root", tmp_path)
    for name in (str(tmp_path / "vectors.gensim"), str(tmp_path / "vectors.bin"), "turian", "en-turian"):
        made = WordEmbeddings(name)
        assert made.vocab["berlin"] == 4
        assert torch.equal(made.embedding.weight[:-1], torch.from_numpy(VECTORS))
    assert made.name == str(tmp_path / "embeddings" / "turian")


def test_unknown_name():
    with pytest.raises(ValueError, match="no-such-vectors"):
        WordEmbeddings("no-such-vectors")


def test_tensor_road_equals_embed():
    for embeddings in (table(), table(stable=True, fine_tune=True)):
        sentences = [Sentence(["the", "dog", "cat"]), Sentence(["berlin"]), Sentence(["Cat", "42"])]
        padded, lengths = embeddings.encode_tokens(sentences)
        assert padded.shape == (3, 3, 3)
        assert lengths.tolist() == [3, 1, 2]
        embeddings.embed(sentences)
        for row, sentence in enumerate(sentences):
            assert torch.equal(padded[row, : len(sentence)], torch.stack([token.embedding for token in sentence]))
            assert padded[row, len(sentence) :].abs().sum() == 0


def test_fine_tuning_reaches_the_table():
    tuned, frozen = table(fine_tune=True), table()
    tuned.encode_tokens([Sentence(["cat", "dog"])])[0].sum().backward()
    assert tuned.embedding.weight.grad[1].sum() == 3
    assert not tuned.static_embeddings
    assert frozen.static_embeddings
    assert not frozen.embedding.weight.requires_grad
    assert not frozen.train().training


def test_field():
    sentence = Sentence(["x", "y"])
    sentence[0].add_label("pos", "cat")
    assert torch.equal(table(field="pos").encode_tokens([sentence])[0][0, 0], torch.from_numpy(VECTORS[1]))


def test_dtype_changes_and_force_cpu_table_stays():
    embeddings = table(stable=True).to(torch.bfloat16)
    assert embeddings.embedding.weight.dtype == torch.bfloat16
    assert embeddings.encode_tokens([Sentence(["cat"])])[0].dtype == torch.bfloat16
    moved = table().to("meta")
    assert moved.embedding.weight.device.type == "cpu"
    assert table(force_cpu=False).to("meta").embedding.weight.device.type == "meta"


class Doubling(WordEmbeddings):
    """A subclass with the released hook."""

    def _add_embeddings_internal(self, sentences):
        super()._add_embeddings_internal(sentences)
        for sentence in sentences:
            for token in sentence:
                token.set_embedding(self.name, 2 * token.get_embedding([self.name]))
        return sentences


def test_hook_of_subclasses_is_used():
    doubling = Doubling(None, vocab={"cat": 0}, embedding_length=3, name="d")
    doubling.embedding.weight.data[0] = 1
    assert torch.equal(doubling.encode_tokens([Sentence(["cat"])])[0][0, 0], torch.full((3,), 2.0))


def characters() -> Dictionary:
    made = Dictionary()
    for character in "abcdehtrlin":
        made.add_item(character)
    return made


def test_character_states_are_those_at_the_last_character():
    embeddings = CharacterEmbeddings(characters(), 4, 5)
    sentence = Sentence(["cat", "a", "the", "a", "Xb"])
    embeddings.embed(sentence)
    for token in sentence:
        indices = torch.tensor(embeddings.char_dictionary.get_idx_for_items(list(token.text)))
        states, _ = embeddings.char_rnn(embeddings.char_embedding(indices).unsqueeze(1))
        assert torch.allclose(token.embedding, states[-1, 0], atol=1e-6)


def test_one_hot_and_hash():
    vocabulary = Dictionary()
    vocabulary.add_item("cat")
    one_hot = OneHotEmbeddings(vocabulary, embedding_length=4)
    vectors = one_hot.encode_tokens([Sentence(["cat", "Cat", "dog"])])[0][0]
    assert torch.equal(vectors, one_hot.embedding_layer.weight[[1, 0, 0]])
    hashed = HashEmbeddings(num_embeddings=10, embedding_length=4)
    vectors = hashed.encode_tokens([Sentence(["abc", "Hello", "abc"])])[0][0]
    assert torch.equal(vectors, hashed.embedding_layer.weight[[0, 3, 0]])


def test_muse_needs_no_file_to_be_described():
    assert load_embeddings(MuseCrosslingualEmbeddings().save_embeddings()).embedding_length == 300


@pytest.mark.parametrize(
    "make",
    [
        table,
        lambda: table(stable=True, fine_tune=True),
        lambda: CharacterEmbeddings(characters(), 4, 3),
        lambda: OneHotEmbeddings(characters(), embedding_length=3, stable=True),
        lambda: HashEmbeddings(7, 3),
        lambda: StackedEmbeddings([table(), CharacterEmbeddings(characters(), 4, 3)]),
        lambda: StackedEmbeddings([HashEmbeddings(7, 3), HashEmbeddings(7, 3)]),
    ],
)
def test_round_trip(make):
    made = make()
    back = load_embeddings(made.save_embeddings())
    assert type(back) is type(made)
    assert back.get_names() == made.get_names()
    sentences = [Sentence(["the", "cat"]), Sentence(["berlin"])]
    assert torch.equal(back.encode_tokens(sentences)[0], made.encode_tokens(sentences)[0])


def test_stack_concatenates_in_the_order_of_names():
    members = [CharacterEmbeddings(characters(), 3, 1) for _ in range(11)]
    stack = StackedEmbeddings(members)
    assert stack.get_names()[-1] == "10-Char"
    sentences = [Sentence(["the", "cat"]), Sentence(["berlin"])]
    padded, lengths = stack.encode_tokens(sentences)
    assert padded.shape == (2, 2, 22)
    assert lengths.tolist() == [2, 1]
    stack.embed(sentences)
    stored = sentences[0][1].get_embedding(stack.get_names())
    assert torch.allclose(padded[0, 1], stored)


def test_stack_refuses_nothing_and_documents():
    with pytest.raises(IndexError):
        StackedEmbeddings([])
