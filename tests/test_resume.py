"""Resuming a training: what was interrupted ends as if it had not been, to the bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_tools import WORDS, TinyClassifier, logged_lines, tiny_corpus

import flair
from flair.checkpoint import CheckpointError, load_state
from flair.data import Corpus, Dictionary, Sentence
from flair.embeddings import DocumentPoolEmbeddings, TransformerDocumentEmbeddings, WordEmbeddings
from flair.models import SequenceTagger, TextClassifier
from flair.nn.model import Model
from flair.samplers import ChunkSampler, ExpandingChunkSampler, FlairSampler
from flair.trainers import ModelTrainer
from flair.trainers.plugins import MetricHistoryPlugin, TrainerPlugin
from flair.trainers.plugins.functional.batch_growth import BatchGrowthPlugin
from tests.embeddings.tiny_transformers import make_model_folder

EVERY = {"save_model_each_k_epochs": 1, "save_optimizer_state": True}


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flair._runtime, "device", torch.device("cpu"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("bert"), "bert")


# --- models and their data ---


def words() -> WordEmbeddings:
    made = WordEmbeddings(None, vocab={word: i for i, word in enumerate(WORDS)}, embedding_length=5, name="words")
    torch.nn.init.normal_(made.embedding.weight.data)
    return made


def dictionary(*names: str) -> Dictionary:
    made = Dictionary(add_unk=False)
    for name in names:
        made.add_item(name)
    return made


def pooled(bert: Path) -> Model:
    embeddings = DocumentPoolEmbeddings([words()], fine_tune_mode="linear")
    return TextClassifier(embeddings, label_type="class", label_dictionary=dictionary("neg", "pos"), dropout=0.2)


def transformer(bert: Path, **options: Any) -> Model:
    embeddings = TransformerDocumentEmbeddings(str(bert), fine_tune=True, **options)
    return TextClassifier(embeddings, label_type="class", label_dictionary=dictionary("neg", "pos"), dropout=0.2)


def lora(bert: Path, **options: Any) -> Model:
    peft = pytest.importorskip("peft")
    return transformer(
        bert, peft_config=peft.LoraConfig(r=4, target_modules=["query", "value"], lora_dropout=0.3), **options
    )


def tagger(bert: Path) -> Model:
    tags = dictionary("GOOD", "BAD")
    tags.span_labels = True
    return SequenceTagger(words(), tags, "class", use_crf=True, hidden_size=6, word_dropout=0.1, locked_dropout=0.3)


class Tiny(TinyClassifier):
    """Its dropout survives a save."""

    def _get_state_dict(self) -> dict[str, Any]:
        return {**super()._get_state_dict(), "dropout_rate": self.dropout.p}

    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> Any:
        model = super()._init_model_with_state_dict(state, **kwargs)
        model.dropout.p = state["dropout_rate"]
        return model


def tiny(bert: Path) -> Model:
    return Tiny(dropout=0.3)


def corpus_of(model: Model, **sizes: int) -> Corpus:
    corpus = tiny_corpus(**{"train": 18, "dev": 6, "test": 6, **sizes})
    if isinstance(model, SequenceTagger):
        for split in (corpus.train, corpus.dev, corpus.test):
            for sentence in split:  # type: ignore[union-attr]
                mark_spans(sentence)
    return corpus


def mark_spans(sentence: Sentence) -> None:
    sentence.remove_labels("class")
    for token in sentence:
        if token.text in ("good", "bad"):
            sentence[token.idx - 1 : token.idx].add_label("class", token.text.upper())


# --- interrupting and comparing ---


class Killed(Exception):
    """Stands for the end of the process: nothing is saved after it."""


class KillAt(TrainerPlugin):
    def __init__(self, batch: int, error: BaseException | None = None) -> None:
        super().__init__()
        self.at, self.error = batch, error or Killed()

    @TrainerPlugin.hook
    def after_training_batch(self, batch_count: int, **kw: Any) -> None:
        if batch_count == self.at:
            raise self.error


def rows(folder: Path) -> list[list[str]]:
    """The loss file without time stamps."""
    lines = [line.split("\t") for line in (folder / "loss.tsv").read_text().splitlines()]
    return [[cell for title, cell in zip(lines[0], line, strict=True) if title != "TIMESTAMP"] for line in lines]


def differences(one: Any, two: Any, path: str = "") -> list[str]:
    """Where two nested containers differ in any bit."""
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if one.dtype == two.dtype and torch.equal(one, two) else [path]
    if isinstance(one, dict) and isinstance(two, dict):
        found = [f"{path}/{key} in one only" for key in one.keys() ^ two.keys()]
        return found + [d for key in one.keys() & two.keys() for d in differences(one[key], two[key], f"{path}/{key}")]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        return [d for i, (a, b) in enumerate(zip(one, two, strict=True)) for d in differences(a, b, f"{path}/{i}")]
    return [] if one == two else [f"{path}: {one!r} / {two!r}"]


def assert_same_end(one: Path, two: Path) -> None:
    """Weights, optimizer, schedules, random states, scores and written figures are the same."""
    assert rows(one) == rows(two)
    for name in ("final-model.pt", "best-model.pt"):
        assert (one / name).exists() == (two / name).exists()
        if not (one / name).exists():
            continue
        first, second = load_state(one / name), load_state(two / name)
        assert not differences(first["state_dict"], second["state_dict"])
        if "optimizer_state_dict" not in first:
            continue
        left, right = first["optimizer_state_dict"], second["optimizer_state_dict"]
        for state in (left, right):
            state["training"].pop("arguments")  # the folder is another one
            states = state["training"]["plugin_states"]
            state["training"]["plugin_states"] = [entry for entry in states if "Kill" not in entry["class"]]
            for plugin in state["training"]["plugins"]:
                (plugin["settings"] or {}).pop("base_path", None)
        assert not differences(left, right)
    for name in ("dev.tsv", "test.tsv", "weights.txt"):
        if (one / name).exists():
            assert (one / name).read_text() == (two / name).read_text()


def train(
    make: Callable[[Path], Model],
    bert: Path,
    folder: Path,
    method: str,
    kill: TrainerPlugin | None = None,
    **options: Any,
) -> dict[str, Any]:
    flair.set_seed(7)
    model = make(bert)
    trainer = ModelTrainer(model, corpus_of(model))
    if kill is not None:
        kill.attach_to(trainer)
    return getattr(trainer, method)(folder, **{**EVERY, **options})


def resume(folder: Path, done: int, *arguments: Any, **options: Any) -> dict[str, Any]:
    """In what could be another process: other random states, model and corpus made anew."""
    flair.set_seed(1234)
    file = folder / f"model_epoch_{done}.pt"
    model = Model.load(file)
    return ModelTrainer(model, corpus_of(model)).resume(model if done % 2 else file, *arguments, **options)


SGD_CASE: dict[str, Any] = {"learning_rate": 0.5, "patience": 0, "mini_batch_size": 4, "max_epochs": 4}
ADAM_CASE: dict[str, Any] = {"learning_rate": 1e-2, "mini_batch_size": 4, "max_epochs": 3}
CASES: dict[str, tuple[Callable[..., Model], str, dict[str, Any]]] = {
    "pooled words, plateau": (pooled, "train", SGD_CASE),
    "restarts": (tiny, "train", {**SGD_CASE, "anneal_with_restarts": True, "max_epochs": 6}),
    "momentum, two rates": (tiny, "train", {**SGD_CASE, "momentum": 0.9, "decoder_learning_rate": 0.1}),
    "everything watched": (
        tiny,
        "train",
        {**SGD_CASE, "monitor_test": True, "monitor_train_sample": 0.4, "write_weights": True},
    ),
    "tagger with crf": (tagger, "train", {**SGD_CASE, "mini_batch_chunk_size": 3}),
    "transformer, chunks": (transformer, "fine_tune", {**ADAM_CASE, "mini_batch_chunk_size": 2}),
    "best of fine-tuning": (tiny, "fine_tune", {**ADAM_CASE, "use_final_model_for_eval": False}),
    "reduced vocabulary": (transformer, "fine_tune", {**ADAM_CASE, "reduce_transformer_vocab": True}),
    "lora": (lora, "fine_tune", {**ADAM_CASE, "decoder_learning_rate": 0.02}),
    "lora in bfloat16": (lambda bert: lora(bert, dtype="bfloat16"), "fine_tune", ADAM_CASE),
    "transformer in bfloat16": (lambda bert: transformer(bert, dtype="bfloat16"), "fine_tune", ADAM_CASE),
    "loss scaling": (tiny, "fine_tune", {**ADAM_CASE, "use_amp": True, "amp_dtype": "float16"}),
    "no shuffling at first": (tiny, "train_custom", {**ADAM_CASE, "shuffle_first_epoch": False}),
    "adam without schedule": (tiny, "train_custom", {**ADAM_CASE, "optimizer": torch.optim.Adam, "amsgrad": True}),
    "sampler class": (tiny, "fine_tune", {**ADAM_CASE, "sampler": ChunkSampler}),
    "no dev data": (tiny, "train", {**SGD_CASE, "train_with_dev": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_training_ends_as_if_it_had_not_been(case: str, bert: Path, tmp_path: Path) -> None:
    make, method, options = CASES[case]
    straight = train(make, bert, tmp_path / "straight", method, **options)
    batches = 6 if options.get("train_with_dev") else 5
    with pytest.raises(Killed):
        train(make, bert, tmp_path / "killed", method, KillAt(2 * batches + 2), **options)
    assert not (tmp_path / "killed" / "final-model.pt").exists()
    result = resume(tmp_path / "killed", 2)
    assert result == straight
    assert_same_end(tmp_path / "straight", tmp_path / "killed")
    log = (tmp_path / "killed" / "training.log").read_text()
    assert "EPOCH 1 done" in log
    assert "Resuming the training after epoch 2" in log


@pytest.mark.parametrize("make", [tiny, lora])
def test_a_finished_training_is_extended(make: Callable[..., Model], bert: Path, tmp_path: Path) -> None:
    options = {**SGD_CASE, "min_learning_rate": 0.0}
    train(make, bert, tmp_path / "straight", "train", **options)
    train(make, bert, tmp_path / "parts", "train", **{**options, "max_epochs": 2})
    flair.set_seed(1)
    model = Model.load(tmp_path / "parts" / "final-model.pt", device="cpu")
    # The final evaluation changes nothing that a saved model carries.
    ModelTrainer(model, corpus_of(model)).resume(model, additional_epochs=1)
    flair.set_seed(2)
    trainer = ModelTrainer(model, corpus_of(model))
    trainer.resume(tmp_path / "parts" / "final-model.pt", additional_epochs=1)
    assert trainer.model is not model
    assert_same_end(tmp_path / "straight", tmp_path / "parts")


def test_every_second_epoch_is_enough(bert: Path, tmp_path: Path) -> None:
    options = {**SGD_CASE, "max_epochs": 6, "save_model_each_k_epochs": 2, "write_weights": True}
    train(tiny, bert, tmp_path / "straight", "train", **options)
    with pytest.raises(Killed):
        train(tiny, bert, tmp_path / "killed", "train", KillAt(19), **options)
    assert len(rows(tmp_path / "killed")) == 1 + 3
    with (tmp_path / "killed" / "loss.tsv").open("a") as file:
        file.write("4\t12:0")  # the process died while it wrote
    resume(tmp_path / "killed", 2)
    assert_same_end(tmp_path / "straight", tmp_path / "killed")


_SCRIPT = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
import test_resume as t
from pathlib import Path
class Kill(t.TrainerPlugin):
    @t.TrainerPlugin.hook
    def before_training_optimizer_step(self, batch_count, **kw):
        if batch_count == 12:
            os.kill(os.getpid(), signal.SIGKILL)
t.flair._runtime.device = t.torch.device("cpu")
t.torch.set_num_threads(int(sys.argv[2]))
t.train(t.pooled, Path(), Path(sys.argv[1]), "train", Kill(), **t.SGD_CASE)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal")
def test_a_process_that_was_killed(bert: Path, tmp_path: Path) -> None:
    train(pooled, bert, tmp_path / "straight", "train", **SGD_CASE)
    here = Path(__file__).parent
    arguments = [str(tmp_path / "killed"), str(torch.get_num_threads()), str(here), str(here.parent)]
    process = subprocess.run([sys.executable, "-c", _SCRIPT, *arguments], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    resume(tmp_path / "killed", 2)
    assert_same_end(tmp_path / "straight", tmp_path / "killed")


# --- plugins and samplers ---


class Counter(TrainerPlugin):
    """A plugin of a user, with a memory and a scheduler."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    @TrainerPlugin.hook
    def after_setup(self, **kw: Any) -> None:
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.trainer.optimizer, max_lr=0.3, total_steps=30)

    @TrainerPlugin.hook
    def after_training_batch(self, **kw: Any) -> None:
        self.batches += 1
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.batches = state["batches"]


