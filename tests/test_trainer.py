"""The trainer: what it computes, what it writes, how it fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from trainer_tools import TinyClassifier, logged_lines, sentences, tiny_corpus, tiny_model

import flair
from flair.checkpoint import CheckpointError, load_state
from flair.data.corpus import Corpus
from flair.data.loading import FlairDatapointDataset
from flair.embeddings.base import Embeddings
from flair.samplers import FlairSampler
from flair.trainers import ModelTrainer
from flair.trainers.loop import NonFiniteLossError
from flair.trainers.plugins import MetricHistoryPlugin, TrainerPlugin, TrainingInterrupt
from flair.trainers.preflight import check_model_survives_save

DASHES = "-" * 100


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flair._runtime, "device", torch.device("cpu"))


def trainer(model: Any = None, **sizes: int) -> ModelTrainer:
    return ModelTrainer(model if model is not None else tiny_model(), tiny_corpus(**sizes))


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.exists() else set()


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


class Recorder(TrainerPlugin):
    """Notes every event, and metrics by name."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.arguments: dict[str, dict] = {}

    def _note(self, name: str, **kw: Any) -> None:
        self.events.append(name)
        self.arguments.setdefault(name, kw)

    @TrainerPlugin.hook
    def metric_recorded(self, record: Any) -> None:
        self.events.append(f"metric {record.name}")


for event in ModelTrainer.valid_events - {"metric_recorded"}:

    def _hook(self: Recorder, _event: str = event, **kw: Any) -> None:
        self._note(_event, **kw)

    setattr(Recorder, f"on_{event}", TrainerPlugin.mark_func_as_hook(_hook, event))


class RaiseAt(TrainerPlugin):
    def __init__(self, error: BaseException, batch_count: int) -> None:
        super().__init__()
        self.error, self.at = error, batch_count

    @TrainerPlugin.hook
    def after_training_batch(self, batch_count: int, **kw: Any) -> None:
        if batch_count == self.at:
            raise self.error


# --- files and logs ---


def test_train_writes_its_files_and_learns(tmp_path: Path) -> None:
    run = trainer()
    result = run.train(tmp_path, max_epochs=8, mini_batch_size=4, learning_rate=0.3)
    assert files(tmp_path) == {"best-model.pt", "final-model.pt", "dev.tsv", "test.tsv", "loss.tsv", "training.log"}
    assert result == {"test_score": 1.0}
    assert TinyClassifier.load(tmp_path / "best-model.pt").model_card["training_parameters"]["max_epochs"] == 8


def test_fine_tune_keeps_the_final_model_only(tmp_path: Path) -> None:
    trainer().fine_tune(tmp_path, max_epochs=1, save_model_each_k_epochs=1, monitor_train_sample=0.5)
    assert files(tmp_path) == {
        "final-model.pt", "model_epoch_1.pt", "dev.tsv", "test.tsv", "train_sample.tsv", "loss.tsv", "training.log",
    }  # fmt: skip


def test_nothing_is_written_on_demand(tmp_path: Path) -> None:
    trainer().train(
        tmp_path, max_epochs=1, create_file_logs=False, create_loss_file=False, save_final_model=False,
        use_final_model_for_eval=True,
    )  # fmt: skip
    assert files(tmp_path) == {"dev.tsv", "test.tsv"}


def test_loss_file_has_the_columns_that_were_measured(tmp_path: Path) -> None:
    trainer().fine_tune(tmp_path, max_epochs=2, decoder_learning_rate=0.1, monitor_test=True, mini_batch_size=4)
    header, *rows = [line.split("\t") for line in (tmp_path / "loss.tsv").read_text().splitlines()]
    expected = ["EPOCH", "TIMESTAMP", "LEARNING_RATE", "TRAIN_LOSS"] + [
        f"{split}_{metric}" for split in ("DEV", "TEST") for metric in ("LOSS", "PRECISION", "RECALL", "F1", "ACCURACY")
    ]
    assert header == expected
    assert [row[0] for row in rows] == ["1", "2"]
    assert re.fullmatch(r"\d\d:\d\d:\d\d", rows[0][1])
    assert re.fullmatch(r"\d\.\d{4},\d\.\d{4}", rows[0][2])
    assert all(re.fullmatch(r"\d+\.\d{4}", cell) for row in rows for cell in row[3:])


