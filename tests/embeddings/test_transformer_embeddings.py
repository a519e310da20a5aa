"""Transformer embeddings: inputs, chunks, poolings, files, threads."""

from __future__ import annotations

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flair.data.dictionary import Dictionary
from flair.data.sentence import Sentence
from flair.embeddings._transformer.chunks import plan_chunks
from flair.embeddings._transformer.word import TransformerWordEmbeddings
from flair.embeddings.base import load_embeddings
from flair.embeddings.document import TransformerDocumentEmbeddings
from flair.embeddings.transformer import (
    TransformerEmbeddings,
    combine_strided_tensors,
    document_cls_pooling,
    document_max_pooling,
    document_mean_pooling,
    fill_masked_elements,
    fill_mean_token_embeddings,
    insert_missing_embeddings,
    pad_sequence_embeddings,
    remove_special_markup,
    truncate_hidden_states,
)
from flair.models import SequenceTagger, TextClassifier

sys.path.insert(0, str(Path(__file__).parent))
from tiny_transformers import make_model_folder

TEXTS = [
    ["The", "quick", "fox", "jumps", "!"],
    ["unbelievable", "internationalisation", "of", "Berlin"],
    [],
    ["I", "love", "\u200b", "this", "\ue000", "film"],
    ["Great"],
    ("George Washington went to Washington and never came back ; what a waste ! " * 3).split(),
]


def sentences() -> list[Sentence]:
    made = [Sentence(words) for words in TEXTS]
    Sentence.set_context_for_sentences([sentence for sentence in made if len(sentence)])
    return made


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    made: dict[str, str] = {}

    def folder(kind: str) -> str:
        if kind not in made:
            made[kind] = str(make_model_folder(root / kind, kind))
        return made[kind]

    return folder


def chunked_and_whole(embedding):
    """The same batch in chunks, and sentence by sentence."""
    batch = [sentence for sentence in sentences() if len(sentence)]
    whole = embedding._encode(batch)
    single = [embedding._encode([sentence]) for sentence in batch]
    return batch, whole, single


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "t5", "gpt2", "modernbert", "llama"])
@pytest.mark.parametrize("options", [{}, {"use_context": 3, "layers": "all", "allow_long_sentences": True}])
def test_chunks_change_no_vector(folders, kind, options):
    embedding = TransformerEmbeddings(folders(kind), subtoken_pooling="first_last", cls_pooling="mean", **options)
    batch, whole, single = chunked_and_whole(embedding)
    for row, (sentence, alone) in enumerate(zip(batch, single, strict=True)):
        torch.testing.assert_close(
            whole["document_embeddings"][row], alone["document_embeddings"][0], atol=1e-5, rtol=1e-5
        )
        tokens = whole["token_embeddings"][row]
        torch.testing.assert_close(tokens[: len(sentence)], alone["token_embeddings"][0], atol=1e-5, rtol=1e-5)
        assert not tokens[len(sentence) :].any()
    assert whole["token_embeddings"].shape[2] == embedding.embedding_length


def test_gradients_equal_those_of_one_padded_batch(folders):
    def gradients(chunks: bool):
        torch.manual_seed(0)
        embedding = TransformerDocumentEmbeddings(folders("bert"), cls_pooling="mean")
        embedding.train()
        if not chunks:
            embedding._chunks = lambda encoded, device: [list(range(len(encoded)))]
        vectors = embedding.encode_documents([sentence for sentence in sentences() if len(sentence)])
        vectors.pow(2).mean().backward()
        return {name: p.grad for name, p in embedding.named_parameters() if p.grad is not None}

    chunked, whole = gradients(True), gradients(False)
    assert chunked.keys() == whole.keys()
    assert chunked
    for name, gradient in whole.items():
        torch.testing.assert_close(chunked[name], gradient, atol=1e-6, rtol=1e-5)


def test_embed_and_encode_agree(folders):
    embedding = TransformerEmbeddings(folders("bert"), cls_pooling="max")
    batch = sentences()
    embedding.embed(batch)
    documents = embedding.encode_documents(batch)
    tokens, lengths = embedding.encode_tokens(batch)
    assert lengths.tolist() == [len(sentence) for sentence in batch]
    for row, sentence in enumerate(batch):
        if not len(sentence):
            assert not sentence._embeddings
            assert not documents[row].any()
            assert not tokens[row].any()
            continue
        assert torch.equal(sentence.get_embedding([embedding.name]), documents[row])
        for place, token in enumerate(sentence):
            assert torch.equal(token.get_embedding([embedding.name]), tokens[row, place])
    assert embedding._everything_embedded(batch)
    hidden = batch[3]  # a zero-width character and a private-use glyph have no sub-token in this vocabulary
    assert not tokens[3, 2].any()
    assert tokens[3, 3].any()
    assert len(hidden) == 6


