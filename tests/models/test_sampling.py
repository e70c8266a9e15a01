"""ELECTRA's draws: exact where they can be, statistics where not."""

import numpy as np
import pytest
import tensorflow as tf

from keras_pretrain.models.sampling import choose_positions, log, place, sample_tokens, stream, uniform

SEED = tf.constant([1, 2])


def chosen_mask(candidates, mask_prob, capacity, seed=SEED):
    """Which positions were chosen, as (batch, length) bool, and how often each."""
    positions, is_chosen = (value.numpy() for value in choose_positions(candidates, mask_prob, capacity, seed))
    times = np.zeros(candidates.shape, int)
    for row, (places, flags) in enumerate(zip(positions, is_chosen, strict=True)):
        for place_, flag in zip(places, flags, strict=True):
            times[row, place_] += flag
    return times


def test_random_numbers_are_uniform_and_the_same_under_xla():
    numbers = uniform((500, 400), SEED).numpy()
    assert 0 < numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    np.testing.assert_allclose(np.histogram(numbers, 20, (0, 1))[0] / numbers.size, 1 / 20, atol=0.002)
    assert np.corrcoef(numbers[:, 1:].ravel(), numbers[:, :-1].ravel())[0, 1] == pytest.approx(0, abs=0.01)
    compiled = tf.function(lambda: uniform((500, 400), SEED), jit_compile=True)
    np.testing.assert_array_equal(numbers, compiled())


@pytest.mark.parametrize("compiled", [False, True])
def test_the_logarithm_is_the_logarithm(compiled):
    rng = np.random.default_rng(0)
    near_one = 1 - rng.random(20_000) * 2.0**-20
    ranges = [np.exp(rng.uniform(-80, 80, 20_000)), rng.random(20_000), near_one, [1.0, 2**0.5, 0.5**0.5]]
    values = np.concatenate(ranges).astype(np.float32)
    got = tf.function(log, jit_compile=compiled)(tf.constant(values)).numpy()
    expected = np.log(values.astype(np.float64))
    np.testing.assert_allclose(got, expected, rtol=3e-7, atol=1e-12)


@pytest.mark.parametrize("mask_prob", [0.15, 0.02, 1.0])
def test_each_row_has_its_share_without_replacement(mask_prob):
    rng = np.random.default_rng(0)
    candidates = rng.random((1000, 128)) < rng.random((1000, 1))
    candidates[0] = False
    times = chosen_mask(tf.constant(candidates), mask_prob, 128)
    count = candidates.sum(axis=1)
    assert times.max() == 1
    assert not times[~candidates].any()
    np.testing.assert_array_equal(times.sum(axis=1), np.minimum(np.maximum(1, np.rint(mask_prob * count)), count))


def test_every_candidate_is_as_likely_and_neighbours_are_independent():
    times = chosen_mask(tf.fill((4000, 40), True), 0.15, 6)
    assert times.mean(axis=0).std() < 3 * np.sqrt(0.15 * 0.85 / 4000)
    np.testing.assert_allclose(times.mean(axis=0), 0.15, atol=0.025)
    together = (times[:, 1:] * times[:, :-1]).mean()
    assert together == pytest.approx(6 / 40 * 5 / 39, rel=0.1)


def test_no_row_has_more_than_there_is_room_for():
    assert chosen_mask(tf.fill((10, 40), True), 0.5, 6).sum(axis=1).tolist() == [6] * 10


def test_another_seed_chooses_others():
    first, again, other = (chosen_mask(tf.fill((10, 40), True), 0.15, 6, stream(SEED, number)) for number in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_new_tokens_stand_at_the_chosen_positions_and_nowhere_else():
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 50, (30, 20)).astype(np.int32)
    positions = np.stack([rng.permutation(20)[:6] for _ in range(30)]).astype(np.int32)
    is_chosen = rng.random((30, 6)) < 0.6
    new = rng.integers(50, 99, (30, 6)).astype(np.int32)
    expected = ids.copy()
    for row in range(30):
        for k in range(6):
            if is_chosen[row, k]:
                expected[row, positions[row, k]] = new[row, k]
    np.testing.assert_array_equal(place(tf.constant(ids), positions, is_chosen, new), expected)
    expected[expected >= 50] = 4
    np.testing.assert_array_equal(place(tf.constant(ids), positions, is_chosen, 4), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_from_the_softmax(temperature):
    logits = np.array([2.0, 0.0, -1.0, 1.0, -30.0], np.float32)
    drawn = sample_tokens(tf.constant(np.tile(logits, (200, 500, 1))), temperature, SEED).numpy()
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    share = np.bincount(drawn.ravel(), minlength=5) / drawn.size
    np.testing.assert_allclose(share, expected, atol=4 * np.sqrt(0.25 / drawn.size))
    # One draw says nothing about the next.
    together = np.mean((drawn[:, 1:] == 0) & (drawn[:, :-1] == 0))
    assert together == pytest.approx(expected[0] ** 2, abs=0.01)


def test_towards_zero_the_likeliest_token_is_taken():
    logits = tf.random.stateless_normal((20, 30, 50), SEED)
    np.testing.assert_array_equal(sample_tokens(logits, 1e-6, SEED), tf.argmax(logits, axis=-1))


def test_no_gradient_flows_through_the_draw():
    logits = tf.Variable(tf.random.stateless_normal((4, 5), SEED))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(sample_tokens(logits, 1.0, SEED), tf.float32))
    assert tape.gradient(total, logits) is None