def test_a_continued_training_appends_to_the_loss_file(tmp_path: Path) -> None:
    trainer().train(tmp_path, max_epochs=1)
    trainer().train(tmp_path, max_epochs=2, epoch=1, monitor_test=True)
    lines = (tmp_path / "loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["EPOCH", "1", "2"]
    assert {len(line.split("\t")) for line in lines} == {9}


def test_log_lines(tmp_path: Path) -> None:
    with logged_lines() as lines:
        trainer().train(tmp_path, max_epochs=2, mini_batch_size=1, patience=0)
    text = "\n".join(lines)
    header = text[: text.index("epoch 1 - iter")]
    order = [
        'Model: "TinyClassifier(', "Corpus: 24 train + 8 dev + 8 test sentences", "Train:  24 sentences",
        "        (train_with_dev=False, train_with_test=False)", "Training Params:",
        " - optimizer: \"<class 'torch.optim.sgd.SGD'>\" ", ' - learning_rate: "0.1" ', ' - mini_batch_size: "1"',
        ' - max_epochs: "2"', ' - shuffle: "True"', "Plugins:",
        " - AnnealOnPlateau | patience: '0', anneal_factor: '0.5', min_learning_rate: '0.0001'",
        "Final evaluation on model from best epoch (best-model.pt)", " - metric: \"('micro avg', 'f1-score')\"",
        "Computation:", " - compute on device: cpu", " - embedding storage: cpu", "Model training base path:",
    ]  # fmt: skip
    places = [header.index(line) for line in order]
    assert places == sorted(places)
    progress = [line for line in lines if line.startswith("epoch 1 - iter")]
    assert len(progress) == 12, "24 batches, one line for every second"
    number = r"\d+\.\d"
    assert re.fullmatch(
        rf"epoch 1 - iter 2/24 - loss {number}{{8}} - time \(sec\): {number}{{2}} - samples/sec: {number}{{2}}"
        rf" - lr: {number}{{6}} - momentum: {number}{{6}}",
        progress[0],
    )
    done = lines.index(next(line for line in lines if line.startswith("EPOCH 1 done")))
    assert re.fullmatch(rf"EPOCH 1 done: loss {number}{{4}} - lr: 0\.100000", lines[done])
    assert lines[done - 1] == DASHES
    assert re.fullmatch(rf"DEV : loss {number}\d* - f1-score \(micro avg\)  {number}\d*", lines[done + 1])
    assert lines[done + 2 : done + 4] == [" - 0 epochs without improvement", "saving best model"]
    assert "Loading model from best epoch ..." in lines
    assert (tmp_path / "training.log").read_text().count("EPOCH") == 2


def test_progress_bar_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer().train(tmp_path, max_epochs=1)
    assert "Epoch 1" not in capsys.readouterr().err
    monkeypatch.setenv("FLAIR_PROGRESS", "1")
    trainer().train(tmp_path, max_epochs=1)
    assert "Epoch 1" in capsys.readouterr().err


def test_old_best_models_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "best-model.pt").write_text("old")
    (tmp_path / "best-model_epoch3.pt").write_text("old")
    with logged_lines() as lines:
        trainer().fine_tune(tmp_path, max_epochs=1)
    assert not list(tmp_path.glob("best-model*"))
    assert sum("best model of an earlier training is deleted" in line for line in lines) == 2


# --- events ---


def test_order_of_events(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer(train=8).train(tmp_path, max_epochs=1, mini_batch_size=4, plugins=[recorder])
    rates = ["metric learning_rate", "metric optimizer/momentum"]
    batch = [
        "before_training_batch", "before_training_optimizer_step", "metric train/batch_loss",
        "metric train/gradient_norm", *rates, "after_training_batch",
    ]  # fmt: skip
    dev = [
        f"metric dev/{name}"
        for name in (
            "micro avg/f1-score", "micro avg/precision", "micro avg/recall", "accuracy", "loss", "score",
            "detailed_result",
        )
    ]  # fmt: skip
    assert recorder.events == [
        "after_setup", "before_training_epoch", *rates, *batch, *batch, "metric train/loss", "after_training_epoch",
        *dev, "after_evaluation", "metric bad_epochs", "after_training_loop", "_training_finally", "after_training",
    ]  # fmt: skip


def test_arguments_of_events(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer(train=8).train(tmp_path, max_epochs=1, mini_batch_size=4, momentum=0.9, plugins=[recorder])
    setup = recorder.arguments["after_setup"]
    assert setup["dataset_size"] == 8
    assert setup["optimizer"] is torch.optim.SGD
    assert setup["kwargs"] == {"lr": 0.1, "momentum": 0.9}
    assert setup["mini_batch_size"] == 4
    after = recorder.arguments["after_training_batch"]
    assert {name: value for name, value in after.items() if name != "batch"} == {
        "batch_no": 0, "total_number_of_batches": 2, "epoch": 1, "batch_count": 1, "optimizer_was_run": True,
    }  # fmt: skip
    assert len(after["batch"]) == 4
    evaluation = recorder.arguments["after_evaluation"]
    assert evaluation["epoch"] == 1
    assert len(evaluation["validation_scores"]) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TrainingInterrupt("enough of it")])
