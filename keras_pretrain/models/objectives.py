"""Parts of a training step that every objective shares: labels, losses, their metrics, and a batch in parts."""

import tensorflow as tf
import tf_keras

from keras_pretrain.features.masking import IGNORED


def masked_crossentropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cross-entropy and hits over the labels that are not -100.

    Args:
      logits: (..., classes).
      labels: (...) int32.

    Returns:
      `(loss, correct, count)`, float32 scalars: the sum of the losses, how often the label has the highest logit, and
      how many labels there are.
    """
    logits = tf.cast(logits, tf.float32)
    counted = labels != IGNORED
    targets = tf.where(counted, labels, 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    hits = tf.cast(tf.argmax(logits, axis=-1, output_type=targets.dtype) == targets, tf.float32)
    weights = tf.cast(counted, tf.float32)
    return tf.reduce_sum(losses * weights), tf.reduce_sum(hits * weights), tf.reduce_sum(weights)


def gather_labels(labels: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The first `count` labels of each row that are not -100, and where they stand.

    Args:
      labels: (batch, length) int32.

    Returns:
      `(positions, labels)`, each (batch, count) int32; where a row has fewer, position 0 and label -100.
    """
    flags = labels != IGNORED
    rank = tf.cumsum(tf.cast(flags, tf.int32), axis=1)  # 1 at the first label, 2 at the second
    is_nth = flags[:, tf.newaxis] & (rank[:, tf.newaxis] == tf.range(1, count + 1)[:, tf.newaxis])
    positions = tf.reduce_sum(tf.cast(is_nth, tf.int32) * tf.range(labels.shape[1]), axis=-1)
    found = tf.reduce_any(is_nth, axis=-1)
    return positions, tf.where(found, tf.gather(labels, positions, batch_dims=1), IGNORED)


def count_labels(labels: tf.Tensor) -> tf.Tensor:
    """How many labels are not -100, a float32 scalar."""
    return tf.reduce_sum(tf.cast(labels != IGNORED, tf.float32))


def accumulate(part, batch: dict, steps: int):
    """Sum `part(number, batch)`, a nest of tensors, over `steps` equal parts of a batch, in one loop.

    Raises:
      ValueError: the batch cannot be parted so, or its size is not known.
    """
    size = batch["input_ids"].shape[0]
    if size is None:
        raise ValueError("gradient_accumulation_steps needs batches of one fixed size; this one's is not known.")
    if size % steps:
        raise ValueError(f"A batch of {size} cannot be computed in {steps} equal parts (gradient_accumulation_steps).")
    parts = {name: tf.reshape(value, (steps, size // steps, *value.shape[1:])) for name, value in batch.items()}

    def compute(number):
        return part(number, {name: value[number] for name, value in parts.items()})

    def body(number, total):
        return number + 1, tf.nest.map_structure(tf.add, total, compute(number))

    # The first part stands before the loop: its shapes are the loop's.
    return tf.while_loop(lambda number, _: number < steps, body, (tf.constant(1), compute(tf.constant(0))))[1]


class TotalLoss(tf_keras.metrics.Metric):
    """The weighted sum of other metrics; being one itself, the progress bar shows it as it is and does not average it
    again.

    Args:
      parts: metrics with their weights.
    """

    def __init__(self, parts: list[tuple[tf_keras.metrics.Metric, float]]):
        super().__init__(name="loss")
        self.__dict__["_parts"] = parts

    def update_state(self, *args, **kwargs):
        """The parts are brought up to date on their own."""

    def result(self) -> tf.Tensor:
        return tf.add_n([weight * part.result() for part, weight in self._parts])
