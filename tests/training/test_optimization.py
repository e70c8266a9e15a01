"""The optimizer: its schedule by hand, its update against numpy, what it leaves alone."""

import numpy as np
import pytest
import tensorflow as tf

import keras_pretrain as kp
from keras_pretrain.training.optimization import WarmupLinearDecay


def test_the_learning_rate_rises_and_falls_linearly():
    schedule = WarmupLinearDecay(1.0, num_train_steps=100, warmup_ratio=0.1)
    values = [float(schedule(step)) for step in range(101)]
    assert values[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert values[9] == pytest.approx(1.0)
    assert values[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 101)])


@pytest.mark.parametrize(("steps", "ratio"), [(1, 0.1), (1, 1.0), (5, 0.0), (5, 1.0)])
def test_short_runs_stay_within_the_peak(steps, ratio):
    schedule = WarmupLinearDecay(1.0, steps, ratio)
    values = np.array([float(schedule(step)) for step in range(steps)])
    assert np.isfinite(values).all()
    assert (values > 0).all()
    assert values.max() <= 1.0


def test_the_schedule_can_be_made_again_from_its_config():
    schedule = WarmupLinearDecay(1e-3, 100, 0.2)
    assert float(WarmupLinearDecay.from_config(schedule.get_config())(7)) == float(schedule(7))


def test_an_update_equals_adamw_by_hand():
    optimizer = kp.create_optimizer(learning_rate=0.1, num_train_steps=10, warmup_ratio=0, weight_decay=0.5)
    kernel, bias = tf.Variable([2.0, -3.0], name="dense/kernel"), tf.Variable([1.0], name="dense/bias")
    gradients = [np.array([0.3, -0.1]), np.array([0.2])]
    optimizer.apply_gradients([(tf.constant(g, tf.float32), v) for g, v in zip(gradients, (kernel, bias), strict=True)])
    # First step: the bias-corrected moments are g and g², the global norm is below 1, the decay is lr * 0.5 * weight.
    for variable, before, gradient, decay in (
        (kernel, np.array([2.0, -3.0]), gradients[0], 0.5),
        (bias, np.array([1.0]), gradients[1], 0.0),
    ):
        expected = before - 0.1 * decay * before - 0.1 * gradient / (np.abs(gradient) + 1e-6)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4)


def test_gradients_are_clipped_to_a_global_norm_of_one():
    assert kp.create_optimizer(num_train_steps=10).global_clipnorm == 1.0


def test_biases_and_layer_norms_are_not_decayed(tokenizer):
    model = kp.BertPretrainer.from_size("tiny", tokenizer)
    model.build_in_name_scope()
    optimizer = kp.create_optimizer(num_train_steps=10)
    decayed = {variable.name for variable in model.trainable_variables if optimizer._use_weight_decay(variable)}
    others = {variable.name for variable in model.trainable_variables} - decayed
    assert {name.rsplit("/", 1)[1] for name in decayed} == {"kernel:0", "weight:0", "embeddings:0"}
    assert {name.rsplit("/", 1)[1] for name in others} == {"bias:0", "gamma:0", "beta:0"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train_steps": 0}, "num_train_steps must be at least 1, not 0"),
        ({"num_train_steps": 10, "warmup_ratio": 2}, "warmup_ratio is a share, from 0 to 1, not 2"),
        ({"num_train_steps": 10, "learning_rate": 0}, "learning_rate must be above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        kp.create_optimizer(**settings)
