"""Transformers that are told the language of a sentence, XLM and FlauBERT, against the released package: 1e-5 at most.

Tiny random models with one and with two or three languages; sentences in languages the model knows, in one it does
not, and one whose language is detected. Sentences are short: the released package cannot make windows with tokenizers
written in Python. The interpreter of the released package needs sacremoses.
"""

from __future__ import annotations

import itertools
import logging
import sys
from pathlib import Path
from typing import Any

from drive import main

sys.path.append(str(Path(__file__).resolve().parents[1] / "embeddings"))

FOLDERS = [("xlm", 2), ("xlm", 3), ("xlm", 1), ("flaubert", 2), ("flaubert", 3), ("flaubert", 1)]
TEXTS = [
    ("the quick fox jumps !", "en"),
    ("the quick fox jumps !", "de"),
    ("the quick fox jumps !", "fr"),
    ("the quick fox jumps !", "sw"),
    ("le renard saute", "fr"),
    ("der schnelle braune fuchs springt ueber den faulen hund und das ist nicht alles .", None),
    ("the", "en"),
]
TOKENS = {
    "subtoken_pooling": ("first", "last", "first_last", "mean"),
    "layers": ("-1", "0,-1"),
    "layer_mean": (True, False),
    "use_context": (False, 3),
}
DOCUMENTS = {"cls_pooling": ("cls", "mean", "max"), **{key: TOKENS[key] for key in TOKENS if key != "subtoken_pooling"}}


def prepare(folder: Path) -> None:
    from tiny_transformers import make_language_folder

    for kind, languages in FOLDERS:
        make_language_folder(folder / f"{kind}-{languages}", kind, languages=languages, separator=True)


def work(folder: Path) -> dict[str, Any]:
    import torch
    from langdetect import DetectorFactory

    from flair.data import Sentence
    from flair.embeddings import TransformerDocumentEmbeddings, TransformerWordEmbeddings

    DetectorFactory.seed = 0
    logging.getLogger("flair").setLevel(logging.ERROR)
    results: dict[str, Any] = {}
    for (kind, languages), document in itertools.product(FOLDERS, (False, True)):
        embedding_class = TransformerDocumentEmbeddings if document else TransformerWordEmbeddings
        axes = DOCUMENTS if document else TOKENS
        for values in itertools.product(*axes.values()):
            options: dict[str, Any] = dict(zip(axes, values, strict=True))
            embedding = embedding_class(str(folder / f"{kind}-{languages}"), allow_long_sentences=False, **options)
            embedding.eval()
            sentences = [Sentence(text.split(), language_code=code) for text, code in TEXTS]
            Sentence.set_context_for_sentences(sentences)
            embedding.embed(sentences)
            points = sentences if document else [token for sentence in sentences for token in sentence]
            settings = " ".join(f"{key}={value}" for key, value in options.items())
            results[f"{kind} of {languages} {settings}"] = torch.stack(
                [point.get_embedding([embedding.name]).detach() for point in points]
            )
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
