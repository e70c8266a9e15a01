"""AdamW with warm-up and decay, as BERT was trained; for fine-tuning, slower the deeper the layer."""

import contextlib
import math
import re

import tensorflow as tf
import tf_keras

# BERT's 1e-6 is above many gradients of a deep network that has just begun: clipped, those of the attention in
# ELECTRA-small's generator are 5e-9 (root mean square), in its discriminator 1e-6, and neither learns where to look.
# With 1e-6 (at 5e-4) its AUC of "replaced" was 0.56 after 180 steps of 16, with 1e-12 (at 1e-4) 0.66 after 160.
# Rounding errors of gradients that are 0, as those of the keys' biases, are 3e-13 at most in float32, and stay below.
_EPSILON = 1e-10
# Variables that weight decay would only hurt (Devlin et al., 2019): scales and shifts, not directions.
_NOT_DECAYED = ["bias", "beta", "gamma", "LayerNorm"]
# After the warm-up: the share of the peak, given the share of the steps that are left to do.
_SHAPES = {
    "linear": lambda left: left,
    "cosine": lambda left: 0.5 - 0.5 * tf.cos(math.pi * left),
    "constant": tf.ones_like,
}
SCHEDULES = tuple(_SHAPES)
# Where 🤗's encoders of the BERT family keep their variables.
_LAYER = re.compile(r"/layer_\._(\d+)/")
_EMBEDDINGS = re.compile(r"(^|/)embeddings(_project)?/")


def create_optimizer(
    *,
    learning_rate: float = 5e-4,
    num_train_steps: int,
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.01,
    schedule: str = "linear",
    layerwise_decay: float = 1.0,
) -> tf_keras.optimizers.Optimizer:
    """AdamW; the learning rate rises linearly, then follows `schedule`; gradients are clipped to a global norm of 1.

    Args:
      learning_rate: the peak. 5e-4 suits a small BERT; `base` was trained with 1e-4, which also suits ELECTRA.
      num_train_steps: of the whole run, in optimizer steps.
      warmup_ratio: share of the steps in which the learning rate rises.
      weight_decay: per step, times the learning rate; not for biases and layer norms.
      schedule: `"linear"`, as BERT's, or `"cosine"`, both down to 0 at `num_train_steps`; or `"constant"`.
      layerwise_decay: for fine-tuning, by how much the learning rate is multiplied for each layer down from the head
        (see `LayerwiseAdamW`); ELECTRA was fine-tuned with 0.8 (small, base) and 0.9 (large). 1 leaves it out.

    Raises:
      ValueError: a setting outside its range.

    >>> optimizer = create_optimizer(num_train_steps=1000)
    >>> round(float(optimizer.learning_rate), 9)
    5e-06
    """
    if learning_rate <= 0 or weight_decay < 0:
        raise ValueError(f"learning_rate must be above 0 and weight_decay not below: {learning_rate}, {weight_decay}.")
    settings = {
        "weight_decay": weight_decay,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": _EPSILON,
        "global_clipnorm": 1.0,
    }
    rate = WarmupSchedule(learning_rate, num_train_steps, warmup_ratio, schedule)
    if layerwise_decay == 1:
        optimizer = tf_keras.optimizers.AdamW(rate, **settings)
    else:
        optimizer = LayerwiseAdamW(rate, layerwise_decay=layerwise_decay, **settings)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


