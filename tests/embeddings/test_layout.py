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


def test_places_of_the_context_count(with_words):
    """The vectors of a sentence depend on where its neighbours are, and neighbours need places as well."""
    embedding = TransformerWordEmbeddings(with_words, needs_manual_ocr=True, use_context=2, use_context_separator=False)
    vectors = []
    for seed in (1, 2):
        batch = [page("a film", 0), page("the fox", seed)]
        Sentence.set_context_for_sentences(batch)
        vectors.append(embedding.encode_tokens(batch[:1])[0])
        boxes = embedding.prepare_tensors(batch[:1])["bbox"][0].tolist()
        assert list(batch[1][1].get_metadata("bbox")) == boxes[-2]
    assert not torch.allclose(vectors[0], vectors[1])
    batch = [page("a film"), Sentence("fox")]
    Sentence.set_context_for_sentences(batch)
    with pytest.raises(ValueError, match=r"token 1 \('fox'\) of 'fox' has none"):
        embedding.encode_tokens(batch[:1])


def test_separators_lie_nowhere(with_words):
    embedding = TransformerWordEmbeddings(with_words, needs_manual_ocr=True, use_context=2)
    batch = [page("film", 0), page("fox", 1)]
    Sentence.set_context_for_sentences(batch)
    inputs = embedding.prepare_tensors(batch[:1])
    separator = embedding.tokenizer.convert_tokens_to_ids("[FLERT]")
    boxes = inputs["bbox"][inputs["input_ids"] == separator]
    assert boxes.tolist() == [[0, 0, 0, 0]] * 2
    assert list(batch[1][0].get_metadata("bbox")) in inputs["bbox"][0].tolist()


def test_fractions_for_models_that_compute_with_places(tmp_path):
    """BROS takes numbers from 0 to 1, and does not look them up."""
    embedding = TransformerWordEmbeddings(str(make_layout_folder(tmp_path, "bros")), needs_manual_ocr=True)
    vectors = []
    for scale in (1000, 2000, 10**6):
        sentence = page("a film", 3)
        for token in sentence:
            token.add_metadata("bbox", [number / scale for number in token.get_metadata("bbox")])
        assert embedding.prepare_tensors([sentence])["bbox"].dtype == torch.float32
        vectors.append(embedding.encode_tokens([sentence])[0])
    assert not torch.allclose(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2])


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((1, 2, 3), "is not four numbers"),
        (("1", "2", "3", "4"), "is not four numbers"),
        ({"left": 1}, "is not four numbers"),
        (((1, 2), (3, 2), (3, 4), (1, 4)), "is not four numbers"),
        (7, "is not four numbers"),
        ((0.1, 0.2, 0.3, 0.4), "has fractions"),
        ((1.0, float("nan"), 3.0, 4.0), "not finite"),
        ((1, 2, 1200, 4), "outside of the page"),
        ((-1, 2, 3, 4), "outside of the page"),
        ((3, 2, 1, 4), "ends before it begins"),
    ],
)
def test_malformed_places_name_their_token(with_words, box, problem):
    embedding = TransformerWordEmbeddings(with_words, needs_manual_ocr=True)
    sentence = page("a long film")
    sentence[1].add_metadata("bbox", box)
    with pytest.raises(ValueError, match=rf"token 2 \('long'\) of 'a long film'.*{problem}.*add_metadata"):
        embedding.embed([page("fox"), sentence])


@pytest.mark.parametrize("kind", [tuple, list, np.asarray, torch.tensor, lambda box: [float(number) for number in box]])
def test_places_in_any_form(with_words, kind):
    embedding = TransformerWordEmbeddings(with_words, needs_manual_ocr=True)
    sentence = page("a film")
    for token in sentence:
        token.add_metadata("bbox", kind(token.get_metadata("bbox")))
    boxes = embedding.prepare_tensors([sentence])["bbox"]
    assert boxes.dtype == torch.int64
    assert torch.equal(boxes, embedding.prepare_tensors([page("a film")])["bbox"])


def test_pictures_in_any_form(with_pictures):
    from PIL import Image

    embedding = TransformerDocumentEmbeddings(with_pictures)
    vectors = []
    red = np.zeros((40, 30, 3), dtype=np.uint8)
    red[..., 0] = 200
    with_transparency = Image.fromarray(np.concatenate([red, np.full((40, 30, 1), 255, dtype=np.uint8)], axis=2))
    pictures = [Image.fromarray(red), red, torch.from_numpy(red).permute(2, 0, 1), with_transparency]
    for picture in [*pictures, [pictures[0]], Image.fromarray(red[..., 1])]:
        sentence = page("a film", picture=False)
        sentence.add_metadata("image", picture)
        vectors.append(embedding.encode_documents([sentence]))
    for vector in vectors[:-1]:
        torch.testing.assert_close(vector, vectors[0], atol=1e-4, rtol=0)
    assert not torch.allclose(vectors[-1], vectors[0], atol=1e-4), "a black page is not a red one"


@pytest.mark.parametrize("picture", ["page.png", b"bytes", 3, np.zeros((40, 30)), np.zeros((40, 30, 4))])
def test_what_is_no_picture_is_refused(with_pictures, picture):
    sentence = page("a film", picture=False)
    sentence.add_metadata("image", picture)
    with pytest.raises(ValueError, match=r"'image' metadata of 'a film'.*PIL\.Image\.open"):
        TransformerDocumentEmbeddings(with_pictures).embed(sentence)


def test_missing_places_and_pages(with_words, with_pictures):
    with pytest.raises(ValueError, match=r"token 1 \('a'\).*bbox"):
        TransformerWordEmbeddings(with_words, needs_manual_ocr=True).embed(Sentence("a film"))
    with pytest.raises(ValueError, match="looks at the page"):
        TransformerWordEmbeddings(with_pictures).embed(page("a film", picture=False))
