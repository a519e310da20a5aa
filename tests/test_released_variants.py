"""Older layouts of saved models and pickled objects, made from golden files: each loads as the file it came from."""

from __future__ import annotations

import pickle
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flair.checkpoint import load_state
from flair.data import Dictionary
from flair.embeddings import (
    DocumentRNNEmbeddings,
    FlairEmbeddings,
    TransformerDocumentEmbeddings,
    TransformerWordEmbeddings,
    WordEmbeddings,
)
from flair.embeddings.base import load_embeddings
from flair.models import LanguageModel, SequenceTagger, TextClassifier, TokenClassifier
from flair.nn import DefaultClassifier, Model
from tests.test_released_files import GOLDEN, TOLERANCE, assert_embeds, assert_predicts, recorded

Edit = Callable[[dict[str, Any]], None]


def without(*keys: str) -> Edit:
    """Settings that earlier versions did not write."""

    def edit(state: dict[str, Any]) -> None:
        for key in keys:
            del state[key]

    return edit


def renamed(old: str, new: str) -> Edit:
    """Other names of weights."""

    def edit(state: dict[str, Any]) -> None:
        tensors = state["state_dict"]
        assert any(re.search(old, name) for name in tensors)
        state["state_dict"] = {re.sub(old, new, name): tensor for name, tensor in tensors.items()}

    return edit


def with_values(**values: Any) -> Edit:
    return lambda state: state.update(values)


def both(*edits: Edit) -> Edit:
    def edit(state: dict[str, Any]) -> None:
        for one in edits:
            one(state)

    return edit


def old_dictionary(key: str) -> Edit:
    """Before ``add_unk`` was an attribute; and with the cache that 0.15.1 leaves behind."""

    def edit(state: dict[str, Any]) -> None:
        dictionary = state[key]
        for name in ("add_unk", "multi_label"):
            del dictionary.__dict__[name]
        dictionary.__dict__["item2idx_not_encoded"] = defaultdict(int, {"O": 3})

    return edit


def in_params(edit: Edit, key: str = "embeddings") -> Edit:
    """A change in the description of the embeddings."""
    return lambda state: edit(state[key])


def byte_pairs_with_vectors(state: dict[str, Any]) -> None:
    """Vectors in the description, as a word2vec file, and none among the weights."""
    from gensim.models import KeyedVectors

    params = state["embeddings"]
    table = state["state_dict"].pop("embeddings.embedding.weight")[:-1].numpy()
    vectors = KeyedVectors(table.shape[1])
    vectors.add_vectors([f"unit{row}" for row in range(len(table))], table)
    file = Path("vectors.bin")
    vectors.save_word2vec_format(str(file), binary=True)
    params["word2vec_binary"] = file.read_bytes()
    for key in ("dim", "field", "preprocess"):
        del params[key]


OLD_TRANSFORMER = with_values(truncate=True, stride=0, embedding_length=16, use_lang_emb=False)
OPTIONAL = (
    "dropout",
    "word_dropout",
    "locked_dropout",
    "multi_label",
    "multi_label_threshold",
    "loss_weights",
    "train_on_gold_pairs_only",
    "inverse_model",
    "weight_dict",
)
LEARNING = ("tag_format", "use_dropout", "use_word_dropout", "use_locked_dropout", "weight_dict")

