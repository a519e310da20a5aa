"""Embeddings on a plane: t-SNE, and a page that shows the context of each point."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from tqdm import tqdm

from flair.class_utils import lazy_import
from flair.data.sentence import Sentence
from flair.nn.language_model import LanguageModel

_WORDS_AROUND = 4
_CHARACTERS_AROUND = 30
_SENTENCES_AT_ONCE = 32
_WIDTH, _HEIGHT, _MARGIN = 900, 640, 30

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Embeddings</title>
<style>
body {{ font-family: 'Segoe UI', 'Helvetica Neue', Arial, sans-serif; margin: 1.5em }}
svg {{ border: 1px solid #bbb; max-width: 100% }}
circle {{ fill: #1f77b4; fill-opacity: 0.55 }}
circle:hover {{ fill: #d62728; fill-opacity: 1 }}
#context {{ position: fixed; display: none; background: #fff; border: 1px solid #888; padding: 0.2em 0.6em; \
max-width: 30em }}
</style>
</head>
<body>
<p>{count} points. Move the pointer over one to see where it comes from; only distances mean something.</p>
<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="Embeddings on a plane">
{points}
</svg>
<div id="context"></div>
<script>
const contexts = {contexts};
const box = document.getElementById("context");
document.querySelectorAll("circle").forEach((point, number) => {{
  point.addEventListener("mousemove", event => {{
    box.innerHTML = contexts[number];
    box.style.display = "block";
    box.style.left = Math.min(event.clientX + 14, window.innerWidth - box.offsetWidth - 8) + "px";
    box.style.top = event.clientY + 14 + "px";
  }});
  point.addEventListener("mouseleave", () => {{ box.style.display = "none"; }});
}});
</script>
</body>
</html>
"""


class _Transform:
    """Maps vectors to a plane."""

    def __init__(self) -> None:
        self.transform: Any = None

    def fit(self, X: np.ndarray) -> np.ndarray:
        """Places of the rows of ``[points, dimensions]``: ``[points, 2]``."""
        return self.transform.fit_transform(X)


class tSNE(_Transform):
    """t-distributed stochastic neighbour embedding (van der Maaten and Hinton 2008)."""

    def __init__(self) -> None:
        super().__init__()
        (sklearn_tsne,) = lazy_import("visual", "sklearn.manifold", "TSNE")
        self.transform = sklearn_tsne(n_components=2, perplexity=40, verbose=1)

    def fit(self, X: np.ndarray) -> np.ndarray:
        """Places of the rows of ``[points, dimensions]``: ``[points, 2]``; few points get a smaller perplexity.

        Raises:
            ValueError: there are less than two points.
        """
        if len(X) < 2:
            raise ValueError(f"t-SNE needs at least two points, got {len(X)}.")
        self.transform.set_params(perplexity=min(40.0, max(1.0, (len(X) - 1) / 3)))
        return super().fit(X)


