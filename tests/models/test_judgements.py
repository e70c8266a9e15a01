"""Every figure of the histogram against counting by hand."""

import numpy as np
import pytest
import tensorflow as tf

from keras_pretrain.models.judgements import Judgements, logit_histogram


def test_the_figures_equal_those_counted_by_hand_over_several_batches():
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 3, (4, 10, 30)).astype(np.float32)
    logits[0, 0, :4] = [-40, 40, -0.001, 0.001]  # beyond the bins, and close to the line
    is_replaced = rng.random(logits.shape) < 1 / (1 + np.exp(2 - logits))
    counts = rng.random(logits.shape) < 0.8
    metric = Judgements()
    for batch in zip(logits, is_replaced, counts.astype(np.float32), strict=True):
        metric.update_state(logit_histogram(*map(tf.constant, batch)))
    got = {name: float(value) for name, value in metric.result().items()}

    logits, is_replaced = logits[counts], is_replaced[counts]
    judged = logits > 0
    recall, specificity = judged[is_replaced].mean(), 1 - judged[~is_replaced].mean()
    positive, negative = logits[is_replaced][:, None], logits[~is_replaced][None]
    assert got == {
        "replaced_accuracy": pytest.approx(recall),
        "original_accuracy": pytest.approx(specificity),
        "disc_accuracy": pytest.approx((recall + specificity) / 2),
        "disc_precision": pytest.approx(is_replaced[judged].mean()),
        "disc_recall": pytest.approx(recall),
        "disc_auc": pytest.approx(np.mean((positive > negative) + 0.5 * (positive == negative)), abs=1e-3),
    }


@pytest.mark.parametrize(("replaced", "auc"), [([True, True], 0.0), ([False, False], 0.0), ([False, True], 1.0)])
def test_one_class_alone_gives_no_nan(replaced, auc):
    metric = Judgements()
    metric.update_state(logit_histogram(tf.constant([-1.0, 1.0]), tf.constant(replaced), tf.ones(2)))
    assert float(metric.result()["disc_auc"]) == auc
    assert all(np.isfinite(value) for value in metric.result().values())


def test_it_starts_anew_each_epoch():
    metric = Judgements()
    metric.update_state(logit_histogram(tf.constant([1.0]), tf.constant([True]), tf.ones(1)))
    metric.reset_state()
    assert float(metric.result()["disc_recall"]) == 0
