"""``python -m flair``: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flair import __main__ as cli
from flair.models import TextClassifier

GOLDEN = Path(__file__).parent / "golden" / "classifier_pool.pt"


def fails_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_inspect_prints_text_and_json(capsys):
    assert cli.main(["inspect", str(GOLDEN)]) == 0
    assert "TextClassifier" in capsys.readouterr().out
    assert cli.main(["inspect", str(GOLDEN), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] == "TextClassifier"


@pytest.mark.parametrize("name", ["new.pt", "new"])
def test_convert(tmp_path, capsys, name):
    assert cli.main(["convert", str(GOLDEN), str(tmp_path / name), "--dtype", "bfloat16"]) == 0
    assert "TextClassifier" in capsys.readouterr().out
    assert str(TextClassifier.load(tmp_path / name).dtype) == "torch.bfloat16"


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_wrong_path(tmp_path, capsys, command):
    new = [str(tmp_path / "new.pt")] if command == "convert" else []
    assert "missing.pt" in fails_in_one_line([command, str(tmp_path / "missing.pt"), *new], capsys)
    text = tmp_path / "text.pt"
    text.write_text("no model", encoding="utf-8")
    fails_in_one_line([command, str(text), *new], capsys)
    assert not (tmp_path / "new.pt").exists()


@pytest.mark.parametrize("error", [PermissionError("no access"), ImportError("install\nflair[word-embeddings]")])
def test_what_the_system_refuses(monkeypatch, capsys, error):
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "inspect_file", refuse)
    monkeypatch.setattr(cli.Model, "load", refuse)
    assert str(error).split()[0] in fails_in_one_line(["inspect", "x.pt"], capsys)
    assert str(error).split()[0] in fails_in_one_line(["convert", "x.pt", "y.pt"], capsys)


def test_an_unknown_dtype(tmp_path, capsys):
    fails_in_one_line(["convert", str(GOLDEN), str(tmp_path / "new.pt"), "--dtype", "float99"], capsys)
