"""The optimizer: its schedules by hand, its updates against numpy, what it leaves alone."""

import math

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig, ElectraConfig, TFBertForSequenceClassification, TFElectraForSequenceClassification

import keras_pretrain as kp
from keras_pretrain.training.optimization import WarmupSchedule


def test_the_learning_rate_rises_and_falls_linearly():
    schedule = WarmupSchedule(1.0, num_train_steps=100, warmup_ratio=0.1)
    values = [float(schedule(step)) for step in range(101)]
    assert values[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert values[9] == pytest.approx(1.0)
    assert values[10:] == pytest.approx([(100 - step) / 90 for step in range(10, 101)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", lambda done: 1 - done),
        ("cosine", lambda done: (1 + math.cos(math.pi * done)) / 2),
        ("constant", lambda done: 1.0),
    ],
)
def test_a_schedule_is_chosen_by_name_and_begins_after_the_warmup(name, expected):
    schedule = kp.create_optimizer(learning_rate=2.0, num_train_steps=100, schedule=name)._learning_rate
    values = [float(schedule(step)) for step in range(121)]
    assert values[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    done = [min(1, (step - 10) / 90) for step in range(10, 121)]
    assert values[10:] == pytest.approx([2 * expected(share) for share in done], abs=1e-6)


@pytest.mark.parametrize(("steps", "ratio"), [(1, 0.1), (1, 1.0), (5, 0.0), (5, 1.0)])
def test_short_runs_stay_within_the_peak(steps, ratio):
    schedule = WarmupSchedule(1.0, steps, ratio)
    values = np.array([float(schedule(step)) for step in range(steps)])
    assert np.isfinite(values).all()
    assert (values > 0).all()
    assert values.max() <= 1.0


def test_the_schedule_can_be_made_again_from_its_config():
    schedule = WarmupSchedule(1e-3, 100, 0.2, "cosine")
    assert float(WarmupSchedule.from_config(schedule.get_config())(70)) == float(schedule(70))


def test_an_update_equals_adamw_by_hand():
    optimizer = kp.create_optimizer(learning_rate=0.1, num_train_steps=10, warmup_ratio=0, weight_decay=0.5)
    kernel, bias = tf.Variable([2.0, -3.0], name="dense/kernel"), tf.Variable([1.0], name="dense/bias")
    gradients = [np.array([0.3, -1e-9]), np.array([0.2])]  # a small one is not lost
    optimizer.apply_gradients([(tf.constant(g, tf.float32), v) for g, v in zip(gradients, (kernel, bias), strict=True)])
    epsilon = 1e-10 / math.sqrt(1 - 0.999)  # Keras adds it before the correction
    # First step: the bias-corrected moments are g and g², the global norm is below 1, the decay is lr * 0.5 * weight.
    for variable, before, gradient, decay in (
        (kernel, np.array([2.0, -3.0]), gradients[0], 0.5),
        (bias, np.array([1.0]), gradients[1], 0.0),
    ):
        expected = before - 0.1 * decay * before - 0.1 * gradient / (np.abs(gradient) + epsilon)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4)


LAYERED = ("bert/embeddings/weight", "bert/encoder/layer_._0/a/kernel", "bert/encoder/layer_._1/a/kernel",
           "bert/encoder/layer_._1/a/bias", "bert/pooler/dense/kernel", "classifier/kernel")  # fmt: skip


def adamw_by_hand(weights, gradients, rates, decays):
    """Steps of AdamW after clipping to a global norm of 1, in float64; a rate and a decay for each weight and step."""
    weights = [weight.astype(np.float64) for weight in weights]
    first, second = ([np.zeros_like(weight) for weight in weights] for _ in range(2))
    for step, (of_step, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        norm = math.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in of_step))
        for i, gradient in enumerate(of_step):
            gradient = gradient / max(1.0, norm)
            first[i] += 0.1 * (gradient - first[i])
            second[i] += 0.001 * (gradient**2 - second[i])
            scale = math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            direction = scale * first[i] / (np.sqrt(second[i]) + 1e-10)
            weights[i] -= rate[i] * (decays[i] * weights[i] + direction)
    return weights


