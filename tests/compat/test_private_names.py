"""The private names in `keras_pretrain.compat` are still there and still mean what they meant."""

import tensorflow as tf

from keras_pretrain.compat.tensorflow import keep_random_state
from keras_pretrain.compat.tf_keras import step_counters, uses_weight_decay


def test_variables_left_out_of_weight_decay_are_known():
    optimizer = tf.keras.optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    kernel, bias = tf.Variable(1.0, name="kernel"), tf.Variable(1.0, name="bias")
    optimizer.build([kernel, bias])
    assert uses_weight_decay(optimizer, kernel)
    assert not uses_weight_decay(optimizer, bias)


def test_the_counters_count_batches():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    data = tf.data.Dataset.from_tensors((tf.ones((1, 1)), tf.ones((1, 1)))).repeat(2)
    model.fit(data, verbose=0)
    model.evaluate(data, steps=1, verbose=0)
    assert [int(counter) for counter in step_counters(model)] == [2, 1, 0]


def test_the_random_state_is_put_back():
    tf.random.set_seed(1)
    tf.random.get_global_generator().uniform(())
    put_back = keep_random_state()

    def draw():
        return tf.compat.v1.get_seed(None), float(tf.random.get_global_generator().uniform(()))

    first = draw()
    assert draw() != first
    put_back()
    assert draw() == first
