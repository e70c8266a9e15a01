"""Losses over labels, some of which do not count."""

import numpy as np
import pytest
import tensorflow as tf

from keras_pretrain.models.objectives import masked_crossentropy


@pytest.mark.parametrize("jit_compile", [False, True])
def test_crossentropy_is_tensorflows_own(jit_compile):
    logits = tf.Variable(tf.random.stateless_normal((2, 6, 50), (1, 2), stddev=5.0) + 80.0)
    best = int(tf.argmax(logits[0, 2]))  # one hit at least
    labels = tf.constant([[3, -100, best, 0, -100, 7], [5, 5, -100, 12, 31, -100]])
    rows = tf.where(labels != -100)

    def fast():
        return masked_crossentropy(logits, labels)

    def plain():
        chosen, targets = tf.gather_nd(logits, rows), tf.gather_nd(labels, rows)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, chosen)
        hits = tf.argmax(chosen, axis=-1, output_type=tf.int32) == targets
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(hits, tf.float32)), tf.constant(8.0)

    def run(function):
        with tf.GradientTape() as tape:
            results = function()
        return results, tape.gradient(results[0], logits)

    results, gradient = tf.function(lambda: run(fast), jit_compile=jit_compile)()
    expected, expected_gradient = run(plain)
    assert float(results[1]) >= 1
    np.testing.assert_allclose(results, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_a_label_that_shares_the_highest_logit_is_a_hit():
    _, correct, _ = masked_crossentropy(tf.constant([[2.0, 2.0, 1.0]] * 3), tf.constant([0, 1, 2]))
    assert float(correct) == 2


def test_crossentropy_over_nothing_is_zero():
    loss, correct, count = masked_crossentropy(tf.ones((3, 4)), tf.fill((3,), -100))
    assert (float(loss), float(correct), float(count)) == (0.0, 0.0, 0.0)