def test_only_empty_sentences(folders):
    documents = TransformerDocumentEmbeddings(folders("bert"))
    assert documents.encode_documents([Sentence([])]).tolist() == [[0.0] * 16]
    words = TransformerWordEmbeddings(folders("bert"))
    assert words.encode_tokens([Sentence([])])[0].shape == (1, 0, 16)
    assert words.embed([Sentence([])])[0]._embeddings == {}


def test_windows_over_long_sentences_cover_every_token(folders):
    text = Sentence(TEXTS[-1])
    cut = TransformerWordEmbeddings(folders("bert"), allow_long_sentences=False)
    whole = TransformerWordEmbeddings(folders("bert"))
    assert whole.stride == 12
    tokens = whole.encode_tokens([text])[0][0]
    assert bool(tokens.any(dim=1).all())
    beyond = cut.encode_tokens([text])[0][0]
    assert not beyond[-1].any()
    with_special_tokens = whole.prepare_tensors([text])
    assert with_special_tokens["input_ids"].shape[1] <= 24
    assert with_special_tokens["overflow_to_sample_mapping"].tolist() == [0] * len(with_special_tokens["input_ids"])


def test_document_vector_of_a_long_sentence_is_its_own(folders):
    embedding = TransformerDocumentEmbeddings(folders("bert"), allow_long_sentences=True)
    long, short = Sentence(TEXTS[-1]), Sentence(TEXTS[0])
    together = embedding.encode_documents([long, short])
    assert together.shape == (2, 16)
    torch.testing.assert_close(together[1], embedding.encode_documents([short])[0], atol=1e-5, rtol=1e-5)


def test_context_comes_with_separators_and_is_dropped_in_training(folders):
    embedding = TransformerWordEmbeddings(folders("bert"), use_context=2)
    batch = [sentence for sentence in sentences() if len(sentence)]
    tokens, offset = embedding._expand_sentence_with_context(batch[1])
    texts = [token.text for token in tokens]
    assert texts[:3] == ["jumps", "!", "[FLERT]"]
    assert texts[3:7] == TEXTS[1]
    assert texts[7:] == ["[FLERT]", "I", "love"]
    assert offset == 3
    embedding.train()
    embedding.context_dropout = 1.0
    tokens, offset = embedding._expand_sentence_with_context(batch[1])
    assert [token.text for token in tokens] == ["[FLERT]", *TEXTS[1], "[FLERT]"]
    assert TransformerWordEmbeddings(folders("bert"), use_context=True).context_length == 64


def neighbours(batch):
    return [
        tuple(None if other is None else batch.index(other) for other in (s.previous_sentence(), s.next_sentence()))
        for s in batch
    ]


CHAIN = [(None, 1), (0, 2), (1, None)]


def test_a_batch_is_its_own_context(folders):
    """Sentences without known neighbours are embedded in the context of the batch they come in, as in 0.15."""
    embedding = TransformerWordEmbeddings(folders("bert"), use_context=2)
    linked, unlinked, alone = ([Sentence(text) for text in TEXTS[:3]] for _ in range(3))
    Sentence.set_context_for_sentences(linked)
    expected = embedding.encode_tokens(linked)[0]
    assert torch.equal(embedding.encode_tokens(unlinked)[0], expected)
    assert neighbours(unlinked) == CHAIN
    assert not torch.allclose(embedding.encode_tokens(alone[:1])[0], expected[:1, : len(alone[0])])
    embedding.encode_tokens(alone)
    assert neighbours(alone) == [(None, None), (None, 2), (1, None)], "the first one's context was nothing"
    without = [Sentence(text) for text in TEXTS[:3]]
    TransformerWordEmbeddings(folders("bert")).encode_tokens(without)
    assert neighbours(without) == [(None, None)] * 3


