"""Layout models: places of words and pictures of pages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_transformers import make_layout_folder

from flair.data import Sentence
from flair.embeddings import TransformerDocumentEmbeddings, TransformerWordEmbeddings
from flair.embeddings.base import load_embeddings


def page(text, seed=0, picture=True):
    from PIL import Image

    random = np.random.RandomState(seed)
    sentence = Sentence(text.split())
    for token in sentence:
        left, right = sorted(random.randint(0, 1000, 2).tolist())
        token.add_metadata("bbox", (left, left, right, right))
    if picture:
        sentence.add_metadata("image", Image.fromarray(random.randint(0, 255, (40, 30, 3)).astype("uint8")))
    return sentence


@pytest.fixture(scope="module")
def with_words(tmp_path_factory):
    return str(make_layout_folder(tmp_path_factory.mktemp("layoutlm"), "layoutlm"))


@pytest.fixture(scope="module")
def with_pictures(tmp_path_factory):
    return str(make_layout_folder(tmp_path_factory.mktemp("layoutlmv3"), "layoutlmv3"))


def test_layoutlm_sees_places(with_words):
    embedding = TransformerWordEmbeddings(with_words, needs_manual_ocr=True)
    one, other = (embedding.encode_tokens([page("a film", seed)])[0] for seed in (0, 1))
    assert not torch.allclose(one, other)
    boxes = embedding.prepare_tensors([page("film")])["bbox"][0]
    assert boxes[0].tolist() == boxes[-1].tolist() == [0, 0, 0, 0]
    plain = TransformerWordEmbeddings(with_words)
    assert "bbox" not in plain.prepare_tensors([Sentence("film")])


@pytest.mark.parametrize("embedding_class", [TransformerWordEmbeddings, TransformerDocumentEmbeddings])
def test_layoutlmv3_sees_pages(with_pictures, embedding_class):
    embedding = embedding_class(with_pictures)
    assert embedding.needs_manual_ocr
    road = "encode_tokens" if embedding_class is TransformerWordEmbeddings else "encode_documents"
    long = page("the quick brown fox jumps over the lazy dog " * 3)
    pages = [page("a film", 0), long, page("a film", 1)]
    vectors = getattr(embedding, road)(pages)
    vectors = vectors[0] if isinstance(vectors, tuple) else vectors
    assert not torch.allclose(vectors[0], vectors[2])
    alone = getattr(embedding, road)(pages[:1])
    alone = alone[0] if isinstance(alone, tuple) else alone
    torch.testing.assert_close(alone[0], vectors[0] if vectors.dim() == 2 else vectors[0, :2], atol=1e-5, rtol=0)
    twin = load_embeddings(embedding.save_embeddings())
    again = getattr(twin, road)(pages)
    assert torch.equal(again[0] if isinstance(again, tuple) else again, vectors)


def test_missing_places_and_pages(with_words, with_pictures):
    with pytest.raises(ValueError, match=r"token 1 \('a'\).*bbox"):
        TransformerWordEmbeddings(with_words, needs_manual_ocr=True).embed(Sentence("a film"))
    with pytest.raises(ValueError, match="looks at the page"):
        TransformerWordEmbeddings(with_pictures).embed(page("a film", picture=False))
