"""What the golden files were asked: used by the released package when they are made, and by the tests of this one."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import torch

from flair.data import Image, Sentence

EMBEDDED = 2
"""How many of the sentences have their vectors recorded."""
DIGITS = 7


def questions(record: dict[str, Any]) -> list[Sentence]:
    """New sentences, with what the embeddings of the model need besides words."""
    extra = record.get("with") or []
    language = {"language_code": "en"} if "language" in extra else {}
    made = [Sentence(text, **language) for text in record["sentences"]]
    for number, sentence in enumerate(made):
        if "boxes" in extra:
            for index, token in enumerate(sentence):
                left, top = 90 * index % 800, (130 * number + 20 * index) % 900
                token.add_metadata("bbox", (left, top, left + 10 * len(token.text), top + 30))
        if "pages" in extra:
            sentence.add_metadata("image", page(number))
    if "context" in extra:
        Sentence.set_context_for_sentences(made)
    return made


def page(number: int) -> Any:
    """A picture of 32 x 24 pixels."""
    import numpy as np
    from PIL import Image as Picture

    pixels = (np.arange(32 * 24 * 3, dtype=np.int64) * (7 + number)) % 251
    return Picture.fromarray(pixels.reshape(32, 24, 3).astype(np.uint8))


def images() -> list[Image]:
    """Two small pictures as tensors, with the addresses that tables of vectors know."""
    numbers = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8)
    return [Image(data=torch.sin(data), imageURL=address) for data, address in zip(numbers, ("one", "none"))]


def vectors(embedding: Any, points: list[Any]) -> list[Any]:
    """The vectors that ``embed`` writes: a list of numbers a sentence (or image), or one for each of its tokens."""
    embedding.embed(points)
    names = embedding.get_names()
    found: list[Any] = []
    for point in points:
        if embedding.embedding_type == "word-level" and not getattr(embedding, "document_embedding", False):
            found.append([_numbers(token.get_embedding(names)) for token in point])
        elif embedding.embedding_type == "word-level":  # of both
            tokens = [_numbers(token.get_embedding(names)) for token in point]
            found.append([*tokens, _numbers(point.get_embedding(names))])
        else:
            found.append(_numbers(point.get_embedding(names)))
        point.clear_embeddings()
    return found


def predictions(model: Any, record: dict[str, Any]) -> dict[str, Any]:
    """Labels with their scores, all scores of each token or sentence, and the first sentences' vectors."""
    model.train()  # empties the pool of pooled embeddings, which grows with everything that is embedded
    model.eval()
    found: dict[str, Any] = {"vectors": vectors(model.embeddings, questions(record)[:EMBEDDED])}
    model.train()
    model.eval()
    sentences = questions(record)
    model.predict(sentences, label_name="p")
    found["labels"] = [
        [(label.data_point.text, label.value, _rounded(label.score)) for label in sentence.get_labels("p")]
        for sentence in sentences
    ]
    model.train()
    model.eval()
    sentences = questions(record)
    model.predict(sentences, label_name="all", return_probabilities_for_all_classes=True)
    if hasattr(model, "use_crf"):
        found["all"] = [
            [[(tag.value, _rounded(tag.score)) for tag in token.get_tags_proba_dist("all")] for token in sentence]
            for sentence in sentences[:EMBEDDED]
        ]
    else:
        found["all"] = [
            [(label.data_point.text, label.value, _rounded(label.score)) for label in sentence.get_labels("all")]
            for sentence in sentences[:EMBEDDED]
        ]
    return found


def _numbers(vector: torch.Tensor) -> list[float]:
    return [_rounded(number) for number in vector.detach().double().flatten().tolist()]


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


class SentenceTransformer(torch.nn.Module):
    """Stands in for the class of sentence-transformers, which is large and needs published weights."""

    def __init__(self, name: str, cache_folder: Any = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 6)

    def get_sentence_embedding_dimension(self) -> int:
        return 6

    @torch.inference_mode()
    def encode(self, texts: list[str], **options: Any) -> torch.Tensor:
        counts = [[len(text), text.count(" "), text.count("e"), text.count("t")] for text in texts]
        return self.layer(torch.tensor(counts, dtype=torch.float32))


def sentence_transformers() -> types.ModuleType:
    """A module with this class, which pickles of it name."""
    SentenceTransformer.__module__ = "sentence_transformers"
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
    return module


def cache_with_muse(cache_root: Path, muse: Path = Path(__file__).parent / "muse") -> None:
    """Put the golden table of English words where downloaded ones would be."""
    import shutil

    target = cache_root / "embeddings" / "MUSE"
    target.mkdir(parents=True)
    for file in muse.iterdir():
        shutil.copy(file, target / file.name)