def test_interrupts_save_the_final_model_and_evaluate(tmp_path: Path, error: BaseException) -> None:
    recorder = Recorder()
    with logged_lines() as lines:
        result = trainer().train_custom(
            tmp_path, max_epochs=5, mini_batch_size=4, plugins=[recorder, RaiseAt(error, 8)], learning_rate=0.3
        )
    assert "final-model.pt" in files(tmp_path)
    assert "test_score" in result
    tail = [name for name in recorder.events if not name.startswith("metric")][-3:]
    assert tail == ["training_interrupt", "_training_finally", "after_training"]
    reason = str(error) or "Exiting from training early."
    after = lines[lines.index(reason) + 1 :]
    assert [line for line in after if line != DASHES][:2] == ["Saving model ...", "Done."]


def test_other_errors_propagate_and_close_the_log(tmp_path: Path) -> None:
    recorder = Recorder()
    handlers = list(flair.logger.handlers)
    with pytest.raises(ZeroDivisionError):
        trainer().train(tmp_path, max_epochs=2, plugins=[recorder, RaiseAt(ZeroDivisionError(), 1)])
    assert [name for name in recorder.events if "metric" not in name][-2:] == [
        "_training_exception",
        "_training_finally",
    ]
    assert "final-model.pt" not in files(tmp_path)
    assert flair.logger.handlers == handlers


def test_an_error_during_the_setup_closes_the_log(tmp_path: Path) -> None:
    class Fussy(TrainerPlugin):
        @TrainerPlugin.hook
        def after_setup(self) -> None: ...

    handlers = list(flair.logger.handlers)
    with pytest.raises(TypeError, match="does not accept keyword argument 'dataset_size'"):
        trainer().train(tmp_path, max_epochs=2, plugins=[Fussy()])
    assert flair.logger.handlers == handlers


def test_a_trainer_can_train_twice(tmp_path: Path) -> None:
    recorder = Recorder()
    run = trainer()
    run.train(tmp_path / "a", max_epochs=1, plugins=[recorder])
    run.train(tmp_path / "b", max_epochs=1)
    assert recorder.events.count("after_training") == 1
    assert run.optimizer is None
    run.train(tmp_path / "c", max_epochs=1, plugins=[recorder])
    assert recorder.events.count("after_training") == 2


def test_history_is_returned(tmp_path: Path) -> None:
    result = trainer().train_custom(tmp_path, max_epochs=3, plugins=[MetricHistoryPlugin])
    assert len(result["train_loss_history"]) == len(result["dev_score_history"]) == len(result["dev_loss_history"]) == 3
    assert result["train_loss_history"][0] > result["train_loss_history"][-1]


# --- what is computed ---


def test_one_step_follows_the_gradient_of_the_summed_loss(tmp_path: Path) -> None:
    model, reference = tiny_model(), tiny_model()
    batch = sentences(6, 1)
    corpus = Corpus(train=FlairDatapointDataset(batch), sample_missing_splits=False)
    ModelTrainer(model, corpus).train_custom(
        tmp_path, max_epochs=1, learning_rate=0.1, mini_batch_size=6, shuffle=False, use_final_model_for_eval=True
    )
    reference.forward_loss(batch)[0].backward()
    norm = torch.stack([p.grad.norm() for p in reference.parameters()]).norm()
    assert norm > 5.0, "the step is clipped"
    for mine, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, other - 0.1 * other.grad * 5.0 / (norm + 1e-6))


def test_chunks_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    models = [tiny_model(), tiny_model()]
    for model, size in zip(models, (None, 3), strict=True):
        trainer(model).train(tmp_path, max_epochs=3, mini_batch_size=8, mini_batch_chunk_size=size, shuffle=False)
    for first, second in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(first, second)