def test_a_prediction_is_its_own_context(folders):
    """Whatever the batches are, and also for models without context: other embeddings may come later."""
    labels = Dictionary(add_unk=False)
    for label in "ABC":
        labels.add_item(label)
    for use_context in (2, False):
        words = TransformerWordEmbeddings(folders("bert"), use_context=use_context)
        documents = TransformerDocumentEmbeddings(folders("bert"), use_context=use_context)
        for model in (
            SequenceTagger(words, labels, "pos", use_crf=False, use_rnn=False),
            TextClassifier(documents, label_type="pos", label_dictionary=labels),
        ):
            batch = [Sentence(text) for text in (["x"], TEXTS[0], TEXTS[1])]
            model.predict(batch, mini_batch_size=1)
            assert neighbours(batch) == CHAIN


def test_training_takes_longer_sentences_first(folders):
    labels = Dictionary(add_unk=False)
    labels.add_item("A")
    tagger = SequenceTagger(
        TransformerWordEmbeddings(folders("bert"), use_context=2), labels, "pos", use_crf=False, use_rnn=False
    )
    batch = [Sentence(text) for text in (["x"], ["a", "b", "c"], ["a", "b"])]
    for token in (token for sentence in batch for token in sentence):
        token.add_label("pos", "A")
    tagger.forward_loss(batch)
    assert neighbours(batch) == [(2, None), (None, 2), (1, 0)]


def test_force_max_length_pads_to_the_limit(folders):
    embedding = TransformerDocumentEmbeddings(folders("bert"), force_max_length=True)
    assert embedding.prepare_tensors([Sentence("Great")])["input_ids"].shape == (1, 24)


def test_frozen_embeddings_do_not_drop_out(folders):
    embedding = TransformerDocumentEmbeddings(folders("bert"), fine_tune=False)
    embedding.train()
    assert embedding.training
    assert not embedding.model.training
    assert embedding.static_embeddings
    assert not embedding.encode_documents([Sentence("Great")]).requires_grad


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5", "llama"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip_is_equal_to_the_bit(folders, kind, dtype):
    embedding = TransformerDocumentEmbeddings(folders(kind), dtype=dtype, layers="-1,-2", cls_pooling="mean", name="x")
    saved = embedding.save_embeddings()
    loaded = load_embeddings(saved)
    assert type(loaded) is TransformerDocumentEmbeddings
    assert (loaded.name, loaded.dtype) == ("x", embedding.dtype)
    assert torch.equal(loaded.encode_documents(sentences()), embedding.encode_documents(sentences()))
    assert all(key.startswith("model.") for key in saved["state_dict"])
    again = loaded.save_embeddings()
    assert {key: value for key, value in again.items() if key not in ("state_dict", "tokenizer_data")} == {
        key: value for key, value in saved.items() if key not in ("state_dict", "tokenizer_data")
    }


def test_saved_parameters_have_the_released_names(folders):
    params = TransformerWordEmbeddings(folders("bert")).to_params()
    assert list(params) == [
        "is_token_embedding",
        "is_document_embedding",
        "allow_long_sentences",
        "context_length",
        "context_dropout",
        "respect_document_boundaries",
        "name",
        "fine_tune",
        "force_max_length",
        "use_context_separator",
        "cls_pooling",
        "needs_manual_ocr",
        "tokenizer_data",
        "model",
        "layers",
        "layer_mean",
        "subtoken_pooling",
        "config_state_dict",
        "peft_config",
        "dtype",
    ]


def test_a_file_without_recorded_dtype_keeps_that_of_its_weights(folders):
    saved = TransformerDocumentEmbeddings(folders("bert"), dtype="bfloat16").save_embeddings()
    del saved["dtype"]
    assert load_embeddings(saved).dtype == torch.bfloat16


def test_rebuilding_without_weights_draws_them(folders):
    params = TransformerDocumentEmbeddings(folders("bert")).save_embeddings(use_state_dict=False)
    rebuilt = load_embeddings(params)
    assert torch.isfinite(rebuilt.encode_documents([Sentence("Great")])).all()


