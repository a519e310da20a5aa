"""Tokenizers that are not backed by the tokenizers library, languages for XLM, and bars while a model loads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.data.sentence import Sentence
from flair.embeddings._transformer import loading
from flair.embeddings._transformer.inputs import SubTokenizer
from flair.embeddings.base import load_embeddings
from flair.embeddings.transformer import TransformerEmbeddings

sys.path.insert(0, str(Path(__file__).parent))
from tiny_transformers import make_language_folder, make_model_folder

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "fox", "##es", "un", "##believ", "##able", "!"]
VOCABULARY += list("bcdiln") + [f"##{letter}" for letter in "bcdeilnr"]
WORDS = ["The", "foxes", "unbelievable!", "[FLERT]", "Berlin", "\u200b", "!", "xyz", "BED"]
PIECES = [[5], [6, 7], [8, 9, 10, 11], [26], [12, 21, 25, 23, 22, 24], [], [11], [1], [12, 21, 20]]
"""The words' ids in the vocabulary, [FLERT] behind it."""


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("slow") / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n")
    return str(path)


def slow_bert(vocabulary: str):
    """BERT's tokenizer in pure Python: transformers 5 keeps it under another name."""
    try:
        from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy as SlowBert
    except ImportError:
        from transformers import BertTokenizer as SlowBert
    return SlowBert(vocabulary)


def fast_bert(vocabulary: str, **options):
    """The same tokenizer by the tokenizers library."""
    backend = tokenizers.BertWordPieceTokenizer(vocabulary)._tokenizer
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names, **options)


def with_separator(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["[FLERT]"]})
    return tokenizer


@pytest.fixture(scope="module")
def slow(vocabulary) -> SubTokenizer:
    return SubTokenizer(with_separator(slow_bert(vocabulary)))


@pytest.fixture(scope="module")
def fast(vocabulary) -> SubTokenizer:
    return SubTokenizer(with_separator(fast_bert(vocabulary)))


def plain(encoded):
    return [(ids, list(words)) for ids, words in encoded]


def test_slow_sub_tokens_know_their_words(slow):
    assert not slow.is_fast
    assert (slow.prefix, slow.suffix) == ([2], [3])
    ids, words = plain(slow([WORDS], with_words=True))[0]
    assert ids == [2, *(piece for pieces in PIECES for piece in pieces), 3]
    assert words == [-1, *(place for place, pieces in enumerate(PIECES) for _ in pieces), -1]


def test_slow_and_fast_agree(slow, fast):
    assert fast.is_fast
    texts = [WORDS, ["fox"], [], ["\u200b"], WORDS * 5]
    assert plain(slow(texts, with_words=True)) == plain(fast(texts, with_words=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="foxesunbliavDEN! éß,0中\u200b", max_size=12), max_size=8))
def test_slow_and_fast_agree_on_any_words(slow, fast, words):
    assert plain(slow([words], with_words=True)) == plain(fast([words], with_words=True))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12), st.integers(6, 14), st.integers(0, 3))
def test_slow_and_fast_windows_agree(slow, fast, words, limit, stride):
    windows = []
    for tokenizer in (slow, fast):
        ids, places = tokenizer([words], with_words=True)[0]
        rows, row_words = tokenizer.windows(ids, places, limit, stride)
        windows.append((rows, [list(row) for row in row_words]))
    assert windows[0] == windows[1]