VARIANTS: dict[str, tuple[str, Edit]] = {
    "class of a classifier": ("classifier_cnn", without("__cls__")),
    "class of a tagger": ("head_no_dropout", without("__cls__")),
    "class of a tagger with prefix": ("prefixed_one_type", without("__cls__")),
    "class of a token classifier": ("token_classifier_both", without("__cls__")),
    "tensors of a classifier": ("classifier_cnn", renamed(r"^embeddings\.", "document_embeddings.")),
    "settings of a classifier": ("classifier_cnn", without(*OPTIONAL)),
    "embeddings, class and settings of a classifier": (
        "classifier_transformer_max",
        both(renamed(r"^embeddings\.", "document_embeddings."), without("__cls__", *OPTIONAL)),
    ),
    "transitions": ("head_crf", renamed(r"^crf\.transitions$", "transitions")),
    "transitions and class": ("head_crf", both(renamed(r"^crf\.", ""), without("__cls__", "tag_format"))),
    "settings of a tagger": ("head_no_dropout", without(*LEARNING, "rnn_type", "train_initial_hidden_state")),
    "reprojection": ("head_gru", without(*LEARNING, "reproject_embeddings")),
    "dictionary of a tagger": ("head_crf", old_dictionary("tag_dictionary")),
    "dictionary of a classifier": ("classifier_cnn", old_dictionary("label_dictionary")),
    "dictionary with unknown words": ("word_tagger", old_dictionary("label_dictionary")),
    "no tokenizer": ("classifier_cnn", with_values(tokenizer_info=None)),
    "byte pairs": ("tagger_byte_pair", byte_pairs_with_vectors),
    "field of fastText": ("tagger_fast_text", in_params(without("field"))),
    "derived settings of a transformer": ("tagger_transformer_layers", in_params(OLD_TRANSFORMER)),
    "context of a transformer": ("tagger_transformer_mean", in_params(without("context_length", "is_token_embedding"))),
    "kind of a transformer": (
        "tagger_transformer_mean",
        lambda state: without("model_type")(state["embeddings"]["config_state_dict"]),
    ),
    "settings of a transformer": (
        "classifier_transformer_max",
        in_params(
            without(
                "force_max_length",
                "use_context_separator",
                "needs_manual_ocr",
                "context_dropout",
                "respect_document_boundaries",
                "subtoken_pooling",
                "is_document_embedding",
            ),
            "document_embeddings",
        ),
    ),
    "position ids": (
        "tagger_transformer_mean",
        lambda state: state["state_dict"].update({"embeddings.model.embeddings.position_ids": torch.arange(64)[None]}),
    ),
    "gamma": ("tagger_transformer_mean", renamed(r"LayerNorm\.weight$", "LayerNorm.gamma")),
    "beta": ("tagger_transformer_mean", renamed(r"LayerNorm\.bias$", "LayerNorm.beta")),
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def changed(name: str, edit: Edit) -> dict[str, Any]:
    state = torch.load(GOLDEN / "models" / f"{name}.pt", weights_only=False)
    edit(state)
    return state


@pytest.mark.parametrize("variant", VARIANTS)
def test_older_layouts_of_models(variant: str, tmp_path: Path) -> None:
    name, edit = VARIANTS[variant]
    record = recorded(GOLDEN / "models" / f"{name}.pt")
    torch.save(changed(name, edit), tmp_path / "old.pt", pickle_protocol=4)
    model: Any = Model.load(tmp_path / "old.pt")
    assert_predicts(model, record)
    assert_predicts(Model.load(changed(name, edit)), record)  # the state itself in place of a file
    model.save(tmp_path / "new.pt")
    assert_predicts(Model.load(tmp_path / "new.pt"), record)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", ["tagger_stacked", "tagger_transformer_mean", "classifier_tfidf", "head_gru"])
def test_older_containers(name: str, protocol: int, zipped: bool, tmp_path: Path) -> None:
    record = recorded(GOLDEN / "models" / f"{name}.pt")
    state = changed(name, lambda state: None)
    torch.save(state, tmp_path / "m.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_predicts(Model.load(tmp_path / "m.pt"), record)


def test_a_users_class_is_not_taken_for_another(tmp_path: Path) -> None:
    class Own(TokenClassifier):
        pass

    class Other(DefaultClassifier):  # type: ignore[type-arg]
        @classmethod
        def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> Any:
            return Own._init_model_with_state_dict(state)

    torch.save(changed("word_tagger", without("__cls__")), tmp_path / "old.pt")
    assert type(Own.load(tmp_path / "old.pt")) is Own
    Other.__abstractmethods__ = frozenset()
    assert type(Other.load(tmp_path / "old.pt")) is Own


@pytest.mark.parametrize(
    ("cls", "name"),
    [(SequenceTagger, "head_crf"), (TextClassifier, "classifier_cnn"), (TokenClassifier, "token_classifier_both")],
)
def test_without_a_class_the_one_asked_counts(cls: Any, name: str, tmp_path: Path) -> None:
    torch.save(changed(name, without("__cls__")), tmp_path / "old.pt")
    assert type(cls.load(tmp_path / "old.pt")) is cls


def test_a_threshold_that_is_a_number(tmp_path: Path) -> None:
    state = changed("classifier_options", with_values(multi_label_threshold=0.4))
    torch.save(state, tmp_path / "old.pt")
    assert TextClassifier.load(tmp_path / "old.pt").multi_label_threshold == {"default": 0.4}


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"class_name": None},
        {"class_module": "no.such", "class_name": "Tokenizer"},
        {"class_module": "flair.tokenization", "class_name": "NoSuchTokenizer"},
        {"class_module": "os", "class_name": "system"},
        {"class_module": "flair.tokenization", "class_name": "TokenizerWrapper", "function_name": "f"},
    ],
)
def test_tokenizers_that_cannot_be_rebuilt(info: dict[str, Any], tmp_path: Path, caplog: Any) -> None:
    torch.save(changed("classifier_cnn", with_values(tokenizer_info=info)), tmp_path / "old.pt")
    assert TextClassifier.load(tmp_path / "old.pt").tokenizer is None


