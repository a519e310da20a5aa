"""One training from the first check to the final evaluation."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import ConcatDataset, Dataset, Subset
from torch.utils.data.distributed import DistributedSampler
from tqdm import tqdm

from flair import _runtime
from flair.data import randomly_split_into_two_datasets
from flair.data.loading import DataLoader
from flair.embeddings.base import Embeddings
from flair.samplers import FlairSampler
from flair.trainers._distributed import (
    barrier,
    from_main_process,
    is_main_process,
    mean_over_processes,
)
from flair.trainers.loop import LossModule, Step, TrainingLoop
from flair.trainers.optimization import Optimization
from flair.trainers.plan import TrainingPlan
from flair.trainers.plugins.base import TrainingInterrupt
from flair.trainers.plugins.functional.checkpoints import CheckpointPlugin
from flair.trainers.plugins.functional.reduce_transformer_vocab import ReduceTransformerVocabPlugin
from flair.trainers.plugins.functional.weight_extractor import WeightExtractorPlugin
from flair.trainers.plugins.loggers.log_file import LogFilePlugin
from flair.trainers.plugins.loggers.loss_file import LossFilePlugin
from flair.trainers.plugins.metric_records import MetricName, MetricRecord
from flair.trainers.preflight import check_model_survives_save, check_ready
from flair.trainers.resume import ResumePoint
from flair.trainers.state import python_random_kept
from flair.training_utils import Result, log_line, store_embeddings

if TYPE_CHECKING:
    from flair.trainers.trainer import ModelTrainer


class TrainingRun:
    """Carries out a plan. The trainer lends its model, its corpus and its events.

    Nothing is written, and nothing about the trainer changes, before the checks of :meth:`execute` have passed.
    """

    def __init__(self, trainer: ModelTrainer, plan: TrainingPlan, resumed: Optional[ResumePoint] = None) -> None:
        """Check the plan.

        Args:
            trainer: what to train on what.
            plan: how.
            resumed: the checkpoint from which to go on.
        """
        check_ready(plan, trainer.model, trainer.corpus)
        if resumed is not None:
            resumed.check(trainer.corpus, plan)
        self.resumed = resumed
        self.trainer = trainer
        self.plan = plan
        self.model = trainer.model
        self.corpus = trainer.corpus
        self.train_data: Any = self._training_data()
        self.train_sample = self._train_sample()
        # Scores improve upwards from 0, losses downwards; a first dev score of 0 is no improvement.
        self.validates_on_dev = bool(self.corpus.dev) and not plan.train_with_dev
        self.best_score = 0.0 if self.validates_on_dev else math.inf
        self.best_epoch: Optional[int] = None
        self.epoch = plan.epoch
        """The one in training, or the last one that was."""
        self.epoch_is_complete = True
        """Whether nothing of it is left to do: training, validation, schedules."""
        self.sampler_seed = 0
        self.trained_embeddings = [
            module.name
            for module in trainer.model.modules()
            if isinstance(module, Embeddings) and not module.static_embeddings
        ]
        self.reported_rates: list[float] = []

    # --- the course of a run ---

    def execute(self) -> dict[str, Any]:
        """Train, save and evaluate; returns what :meth:`ModelTrainer.train` returns."""
        plan, trainer = self.plan, self.trainer
        if plan.epoch >= plan.max_epochs:
            _runtime.logger.warning(f"Starting at epoch {plan.epoch + 1}/{plan.max_epochs}. No training will be done.")
        if plan.writes_model() and is_main_process():
            check_model_survives_save(self.model, model_card=self._model_card())
        plan.base_path.mkdir(parents=True, exist_ok=True)
        trainer._detach_plugins_of_run()
        try:
            with ExitStack() as trainer.context_stack, self._log_on_main_process_only():
                self._set_up_or_report()
                self._train_and_save()
                self._final_evaluation()
                trainer.dispatch("after_training")
                return dict(trainer.return_values)
        finally:
            trainer.reset_training_attributes()

    def _set_up_or_report(self) -> None:
        try:
            self._set_up()
        except BaseException:
            self.trainer.dispatch("_training_exception")
            self.trainer.dispatch("_training_finally")
            raise

    def _train_and_save(self) -> None:
        trainer = self.trainer
        try:
            self._train()
            trainer.dispatch("after_training_loop")
            if self.plan.save_final_model:
                self._save("final-model.pt")
        except (KeyboardInterrupt, TrainingInterrupt) as interrupt:
            self._interrupted(interrupt)
        except Exception:
            trainer.dispatch("_training_exception")
            raise
        finally:
            trainer.dispatch("_training_finally")

    def _set_up(self) -> None:
        plan, trainer, model = self.plan, self.trainer, self.model
        trainer.return_values = {}
        trainer.mini_batch_size = plan.mini_batch_size
        if plan.epoch == 0 and is_main_process():
            trainer.check_for_and_delete_previous_best_models(plan.base_path)
        tokenizer = getattr(self.corpus, "corpus_tokenizer", None)
        if tokenizer is not None:
            model.tokenizer = tokenizer
        # A continued training must not pass on the states of the one before.
        model.optimizer_state_dict = None
        model.scheduler_state_dict = None
        model.to(_runtime.device)
        self.optimization = Optimization(model, plan)
        trainer._optimization = self.optimization
        trainer.optimizer = self.optimization.optimizer
        self._attach_plugins()
        model.model_card = self._model_card()
        trainer.dispatch("after_setup", dataset_size=len(self.train_data), **plan.as_arguments())
        self.sampler_seed = from_main_process(torch.initial_seed() % 2**31)
        loss_function: Any = model.forward_loss
        if plan.multi_gpu:
            # Most transformers have parts that a loss does not reach, such as the pooler.
            trainer.ddp_model = DistributedDataParallel(
                LossModule(model),
                device_ids=[_runtime.device.index] if _runtime.device.type == "cuda" else None,
                find_unused_parameters=True,
            )
            loss_function = trainer.ddp_model
        self.loop = TrainingLoop(
            loss_function,
            self.optimization,
            trainer.dispatch,
            plan.mini_batch_chunk_size,
            plan.embeddings_storage_mode,
            self.trained_embeddings,
        )
        trainer._run = self
        self._log_header()
        if self.resumed is not None:
            self.resumed.restore(self)

    def _model_card(self) -> dict[str, Any]:
        """What a saved model tells about its training."""
        card: dict[str, Any] = self.model.model_card or {}
        return {
            **{key: value for key, value in card.items() if key == "license_info"},
            "flair_version": _runtime.__version__,
            "pytorch_version": str(torch.__version__),
            "transformers_version": _installed_version("transformers"),
            "training_parameters": self.plan.as_plain_data(),
        }

    def _attach_plugins(self) -> None:
        plan = self.plan
        own: list[Any] = []
        if is_main_process():
            if plan.create_file_logs:
                own.append(LogFilePlugin(plan.base_path, append=self.resumed is not None))
            if plan.create_loss_file:
                own.append(LossFilePlugin(plan.base_path, epoch=plan.epoch))
            if plan.write_weights:
                own.append(WeightExtractorPlugin(plan.base_path, keep_rows=self.resumed is not None))
        if plan.reduce_transformer_vocab:
            own.append(ReduceTransformerVocabPlugin(plan.base_path, plan.save_optimizer_state))
        if plan.save_model_each_k_epochs > 0:
            own.append(CheckpointPlugin(plan.save_model_each_k_epochs, plan.save_optimizer_state, plan.base_path))
        self.trainer._attach_for_run([*plan.plugins, *own])

    def _train(self) -> None:
        plan, trainer = self.plan, self.trainer
        for epoch in range(plan.epoch + 1, plan.max_epochs + 1):
            log_line(_runtime.logger)
            if self.model.model_card is not None:
                self.model.model_card["training_parameters"]["epoch"] = epoch
            self.epoch, self.epoch_is_complete = epoch, False
            self.model.train()
            trainer.dispatch("before_training_epoch", epoch=epoch)
            self._record_rates(self.loop.batch_count)
            train_loss = self._train_epoch(epoch)
            trainer._record(MetricRecord.scalar(("train", "loss"), train_loss, epoch))
            log_line(_runtime.logger)
            _runtime.logger.info(f"EPOCH {epoch} done: loss {train_loss:.4f} - lr: {_joined(self.reported_rates)}")
            trainer.dispatch("after_training_epoch", epoch=epoch)
            self._validate(epoch, train_loss)
            for plugin in trainer.plugins:
                if isinstance(plugin, CheckpointPlugin):
                    plugin.save_if_due()

    def _train_epoch(self, epoch: int) -> float:
        """Train on all batches; returns the loss per data point."""
        batches = self._batches(epoch)
        total = len(batches)
        every = max(1, total // 10)
        loss_sum, count, started = 0.0, 0, time.time()
        steps = self.loop.epoch(batches, total, epoch)
        with tqdm(
            total=total, desc=f"Epoch {epoch}", unit="batch", leave=False, disable=_progress_bar_disabled()
        ) as bar:
            for step in steps:
                loss_sum += step.loss
                count += step.count
                self._record_step(step)
                if (step.position.batch_no + 1) % every == 0:
                    # Other processes report on their own share, the sum is exchanged at the end of the epoch.
                    self._record_rates(step.position.batch_count)
                    with tqdm.external_write_mode():
                        self._log_progress(step, loss_sum, count, time.time() - started)
                self.trainer.dispatch(
                    "after_training_batch",
                    **step.position.as_arguments(),
                    optimizer_was_run=step.optimizer_was_run,
                )
                bar.update()
                bar.set_postfix_str(f"loss {loss_sum / max(1, count):.4f}", refresh=False)
        return mean_over_processes(loss_sum, count)

    def _validate(self, epoch: int, train_loss: float) -> None:
        """Evaluate the splits that are watched, tell the plugins, and keep the best model."""
        plan = self.plan
        self.model.eval()
        scores: tuple[float, ...] = (train_loss,)
        if self.validates_on_dev:
            result = self._evaluate("dev", self.corpus.dev, epoch)
            # All processes must agree on the score, or their schedules would part.
            scores = from_main_process((result.main_score, result.scores.get("loss", 0.0)))
        if plan.monitor_test and self.corpus.test:
            self._evaluate("test", self.corpus.test, epoch)
        if self.train_sample:
            self._evaluate("train_sample", self.train_sample, epoch)
        is_best = scores[0] > self.best_score if self.validates_on_dev else scores[0] < self.best_score
        if is_best:
            self.best_score, self.best_epoch = scores[0], epoch
        self.trainer.dispatch("after_evaluation", epoch=epoch, current_model_is_best=is_best, validation_scores=scores)
        self.epoch_is_complete = True
        if is_best and plan.keeps_best_model():
            _runtime.logger.info("saving best model")
            self._save("best-model.pt")

    def _interrupted(self, interrupt: BaseException) -> None:
        log_line(_runtime.logger)
        if isinstance(interrupt, KeyboardInterrupt):
            _runtime.logger.info("Exiting from training early.")
        else:
            _runtime.logger.info(str(interrupt))
            log_line(_runtime.logger)
        self.trainer.dispatch("training_interrupt")
        if self.plan.save_final_model:
            _runtime.logger.info("Saving model ...")
            self._save("final-model.pt")
            _runtime.logger.info("Done.")

    def _final_evaluation(self) -> None:
        plan, log = self.plan, _runtime.logger
        barrier()
        has_test = bool(self.corpus.test) and not plan.train_with_test
        if has_test:
            log_line(log)
        self.model.eval()
        best = plan.base_path / "best-model.pt"
        if best.exists():
            log.info("Loading model from best epoch ...")
            self.trainer._load_model(best)
        elif has_test:
            log.info("Testing using last state of model ...")
        if not has_test:
            log.info("Test data not provided setting final score to 0")
            self.trainer.return_values["test_score"] = 0
            return
        result = self._result_of("test", self.corpus.test)
        log.info(result.detailed_results)
        log_line(log)
        self.trainer.return_values["test_score"] = result.main_score

    # --- data ---

    def _training_data(self) -> Dataset:
        parts = [self.corpus.train]
        if self.plan.train_with_dev and self.corpus.dev:
            parts.append(self.corpus.dev)
        if self.plan.train_with_test and self.corpus.test:
            parts.append(self.corpus.test)
        return ConcatDataset([part for part in parts if part])  # type: ignore[list-item]

    def _train_sample(self) -> Optional[Subset]:
        """The part of the training data to evaluate on: a share of it, or a number of data points."""
        wanted = self.plan.monitor_train_sample
        if not wanted or not self.corpus.train:
            return None
        earlier = self.resumed.train_sample(self.corpus, self.plan) if self.resumed is not None else None
        if earlier is not None:
            return earlier
        size = len(self.corpus.train)  # type: ignore[arg-type]
        sample = min(size, int(size * wanted) if isinstance(wanted, float) else int(wanted))
        if sample <= 0:
            raise ValueError(f"monitor_train_sample={wanted} selects none of the {size} training data points.")
        return randomly_split_into_two_datasets(self.corpus.train, sample)[0]

    def _batches(self, epoch: int) -> DataLoader:
        plan = self.plan
        shuffle = plan.shuffle and (epoch > 1 or plan.shuffle_first_epoch)
        sampler: Any = plan.sampler
        if plan.multi_gpu:
            sampler = DistributedSampler(self.train_data, shuffle=shuffle, seed=self.sampler_seed)
            sampler.set_epoch(epoch - 1)
            shuffle = False
        elif sampler is not None:
            sampler = sampler() if isinstance(sampler, type) else sampler
            if isinstance(sampler, FlairSampler):
                sampler.set_dataset(self.train_data)
            shuffle = False
        return DataLoader(self.train_data, batch_size=self.trainer.mini_batch_size, shuffle=shuffle, sampler=sampler)

    # --- evaluation ---

    def _result_of(self, name: str, split: Any) -> Result:
        plan = self.plan
        with python_random_kept():
            result = self.model.evaluate(
                split,
                gold_label_type=self.model.label_type,
                out_path=plan.base_path / f"{name}.tsv" if is_main_process() else None,
                embedding_storage_mode=plan.embeddings_storage_mode,
                mini_batch_size=plan.eval_batch_size,
                main_evaluation_metric=plan.main_evaluation_metric,
                exclude_labels=plan.exclude_labels,
                gold_label_dictionary=plan.gold_label_dictionary_for_eval,
            )
        if plan.embeddings_storage_mode != "none" and self.trained_embeddings:
            # Without gradients these look static, and would be found again, outdated, after the next epoch.
            store_embeddings(list(split), plan.embeddings_storage_mode, self.trained_embeddings)
        return result

    def _evaluate(self, name: str, split: Any, epoch: int) -> Result:
        """Evaluate a split, log its score and record its metrics."""
        result = self._result_of(name, split)
        average, metric = self.plan.main_evaluation_metric
        _runtime.logger.info(
            f"{name.upper()} : loss {result.scores.get('loss', 0.0)} - {metric} ({average})  "
            f"{round(result.main_score, 4)}"
        )
        record = self.trainer._record
        for key, value in result.scores.items():
            record(MetricRecord.scalar(name + MetricName(key), value, epoch))
        record(MetricRecord.string((name, "score"), result.main_score, epoch))  # type: ignore[arg-type]
        record(MetricRecord.string((name, "detailed_result"), result.detailed_results, epoch))
        return result

    # --- figures and lines ---

    def _record_step(self, step: Step) -> None:
        batch_count = step.position.batch_count
        record = self.trainer._record
        record(MetricRecord.scalar(("train", "batch_loss"), step.loss / max(1, step.count), batch_count))
        if step.gradient_norm is not None:
            record(MetricRecord.scalar(("train", "gradient_norm"), step.gradient_norm, batch_count))

    def _record_rates(self, step: int) -> None:
        optimization = self.optimization
        self.reported_rates = optimization.learning_rates()
        self.trainer._record(MetricRecord.scalar_list(("learning_rate",), self.reported_rates, step))
        self.trainer._record(MetricRecord.scalar_list(("optimizer", "momentum"), optimization.momenta(), step))

    def _log_progress(self, step: Step, loss_sum: float, count: int, seconds: float) -> None:
        position = step.position
        _runtime.logger.info(
            f"epoch {position.epoch} - iter {position.batch_no + 1}/{position.total_number_of_batches}"
            f" - loss {loss_sum / max(1, count):.8f} - time (sec): {seconds:.2f}"
            f" - samples/sec: {count / max(seconds, 1e-9):.2f} - lr: {_joined(self.optimization.learning_rates())}"
            f" - momentum: {_joined(self.optimization.momenta())}"
        )

    def _log_header(self) -> None:
        plan = self.plan
        decoder = "" if plan.decoder_learning_rate is None else f"(decoder: {plan.decoder_learning_rate})"
        final = (
            "Final evaluation on model after last epoch (final-model.pt)"
            if plan.use_final_model_for_eval
            else "Final evaluation on model from best epoch (best-model.pt)"
        )
        blocks = [
            [f'Model: "{self.model}"'],
            [str(self.corpus)],
            [
                f"Train:  {len(self.train_data)} sentences",  # type: ignore[arg-type]
                f"        (train_with_dev={plan.train_with_dev}, train_with_test={plan.train_with_test})",
            ],
            [
                "Training Params:",
                f' - optimizer: "{plan.optimizer}" ',
                f' - learning_rate: "{plan.learning_rate}" {decoder}',
                f' - mini_batch_size: "{plan.mini_batch_size}"',
                f' - max_epochs: "{plan.max_epochs}"',
                f' - shuffle: "{plan.shuffle}"',
            ],
            ["Plugins:", *(f" - {plugin}" for plugin in plan.plugins)],
            [final, f' - metric: "{plan.main_evaluation_metric}"'],
            [
                "Computation:",
                f" - compute on device: {_runtime.device}",
                f" - embedding storage: {plan.embeddings_storage_mode}",
            ],
            [f'Model training base path: "{plan.base_path}"'],
        ]
        for block in blocks:
            log_line(_runtime.logger)
            for line in block:
                _runtime.logger.info(line)
        log_line(_runtime.logger)

    def _save(self, name: str) -> None:
        if is_main_process():
            self.trainer._save_model(self.plan.base_path / name, save_optimizer_state=self.plan.save_optimizer_state)

    @contextmanager
    def _log_on_main_process_only(self) -> Iterator[None]:
        logger = _runtime.logger
        disabled = logger.disabled
        logger.disabled = disabled or not is_main_process()
        try:
            yield
        finally:
            logger.disabled = disabled


def _joined(rates: list[float]) -> str:
    return ",".join(f"{rate:.6f}" for rate in rates)


def _progress_bar_disabled() -> Optional[bool]:
    """A value for tqdm's ``disable``; None lets it decide by whether stderr is a terminal."""
    choice = os.environ.get("FLAIR_PROGRESS")
    if not is_main_process():
        return True
    return None if choice is None else choice.lower() in ("0", "false", "no", "")


def _installed_version(package: str) -> Optional[str]:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
