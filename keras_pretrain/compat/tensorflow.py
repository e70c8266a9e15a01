"""Private names of TensorFlow (2.21)."""

from collections.abc import Callable

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops


def keep_random_state() -> Callable[[], None]:
    """Save the state of `tf.random`; returns a function that restores it."""
    seeds = getattr(context.context(), "_rng", None)  # makes seeds for operations without one
    seeds_state = seeds.getstate() if seeds is not None else None
    generator = stateful_random_ops.global_generator  # None before its first use
    generator_state = generator.state.numpy() if generator is not None else None

    def put_back() -> None:
        if seeds is not None:
            seeds.setstate(seeds_state)
        if generator is not None:
            generator.state.assign(generator_state)

    return put_back


def inputs_of(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """The input datasets of a dataset."""
    return dataset._inputs()
