"""`Checkpointing`: saves a run, so that it continues from the last checkpoint after a kill."""

import json
import logging
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from keras_pretrain.compat.signals import set_handler
from keras_pretrain.compat.tf_keras import uses_weight_decay
from keras_pretrain.features.batching import Batches
from keras_pretrain.folders import LOCK, OwnedFolder
from keras_pretrain.system import lock
from keras_pretrain.training.divergence import LossWatch
from keras_pretrain.training.optimization import WarmupSchedule
from keras_pretrain.training.workers import Workers

logger = logging.getLogger(__name__)

_BEST = "best"
_STATE = ("state.index", "state.data-00000-of-00001", "progress.json")
# Config fields that do not affect training.
_IGNORED = ("transformers_version", "_name_or_path", "architectures")
# Settings that checkpoints of commit b074e80 and earlier do not record. For such a checkpoint, they are not compared.
_NOT_RECORDED_BEFORE = (
    "optimizer_class",
    "without_weight_decay",
    "trained",
    "jit_compile",
    "replicas",
    "tokenizer.",
    "data.tokenizer.",
)
_IMPLIED_BEFORE = {"model.head_weights.mlm": 1.0, "model.head_weights.nsp": 1.0}
_NUM_TRAIN_STEPS = "learning_rate.config.num_train_steps"
_STORED_RATE = "optimizer/_learning_rate/.ATTRIBUTES/VARIABLE_VALUE"  # in a TensorFlow checkpoint
_MEANINGS = {
    "data.checksum": "the corpus, the tokenizer or the features have changed",
    **dict.fromkeys(
        ("data.glued_gaps", "model.glued_gaps"), "it also glued gaps inside words, as an earlier version did"
    ),
    "trained": "other weights are trained (`trainable`)",
    "without_weight_decay": "other weights are excluded from weight decay (`optimizer.exclude_from_weight_decay`)",
}


