"""Old → new: every change of the saved formats since the earliest released file, one row each.

A row says since when a key is called what it is called now. Rows apply to files of released versions only, in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flair.checkpoint.errors import CheckpointError

_MISSING = object()
_DECODER_MODELS = (
    "RelationClassifier RelationExtractor SpanClassifier EntityLinker TextClassifier TextPairClassifier "
    "TextTripleClassifier TokenClassifier WordTagger"
)
_TAGGERS = "SequenceTagger PrefixedSequenceTagger"
_PAIR_MODELS = "TextPairClassifier TextTripleClassifier"
_TARS = "TARSClassifier TARSTagger"


@dataclass(frozen=True)
class Row:
    """One change of the format.

    Attributes:
        since: the release that writes the new form.
        classes: the model classes it concerns, separated by spaces; ``*`` is all.
        old: the old key, or for ``tensors`` a pattern of the old tensor names.
        new: the new key, or the replacement in the tensor names; None drops them.
        default: the value of ``new`` where neither key is there.
        convert: old value → new value.
        tensors: the row is about names in ``state_dict``.
    """

    since: str
    classes: str
    old: str
    new: str | None
    default: Any = _MISSING
    convert: Callable[[Any], Any] | None = None
    tensors: bool = False

    def applies_to(self, name: str | None) -> bool:
        return self.classes == "*" or name in self.classes.split()


def _threshold(value: Any) -> Any:
    return {"default": float(value)} if isinstance(value, (int, float)) else value


def _default(since: str, classes: str, key: str, value: Any) -> Row:
    return Row(since, classes, key, key, default=value)


def _tensors(since: str, classes: str, old: str, new: str | None) -> Row:
    return Row(since, classes, old, new, tensors=True)


ROWS: tuple[Row, ...] = (
    # all models: names that transformers changed below any embeddings
    _tensors("transformers 4.31", "*", r"(^|\.)embeddings\.position_ids$", None),
    _tensors("transformers 1.0", "*", r"(LayerNorm|layer_norm|layernorm)\.gamma$", r"\1.weight"),
    _tensors("transformers 1.0", "*", r"(LayerNorm|layer_norm|layernorm)\.beta$", r"\1.bias"),
    # models with a decoder
    Row("0.12", _DECODER_MODELS, "multi_label_threshold", "multi_label_threshold", convert=_threshold),
    # TextClassifier
    _tensors("0.12", "TextClassifier", r"^document_embeddings\.", "embeddings."),
    _default("0.6", "TextClassifier", "multi_label_threshold", {"default": 0.5}),
    _default("0.6", "TextClassifier", "weight_dict", None),
    # SequenceTagger
    _tensors("0.11", _TAGGERS, r"^transitions$", "crf.transitions"),
    _default("0.11", _TAGGERS, "tag_format", "BIOES"),
    _default("0.4", _TAGGERS, "use_dropout", 0.0),
    _default("0.4", _TAGGERS, "use_word_dropout", 0.0),
    _default("0.4", _TAGGERS, "use_locked_dropout", 0.0),
    _default("0.6", _TAGGERS, "rnn_type", "LSTM"),
    _default("0.6", _TAGGERS, "reproject_embeddings", True),
    _default("0.5", _TAGGERS, "train_initial_hidden_state", False),
    _default("0.6", _TAGGERS, "weight_dict", None),
    # SpanClassifier
    _tensors("0.12", "SpanClassifier EntityLinker", r"^word_embeddings\.", "embeddings."),
    _default("0.12", "SpanClassifier EntityLinker", "candidates", None),
    _default("0.12", "SpanClassifier EntityLinker", "loss_weights", {"<unk>": 0.3}),
    # RelationExtractor, RelationClassifier
    _default("0.12", "RelationExtractor", "train_on_gold_pairs_only", False),
    _default("0.12", "RelationExtractor", "weight_dict", None),
    _default("0.12", "RelationClassifier", "max_allowed_tokens_between_entities", None),
    _default("0.12", "RelationClassifier", "max_surrounding_context_length", None),
    # TARS
    _tensors("0.12", "TARSClassifier", r"^tars_model\.document_embeddings\.", "tars_model.embeddings."),
    _tensors("0.11", "TARSTagger", r"^tars_model\.transitions$", "tars_model.crf.transitions"),
    _default("0.9", "TARSClassifier", "label_type", "default_label"),
    # pairs and triples
    _tensors("0.12", _PAIR_MODELS, r"^document_embeddings\.", "embeddings."),
    Row("0.13", "TextPairRegressor", "document_embeddings", "embeddings"),
    _tensors("0.13", "TextPairRegressor", r"^document_embeddings\.", "embeddings."),
    _tensors("0.12", "TextRegressor", r"^document_embeddings\.", "embeddings."),
    # the others
    _default("0.13", "MultitaskModel", "use_all_tasks", False),
    _default("0.14", "EntityMentionLinker", "batch_size", 128),
    _default("0.4", "LanguageModel", "document_delimiter", "\n"),
    _default("0.12", "LanguageModel", "recurrent_type", "lstm"),
    _default("0.13", "LanguageModel", "has_decoder", True),
)

_SIGNATURES: tuple[tuple[str, frozenset[str]], ...] = (
    ("MultitaskModel", frozenset({"model_states"})),
    ("PrefixedSequenceTagger", frozenset({"tag_dictionary", "use_crf", "augmentation_strategy"})),
    ("SequenceTagger", frozenset({"tag_dictionary", "use_crf", "embeddings"})),
    ("TARSTagger", frozenset({"task_specific_attributes", "tag_dictionary"})),
    ("TARSClassifier", frozenset({"task_specific_attributes"})),
    ("RelationClassifier", frozenset({"encoding_strategy", "label_dictionary"})),
    ("RelationExtractor", frozenset({"entity_label_type", "label_dictionary"})),
    ("SpanClassifier", frozenset({"word_embeddings", "label_dictionary"})),
    ("TextPairClassifier", frozenset({"document_embeddings", "embed_separately", "label_dictionary"})),
    ("TextClassifier", frozenset({"document_embeddings", "label_dictionary"})),
    ("LanguageModel", frozenset({"is_forward_lm", "dictionary"})),
)
"""Files from before the class was recorded: which keys give it away. The first match counts."""
_COMMON_SIGNATURES = (("TokenClassifier", frozenset({"embeddings", "label_dictionary", "label_type"})),)
"""Keys that a classifier of a user's own may have as well."""