@pytest.mark.parametrize("compile", [lambda apply: apply, tf.function, tf.function(jit_compile=True)])
def test_layerwise_updates_equal_adamw_by_hand(compile):
    """Gradients large enough to be clipped, so that the moments are not those of each variable by itself."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(3, 2)).astype(np.float32) for _ in LAYERED]
    gradients = [[rng.normal(size=(3, 2)).astype(np.float32) for _ in LAYERED] for _ in range(4)]
    settings = {"learning_rate": 0.1, "num_train_steps": 5, "warmup_ratio": 0.4, "weight_decay": 0.5}
    optimizer = kp.create_optimizer(**settings, layerwise_decay=0.5)
    variables = [tf.Variable(value, name=name) for value, name in zip(start, LAYERED, strict=True)]
    optimizer.build(variables)

    def apply(values):
        optimizer.apply_gradients(zip(values, variables, strict=True))

    apply = compile(apply)
    for of_step in gradients:
        apply([tf.constant(gradient) for gradient in of_step])
    factors = np.array([1 / 8, 1 / 4, 1 / 2, 1 / 2, 1, 1])
    rates = [0.1 * share * factors for share in (1 / 2, 1, 1, 2 / 3)]
    expected = adamw_by_hand(start, gradients, rates, [0.5, 0.5, 0.5, 0, 0.5, 0.5])
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4, atol=1e-5)
    assert float(optimizer.learning_rate) == pytest.approx(0.1 * 2 / 3)  # nobody's factor is left behind


def test_a_layerwise_decay_near_1_is_nearly_none():
    """With sparse gradients of an embedding, too."""
    results = []
    for decay in (1.0, 1 - 1e-7):
        optimizer = kp.create_optimizer(learning_rate=0.1, num_train_steps=9, layerwise_decay=decay)
        variables = [tf.Variable(tf.reshape(tf.range(6.0), (3, 2)), name=name) for name in LAYERED[:2]]
        sparse = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([2, 2]), tf.constant([3, 2]))
        optimizer.apply_gradients([(sparse, variables[0]), (tf.ones((3, 2)), variables[1])])
        results.append([variable.numpy() for variable in variables])
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "config", "deepest"),
    [
        (TFBertForSequenceClassification, BertConfig, {"embeddings"}),
        (TFElectraForSequenceClassification, ElectraConfig, {"embeddings", "embeddings_project"}),
    ],
)
def test_layers_are_found_by_the_names_of_real_models(kind, config, deepest):
    widths = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 8}
    model = kind(config(vocab_size=20, **widths))
    model.build_in_name_scope()
    optimizer = kp.create_optimizer(num_train_steps=10, layerwise_decay=0.5)
    optimizer.build(model.trainable_variables)
    factors = {}
    for variable in model.trainable_variables:
        factors.setdefault(optimizer.factor(variable), set()).add(variable.name.split("/")[2])
    assert factors.pop(1 / 8) == deepest
    assert factors.pop(1 / 4) == factors.pop(1 / 2) == {"encoder"}
    assert set(factors) == {1.0}


def test_a_layerwise_optimizer_can_be_made_again_from_its_config():
    optimizer = kp.create_optimizer(num_train_steps=10, layerwise_decay=0.9, schedule="cosine")
    again = tf.keras.optimizers.deserialize(tf.keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert again.get_config()["layerwise_decay"] == 0.9


def test_variables_without_layers_are_refused():
    optimizer = kp.create_optimizer(num_train_steps=10, layerwise_decay=0.9)
    with pytest.raises(ValueError, match=r"layerwise_decay .*numbered layers.*dense/kernel.*layerwise_decay at 1"):
        optimizer.build([tf.Variable(1.0, name="dense/kernel")])


def test_the_defaults_and_what_replaces_them():
    optimizer = kp.create_optimizer(num_train_steps=10)
    moments = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-10}
    assert {name: optimizer.get_config()[name] for name in moments} == moments
    assert optimizer.global_clipnorm == 1.0
    moments = {"beta_1": 0.8, "beta_2": 0.98, "epsilon": 1e-6}
    optimizer = kp.create_optimizer(num_train_steps=10, clipnorm=None, **moments)
    assert {name: optimizer.get_config()[name] for name in moments} == moments
    assert optimizer.global_clipnorm is None


@pytest.mark.parametrize(
    ("settings", "peak"),
    [
        ({}, 5e-4),
        ({"size": "base"}, 1e-4),
        ({"size": "mini"}, 1e-3),
        ({"size": "small", "kind": "electra"}, 1e-4),
        ({"size": "base", "learning_rate": 0.5}, 0.5),
    ],
)
def test_the_learning_rate_follows_the_size(settings, peak):
    assert kp.create_optimizer(num_train_steps=10, **settings)._learning_rate.learning_rate == peak


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
        ({"num_train_steps": 0}, "num_train_steps .*at least 1, not 0"),
        ({"num_train_steps": 10, "warmup_ratio": 2}, "warmup_ratio .*from 0 to 1, not 2"),
        ({"num_train_steps": 10, "learning_rate": 0}, "learning_rate .*above 0 .*not 0"),
        ({"num_train_steps": 10, "learning_rate": math.nan}, "learning_rate .*above 0 .*not nan"),
        ({"num_train_steps": 10, "learning_rate": math.inf}, "learning_rate .*finite, not inf"),
        ({"num_train_steps": 10, "weight_decay": -1}, "weight_decay .*0 or above.*not -1"),
        ({"num_train_steps": 10, "weight_decay": math.nan}, "weight_decay .*0 or above.*not nan"),
        ({"num_train_steps": 10, "beta_1": 1}, "beta_1 .*at least 0 and below 1.*not 1"),
        ({"num_train_steps": 10, "beta_2": math.nan}, "beta_2 .*at least 0 and below 1.*not nan"),
        ({"num_train_steps": 10, "epsilon": 0}, "epsilon .*above 0.*not 0"),
        ({"num_train_steps": 10, "clipnorm": 0}, "clipnorm .*above 0, or None.*not 0"),
        ({"num_train_steps": 10, "clipnorm": math.inf}, "clipnorm .*above 0, or None.*not inf"),
        ({"num_train_steps": 10, "warmup_ratio": math.nan}, "warmup_ratio .*from 0 to 1, not nan"),
        ({"num_train_steps": 10, "size": "huge"}, "size .*tiny, mini, .*'bert', not 'huge'"),
        ({"num_train_steps": 10, "size": "huge", "kind": "electra"}, "size .*tiny, mini, .*'electra', not 'huge'"),
        ({"num_train_steps": 10, "size": "mini", "kind": "gpt"}, "kind .*bert, electra, not 'gpt'"),
        ({"num_train_steps": 10, "schedule": "cosin"}, "schedule 'cosin'.*linear, cosine, constant"),
        ({"num_train_steps": 10, "layerwise_decay": 0}, "layerwise_decay .*above 0 and at most 1, not 0"),
        ({"num_train_steps": 10, "layerwise_decay": 1.1}, "layerwise_decay .*above 0 and at most 1, not 1.1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        kp.create_optimizer(**settings)
