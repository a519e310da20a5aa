"""Readers of labelled data, and the catalogue of published data sets."""

from __future__ import annotations

from flair._lazy import lazy_exports

_EXPORTS = {
    **dict.fromkeys(
        ("DataLoader", "FlairDatapointDataset", "MongoDataset", "SentenceDataset", "StringDataset"),
        "flair.datasets.base",
    ),
    **dict.fromkeys(
        ("CSVClassificationCorpus", "CSVClassificationDataset", "ClassificationCorpus", "ClassificationDataset"),
        "flair.datasets.document_classification",
    ),
    **dict.fromkeys(("ColumnCorpus", "ColumnDataset"), "flair.datasets.sequence_labeling"),
    **dict.fromkeys(("UniversalDependenciesCorpus", "UniversalDependenciesDataset"), "flair.datasets.treebanks"),
}

__getattr__, __dir__ = lazy_exports(
    __name__, _EXPORTS, ("base", "document_classification", "sequence_labeling", "treebanks")
)

__all__ = list(_EXPORTS)