def test_two_runs_with_one_seed_are_equal(tmp_path: Path) -> None:
    results = []
    for folder in ("a", "b"):
        model = tiny_model(dropout=0.3)
        trainer(model).fine_tune(tmp_path / folder, max_epochs=3, learning_rate=0.01)
        results.append(weights(model))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_saving_does_not_change_the_course(tmp_path: Path) -> None:
    results = []
    for folder, keep in (("a", True), ("b", False)):
        model = tiny_model(dropout=0.3)
        trainer(model).fine_tune(tmp_path / folder, max_epochs=2, save_final_model=keep)
        results.append(weights(model))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_decoder_learning_rate_makes_two_groups(tmp_path: Path) -> None:
    groups: list[Any] = []

    class Look(TrainerPlugin):
        @TrainerPlugin.hook
        def after_setup(self, **kw: Any) -> None:
            groups.extend((group["lr"], len(group["params"])) for group in self.trainer.optimizer.param_groups)

    trainer().train(tmp_path, max_epochs=1, decoder_learning_rate=0.5, plugins=[Look()])
    assert groups == [(0.5, 2), (0.1, 1)]


def test_frozen_parameters_are_left_to_themselves(tmp_path: Path) -> None:
    model = tiny_model()
    model.embeddings.requires_grad_(False)
    before = weights(model)
    seen: list[int] = []

    class Look(TrainerPlugin):
        @TrainerPlugin.hook
        def after_setup(self, **kw: Any) -> None:
            seen.extend(len(group["params"]) for group in self.trainer.optimizer.param_groups)

    trainer(model).train(tmp_path, max_epochs=1, plugins=[Look()], use_final_model_for_eval=True)
    assert seen == [2]
    assert torch.equal(before["embeddings.weight"], model.embeddings.weight)
    assert not torch.equal(before["decoder.weight"], model.decoder.weight)


def test_a_model_without_trainable_parameters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parameters that take gradients"):
        trainer(tiny_model().requires_grad_(False)).train(tmp_path / "x", max_epochs=1)


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    model = tiny_model()

    class Spoil(TrainerPlugin):
        @TrainerPlugin.hook
        def after_training_epoch(self, epoch: int, **kw: Any) -> None:
            if epoch == 5:
                self.model.decoder.weight.data.neg_()

    result = trainer(model).train_custom(
        tmp_path, max_epochs=5, mini_batch_size=4, learning_rate=0.3, plugins=[Spoil()]
    )
    final = TinyClassifier.load(tmp_path / "final-model.pt")
    best = TinyClassifier.load(tmp_path / "best-model.pt")
    assert result["test_score"] == 1.0
    assert not torch.equal(final.decoder.weight, best.decoder.weight)
    assert torch.equal(model.decoder.weight, best.decoder.weight)


def test_without_dev_data_the_training_loss_decides(tmp_path: Path) -> None:
    with logged_lines() as lines:
        trainer(dev=0).train(tmp_path, max_epochs=4, patience=0, learning_rate=0.01)
    assert "best-model.pt" in files(tmp_path)
    assert lines.count(" - 0 epochs without improvement") == 4, "the falling training loss is an improvement"


def test_train_with_dev_and_test(tmp_path: Path) -> None:
    with logged_lines() as lines:
        result = trainer().train(tmp_path, max_epochs=1, train_with_dev=True, train_with_test=True)
    assert "Train:  40 sentences" in lines
    assert result == {"test_score": 0}
    assert files(tmp_path) == {"final-model.pt", "loss.tsv", "training.log"}


def test_epochs_that_are_done_are_not_trained(tmp_path: Path) -> None:
    model = tiny_model()
    before = weights(model)
    with logged_lines() as lines:
        result = trainer(model).train(tmp_path, max_epochs=2, epoch=2)
    assert "Starting at epoch 3/2. No training will be done." in lines
    assert "test_score" in result
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_training_ends_when_the_rate_is_too_small(tmp_path: Path) -> None:
    with logged_lines() as lines:
        trainer().train(tmp_path, max_epochs=50, patience=0, min_learning_rate=0.04, learning_rate=0.1)
    assert "learning rate too small - quitting training!" in lines
    assert any(line.endswith("(above 'patience')-> annealing learning_rate to [0.05]") for line in lines)
    assert sum("done: loss" in line for line in lines) < 50


