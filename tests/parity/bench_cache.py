"""Fills a cache folder with stand-ins for two published downloads, so that both packages can be timed offline.

    python tests/parity/bench_cache.py FOLDER
    FLAIR_CACHE_ROOT=FOLDER python bench.py MODEL lstm_crf_predict flair_lm_predict

The stand-ins have the published names, formats and sizes (word vectors "turian": 268,810 words of 50 dimensions;
language model "news-forward-fast": one LSTM of 1,024 units over 275 characters) with random contents: what is timed
doesn't depend on the values. Whichever flair is importable writes them, in the formats of the released versions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

WORDS, DIMENSIONS = 268_810, 50
CHARACTERS, UNITS = 275, 1024


def main(folder: Path) -> None:
    from gensim.models import KeyedVectors

    from flair.data import Dictionary
    from flair.models import LanguageModel

    target = folder / "embeddings"
    target.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    common = "the of and to in a is that for it as was with be by on not he his but at are this have from"
    words = common.split()
    words += [f"word{number}" for number in range(WORDS - len(words))]
    vectors = KeyedVectors(DIMENSIONS)
    vectors.add_vectors(words, random.standard_normal((WORDS, DIMENSIONS), dtype=np.float32))
    vectors.save(str(target / "turian"), sep_limit=1)

    characters = Dictionary(add_unk=True)
    for code in range(32, 32 + CHARACTERS - 1):
        characters.add_item(chr(code))
    torch.manual_seed(0)
    model = LanguageModel(characters, is_forward_lm=True, hidden_size=UNITS, nlayers=1, embedding_size=100)
    model.save(target / "lm-news-english-forward-1024-v0.2rc.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