def test_position_ids_of_old_files_are_ignored(folders):
    embedding = TransformerDocumentEmbeddings(folders("bert"))
    state = embedding.state_dict()
    state["model.embeddings.position_ids"] = torch.arange(64).unsqueeze(0)
    rebuilt = TransformerDocumentEmbeddings.from_params(embedding.to_params())
    assert not rebuilt.load_state_dict(state).unexpected_keys


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_are_equal_and_independent(folders, copied):
    embedding = TransformerWordEmbeddings(folders("modernbert"), use_context=2)
    before = embedding.encode_tokens(sentences())[0]
    twin = copied(embedding)
    assert torch.equal(twin.encode_tokens(sentences())[0], before)
    with torch.no_grad():
        for parameter in twin.model.parameters():
            parameter.zero_()
    assert torch.equal(embedding.encode_tokens(sentences())[0], before)


def test_pickles_of_released_versions(folders):
    embedding = TransformerWordEmbeddings(folders("bert"), layers="-1,-2", subtoken_pooling="mean")
    params = embedding.to_params()
    state = {
        "base_model_name": params["model"],
        "layer_indexes": [-1, -2],
        "context_length": 0,
        "use_scalar_mix": True,
        "pooling_operation": "mean",
        "batch_size": 1,
        "memory_effective_training": True,
        "embedding_length_internal": 16,
        "allow_long_sentences": True,
        "fine_tune": True,
        "name": "old",
        "use_context_separator": True,
        "tokenizer_data": params["tokenizer_data"],
        "config_state_dict": params["config_state_dict"],
        "model_state_dict": embedding.model.state_dict(),
    }
    old = TransformerWordEmbeddings.__new__(TransformerWordEmbeddings)
    old.__setstate__(state)
    assert old.name == "old"
    assert torch.equal(old.encode_tokens(sentences())[0], embedding.encode_tokens(sentences())[0])


def test_threads_do_not_disturb_each_other(folders):
    embedding = TransformerEmbeddings(folders("bert"), allow_long_sentences=True, cls_pooling="mean")
    expected = embedding.encode_tokens(sentences())[0]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: embedding.encode_tokens(sentences())[0], range(24)))
    assert all(torch.equal(result, expected) for result in results)


def test_tokenizer_state_of_the_user_does_not_matter(folders):
    embedding = TransformerDocumentEmbeddings(folders("bert"))
    expected = embedding.encode_documents(sentences())
    embedding.tokenizer(["a b c"], truncation=True, max_length=3, padding="max_length")
    torch.testing.assert_close(embedding.encode_documents(sentences()), expected)


def test_slow_tokenizers_align_like_fast_ones(folders, tmp_path):
    transformers = pytest.importorskip("transformers")
    embedding = TransformerWordEmbeddings(folders("bert"), use_context=2)
    fast = embedding.prepare_tensors([sentence for sentence in sentences() if len(sentence)])

    class Slow:
        """The fast tokenizer behind the interface of a slow one."""

        is_fast = False
        truncation_side = "right"

        def __init__(self, inner: transformers.PreTrainedTokenizerBase) -> None:
            self.inner = inner
            self.model_max_length, self.pad_token_id = inner.model_max_length, inner.pad_token_id

        def tokenize(self, text, is_split_into_words=False):
            return self.inner.tokenize(text)

        def convert_tokens_to_ids(self, tokens):
            return self.inner.convert_tokens_to_ids(tokens)

        def build_inputs_with_special_tokens(self, ids):
            return [self.inner.cls_token_id, *ids, self.inner.sep_token_id]

    embedding._sub_tokenizer = type(embedding._sub_tokenizer)(Slow(embedding.tokenizer))
    slow = embedding.prepare_tensors([sentence for sentence in sentences() if len(sentence)])
    assert fast.keys() == slow.keys()
    for key, value in fast.items():
        assert torch.equal(value, slow[key]), key


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"subtoken_pooling": "middle"}, "middle"),
        ({"cls_pooling": "median"}, "median"),
        ({"is_token_embedding": False, "is_document_embedding": False}, "no output"),
        ({"layers": "0,9"}, "layer 9"),
        ({"layers": "last"}, "'last'"),
        ({"dtype": "int8"}, "int8"),
    ],
)
def test_bad_options_are_named(folders, options, named):
    with pytest.raises(ValueError, match=named):
        TransformerEmbeddings(folders("bert"), **options)


def test_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/at-all") as error:
        TransformerEmbeddings("nowhere/at-all")
    assert "local folder" in str(error.value)
    with pytest.raises(OSError, match=r"config\.json"):
        TransformerEmbeddings(str(tmp_path))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.floats(0, 50))
