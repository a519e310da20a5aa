"""Models: one task a module."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    "EntityMentionLinker": "flair.models.entity_mention_linking",
    "FewshotClassifier": "flair.models.tars_model",
    "LanguageModel": "flair.models.language_model",
    "Lemmatizer": "flair.models.lemmatizer_model",
    "MultitaskModel": "flair.models.multitask_model",
    "PrefixedSequenceTagger": "flair.models.prefixed_tagger",
    "RegexpTagger": "flair.models.regexp_tagger",
    "RelationClassifier": "flair.models.relation_classifier_model",
    "RelationExtractor": "flair.models.relation_extractor_model",
    "SequenceTagger": "flair.models.sequence_tagger_model",
    "SpanClassifier": "flair.models.entity_linker_model",
    "TARSClassifier": "flair.models.tars_model",
    "TARSTagger": "flair.models.tars_model",
    "TextClassifier": "flair.models.text_classification_model",
    "TextPairClassifier": "flair.models.pairwise_classification_model",
    "TextPairRegressor": "flair.models.pairwise_regression_model",
    "TextRegressor": "flair.models.text_regression_model",
    "TextTripleClassifier": "flair.models.triple_classification_model",
    "TokenClassifier": "flair.models.word_tagger_model",
    "WordTagger": "flair.models.word_tagger_model",
}

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS, ("entity_linker_model", "entity_mention_linking", "language_model", "lemmatizer_model", "multitask_model", "pairwise_classification_model", "pairwise_regression_model", "prefixed_tagger", "regexp_tagger", "relation_classifier_model", "relation_extractor_model", "sequence_tagger_model", "sequence_tagger_utils", "tars_model", "text_classification_model", "text_regression_model", "triple_classification_model", "word_tagger_model",))

__all__ = list(_EXPORTS)
