"""AdamW with warm-up and decay, as BERT was trained."""

import tensorflow as tf
import tf_keras

# Variables that weight decay would only hurt (Devlin et al., 2019): scales and shifts, not directions.
_NOT_DECAYED = ["bias", "beta", "gamma", "LayerNorm"]


def create_optimizer(
    *,
    learning_rate: float = 5e-4,
    num_train_steps: int,
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.01,
) -> tf_keras.optimizers.Optimizer:
    """AdamW; the learning rate rises linearly, then falls linearly to 0; gradients are clipped to a global norm of 1.

    Args:
      learning_rate: the peak. 5e-4 suits `tiny` to `small`; BERT-base was trained with 1e-4.
      num_train_steps: when the learning rate reaches 0, in optimizer steps.
      warmup_ratio: share of the steps in which it rises.
      weight_decay: per step, times the learning rate; not for biases and layer norms.

    Raises:
      ValueError: a setting outside its range.

    >>> optimizer = create_optimizer(num_train_steps=1000)
    >>> round(float(optimizer.learning_rate), 9)
    5e-06
    """
    if learning_rate <= 0 or weight_decay < 0:
        raise ValueError(f"learning_rate must be above 0 and weight_decay not below: {learning_rate}, {weight_decay}.")
    schedule = WarmupLinearDecay(learning_rate, num_train_steps, warmup_ratio)
    optimizer = tf_keras.optimizers.AdamW(
        schedule, weight_decay=weight_decay, beta_1=0.9, beta_2=0.999, epsilon=1e-6, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


class WarmupLinearDecay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """From `learning_rate / warmup steps` up to `learning_rate`, then down to 0 at `num_train_steps`, both linearly.

    Raises:
      ValueError: num_train_steps below 1 or warmup_ratio outside [0, 1].
    """

    def __init__(self, learning_rate: float, num_train_steps: int, warmup_ratio: float = 0.1):
        super().__init__()
        if num_train_steps < 1:
            raise ValueError(f"num_train_steps must be at least 1, not {num_train_steps}.")
        if not 0 <= warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio is a share, from 0 to 1, not {warmup_ratio}.")
        self.learning_rate = learning_rate
        self.num_train_steps = num_train_steps
        self.warmup_ratio = warmup_ratio

    def __call__(self, step) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        warmup = max(1.0, round(self.warmup_ratio * self.num_train_steps))
        rising = (step + 1.0) / warmup  # a step at a learning rate of 0 would be a step thrown away
        falling = (self.num_train_steps - step) / max(1.0, self.num_train_steps - warmup)
        return self.learning_rate * tf.clip_by_value(tf.minimum(rising, falling), 0.0, 1.0)

    def get_config(self) -> dict:
        return {
            "learning_rate": self.learning_rate,
            "num_train_steps": self.num_train_steps,
            "warmup_ratio": self.warmup_ratio,
        }
