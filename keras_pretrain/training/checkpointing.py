"""`Checkpointing`: a run that is killed goes on where it was."""

import json
import logging
import os
import re
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from keras_pretrain.folders import LOCK, OwnedFolder
from keras_pretrain.system import lock
from keras_pretrain.training.divergence import LossWatch
from keras_pretrain.training.workers import Workers

logger = logging.getLogger(__name__)

_BEST = "best"
_STATE = ("state.index", "state.data-00000-of-00001", "progress.json")
_CHANCE = ("transformers_version", "_name_or_path", "architectures")  # of a config, and nothing to the run
_MEANINGS = {"data.checksum": "the corpus, the tokenizer or the features are others"}


class Checkpointing(tf_keras.callbacks.Callback):
    """Saves a run every so many steps, and takes it up again when the same script is started anew.

    After a resume, everything is as if nothing had happened: weights, optimizer, learning rate, loss scale, masks,
    dropout, the order of the data, the running averages of the progress bar and the history of the epochs before. On a
    CPU the run ends with the very same bits; on a GPU, which was not tried, sums have no fixed order. Nothing is
    replayed: the data's position is computed. Other callbacks' memory, `EarlyStopping`'s patience for example, is not
    kept.

        checkpointing = kp.callbacks.Checkpointing("my_bert/run", every_steps=500)
        model.fit(train.repeat(), epochs=10, steps_per_epoch=1000, callbacks=[checkpointing])

    A checkpoint is written beside the others and then moved to its name: whenever the process is killed, the last
    whole one is there. Only checkpoints that this class wrote are deleted; other files in the directory stay. On
    SIGTERM, which machines are preempted with, the run is saved after the step at hand and the process ends with status
    143; a validation that this interrupts is missing from the history. A loss that is no number, or that explodes
    (`training.divergence` has the rule), ends the run and is not saved.

    Under `MirroredStrategy` and `MultiWorkerMirroredStrategy` it is the same: the chief writes, the directory is one
    that all workers see, and a SIGTERM to one of them stops all. When a worker dies, all of them are started again.

    Args:
      directory: of the run; another one for each run. It holds `step-0000000500/` and so on, and `best/`.
      every_steps: batches between two checkpoints; one more is written at the end.
      keep: how many of the last ones stay.
      monitor: a metric, such as `"val_mlm_loss"`, whose best epoch is kept in `best/` besides.
      mode: `"min"` or `"max"`, which of the metric's values are better.
      resume: `False` starts anew and deletes the checkpoints that are there.
      overwrite: treat the checkpoints of a version without a manifest (0.1.0 before November 2026) as this class' own.
        They are resumed without it, too, but then never deleted.

    Raises:
      ValueError: at the start of `fit`, when the model is not one of this package's pretrainers, its data are not those
        of `to_tf_dataset`, or the directory holds a run with other settings or another corpus.
      FloatingPointError: in `fit`, when the loss is no longer a number, or has exploded.
      OSError: at the start of `fit`, when the directory cannot be written to, its disk has no room, or another process
        is training in it.
      FileExistsError: at the start of `fit` with `resume=False`, when checkpoints there cannot be deleted because they
        are those of an older version, or were changed, and `overwrite` is off.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        every_steps: int = 1000,
        keep: int = 2,
        monitor: str | None = None,
        mode: str = "min",
        resume: bool = True,
        overwrite: bool = False,
    ):
        super().__init__()
        if every_steps < 1 or keep < 1:
            raise ValueError(f"every_steps and keep must be at least 1, not {every_steps} and {keep}.")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}.")
        self.directory = Path(directory).expanduser()
        self.every_steps = every_steps
        self.keep = keep
        self.monitor = monitor
        self.mode = mode
        self.resume = resume
        self._folder = OwnedFolder(directory, "checkpointing", overwrite=overwrite)
        self.step = 0  # batches of this `fit`, over all its epochs and resumes
        self._is_terminated = False
        self._keeps_best = True

    @property
    def latest(self) -> Path | None:
        """The last whole checkpoint."""
        steps = self._steps()
        return self.directory / steps[-1] if steps else None

    def _steps(self) -> list[str]:
        """Whole checkpoints by step: those that this class wrote or, where it has written none, those of old versions.

        A folder that only looks like a checkpoint is none.
        """
        named = {name.split("/")[0] for name in self._folder.names() if name.endswith(_STATE[-1])}
        found = [path.name for path in self.directory.glob("step-*") if re.fullmatch(r"step-\d{10}", path.name)]
        whole = [name for name in sorted(found) if all((self.directory / name / file).is_file() for file in _STATE)]
        return [name for name in whole if name in named] or whole

    def on_train_begin(self, logs=None):
        batches, is_repeated = _data_of(self.model)
        _check_optimizer(self.model.optimizer)
        self._workers = Workers(self.model.distribute_strategy)
        self._is_terminated = False
        self._is_fresh = True
        self._settings = _describe_run(self.model, batches, self.params)
        self._metric_values, self._best, self._history = None, None, {}
        self.step, self._last_saved = 0, 0
        self._loss_watch = LossWatch()
        self._first_step = batches.next_step
        self._prepare_directory()
        if self.latest:
            self._is_fresh = False
            self._restore(self.latest)
            batches.seek(self._first_step + self.step, runs_on=is_repeated)
            self.model.resume_at = divmod(self.step, self.params["steps"])
            self.model._train_counter.assign(self.step)  # what TensorBoard counts by; Keras has just set it to 0
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGTERM, self._terminate)
            self.model.call_at_end(lambda: signal.signal(signal.SIGTERM, before))

    def _prepare_directory(self) -> None:
        """The chief does it; the others wait, find it as the chief leaves it, and do not go on where it could not."""
        error = None
        if self._workers.is_chief:
            try:
                self._lock()
                self._folder.finish_interrupted()
                self._take_over_old()
                if not self.resume:
                    self._delete_all()
                self._check_best()
                self._make_room()
            except OSError as caught:
                error = caught
        if self._workers.any(error is not None):
            raise error or OSError(
                f"The first worker cannot write its checkpoints to {self.directory}; its log says why."
            )
        step = int(self.latest.name.removeprefix("step-")) if self.latest else -1
        if not self._workers.agree(step):
            raise ValueError(
                f"The workers do not find the same checkpoints in {self.directory}: give a folder on a disk that all "
                "of them see."
            )

    def _take_over_old(self) -> None:
        """What an older version wrote is recorded as ours where the user says so."""
        if self._folder.overwrite:
            old = [f"{name}/{file}" for name in [*self._steps(), _BEST] for file in _STATE]
            self._folder.adopt(name for name in old if (self.directory / name).is_file())

    def _check_best(self) -> None:
        """Say now, not at each improvement, that the best epoch cannot be kept."""
        best = self.directory / _BEST / _STATE[-1]
        self._keeps_best = bool(self.monitor) and (not best.exists() or self._folder.owns(f"{_BEST}/{_STATE[-1]}"))
        if self.monitor and not self._keeps_best:
            logger.warning(
                "%s was written by an older version, or was changed since, and stays: the best epoch of this run is "
                "not kept. Move it away, or pass overwrite=True.", best.parent,
            )  # fmt: skip

    def _delete_all(self) -> None:
        checkpoints = [*self._steps(), *([_BEST] if (self.directory / _BEST / _STATE[-1]).is_file() else [])]
        self._folder.require_replaceable(f"{name}/{file}" for name in checkpoints for file in _STATE)
        self._delete(self._folder.names())  # checkpoints alone: files of other writers are not among them

    def _delete(self, names: list[str]) -> None:
        """Without the file that makes it whole, a checkpoint of which half is left is none."""
        self._folder.delete(sorted(names, key=lambda name: not name.endswith(_STATE[-1])))

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._is_fresh:  # `fit` may begin with another epoch than the first (initial_epoch)
            self._is_fresh = False
            self._last_saved = epoch * self.params["steps"]
            self._first_step -= self._last_saved
        if self._metric_values is not None:  # Keras has just reset them
            for variable, value in zip(_metric_variables(self.model), self._metric_values, strict=True):
                variable.assign(np.asarray(value, np.float32))
            self._metric_values = None

    def on_train_batch_end(self, batch, logs=None):
        self.step = self._epoch * self.params["steps"] + batch + 1
        self._judge_loss(batch, logs)
        self._leave_if_terminated()
        # The end of an epoch is saved after its validation, which is part of the run's history.
        if self._is_due() and batch + 1 < self.params["steps"]:
            self._save_or_warn()

    def on_test_batch_end(self, batch, logs=None):
        self._leave_if_terminated()

    def on_epoch_end(self, epoch, logs=None):
        logs = {name: float(value) for name, value in (logs or {}).items()}
        for name, value in logs.items():
            self._history.setdefault(name, []).append(value)
        if self.monitor and self._is_best(logs) and self._keeps_best and not self._loss_watch.is_suspicious:
            before, self._best = self._best, logs[self.monitor]
            if not self._save_or_warn(_BEST):
                self._best = before
        if self._is_due():
            self._save_or_warn()
        self._leave_if_terminated()

    def on_train_end(self, logs=None):
        if self.step > self._last_saved:
            self._save_or_warn()
        self._leave_if_terminated()

    def _terminate(self, *_):
        self._is_terminated = True

    def _judge_loss(self, batch: int, logs: dict) -> None:
        """What is saved must be worth going on from."""
        wrong = self._loss_watch.see(batch, float(logs["loss"]))
        if wrong:
            raise FloatingPointError(
                f"{wrong}, after step {self.step}. The last good checkpoint is {self.latest}. The usual causes are a "
                "learning rate that is too high, too short a warm-up, or mixed_float16 without loss scaling; the same "
                "command with a lower learning rate needs another directory, or --no-resume."
            )

    def _is_due(self) -> bool:
        is_time = self.step // self.every_steps > self._last_saved // self.every_steps
        return is_time and not self._loss_watch.is_suspicious  # a loss that is about to explode is no good checkpoint

    def _is_best(self, logs: dict) -> bool:
        is_validated = any(name.startswith("val_") for name in logs)
        if self.monitor.startswith("val_") and not is_validated:
            return False  # not every epoch is (validation_freq)
        if self.monitor not in logs:
            raise ValueError(f"There is no metric {self.monitor!r} to monitor; there are {', '.join(sorted(logs))}.")
        value = logs[self.monitor]
        return self._best is None or (value < self._best if self.mode == "min" else value > self._best)

    def _leave_if_terminated(self) -> None:
        if not self._workers.any(self._is_terminated):
            return
        if self.step > self._last_saved and not self._loss_watch.is_suspicious and self._save_or_warn():
            logger.info("Step %d is saved; the same command goes on from there.", self.step)
        logger.info("Stopped by SIGTERM.")
        raise SystemExit(128 + signal.SIGTERM)

    def _save_or_warn(self, name: str | None = None) -> bool:
        """A disk that has filled up does not end the training; what was saved before is still there."""
        metrics = [variable.numpy().tolist() for variable in _metric_variables(self.model)]  # of all workers
        is_lost = False
        if self._workers.is_chief:
            try:
                self._save(name, metrics)
            except (OSError, tf.errors.OpError) as error:
                logger.warning(
                    "Step %d could not be saved: %s. The last checkpoint is %s.", self.step, error, self.latest
                )
                is_lost = True
        is_lost = self._workers.any(is_lost)
        if name is None and not is_lost:
            self._last_saved = self.step
        return not is_lost

    def _save(self, name: str | None, metrics: list) -> None:
        progress = {
            "step": self.step,
            "first_step": self._first_step,
            "settings": self._settings,
            "best": self._best,
            "history": self._history,
            "loss_watch": self._loss_watch.state(),
            "metrics": metrics,
        }
        target = name or f"step-{self.step:010d}"
        with self._folder.writing(last=_STATE[-1], remove_first=f"{target}/{_STATE[-1]}") as stage:
            (stage / target).mkdir()
            self._tracker().write(str(stage / target / "state"))
            (stage / target / _STATE[-1]).write_text(json.dumps(progress))
        if name is None:
            for old in self._steps()[: -self.keep]:
                self._delete(self._folder.names(below=old))

    def _restore(self, checkpoint: Path) -> None:
        progress = json.loads((checkpoint / "progress.json").read_text())
        _refuse_others(progress["settings"], self._settings, self.directory)
        self._tracker().read(str(checkpoint / "state")).assert_existing_objects_matched()
        self.step = self._last_saved = progress["step"]
        self._first_step = progress["first_step"]
        self._best = progress["best"]
        self._history = progress["history"]
        self._loss_watch.restore(progress["loss_watch"])
        self._metric_values = progress["metrics"] if self.step % self.params["steps"] else None
        self.model.history.history.update({name: list(values) for name, values in self._history.items()})
        total = self.params["epochs"] * self.params["steps"]
        if self.step >= total:
            logger.info("The run in %s is finished: %d of %d steps.", self.directory, self.step, total)
        else:
            logger.info("The run goes on from step %d of %d (%s).", self.step, total, checkpoint)

    def _tracker(self) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)

    def _lock(self) -> None:
        """Keep others out of the directory until `fit` is over."""
        self.directory.mkdir(parents=True, exist_ok=True)
        message = f"Another process is training in {self.directory}. Wait for it, or choose another directory."
        descriptor = lock(self.directory / LOCK, message)
        self.model.call_at_end(lambda: os.close(descriptor))

    def _make_room(self) -> None:
        """Find out now, not after the first thousand steps, whether checkpoints can be written."""
        with self._folder.staging():  # says itself what is wrong with the folder
            pass
        variables = [*self.model.weights, *self.model.optimizer.variables]
        needed = sum(np.prod(variable.shape) * variable.dtype.size for variable in variables)
        copies = self.keep + 1 + bool(self.monitor) - len(self._steps())
        free = shutil.disk_usage(self.directory).free
        if free < copies * needed:
            raise OSError(
                f"{self.directory} has {free / 2**30:.2f} GiB left, and {copies} checkpoints take "
                f"{copies * needed / 2**30:.2f} GiB. Make room, or keep fewer."
            )


def _data_of(model) -> tuple:
    """The batches that `fit` was given, and whether they are repeated."""
    if not hasattr(model, "training_batches"):
        raise ValueError(f"Checkpointing works with this package's pretrainers, not with {type(model).__name__}.")
    batches, is_repeated = model.training_batches
    if batches is None:
        raise ValueError(
            "Checkpointing needs the data of kp.to_tf_dataset, as they are or repeated and prefetched: it could not "
            "find the place of others again."
        )
    if not batches.training:
        raise ValueError(
            "These batches are for validation (training=False): they are neither shuffled nor masked anew."
        )
    return batches, is_repeated


def _check_optimizer(optimizer) -> None:
    if not hasattr(optimizer, "build"):
        raise ValueError(
            f"Checkpointing cannot take up a {type(optimizer).__name__}, an optimizer of the old kind: use "
            "kp.create_optimizer or one of tf_keras.optimizers."
        )


def _describe_run(model, batches, params: dict) -> dict:
    """What makes a run what it is, flat, as JSON has it."""
    settings = {
        "model": model.description(),
        "optimizer": model.optimizer.get_config(),
        "precision": tf_keras.mixed_precision.global_policy().name,  # what the model was made under, as a rule
        "data": batches.description(),
        "steps_per_epoch": params["steps"],
    }
    flat = _flatten(json.loads(json.dumps(settings, default=lambda value: type(value).__name__)))
    return {name: value for name, value in flat.items() if name.split(".")[-1] not in _CHANCE}


def _flatten(settings: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _refuse_others(theirs: dict, ours: dict, directory: Path) -> None:
    differing = [
        _MEANINGS.get(name) or f"{name} is {ours.get(name)} and was {theirs.get(name)}"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    if differing:
        raise ValueError(
            f"{directory} holds another run: {'; '.join(differing)}. Choose another directory, or start this one anew "
            "with resume=False (--no-resume in the examples), which deletes its checkpoints."
        )


def _metric_variables(model) -> list[tf.Variable]:
    return [variable for metric in model.metrics for variable in metric.variables]
