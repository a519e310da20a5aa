"""Models that read pages: bounding boxes of tokens, images of sentences, text recognised by the caller (LayoutLM)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flair.data.sentence import Sentence
from flair.data.units import Token

if TYPE_CHECKING:
    from flair.embeddings._transformer.inputs import SubTokens

_NOWHERE = [0, 0, 0, 0]
_TABLE_ROWS = 1024
_HOW_TO_SET_BOX = "Set it: token.add_metadata('bbox', (left, top, right, bottom)), each from 0 to 1000."
_HOW_TO_SET_PAGE = "Set it: sentence.add_metadata('image', PIL.Image.open(path).convert('RGB'))."


@dataclass(frozen=True)
class BoxRules:
    """What boxes a network takes: most look each number up in a table, BROS computes with it."""

    fractions: bool = True
    limit: int | None = None
    """The largest number; no negative ones either."""
    ordered: bool = False
    """Whether width and height are looked up as well, so that they must not be negative."""

    @classmethod
    def of(cls, config: Any) -> BoxRules:
        """The rules of a configuration of the transformers library; None, for exported networks, has no rules."""
        if config is None or getattr(config, "model_type", None) == "bros":
            return cls()
        rows = getattr(config, "max_2d_position_embeddings", _TABLE_ROWS)
        return cls(fractions=False, limit=rows - 1, ordered=getattr(config, "model_type", None) != "layoutlmv3")

    def broken(self, box: np.ndarray) -> str | None:
        """What is wrong with an array that should be a box, or some; None if nothing is."""
        if box.shape[-1:] != (4,) or box.ndim > 2 or box.dtype.kind not in "iuf":
            return "is not four numbers"
        if box.dtype.kind == "f" and not np.isfinite(box).all():
            return "has a number that is not finite"
        if not self.fractions and (box != np.floor(box)).any():
            return "has fractions, and this model takes whole numbers"
        if self.limit is not None and (box.min() < 0 or box.max() > self.limit):
            return "lies outside of the page"
        if self.ordered and ((box[..., 2] < box[..., 0]) | (box[..., 3] < box[..., 1])).any():
            return "ends before it begins"
        return None


def tokenizer_needs_boxes(tokenizer: Any) -> bool:
    """Whether the tokenizer's call wants a bounding box for every word (LayoutLMv2 and v3, LayoutXLM)."""
    return "boxes" in inspect.signature(type(tokenizer).__call__).parameters


def token_boxes(tokens: Iterable[Token], rules: BoxRules) -> np.ndarray:
    """The "bbox" metadata of tokens: left, top, right, bottom, from 0 to 1000, ``[tokens, 4]``.

    Raises:
        ValueError: for a token without, or with one that the model cannot use, naming it.
    """
    tokens = list(tokens)
    boxes = []
    for token in tokens:
        if not token.has_metadata("bbox"):
            raise ValueError(
                f"This model needs the place of every token on the page, and {_name(token)} has none. {_HOW_TO_SET_BOX}"
            )
        boxes.append(token.get_metadata("bbox"))
    if not boxes:
        return np.zeros((0, 4), dtype=np.int64)
    together = _array(boxes)
    if together.ndim != 2 or rules.broken(together) is not None:
        for token, box in zip(tokens, boxes, strict=True):
            reason = rules.broken(_array(box))
            if reason is not None:
                raise ValueError(f"The 'bbox' metadata of {_name(token)} {reason}: {str(box)[:80]}. {_HOW_TO_SET_BOX}")
        together = np.stack([_array(box) for box in boxes])
    return together if rules.fractions and together.dtype.kind == "f" else together.astype(np.int64)


def _name(token: Token) -> str:
    text = token.sentence.text[:60] if token.sentence is not None else ""
    return f"token {token.idx} ({token.text!r}) of {text!r}"


