"""`InputMeter`: what passes from the data to the training step, and how long the step waits for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_pretrain.features.batching import Batches


class Passed(NamedTuple):
    """What a meter has counted since it was made."""

    tokens: float  # those that are attended to
    positions: float  # those and padding
    seconds_waited: float


class InputMeter:
    """Counts tokens and the seconds that whoever takes batches from a dataset waits for them.

    Two clocks are zipped around the dataset, outside its prefetching, so that each request reads the one, takes the
    batch and reads the other, all inside the call that waits. Nothing of it runs in Python; it took
    0.6 ms a batch on two busy cores.

    tf.data prefetches on its own where a dataset does not end with it. Around the clocks, that would time the thread
    that works ahead instead of the step that waits; so the prefetching is put inside, and tf.data's turned off.
    """

    measures_waiting = True

    def __init__(self) -> None:
        with tf.device("CPU:0"):
            self._passed = tf.Variable(tf.zeros(3, tf.float64), trainable=False)

    def watch(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same batches, made ahead, and counted as they are taken.

        Args:
          dataset: its elements, or the first part of each, have `input_ids` and, where there is padding,
            `attention_mask`, or are packed rows; or are ids, all of them tokens.
        """
        clock = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: tf.timestamp())
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False
        prefetched = dataset.prefetch(tf.data.AUTOTUNE)
        return tf.data.Dataset.zip(clock, prefetched, clock).map(self._count).with_options(options)

    def read(self) -> Passed:
        return Passed(*self._passed.numpy().tolist())

    def _count(self, asked: tf.Tensor, batch: Any, given: tf.Tensor) -> Any:
        inputs = batch[0] if isinstance(batch, tuple) else batch
        inputs = inputs if isinstance(inputs, dict) else {"input_ids": inputs}
        # Of examples that share rows, each has a number of its own, and padding is 0.
        is_token = next((inputs[name] for name in ("example_ids", "attention_mask") if name in inputs), None)
        positions = tf.cast(tf.size(inputs["input_ids"] if is_token is None else is_token), tf.float64)
        tokens = positions if is_token is None else tf.cast(tf.math.count_nonzero(is_token), tf.float64)
        with tf.control_dependencies([self._passed.assign_add([tokens, positions, given - asked])]):
            return tf.nest.map_structure(tf.identity, batch)


class TokenCount:
    """The tokens of the steps done, where several replicas take their parts of the batches and no one place sees all.

    Args:
      batches: of the whole, at the step that comes first.
      steps_done: since then; what is done when it is first read is not counted.
    """

    measures_waiting = False

    def __init__(self, batches: Batches, steps_done: Callable[[], int]) -> None:
        self._batches, self._steps_done = batches, steps_done
        self._first, self._tokens = batches.next_step, 0
        self._counted: int | None = None

    def read(self) -> Passed:
        done = self._steps_done()
        if self._counted is None:  # a run that is resumed begins here
            self._counted = done
        for step in range(self._counted, done):
            self._tokens += self._batches.tokens(self._first + step)
        self._counted = done
        block_size = self._batches.collator.block_size
        return Passed(float(self._tokens), float(done * self._batches.batch_size * block_size), 0.0)
