"""Events, hooks, metric records, and the plugins that need no training to be tested."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flair.trainers.plugins import (
    AnnealingPlugin,
    BasePlugin,
    CheckpointPlugin,
    ClearmlLoggerPlugin,
    DeepNCMPlugin,
    LinearSchedulerPlugin,
    LogFilePlugin,
    LossFilePlugin,
    MetricHistoryPlugin,
    MetricName,
    MetricRecord,
    Pluggable,
    TensorboardLogger,
    WeightExtractorPlugin,
)
from flair.trainers.plugins.functional.batch_growth import BatchGrowthPlugin
from flair.trainers.plugins.loggers.wandb import WandbLogger, WandbLoggingHandler
from flair.trainers.plugins.metric_records import RecordType

parts = st.lists(st.text(st.characters(exclude_characters="/"), min_size=1, max_size=4), min_size=1, max_size=4)


# --- metric names and records ---


@given(parts)
def test_a_name_equals_its_string_and_its_parts(names: list[str]) -> None:
    name = MetricName(names)
    assert name == tuple(names) == name.parts == tuple(name)
    assert name == "/".join(names) == str(name) == repr(name)
    assert MetricName(str(name)) == name == MetricName(name)
    assert hash(name) == hash(tuple(names))
    assert name[0] == names[0]
    assert name[-1] == names[-1]
    assert name[:1] == (names[0],)


@given(parts, parts)
def test_names_are_joined(first: list[str], second: list[str]) -> None:
    whole = MetricName(first + second)
    assert MetricName(first) + MetricName(second) == whole
    assert MetricName(first) + "/".join(second) == whole
    assert "/".join(first) + MetricName(second) == whole
    assert tuple(first) + MetricName(second) == whole


def test_records() -> None:
    record = MetricRecord.scalar(("dev", "score"), 0.5, 3, walltime=1.5)
    assert record.joined_name == "dev/score"
    assert repr(record) == "MetricRecord(dev/score at step 3, 1.5000)"
    assert record == MetricRecord("dev/score", 0.5, 3, RecordType.scalar, walltime=1.5)
    assert [kind.name for kind in RecordType] == ["scalar", "image", "histogram", "string", "scalar_list"]
    for kind in ("scalar", "scalar_list", "string", "histogram"):
        made = getattr(MetricRecord, kind)("x", [], 1)
        assert [name for name in ("scalar", "scalar_list", "string", "histogram") if getattr(made, f"is_{name}")] == [
            kind
        ]


# --- events ---


class Target(Pluggable):
    valid_events = {"a", "b"}


class Noting(BasePlugin):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    @BasePlugin.hook("a")
    def on_a(self, value: int = 0) -> None:
        self.calls.append(("a", value))

    @BasePlugin.hook
    def b(self, **kw: Any) -> None:
        self.calls.append(("b", kw))


def test_hooks_are_called_until_the_plugin_is_detached() -> None:
    target, plugin = Target(), Noting()
    plugin.attach_to(target)
    assert target.plugins == [plugin]
    assert plugin.pluggable is target
    target.dispatch("a", 3)
    target.dispatch("b", x=1)
    plugin.detach()
    target.dispatch("a", 4)
    assert plugin.calls == [("a", 3), ("b", {"x": 1})]
    assert plugin.pluggable is None
    plugin.attach_to(target)


def test_a_plugin_can_be_given_as_a_class() -> None:
    assert isinstance(Target(plugins=[Noting]).plugins[0], Noting)


def test_a_plugin_is_attached_once() -> None:
    plugin = Noting()
    target = Target(plugins=[plugin])
    with pytest.raises(AssertionError, match="attached already"):
        plugin.attach_to(target)


def test_unknown_events() -> None:
    class Lost(BasePlugin):
        @BasePlugin.hook("nowhere")
        def method(self) -> None: ...

    target = Target()
    for attempt in (
        lambda: target.dispatch("nowhere"),
        lambda: target.register_hook(print, "a", "nowhere"),
        lambda: Lost().attach_to(target),
    ):
        with pytest.raises(RuntimeError, match=r"Event 'nowhere' not recognized\. Available: a, b"):
            attempt()
    assert target.plugins == []


def test_an_override_decides_for_itself_whether_it_is_a_hook() -> None:
    class Other(Noting):
        @BasePlugin.hook
        def b(self, **kw: Any) -> None:
            self.calls.append("other")

    class Silent(Noting):
        def b(self, **kw: Any) -> None:
            self.calls.append("never")

    plugins = [Other(), Silent()]
    Target(plugins=plugins).dispatch("b")
    assert [plugin.calls for plugin in plugins] == [["other"], []]


def test_events_inside_of_events_wait() -> None:
    target, order = Target(), []

    def outer() -> None:
        target.dispatch("b")
        order.append("outer")

    target.register_hook(outer, "a")
    target.register_hook(lambda: order.append("second"), "a")
    target.register_hook(lambda: order.append("inner"), "b")
    target.dispatch("a")
    assert order == ["outer", "second", "inner"]


def test_an_error_in_a_hook_leaves_no_event_behind() -> None:
    target, order = Target(), []

    def failing() -> None:
        target.dispatch("b")
        raise ValueError("no")

    handle = target.register_hook(failing, "a")
    target.register_hook(lambda: order.append("b"), "b")
    with pytest.raises(ValueError, match="no"):
        target.dispatch("a")
    handle.remove()
    target.dispatch("a")
    assert order == []
    with pytest.raises(KeyError):
        handle.remove()


def test_handles_describe_their_hooks() -> None:
    target = Target()
    plugin = Noting()
    handles = [target.register_hook(len, "a", "b"), target.register_hook(plugin.on_a, "a")]
    assert [list(handle.events) for handle in handles] == [["a", "b"], ["a"]]
    assert handles[1].func_name == "Noting.on_a"
    assert handles[0].id != handles[1].id


def test_hooks_that_do_not_fit_their_event() -> None:
    def hook(first: int) -> None:
        if first < 0:
            raise TypeError("from inside")

    target = Target()
    target.register_hook(hook, "a")
    with pytest.raises(TypeError, match=r"Hook callback hook\(\) does not accept keyword argument 'second'"):
        target.dispatch("a", first=1, second=2)
    with pytest.raises(TypeError, match=r"Hook callback hook\(\): missing a required argument: 'first'"):
        target.dispatch("a")
    with pytest.raises(TypeError, match=r"^from inside$"):
        target.dispatch("a", first=-1)


# --- descriptions ---


def test_states_of_plugins(tmp_path: Path) -> None:
    base = "flair.trainers.plugins."
    expected = [
        (
            AnnealingPlugin(tmp_path, 0.1, 0.5, 3, 0, False),
            "functional.anneal_on_plateau.AnnealingPlugin",
            {
                "base_path": str(tmp_path), "min_learning_rate": 0.1, "anneal_factor": 0.5, "patience": 3,
                "initial_extra_patience": 0, "anneal_with_restarts": False,
            },
        ),
        (LinearSchedulerPlugin(0.1), "functional.linear_scheduler.LinearSchedulerPlugin", {"warmup_fraction": 0.1}),
        (
            CheckpointPlugin(1, False, tmp_path),
            "functional.checkpoints.CheckpointPlugin",
            {"base_path": str(tmp_path), "save_model_each_k_epochs": 1, "save_optimizer_state": False},
        ),
        (DeepNCMPlugin(), "functional.deepncm_trainer_plugin.DeepNCMPlugin", {}),
        (
            MetricHistoryPlugin({"dev/loss": "losses"}),
            "loggers.metric_history.MetricHistoryPlugin",
            {"metrics_to_collect": {"dev/loss": "losses"}},
        ),
        (
            LossFilePlugin(tmp_path, 0),
            "loggers.loss_file.LossFilePlugin",
            {"base_path": str(tmp_path), "metrics_to_collect": None},
        ),
        (
            WeightExtractorPlugin(tmp_path),
            "functional.weight_extractor.WeightExtractorPlugin",
            {"base_path": str(tmp_path)},
        ),
    ]  # fmt: skip
    for plugin, name, settings in expected:
        assert plugin.get_state() == {"__cls__": base + name, **settings}
    log = LogFilePlugin(tmp_path)
    assert log.get_state() == {"__cls__": base + "loggers.log_file.LogFilePlugin", "base_path": str(tmp_path)}
    log.close_file_handler()


def test_names_of_plugins(tmp_path: Path) -> None:
    annealing = AnnealingPlugin(tmp_path, 0.1, 0.5, 3, 0, False)
    assert str(annealing) == "AnnealOnPlateau | patience: '3', anneal_factor: '0.5', min_learning_rate: '0.1'"
    assert str(LinearSchedulerPlugin(0.2)) == "LinearScheduler | warmup_fraction: '0.2'"
    assert str(MetricHistoryPlugin()) == "MetricHistoryPlugin"


# --- single plugins ---


def test_batches_grow_to_their_final_size() -> None:
    plugin = BatchGrowthPlugin("x", start=2, stop=32, epochs=5)
    assert [plugin.batch_size(epoch) for epoch in range(1, 8)] == [2, 4, 8, 16, 32, 32, 32]
    assert BatchGrowthPlugin("x", 4, 8, 1).batch_size(1) == 8
    with pytest.raises(ValueError, match="at least 1"):
        BatchGrowthPlugin("x", 0, 8, 3)


def test_grown_batches_reach_the_trainer(tmp_path: Path) -> None:
    from trainer_tools import tiny_corpus, tiny_model

    from flair.trainers import ModelTrainer
    from flair.trainers.plugins import TrainerPlugin

    counts: dict[int, int] = {}

    class Look(TrainerPlugin):
        @TrainerPlugin.hook
        def before_training_batch(self, epoch: int, total_number_of_batches: int, **kw: Any) -> None:
            counts[epoch] = total_number_of_batches

    growth = BatchGrowthPlugin(tmp_path, start=3, stop=12, epochs=3)
    ModelTrainer(tiny_model(), tiny_corpus(train=24)).train_custom(
        tmp_path, max_epochs=4, mini_batch_size=1, plugins=[growth, Look()]
    )
    assert counts == {1: 8, 2: 4, 3: 2, 4: 2}


def test_columns_of_a_loss_file_can_be_chosen(tmp_path: Path) -> None:
    plugin = LossFilePlugin(tmp_path, 0, {("macro avg", "f1-score"): "MACRO", "loss": "LOSS"})
    target = Pluggable(plugins=[plugin])
    for epoch in (1, 2):
        target.dispatch("before_training_epoch", epoch=epoch)
        for name, value in (("dev/macro avg/f1-score", 0.5), ("dev/loss", 2), ("dev/accuracy", 0.1)):
            target.dispatch("metric_recorded", MetricRecord.scalar(name, value, epoch))
        target.dispatch("after_evaluation", epoch=epoch)
    header, *rows = [line.split("\t") for line in (tmp_path / "loss.tsv").read_text().splitlines()]
    assert header == ["EPOCH", "TIMESTAMP", "DEV_MACRO", "DEV_LOSS"]
    assert [[row[0], *row[2:]] for row in rows] == [["1", "0.5000", "2"], ["2", "0.5000", "2"]]


RECORDS = [
    MetricRecord.scalar(("dev", "micro avg", "f1-score"), 0.5, 3, walltime=1.0),
    MetricRecord.scalar_list(("learning_rate",), [0.1, 0.2], 4, walltime=2.0),
    MetricRecord.string(("dev", "detailed_result"), "text", 3, walltime=3.0),
    MetricRecord.histogram(("weights",), torch.ones(3), 3, walltime=4.0),
]


class Calls:
    """Notes calls of any method."""

    def __init__(self) -> None:
        self.made: list[tuple] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kw: self.made.append((name, args, kw))


def test_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Calls()
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = lambda **kw: writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboard", ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    plugin = TensorboardLogger("logs", "a comment")
    for record in RECORDS:
        plugin.metric_recorded(record)
    assert [(name, *args[:2]) for name, args, _ in writer.made[:4]] == [
        ("add_scalar", "dev/micro avg/f1-score", 0.5),
        ("add_scalar", "learning_rate_0", 0.1),
        ("add_scalar", "learning_rate_1", 0.2),
        ("add_text", "dev/detailed_result", "text"),
    ]
    assert writer.made[0][1:] == (("dev/micro avg/f1-score", 0.5, 3), {"walltime": 1.0})
    assert writer.made[4][0] == "add_histogram"
    writer.made.clear()
    chosen = TensorboardLogger(tracked_metrics=("learning_rate",))
    for record in RECORDS:
        chosen.metric_recorded(record)
    assert len(writer.made) == 2


def test_tensorboard_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"flair\[tensorboard\]"):
        TensorboardLogger()


def test_wandb() -> None:
    run = Calls()
    run.AlertLevel = SimpleNamespace(INFO="info", WARN="warn", ERROR="error")  # type: ignore[attr-defined]
    plugin = WandbLogger(run)
    for record in RECORDS[:3]:
        plugin.metric_recorded(record)
    assert [args[0] for _, args, _ in run.made] == [
        {"dev/micro avg/f1-score": 0.5},
        {"learning_rate_0": 0.1, "learning_rate_1": 0.2},
        {"dev/detailed_result": "text"},
    ]
    run.made.clear()
    log = logging.getLogger("flair")
    before = list(log.handlers)
    target = Pluggable(plugins=[plugin])
    target.dispatch("after_setup")
    log.warning("attention")
    log.info("nothing special")
    target.dispatch("after_training")
    assert log.handlers == before
    assert [(name, kw["text"], kw["level"]) for name, _, kw in run.made] == [("alert", "attention", "warn")]


def test_wandb_alerts_have_the_level_of_the_record() -> None:
    run = Calls()
    run.AlertLevel = SimpleNamespace(INFO="info", WARN="warn", ERROR="error")  # type: ignore[attr-defined]
    handler = WandbLoggingHandler(run)
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        handler.emit(logging.LogRecord("flair", level, "/x/y.py", 12, "message %s", ("here",), None))
    assert [kw["level"] for _, _, kw in run.made] == ["info", "warn", "error", "error"]
    assert run.made[0][2]["text"] == "message here"


def test_clearml() -> None:
    logger = Calls()
    plugin = ClearmlLoggerPlugin(SimpleNamespace(task_id="t1", get_logger=lambda: logger))
    for record in RECORDS:
        plugin.metric_recorded(record)
    assert plugin.get_state()["task_id_or_task"] == "t1"
    assert [name for name, _, _ in logger.made] == [
        "report_scalar", "report_scalar", "report_scalar", "report_text", "report_histogram",
    ]  # fmt: skip
    assert logger.made[0][2] == {"title": "dev/micro avg", "series": "f1-score", "value": 0.5, "iteration": 3}


def test_clearml_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "clearml", None)
    with pytest.raises(ImportError, match=r"flair\[clearml\]"):
        ClearmlLoggerPlugin("some-id").metric_recorded(RECORDS[0])


def test_deepncm_needs_its_decoder() -> None:
    plugin = DeepNCMPlugin()
    target: Any = Pluggable(plugins=[plugin])
    target.model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="needs a model with a DeepNCMDecoder, this Linear has none"):
        target.dispatch("after_training_epoch", epoch=1)
