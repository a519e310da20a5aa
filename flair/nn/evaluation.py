"""Scores of a classifier: from gold and predicted labels to a :class:`~flair.training_utils.Result`."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from flair import _runtime
from flair.data.dictionary import Dictionary
from flair.data.units import DataPoint
from flair.training_utils import Result

OUTSIDE = "O"


@dataclass
class LabelTable:
    """Gold and predicted label values of every evaluated data point, by (sentence number, data point)."""

    gold: dict[str, list[str]] = field(default_factory=dict)
    predicted: dict[str, list[str]] = field(default_factory=dict)
    sentences: int = 0
    excluded: set[str] = field(default_factory=set)
    """Data points with excluded gold values."""
    without_gold_excluded: bool = False

    def add(
        self,
        data_points: Iterable[DataPoint],
        gold_label_type: str,
        predicted_label_type: str,
        exclude_labels: Sequence[str] = (),
        gold_label_dictionary: Dictionary | None = None,
    ) -> None:
        """Collect the labels of a batch. Unknown gold values count as ``<unk>``.

        Excluded gold values are dropped, and a data point that has no others is not scored, whatever was predicted for
        it. A data point without gold labels has the value "O".
        """
        for data_point in data_points:
            for label in data_point.get_labels(gold_label_type):
                value = label.value
                if gold_label_dictionary is not None and not gold_label_dictionary.has_item(value):
                    value = "<unk>"
                if value in exclude_labels:
                    self.excluded.add(self._key(label.data_point))
                else:
                    self._append(self.gold, label.data_point, value)
            for label in data_point.get_labels(predicted_label_type):
                self._append(self.predicted, label.data_point, label.value)
            self.sentences += 1
        self.without_gold_excluded = OUTSIDE in exclude_labels

    def _key(self, data_point: DataPoint) -> str:
        return f"{self.sentences}: {data_point.unlabeled_identifier}"

    def _append(self, table: dict[str, list[str]], data_point: DataPoint, value: str) -> None:
        values = table.setdefault(self._key(data_point), [])
        if value not in values:
            values.append(value)

    def keys(self) -> list[str]:
        """The data points to score."""
        left_out = self.predicted if self.without_gold_excluded else self.excluded
        return [
            key for key in dict.fromkeys(chain(self.gold, self.predicted)) if key in self.gold or key not in left_out
        ]

    @property
    def is_multi_label(self) -> bool:
        return any(len(values) > 1 for values in chain(self.gold.values(), self.predicted.values()))

    def labels_by_frequency(self) -> list[str]:
        """All label values except "O", the most frequent (gold and predicted counted together) first."""
        counts = Counter(chain.from_iterable(chain(self.gold.values(), self.predicted.values())))
        return [label for label, _ in counts.most_common() if label != OUTSIDE]


def classification_result(
    table: LabelTable,
    main_evaluation_metric: tuple[str, str] = ("micro avg", "f1-score"),
    loss: float = 0.0,
) -> Result:
    """Precision, recall, F1 and accuracy over a table of labels, by scikit-learn.

    Raises:
        KeyError: when ``main_evaluation_metric`` names no entry of the report.
    """
    labels = table.labels_by_frequency()
    if not table.keys():
        nothing = (
            "Evaluation found neither gold labels nor predictions, or only excluded ones: there is nothing to score. "
            "Does the data have labels of the type that the model predicts?"
        )
        _runtime.logger.warning(nothing)
        return Result(0.0, nothing, classification_report={}, scores={"loss": loss})

    y_true, y_pred = _as_indicators(table, labels) if table.is_multi_label else _as_indices(table, labels)
    report, report_text, accuracy = _report(y_true, y_pred, labels)

    scores: dict[Any, float] = {
        (average, metric): report[average][metric]
        for average in ("micro avg", "macro avg")
        for metric in ("f1-score", "precision", "recall")
    }
    scores["accuracy"] = accuracy
    scores["loss"] = loss
    group, metric = main_evaluation_metric
    if group not in report or (isinstance(report[group], dict) and metric not in report[group]):
        raise KeyError(
            f"main_evaluation_metric {main_evaluation_metric!r} is not in the report. "
            f"Available: {', '.join(report)}, each with precision, recall, f1-score."
        )
    detailed = (
        "\nResults:"
        f"\n- F-score (micro) {round(report['micro avg']['f1-score'], 4)}"
        f"\n- F-score (macro) {round(report['macro avg']['f1-score'], 4)}"
        f"\n- Accuracy {round(accuracy, 4)}"
        "\n\nBy class:\n" + report_text
    )
    return Result(
        main_score=report[group][metric], detailed_results=detailed, classification_report=report, scores=scores
    )


def _as_indicators(table: LabelTable, labels: list[str]) -> tuple[Any, Any]:
    """Binary matrices ``[data points, labels]``."""
    import numpy as np

    index = {label: i for i, label in enumerate(labels)}
    keys = table.keys()
    matrices = []
    for values_of in (table.gold, table.predicted):
        matrix = np.zeros((len(keys), len(labels)), dtype=int)
        for row, key in enumerate(keys):
            for value in values_of.get(key, ()):
                if value in index:
                    matrix[row, index[value]] = 1
        matrices.append(matrix)
    return matrices[0], matrices[1]


def _as_indices(table: LabelTable, labels: list[str]) -> tuple[list[int], list[int]]:
    """One class index a data point; the index after the last label stands for "no label"."""
    index = {label: i for i, label in enumerate(labels)}
    outside = len(labels)
    keys = table.keys()
    return tuple(  # type: ignore[return-value]
        [index.get(values_of.get(key, [OUTSIDE])[0], outside) for key in keys]
        for values_of in (table.gold, table.predicted)
    )


def _report(y_true: Any, y_pred: Any, labels: list[str]) -> tuple[dict, str, float]:
    from sklearn.metrics import accuracy_score, classification_report, precision_recall_fscore_support

    positions = list(range(len(labels)))
    options: dict[str, Any] = {"labels": positions, "target_names": labels, "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes without support score 0, which the report shows
        text = classification_report(y_true, y_pred, digits=4, **options)
        report = classification_report(y_true, y_pred, output_dict=True, **options)
        accuracy = round(float(accuracy_score(y_true, y_pred)), 4)
        if "micro avg" not in report:  # scikit-learn leaves it out where it equals the accuracy
            precision, recall, f1, _ = precision_recall_fscore_support(
                y_true, y_pred, average="micro", labels=positions, zero_division=0
            )
            report["micro avg"] = {
                "precision": precision,
                "recall": recall,
                "f1-score": f1,
                "support": report["macro avg"]["support"],
            }
    return report, text, accuracy
