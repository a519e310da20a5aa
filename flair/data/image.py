"""An image as a data point."""

from __future__ import annotations

from typing import Any, Optional

import torch

from flair.data.units import DataPoint


class Image(DataPoint):
    """A picture, given as data (a tensor, an array, a PIL image) or by address."""

    def __init__(self, data: Any = None, imageURL: Optional[str] = None) -> None:
        super().__init__()
        self.data = data
        self.imageURL = imageURL

    @property
    def embedding(self) -> torch.Tensor:
        return self.get_embedding()

    def __str__(self) -> str:
        size: Any = ""
        if self.data is not None:
            size = getattr(self.data, "shape", None) or getattr(self.data, "size", "")  # PIL images have no shape
        return f"Image: {size} {self.imageURL or ''}"

    @property
    def start_position(self) -> int:
        return 0

    @property
    def end_position(self) -> int:
        return 0

    @property
    def text(self) -> str:
        return self.imageURL or ""

    @property
    def unlabeled_identifier(self) -> str:
        return str(self)


Image.__module__ = "flair.data"
