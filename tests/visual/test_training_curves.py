"""Pictures of trainings: what is read from the files, and that every panel has its titles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flair.visual import training_curves
from flair.visual.training_curves import WEIGHT_NAME, WEIGHT_NUMBER, WEIGHT_VALUE, Plotter

HEADER = ["EPOCH", "TIMESTAMP", "LEARNING_RATE", "TRAIN_LOSS", "DEV_LOSS", "DEV_F1"]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure that is drawn."""
    pytest.importorskip("matplotlib")
    drawn: list[Any] = []
    make = training_curves._figure

    def remember(width: float, height: float) -> Any:
        drawn.append(make(width, height))
        return drawn[-1]

    monkeypatch.setattr(training_curves, "_figure", remember)
    return drawn


def table(path: Path, rows: list[list[Any]], header: list[str] = HEADER) -> Path:
    path.write_text("\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n", encoding="utf-8")
    return path


def epochs(count: int) -> list[list[Any]]:
    return [
        [e, "10:00:00", "0.1000,0.0100", f"{2 / e:.4f}", f"{2.5 / e:.4f}", f"{1 - 1 / e:.4f}"]
        for e in range(1, count + 1)
    ]


def test_training_curves(tmp_path: Path, figures: list[Any]) -> None:
    file = table(tmp_path / "loss.tsv", epochs(6))
    Plotter().plot_training_curves(file)
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
    loss, f1 = figures[0].axes
    assert (loss.get_ylabel(), f1.get_ylabel(), f1.get_xlabel()) == ("loss", "F1", "epoch")
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "dev"]
    assert [text.get_text() for text in f1.get_legend().get_texts()] == ["dev"]
    assert list(loss.lines[1].get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert loss.lines[1].get_ydata()[1] == 1.25


def test_old_tables(tmp_path: Path, figures: list[Any]) -> None:
    """Early versions had BAD_EPOCHS, other titles, and underscores for what was not evaluated."""
    header = [
        "EPOCH",
        "TIMESTAMP",
        "BAD_EPOCHS",
        "LEARNING_RATE",
        "TRAIN_LOSS",
        "DEV_F-SCORE",
        "TEST_LOSS",
        "TEST_F-SCORE",
    ]
    rows = [[e, "10:00:00", 0, 0.1, 1 / e, "_", 2 / e, 0.5] for e in (1, 2, 3)]
    Plotter().plot_training_curves(table(tmp_path / "loss.tsv", rows, header), ["Loss", "f1"])
    loss, f1 = figures[0].axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "test"]
    assert [text.get_text() for text in f1.get_legend().get_texts()] == ["test"]


def test_missing_values_and_several_trainings(tmp_path: Path, figures: list[Any]) -> None:
    file = table(tmp_path / "loss.tsv", epochs(3))
    file.write_text(file.read_text() * 2)
    Plotter().plot_training_curves(file, ["accuracy", "loss"])
    accuracy, loss = figures[0].axes
    assert [text.get_text() for text in accuracy.texts] == ["no values of ACCURACY"]
    assert len(loss.lines[0].get_xdata()) == 3


def test_learning_rate(tmp_path: Path, figures: list[Any]) -> None:
    rows = [[e, "x", f"{10 ** (-6 + e / 5):.8f}", 3 - e / 20] for e in range(1, 31)]
    file = table(tmp_path / "learning_rate.tsv", rows, HEADER[:4])
    Plotter().plot_learning_rate(file)
    assert (tmp_path / "learning_rate.png").exists()
    (panel,) = figures[0].axes
    assert len(panel.lines[0].get_xdata()) == 15
    assert (panel.get_xscale(), panel.get_xlabel(), panel.get_ylabel()) == ("log", "learning rate", "training loss")
    Plotter().plot_learning_rate(table(tmp_path / "loss.tsv", epochs(3)), skip_first=0, skip_last=0)
    assert list(figures[1].axes[0].lines[0].get_xdata()) == [0.1] * 3
    with pytest.raises(ValueError, match="3 rows with values; skip_first=10"):
        Plotter().plot_learning_rate(tmp_path / "loss.tsv")
    with pytest.raises(ValueError, match="LEARNING_RATE and TRAIN_LOSS"):
        Plotter().plot_learning_rate(table(tmp_path / "x.tsv", [[1, 2]], ["EPOCH", "DEV_LOSS"]))


def test_weights(tmp_path: Path, figures: list[Any]) -> None:
    assert (WEIGHT_NAME, WEIGHT_NUMBER, WEIGHT_VALUE) == (1, 2, 3)
    names = [f"a.very.long.name.of.a.tensor.somewhere.in.a.model.{i}.weight" for i in range(4)]
    lines = [f"{step}\t{name}\t{k}\t{step * k / 9}\n" for step in (0, 5, 9) for name in names for k in range(3)]
    (tmp_path / "weights.txt").write_text("".join(lines))
    Plotter().plot_weights(tmp_path / "weights.txt")
    assert (tmp_path / "weights.png").exists()
    shown = [panel for panel in figures[0].axes if panel.get_visible()]
    assert len(shown) == 4
    assert all(len(panel.lines) == 3 and panel.get_title().endswith(".weight") for panel in shown)
    assert list(shown[0].lines[2].get_ydata()) == [0, 10 / 9, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no epochs"),
        ("EPOCH\tTRAIN_LOSS\n", "no epochs"),
        ("EPOCH\tTRAIN_LOSS\n1\n", "line 2: 1 columns"),
        ("EPOCH\tTRAIN_LOSS\none\t2\n", "line 2: the epoch is 'one'"),
        ("| end of split 1 |\n", "line 1"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "loss.tsv").write_text(content)
    with pytest.raises(ValueError, match=message):
        Plotter().plot_training_curves(tmp_path / "loss.tsv")
    (tmp_path / "weights.txt").write_text("5\tx\ty\n")
    with pytest.raises(ValueError, match=r"weights\.txt, line 1"):
        Plotter().plot_weights(tmp_path / "weights.txt")
    with pytest.raises(ValueError, match="plot_values"):
        Plotter().plot_training_curves(tmp_path / "loss.tsv", [])


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"flair\[visual\]"):
        Plotter().plot_training_curves(table(tmp_path / "loss.tsv", epochs(2)))
