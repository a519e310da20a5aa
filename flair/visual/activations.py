"""The activations of a network over a text, as colours behind its characters."""

from __future__ import annotations

import html
import random
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch

_NEGATIVE, _NEUTRAL, _POSITIVE = (33, 102, 172), (255, 255, 255), (178, 24, 43)
_COLOURS_PER_SIDE = 12

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Activations</title>
</head>
<body style="font-family: monospace; font-size: 15px; line-height: 1.8; max-width: 60em; margin: 2em auto">
<p>{legend}</p>
{rows}
</body>
</html>
"""


class Highlighter:
    """Colours text by activations: blue for negative ones, white for zero, red for positive ones."""

    def __init__(self) -> None:
        steps = np.linspace(0, 1, _COLOURS_PER_SIDE + 1)
        negative = [_mix(_NEGATIVE, _NEUTRAL, step) for step in steps[:-1]]
        self.color_map = negative + [_mix(_NEUTRAL, _POSITIVE, step) for step in steps]
        """Colours from the most negative activation to the most positive one."""

    def highlight(self, activation: Any, text: str) -> str:
        """The text as HTML, every character on the colour of its activation.

        Args:
            activation: one number a character, ``[characters]``. The largest, whatever its sign, gets the deepest
                colour.
            text: the characters.

        Raises:
            ValueError: there are more or fewer activations than characters.
        """
        values = _as_array(activation)
        if values.shape != (len(text),):
            raise ValueError(f"A text of {len(text)} characters needs as many activations, got {values.shape}.")
        largest = float(np.abs(values).max(initial=0.0)) or 1.0
        places = np.rint((values / largest + 1) * _COLOURS_PER_SIDE).astype(int)
        return "".join(
            self._span(character, place, value) for character, place, value in zip(text, places, values, strict=True)
        )

    def _span(self, character: str, place: int, value: float) -> str:
        ink = "#fff" if abs(place - _COLOURS_PER_SIDE) > _COLOURS_PER_SIDE * 0.7 else "#000"
        shown = html.escape(character).replace(" ", "&nbsp;").replace("\n", "⏎<br>")
        return (
            f'<span style="background-color: {self.color_map[place]}; color: {ink}" title="{value:.4f}">{shown}</span>'
        )

    def highlight_selection(
        self, activations: Any, text: str, file_: Union[str, Path] = "resources/data/highlight.html", n: int = 10
    ) -> None:
        """Write a page on which the text stands several times, coloured by randomly chosen dimensions.

        Args:
            activations: ``[characters, dimensions]``.
            text: the characters.
            file_: the page.
            n: how many dimensions, at most as many as there are.

        Raises:
            ValueError: the shapes do not fit.
        """
        matrix = _as_array(activations)
        if matrix.ndim != 2:
            raise ValueError(f"Activations have two axes, characters and dimensions; got shape {matrix.shape}.")
        chosen = sorted(random.sample(range(matrix.shape[1]), min(n, matrix.shape[1])))
        rows = [f"<h4>dimension {number}</h4>\n<p>{self.highlight(matrix[:, number], text)}</p>" for number in chosen]
        legend = "".join(f'<span style="background-color: {color}">&nbsp;</span>' for color in self.color_map)
        path = Path(file_)
        path.parent.mkdir(parents=True, exist_ok=True)
        page = _PAGE.format(legend=f"negative {legend} positive", rows="\n".join(rows))
        path.write_text(page, encoding="utf-8")


def _mix(one: tuple[int, int, int], other: tuple[int, int, int], share: float) -> str:
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(one, other, strict=True))


def _as_array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu()
    return np.asarray(values, dtype=np.float64)
