"""Models: one task a module."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "LanguageModel": "flair.models.language_model",
    "PrefixedSequenceTagger": "flair.models.prefixed_tagger",
    "RegexpTagger": "flair.models.regexp_tagger",
    "SequenceTagger": "flair.models.sequence_tagger_model",
    "TextClassifier": "flair.models.text_classification_model",
    **dict.fromkeys(("TokenClassifier", "WordTagger"), "flair.models.word_tagger_model"),
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    (
        "language_model",
        "prefixed_tagger",
        "regexp_tagger",
        "sequence_tagger_model",
        "sequence_tagger_utils",
        "text_classification_model",
        "word_tagger_model",
    ),
)

__all__ = list(_EXPORTS)
