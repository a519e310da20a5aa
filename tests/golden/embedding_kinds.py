"""One small instance of every kind of embedding, with random weights: what golden models and files are built around."""

from __future__ import annotations

import contextlib
import functools
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from inputs import cache_with_muse, sentence_transformers
from material import QUESTIONS, TEXTS, WORDS, language_model, vocabulary, word_vectors

import flair
from flair.data import Dictionary, Sentence
from flair.embeddings import (
    BytePairEmbeddings,
    CharacterEmbeddings,
    ConvTransformNetworkImageEmbeddings,
    DocumentCNNEmbeddings,
    DocumentLMEmbeddings,
    DocumentPoolEmbeddings,
    DocumentRNNEmbeddings,
    DocumentTFIDFEmbeddings,
    FastTextEmbeddings,
    FlairEmbeddings,
    HashEmbeddings,
    MuseCrosslingualEmbeddings,
    NILCEmbeddings,
    OneHotEmbeddings,
    PooledFlairEmbeddings,
    PrecomputedImageEmbeddings,
    SentenceTransformerDocumentEmbeddings,
    StackedEmbeddings,
    TransformerDocumentEmbeddings,
    TransformerJitDocumentEmbeddings,
    TransformerJitWordEmbeddings,
    TransformerWordEmbeddings,
    WordEmbeddings,
)
from flair.embeddings.transformer import TransformerEmbeddings

NETWORK = {
    "dropout": [0.0, 0.0],
    "n_feats_out": [4, 4],
    "kernel_sizes": [(3, 3), (3, 3)],
    "strides": [(1, 1), (1, 1)],
    "groups": [1, 2],
    "pool_layers_map": {"0": 2},
    "adaptive_pool_func": "max",
    "output_size": (2, 2),
}
PLACES = {"nonlinear": True, "n_hidden": 6}
BLOCKS = {"n_blocks": 1, "transformer_encoder_parms": {"nhead": 2, "dim_feedforward": 8, "dropout": 0.0}}


def prepare(folder: Path, golden: Path) -> None:
    """Write the files that embeddings are loaded from, and put a stand-in for sentence-transformers into place."""
    import numpy as np
    import sentencepiece
    from gensim.models import FastText, KeyedVectors
    from tiny_transformers import make_layout_folder, make_model_folder

    random = np.random.RandomState(3)
    lines = [text.split() for text in QUESTIONS]
    english = KeyedVectors(300)
    english.lifecycle_events = None  # no record of where and when it was saved
    english.add_vectors(WORDS[:20], random.randn(20, 300).astype("float32"))
    if not (golden / "muse").exists():
        (golden / "muse").mkdir()
        english.save(str(golden / "muse" / "muse.en.vec.gensim"), separately=["vectors"])
    rows = [" ".join([word, *(f"{number:.4f}" for number in random.randn(6))]) for word in WORDS]
    archive = folder / "cache" / "embeddings" / "nilc-glove" / "glove_s50.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("glove_s50.txt", "\n".join([f"{len(WORDS)} 6", *rows]))
    cache_with_muse(folder / "cache", golden / "muse")
    flair.cache_root = folder / "cache"
    FastText(lines, vector_size=6, min_count=2, bucket=40, epochs=1, workers=1, seed=1).wv.save(
        str(folder / "fast.gensim")
    )
    (folder / "lines.txt").write_text("\n".join(text.lower() for text in QUESTIONS * 5))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "lines.txt"),
        model_prefix=str(folder / "units"),
        vocab_size=40,
        model_type="bpe",
        normalization_rule_name="identity",
        minloglevel=2,
    )
    units = sentencepiece.SentencePieceProcessor(model_file=str(folder / "units.model"))
    pieces = KeyedVectors(5)
    pieces.add_vectors([units.id_to_piece(i) for i in range(40)], random.randn(40, 5).astype("float32"))
    pieces.save_word2vec_format(str(folder / "units.bin"), binary=True)
    (folder / "bert").mkdir(exist_ok=True)
    if not (folder / "bert" / "config.json").exists():
        vocabulary(folder / "bert")
    make_model_folder(folder / "roberta", "roberta", max_length=32)
    make_model_folder(folder / "t5", "t5", max_length=32)
    for kind in ("layoutlm", "layoutlmv3"):
        make_layout_folder(folder / kind, kind)
    sys.modules["sentence_transformers"] = sentence_transformers()


