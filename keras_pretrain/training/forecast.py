"""`measure`: measures the time of a step, a validation and the compilation, and the memory and disk that a run
needs."""

import contextlib
import random
import resource
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import tensorflow as tf
import tf_keras

from keras_pretrain.compat.tensorflow import keep_random_state
from keras_pretrain.compat.tf_keras import step_counters
from keras_pretrain.features.batching import batches_behind


@dataclass(frozen=True)
class Pace:
    """The results of `measure`.

    Attributes:
      seconds_per_step: the median time of a training step.
      seconds_per_validation: the extrapolated time for the whole validation dataset; 0 without a validation dataset.
      seconds_to_compile: the time to compile training and validation, which the next `fit` does not repeat.
      memory: the largest amount of memory in bytes that this process has used so far.
      checkpoint_bytes: the size of a checkpoint (weights and optimizer) that `Checkpointing` writes.
      device_memory: like `memory`, but for all GPUs together; `None` without a GPU.
    """

    seconds_per_step: float
    seconds_per_validation: float
    seconds_to_compile: float
    memory: int
    checkpoint_bytes: int
    device_memory: int | None = None


def measure(
    model: tf_keras.Model,
    train: tf.data.Dataset,
    validation: tf.data.Dataset | None = None,
    *,
    steps: int = 5,
    validation_batches: int = 3,
) -> Pace:
    """Measure a few steps of training and validation, and restore the model and the data afterwards.

    Compiled functions are kept, so that a later `fit` on batches of the same shape does not compile again. Batches are
    made in advance while the first step compiles, so the measured steps hardly wait for them. With several workers, all
    of them must call this function, and each gets its own measurement.

    Args:
      model: a compiled pretrainer.
      train: the data for `fit`, repeated or not.
      validation: the `validation_data` of `fit`, a `tf.data.Dataset` whose length is known.
      steps: training steps to run; the first, which compiles, is not part of `seconds_per_step`.
      validation_batches: number of batches to validate. A dataset without more batches is validated as a whole.

    Returns:
      A `Pace`.

    Raises:
      ValueError: steps below 2, validation_batches below 1, an optimizer of `tf_keras.optimizers.legacy`, or a
        validation dataset without a known length.
    """
    if steps < 2 or validation_batches < 1:
        raise ValueError(
            f"steps must be at least 2 and validation_batches at least 1, not {steps} and {validation_batches}."
        )
    if not hasattr(model.optimizer, "build"):
        raise ValueError(
            f"The variables of a {type(model.optimizer).__name__} of tf_keras.optimizers.legacy cannot be restored. "
            "Use kp.create_optimizer or one of tf_keras.optimizers."
        )
    total = 0 if validation is None else int(validation.cardinality())
    if total < 0:
        raise ValueError("The length of the validation dataset is not known. Pass a dataset from kp.to_tf_dataset.")
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    variables = _variables(model)
    memory_before = _peak_memory()
    with _left_as_it_was(model, [*variables, *step_counters(model)], train, validation) as kept_bytes:
        per_step, compilation = _measure_training(model, train, steps)
        per_validation = 0.0
        if total:
            per_validation, of_validation = _measure_validation(
                model, validation, min(validation_batches, total), total
            )
            compilation += of_validation
        memory = max(memory_before, _peak_memory() - kept_bytes)
    return Pace(per_step, per_validation, compilation, memory, sum(map(_size, variables)), _peak_device_memory())


class _Clock(tf_keras.callbacks.Callback):
    """Records the time at which each batch of a `fit` or an `evaluate` was done."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = perf_counter()
        self.times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.times.append(perf_counter())

    on_test_batch_end = on_train_batch_end


def _measure_training(model: tf_keras.Model, train: tf.data.Dataset, steps: int) -> tuple[float, float]:
    """Return the seconds that a step and the compilation take."""
    clock = _Clock()
    model.fit(train.repeat(), steps_per_epoch=steps, callbacks=[clock], verbose=0)
    per_step = statistics.median(np.diff(clock.times))
    return float(per_step), max(0.0, clock.times[0] - clock.begun - float(per_step))


def _measure_validation(
    model: tf_keras.Model, validation: tf.data.Dataset, count: int, total: int
) -> tuple[float, float]:
    """Return the seconds for `total` batches, extrapolated from `count` of them, and those for the compilation."""
    first = _Clock()
    model.evaluate(validation.take(1), callbacks=[first], verbose=0)
    to_first = perf_counter() - first.begun
    clock = _Clock()
    model.evaluate(validation.take(count), callbacks=[clock], verbose=0)
    seconds = perf_counter() - clock.begun
    begin = clock.times[0] - clock.begun  # the time for the iterator and the first batch, without compilation
    per_batch = float(statistics.median(np.diff(clock.times))) if count > 1 else begin
    return seconds + (total - count) * per_batch, max(0.0, to_first - begin)


@contextlib.contextmanager
def _left_as_it_was(
    model: tf_keras.Model, variables: list[tf.Variable], train: tf.data.Dataset, validation: tf.data.Dataset | None
) -> Iterator[int]:
    """Restore everything that training changes; yields the number of bytes that are kept for this."""
    values = [variable.numpy() for variable in variables]
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    metric_values = [variable.numpy() for variable in metrics]
    batches = [found for found, _ in map(batches_behind, (train, validation)) if found is not None]
    next_steps = [each.next_step for each in batches]
    python, numpy, put_back_tensorflow = random.getstate(), np.random.get_state(), keep_random_state()
    attributes = {name: model.__dict__[name] for name in ("history", "stop_training") if name in model.__dict__}
    try:
        yield sum(value.nbytes for value in values)
    finally:
        for variable, value in zip([*variables, *metrics], [*values, *metric_values], strict=True):
            variable.assign(value)
        for each, next_step in zip(batches, next_steps, strict=True):
            each.next_step = next_step
        random.setstate(python)
        np.random.set_state(numpy)
        put_back_tensorflow()
        for name in ("history", "stop_training"):
            model.__dict__.pop(name, None)
        model.__dict__.update(attributes)


def _variables(model: tf_keras.Model) -> list[tf.Variable]:
    """The variables that `Checkpointing` saves: weights, the optimizer's variables, the loss scale."""
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)  # named: the view does not keep it alive
    found = tf.train.TrackableView(checkpoint).descendants()
    return list({id(each): each for each in found if isinstance(each, tf.Variable)}.values())


def _size(variable: tf.Variable) -> int:
    return int(np.prod(variable.shape)) * variable.dtype.size


def _peak_memory() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _peak_device_memory() -> int | None:
    devices = [device.name.removeprefix("/physical_device:") for device in tf.config.get_visible_devices("GPU")]
    return sum(tf.config.experimental.get_memory_info(device)["peak"] for device in devices) if devices else None
