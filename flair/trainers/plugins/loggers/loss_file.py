"""Write one row of figures for each epoch."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Optional, Union

from flair.trainers.plugins.base import TrainerPlugin
from flair.trainers.plugins.metric_records import MetricName, MetricRecord
from flair.trainers.state import keep_lines
from flair.training_utils import init_output_file

_DEFAULT_METRICS: dict[Union[tuple, str], str] = {
    "loss": "LOSS",
    ("micro avg", "precision"): "PRECISION",
    ("micro avg", "recall"): "RECALL",
    ("micro avg", "f1-score"): "F1",
    "accuracy": "ACCURACY",
}
_SPLITS = {"train_sample": "TRAIN_SAMPLE", "dev": "DEV", "test": "TEST"}


class LossFilePlugin(TrainerPlugin):
    """Appends a row to ``loss.tsv`` after each epoch. Columns that have no value in the first epoch are left out.

    A training that continues (``epoch`` > 0) adds rows to an existing file, in the columns that file has.
    """

    def __init__(
        self,
        base_path: Union[str, Path],
        epoch: int,
        metrics_to_collect: Optional[dict[Union[tuple, str], str]] = None,
    ) -> None:
        """Open the file.

        Args:
            base_path: the training folder.
            epoch: the number of epochs done before this training.
            metrics_to_collect: name of a metric within a split -> end of the column's name; the default has loss,
                precision, recall, F1 and accuracy.
        """
        super().__init__()
        self.base_path = base_path
        self.metrics_to_collect = metrics_to_collect
        self.first_epoch = epoch + 1
        self.loss_txt = Path(base_path) / "loss.tsv"
        if epoch == 0 or not self.loss_txt.exists():
            self.loss_txt = Path(init_output_file(base_path, "loss.tsv"))
        self.headers = self._make_headers(metrics_to_collect)
        self.current_row: Optional[dict[MetricName, str]] = None
        self._last_epoch = epoch

    @staticmethod
    def _make_headers(metrics: Optional[dict[Union[tuple, str], str]]) -> dict[MetricName, str]:
        headers = {
            MetricName("epoch"): "EPOCH",
            MetricName("timestamp"): "TIMESTAMP",
            MetricName("bad_epochs"): "BAD_EPOCHS",
            MetricName("learning_rate"): "LEARNING_RATE",
        }
        columns = dict(_DEFAULT_METRICS if metrics is None else metrics)
        if metrics is None:
            headers[MetricName("train/loss")] = "TRAIN_LOSS"
        for split, prefix in {"train_eval": "TRAIN", **_SPLITS}.items():
            for name, suffix in columns.items():
                if metrics is None and split == "train_eval" and name == "loss":
                    continue  # the training loss of an epoch is known without an evaluation
                headers[split + MetricName(name)] = f"{prefix}_{suffix}"
        return headers

    def get_state(self) -> dict[str, Any]:
        return {
            **super().get_state(),
            "base_path": str(self.base_path),
            "metrics_to_collect": self.metrics_to_collect,
        }

    @TrainerPlugin.hook
    def before_training_epoch(self, epoch: int, **kw: Any) -> None:
        """Begin a row."""
        self.current_row = {MetricName("epoch"): str(epoch)}

    @TrainerPlugin.hook
    def metric_recorded(self, record: MetricRecord) -> None:
        """Put a value into the row; a later value of the same metric replaces an earlier one."""
        if self.current_row is None or record.name not in self.headers:
            return
        if record.is_scalar_list:
            self.current_row[record.name] = ",".join(_cell(value) for value in record.value)
        elif record.is_scalar:
            self.current_row[record.name] = _cell(record.value)

    @TrainerPlugin.hook
    def after_evaluation(self, epoch: int, **kw: Any) -> None:
        """Write the row, and before the first one the header."""
        if self.current_row is None:
            return
        self.current_row[MetricName("timestamp")] = f"{datetime.now():%H:%M:%S}"
        if epoch == self.first_epoch:
            self._settle_columns()
        with self.loss_txt.open("a", encoding="utf-8") as file:
            file.write("\t".join(self.current_row.get(name, "_") for name in self.headers) + "\n")
        self.current_row = None
        self._last_epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._last_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Drop the rows of epochs that are going to be trained again."""
        self._last_epoch = state["epoch"]

        def belongs(line: str) -> bool:
            epoch = line.split("\t", 1)[0]
            return not epoch.isdecimal() or int(epoch) <= self._last_epoch

        keep_lines(self.loss_txt, belongs)

    def _settle_columns(self) -> None:
        """Take the columns of an existing file, or those that have values and write them as the header."""
        assert self.current_row is not None
        with self.loss_txt.open(encoding="utf-8") as file:
            present = file.readline().split()
        if present:
            by_title = {title: name for name, title in self.headers.items()}
            self.headers = {by_title.get(title, MetricName(title)): title for title in present}
            return
        self.headers = {name: title for name, title in self.headers.items() if name in self.current_row}
        with self.loss_txt.open("a", encoding="utf-8") as file:
            file.write("\t".join(self.headers.values()) + "\n")

    @property
    def attach_to_all_processes(self) -> bool:
        return False


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{float(value):.4f}"
