"""Private names of legacy Keras (tf_keras 2.21)."""

import contextlib
import random
from collections.abc import Iterator

import tensorflow as tf
import tf_keras
from tf_keras.src import backend


def uses_weight_decay(optimizer: tf_keras.optimizers.Optimizer, variable: tf.Variable) -> bool:
    """Whether an optimizer decays a variable. No public function tells what `exclude_from_weight_decay` excluded."""
    return optimizer._use_weight_decay(variable)


def step_counters(model: tf_keras.Model) -> list[tf.Variable]:
    """The counters of training, evaluation and prediction batches. They are not among the model's variables."""
    return [model._train_counter, model._test_counter, model._predict_counter]


@contextlib.contextmanager
def initializers_drawing_from(seed: int) -> Iterator[None]:
    """In the block, initializers without their own seed use this one, as after `set_random_seed`. Unlike
    `set_random_seed`, it does not change the generators of Keras, TensorFlow, numpy and Python."""
    before = getattr(backend._SEED_GENERATOR, "generator", None)
    backend._SEED_GENERATOR.generator = random.Random(seed)
    try:
        yield
    finally:
        backend._SEED_GENERATOR.generator = before


class AdamWByVariable(tf_keras.optimizers.AdamW):
    """AdamW that enters `changing(variable)` each time it decays or updates a variable.

    A subclass overrides `changing` to give a variable another learning rate.
    """

    def changing(self, variable: tf.Variable) -> contextlib.AbstractContextManager:
        """The context in which AdamW reads its settings for `variable` and updates `variable`."""
        return contextlib.nullcontext()

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        with self.changing(variable):
            super().update_step(gradient, variable)

    def _apply_weight_decay(self, variables: list[tf.Variable]) -> None:
        for variable in variables:
            with self.changing(variable):
                super()._apply_weight_decay([variable])


class TextProgressBar(tf_keras.callbacks.ProgbarLogger):
    """Keras' progress bar, but with texts as values. Keras itself shows averages with four decimals.

    If `fit` is given a `ProgbarLogger` as a callback, it does not add its own. A subclass defines `show_step` and
    `show_epoch`, which are called in `fit` with `verbose=1` and end in `draw`. Outside `fit`, Keras shows its own bar.
    """

    target: int | None

    def __init__(self) -> None:
        super().__init__(count_mode="steps")

    @property
    def is_in_fit(self) -> bool:
        """Whether `fit` is running; an evaluation is then its validation."""
        return self._called_in_fit

    def start_bar(self) -> None:
        """Begin a new bar, `self.progbar`."""
        self._reset_progbar()
        self._maybe_init_progbar()

    def show_step(self, logs: dict) -> None:
        """Called after each training step."""
        raise NotImplementedError

    def show_epoch(self, logs: dict) -> None:
        """Called after each epoch and its validation."""
        raise NotImplementedError

    def draw(self, texts: dict[str, str], *, is_last: bool = False) -> None:
        """Draw the bar.

        Args:
          texts: maps each label to its value; the bar shows them in this order.
          is_last: the bar is complete and the next output begins on a new line.
        """
        self.progbar._values_order, self.progbar._values = list(texts), dict(texts)
        self.progbar.update(self.target if is_last else self.seen, finalize=is_last)

    def _batch_update_progbar(self, batch: int, logs: dict | None = None) -> None:
        if self.verbose != 1 or not self.is_in_fit:
            super()._batch_update_progbar(batch, logs)
            return
        self.seen = batch + 1
        self.show_step(logs or {})

    def _finalize_progbar(self, logs: dict, counter: tf.Variable) -> None:
        if self.verbose != 1 or not self.is_in_fit:
            super()._finalize_progbar(logs, counter)
            return
        if self.target is None:  # not known in the first epoch, if the dataset has no known length
            self.target = self.progbar.target = self.seen
        self.show_epoch(logs)
