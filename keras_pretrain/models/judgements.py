"""Measures how well "replaced" and "original" are distinguished: all metrics are computed from a histogram of
logits."""

import tensorflow as tf
import tf_keras

_FINE, _COARSE = 32, 32  # a bin number has two digits, so that a small matrix product counts the bins
_PER_UNIT = 32  # bins per unit of the logit, so they cover -16 to 16; the outermost bins also count logits beyond
_BINS = _FINE * _COARSE


def logit_histogram(logits: tf.Tensor, is_positive: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Count logits by class and bin.

    Args:
      logits: float32; `is_positive`: bool; `weights`: float32, 0 for items that do not count. All have the same shape.

    Returns:
      (2, 1024) float32: negatives and positives. Logits below 0 are in the first half of the bins.
    """
    bins = tf.cast(tf.floor(tf.reshape(logits, (-1,)) * _PER_UNIT), tf.int32) + _BINS // 2
    bins = tf.clip_by_value(bins, 0, _BINS - 1)
    classes = tf.one_hot(tf.cast(tf.reshape(is_positive, (-1,)), tf.int32), 2) * tf.reshape(weights, (-1, 1))
    coarse, fine = tf.one_hot(bins // _FINE, _COARSE), tf.one_hot(bins % _FINE, _FINE)
    counts = tf.einsum("tk,tc,tf->kcf", classes, coarse, fine)
    return tf.reshape(counts, (2, _BINS))


class Figure(tf_keras.metrics.Metric):
    """One of the metrics of `Judgements` under its own name, so that the progress bar shows its value unchanged."""

    def __init__(self, name: str, judgements: "Judgements") -> None:
        super().__init__(name=name)
        self.__dict__["_judgements"] = judgements

    def update_state(self, *args: object, **kwargs: object) -> None:
        """Do nothing, because `Judgements` updates the histogram."""

    def result(self) -> tf.Tensor:
        return self._judgements.result()[self.name]


class Judgements(tf_keras.metrics.Metric):
    """Sums histograms of `logit_histogram`. "Positive" means "replaced"; a logit above 0 is a judgement of
    "replaced"."""

    def __init__(self, name: str = "judgements") -> None:
        super().__init__(name=name)
        self.histogram = self.add_weight(name="histogram", shape=(2, _BINS), initializer="zeros")

    def reset_state(self) -> None:
        self.histogram.assign(tf.zeros_like(self.histogram))

    def update_state(self, histogram: tf.Tensor) -> None:
        self.histogram.assign_add(histogram)

    def result(self) -> dict[str, tf.Tensor]:
        """Compute the metrics from the histogram: float32 scalars, 0 if there is no token to judge.

        - `replaced_accuracy`, `original_accuracy`: the share of the replaced tokens, and of the original ones, that is
          judged correctly;
        - `disc_accuracy`: the mean of these two;
        - `disc_precision`, `disc_recall`: precision and recall of "replaced"; the recall is `replaced_accuracy`;
        - `disc_auc`: the probability that a replaced token has a higher logit than an original one; logits in
          the same bin of the histogram (its width is 1/32) count as equal.
        """
        original, replaced = tf.unstack(tf.convert_to_tensor(self.histogram))
        half = _BINS // 2
        found, false_alarms = tf.reduce_sum(replaced[half:]), tf.reduce_sum(original[half:])
        all_replaced, all_original = tf.reduce_sum(replaced), tf.reduce_sum(original)
        recall = tf.math.divide_no_nan(found, all_replaced)
        specificity = tf.math.divide_no_nan(all_original - false_alarms, all_original)
        share, below = (tf.math.divide_no_nan(replaced, all_replaced), tf.math.divide_no_nan(original, all_original))
        lower = tf.cumsum(below, exclusive=True)
        return {
            "replaced_accuracy": recall,
            "original_accuracy": specificity,
            "disc_accuracy": (recall + specificity) / 2,
            "disc_precision": tf.math.divide_no_nan(found, found + false_alarms),
            "disc_recall": recall,
            "disc_auc": tf.reduce_sum(share * (lower + below / 2)),
        }
