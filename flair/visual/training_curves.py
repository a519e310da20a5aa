"""Pictures of a training, from the files that it leaves in its folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Union

from flair import _runtime
from flair.class_utils import lazy_import

WEIGHT_NAME = 1
WEIGHT_NUMBER = 2
WEIGHT_VALUE = 3
"""Columns of ``weights.txt``; the first one is the iteration."""

_SPLITS = {"TRAIN": "training", "TRAIN_SAMPLE": "training sample", "DEV": "dev", "TEST": "test"}
_COLOURS = {"TRAIN": "tab:blue", "TRAIN_SAMPLE": "tab:cyan", "DEV": "tab:orange", "TEST": "tab:green"}
_OTHER_NAMES = {"F1": ("F1", "F-SCORE", "F_SCORE"), "F-SCORE": ("F-SCORE", "F1")}
"""Columns of early versions."""

_DOTS_PER_INCH = 150


class Plotter:
    """Draws ``loss.tsv`` and ``weights.txt``, of this or released versions. Pictures stand beside these files."""

    def plot_weights(self, file_name: Union[str, Path]) -> None:
        """Draw how single weights moved, one panel for each tensor, into ``weights.png``.

        Args:
            file_name: ``weights.txt``.

        Raises:
            ValueError: a line is none of that file, naming it.
            ImportError: matplotlib is missing.
        """
        path = Path(file_name)
        tensors = _read_weights(path)
        columns = min(len(tensors), 3 if len(tensors) <= 24 else 5)
        rows = math.ceil(len(tensors) / columns)
        figure = _figure(4.2 * columns, 2.6 * rows + 0.4)
        grid = figure.subplots(rows, columns, squeeze=False)
        for panel, (name, weights) in zip(grid.flat, tensors.items(), strict=False):
            for iterations, values in weights.values():
                panel.plot(iterations, values, linewidth=1)
            panel.set_title(name if len(name) <= 44 else f"…{name[-43:]}", fontsize=9)
            panel.tick_params(labelsize=8)
            panel.margins(x=0.02)
            panel.grid(alpha=0.3)
        for panel in grid.flat[len(tensors) :]:
            panel.set_visible(False)
        figure.supxlabel("iteration (batches)", fontsize=10)
        figure.supylabel("value of single weights", fontsize=10)
        _save(figure, path.parent / "weights.png", "Weights")

    def plot_training_curves(self, file_name: Union[str, Path], plot_values: list[str] = ["loss", "F1"]) -> None:
        """Draw figures over epochs, one panel each, into ``training.png``.

        Args:
            file_name: ``loss.tsv``.
            plot_values: "loss", "F1", "precision", "recall", "accuracy", in any case.

        Raises:
            ValueError: the file is no table of epochs, or no value was asked for.
            ImportError: matplotlib is missing.
        """
        if not plot_values:
            raise ValueError("plot_values is empty: name at least one column, for example 'loss'.")
        path = Path(file_name)
        table = _read_table(path)
        figure = _figure(7, 3.6 * len(plot_values))
        panels = figure.subplots(len(plot_values), 1, sharex=True, squeeze=False)[:, 0]
        for panel, value in zip(panels, plot_values, strict=True):
            self._plot_value(panel, table, value, path)
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.get_major_locator().set_params(integer=True)
        _save(figure, path.parent / "training.png", " and ".join(value.capitalize() for value in plot_values))

    @staticmethod
    def _plot_value(panel: Any, table: dict[str, list[str]], value: str, path: Path) -> None:
        found = False
        wanted = value.upper()
        for split, title in _SPLITS.items():
            column = next((f"{split}_{n}" for n in _OTHER_NAMES.get(wanted, (wanted,)) if f"{split}_{n}" in table), "")
            points = [
                (float(epoch), float(cell))
                for epoch, cell in zip(table["EPOCH"], table.get(column, []), strict=False)
                if _is_number(cell)
            ]
            if points:
                found = True
                marker = "o" if len(points) <= 40 else None
                panel.plot(*zip(*points, strict=True), label=title, color=_COLOURS[split], marker=marker, markersize=4)
        panel.set_ylabel(value)
        panel.grid(alpha=0.3)
        if found:
            panel.legend(loc="best")
            return
        _runtime.logger.warning(f"{path} has no values of {wanted} in any split. Its columns: {', '.join(table)}.")
        panel.text(0.5, 0.5, f"no values of {wanted}", ha="center", va="center", transform=panel.transAxes)
        panel.set_yticks([])

    def plot_learning_rate(self, file_name: Union[str, Path], skip_first: int = 10, skip_last: int = 5) -> None:
        """Draw the training loss over the learning rate, into ``learning_rate.png``.

        Args:
            file_name: the file of a search for a learning rate, or ``loss.tsv``. Of several parameter groups the
                rate of the first one counts.
            skip_first: rows left out at the beginning.
            skip_last: rows left out at the end.

        Raises:
            ValueError: the file lacks the columns, or no row is left.
            ImportError: matplotlib is missing.
        """
        path = Path(file_name)
        table = _read_table(path)
        if "LEARNING_RATE" not in table or "TRAIN_LOSS" not in table:
            raise ValueError(f"{path} needs the columns LEARNING_RATE and TRAIN_LOSS, it has: {', '.join(table)}.")
        pairs = zip(table["LEARNING_RATE"], table["TRAIN_LOSS"], strict=True)
        cells = [(rates.split(",")[0], loss) for rates, loss in pairs]
        points = [(float(rate), float(loss)) for rate, loss in cells if _is_number(rate) and _is_number(loss)]
        kept = points[skip_first : len(points) - skip_last]
        if not kept:
            raise ValueError(
                f"{path} has {len(points)} rows with values; skip_first={skip_first} and skip_last={skip_last} leave "
                "none."
            )
        figure = _figure(7, 4.5)
        panel = figure.subplots()
        panel.plot(*zip(*kept, strict=True), linewidth=1.5)
        if min(rate for rate, _ in kept) > 0:
            panel.set_xscale("log")
        panel.set(xlabel="learning rate", ylabel="training loss")
        panel.grid(alpha=0.3, which="both")
        _save(figure, path.parent / "learning_rate.png", "Learning_rate")


def _figure(width: float, height: float) -> Any:
    """A figure of its own, drawn without a window and without the state that pyplot keeps."""
    (figure,) = lazy_import("visual", "matplotlib.figure", "Figure")
    return figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path, what: str) -> None:
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    _runtime.logger.info(f"{what} plots are saved in {path}")


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _read_table(path: Path) -> dict[str, list[str]]:
    """The columns of a ``loss.tsv`` by their titles; of several trainings in one file, the last one."""
    titles: list[str] = []
    rows: list[list[str]] = []
    trainings = 0
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            cells = line.rstrip("\n").split("\t")
            if not line.strip():
                continue
            if cells[0] == "EPOCH":
                titles, rows, trainings = [cell.strip().upper() for cell in cells], [], trainings + 1
            elif len(cells) != len(titles):
                raise ValueError(
                    f"{path}, line {number}: {len(cells)} columns, the header has {len(titles)}. Is this a loss.tsv?"
                )
            elif not _is_number(cells[0]):
                raise ValueError(f"{path}, line {number}: the epoch is {cells[0]!r}, which is no number.")
            else:
                rows.append(cells)
    if not rows:
        raise ValueError(f"{path} has no epochs.")
    if trainings > 1:
        _runtime.logger.info(f"{path} holds {trainings} trainings; the last one is drawn.")
    return {title: [row[column] for row in rows] for column, title in enumerate(titles)}


def _read_weights(path: Path) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Tensor -> weight -> iterations and values."""
    tensors: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            cells = line.rstrip("\n").split("\t")
            if not line.strip():
                continue
            if len(cells) != 4 or not cells[0].isdigit():
                raise ValueError(
                    f"{path}, line {number}: expected iteration, tensor, weight, value; found {line[:80]!r}."
                )
            weights = tensors.setdefault(cells[WEIGHT_NAME], {})
            iterations, values = weights.setdefault(cells[WEIGHT_NUMBER], ([], []))
            iterations.append(float(cells[0]))
            values.append(float(cells[WEIGHT_VALUE]))
    if not tensors:
        raise ValueError(f"{path} has no weights.")
    return tensors
