"""The training-time forward pass gives the stock models' numbers, and their gradients."""

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig, ElectraConfig, TFBertModel, TFElectraModel

from keras_pretrain.models.encoder import Dropout, encode, select

BATCH, LENGTH, VOCABULARY = 3, 12, 50
SIZES = {
    "small": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    "deeper": {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 40},
}


@pytest.fixture(scope="module")
def inputs():
    """Rows of 12, 7 and 3 real tokens."""
    rng = np.random.default_rng(0)
    lengths = np.array([12, 7, 3])
    return {
        "input_ids": tf.constant(rng.integers(0, VOCABULARY, (BATCH, LENGTH)), tf.int32),
        "token_type_ids": tf.constant(np.arange(LENGTH) >= lengths[:, None] // 2, tf.int32),
        "attention_mask": tf.constant(np.arange(LENGTH) < lengths[:, None], tf.int32),
    }


def make(kind, size, activation="gelu"):
    tf.keras.utils.set_random_seed(0)
    common = {"vocab_size": VOCABULARY, "max_position_embeddings": 20, "hidden_act": activation, **SIZES[size]}
    if kind == "bert":
        model = TFBertModel(BertConfig(**common), add_pooling_layer=False)
    else:  # a discriminator's embeddings are as wide as its layers, a generator's are projected
        width = common["hidden_size"] if kind == "discriminator" else common["hidden_size"] // 2
        model = TFElectraModel(ElectraConfig(embedding_size=width, **common))
    model.build_in_name_scope()
    rng = np.random.default_rng(1)  # born 0 and 1, biases and layer norms could be mixed up unseen
    model.set_weights([weight + rng.normal(0, 0.05, weight.shape) for weight in model.get_weights()])
    return model, getattr(model, "bert", None) or model.electra


def loss_and_gradients(model, forward, weights):
    """Of a random linear function of the hidden states, which no error can hide from."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(forward(), tf.float32) * weights)
    return loss, [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, model.trainable_variables)]


def assert_close(got, expected, tolerance):
    """Relative to the largest of all gradients: a key's bias has a gradient of 0 but for rounding."""
    scale = max(float(tf.reduce_max(tf.abs(value))) for value in expected)
    for value, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["bert", "generator", "discriminator"])
def test_everywhere_the_loss_and_every_gradient_equal_the_stock_models(kind, size, inputs):
    model, main = make(kind, size)
    weights = np.random.default_rng(2).normal(size=(BATCH, LENGTH, SIZES[size]["hidden_size"])).astype(np.float32)
    weights *= inputs["attention_mask"].numpy()[..., None]
    expected = loss_and_gradients(model, lambda: model(inputs).last_hidden_state, weights)
    got = loss_and_gradients(model, lambda: encode(main, inputs), weights)
    assert float(got[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    assert_close(got[1], expected[1], 1e-5)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_at_chosen_positions_too_with_any_activation(activation, inputs):
    model, main = make("bert", "small", activation)
    positions = tf.constant([[0, 3, 11], [0, 2, 2], [0, 1, 0]])  # with repetitions, as rows with few labels have
    weights = np.random.default_rng(2).normal(size=(BATCH, 3, 16)).astype(np.float32)
    expected = loss_and_gradients(
        model, lambda: tf.gather(model(inputs).last_hidden_state, positions, batch_dims=1), weights
    )
    compiled = tf.function(lambda: encode(main, inputs, positions), jit_compile=True)
    got = loss_and_gradients(model, compiled, weights)
    assert float(got[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    assert_close(got[1], expected[1], 1e-5)


def test_bfloat16_is_close(inputs):
    model, _ = make("bert", "small")
    expected = model(inputs).last_hidden_state
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        _, narrow = make("bert", "small")
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    got = encode(narrow, inputs)
    assert got.dtype == tf.bfloat16
    real = inputs["attention_mask"].numpy().astype(bool)
    error = np.linalg.norm(tf.cast(got, tf.float32)[real] - expected[real]) / np.linalg.norm(expected[real])
    assert error < 2e-2


def test_select_is_a_gather(inputs):
    values = tf.random.stateless_normal((BATCH, LENGTH, 5), seed=(1, 2))
    positions = tf.constant([[3, 0], [11, 11], [5, 7]])
    np.testing.assert_array_equal(select(values, positions), tf.gather(values, positions, batch_dims=1))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    ones = tf.ones((400, 501))
    dropped = Dropout(tf.constant([1, 2]))(ones, rate).numpy()
    assert np.mean(dropped == 0) == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / ones.shape.num_elements()))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / (1 - rate))}
    assert dropped.mean() == pytest.approx(1, abs=0.01)
    # Neither rows nor columns go together.
    for axis, count in ((0, 400), (1, 501)):
        assert (dropped == 0).mean(axis=axis).std() == pytest.approx(np.sqrt(rate * (1 - rate) / count), rel=0.15)


def test_no_mask_resembles_itself_or_another_however_it_is_shifted():
    """All distances at once: the correlation is a product of Fourier transforms, that of exclusive ors one of
    Walsh-Hadamard transforms, which tell a hash whose keys only rearrange it."""
    dropout = Dropout(tf.constant([1, 2]))
    count = 2**18
    first, second = (np.where(dropout(tf.ones(count), 0.5).numpy() == 0, -1.0, 1.0) for _ in range(2))
    # Six standard deviations; of a mask with itself, each pair counts twice.
    limit = 6 * np.sqrt(2 / count)
    for other in (first, second):
        by_distance = np.fft.irfft(np.fft.rfft(first) * np.conj(np.fft.rfft(other)), count) / count
        by_bits = walsh_hadamard(walsh_hadamard(first) * walsh_hadamard(other)) / count**2
        assert by_distance[0] == pytest.approx(by_bits[0])
        if other is first:
            by_distance[0] = by_bits[0] = 0
        assert max(np.abs(by_distance).max(), np.abs(by_bits).max()) < limit


def walsh_hadamard(values):
    width = 1
    while width < len(values):
        left, right = values.reshape(-1, 2, width).swapaxes(0, 1)
        values = np.stack([left + right, left - right], axis=1).ravel()
        width *= 2
    return values


def test_dropout_masks_follow_from_seed_step_part_and_call():
    def masks(seed, part=0):
        dropout = Dropout(tf.constant(seed), part)
        return [dropout(tf.ones((50, 50)), 0.5).numpy() for _ in range(2)]

    first, second = masks([1, 2])
    for same, again in zip((first, second), masks([1, 2]), strict=True):
        np.testing.assert_array_equal(same, again)
    others = [second, masks([1, 3])[0], masks([2, 2])[0], masks([1, 2], part=1)[0]]
    for other in others:
        assert np.mean(first == other) == pytest.approx(0.5, abs=0.05)


def test_a_rate_of_zero_drops_nothing():
    ones = tf.ones((3, 3))
    assert Dropout(tf.constant([1, 2]))(ones, 0.0) is ones