def test_annealing_with_restarts_goes_back_to_the_best_model(tmp_path: Path) -> None:
    class Spoil(TrainerPlugin):
        @TrainerPlugin.hook
        def after_training_epoch(self, epoch: int, **kw: Any) -> None:
            if epoch == 6:
                self.model.decoder.weight.data.neg_()

    with logged_lines() as lines:
        trainer().train(
            tmp_path, max_epochs=6, patience=0, anneal_with_restarts=True, plugins=[Spoil()], learning_rate=0.3,
            min_learning_rate=1e-9,
        )  # fmt: skip
    assert "resetting to best model" in lines
    best = TinyClassifier.load(tmp_path / "best-model.pt")
    final = TinyClassifier.load(tmp_path / "final-model.pt")
    assert torch.equal(best.decoder.weight, final.decoder.weight)


def test_a_minimal_rate_for_each_group(tmp_path: Path) -> None:
    with logged_lines() as lines:
        trainer().train(tmp_path, max_epochs=30, patience=0, decoder_learning_rate=0.2, min_learning_rate=[0.15, 1e-9])
    assert "learning rate too small - quitting training!" in lines
    with pytest.raises(ValueError, match="1 values, the optimizer has 2 parameter groups"):
        trainer().train(tmp_path, max_epochs=1, decoder_learning_rate=0.2, min_learning_rate=[0.15])


def test_samplers_replace_shuffling(tmp_path: Path) -> None:
    class Backwards(FlairSampler):
        def __init__(self) -> None:
            self.num_samples = 0

        def __iter__(self) -> Any:
            return iter(range(len(self.data_source) - 1, -1, -1))

    recorder = Recorder()
    run = trainer(train=6)
    run.train(tmp_path, max_epochs=1, mini_batch_size=2, sampler=Backwards, plugins=[recorder])
    batch = recorder.arguments["before_training_batch"]["batch"]
    assert [point.text for point in batch] == [run.corpus.train[index].text for index in (5, 4)]
    assert recorder.arguments["after_setup"]["shuffle"] is False


def test_unknown_arguments_go_to_the_optimizer(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no_such_argument"):
        trainer().train(tmp_path, max_epochs=1, no_such_argument=1)


def test_stored_embeddings_do_not_outlive_the_weights_they_come_from(tmp_path: Path) -> None:
    class Table(Embeddings):
        def __init__(self, name: str, static: bool) -> None:
            self.name, self.static_embeddings = name, static
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2), requires_grad=not static)

        def _add_embeddings_internal(self, sentences: Any) -> None:
            for sentence in sentences:
                sentence.set_embedding(self.name, self.weight * len(sentence.text))

    class Embedding(TinyClassifier):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList([Table("fixed", True), Table("trained", False)])

        def scores(self, batch: Any) -> torch.Tensor:
            for table in self.tables:
                table.embed(batch)
            vectors = [sum(s._embeddings[table.name] for table in self.tables) for s in batch]
            return super().scores(batch) + torch.stack(vectors) * 0.01

    model = Embedding()
    corpus = tiny_corpus()
    ModelTrainer(model, corpus).train(tmp_path, max_epochs=1, save_final_model=False, use_final_model_for_eval=True)
    for split in (corpus.train, corpus.dev, corpus.test):
        assert {name for sentence in split for name in sentence._embeddings} == {"fixed"}


# --- checks before a training ---


def test_an_empty_train_split_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    corpus = Corpus(
        train=FlairDatapointDataset([]), dev=FlairDatapointDataset(sentences(2, 1)), sample_missing_splits=False
    )
    with pytest.raises(ValueError, match=r"train split of corpus .* is empty \(train: 0, dev: 2, test: none\)"):
        ModelTrainer(tiny_model(), corpus).train(tmp_path / "out", max_epochs=1)
    assert not (tmp_path / "out").exists()


class Unsaveable(TinyClassifier):
    def _get_state_dict(self) -> dict[str, Any]:
        return {**super()._get_state_dict(), "secret": object()}


class Unloadable(TinyClassifier):
    @classmethod
    def _init_model_with_state_dict(cls, state: dict[str, Any], **kwargs: Any) -> Any:
        raise KeyError("labels")