def recognised_class(state: dict[str, Any], *, guess: bool = False) -> str | None:
    """The class that a state names, or else that its keys give away; with ``guess`` also if others have these keys."""
    name = state.get("__cls__")
    if isinstance(name, str):
        return name
    signatures = (*_SIGNATURES, *_COMMON_SIGNATURES) if guess else _SIGNATURES
    return next((known for known, keys in signatures if keys <= state.keys()), None)


def migrate(state: dict[str, Any]) -> dict[str, Any]:
    """The state as the newest version would have written it; nested model states included.

    Raises:
        CheckpointError: the old and the new name of the same thing are both there.
    """
    name = recognised_class(state)
    if name is not None and name != "LanguageModel":
        state.setdefault("__cls__", name)
    for row in ROWS:
        if row.applies_to(name):
            _rename_tensors(row, state) if row.tensors else _rename_key(row, state)
    if isinstance(state.get("model_states"), dict):
        state["model_states"] = {task: migrate(dict(inner)) for task, inner in state["model_states"].items()}
    return state


def _rename_key(row: Row, state: dict[str, Any]) -> None:
    new = row.new or row.old
    if row.old in state and row.old != new:
        if new in state:
            raise CheckpointError(f"The file has both {row.old!r} and {new!r}, which is the newer name of the same.")
        state[new] = state.pop(row.old)
    if new in state and row.convert is not None:
        state[new] = row.convert(state[new])
    if new not in state and row.default is not _MISSING:
        state[new] = row.default.copy() if isinstance(row.default, dict) else row.default


def _rename_tensors(row: Row, state: dict[str, Any]) -> None:
    tensors = state.get("state_dict")
    pattern = re.compile(row.old)
    if not isinstance(tensors, dict) or not any(pattern.search(str(key)) for key in tensors):
        return
    renamed: dict[str, Any] = {}
    for key, value in tensors.items():
        if not pattern.search(key):
            new = key
        elif row.new is None:
            continue
        else:
            new = pattern.sub(row.new, key)
        if new in renamed:
            raise CheckpointError(f"The file has two tensors for {new!r}, under its old and its new name.")
        renamed[new] = value
    state["state_dict"] = renamed