def write_model(folder: Path, config, tokenizer_options: dict) -> str:
    """A random model of this configuration beside tokenizer files that are there already."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_options))
    return str(folder)


@pytest.fixture(scope="module")
def japanese_folder(tmp_path_factory) -> str:
    """A BERT whose tokenizer is slow in every version of transformers."""
    folder = tmp_path_factory.mktemp("bert-japanese")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=80,
    )
    options = {"tokenizer_class": "BertJapaneseTokenizer", "do_lower_case": True, "model_max_length": 16}
    return write_model(folder, config, options)


@pytest.fixture(scope="module")
def fast_twin_folder(tmp_path_factory, japanese_folder, vocabulary) -> str:
    """The same model with a fast tokenizer of the same vocabulary."""
    folder = tmp_path_factory.mktemp("bert-fast")
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((Path(japanese_folder) / name).read_bytes())
    fast_bert(vocabulary, model_max_length=16).save_pretrained(folder)
    return str(folder)


def sentences() -> list[Sentence]:
    made = [Sentence(words) for words in (["The", "fox"], WORDS[:3] + WORDS[4:] * 3, [], ["unbelievable!", "xyz"])]
    Sentence.set_context_for_sentences([sentence for sentence in made if len(sentence)])
    return made


@pytest.mark.parametrize("use_context", [False, 2])
@pytest.mark.parametrize("allow_long_sentences", [False, True])
def test_a_slow_tokenizer_gives_the_vectors_of_its_fast_twin(
    japanese_folder, fast_twin_folder, use_context, allow_long_sentences
):
    options = {"cls_pooling": "mean", "subtoken_pooling": "first_last", "use_context": use_context}
    options["allow_long_sentences"] = allow_long_sentences
    slow, fast = (TransformerEmbeddings(folder, **options) for folder in (japanese_folder, fast_twin_folder))
    assert [slow._sub_tokenizer.is_fast, fast._sub_tokenizer.is_fast] == [False, True]
    torch.testing.assert_close(slow.encode_documents(sentences()), fast.encode_documents(sentences()))
    torch.testing.assert_close(slow.encode_tokens(sentences()), fast.encode_tokens(sentences()))


def test_a_slow_tokenizer_survives_a_file(japanese_folder):
    embedding = TransformerEmbeddings(japanese_folder, use_context=2, name="x")
    loaded = load_embeddings(embedding.save_embeddings())
    assert type(loaded.tokenizer) is type(embedding.tokenizer)
    assert loaded.tokenizer.model_max_length == 16
    assert torch.equal(loaded.encode_tokens(sentences())[0], embedding.encode_tokens(sentences())[0])


def test_bytes_as_sub_tokens():
    tokenizer = SubTokenizer(transformers.ByT5Tokenizer())
    (ids, words), (empty, _) = tokenizer([["a", "ß"], []], with_words=True)
    assert ids == [ord("a") + 3, 0xC3 + 3, 0x9F + 3, 1]
    assert list(words) == [0, 1, 1, -1]
    assert empty == [1]


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory) -> str:
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    folder = tmp_path_factory.mktemp("sentencepiece")
    text = ["the quick brown fox jumps over the lazy dog", "unbelievable foxes of Berlin", "I love this film !"]
    (folder / "corpus.txt").write_text("\n".join(text * 4))
    trainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "sp"),
        vocab_size=48,
        hard_vocab_limit=False,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    return str(folder / "sp.model")


def test_slow_sentencepiece_opens_every_word_with_a_space_mark(sentencepiece_model):
    tokenizer = transformers.BertGenerationTokenizer(sentencepiece_model)
    sub_tokenizer = SubTokenizer(tokenizer)
    assert not sub_tokenizer.is_fast
    ids, words = sub_tokenizer([["the", "foxes", "!"]], with_words=True)[0]
    pieces = tokenizer.convert_ids_to_tokens(ids[len(sub_tokenizer.prefix) : len(ids) - len(sub_tokenizer.suffix)])
    assert "".join(pieces) == "▁the▁foxes▁!"
    inner = [int(word) for word in words if word >= 0]
    for place, word in enumerate(["the", "foxes", "!"]):
        assert "".join(p for p, owner in zip(pieces, inner, strict=True) if owner == place) == f"▁{word}"


@pytest.mark.parametrize("name", ["T5Tokenizer", "XLMRobertaTokenizer", "T5TokenizerFast", "XLMRobertaTokenizerFast"])
def test_sentencepiece_ids_are_those_of_the_tokenizers_own_call(sentencepiece_model, name):
    if loading.library_version() >= (5, 0):
        pytest.skip("transformers 5 has fast tokenizers only for these families")
    pytest.importorskip("google.protobuf", reason="transformers 4 makes the fast ones with it")
    tokenizer = getattr(transformers, name)(sentencepiece_model, model_max_length=64)
    sub_tokenizer = SubTokenizer(tokenizer)
    assert sub_tokenizer.is_fast == name.endswith("Fast")
    for words in (["the", "foxes", "of", "Berlin", "!"], ["unbelievable"]):
        whole = tokenizer(words, is_split_into_words=True)
        ids, places = sub_tokenizer([words], with_words=True)[0]
        assert ids == whole["input_ids"]
        if sub_tokenizer.is_fast:
            assert list(places) == [-1 if place is None else place for place in whole.word_ids()]
        else:
            own = [len(tokenizer.tokenize(word, is_split_into_words=True)) for word in words]
            assert [int((places == place).sum()) for place in range(len(words))] == own


@pytest.fixture(scope="module")
def xlm_folder(tmp_path_factory) -> str:
    """An XLM with language embeddings, German and English."""
    pytest.importorskip("sacremoses")
    return str(make_language_folder(tmp_path_factory.mktemp("xlm"), "xlm", max_length=32))


def in_language(words: list[str], code: str) -> Sentence:
    return Sentence(words, language_code=code)


def test_xlm_is_told_the_language_of_each_sentence(xlm_folder):
    embedding = TransformerEmbeddings(xlm_folder, cls_pooling="mean", use_context_separator=False)
    assert embedding.use_lang_emb
    batch = [in_language(["the", "fox"], code) for code in ("de", "en", "fr")]
    langs = embedding.prepare_tensors(batch)["langs"]
    assert langs.shape == embedding.prepare_tensors(batch)["input_ids"].shape
    assert langs.tolist() == [[0] * langs.shape[1], [1] * langs.shape[1], [0] * langs.shape[1]]
    german, english, other = embedding.encode_documents(batch)
    assert torch.equal(german, other), "languages that the model does not know are the first one"
    assert (german - english).abs().max() > 1e-2


def test_xlm_vectors_are_those_of_the_bare_model(xlm_folder):
    embedding = TransformerEmbeddings(xlm_folder, cls_pooling="mean", use_context_separator=False)
    sentence = in_language(["the", "quick", "fox"], "en")
    ids = torch.tensor([embedding.tokenizer.convert_tokens_to_ids(embedding.tokenizer.tokenize("the quick fox"))])
    ids = torch.cat([torch.tensor([[0]]), ids, torch.tensor([[1]])], dim=1)
    assert embedding.prepare_tensors([sentence])["input_ids"].tolist() == ids.tolist()
    bare = transformers.AutoModel.from_pretrained(xlm_folder).eval()
    with torch.no_grad():
        states = bare(ids, langs=torch.ones_like(ids)).last_hidden_state
    torch.testing.assert_close(embedding.encode_documents([sentence])[0], states[0].mean(dim=0))


def test_xlm_keeps_its_languages_in_a_file(xlm_folder):
    embedding = TransformerEmbeddings(xlm_folder, cls_pooling="mean", name="x")
    loaded = load_embeddings(embedding.save_embeddings())
    batch = [in_language(["the", "fox"], code) for code in ("de", "en")]
    assert loaded.use_lang_emb
    assert torch.equal(loaded.encode_documents(batch), embedding.encode_documents(batch))


def test_small_models_load_without_a_bar(tmp_path, capfd):
    if loading.library_version() >= (5, 0) and not hasattr(transformers.logging, "set_tqdm_hook"):
        pytest.skip("the first releases of transformers 5 let nobody change their bars")
    folder = make_model_folder(tmp_path / "model")
    capfd.readouterr()
    TransformerEmbeddings(str(folder))
    assert capfd.readouterr().err == ""


def test_slow_loading_shows_a_bar_and_the_users_hook_stays(tmp_path, capfd, monkeypatch):
    from transformers import logging

    if not hasattr(logging, "set_tqdm_hook"):
        pytest.skip("this version of transformers shows no bar for a single file")
    folder = make_model_folder(tmp_path / "model")
    seen = []

    def users_hook(factory, args, options):
        seen.append(options)
        return factory(*args, **options)

    previous = logging.set_tqdm_hook(users_hook)
    try:
        monkeypatch.setattr(loading, "BAR_DELAY", 0.0)
        capfd.readouterr()
        TransformerEmbeddings(str(folder))
        assert logging.set_tqdm_hook(users_hook) is users_hook
    finally:
        logging.set_tqdm_hook(previous)
    assert [options["delay"] for options in seen] == [0.0]
    assert "Loading weights" in capfd.readouterr().err