def items(*texts: str) -> Dictionary:
    dictionary = Dictionary()
    for text in texts:
        dictionary.add_item(text)
    return dictionary


def characters(**options: Any) -> CharacterEmbeddings:
    return CharacterEmbeddings(items(*"abcdefghijklmnopqrstuvwxyzABP.,"), 5, 4, **options)


class Words(torch.nn.Module):
    """What is traced of word embeddings."""

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.e = embedding

    def forward(
        self,
        input_ids: torch.Tensor,
        token_lengths: torch.Tensor,
        attention_mask: torch.Tensor,
        word_ids: torch.Tensor,
    ) -> torch.Tensor:
        return self.e.forward(
            input_ids=input_ids, token_lengths=token_lengths, attention_mask=attention_mask, word_ids=word_ids
        )["token_embeddings"]


class Documents(torch.nn.Module):
    """What is traced of document embeddings."""

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.e = embedding

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.e.forward(input_ids=input_ids, attention_mask=attention_mask)["document_embeddings"]


def traced(embedding: Any, wrapped: type[torch.nn.Module], kind: Any) -> Any:
    embedding.eval()
    wrapper = wrapped(embedding)
    names, tensors = kind.parameter_to_list(embedding, wrapper, [Sentence(text) for text in QUESTIONS[:2]])
    return kind.create_from_embedding(torch.jit.trace(wrapper, tensors), embedding, names)


def exported(embedding: Any, path: Path) -> Any:
    """An ONNX graph: 0.15.1 with torch's tracing exporter, as the newer one cannot write its graphs."""
    embedding.eval()
    with tracing_exporter():
        return embedding.export_onnx(path, [Sentence(text) for text in QUESTIONS])


@contextlib.contextmanager
def tracing_exporter() -> Iterator[None]:
    export = torch.onnx.export
    torch.onnx.export = functools.partial(export, dynamo=False)
    try:
        yield
    finally:
        torch.onnx.export = export


def token_kinds(folder: Path) -> dict[str, Callable[[], Any]]:
    """Name -> a new embedding of tokens."""
    bert = str(folder / "bert")
    return {
        "words": word_vectors,
        "words_stable": stable_words,
        "characters": characters,
        "flair_forward": lambda: FlairEmbeddings(language_model(True)),
        "flair_lower_backward": lambda: FlairEmbeddings(
            language_model(False), is_lower=True, tokenized_lm=False, chars_per_chunk=7
        ),
        "flair_with_decoder": lambda: FlairEmbeddings(language_model(True), has_decoder=True, fine_tune=True),
        "pooled_flair": lambda: PooledFlairEmbeddings(FlairEmbeddings(language_model(True)), only_capitalized=True),
        "pooled_flair_mean": lambda: PooledFlairEmbeddings(FlairEmbeddings(language_model(False)), pooling="mean"),
        "one_hot": lambda: OneHotEmbeddings(items(*WORDS[:30]), embedding_length=5, stable=True),
        "one_hot_plain": lambda: OneHotEmbeddings(items(*WORDS[:30]), embedding_length=3),
        "hash": lambda: HashEmbeddings(11, 5, "sha256"),
        "fast_text": lambda: FastTextEmbeddings(str(folder / "fast.gensim")),
        "byte_pair": lambda: BytePairEmbeddings(
            model_file_path=folder / "units.model", embedding_file_path=folder / "units.bin", dim=5
        ),
        "muse": MuseCrosslingualEmbeddings,
        "nilc": lambda: NILCEmbeddings("glove", size=50),
        "stacked": lambda: StackedEmbeddings(
            [word_vectors(), characters(), PooledFlairEmbeddings(FlairEmbeddings(language_model(False)))]
        ),
        "stacked_nameless": lambda: StackedEmbeddings(
            [
                OneHotEmbeddings(items(*WORDS[:30]), embedding_length=3),
                HashEmbeddings(11, 4),
                PooledFlairEmbeddings(FlairEmbeddings(language_model(True))),
                word_vectors(),
            ]
        ),
        "transformer_context": lambda: TransformerWordEmbeddings(bert, use_context=3),
        "transformer_layers": lambda: TransformerWordEmbeddings(
            bert, layers="all", layer_mean=False, subtoken_pooling="first_last", fine_tune=False
        ),
        "transformer_mean": lambda: TransformerWordEmbeddings(
            bert, layers="-1,-2", subtoken_pooling="mean", allow_long_sentences=False
        ),
        "transformer_both": lambda: TransformerEmbeddings(bert, is_token_embedding=True, is_document_embedding=True),
        "transformer_roberta": lambda: TransformerWordEmbeddings(str(folder / "roberta"), subtoken_pooling="last"),
        "transformer_t5": lambda: TransformerWordEmbeddings(str(folder / "t5")),
        "layoutlm": lambda: TransformerWordEmbeddings(str(folder / "layoutlm")),
        "layoutlmv3": lambda: TransformerWordEmbeddings(str(folder / "layoutlmv3")),
        "jit": lambda: traced(
            TransformerWordEmbeddings(bert, fine_tune=False, allow_long_sentences=False),
            Words,
            TransformerJitWordEmbeddings,
        ),
    }


