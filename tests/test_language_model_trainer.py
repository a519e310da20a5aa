"""Training of language models: text, files, log lines, and that a continued training equals one that never stopped."""

from __future__ import annotations

import logging
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import flair
from flair.checkpoint import CheckpointError
from flair.data import Dictionary
from flair.models import LanguageModel
from flair.optim import SGDW
from flair.trainers import LanguageModelTrainer, TextCorpus
from flair.trainers._language_model.run import batchify, steps
from flair.trainers.language_model_trainer import TextDataset
from flair.trainers.loop import NonFiniteLossError

WORDS = ["abc", "def", "fed", "cab", "bad", "face"]


def characters(add_unk: bool = True) -> Dictionary:
    made = Dictionary(add_unk=add_unk)
    for character in "abcdefABCDEF \n":
        made.add_item(character)
    return made


def text(lines: int, seed: int) -> str:
    draw = random.Random(seed)
    return "".join(" ".join(draw.choice(WORDS) for _ in range(5)) + "\n" for _ in range(lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of three splits."""
    path = tmp_path / "corpus"
    (path / "train").mkdir(parents=True)
    for split in range(3):
        (path / "train" / f"{split}.txt").write_text(text(12, split))
    (path / "valid.txt").write_text(text(8, 10))
    (path / "test.txt").write_text(text(8, 11))
    return path


@pytest.fixture(autouse=True)
def _short_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample of generated text in the log, 1000 characters long, takes longer than everything else here."""
    generate = LanguageModel.generate_text
    monkeypatch.setattr(LanguageModel, "generate_text", lambda self: generate(self, number_of_characters=5))


def language_model(forward: bool = True, **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(characters(), forward, hidden_size=6, nlayers=1, embedding_size=4, **options)


def train(trainer: LanguageModelTrainer, out: Path, **options: Any) -> None:
    settings = {"sequence_length": 6, "mini_batch_size": 5, "learning_rate": 2, "max_epochs": 2, "num_workers": 0}
    trainer.train(out, **{**settings, **options})


def decoded(dataset: TextDataset, index: int = 0) -> str:
    return "".join(dataset.dictionary.get_item_for_index(int(i)) for i in dataset[index])


# --- text ---


def test_documents_are_separated_and_empty_ones_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"ab\r\n\r\n \ncd<d><d>e")
    plain = {"expand_vocab": True, "shuffle": False, "random_case_flip": False}
    assert decoded(TextDataset(file, Dictionary(), **plain)) == "ab\n \ncd<d><d>e\n"
    assert decoded(TextDataset(file, Dictionary(), document_delimiter="<d>", **plain)) == "ab\n\n \ncd<d>e<d>"
    assert decoded(TextDataset(file, Dictionary(), forward=False, **plain)) == "\ne>d<>d<dc\n \nba"


def test_words(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two\nthree one\n")
    words = Dictionary()
    data = TextDataset(tmp_path, words, True, split_on_char=False, shuffle=False, random_case_flip=False)
    assert [words.get_item_for_index(int(i)) for i in data[0]] == ["one", "two", "three", "one"]
    data.forward = False
    assert [words.get_item_for_index(int(i)) for i in data[0]] == ["one", "three", "two", "one"]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1), min_size=1))
