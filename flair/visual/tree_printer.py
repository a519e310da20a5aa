"""Dependency trees as text."""

from __future__ import annotations

from flair.data.sentence import Sentence
from flair.data.units import Token


class NodeToken:
    """A token in a tree."""

    def __init__(self, token: Token, tag_type: str) -> None:
        """Make a node without children.

        Args:
            token: the token.
            tag_type: the type of the label that is shown with it.
        """
        self.token = token
        self.tag_type = tag_type
        self.children: list[NodeToken] = []

    def set_haed(self, parent: NodeToken) -> None:
        """Become a child of another node."""
        parent.children.append(self)

    def __str__(self) -> str:
        label = f"({self.token.get_label(self.tag_type).value})" if self.token.has_label(self.tag_type) else ""
        return f" {self.token.text}{label} "


def tree_printer(sentence: Sentence, tag_type: str) -> None:
    """Print the dependency tree of a sentence, a line for each token below its head.

    Args:
        sentence: its tokens have ``head_id``, the number of the head counted from 1, 0 for roots.
        tag_type: the type of the labels that are shown behind the tokens.

    Raises:
        ValueError: a head is missing or does not exist, or tokens are each other's heads.
    """
    nodes = [NodeToken(token, tag_type) for token in sentence]
    roots = []
    for node in nodes:
        head = node.token.head_id
        if head is None or not 0 <= head <= len(nodes):
            raise ValueError(
                f"Token {node.token.idx} ({node.token.text!r}) of {sentence.text!r} has head {head}; the heads of "
                f"{len(nodes)} tokens are numbers from 0 (root) to {len(nodes)}."
            )
        if head == 0:
            roots.append(node)
        else:
            node.set_haed(nodes[head - 1])
    lines = [line for root in roots for line in _lines(root)]
    if len(lines) < len(nodes):
        raise ValueError(f"Some tokens of {sentence.text!r} are each other's heads: this is no tree.")
    print("\n".join(lines))


def _lines(root: NodeToken) -> list[str]:
    """A tree as lines. It may be as deep as the sentence is long, so there is no recursion."""
    lines = []
    todo: list[tuple[NodeToken, str, str]] = [(root, "", "")]
    while todo:
        node, branch, indent = todo.pop()
        lines.append(f"{branch}{str(node).strip()}")
        for child in reversed(node.children):
            last = child is node.children[-1]
            todo.append((child, f"{indent}{'└── ' if last else '├── '}", f"{indent}{'    ' if last else '│   '}"))
    return lines