class Visualizer:
    """Draws the embeddings of words or characters."""

    def visualize_word_emeddings(
        self, embeddings: Any, sentences: list[Sentence], output_file: Union[str, Path]
    ) -> None:
        """Write a page with a point for every token.

        Args:
            embeddings: token embeddings.
            sentences: the text.
            output_file: an HTML page.
        """
        X = self.prepare_word_embeddings(embeddings, sentences)
        self.visualize(tSNE().fit(X), self.word_contexts(sentences), output_file)

    def visualize_char_emeddings(
        self, embeddings: Any, sentences: list[Sentence], output_file: Union[str, Path]
    ) -> None:
        """Write a page with a point for every character.

        Args:
            embeddings: :class:`~flair.embeddings.FlairEmbeddings`, or a stack of them.
            sentences: the text.
            output_file: an HTML page.
        """
        X = self.prepare_char_embeddings(embeddings, sentences)
        self.visualize(tSNE().fit(X), self.char_contexts(sentences), output_file)

    @staticmethod
    def prepare_word_embeddings(embeddings: Any, sentences: list[Sentence]) -> np.ndarray:
        """The vectors of all tokens: ``[tokens, embedding_length]`` (float32)."""
        rows = []
        with torch.no_grad():
            for start in tqdm(range(0, len(sentences), _SENTENCES_AT_ONCE), desc="Embedding", leave=False):
                vectors, lengths = embeddings.encode_tokens(sentences[start : start + _SENTENCES_AT_ONCE])
                rows += [row[: int(length)].float().cpu() for row, length in zip(vectors, lengths, strict=True)]
        return torch.cat(rows).numpy()

    @staticmethod
    def word_contexts(sentences: list[Sentence]) -> list[str]:
        """For every token the words around it as HTML."""
        contexts = []
        for sentence in sentences:
            words = [html.escape(token.text) for token in sentence]
            for i, word in enumerate(words):
                before = " ".join(words[max(0, i - _WORDS_AROUND) : i])
                after = " ".join(words[i + 1 : i + 1 + _WORDS_AROUND])
                contexts.append(f'<p>{before}<b><font color="red"> {word} </font></b>{after}</p>')
        return contexts

    @staticmethod
    def prepare_char_embeddings(embeddings: Any, sentences: list[Sentence]) -> np.ndarray:
        """The states of language models after reading each character: ``[characters, hidden]`` (float32).

        Raises:
            ValueError: there is no language model in the embeddings.
        """
        members = getattr(embeddings, "embeddings", None)
        models: list[LanguageModel] = [
            member.lm
            for member in (members if isinstance(members, (list, tuple)) else [embeddings])
            if hasattr(member, "lm")
        ]
        if not models:
            raise ValueError(f"{type(embeddings).__name__} has no character states. Use FlairEmbeddings.")
        rows = []
        with torch.no_grad():
            for sentence in tqdm(sentences, desc="Embedding", leave=False):
                states = [_states(model, sentence.to_tokenized_string()) for model in models]
                rows.append(torch.cat(states, dim=1))
        return torch.cat(rows).numpy()

    @staticmethod
    def char_contexts(sentences: list[Sentence]) -> list[str]:
        """For every character the text around it as HTML."""
        contexts = []
        for sentence in sentences:
            text = sentence.to_tokenized_string()
            for i, character in enumerate(text):
                before = html.escape(text[max(0, i - _CHARACTERS_AROUND) : i])
                after = html.escape(text[i + 1 : i + 1 + _CHARACTERS_AROUND])
                marked = f'<span style="background-color: yellow"><b>{html.escape(character)}</b></span>'
                contexts.append(f"{before}{marked}{after}")
        return contexts

    @staticmethod
    def visualize(X: np.ndarray, contexts: list[str], file: Union[str, Path]) -> None:
        """Write a page with points, and the context of each when the pointer is over it. It needs no network.

        Args:
            X: places, ``[points, 2]``.
            contexts: HTML for each point.
            file: the page.

        Raises:
            ValueError: there are more or fewer contexts than points, or places have not two coordinates.
        """
        places = np.asarray(X, dtype=np.float64)
        if places.ndim != 2 or places.shape != (len(contexts), 2):
            raise ValueError(f"Expected one place [x, y] for each of {len(contexts)} contexts, got {places.shape}.")
        low, high = places.min(axis=0, initial=np.inf), places.max(axis=0, initial=-np.inf)
        size = np.where(high > low, high - low, 1.0)
        scaled = _MARGIN + (places - low) / size * (np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN)
        points = "\n".join(f'<circle cx="{x:.1f}" cy="{_HEIGHT - y:.1f}" r="5"/>' for x, y in scaled)
        page = _PAGE.format(
            count=len(contexts),
            width=_WIDTH,
            height=_HEIGHT,
            points=points,
            contexts=json.dumps(contexts).replace("</", "<\\/"),  # a closing tag would end the script
        )
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")


def _states(model: LanguageModel, text: str) -> torch.Tensor:
    """The state after each character, in the order of the text: ``[characters, hidden]``."""
    states = model.get_representation([text], model.document_delimiter, "")[len(model.document_delimiter) :, 0]
    return (states if model.is_forward_lm else states.flip(0)).float().cpu()