# --- language models ---

FORWARD = GOLDEN / "language_models" / "forward.pt"


def assert_perplexity(model: LanguageModel) -> None:
    record = recorded(FORWARD)
    found = [model.calculate_perplexity(text) for text in record["sentences"]]
    assert found == pytest.approx(record["perplexity"], rel=TOLERANCE)


@pytest.mark.parametrize(
    "edit",
    [
        without("document_delimiter", "recurrent_type", "has_decoder"),
        with_values(recurrent_type="lstm"),
        old_dictionary("dictionary"),
    ],
    ids=["settings", "lower-case", "dictionary"],
)
def test_older_language_models(edit: Edit, tmp_path: Path) -> None:
    state = torch.load(FORWARD, weights_only=False)
    edit(state)
    torch.save(state, tmp_path / "old.pt")
    model = LanguageModel.load_language_model(tmp_path / "old.pt")
    assert model.document_delimiter == "\n"
    assert_perplexity(model)
    assert_perplexity(pickled(model))


def test_language_models_that_were_pickled_whole() -> None:
    """Early versions pickled every attribute, and had fewer of them."""
    attributes = dict(vars(LanguageModel.load_language_model(FORWARD)))
    for name in ("recurrent_type", "state_count", "document_delimiter", "_character_table", "_table_size"):
        del attributes[name]
    model = LanguageModel.__new__(LanguageModel)
    model.__setstate__(attributes)
    assert model.document_delimiter == "\n"
    assert_perplexity(model)
    assert_perplexity(pickled(model))


# --- pickled embeddings ---


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def unpickled(cls: Any, state: dict[str, Any]) -> Any:
    """What ``pickle`` makes of an instance with this state."""
    made = cls.__new__(cls)
    made.__setstate__(state)
    return made


def golden_embedding(name: str) -> tuple[Any, dict[str, Any], Path]:
    file = GOLDEN / "embeddings" / f"{name}.pt"
    return load_embeddings(load_state(file)), recorded(file), file


@pytest.mark.parametrize("generation", [None, 3, 4], ids=["table", "gensim 3", "gensim 4"])
def test_early_word_embeddings(generation: int | None) -> None:
    made, record, file = golden_embedding("words")
    state = dict(vars(made))
    for name in ("embeddings", "force_cpu", "fine_tune", "field", "stable", "device", "_known"):
        del state[name]
    state["get_cached_vec"] = None
    state["_modules"] = {key: module for key, module in state["_modules"].items() if key != "layer_norm"}
    if generation is not None:
        vectors = made.embedding.weight[:-1].numpy()
        table: Any = type("KeyedVectors", (), {})()
        table.vectors = vectors
        if generation == 4:
            table.key_to_index = dict(made.vocab)
        else:
            entry = type("Vocab", (), {})
            table.vocab = {word: entry() for word in made.vocab}
            for word, row in made.vocab.items():
                table.vocab[word].index = row
        state["precomputed_word_embeddings"] = table
        del state["vocab"], state["_modules"]["embedding"]
    early = unpickled(WordEmbeddings, state)
    assert early.embeddings == "tiny"
    assert (early.force_cpu, early.fine_tune, early.field, early.stable) == (True, False, None, False)
    for embedding in (early, pickled(early), load_embeddings(early.save_embeddings())):
        assert_embeds(embedding, record, file)


def test_early_flair_embeddings() -> None:
    made, record, file = golden_embedding("flair_forward")
    state = dict(vars(made))
    for name in ("fine_tune", "chars_per_chunk", "with_whitespace", "tokenized_lm", "is_lower", "is_forward_lm"):
        del state[name]
    early = unpickled(FlairEmbeddings, state)
    assert (early.fine_tune, early.chars_per_chunk, early.tokenized_lm) == (False, 512, True)
    for embedding in (early, pickled(early), load_embeddings(early.save_embeddings())):
        assert_embeds(embedding, record, file)


@pytest.mark.parametrize("form", ["described", "object"])
@pytest.mark.parametrize("name", ["rnn_lstm", "rnn_narrow"])
def test_recurrent_document_embeddings_as_settings(name: str, form: str) -> None:
    made, record, file = golden_embedding(name)
    state = {**made.to_params(), "state_dict": made.state_dict()}
    if form == "object":
        state["embeddings"] = made.embeddings
    assert_embeds(unpickled(DocumentRNNEmbeddings, state), record, file)
    del state["state_dict"]
    assert unpickled(DocumentRNNEmbeddings, state).embedding_length == record["length"]


