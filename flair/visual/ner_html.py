"""Sentences with their entities marked, as HTML."""

from __future__ import annotations

import html
import re
from typing import Optional, Union

from flair.data.sentence import Sentence

TAGGED_ENTITY = (
    '<mark class="entity" style="background: {color}; padding: 0.2em 0.4em; margin: 0 0.1em; '
    'border-radius: 0.3em; line-height: 2; box-decoration-break: clone; -webkit-box-decoration-break: clone">{entity}'
    '<span style="background: #fff; padding: 0.1em 0.35em; margin-left: 0.45em; border-radius: 0.25em; '
    'color: #000; font-size: 0.7em; font-weight: bold; vertical-align: middle">{label}</span></mark>'
)
"""One entity: ``color`` (of the ground, and that of the text), ``entity``, ``label``.

The label stands on white, so that it can be read on any colour.
"""

PARAGRAPH = "<p>{sentence}</p>"
"""One sentence."""

HTML_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
</head>
<body style="font-family: 'Segoe UI', 'Helvetica Neue', Arial, sans-serif; max-width: 50em; margin: 3em auto; \
padding: 0 1em; line-height: 1.6">
{text}
</body>
</html>
"""
"""The page around the sentences: ``title``, ``text``."""


_HEX_COLOUR = re.compile("#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_DARK = 128
"""Below this brightness (of 255) text is white."""


def _with_ink(color: str) -> str:
    """A colour for the ground, and one for text that can be read on it. Of named colours black is assumed to."""
    digits = _HEX_COLOUR.fullmatch(color.strip())
    if digits is None:
        return f"{color}; color: #000"
    code = digits[1] if len(digits[1]) == 6 else "".join(2 * digit for digit in digits[1])
    red, green, blue = (int(code[i : i + 2], 16) for i in (0, 2, 4))
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    return f"{color}; color: {'#fff' if brightness < _DARK else '#000'}"


def split_to_spans(s: Sentence, label_name: str = "ner") -> list[tuple[str, Optional[str]]]:
    """The text of a sentence in pieces: entities with the value of their label, and what is between with None.

    Of entities that overlap each is a piece of its own, the one that begins first (or is longer) in front.
    """
    text = s.to_original_text()
    pieces: list[tuple[str, Optional[str]]] = []
    position = 0
    for span in sorted(s.get_spans(label_name), key=lambda span: (span.start_position, -span.end_position)):
        start, end = span.start_position, span.end_position
        if start > position:
            pieces.append((text[position:start], None))
        pieces.append((text[start:end], span.get_label(label_name).value))
        position = max(position, end)
    if position < len(text):
        pieces.append((text[position:], None))
    return pieces


def render_ner_html(
    sentences: Union[list[Sentence], Sentence],
    title: str = "Flair",
    colors: dict[str, str] = {
        "PER": "#F7FF53",
        "ORG": "#E8902E",
        "LOC": "#FF40A3",
        "MISC": "#4647EB",
        "O": "#ddd",
    },
    default_color: str = "#ddd",
    wrap_page: bool = True,
    label_name: str = "ner",
) -> str:
    """Sentences as HTML, one paragraph each, entities on coloured ground with their labels behind them.

    Args:
        sentences: one or several, with span labels.
        title: of the page.
        colors: label -> colour of CSS.
        default_color: of labels that are not in ``colors``.
        wrap_page: a whole page; False gives the paragraphs alone.
        label_name: the type of the labels.
    """
    if isinstance(sentences, Sentence):
        sentences = [sentences]
    paragraphs = []
    for sentence in sentences:
        parts = []
        for text, label in split_to_spans(sentence, label_name):
            escaped = html.escape(text)
            if label is not None:
                color = html.escape(_with_ink(colors.get(label, default_color)))
                escaped = TAGGED_ENTITY.format(color=color, entity=escaped, label=html.escape(label))
            parts.append(escaped)
        paragraphs.append(PARAGRAPH.format(sentence="".join(parts)))
    text = "\n".join(paragraphs)
    return HTML_PAGE.format(text=text, title=html.escape(title)) if wrap_page else text