def _array(values: Any) -> np.ndarray:
    """An array of numbers, or one of objects or text for anything else."""
    if isinstance(values, torch.Tensor):
        values = values.tolist()
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # ragged lists, tensors on a GPU among others
        return np.empty(0, dtype=object)


def boxes_in_context(
    sentence: Sentence, context: tuple[Sequence[Token], Sequence[Token]], separators: int, rules: BoxRules
) -> np.ndarray:
    """The boxes of a sentence's words amid those of its context, ``[words, 4]``; separators lie nowhere."""
    left, right = context
    separator = np.zeros((separators, 4), dtype=np.int64)
    parts = [token_boxes(left, rules), separator, token_boxes(sentence, rules), separator, token_boxes(right, rules)]
    return np.concatenate(parts)


def page_tensors(
    sentences: list[Sentence], encoded: list[SubTokens], length: int, tokenizer: Any, feature_extractor: Any
) -> dict[str, torch.Tensor]:
    """Places ("bbox", ``[rows, length, 4]``) and, with an image processor, pages ("pixel_values", ``[rows, ...]``)."""
    rows = sum(len(sub_tokens.rows) for sub_tokens in encoded)
    of_words = [_boxes_of(sub_tokens) for sub_tokens in encoded]
    kind = np.result_type(*of_words)
    boxes = np.zeros((rows, length, 4), dtype=np.float32 if kind.kind == "f" else np.int64)
    boxes[:, :] = getattr(tokenizer, "pad_token_box", _NOWHERE)
    edges = {
        tokenizer.cls_token_id: getattr(tokenizer, "cls_token_box", _NOWHERE),
        tokenizer.sep_token_id: getattr(tokenizer, "sep_token_box", _NOWHERE),
    }
    row = 0
    for words, sub_tokens in zip(of_words, encoded, strict=True):
        for ids, places in zip(sub_tokens.rows, sub_tokens.places, strict=True):
            inside = places >= 0
            boxes[row, : len(places)][inside] = words[places[inside]]
            for position in np.flatnonzero(~inside):
                boxes[row, position] = edges.get(ids[position], _NOWHERE)
            row += 1
    tensors = {"bbox": torch.from_numpy(boxes)}
    if feature_extractor is not None:
        images = [_page(sentence) for sentence in sentences]
        pixels = feature_extractor(images, return_tensors="pt")["pixel_values"]
        repeats = torch.tensor([len(sub_tokens.rows) for sub_tokens in encoded])
        tensors["pixel_values"] = pixels.repeat_interleave(repeats, dim=0)
    return tensors


def _boxes_of(sub_tokens: SubTokens) -> np.ndarray:
    assert sub_tokens.boxes is not None
    return sub_tokens.boxes


def _page(sentence: Sentence) -> Any:
    """The picture of a sentence's page, with three colours where it comes as a PIL image.

    Raises:
        ValueError: there is none, or something else.
    """
    if not sentence.has_metadata("image"):
        raise ValueError(f"This model looks at the page, and {sentence.text[:60]!r} has none. {_HOW_TO_SET_PAGE}")
    image = sentence.get_metadata("image")
    if isinstance(image, (list, tuple)) and len(image) == 1:
        image = image[0]
    if hasattr(image, "getbands"):
        return image if image.mode == "RGB" else image.convert("RGB")
    if not isinstance(image, (np.ndarray, torch.Tensor)):
        raise ValueError(
            f"The 'image' metadata of {sentence.text[:60]!r} is no picture but a {type(image).__name__}: "
            f"{str(image)[:80]}. {_HOW_TO_SET_PAGE}"
        )
    if image.ndim != 3 or 3 not in (image.shape[0], image.shape[-1]):
        raise ValueError(
            f"The 'image' metadata of {sentence.text[:60]!r} has the shape {tuple(image.shape)}; height x width x 3 or "
            f"3 x height x width is expected. {_HOW_TO_SET_PAGE}"
        )
    return image
