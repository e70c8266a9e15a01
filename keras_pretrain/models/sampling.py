"""Makes the random draws of ELECTRA: the tokens to hide, and the tokens that the generator puts in their place.

All draws depend only on a seed and on the other arguments. They use Philox, which is cheap under XLA.
"""

import tensorflow as tf


def stream(seed: tf.Tensor, *numbers: tf.Tensor | int) -> tf.Tensor:
    """Derive a (2,) int32 seed from another seed and one or more int32 numbers."""
    for number in numbers:
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int32), alg="philox")
    return seed


def uniform(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw random numbers between 0 and 1, both excluded, as float32 with 24 random bits. Unlike those of
    `tf.random.stateless_uniform`, they are the same with and without XLA."""
    bits = tf.random.stateless_uniform(shape, seed, None, None, tf.uint32, alg="philox")
    high = tf.cast(tf.bitcast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.int32), tf.float32)
    return tf.minimum((high + 0.5) * 2.0**-24, 1 - 2.0**-24)


def choose_positions(
    candidates: tf.Tensor, mask_prob: float, capacity: int, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Choose a share `mask_prob` of each row's candidates without replacement. Their number is rounded. It is at least
    one, if the row has a candidate and `mask_prob` is above 0, and at most `capacity`.

    Args:
      candidates: (batch, length) bool.
      capacity: the maximum number of chosen positions in a row; static.
      seed: (2,) int32.

    Returns:
      `(positions, is_chosen)`, (batch, capacity) int32 and bool. All positions of a row differ. Only positions with
      `is_chosen` count.
    """
    count = tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1)
    wanted = tf.cast(tf.round(mask_prob * tf.cast(count, tf.float32)), tf.int32)
    wanted = tf.minimum(tf.maximum(wanted, 1 if mask_prob > 0 else 0), tf.minimum(count, capacity))
    scores = uniform(tf.shape(candidates), seed)
    _, positions = tf.math.top_k(tf.where(candidates, scores, -1.0), capacity)
    return positions, tf.range(capacity) < wanted[:, tf.newaxis]


def place(ids: tf.Tensor, positions: tf.Tensor, is_chosen: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    """Return `ids` with `new` at the chosen positions.

    Args:
      ids: (batch, length) int32.
      positions, is_chosen: from `choose_positions`.
      new: (batch, capacity) int32, or one number.
    """
    hits = (positions[:, :, tf.newaxis] == tf.range(ids.shape[1])) & is_chosen[:, :, tf.newaxis]
    new = tf.broadcast_to(new, tf.shape(positions))
    placed = tf.reduce_sum(tf.where(hits, new[:, :, tf.newaxis], 0), axis=1)  # at most one hit each: positions differ
    return tf.where(tf.reduce_any(hits, axis=1), placed, ids)


def sample_tokens(logits: tf.Tensor, temperature: float, seed: tf.Tensor) -> tf.Tensor:
    """Draw from `softmax(logits / temperature)` by Gumbel-max, without gradient.

    Args:
      logits: (..., vocabulary), of any float dtype; the computation is in float32.
      temperature: above 0; near 0, the likeliest token is always drawn.
      seed: (2,) int32.

    Returns:
      (...) int32.
    """
    logits = tf.stop_gradient(tf.cast(logits, tf.float32))
    gumbel = -log(-log(uniform(tf.shape(logits), seed)))
    return tf.argmax(logits / temperature + gumbel, axis=-1, output_type=tf.int32)


def log(values: tf.Tensor) -> tf.Tensor:
    """Compute the natural logarithm of normal float32 numbers above 0, with a relative error of 3e-7.

    It uses the exponent and a series for the mantissa, which XLA compiles to vector instructions. XLA's own
    logarithm computes one number after the other on a CPU: it took 130 of the 145 ms of a draw from 16 × 19 × 25,000
    logits.
    """
    bits = tf.bitcast(values, tf.int32)
    # Halve values above the square root of 2, so that the series is evaluated near 1.
    exponent = tf.bitwise.right_shift(bits - 0x3F3504F3, 23)
    mantissa = tf.bitcast(bits - tf.bitwise.left_shift(exponent, 23), tf.float32)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = 1.0 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square / 9)))
    return tf.cast(exponent, tf.float32) * 0.6931471805599453 + 2.0 * ratio * series
