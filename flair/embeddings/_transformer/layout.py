"""Models that read pages: bounding boxes of tokens, images of sentences, text recognised by the caller (LayoutLM)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flair.data.sentence import Sentence

if TYPE_CHECKING:
    from flair.embeddings._transformer.inputs import SubTokens


def tokenizer_needs_boxes(tokenizer: Any) -> bool:
    """Whether the tokenizer's call wants a bounding box for every word (LayoutLMv2 and v3, LayoutXLM)."""
    return "boxes" in inspect.signature(type(tokenizer).__call__).parameters


def token_boxes(sentence: Sentence) -> list[Any]:
    """The "bbox" metadata of every token: four integers from 0 to 1000, left, top, right, bottom.

    Raises:
        ValueError: for a token without, naming it.
    """
    boxes = []
    for token in sentence:
        if not token.has_metadata("bbox"):
            raise ValueError(
                f"This model needs the place of every token on the page, and token {token.idx} ({token.text!r}) of "
                f"{sentence.text[:60]!r} has none. Set it: token.add_metadata('bbox', (left, top, right, bottom)), "
                f"each from 0 to 1000."
            )
        boxes.append(token.get_metadata("bbox"))
    return boxes


def page_tensors(
    sentences: list[Sentence], encoded: list[SubTokens], length: int, tokenizer: Any, feature_extractor: Any
) -> dict[str, torch.Tensor]:
    """Places ("bbox", ``[rows, length, 4]``) and, with an image processor, pages ("pixel_values", ``[rows, ...]``)."""
    rows = sum(len(sub_tokens.rows) for sub_tokens in encoded)
    boxes = np.zeros((rows, length, 4), dtype=np.int64)
    boxes[:, :] = getattr(tokenizer, "pad_token_box", [0, 0, 0, 0])
    edges = {
        tokenizer.cls_token_id: getattr(tokenizer, "cls_token_box", [0, 0, 0, 0]),
        tokenizer.sep_token_id: getattr(tokenizer, "sep_token_box", [0, 0, 0, 0]),
    }
    row = 0
    for sentence, sub_tokens in zip(sentences, encoded, strict=True):
        of_tokens = np.asarray(token_boxes(sentence), dtype=np.int64)
        for ids, words in zip(sub_tokens.rows, sub_tokens.word_ids, strict=True):
            inside = words >= 0
            boxes[row, : len(words)][inside] = of_tokens[words[inside]]
            for position in np.flatnonzero(~inside):
                boxes[row, position] = edges.get(ids[position], [0, 0, 0, 0])
            row += 1
    tensors = {"bbox": torch.from_numpy(boxes)}
    if feature_extractor is not None:
        images = [_page(sentence) for sentence in sentences]
        pixels = feature_extractor(images, return_tensors="pt")["pixel_values"]
        repeats = torch.tensor([len(sub_tokens.rows) for sub_tokens in encoded])
        tensors["pixel_values"] = pixels.repeat_interleave(repeats, dim=0)
    return tensors


def _page(sentence: Sentence) -> Any:
    if not sentence.has_metadata("image"):
        raise ValueError(
            f"This model looks at the page, and {sentence.text[:60]!r} has none. Set it: "
            f"sentence.add_metadata('image', PIL.Image.open(path).convert('RGB'))."
        )
    return sentence.get_metadata("image")
