"""Makes AdamW optimizers with warm-up and decay, as in BERT's training. For fine-tuning, lower layers can have a
smaller learning rate."""

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras

from keras_pretrain.compat.tf_keras import AdamWByVariable
from keras_pretrain.models.sizes import ELECTRA_LEARNING_RATES, LEARNING_RATES

# Adam's epsilon. BERT's 1e-6 is larger than many gradients at the start of training. In ELECTRA-small, the root mean
# square of the clipped gradients of the attention is 5e-9 in the generator and 1e-6 in the discriminator, so with 1e-6
# neither network would learn where to attend. With 1e-6 (learning rate 5e-4), the AUC of "replaced" was 0.56 after 180
# steps with batches of 16. With 1e-12 (learning rate 1e-4), it was 0.66 after 160 steps. Rounding errors of gradients
# that are 0, such as those of the keys' biases, are below 3e-13 in float32.
_EPSILON = 1e-10
_LEARNING_RATE = 5e-4
_RATES = {"bert": LEARNING_RATES, "electra": ELECTRA_LEARNING_RATES}
# Variables without weight decay, as in BERT (Devlin et al., 2019).
_NOT_DECAYED = ["bias", "beta", "gamma", "LayerNorm"]
# After the warm-up, a schedule computes the factor on the peak learning rate from the share of the steps that are left.
_SHAPES = {
    "linear": lambda left: left,
    "cosine": lambda left: 0.5 - 0.5 * tf.cos(math.pi * left),
    "constant": tf.ones_like,
}
SCHEDULES = tuple(_SHAPES)
# Names of variables in 🤗's encoders of the BERT family.
_LAYER = re.compile(r"/layer_\._(\d+)/")
_EMBEDDINGS = re.compile(r"(^|/)embeddings(_project)?/")


def create_optimizer(
    *,
    num_train_steps: int,
    learning_rate: float | None = None,
    size: str | None = None,
    kind: str = "bert",
    warmup_ratio: float = 0.1,
    schedule: str = "linear",
    weight_decay: float = 0.01,
    layerwise_decay: float = 1.0,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = _EPSILON,
    clipnorm: float | None = 1.0,
) -> tf_keras.optimizers.Optimizer:
    """Make an AdamW with a linear warm-up followed by the schedule. Gradients are clipped by their global norm.

    Args:
      num_train_steps: number of optimizer steps of the whole run.
      learning_rate: the peak. Default: the rate of the `size`, or without a size 5e-4, which suits a small BERT and is
        too high for larger ones.
      size: the model's size, as for `from_size`; determines the default learning rate (`models.sizes`).
      kind: the kind of model, `"bert"` or `"electra"`, for the size.
      warmup_ratio: share of the steps in which the learning rate rises.
      schedule: the schedule after the warm-up: `"linear"` (BERT's) or `"cosine"`, which both reach 0 at
        `num_train_steps`, or `"constant"`.
      weight_decay: weight decay per step, multiplied by the learning rate. Biases and layer norms have none.
      layerwise_decay: for fine-tuning, the factor by which the learning rate decreases with each lower layer (see
        `LayerwiseAdamW`). ELECTRA was fine-tuned with 0.8 (small, base) and 0.9 (large). 1 turns it off.
      beta_1, beta_2: decay rates of the two moments.
      epsilon: the constant added to the root of the second moment. The default is below BERT's 1e-6, which is
        larger than many gradients at the start of training.
      clipnorm: the maximum global norm of the gradients; `None` turns clipping off.

    Raises:
      ValueError: a setting outside its range, or an unknown size.

    >>> optimizer = create_optimizer(num_train_steps=1000)
    >>> round(float(optimizer.learning_rate), 9)
    5e-06
    """
    if learning_rate is None:
        learning_rate = _LEARNING_RATE if size is None else _rate_of_size(size, kind)
    for name, value, is_right, range_ in (
        ("learning_rate", learning_rate, learning_rate > 0, "above 0"),
        ("weight_decay", weight_decay, weight_decay >= 0, "0 or above"),
        ("beta_1", beta_1, 0 <= beta_1 < 1, "at least 0 and below 1"),
        ("beta_2", beta_2, 0 <= beta_2 < 1, "at least 0 and below 1"),
        ("epsilon", epsilon, epsilon > 0, "above 0"),
        ("clipnorm", clipnorm, clipnorm is None or clipnorm > 0, "above 0, or None"),
    ):
        if not is_right or (value is not None and not math.isfinite(value)):
            raise ValueError(f"{name} must be {range_} and finite, not {value}.")
    settings = {
        "weight_decay": weight_decay,
        "beta_1": beta_1,
        "beta_2": beta_2,
        "epsilon": epsilon,
        "global_clipnorm": clipnorm,
    }
    rate = WarmupSchedule(learning_rate, num_train_steps, warmup_ratio, schedule)
    if layerwise_decay == 1:
        optimizer = tf_keras.optimizers.AdamW(rate, **settings)
    else:
        optimizer = LayerwiseAdamW(rate, layerwise_decay=layerwise_decay, **settings)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def _rate_of_size(size: str, kind: str) -> float:
    if kind not in _RATES:
        raise ValueError(f"kind must be one of {', '.join(_RATES)}, not {kind!r}.")
    if size not in _RATES[kind]:
        raise ValueError(f"size must be one of {', '.join(_RATES[kind])} for {kind!r}, not {size!r}.")
    return _RATES[kind][size]