EARLY_TRANSFORMERS: dict[str, Edit] = {
    "as saved": lambda state: None,
    "names": lambda state: state.update(base_model_name=state.pop("model"), subtoken_pooling=state["subtoken_pooling"]),
    "numbers of layers": lambda state: state.update(layer_indexes=[int(n) for n in state.pop("layers").split(",")]),
    "scalar mix": lambda state: state.update(use_scalar_mix=state.pop("layer_mean")),
    "further settings": with_values(batch_size=4, embedding_length_internal=16, memory_effective_training=True),
    "derived settings": OLD_TRANSFORMER,
    "path of the configuration": lambda state: state["config_state_dict"].update(_name_or_path="None"),
    "kind of the configuration": lambda state: without("model_type")(state["config_state_dict"]),
    "position ids": lambda state: state["model_state_dict"].update({"embeddings.position_ids": torch.arange(64)[None]}),
}


@pytest.mark.parametrize("early", EARLY_TRANSFORMERS)
@pytest.mark.parametrize(
    ("name", "cls"),
    [("transformer_context", TransformerWordEmbeddings), ("transformer_max", TransformerDocumentEmbeddings)],
)
def test_early_transformers(name: str, cls: Any, early: str) -> None:
    file = GOLDEN / "embeddings" / f"{name}.pt"
    record = recorded(file)
    params = torch.load(file, weights_only=False)
    weights = params.pop("state_dict")
    del params["__cls__"]
    params["model_state_dict"] = {key.removeprefix("model."): tensor for key, tensor in weights.items()}
    EARLY_TRANSFORMERS[early](params)
    embedding = unpickled(cls, params)
    assert_embeds(embedding, record, file)
    assert_embeds(pickled(embedding), record, file)


def test_what_a_transformer_gives_follows_from_its_pooling() -> None:
    params = torch.load(GOLDEN / "embeddings" / "transformer_max.pt", weights_only=False)
    weights = params.pop("state_dict")
    params["model_state_dict"] = {key.removeprefix("model."): tensor for key, tensor in weights.items()}
    for key in ("__cls__", "is_token_embedding", "is_document_embedding", "use_context_separator", "context_length"):
        del params[key]
    words = {**params, "pooling_operation": "mean"}
    del words["subtoken_pooling"], words["cls_pooling"]
    early = unpickled(TransformerWordEmbeddings, words)
    assert (early.token_embedding, early.document_embedding, early.subtoken_pooling) == (True, False, "mean")
    assert (early.use_context_separator, early.context_length) == (False, 0)
    documents = {**params, "pooling": "max"}
    del documents["cls_pooling"]
    early = unpickled(TransformerDocumentEmbeddings, documents)
    assert (early.token_embedding, early.document_embedding, early.cls_pooling) == (False, True, "max")


def test_byte_pairs_without_weights() -> None:
    """An empty state leaves the vectors that the description brought."""
    made, record, file = golden_embedding("byte_pair")
    state = {"embeddings": made.save_embeddings(), "state_dict": {"embeddings.embedding.weight": made.embedding.weight}}
    byte_pairs_with_vectors(state)
    state["embeddings"]["state_dict"] = {}
    assert_embeds(load_embeddings(state["embeddings"]), record, file)


# --- dictionaries ---


def test_dictionaries_on_their_own(tmp_path: Path) -> None:
    """Files of Python 2 hold text where bytes are meant."""
    for items in ([b"<unk>", "ü".encode()], ["<unk>", "ü".encode().decode("latin1")]):
        saved = {"idx2item": items, "item2idx": {item: row for row, item in enumerate(items)}}
        (tmp_path / "chars").write_bytes(pickle.dumps(saved, protocol=2))
        dictionary = Dictionary.load_from_file(tmp_path / "chars")
        assert dictionary.get_items() == ["<unk>", "ü"]
        assert dictionary.add_unk
        assert dictionary.get_idx_for_item("x") == 0


# --- names of stacked embeddings ---


@pytest.mark.parametrize("prefixed", [True, False])
def test_members_of_a_stack_keep_their_order(prefixed: bool) -> None:
    """Vectors stand in the order of names, and files of 0.15.1 do not have the names of all members."""
    hashed, words = (golden_embedding(name)[0] for name in ("hash", "words"))
    if prefixed:
        words.name = "1-tiny"
    params = {
        "embeddings": [member.save_embeddings() for member in (hashed, words)],
        "__cls__": "StackedEmbeddings",
    }
    stack: Any = load_embeddings(params)
    assert stack.get_names() == (["0-hash", "1-tiny"] if prefixed else ["hash", "tiny"])
    again: Any = load_embeddings(stack.save_embeddings())
    assert again.get_names() == stack.get_names()
