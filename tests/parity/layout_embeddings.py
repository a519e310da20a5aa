"""Embeddings of layout models (LayoutLM, LayoutLMv3, LiLT, BROS) against the released package: at most 1e-5 apart.

Tiny random models, words with their places on the page ("bbox" metadata) and, for LayoutLMv3, the picture of the page
("image" metadata). Both packages read the same folders and pages. LayoutLMv2 is left out: its network needs
detectron2, which no package registry offers.

Two things are left out because the released package has no result for them: context with [FLERT] around the sentence
(it asks for the place of [FLERT]), and the summary token of LayoutLMv3 and of sentences with context where sentences
are long (it takes the first rows, which are windows of one sentence).
"""

from __future__ import annotations

import itertools
import logging
import random
import sys
import warnings
from pathlib import Path
from typing import Any

from drive import main

sys.path.append(str(Path(__file__).resolve().parents[1] / "embeddings"))

LIMIT = 24
TEXTS = [
    "The quick fox jumps !",
    "internationalisation of antidisestablishmentarianism in Berlin",
    "I love \u200b this film",
    "Great",
    "George Washington went to Washington and never came back ; what a terrible waste of time ! " * 4,
]
TOKENS = {
    "subtoken_pooling": ("first", "last", "first_last", "mean"),
    "layers": ("-1", "0,-1"),
    "layer_mean": (True, False),
    "use_context": (False, 3),
    "allow_long_sentences": (True, False),
}
DOCUMENTS = {**TOKENS, "cls_pooling": ("cls", "mean", "max")}
del DOCUMENTS["subtoken_pooling"]


def prepare(folder: Path) -> None:
    from tiny_transformers import LAYOUT_KINDS, make_layout_folder

    for kind in LAYOUT_KINDS:
        make_layout_folder(folder / kind, kind, max_length=LIMIT, separator=True)


def pages(fractions: bool) -> list[Any]:
    """Sentences with places and pictures, neighbours of each other."""
    import numpy as np
    from PIL import Image

    from flair.data import Sentence

    draw = random.Random(0)
    pixels = np.random.RandomState(0)
    made = []
    for text in TEXTS:
        sentence = Sentence(text.split())
        for token in sentence:
            (left, right), (top, bottom) = (sorted(draw.choices(range(1001), k=2)) for _ in range(2))
            box = (left, top, right, bottom)
            token.add_metadata("bbox", tuple(number / 1000 for number in box) if fractions else box)
        colours = pixels.randint(0, 255, (40, 30, 3)).astype("uint8")
        sentence.add_metadata("image", Image.fromarray(colours))
        made.append(sentence)
    Sentence.set_context_for_sentences(made)
    return made


def cases(document: bool, kind: str) -> list[dict[str, Any]]:
    axes = DOCUMENTS if document else TOKENS
    made = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    for case in made:
        if case["use_context"]:
            case["use_context_separator"] = False
    summary_of_windows = [
        case["allow_long_sentences"]
        and case.get("cls_pooling") == "cls"
        and (bool(case["use_context"]) or kind == "layoutlmv3")
        for case in made
    ]
    return [case for case, left_out in zip(made, summary_of_windows, strict=True) if not left_out]


def vectors(embedding_class: Any, folder: Path, options: dict[str, Any], fractions: bool) -> Any:
    import torch

    embedding = embedding_class(str(folder), **options)
    embedding.eval()
    sentences = pages(fractions)
    embedding.embed(sentences)
    document = "cls_pooling" in options
    points = sentences if document else [token for sentence in sentences for token in sentence]
    return torch.stack([point.get_embedding([embedding.name]).detach() for point in points])


def work(folder: Path) -> dict[str, Any]:
    from tiny_transformers import LAYOUT_KINDS

    from flair.embeddings import TransformerDocumentEmbeddings, TransformerWordEmbeddings

    logging.getLogger("flair").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    results = {}
    for kind in LAYOUT_KINDS:
        needs = {} if kind == "layoutlmv3" else {"needs_manual_ocr": True}
        for document in (False, True):
            embedding_class = TransformerDocumentEmbeddings if document else TransformerWordEmbeddings
            for options in cases(document, kind):
                settings = " ".join(f"{key}={value}" for key, value in options.items())
                name = f"{kind} {'document' if document else 'token'} {settings}"
                results[name] = vectors(embedding_class, folder / kind, {**options, **needs}, fractions=kind == "bros")
    return results


if __name__ == "__main__":
    sys.exit(main(prepare, work))