@tf_keras.saving.register_keras_serializable("keras_pretrain")
class WarmupSchedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from `learning_rate / warm-up steps` to `learning_rate`, then follows `schedule`.

    Args:
      learning_rate: the peak.
      num_train_steps: the step at which `"linear"` and `"cosine"` (half a wave) reach 0.
      warmup_ratio: share of these steps in which the rate rises; at least one step.
      schedule: `"linear"`, `"cosine"` or `"constant"`.

    Raises:
      ValueError: num_train_steps below 1, warmup_ratio outside [0, 1], or no such schedule.
    """

    def __init__(
        self, learning_rate: float, num_train_steps: int, warmup_ratio: float = 0.1, schedule: str = "linear"
    ) -> None:
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

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        warmup = max(1.0, round(self.warmup_ratio * self.num_train_steps))
        rising = (step + 1.0) / warmup  # a step with a learning rate of 0 would be wasted
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
class LayerwiseAdamW(AdamWByVariable):
    """AdamW with a smaller learning rate, and therefore a smaller weight decay, for lower layers.

    The lowest layers of a pretrained encoder are the most general and should change least (Howard and Ruder, 2018;
    ELECTRA's fine-tuning). With L layers, the factor on the learning rate is 1 for a head and pooler, `layerwise_decay`
    for the top layer, `layerwise_decay ** L` for the lowest layer and `layerwise_decay ** (L + 1)` for the embeddings.
    Moments and clipping are AdamW's own.

    Args:
      layerwise_decay: the factor for each lower layer, above 0 and at most 1.
      learning_rate, **settings: as for `tf_keras.optimizers.AdamW`.

    Raises:
      ValueError: layerwise_decay is out of range; or, when the optimizer is built, the variables do not belong to a 🤗
        encoder with numbered layers.
    """

    _factor = 1.0  # factor on the learning rate of the variable that is being updated

    def __init__(
        self,
        learning_rate: float | tf_keras.optimizers.schedules.LearningRateSchedule = 0.001,
        *,
        layerwise_decay: float = 1.0,
        **settings: Any,
    ) -> None:
        if not 0 < layerwise_decay <= 1:
            raise ValueError(f"layerwise_decay must be above 0 and at most 1, not {layerwise_decay}.")
        super().__init__(learning_rate, **settings)
        self.layerwise_decay = layerwise_decay

    @property
    def learning_rate(self) -> tf.Tensor:
        rate = super().learning_rate
        return rate if self._factor == 1.0 else rate * self._factor

    @learning_rate.setter
    def learning_rate(self, value: float | tf_keras.optimizers.schedules.LearningRateSchedule) -> None:
        AdamWByVariable.learning_rate.fset(self, value)

    def build(self, var_list: list[tf.Variable]) -> None:
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
        """The factor on the learning rate for a variable."""
        if found := _LAYER.search(variable.name):
            return self.layerwise_decay ** (self._layers - int(found[1]))
        return self.layerwise_decay ** (self._layers + 1) if _EMBEDDINGS.search(variable.name) else 1.0

    @contextlib.contextmanager
    def changing(self, variable: tf.Variable) -> Iterator[None]:
        """Set the factor while AdamW reads `learning_rate` for `variable`."""
        self._factor = self.factor(variable)
        try:
            yield
        finally:
            self._factor = 1.0

    def get_config(self) -> dict:
        return super().get_config() | {"layerwise_decay": self.layerwise_decay}
