"""Golden files by kind: models around every embedding, embeddings alone, language models, and pickled objects."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from embedding_kinds import NEEDS, characters, document_kinds, exported, image_kinds, token_kinds
from inputs import EMBEDDED, images, predictions, questions, vectors
from material import QUESTIONS, cases, classifier, entities, language_model, word_vectors

import flair
from flair.embeddings import (
    DocumentPoolEmbeddings,
    StackedEmbeddings,
    TransformerDocumentEmbeddings,
    TransformerWordEmbeddings,
)
from flair.models import LanguageModel, PrefixedSequenceTagger, RegexpTagger, SequenceTagger, TokenClassifier
from flair.models.prefixed_tagger import EntityTypeTaskPromptAugmentationStrategy
from flair.models.word_tagger_model import WordTagger

IN_MODELS_ONLY = (
    *("layoutlm", "layoutlmv3", "jit", "jit_documents"),
    *("transformer_roberta", "transformer_t5", "transformer_layers", "transformer_mean"),
    "transformer_both",
)
"""Kinds that are large because they bring a tokenizer with them: models are enough."""
IN_NO_PICKLE = ("transformer_max", "transformer_context")
"""0.15.1 cannot read its own pickles of transformers either."""


def record(kind: str, holder: Any, **more: Any) -> dict[str, Any]:
    return {
        "class": type(holder).__name__,
        "flair": flair.__version__,
        "sentences": QUESTIONS,
        "with": NEEDS.get(kind, []),
        **more,
    }


# --- models ---


def sharpened(model: Any) -> Any:
    """Untrained, and yet with different answers: the last layer's weights are drawn wider."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("linear.", "decoder.")):
                parameter.normal_(0.0, 0.7 if parameter.dim() > 1 else 0.1)
            elif name == "crf.transitions":
                parameter.copy_(
                    torch.where(parameter > -1000, parameter + torch.randn_like(parameter) * 0.3, parameter)
                )
    return model


def tagger(embeddings: Any, **options: Any) -> SequenceTagger:
    settings = {"hidden_size": 8, "use_crf": False, "use_rnn": False, "reproject_embeddings": False, **options}
    return sharpened(SequenceTagger(embeddings, entities(), tag_type="ner", **settings))