@pytest.mark.parametrize(("kind", "message"), [(Unsaveable, "cannot be saved"), (Unloadable, "not loaded again")])
def test_models_that_do_not_survive_saving_are_refused(tmp_path: Path, kind: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        trainer(kind()).train(tmp_path / "out", max_epochs=1)
    assert not (tmp_path / "out").exists()


def test_the_check_changes_neither_model_nor_random_numbers() -> None:
    model = tiny_model()
    before, identities = weights(model), [id(parameter) for parameter in model.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    check_model_survives_save(model)
    assert torch.equal(torch.rand(3), expected)
    assert [id(parameter) for parameter in model.parameters()] == identities
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_multi_gpu_needs_processes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="launch_distributed"):
        trainer().train(tmp_path, max_epochs=1, multi_gpu=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mini_batch_size": 0}, "mini_batch_size=0"),
        ({"embeddings_storage_mode": "disk"}, "'disk' is unknown"),
        ({"anneal_factor": 1.0}, "Factor should be < 1.0"),
        ({"use_amp": True, "amp_dtype": "float64"}, "mixed precision computes in"),
        ({"monitor_train_sample": 0.001}, "selects none of the 24"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer().train(tmp_path / "out", max_epochs=1, **arguments)
    assert not (tmp_path / "out").exists()


# --- numbers that are none ---


def test_a_loss_that_is_no_number_is_named(tmp_path: Path) -> None:
    class Break(TrainerPlugin):
        @TrainerPlugin.hook
        def before_training_batch(self, batch_count: int, **kw: Any) -> None:
            if batch_count == 9:
                self.model.decoder.bias.data[0] = float("nan")

    model = tiny_model()
    with pytest.raises(
        NonFiniteLossError, match=r"The loss is nan in epoch 2, batch 3 of 6 .*learning_rate.*amp_dtype"
    ):
        trainer(model).train(tmp_path, max_epochs=3, mini_batch_size=4, plugins=[Break()], learning_rate=0.3)
    assert torch.isfinite(TinyClassifier.load(tmp_path / "best-model.pt").decoder.bias).all()
    assert "final-model.pt" not in files(tmp_path)


def test_an_infinite_gradient_does_not_reach_the_weights(tmp_path: Path) -> None:
    class Spiky(TinyClassifier):
        def forward_loss(self, data_points: Any) -> Any:
            loss, count = super().forward_loss(data_points)
            zero = self.decoder.bias.sum() * 0.0
            return loss + torch.sqrt(zero), count  # finite, but its derivative at 0 is not

    flair.set_seed(1)
    model = Spiky()
    before = weights(model)
    with pytest.raises(NonFiniteLossError, match="norm of its gradient is nan"):
        trainer(model).train(tmp_path, max_epochs=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# --- checkpoints ---


def test_optimizer_states_are_written_on_demand(tmp_path: Path) -> None:
    trainer().fine_tune(tmp_path, max_epochs=2, save_model_each_k_epochs=1, save_optimizer_state=True)
    state = load_state(tmp_path / "model_epoch_2.pt")
    assert state["optimizer_state_dict"]["param_groups"][0]["lr"] >= 0
    assert len(state["optimizer_state_dict"]["state"]) == 3
    assert state["scheduler_state_dict"]["last_epoch"] == 12
    training = state["optimizer_state_dict"]["training"]
    assert training["epoch"] == 2
    assert set(training["random"]) == {"python", "numpy", "torch", "cuda"}
    optimizer = torch.optim.AdamW(tiny_model().parameters())
    optimizer.load_state_dict(state["optimizer_state_dict"])
    trainer().fine_tune(tmp_path, max_epochs=1)
    assert "optimizer_state_dict" not in load_state(tmp_path / "final-model.pt")


def test_the_model_card_records_the_training(tmp_path: Path) -> None:
    model = tiny_model()
    trainer(model).fine_tune(tmp_path, max_epochs=2)
    card = model.model_card
    assert card["flair_version"] == flair.__version__
    assert card["pytorch_version"] == torch.__version__
    parameters = card["training_parameters"]
    assert parameters["base_path"] == str(tmp_path)
    assert parameters["optimizer"] == "torch.optim.adamw.AdamW"
    assert parameters["epoch"] == 2
    assert parameters["plugins"] == [
        {
            "__cls__": "flair.trainers.plugins.functional.linear_scheduler.LinearSchedulerPlugin",
            "warmup_fraction": 0.1,
        }
    ]


def test_random_states_survive_a_round_trip() -> None:
    import random

    import numpy as np

    from flair.trainers.state import random_states, restore_random_states

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), float(np.random.rand()), np.random.randn(), torch.rand(()).item()]

    draw()
    states = random_states()
    expected = draw()
    restore_random_states(states)
    assert draw() == expected