def test_plugins_go_on_where_they_were(bert: Path, tmp_path: Path) -> None:
    def plugins() -> dict[str, Any]:
        return {"plugins": [Counter(), MetricHistoryPlugin(), BatchGrowthPlugin(tmp_path, 4, 8, 3)], "max_epochs": 4}

    straight = train(tiny, bert, tmp_path / "straight", "train_custom", **plugins())
    with pytest.raises(Killed):
        train(tiny, bert, tmp_path / "killed", "train_custom", KillAt(11), **plugins())
    with pytest.raises(ValueError, match=r"plugin of class .*Counter.*plugins=\[...\]"):
        resume(tmp_path / "killed", 2)
    counter = Counter()
    assert resume(tmp_path / "killed", 2, plugins=[counter]) == straight
    assert len(straight["train_loss_history"]) == 4
    assert (
        counter.batches
        == load_state(tmp_path / "straight" / "final-model.pt")["optimizer_state_dict"]["training"]["batch_count"]
    )
    assert_same_end(tmp_path / "straight", tmp_path / "killed")


class OwnSampler(FlairSampler):
    """Goes through the data forwards and backwards in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0
        self.generator = torch.Generator().manual_seed(3)

    def __iter__(self) -> Any:
        self.turn += 1
        order = torch.randperm(self.num_samples, generator=self.generator).tolist()
        return iter(order if self.turn % 2 else order[::-1])


@pytest.mark.parametrize("sampler", [lambda: ExpandingChunkSampler(step=1), OwnSampler])
def test_samplers_go_on_where_they_were(sampler: Callable[[], Any], bert: Path, tmp_path: Path) -> None:
    train(tiny, bert, tmp_path / "straight", "train", sampler=sampler(), **SGD_CASE)
    with pytest.raises(Killed):
        train(tiny, bert, tmp_path / "killed", "train", KillAt(12), sampler=sampler(), **SGD_CASE)
    options = {}
    if sampler is OwnSampler:
        with pytest.raises(ValueError, match=r"sampler=<a .*OwnSampler>.*resume\(\.\.\., sampler="):
            resume(tmp_path / "killed", 2)
        options = {"sampler": OwnSampler()}
    resume(tmp_path / "killed", 2, **options)
    assert_same_end(tmp_path / "straight", tmp_path / "killed")


# --- other arguments than before ---


def test_arguments_take_the_place_of_stored_ones(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny, bert, tmp_path / "old", "train", KillAt(12), momentum=0.5, **SGD_CASE)
    other = {"learning_rate": 0.125, "momentum": 0.25, "patience": 9, "base_path": tmp_path / "new"}
    resume(tmp_path / "old", 2, **other)
    state = load_state(tmp_path / "new" / "final-model.pt")
    group = state["optimizer_state_dict"]["param_groups"][0]
    assert (group["lr"], group["momentum"]) == (0.125, 0.25)
    assert state["scheduler_state_dict"]["effective_patience"] == 9
    assert [row[0] for row in rows(tmp_path / "new")] == ["EPOCH", "3", "4"]
    # The best model so far comes along.
    assert (tmp_path / "new" / "best-model.pt").exists()
    assert not (tmp_path / "old" / "final-model.pt").exists()


def test_a_longer_linear_schedule(bert: Path, tmp_path: Path) -> None:
    train(tiny, bert, tmp_path, "fine_tune", **{**ADAM_CASE, "max_epochs": 2})
    assert load_state(tmp_path / "final-model.pt")["optimizer_state_dict"]["param_groups"][0]["lr"] == 0
    resume(tmp_path, 2, additional_epochs=2, learning_rate=0.4, warmup_fraction=0.5)
    rates = [float(row[1]) for row in rows(tmp_path)[1:]]
    # 21 steps, of which 10 are the warm-up, that is, those which are done; the rate is that of an epoch's last step.
    assert rates[2:] == [pytest.approx(0.4 * (21 - step) / 11, abs=1e-4) for step in (14, 19)]


def test_nothing_left_to_train(bert: Path, tmp_path: Path) -> None:
    straight = train(tiny, bert, tmp_path, "train", **SGD_CASE)
    with logged_lines() as lines:
        assert resume(tmp_path, 4) == straight
    assert any("nothing to train" in line and "additional_epochs" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"additional_epochs": 1, "max_epochs": 9}, ValueError, "both say how long"),
        ({"epoch": 1}, TypeError, "after epoch 1"),
        ({"warmup_fraction": 0.5}, TypeError, "no plugin with that setting"),
        ({"optimizer": torch.optim.AdamW}, ValueError, "holds the state of a torch.optim.sgd.SGD"),
        ({"decoder_learning_rate": 0.5}, CheckpointError, "parameter"),
    ],
)
def test_arguments_that_make_no_sense(
    options: dict[str, Any], error: type[Exception], message: str, bert: Path, tmp_path: Path
) -> None:
    train(tiny, bert, tmp_path, "train", **{**SGD_CASE, "max_epochs": 1})
    model = Model.load(tmp_path / "model_epoch_1.pt")
    trainer = ModelTrainer(model, corpus_of(model))
    with pytest.raises(error, match=message):
        trainer.resume(model, **options)
    trainer.resume(model, additional_epochs=1)
    assert [row[0] for row in rows(tmp_path)] == ["EPOCH", "1", "2"]


# --- what cannot be resumed ---


def test_a_checkpoint_is_data(bert: Path, tmp_path: Path) -> None:
    train(lora, bert, tmp_path, "fine_tune", **{**ADAM_CASE, "max_epochs": 1})
    assert torch.load(tmp_path / "model_epoch_1.pt", weights_only=True)
    training = load_state(tmp_path / "model_epoch_1.pt")["optimizer_state_dict"]["training"]
    assert training["arguments"]["optimizer"] == {"class": "torch.optim.adamw.AdamW"}
    assert training["plugins"][0]["settings"] == {"warmup_fraction": 0.1}
    assert training["corpus"] == {"train": 18, "dev": 6, "test": 6}


def test_a_model_without_the_state_of_its_training(bert: Path, tmp_path: Path) -> None:
    train(tiny, bert, tmp_path, "train", **{**SGD_CASE, "max_epochs": 1, "save_optimizer_state": False})
    with pytest.raises(CheckpointError, match=r"model_epoch_1\.pt was saved without .* save_model_each_k_epochs=1"):
        ModelTrainer(tiny(bert), tiny_corpus()).resume(tmp_path / "model_epoch_1.pt")
    with pytest.raises(CheckpointError, match="This Tiny was saved without"):
        resume(tmp_path, 1)
    with pytest.raises(FileNotFoundError):
        ModelTrainer(tiny(bert), tiny_corpus()).resume(tmp_path / "model_epoch_9.pt")


def test_an_interrupted_epoch(bert: Path, tmp_path: Path) -> None:
    """Ctrl-C saves the model as ever, but it stands in the middle of an epoch; the checkpoint before does not."""
    train(tiny, bert, tmp_path / "straight", "train", **SGD_CASE)
    train(tiny, bert, tmp_path / "parts", "train", KillAt(12, KeyboardInterrupt()), **SGD_CASE)
    with pytest.raises(CheckpointError, match=r"interrupted inside of epoch 3.*model_epoch_2\.pt"):
        ModelTrainer(tiny(bert), tiny_corpus()).resume(tmp_path / "parts" / "final-model.pt")
    resume(tmp_path / "parts", 2)
    assert_same_end(tmp_path / "straight", tmp_path / "parts")


def test_a_model_that_was_changed(bert: Path, tmp_path: Path) -> None:
    train(tiny, bert, tmp_path, "train", **{**SGD_CASE, "max_epochs": 1})
    model: Any = Model.load(tmp_path / "model_epoch_1.pt")
    model.decoder = torch.nn.Linear(4, 3)
    model.embeddings = None
    trainer = ModelTrainer(tiny(bert), corpus_of(model))
    before = trainer.model
    with pytest.raises(
        CheckpointError, match=r"missing: embeddings.weight; of another shape: decoder.weight \(3, 4\) .*"
    ):
        trainer.resume(model, additional_epochs=1)
    assert trainer.model is before


def test_frozen_weights_stay_frozen(bert: Path, tmp_path: Path) -> None:
    def frozen(bert: Path) -> Model:
        model: Any = tiny(bert)
        model.embeddings.requires_grad_(False)
        return model

    train(frozen, bert, tmp_path / "straight", "fine_tune", **ADAM_CASE)
    with pytest.raises(Killed):
        train(frozen, bert, tmp_path / "killed", "fine_tune", KillAt(7), **ADAM_CASE)
    resume(tmp_path / "killed", 1)
    assert_same_end(tmp_path / "straight", tmp_path / "killed")


def test_other_data_is_warned_about(bert: Path, tmp_path: Path) -> None:
    train(tiny, bert, tmp_path, "train", **{**SGD_CASE, "max_epochs": 1})
    with logged_lines() as lines:
        ModelTrainer(tiny(bert), tiny_corpus(train=20, dev=6, test=6)).resume(
            tmp_path / "model_epoch_1.pt", additional_epochs=1
        )
    warnings = [line for line in lines if "data points, the training so far" in line]
    assert warnings == [
        "The train split has 20 data points, the training so far had 18. It goes on with other data, and will not be "
        "what it would have been without the interruption."
    ]