def models(folder: Path) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Title -> the kind of embedding and a new model."""
    bert = str(folder / "bert")
    made: dict[str, tuple[str, Callable[[], Any]]] = {}
    for kind, make in token_kinds(folder).items():
        if kind != "transformer_both":  # which the token classifier has
            made[f"tagger_{kind}"] = (kind, lambda make=make: tagger(make()))
    for kind, make in document_kinds(folder).items():
        made[f"classifier_{kind}"] = (kind, lambda make=make: sharpened(classifier(make())))

    def stack() -> StackedEmbeddings:
        return StackedEmbeddings([word_vectors(), characters()])

    def prefixed(embeddings: Any, types: list[str], **options: Any) -> PrefixedSequenceTagger:
        strategy = EntityTypeTaskPromptAugmentationStrategy(types)
        settings = {"hidden_size": 8, "use_rnn": False, "reproject_embeddings": False, **options}
        return sharpened(
            PrefixedSequenceTagger(embeddings, entities(), "ner", augmentation_strategy=strategy, **settings)
        )

    heads: dict[str, Callable[[], Any]] = {
        "head_gru": lambda: sharpened(
            SequenceTagger(
                stack(),
                cases(),
                tag_type="case",
                use_crf=False,
                hidden_size=6,
                rnn_layers=2,
                rnn_type="GRU",
                train_initial_hidden_state=True,
            )
        ),
        "head_rnn": lambda: tagger(stack(), use_rnn=True, rnn_type="RNN", reproject_embeddings=True),
        "head_one_direction": lambda: tagger(stack(), use_crf=True, use_rnn=True, bidirectional=False),
        "head_crf": lambda: tagger(stack(), use_crf=True, reproject_embeddings=5, loss_weights={"PER": 2.0}),
        "head_crf_bio": lambda: tagger(stack(), use_crf=True, use_rnn=True, tag_format="BIO", dropout=0.1),
        "head_no_dropout": lambda: tagger(stack(), use_rnn=True, word_dropout=0.0, locked_dropout=0.0),
        "token_classifier_both": lambda: sharpened(
            TokenClassifier(
                token_kinds(folder)["transformer_both"](),
                label_dictionary=entities(),
                label_type="ner",
                span_encoding="BIO",
            )
        ),
        "word_tagger": lambda: sharpened(WordTagger(stack(), label_dictionary=cases(), label_type="case")),
        "prefixed_one_type": lambda: prefixed(word_vectors(), ["places"], use_crf=False, use_rnn=True),
        "prefixed_transformer": lambda: prefixed(
            TransformerWordEmbeddings(bert), ["persons", "places", "trains"], use_crf=True
        ),
        "classifier_options": lambda: sharpened(
            classifier(
                DocumentPoolEmbeddings([word_vectors()]),
                multi_label=True,
                multi_label_threshold={"default": 0.4, "food": 0.6},
                loss_weights={"food": 2.0},
                dropout=0.1,
                word_dropout=0.1,
                locked_dropout=0.1,
                train_on_gold_pairs_only=False,
            )
        ),
        "tagger_onnx": lambda: tagger(
            exported(
                TransformerWordEmbeddings(bert, fine_tune=False, allow_long_sentences=False), Path("tagger_onnx.onnx")
            )
        ),
        "classifier_onnx": lambda: sharpened(
            classifier(exported(TransformerDocumentEmbeddings(bert, fine_tune=False), Path("classifier_onnx.onnx")))
        ),
    }
    return {**made, **{title: ("", build) for title, build in heads.items()}}


def save_model(kind: str, model: Any, file: Path) -> dict[str, Any]:
    model.eval()
    told = record(kind, model)
    told |= predictions(model, told)
    if isinstance(model, (PrefixedSequenceTagger, TokenClassifier)):
        del told["all"]  # 0.15.1 gives only some of the scores
    model.save(file)
    graph = Path(f"{file.stem}.onnx")
    if graph.exists():  # model files of 0.15.1 hold its path only
        shutil.copy(graph, file.parent)
    return told


# --- embeddings ---


def embeddings(folder: Path) -> dict[str, tuple[str, Callable[[], Any]]]:
    kinds = {**token_kinds(folder), **document_kinds(folder), **image_kinds()}
    return {kind: (kind, make) for kind, make in kinds.items() if kind not in IN_MODELS_ONLY}


def save_embedding(kind: str, embedding: Any, file: Path, whole: bool = False) -> dict[str, Any]:
    """What users wrote with ``torch.save``: the result of ``save_embeddings()``, or the object itself (``whole``)."""
    embedding.train()
    embedding.eval()
    told = record(kind, embedding, length=embedding.embedding_length)
    points = images() if kind.startswith("image_") else questions(told)[:EMBEDDED]
    torch.save(embedding if whole else embedding.save_embeddings(), file)
    with torch.no_grad():
        told["vectors"] = vectors(embedding, points)
    if whole and kind == "muse":  # after its first use it has a table in it
        torch.save(embedding, file)
    return told


# --- language models ---


def language_models() -> dict[str, Callable[[], Any]]:
    def other() -> LanguageModel:
        dictionary = language_model(True).dictionary
        return LanguageModel(
            dictionary,
            False,
            hidden_size=7,
            nlayers=2,
            embedding_size=5,
            nout=4,
            recurrent_type="GRU",
            document_delimiter=" ",
        )

    return {
        "forward": lambda: language_model(True),
        "backward_gru": other,
        "without_decoder": lambda: LanguageModel(
            language_model(True).dictionary, True, hidden_size=7, nlayers=1, embedding_size=5, has_decoder=False
        ),
        "checkpoint": lambda: language_model(False),
    }


def save_language_model(title: str, model: Any, file: Path) -> dict[str, Any]:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    model.eval()
    told = record("", model)
    if title == "checkpoint":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
        model.save_checkpoint(file, optimizer, epoch=3, split=2, loss=1.5)
        told["progress"] = {"epoch": 3, "split": 2, "loss": 1.5}
    else:
        model.save(file)
    if title != "without_decoder":
        told["perplexity"] = [model.calculate_perplexity(text) for text in QUESTIONS]
    with torch.no_grad():
        states = model.get_representation(QUESTIONS[:EMBEDDED], "\n", "\n")
    told["states"] = states.tolist()
    return told


# --- objects ---

RULES = [(r"[A-Z]\w+", "name"), (r"(\w+) \?", "asked", 1)]


def save_object(title: str, folder: Path, file: Path) -> dict[str, Any] | None:
    """Objects of other kinds than embeddings, pickled."""
    if title == "regexp_tagger":
        rules = RegexpTagger(RULES)
        told = record("", rules)
        sentences = questions(told)
        rules.predict(sentences)
        torch.save(rules, file)
        return {
            **told,
            "labels": [[(label.data_point.text, label.value) for label in s.get_labels()] for s in sentences],
        }
    if title == "language_model":
        model = language_model(True).eval()
        torch.save(model, file)
        return {**record("", model), "perplexity": [model.calculate_perplexity(text) for text in QUESTIONS]}
    model = tagger(StackedEmbeddings([word_vectors(), characters()]), use_crf=True)
    model.eval()
    told = record("", model)
    told |= predictions(model, told)
    torch.save({**model._get_state_dict(), "embeddings": model.embeddings}, file)
    return told


OBJECTS = ("regexp_tagger", "language_model", "tagger_with_embeddings_object")