class Checkpointing(tf_keras.callbacks.Callback):
    """Saves a run at a fixed interval of steps, and resumes it when the same script is started again.

    A resumed run continues as if it had never been interrupted. This covers weights, optimizer, learning rate, loss
    scale, masks, dropout, the order of the data, the running averages of the progress bar and the history of earlier
    epochs. On a CPU, the final weights are identical to the bit. On a GPU, where the order of sums is not fixed, this
    was not tested. No step is repeated, because the position in the data is computed. The state of other callbacks,
    such as the patience of `EarlyStopping`, is not saved.

        checkpointing = kp.callbacks.Checkpointing("my_bert/run", every_steps=500)
        model.fit(train.repeat(), epochs=10, steps_per_epoch=1000, callbacks=[checkpointing])

    Every setting that affects the result must be the same when a run is resumed. There is one exception: a larger
    `num_train_steps` (with more epochs) extends a run, even a finished one. The run then continues with the learning
    rate of the new schedule.

    A checkpoint is written to a temporary folder and then renamed, so the last complete checkpoint survives a kill at
    any moment. If a save is due at the end of an epoch, it is made before the validation. If the validation is
    interrupted, the resumed run starts with this validation. Only checkpoints that this class wrote are deleted; other
    files in the directory stay. On SIGTERM, which preempted machines receive, the run is saved after the current step,
    and `fit` raises `SystemExit(143)`. On Ctrl-C, the run is saved in the same way, and `fit` raises
    `KeyboardInterrupt`. If the loss is not a number or explodes (see `training.divergence.LossWatch`), the run ends,
    and this state is not saved.

    All of this also works under `MirroredStrategy` and `MultiWorkerMirroredStrategy`. Only the chief writes, the
    directory must be visible to all workers, and a SIGTERM to one worker stops all. If a worker dies, start all workers
    again.

    Args:
      directory: a folder for this run only. It holds `step-0000000500/` and so on, and `best/`.
      every_steps: number of batches between two checkpoints. Another checkpoint is written at the end.
      keep: the number of latest checkpoints to keep.
      monitor: a metric, such as `"val_mlm_loss"`. The checkpoint of its best epoch is also kept, in `best/`.
      mode: whether lower (`"min"`) or higher (`"max"`) values of the metric are better.
      resume: `False` starts a new run and deletes the checkpoints in the directory.
      overwrite: treat the checkpoints of a version without a manifest (0.1.0 before November 2026) as this class' own.
        Without it, a run can be resumed from them as well, but they are never deleted.

    Raises:
      ValueError: at the start of `fit`, if the model is not a pretrainer of this package, the data are not from
        `to_tf_dataset`, or the directory holds a run with other settings or another corpus.
      FloatingPointError: in `fit`, if the loss is not a number, or has exploded.
      OSError: at the start of `fit`, if the directory cannot be written to, its disk has no room, or another process is
        training in it.
      FileExistsError: at the start of `fit` with `resume=False`, if `overwrite` is off and checkpoints cannot be
        deleted because an older version wrote them or they were changed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every_steps: int = 1000,
        keep: int = 2,
        monitor: str | None = None,
        mode: str = "min",
        resume: bool = True,
        overwrite: bool = False,
    ) -> None:
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
        self.step = 0  # number of batches in all epochs of this run, over all resumes
        self._is_terminated = self._is_interrupted = False
        self._keeps_best = True

    @property
    def latest(self) -> Path | None:
        """The last complete checkpoint."""
        steps = self._steps()
        return self.directory / steps[-1] if steps else None

    def _steps(self) -> list[str]:
        """The names of the complete checkpoints, by step: those that this class wrote, or if there are none, those of
        older versions."""
        named = {name.split("/")[0] for name in self._folder.names() if name.endswith(_STATE[-1])}
        found = [path.name for path in self.directory.glob("step-*") if re.fullmatch(r"step-\d{10}", path.name)]
        whole = [name for name in sorted(found) if all((self.directory / name / file).is_file() for file in _STATE)]
        return [name for name in whole if name in named] or whole

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        batches = _data_of(self.model)
        _check_optimizer(self.model.optimizer)
        self._workers = Workers(self.model.distribute_strategy)
        self._is_terminated = self._is_interrupted = False
        self._is_fresh = True
        self._settings = _describe_run(self.model, batches, self.params)
        self._metric_values: list | None = None
        self._best: float | None = None
        self._history: dict[str, list[float]] = {}
        # The logs after the last step of an epoch, and the logs at the end of the epoch, which include the validation.
        self._epoch_logs: dict[str, float] | None = None
        self._end_logs: dict[str, float] | None = None
        self._is_replaying = False
        self.step, self._last_saved = 0, 0
        self._loss_watch = LossWatch()
        self._first_step = batches.next_step
        self._prepare_directory()
        if self.latest:
            self._is_fresh = False
            self._restore(self.latest)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # any other handler is the user's
            put_back = set_handler(signal.SIGINT, self._interrupt)
            self.model.call_at_end(put_back or (lambda: None))
        put_back = set_handler(signal.SIGTERM, self._terminate)
        if put_back:
            self.model.call_at_end(put_back)
        else:
            logger.warning(
                "SIGTERM cannot be handled: fit runs outside of the main thread, and the main thread does not respond. "
                "The run can only be resumed from its regular checkpoints. Let the main thread wait in a loop, such as "
                "`while thread.is_alive(): thread.join(0.1)`."
            )

    def _prepare_directory(self) -> None:
        """Prepare the directory on the chief. Other workers wait for it, and raise an error if the chief failed."""
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
                f"The workers find different checkpoints in {self.directory}. Give a folder on a disk that all workers "
                "share."
            )

    def _take_over_old(self) -> None:
        """Record the files of an older version as this package's, if the user has set `overwrite`."""
        if self._folder.overwrite:
            old = [f"{name}/{file}" for name in [*self._steps(), _BEST] for file in _STATE]
            self._folder.adopt(name for name in old if (self.directory / name).is_file())

    def _check_best(self) -> None:
        """Find out whether the best epoch can be kept. If not, warn now instead of at each improvement."""
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
        self._delete(self._folder.names())  # only checkpoints, no files of other writers

    def _delete(self, names: list[str]) -> None:
        """Delete files; the files without which a checkpoint is incomplete are deleted first."""
        self._folder.delete(sorted(names, key=lambda name: not name.endswith(_STATE[-1])))

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._close_epoch()
        self._epoch = epoch
        if self._is_fresh:  # `fit` may start with a later epoch (initial_epoch)
            self._is_fresh = False
            self._last_saved = epoch * self.params["steps"]
            self._first_step -= self._last_saved
        if self._metric_values is not None:  # Keras has just reset them
            for variable, value in zip(_metric_variables(self.model), self._metric_values, strict=True):
                variable.assign(np.asarray(value, np.float32))
            self._metric_values = None
        if self._epoch_logs is not None:  # the run was resumed after the last step of this epoch
            self._is_replaying = True
            self.model.replay_step(self._epoch_logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._is_replaying:
            self._is_replaying = False
            self._leave_if_terminated()
            return
        self.step = self._epoch * self.params["steps"] + batch + 1
        if batch + 1 == self.params["steps"]:
            self._epoch_logs = {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}
            self._epoch_metrics = self._read_metrics()  # read now, because the validation overwrites them
        self._judge_loss(batch, logs or {})
        self._leave_if_terminated()
        if self._is_due():
            self._save_or_warn()

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._leave_if_terminated()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._end_logs = {name: float(value) for name, value in (logs or {}).items()}
        monitor = self.monitor
        if (
            monitor
            and self._is_best(monitor, self._end_logs)
            and self._keeps_best
            and not self._loss_watch.is_suspicious
        ):
            before, self._best = self._best, self._end_logs[monitor]
            if not self._save_or_warn(_BEST):
                self._best = before
        self._leave_if_terminated()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._close_epoch()
        if self.step > self._last_saved:
            self._save_or_warn()
        self._leave_if_terminated()

    def _close_epoch(self) -> None:
        """After all callbacks were notified, record that an epoch has ended, so that its validation is not repeated."""
        if self._end_logs is None:
            return
        if self._epoch_logs is not None:  # otherwise a callback stopped the training within the epoch
            self._history = self._history_with_end()
        self._epoch_logs = self._end_logs = None
        if self._is_due():  # the save before the validation failed
            self._save_or_warn()
        elif self.step == self._last_saved:
            self._save_or_warn(state=False)

    def _history_with_end(self) -> dict[str, list[float]]:
        history = {name: list(values) for name, values in self._history.items()}
        for name, value in (self._end_logs or {}).items():
            history.setdefault(name, []).append(value)
        return history

    def _terminate(self, *_: object) -> None:
        self._is_terminated = True

    def _interrupt(self, *_: object) -> None:
        """On the first Ctrl-C, have the run saved after the current step. On the second one, stop at once."""
        if self._is_interrupted:
            raise KeyboardInterrupt
        logger.info("Ctrl-C: the run is saved after the current step. Press Ctrl-C again to stop at once.")
        self._is_terminated = self._is_interrupted = True

    def _judge_loss(self, batch: int, logs: dict) -> None:
        """End a run with a diverged loss before it is saved."""
        wrong = self._loss_watch.see(batch, float(logs["loss"]))
        if wrong:
            raise FloatingPointError(
                f"{wrong}, after step {self.step}. The last good checkpoint is {self.latest}. The usual causes are a "
                "learning rate that is too high, too short a warm-up, or mixed_float16 without loss scaling. A run "
                "with a lower learning rate needs another directory, or resume=False."
            )

    def _is_due(self) -> bool:
        is_time = self.step // self.every_steps > self._last_saved // self.every_steps
        return is_time and not self._loss_watch.is_suspicious  # a loss that is about to explode is not worth resuming

    def _is_best(self, monitor: str, logs: dict) -> bool:
        is_validated = any(name.startswith("val_") for name in logs)
        if monitor.startswith("val_") and not is_validated:
            return False  # not every epoch is validated (validation_freq)
        if monitor not in logs:
            raise ValueError(f"There is no metric {monitor!r} to monitor; there are {', '.join(sorted(logs))}.")
        value = logs[monitor]
        return self._best is None or (value < self._best if self.mode == "min" else value > self._best)

    def _leave_if_terminated(self) -> None:
        if not self._workers.any(self._is_terminated):
            return
        if self.step > self._last_saved and not self._loss_watch.is_suspicious and self._save_or_warn():
            logger.info("Step %d is saved; the same command continues from there.", self.step)
        if self._is_interrupted:
            raise KeyboardInterrupt
        logger.info("Stopped by SIGTERM.")
        raise SystemExit(128 + signal.SIGTERM)

    def _save_or_warn(self, name: str | None = None, *, state: bool = True) -> bool:
        """Save a checkpoint; if this fails, warn and return false, so that a full disk does not end the training.

        Args:
          name: the name of the checkpoint. Default: the name of the step.
          state: `False` if the weights are already saved, and only the progress is new.
        """
        metrics = self._read_metrics() if self._epoch_logs is None else self._epoch_metrics  # on all workers
        has_failed = False
        if self._workers.is_chief:
            try:
                self._save(name, metrics, state)
            except (OSError, tf.errors.OpError) as error:
                logger.warning(
                    "Step %d could not be saved: %s. The last checkpoint is %s.", self.step, error, self.latest
                )
                has_failed = True
        has_failed = self._workers.any(has_failed)
        if name is None and not has_failed:
            self._last_saved = self.step
        return not has_failed

    def _save(self, name: str | None, metrics: list, state: bool) -> None:
        progress = {
            "step": self.step,
            "first_step": self._first_step,
            "settings": self._settings,
            "best": self._best,
            "history": self._history_with_end() if name == _BEST else self._history,
            "epoch_logs": None if name == _BEST else self._epoch_logs,
            "loss_watch": self._loss_watch.state(),
            "metrics": metrics,
        }
        target = name or f"step-{self.step:010d}"
        last = f"{target}/{_STATE[-1]}"
        with self._folder.writing(last=_STATE[-1], remove_first=last if state else None) as stage:
            (stage / target).mkdir()
            if state:
                self._tracker().write(str(stage / target / "state"))
            (stage / last).write_text(json.dumps(progress))
        if name is None:
            for old in self._steps()[: -self.keep]:
                self._delete(self._folder.names(below=old))

    def _restore(self, checkpoint: Path) -> None:
        progress = json.loads((checkpoint / "progress.json").read_text())
        self.model.adopt_precision(progress["settings"].get("precision", "float32"))
        self._settings["precision"] = self.model.precision
        old_steps = _require_same_run(progress["settings"], self._settings, checkpoint)
        self._tracker().read(str(checkpoint / "state")).assert_existing_objects_matched()
        self.step = self._last_saved = progress["step"]
        self._first_step = progress["first_step"]
        self._best = progress["best"]
        self._history = progress["history"]
        self._epoch_logs = progress.get("epoch_logs")
        self._epoch_metrics = progress["metrics"]
        self._loss_watch.restore(progress["loss_watch"])
        steps = self.params["steps"]
        is_within = bool(self.step % steps or self._epoch_logs)
        self._metric_values = progress["metrics"] if is_within else None
        self.model.history.history.update({name: list(values) for name, values in self._history.items()})
        at = divmod(self.step, steps) if self._epoch_logs is None else (self.step // steps - 1, steps - 1)
        self.model.resume(self.step, self._first_step, at)
        self._report_resume(checkpoint, old_steps)

    def _report_resume(self, checkpoint: Path, old_steps: dict | None) -> None:
        total = self.params["epochs"] * self.params["steps"]
        if self.step >= total and self._epoch_logs is None:
            logger.info("The run in %s is finished: %d of %d steps.", self.directory, self.step, total)
            return
        old, new = old_steps, _schedule(self._settings)
        if old is not None and new is not None:
            done = int(self.model.optimizer.iterations)
            logger.info(
                "The run is extended from %d to %d steps at step %d: the learning rate changes from %.6g to %.6g.",
                old["num_train_steps"], new["num_train_steps"], done,
                float(WarmupSchedule(**old)(done)), float(WarmupSchedule(**new)(done)),
            )  # fmt: skip
        logger.info("The run continues from step %d of %d (%s).", self.step, total, checkpoint)

    def _read_metrics(self) -> list:
        return [variable.numpy().tolist() for variable in _metric_variables(self.model)]

    def _tracker(self) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)

    def _lock(self) -> None:
        """Lock the directory against other processes until `fit` ends."""
        self.directory.mkdir(parents=True, exist_ok=True)
        message = f"Another process is training in {self.directory}. Wait for it, or choose another directory."
        descriptor = lock(self.directory / LOCK, message)
        self.model.call_at_end(lambda: os.close(descriptor))

    def _make_room(self) -> None:
        """Check before training whether the directory can be written to and has room for the checkpoints."""
        with self._folder.staging():  # its error message already says what is wrong
            pass
        variables = [*self.model.weights, *self.model.optimizer.variables]
        needed = sum(np.prod(variable.shape) * variable.dtype.size for variable in variables)
        copies = self.keep + 1 + bool(self.monitor) - len(self._steps())
        free = shutil.disk_usage(self.directory).free
        if free < copies * needed:
            raise OSError(
                f"{self.directory} has only {free / 2**30:.2f} GiB left, and {copies} checkpoints take "
                f"{copies * needed / 2**30:.2f} GiB. Make room, or keep fewer."
            )


def _data_of(model: tf_keras.Model) -> Batches:
    """The batches that `fit` was given."""
    if not hasattr(model, "training_batches"):
        raise ValueError(f"Checkpointing works with this package's pretrainers, not with {type(model).__name__}.")
    batches = model.training_batches
    if batches is None:
        raise ValueError(
            "Checkpointing needs a dataset from kp.to_tf_dataset; only repeat and prefetch may be applied to it. The "
            "position in other data cannot be restored."
        )
    if not batches.training:
        raise ValueError(
            "These batches are for validation (training=False): they are not shuffled, and have the same masks in each "
            "epoch. Pass training=True to kp.to_tf_dataset."
        )
    return batches


def _check_optimizer(optimizer: tf_keras.optimizers.Optimizer) -> None:
    if not hasattr(optimizer, "build"):
        raise ValueError(
            f"Checkpointing cannot resume a {type(optimizer).__name__} of tf_keras.optimizers.legacy. Use "
            "kp.create_optimizer or one of tf_keras.optimizers."
        )


def _describe_run(model: tf_keras.Model, batches: Batches, params: dict) -> dict:
    """Every setting that affects the result, as a flat dictionary of JSON values."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # mixed_float16 wraps the optimizer
    trained = {id(variable) for variable in model.trainable_variables}
    settings = {
        "model": {"head_weights": model.head_weights} | model.description(),
        "optimizer": model.optimizer.get_config(),
        "optimizer_class": type(optimizer).__name__,
        "precision": model.precision,
        "data": batches.description(),
        "steps_per_epoch": params["steps"],
        "jit_compile": model.uses_xla,
        "replicas": model.distribute_strategy.num_replicas_in_sync,
        # By index, because Keras adds numbers to the names in a second model.
        "trained": [place for place, variable in enumerate(model.weights) if id(variable) in trained],
        "without_weight_decay": [
            place for place, variable in enumerate(model.weights) if not uses_weight_decay(optimizer, variable)
        ],
    }
    tokenizer = getattr(model, "tokenizer", None)  # for a model that masks in its step
    if tokenizer is not None:
        special_ids = sorted(set(tokenizer.all_special_ids))
        settings["tokenizer"] = {"mask_token_id": tokenizer.mask_token_id, "special_ids": special_ids}
    flat = _flatten(json.loads(json.dumps(settings, default=_as_json)))
    return {name: value for name, value in flat.items() if name.split(".")[-1] not in _IGNORED}


def _as_json(value: Any) -> object:
    """The value of a tensor, variable, NumPy scalar or Keras' wrapped dictionary; for anything else, the name of its
    type."""
    if isinstance(value, Mapping):
        return dict(value)
    value = value.numpy() if hasattr(value, "numpy") else value
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else type(value).__name__


def _flatten(settings: dict, prefix: str = "") -> dict:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _require_same_run(theirs: dict, ours: dict, checkpoint: Path) -> dict | None:
    """Compare the settings of a checkpoint with those of this run.

    Returns:
      If this run only extends the checkpoint's, the learning rate schedule of the checkpoint; else `None`.

    Raises:
      ValueError: the runs differ in any other setting.
    """
    theirs = _with_implied(theirs, ours, checkpoint)
    differing = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    old, new = _schedule(theirs), _schedule(ours)
    only_steps = len(differing) == 1 and differing[0].endswith(_NUM_TRAIN_STEPS)
    if only_steps and old and new and new["num_train_steps"] > old["num_train_steps"]:
        return old
    if differing:
        what = "; ".join(
            _MEANINGS.get(name) or _difference(name, theirs.get(name), ours.get(name)) for name in differing
        )
        raise ValueError(
            f"{checkpoint.parent} holds another run: {what}. Use the settings of that run, choose another directory, "
            "or pass resume=False, which deletes its checkpoints and starts a new run."
        )
    return None


def _difference(name: str, theirs: object, ours: object) -> str:
    text = f"{name} is {_written(ours)} and was {_written(theirs)}"
    return f"{text} (a run can be extended, but not shortened)" if name.endswith(_NUM_TRAIN_STEPS) else text


def _written(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _with_implied(theirs: dict, ours: dict, checkpoint: Path) -> dict:
    """The settings of a checkpoint, completed with those that earlier versions did not record or did not have."""
    absent = {"data.packed": False, "glue_prob": 0.0, "glue_after": 0}
    theirs = {name: value for name in ours for end, value in absent.items() if name.endswith(end)} | theirs
    for name in (name for name in ours if name.endswith("glued_gaps")):
        if not theirs[name.replace("glued_gaps", "glue_prob")]:  # it differs only because `glue_prob` does
            theirs[name] = ours[name]
    if "trained" in theirs:
        return theirs
    implied = {name: value for name, value in ours.items() if name.startswith(_NOT_RECORDED_BEFORE)}
    theirs = implied | {name: value for name, value in _IMPLIED_BEFORE.items() if name in ours} | theirs
    # These versions recorded a learning rate that is not a schedule as the name of its type.
    for name, value in theirs.items():
        if name.endswith("learning_rate") and value in ("float32", "float64"):
            theirs[name] = _stored_rate(checkpoint)
    return theirs


def _stored_rate(checkpoint: Path) -> float | str:
    try:
        return float(tf.train.load_checkpoint(str(checkpoint / "state")).get_tensor(_STORED_RATE))
    except (OSError, ValueError, tf.errors.OpError):
        return "not recorded"


def _schedule(settings: dict) -> dict | None:
    """The settings of this package's schedule, if the learning rate follows one."""
    prefix = next((name.removesuffix("num_train_steps") for name in settings if name.endswith(_NUM_TRAIN_STEPS)), None)
    names = WarmupSchedule(1.0, 1).get_config()
    if prefix is None or any(prefix + name not in settings for name in names):
        return None
    return {name: settings[prefix + name] for name in names}


def _metric_variables(model: tf_keras.Model) -> list[tf.Variable]:
    return [variable for metric in model.metrics for variable in metric.variables]
