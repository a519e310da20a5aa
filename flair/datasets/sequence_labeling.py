"""Readers of data with labels on tokens and spans: column files and JSON lines."""

from __future__ import annotations

from flair.datasets._column.corpus import ColumnCorpus, ColumnDataset, MultiFileColumnCorpus
from flair.datasets._column.jsonl import JsonlCorpus, JsonlDataset, MultiFileJsonlCorpus
from flair.datasets._column.tags import bio_to_bioes, bioes_to_bio

__all__ = [
    "ColumnCorpus",
    "ColumnDataset",
    "JsonlCorpus",
    "JsonlDataset",
    "MultiFileColumnCorpus",
    "MultiFileJsonlCorpus",
    "bio_to_bioes",
    "bioes_to_bio",
]
