"""Private names of legacy Keras (tf_keras 2.21)."""

import tensorflow as tf


def uses_weight_decay(optimizer, variable: tf.Variable) -> bool:
    """Whether an optimizer decays a variable; `exclude_from_weight_decay` has no public reader."""
    return optimizer._use_weight_decay(variable)


def step_counters(model) -> list[tf.Variable]:
    """What Keras counts the batches of training, evaluation and prediction with; not among the model's variables."""
    return [model._train_counter, model._test_counter, model._predict_counter]
