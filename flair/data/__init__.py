"""The data model: sentences and their parts, labels, dictionaries and corpora."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    **dict.fromkeys(
        (
            "DT",
            "DT2",
            "BoundingBox",
            "DataPoint",
            "EntityCandidate",
            "Relation",
            "Span",
            "Token",
            "_PartOfSentence",
        ),
        "flair.data.units",
    ),
    **dict.fromkeys(("DT3", "DataPair", "DataTriple", "TextPair", "TextTriple"), "flair.data.pair"),
    **dict.fromkeys(
        (
            "ConcatFlairDataset",
            "Corpus",
            "FlairDataset",
            "MultiCorpus",
            "T_co",
            "randomly_split_into_two_datasets",
        ),
        "flair.data.corpus",
    ),
    "Dictionary": "flair.data.dictionary",
    "Image": "flair.data.image",
    "Label": "flair.data.label",
    "Sentence": "flair.data.sentence",
    **dict.fromkeys(("SegtokTokenizer", "SpaceTokenizer", "Tokenizer"), "flair.tokenization"),
    "get_spans_from_bio": "flair.data.tags",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    _EXPORTS,
    ("corpus", "dictionary", "image", "label", "loading", "pair", "sentence", "tags", "units"),
)

__all__ = [name for name in _EXPORTS if not name.startswith("_")]
