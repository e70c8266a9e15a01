"""`choose_precision`: chooses the fastest precision in which this machine computes correctly."""

import functools
import logging
from time import perf_counter

import tensorflow as tf
import tf_keras

from keras_pretrain.models.products import KernelProducts, add_kernel_gradients, affine, computing_in, permute, product

logger = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16", "mixed_bfloat16", "mixed_float16")
_LEAST_SPEEDUP = 1.3  # with a lower gain, bfloat16 would not be worth its loss of accuracy
_TOLERANCE = 0.02  # relative error; rounding the operands causes about 0.004
_BATCH, _LENGTH, _HEADS, _DEPTH = 16, 128, 8, 64  # sizes in the speed test


def choose_precision(precision: str = "auto") -> str:
    """Choose a precision for training and evaluation.

    Args:
      precision: `"auto"`, or one of the results below, which is then returned. `"bfloat16"` is tested first.

    Returns:
      - `"float32"`;
      - `"bfloat16"`: the operands of matrix products are rounded to bfloat16; everything else is float32. It
        suits processors with AMX: `compile(precision="bfloat16")`. `"auto"` chooses it if a test shows that products
        are correct and at least 1.3 times as fast.
      - `"mixed_bfloat16"`: Keras' policy of this name, for GPUs. `"auto"` chooses it if all GPUs have compute
        capability 8.0 or above.
      - `"mixed_float16"`: Keras' policy of this name, for older GPUs. `"auto"` never chooses it.

    Raises:
      ValueError: an unknown precision, or `"bfloat16"` on a machine that does not compute it correctly.

    >>> choose_precision("float32")
    'float32'
    """
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"precision must be one of auto, {', '.join(PRECISIONS)}, not {precision!r}.")
    gpus = tf.config.get_visible_devices("GPU")
    if precision == "auto" and gpus:
        is_recent = all(_compute_capability(gpu) >= (8, 0) for gpu in gpus)
        return "mixed_bfloat16" if is_recent else "float32"
    if precision not in ("auto", "bfloat16"):
        return precision
    problem, speedup = _compare_precisions()
    if precision == "bfloat16":
        if problem:
            raise ValueError(f"precision='bfloat16' cannot be used on this machine: {problem}. Choose 'float32'.")
        return precision
    if problem or speedup < _LEAST_SPEEDUP:
        logger.info("Precision: float32. %s.", problem or f"In a test, bfloat16 was {speedup:.1f} times as fast")
        return "float32"
    logger.info(
        "Precision: bfloat16 for the operands of matrix products, float32 for all else. In a test, this was %.1f times "
        "as fast as float32.",
        speedup,
    )
    return "bfloat16"


def precision_of_products(precision: str) -> str:
    """Choose `"float32"` or `"bfloat16"` for products of float32 values, under the current Keras policy.

    Args:
      precision: one of the two, or `"auto"`.

    Raises:
      ValueError: as for `choose_precision`; or `precision` is a policy of Keras, which must be set before the model is
        made.
    """
    policy = tf_keras.mixed_precision.global_policy().name
    if precision.startswith("mixed_"):
        raise ValueError(
            f"{precision!r} is a policy of Keras: leave precision out of `compile`, and call "
            f"tf.keras.mixed_precision.set_global_policy({precision!r}) before the model is made."
        )
    chosen = choose_precision(precision)
    if not chosen.startswith("mixed_"):
        return chosen
    if chosen != policy:
        logger.info("This GPU is faster under tf.keras.mixed_precision.set_global_policy(%r).", chosen)
    return "float32"


@functools.cache
def _compare_precisions() -> tuple[str | None, float]:
    """Return what is wrong with bfloat16 on this machine (`None` if nothing is), and how many times as fast as float32
    bfloat16 is."""
    try:
        (expected, slow), (got, fast) = (_time_pass(precision) for precision in ("float32", "bfloat16"))
    except tf.errors.OpError as error:
        return f"Products in bfloat16 fail here ({error.message[:200]})", 0.0
    for one, other in zip(got, expected, strict=True):
        difference = float(tf.norm(one - other) / tf.norm(other))
        if not difference < _TOLERANCE:  # true for NaN, too
            return f"Products in bfloat16 are wrong here (relative error {difference:.2g})", 0.0
    return None, slow / fast


def _time_pass(precision: str) -> tuple[list[tf.Tensor], float]:
    """Return the gradients of a single-layer model with respect to its input values and its kernel, and the seconds
    that one pass takes. The model has every kind of product that a training step has."""
    width = _HEADS * _DEPTH
    values = tf.random.stateless_normal((_BATCH * _LENGTH, width), (0, 1))
    # Tensors instead of variables, because a strategy would distribute variables.
    kernel = tf.random.stateless_normal((width, width), (0, 2), stddev=width**-0.5)
    bias = tf.zeros((width,))

    @tf.function(jit_compile=True, autograph=False)
    def differentiate(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, dict]:
        products = KernelProducts([kernel])
        arithmetic = computing_in(precision, opaque_true=values[0, 0] > -1e9, collected=products)
        with tf.GradientTape() as tape, arithmetic:
            tape.watch([values, kernel])
            heads = tf.reshape(affine(values, [kernel], [bias])[0], (_BATCH, _LENGTH, _HEADS, _DEPTH))
            heads = permute(heads, (0, 2, 1, 3))
            weights = tf.nn.softmax(product(heads, heads, transpose_b=True) / _DEPTH**0.5)
            context = permute(product(weights, heads), (0, 2, 1, 3))
            (outputs,) = affine(tf.reshape(context, (-1, width)), [kernel], [bias], transpose=True)
            loss = tf.reduce_sum(tf.square(outputs))
        by_values, by_kernel, *by_outputs = tape.gradient(loss, [values, kernel, *products.outputs])
        return by_values, by_kernel, products.factors(by_outputs)

    def compute() -> list[tf.Tensor]:
        by_values, by_kernel, factors = differentiate(values)
        return [by_values, *add_kernel_gradients([by_kernel], factors)]

    result, seconds = compute(), []
    for _ in range(5):
        begun = perf_counter()
        compute()[1].numpy()
        seconds.append(perf_counter() - begun)
    return result, min(seconds)


def _compute_capability(gpu: tf.config.PhysicalDevice) -> tuple[int, int]:
    return tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
