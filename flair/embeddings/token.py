"""Token embeddings: the public names. Each family has a module of its own."""

from __future__ import annotations

from flair.embeddings._token.character import CharacterEmbeddings
from flair.embeddings._token.contextual import FlairEmbeddings, PooledFlairEmbeddings, replace_with_language_code
from flair.embeddings._token.muse import MuseCrosslingualEmbeddings
from flair.embeddings._token.stacked import StackedEmbeddings
from flair.embeddings._token.subword import BytePairEmbeddings, FastTextEmbeddings
from flair.embeddings._token.trainable import HashEmbeddings, OneHotEmbeddings
from flair.embeddings._token.word import NILCEmbeddings, WordEmbeddings
from flair.embeddings._transformer.word import TransformerWordEmbeddings

__all__ = [
    "BytePairEmbeddings",
    "CharacterEmbeddings",
    "FastTextEmbeddings",
    "FlairEmbeddings",
    "HashEmbeddings",
    "MuseCrosslingualEmbeddings",
    "NILCEmbeddings",
    "OneHotEmbeddings",
    "PooledFlairEmbeddings",
    "StackedEmbeddings",
    "TransformerWordEmbeddings",
    "WordEmbeddings",
    "replace_with_language_code",
]

for _name in __all__:  # pickles of released versions, and the documentation, name them here
    if _name != "TransformerWordEmbeddings":
        globals()[_name].__module__ = __name__
del _name