def test_characters_survive(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    data = TextDataset(file, Dictionary(), expand_vocab=True, random_case_flip=False)
    shuffled = decoded(data)
    assert sorted(shuffled.split("\n")[:-1]) == sorted(lines)
    assert data.dictionary.get_items()[1:] == list(dict.fromkeys(shuffled))
    data.shuffle = False
    assert decoded(data) == "".join(line + "\n" for line in lines)


def test_case_changes_are_rare_and_shuffling_is_seeded(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("aBc\n" * 4000)
    data = TextDataset(file, characters(), shuffle=False)
    found = decoded(data).split()
    assert 10 < found.count("abc") < 90
    assert 10 < found.count("ABC") < 90
    file.write_text(text(30, 0))
    shuffled = TextDataset(file, characters(), random_case_flip=False)
    random.seed(3)
    first = shuffled[0]
    assert not torch.equal(first, shuffled[0])
    random.seed(3)
    assert torch.equal(first, shuffled[0])


def test_unknown_characters(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flair.logger, "propagate", True)
    file = tmp_path / "a.txt"
    file.write_text("abc\ncäb\n")
    with caplog.at_level(logging.INFO, logger="flair"):
        assert int((TextDataset(file, characters())[0] == 0).sum()) == 1
    assert "a.txt: 1 characters of 5 are unknown (<unk>): 'ä'" in caplog.text
    with pytest.raises(IndexError, match=r"a\.txt, line 2: the character 'ä'"):
        TextDataset(file, characters(add_unk=False), random_case_flip=False)[0]


def test_bad_texts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        TextDataset(tmp_path / "nothing", characters())
    with pytest.raises(ValueError, match="no text files"):
        TextDataset(tmp_path, characters())
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "latin.txt").write_bytes(b"abc\nab\xff\n")
    with pytest.raises(ValueError, match=r"latin\.txt, line 2: byte 0xff is not UTF-8"):
        TextDataset(tmp_path, characters())[0]
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(ValueError, match=r"empty\.txt has no text"):
        TextDataset(tmp_path / "empty.txt", characters())[0]
    with pytest.raises(ValueError, match="document_delimiter"):
        TextDataset(tmp_path, characters(), document_delimiter="")


def test_corpus(folder: Path) -> None:
    corpus = TextCorpus(folder, characters(), random_case_flip=False)
    assert [file.name for file in corpus.train.files] == ["0.txt", "1.txt", "2.txt"]
    assert corpus.valid.shape == (len((folder / "valid.txt").read_text()),)
    backward = TextCorpus(folder, characters(), forward=False, random_case_flip=False)
    assert torch.equal(backward.test, corpus.test.flip(0))
    (folder / "train" / "1.txt").write_text("")
    with pytest.raises(ValueError, match=r"1\.txt is empty"):
        TextCorpus(folder, characters())
    (folder / "valid.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks valid\.txt"):
        TextCorpus(folder, characters())
    with pytest.raises(FileNotFoundError, match="is no folder"):
        TextCorpus(folder / "nowhere", characters())


def test_a_single_training_file(folder: Path, tmp_path: Path) -> None:
    for file in (folder / "train").iterdir():
        file.unlink()
    (folder / "train").rmdir()
    (folder / "train.txt").write_text(text(20, 0))
    corpus = TextCorpus(folder, characters())
    assert len(corpus.train) == 1
    train(LanguageModelTrainer(language_model(), corpus), tmp_path / "out", max_epochs=1)
    assert (tmp_path / "out" / "best-lm.pt").exists()


@given(st.integers(2, 60), st.integers(1, 7), st.integers(1, 20))
def test_every_character_of_the_rows_is_predicted_once(size: int, batch: int, length: int) -> None:
    data = torch.arange(size)
    rows = batchify(data, batch)
    assert torch.equal(rows.t().reshape(-1), data[: size // batch * batch])
    pieces = list(steps(rows, length))
    if pieces:
        assert torch.equal(torch.cat([inputs for inputs, _ in pieces]), rows[:-1])
        assert torch.equal(torch.cat([targets for _, targets in pieces]), rows[1:].reshape(-1))
    else:
        assert len(rows) < 2


# --- training ---


@pytest.mark.parametrize("forward", [True, False])
def test_training_learns_and_writes_its_files(folder: Path, tmp_path: Path, forward: bool) -> None:
    corpus = TextCorpus(folder, characters(), forward=forward)
    lm = language_model(forward)
    trainer = LanguageModelTrainer(lm, corpus)
    before = trainer.evaluate(corpus.test, 5, 6)
    train(trainer, tmp_path / "out", max_epochs=3, checkpoint=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("best-lm.pt", "checkpoint.pt", "epoch_1.pt", "epoch_2.pt", "loss.txt", "training.log")
    }
    lines = (tmp_path / "out" / "loss.txt").read_text().splitlines()
    split = (
        r"\| end of split   \d /  3 \| epoch   \d \| time: +[\d.]+s \| valid loss \d\.\d{4} \| valid ppl [\d.]+ "
        r"\| learning rate 2\.0000"
    )
    assert len(lines) == 10
    assert all(re.fullmatch(split, line) for line in lines[:-1])
    assert re.fullmatch(r"TEST: valid loss \d\.\d{4} \| valid ppl   +[\d.]+", lines[-1])
    log = (tmp_path / "out" / "training.log").read_text()
    for line in ("read text file with 12 lines", "Sequence length is 6", "best split so far", "Epoch time: "):
        assert line in log
    last = LanguageModel.load_checkpoint(tmp_path / "out" / "checkpoint.pt")["model"]
    assert all(torch.equal(value, last.state_dict()[name]) for name, value in lm.state_dict().items())
    assert not lm.training
    lm.load_state_dict(LanguageModel.load_language_model(tmp_path / "out" / "best-lm.pt").state_dict())
    after = trainer.evaluate(corpus.test, 5, 6)
    assert after < before - 0.5
    assert f"TEST: valid loss {after:.4f}" in lines[-1]


def test_evaluation_is_the_loss_per_row_whatever_the_steps(folder: Path) -> None:
    corpus = TextCorpus(folder, characters())
    lm = language_model(dropout=0.5).train()
    trainer = LanguageModelTrainer(lm, corpus)
    rows = batchify(corpus.valid, 4)
    value = trainer.evaluate(rows, 4, 7)
    assert lm.training
    assert value == pytest.approx(trainer.evaluate(corpus.valid, 4, 1000), rel=1e-6)
    with torch.no_grad():
        scores, _, _ = lm.eval()(rows[:-1], lm.init_hidden(4))
    mean = torch.nn.functional.cross_entropy(scores.flatten(0, 1), rows[1:].flatten())
    assert value == pytest.approx(float(mean) * (len(rows) - 1) / len(rows), rel=1e-6)
    with pytest.raises(RuntimeError, match="too short"):
        trainer.evaluate(corpus.valid[:5], 4, 7)


def test_workers_change_nothing(folder: Path, tmp_path: Path) -> None:
    weights = []
    for workers in (0, 2):
        flair.set_seed(1)
        lm = language_model()
        train(LanguageModelTrainer(lm, TextCorpus(folder, characters())), tmp_path / str(workers), num_workers=workers)
        weights.append(lm.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


class Stop(Exception):
    """Ends a training where a machine would have been switched off."""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("file", "stop_after"), [("checkpoint.pt", 5), ("checkpoint.pt", 6), ("epoch_2.pt", 8)])
def test_a_continued_training_equals_the_straight_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, stop_after: int, workers: int
) -> None:
    options = {
        **{"checkpoint": True, "max_epochs": 4, "momentum": 0.9, "learning_rate": 0.7, "num_workers": workers},
        **{"patience": 0, "grow_to_sequence_length": 14},
    }
    flair.set_seed(1)
    straight = language_model(dropout=0.3)
    train(LanguageModelTrainer(straight, TextCorpus(folder, characters())), tmp_path / "straight", **options)

    flair.set_seed(1)
    trainer = LanguageModelTrainer(language_model(dropout=0.3), TextCorpus(folder, characters()))
    write, splits = LanguageModel.generate_text, iter(range(1, 100))

    def generate_or_stop(self: LanguageModel) -> Any:
        if next(splits) > stop_after:
            raise Stop
        return write(self)

    monkeypatch.setattr(LanguageModel, "generate_text", generate_or_stop)
    with pytest.raises(Stop):
        train(trainer, tmp_path / "parts", **options)
    monkeypatch.setattr(LanguageModel, "generate_text", write)
    flair.set_seed(77)
    continued = LanguageModelTrainer.load_checkpoint(
        tmp_path / "parts" / file, TextCorpus(folder, characters(), random_case_flip=True)
    )
    train(continued, tmp_path / "parts", **options)

    expected = straight.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in continued.model.state_dict().items())
    timeless = [
        [re.sub(r"time: +[\d.]+s", "", line) for line in (tmp_path / name / "loss.txt").read_text().splitlines()]
        for name in ("straight", "parts")
    ]
    assert timeless[0][-4:] == timeless[1][-4:]


def test_checkpoints_are_data(folder: Path, tmp_path: Path) -> None:
    lm = language_model()
    train(
        LanguageModelTrainer(lm, TextCorpus(folder, characters()), torch.optim.AdamW),
        *(tmp_path,),
        **{"checkpoint": True, "learning_rate": 0.01, "max_epochs": 2},
    )
    for name in ("best-lm.pt", "checkpoint.pt", "epoch_1.pt"):
        torch.load(tmp_path / name, weights_only=True)
        assert LanguageModel.load_language_model(tmp_path / name).dictionary == lm.dictionary
    parts = LanguageModel.load_checkpoint(tmp_path / "checkpoint.pt")
    assert (parts["epoch"], parts["split"]) == (1, 3)
    trainer = LanguageModelTrainer.load_checkpoint(
        tmp_path / "checkpoint.pt", TextCorpus(folder, characters()), torch.optim.AdamW
    )
    assert (trainer.epoch, trainer.split, trainer.loss) == (1, 3, parts["loss"])
    wrong = LanguageModelTrainer.load_checkpoint(tmp_path / "checkpoint.pt", TextCorpus(folder, characters()))
    with pytest.raises(ValueError, match="does not fit SGD: it lacks dampening, momentum"):
        train(wrong, tmp_path)
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CheckpointError, match=r"broken\.pt"):
        LanguageModelTrainer.load_checkpoint(tmp_path / "broken.pt", TextCorpus(folder, characters()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision(folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    lm = language_model().to(dtype)
    corpus = TextCorpus(folder, characters())
    trainer = LanguageModelTrainer(lm, corpus)
    before = trainer.evaluate(corpus.test, 5, 6)
    train(trainer, tmp_path, use_amp=dtype == torch.float32, checkpoint=True)
    assert {parameter.dtype for parameter in lm.parameters()} == {dtype}
    assert trainer.evaluate(corpus.test, 5, 6) < before - 0.3
    continued = LanguageModelTrainer.load_checkpoint(tmp_path / "checkpoint.pt", corpus)
    assert {parameter.dtype for parameter in continued.model.parameters()} == {dtype}
    train(continued, tmp_path, use_amp=dtype == torch.float32, max_epochs=3)
    assert "epoch   3" in (tmp_path / "loss.txt").read_text()


def test_weight_decay_is_annealed_too(folder: Path, tmp_path: Path) -> None:
    decays = []

    class Watched(SGDW):
        def step(self, *arguments: Any, **options: Any) -> Any:
            decays.append(self.param_groups[0]["weight_decay"])
            return super().step(*arguments, **options)

    trainer = LanguageModelTrainer(language_model(), TextCorpus(folder, characters()), Watched)
    train(trainer, tmp_path, learning_rate=1e-6, weight_decay=0.1, patience=0, anneal_factor=0.5)
    assert decays[0] == 0.1
    assert decays[-1] < 0.06


def test_progress_lines(folder: Path, tmp_path: Path) -> None:
    trainer = LanguageModelTrainer(language_model(), TextCorpus(folder, characters()))
    trainer.log_interval = 3
    train(trainer, tmp_path, max_epochs=1)
    found = re.findall(
        r"\| split   1/  3 \| +(\d+)/ +(\d+) batches \| ms/batch +[\d.]+ \| loss (\d\.\d{4}) \| ppl [\d.]+",
        (tmp_path / "training.log").read_text(),
    )
    assert [int(number) for number, _, _ in found] == list(range(3, int(found[0][1]) + 1, 3))
    assert all(1 < float(loss) < 4 for _, _, loss in found)


def test_interruption_ends_with_a_test(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = language_model()
    save = lm.save

    def save_and_interrupt(file: Any) -> None:
        save(file)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(lm, "save", save_and_interrupt)
    train(LanguageModelTrainer(lm, TextCorpus(folder, characters())), tmp_path, num_workers=1)
    assert "Exiting from training early" in (tmp_path / "training.log").read_text()
    assert (tmp_path / "loss.txt").read_text().startswith("TEST: ")


def test_splits_that_are_too_short(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "1.txt").write_text("ab\n")
    trainer = LanguageModelTrainer(language_model(), TextCorpus(folder, characters()))
    train(trainer, tmp_path / "out", max_epochs=1)
    assert "1.txt is too short" in (tmp_path / "out" / "training.log").read_text()
    for split in (0, 2):
        (folder / "train" / f"{split}.txt").write_text("ab\n")
    with pytest.raises(RuntimeError, match="long enough"):
        train(trainer, tmp_path / "none")
    with pytest.raises(RuntimeError, match="valid text has"):
        train(trainer, tmp_path / "none", mini_batch_size=500)


def test_what_does_not_fit(folder: Path, tmp_path: Path) -> None:
    corpus = TextCorpus(folder, characters())
    with pytest.raises(ValueError, match="direction"):
        LanguageModelTrainer(language_model(False), corpus)
    with pytest.raises(ValueError, match="no decoder"):
        LanguageModelTrainer(language_model(has_decoder=False), corpus)
    with pytest.raises(ValueError, match="dictionaries"):
        LanguageModelTrainer(language_model(), TextCorpus(folder, Dictionary()))
    trainer = LanguageModelTrainer(language_model(), corpus)
    for wrong in ({"sequence_length": 0}, {"mini_batch_size": 0}, {"anneal_factor": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            train(trainer, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
    with torch.no_grad():
        trainer.model.encoder.weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="split 1"):
        train(trainer, tmp_path / "out")