def stable_words() -> WordEmbeddings:
    embedding = WordEmbeddings(
        None,
        vocab={word: row for row, word in enumerate(WORDS)},
        embedding_length=6,
        name="s",
        stable=True,
        fine_tune=True,
    )
    with torch.no_grad():
        embedding.embedding.weight.normal_()
        embedding.layer_norm.weight.normal_(1.0, 0.2)
    return embedding


def document_kinds(folder: Path) -> dict[str, Callable[[], Any]]:
    """Name -> a new embedding of sentences."""
    bert = str(folder / "bert")
    return {
        "pool_linear": lambda: DocumentPoolEmbeddings([word_vectors()], fine_tune_mode="linear", pooling="min"),
        "pool_nonlinear": lambda: DocumentPoolEmbeddings(
            [word_vectors(), characters()], fine_tune_mode="nonlinear", pooling="max"
        ),
        "rnn_lstm": lambda: DocumentRNNEmbeddings(
            [word_vectors()], hidden_size=5, rnn_layers=2, rnn_type="LSTM", bidirectional=True, reproject_words=False
        ),
        "rnn_narrow": lambda: DocumentRNNEmbeddings(
            [word_vectors()], hidden_size=5, reproject_words_dimension=4, dropout=0.0, fine_tune=False
        ),
        "cnn": lambda: DocumentCNNEmbeddings([word_vectors()], kernels=((4, 2), (3, 3))),
        "cnn_direct": lambda: DocumentCNNEmbeddings([word_vectors()], kernels=((4, 5),), reproject_words=False),
        "language_models": lambda: DocumentLMEmbeddings(
            [FlairEmbeddings(language_model(True)), FlairEmbeddings(language_model(False))]
        ),
        "tfidf": lambda: DocumentTFIDFEmbeddings([Sentence(text) for text, _ in TEXTS], max_features=30),
        "sentence_transformer": lambda: SentenceTransformerDocumentEmbeddings("some/model", batch_size=2),
        "transformer_max": lambda: TransformerDocumentEmbeddings(
            bert, cls_pooling="max", layers="-1,-2", layer_mean=True, fine_tune=False
        ),
        "jit_documents": lambda: traced(
            TransformerDocumentEmbeddings(bert, fine_tune=False), Documents, TransformerJitDocumentEmbeddings
        ),
    }


def image_kinds() -> dict[str, Callable[[], Any]]:
    """Name -> a new embedding of pictures."""

    def network(*further: Any) -> Any:
        embedding = ConvTransformNetworkImageEmbeddings(3, NETWORK, *further)
        with torch.no_grad():
            for parameter in embedding.parameters():
                parameter.normal_(0.0, 0.4)
        return embedding

    return {
        "image_convolutions": lambda: network(None, None),
        "image_transformer": lambda: network(PLACES, BLOCKS),
        "image_table": lambda: PrecomputedImageEmbeddings({"one": torch.arange(4.0), "two": torch.ones(4)}, "table"),
    }


NEEDS = {
    "muse": ["language"],
    "layoutlm": ["boxes"],
    "layoutlmv3": ["boxes", "pages"],
    "transformer_context": ["context"],
}
"""Kinds whose sentences need more than words, see :func:`inputs.questions`."""