@tf_keras.saving.register_keras_serializable("keras_pretrain")
class WarmupSchedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """From `learning_rate / warmup steps` up to `learning_rate`, linearly, then what `schedule` says.

    Args:
      learning_rate: the peak.
      num_train_steps: when `"linear"` and `"cosine"` (half a wave) reach 0.
      warmup_ratio: share of these steps in which it rises; one step at least.
      schedule: `"linear"`, `"cosine"` or `"constant"`.

    Raises:
      ValueError: num_train_steps below 1, warmup_ratio outside [0, 1], or no such schedule.
    """

    def __init__(self, learning_rate: float, num_train_steps: int, warmup_ratio: float = 0.1, schedule: str = "linear"):
        super().__init__()
        if num_train_steps < 1:
            raise ValueError(f"num_train_steps must be at least 1, not {num_train_steps}.")
        if not 0 <= warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio is a share, from 0 to 1, not {warmup_ratio}.")
        if schedule not in SCHEDULES:
            raise ValueError(f"There is no schedule {schedule!r}; there are {', '.join(SCHEDULES)}.")
        self.learning_rate = learning_rate
        self.num_train_steps = num_train_steps
        self.warmup_ratio = warmup_ratio
        self.schedule = schedule

    def __call__(self, step) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        warmup = max(1.0, round(self.warmup_ratio * self.num_train_steps))
        rising = (step + 1.0) / warmup  # a step at a learning rate of 0 would be a step thrown away
        left = (self.num_train_steps - step) / max(1.0, self.num_train_steps - warmup)
        return self.learning_rate * tf.minimum(rising, _SHAPES[self.schedule](tf.clip_by_value(left, 0.0, 1.0)))

    def get_config(self) -> dict:
        return {
            "learning_rate": self.learning_rate,
            "num_train_steps": self.num_train_steps,
            "warmup_ratio": self.warmup_ratio,
            "schedule": self.schedule,
        }


@tf_keras.saving.register_keras_serializable("keras_pretrain")
class LayerwiseAdamW(tf_keras.optimizers.AdamW):
    """AdamW whose learning rate, and with it the weight decay, is smaller the deeper a variable lies.

    What a pretrained encoder has learned lowest down is the most general and should change least (Howard and Ruder,
    2018; ELECTRA's fine-tuning). With L layers, a head and pooler get the learning rate, the uppermost layer
    `layerwise_decay` times that, the lowest `layerwise_decay ** L` and the embeddings `layerwise_decay ** (L + 1)`.
    Moments and clipping are AdamW's own.

    Args:
      layerwise_decay: above 0, at most 1.
      learning_rate, **settings: as for `tf_keras.optimizers.AdamW`.

    Raises:
      ValueError: layerwise_decay out of range; when it is built, variables that are not of a 🤗 encoder with numbered
        layers.
    """

    _factor = 1.0  # of the learning rate, for the variable at hand

    def __init__(self, learning_rate=0.001, *, layerwise_decay: float = 1.0, **settings):
        if not 0 < layerwise_decay <= 1:
            raise ValueError(f"layerwise_decay must be above 0 and at most 1, not {layerwise_decay}.")
        super().__init__(learning_rate, **settings)
        self.layerwise_decay = layerwise_decay

    @property
    def learning_rate(self):
        rate = super().learning_rate
        return rate if self._factor == 1.0 else rate * self._factor

    @learning_rate.setter
    def learning_rate(self, value):
        tf_keras.optimizers.AdamW.learning_rate.fset(self, value)

    def build(self, var_list):
        numbers = [int(found[1]) for variable in var_list if (found := _LAYER.search(variable.name))]
        if not numbers:
            raise ValueError(
                "layerwise_decay needs the variables of an encoder with numbered layers, as 🤗 names them "
                f"(.../layer_._0/...); these are {', '.join(variable.name for variable in var_list[:5])} and so on. "
                "Leave layerwise_decay at 1."
            )
        self._layers = max(numbers) + 1
        super().build(var_list)

    def factor(self, variable: tf.Variable) -> float:
        """What the learning rate is multiplied by for a variable."""
        if found := _LAYER.search(variable.name):
            return self.layerwise_decay ** (self._layers - int(found[1]))
        return self.layerwise_decay ** (self._layers + 1) if _EMBEDDINGS.search(variable.name) else 1.0

    def update_step(self, gradient, variable):
        with self._slowed(variable):
            super().update_step(gradient, variable)

    def _apply_weight_decay(self, variables):
        for variable in variables:
            with self._slowed(variable):
                super()._apply_weight_decay([variable])

    @contextlib.contextmanager
    def _slowed(self, variable):
        """AdamW asks `learning_rate` for each variable anew; this is its answer for one of them."""
        self._factor = self.factor(variable)
        try:
            yield
        finally:
            self._factor = 1.0

    def get_config(self) -> dict:
        return super().get_config() | {"layerwise_decay": self.layerwise_decay}
