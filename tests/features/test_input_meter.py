"""Tokens counted by hand, and a wait measured from both sides."""

from threading import Event
from time import perf_counter

import numpy as np
import pytest
import tensorflow as tf

import keras_pretrain as kp
from keras_pretrain.features.input_meter import InputMeter, TokenCount


@pytest.fixture(scope="module")
def batches(sentences, tokenizer):
    features = kp.build_features(sentences, tokenizer, block_size=24)
    return kp.to_tf_dataset(features.select(range(40)), tokenizer, batch_size=8)


def test_the_batches_are_the_same_and_their_tokens_are_counted(batches):
    of_step = [batches.keras_pretrain_batches.batch(step) for step in range(len(batches))]
    meter = InputMeter()
    watched = meter.watch(batches.repeat())
    assert watched.element_spec == batches.element_spec
    assert int(meter.watch(batches).cardinality()) == len(batches)
    for (inputs, labels), (expected_inputs, expected_labels) in zip(watched, of_step, strict=False):
        for name, value in (inputs | labels).items():
            np.testing.assert_array_equal(value, (expected_inputs | expected_labels)[name])
    passed = meter.read()
    taken = len(of_step) + 1  # `zip` has asked for one more before it found the other at its end
    tokens = [int(inputs["attention_mask"].sum()) for inputs, _ in of_step]
    assert passed.positions == taken * 8 * 24
    assert sum(tokens) < passed.tokens < passed.positions


def test_ids_without_a_mask_are_all_tokens():
    meter = InputMeter()
    for _ in meter.watch(tf.data.Dataset.from_tensors({"input_ids": tf.ones((2, 5), tf.int32)})):
        pass
    assert meter.read()[:2] == (10, 10)


def some_work() -> float:
    """Returns the seconds that it took."""
    begun = perf_counter()
    np.sort(np.random.default_rng(0).random(2_000_000))
    return perf_counter() - begun


def test_the_wait_for_the_first_batch_is_what_it_takes():
    """The generator's own account of its work is the least that is waited, the whole loop's time the most."""
    worked = []

    def one():
        worked.append(some_work())
        yield np.zeros((2, 3), np.int32)

    meter = InputMeter()
    begun = perf_counter()
    for _ in meter.watch(tf.data.Dataset.from_generator(one, output_signature=tf.TensorSpec((2, 3), tf.int32))):
        pass
    whole = perf_counter() - begun
    assert 0.99 * sum(worked) < meter.read().seconds_waited < 1.01 * whole


def test_work_between_two_batches_is_no_wait_and_batches_are_made_meanwhile():
    """A dataset that does not end with `prefetch`; the next batch is begun without being asked for."""
    begun_batches = [Event() for _ in range(6)]

    def slow():
        for number in range(6):
            begun_batches[number].set()
            some_work()
            yield np.zeros((2, 3), np.int32)

    meter = InputMeter()
    data = tf.data.Dataset.from_generator(slow, output_signature=tf.TensorSpec((2, 3), tf.int32))
    watched = iter(meter.watch(data))
    next(watched)
    waited, begun, worked = meter.read().seconds_waited, perf_counter(), 0.0
    for number in range(1, 6):
        before = perf_counter()
        assert begun_batches[number].wait(timeout=60)
        some_work()
        worked += perf_counter() - before
        next(watched)
    assert 0 < meter.read().seconds_waited - waited < 1.01 * (perf_counter() - begun) - worked


def test_the_tokens_of_steps_are_counted_from_the_first_look_on(sentences, tokenizer):
    features = kp.build_features(sentences, tokenizer, block_size=32)
    dataset = kp.to_tf_dataset(features, tokenizer, batch_size=8)
    expected = [int(inputs["attention_mask"].numpy().sum()) for inputs, _ in dataset]
    batches = kp.to_tf_dataset(features, tokenizer, batch_size=8).keras_pretrain_batches
    done = 3
    count = TokenCount(batches, lambda: done)
    before = count.read()
    done = 7
    after = count.read()
    assert after.tokens - before.tokens == sum(expected[3:7])
    assert after.positions - before.positions == 4 * 8 * 32