@settings(max_examples=60, deadline=None)
def test_planned_chunks_are_optimal(lengths, overhead):
    def cost(chunks):
        return sum(len(chunk) * max(lengths[i] for i in chunk) + overhead for chunk in chunks)

    planned = plan_chunks(lengths, overhead=overhead)
    assert sorted(index for chunk in planned for index in chunk) == list(range(len(lengths)))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    best = float("inf")
    for cuts in range(2 ** (len(lengths) - 1)):
        chunks = [[order[0]]]
        for place, index in enumerate(order[1:]):
            if cuts >> place & 1:
                chunks.append([])
            chunks[-1].append(index)
        best = min(best, cost(chunks))
    assert cost(planned) == pytest.approx(best)


@given(st.integers(3, 70), st.integers(4, 9))
@settings(max_examples=50, deadline=None)
def test_stitched_windows_give_back_the_text(content, half_limit):
    """Ids of a sentence -> overlapping windows with special tokens -> the ids of the sentence."""
    limit = 2 * half_limit
    half_stride = (limit - 2) // 4
    size, stride = limit - 2, 2 * half_stride
    text = list(range(1, content + 1))
    starts = list(range(0, max(content - stride, 1), size - stride))
    windows = [[-1, *text[start : start + size], -2] for start in starts]
    width = max(len(window) for window in windows)
    padded = torch.tensor([window + [0] * (width - len(window)) for window in windows])
    samples = torch.zeros(len(windows), dtype=torch.long)
    if len(windows) == 1:
        return
    stitched = combine_strided_tensors(padded, samples, half_stride, limit, 0)[0].tolist()
    assert stitched[: content + 2] == [-1, *text, -2]
    assert not any(stitched[content + 2 :])


def test_functions():
    hidden = torch.arange(1, 15.0).view(2, 7, 1)
    words = torch.tensor([[-1, 0, 0, 1, 3, -1, -1], [-1, 0, 1, 2, 3, 3, -1]])
    first = torch.tensor([[0, 1, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0, 0]]).bool()
    four = torch.tensor([4, 4])
    empty = torch.zeros(2, 4, 1)
    filled = fill_masked_elements(empty.clone(), hidden, first, words, four)
    assert filled[..., 0].tolist() == [[2, 4, 0, 5], [9, 10, 11, 12]]
    means = fill_mean_token_embeddings(empty.clone(), hidden, words, four)
    assert means[..., 0].tolist() == [[2.5, 4, 0, 5], [9, 10, 11, 12.5]]
    spread = insert_missing_embeddings(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 3]), torch.tensor(6))
    assert spread[:, 0].tolist() == [0, 1, 0, 2, 0, 0]
    lengths = torch.tensor([5, 7])
    assert document_cls_pooling(hidden, lengths)[:, 0].tolist() == [5, 14]
    assert document_mean_pooling(hidden, lengths)[:, 0].tolist() == [3, 11]
    assert document_max_pooling(hidden, lengths)[:, 0].tolist() == [5, 14]
    assert truncate_hidden_states(torch.zeros(2, 2, 6, 1), torch.zeros(2, 4)).shape == (2, 2, 4, 1)
    assert pad_sequence_embeddings([torch.ones(3, 2), torch.ones(1, 2)]).sum(dim=2).tolist() == [[2, 2, 2], [2, 0, 0]]
    windows = torch.arange(24).view(4, 6)
    stitched = combine_strided_tensors(windows, torch.tensor([0, 0, 0, 1]), 1, 6, -100)
    assert stitched[0].tolist() == [0, 1, 2, 3, 8, 9, 14, 15, 16, 17, -100, -100, -100, -100]
    assert stitched[1].tolist() == [18, 19, 20, 21, 22, 23, *[-100] * 8]
    cases = {"▁hello": "hello", "##ing": "ing", "Ġthe": "the", "low</w>": "low", "a##b": "a##b", "▁▁x": "▁x"}
    assert {text: remove_special_markup(text) for text in cases} == cases


@pytest.mark.parametrize(
    "function",
    [
        pad_sequence_embeddings,
        truncate_hidden_states,
        combine_strided_tensors,
        fill_masked_elements,
        insert_missing_embeddings,
        fill_mean_token_embeddings,
        document_cls_pooling,
        document_mean_pooling,
        document_max_pooling,
    ],
)
def test_functions_can_be_scripted(function):
    torch.jit.script(function.__wrapped__ if hasattr(function, "__wrapped__") else function)
