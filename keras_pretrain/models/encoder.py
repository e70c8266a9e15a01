"""Computes the forward pass of a BERT or ELECTRA encoder in a training step, with the variables of the 🤗 model.

The 🤗 layers hold all weights. This module replaces only their arithmetic, and is written for XLA. It computes Q, K
and V in one product, keeps the hidden states of all tokens in one matrix, and computes the last layer only at the
positions that a head reads.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_pretrain.compat.transformers import activation_named
from keras_pretrain.models.products import affine, one_hot_product, permute, product

if TYPE_CHECKING:
    import tf_keras
    from transformers import PretrainedConfig

_PADDING_SCORE = -10_000.0  # the value that stock models add to the attention scores of padding

# A `Dropout`, or a function that returns its values unchanged.
Drop = Callable[[tf.Tensor, float], tf.Tensor]


class Dropout:
    """Dropout whose masks depend only on the seed, the number of the part and the order of calls.

    A hash of an element's position decides whether it is kept. The hash takes three multiplications, which XLA fuses
    into the surrounding arithmetic, both forward and backward, so that no mask is written to memory. On two CPU cores a
    step took no longer than without dropout; with bytes from Philox it took 5% longer, and with XLA's default generator
    (Threefry) dropout cost more than the matrix products.

    Args:
      seed: (2,) int32 tensor, which differs between steps.
      part: the number of the part, if a batch is computed in several parts.
    """

    def __init__(self, seed: tf.Tensor, part: tf.Tensor | int = 0) -> None:
        keys = tf.random.experimental.stateless_fold_in(seed, tf.cast(part, tf.int32), alg="philox")
        self._keys = tf.unstack(tf.bitcast(keys, tf.uint32))
        self._calls = 0

    def __call__(self, values: tf.Tensor, rate: float) -> tf.Tensor:
        """Set each of `values` to 0 with probability `rate`, and scale the others up; any shape, any float dtype."""
        if rate == 0:
            return values
        self._calls += 1
        places = tf.reshape(tf.range(tf.size(values)), tf.shape(values))
        keep = self._hash(tf.cast(places, tf.uint32)) >= tf.constant(round(rate * 2**32), tf.uint32)
        return tf.where(keep, values * tf.constant(1 / (1 - rate), values.dtype), tf.zeros((), values.dtype))

    def _hash(self, places: tf.Tensor) -> tf.Tensor:
        """Hash uint32 to uint32, with another function for each seed, part and call. The high bits of the result are
        more random than the low bits.

        A key is added before each of two rounds. With a single key, the mask of one call would be a permutation of
        another call's mask.
        """
        first, second = (_mix(_mix(key) + tf.constant(self._calls, tf.uint32)) for key in self._keys)
        return _round(_mix(places + first) + second, 16, 0x7FEB352D)


def _mix(words: tf.Tensor) -> tf.Tensor:
    """lowbias32 without its last shift: a bijection of uint32 in which each bit of the argument changes about half of
    the result's bits (Wellons, 2018, "Prospecting for Hash Functions")."""
    return _round(_round(words, 16, 0x7FEB352D), 15, 0x846CA68B)


def _round(words: tf.Tensor, shift: int, factor: int) -> tf.Tensor:
    shifted = tf.bitwise.right_shift(words, tf.constant(shift, tf.uint32))
    return tf.bitwise.bitwise_xor(words, shifted) * tf.constant(factor, tf.uint32)


def encode(
    encoder: "tf_keras.layers.Layer", inputs: dict, positions: tf.Tensor | None = None, dropout: Dropout | None = None
) -> tf.Tensor:
    """Compute the hidden states of the last layer.

    Args:
      encoder: the main layer of a 🤗 TensorFlow model, `model.bert` or `model.electra`.
      inputs: `input_ids`, `token_type_ids`, `attention_mask`, each (batch, length) int32. The length must be static.
        The batch size need not be, because Keras may not know it. If several examples share a row, also `example_ids`
        and `position_ids`: tokens attend only to tokens of their own example.
      positions: (batch, chosen) int32, the positions at which the last layer is needed. Default: all. Queries, output
        and feed-forward of the last layer are computed only there.
      dropout: a `Dropout`; `None` for evaluation.

    Returns:
      (batch, length, hidden); with `positions`, (batch, chosen, hidden). The dtype is the layers' compute dtype.
    """
    config = encoder.config
    dropout = dropout or (lambda values, rate: values)
    hidden = _embed(encoder, inputs, dropout)
    length = inputs["input_ids"].shape[1]
    for layer in encoder.encoder.layer[:-1]:
        hidden = _layer(layer, hidden, length, None, _scores_mask(inputs), dropout, config)
    mask = _scores_mask(inputs, positions)
    hidden = _layer(encoder.encoder.layer[-1], hidden, length, positions, mask, dropout, config)
    return tf.reshape(hidden, (-1, length if positions is None else positions.shape[1], hidden.shape[-1]))


def _scores_mask(inputs: dict, positions: tf.Tensor | None = None) -> tf.Tensor:
    """Return the mask to add to attention scores, float32: (batch, 1, queries, length) for packed rows, else (batch, 1,
    1, length).

    Args:
      positions: (batch, chosen), the positions of the queries. Default: all.
    """
    if "example_ids" not in inputs:
        is_seen = inputs["attention_mask"][:, tf.newaxis]
        is_seen = tf.cast(is_seen, tf.float32)
    else:
        example = inputs["example_ids"]
        asking = example if positions is None else tf.gather(example, positions, batch_dims=1)
        is_seen = tf.cast(asking[:, :, tf.newaxis] == example[:, tf.newaxis], tf.float32)
    return ((1.0 - is_seen) * _PADDING_SCORE)[:, tf.newaxis]


def as_rows(values: tf.Tensor) -> tf.Tensor:
    """Reshape (..., width) to (rows, width).

    The gradients of biases and scales sum over rows. XLA on a CPU takes 0.4 ms for the sum over the rows of a matrix of
    2,048 × 512, but 1.3 ms for the same sum over the first two of three axes.
    """
    return tf.reshape(values, (-1, values.shape[-1]))


def select(values: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Select `values`, (batch, length, width), at `positions`, (batch, chosen), without rounding.

    Returns:
      (batch, chosen, width).
    """
    return one_hot_product(tf.one_hot(positions, values.shape[1], dtype=values.dtype), values)


def dense(layer: "tf_keras.layers.Layer", values: tf.Tensor) -> tf.Tensor:
    """Apply a Keras `Dense` without its activation, (rows, inputs) → (rows, outputs)."""
    return affine(values, [layer.kernel], [layer.bias])[0]


def layer_norm(layer: "tf_keras.layers.Layer", values: tf.Tensor) -> tf.Tensor:
    """Apply a Keras `LayerNormalization` to the last axis. It computes in float32 and returns the dtype of `values`."""
    wide = tf.cast(values, tf.float32)
    mean = tf.reduce_mean(wide, axis=-1, keepdims=True)
    centred = wide - mean
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    normal = centred * tf.math.rsqrt(variance + layer.epsilon)
    return tf.cast(normal * tf.cast(layer.gamma, tf.float32) + tf.cast(layer.beta, tf.float32), values.dtype)


def activation(name: str | Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """The activation that a config names."""
    if name == "gelu_new":  # the tanh form; 🤗's version stores its constants as variables
        return lambda values: tf.nn.gelu(values, approximate=True)
    return activation_named(name) if isinstance(name, str) else name


def _embed(encoder: "tf_keras.layers.Layer", inputs: dict, dropout: Drop) -> tf.Tensor:
    """Compute the encoder's input, (batch * length, hidden)."""
    embeddings, config = encoder.embeddings, encoder.config
    length = inputs["input_ids"].shape[1]
    values = tf.gather(embeddings.weight, inputs["input_ids"])
    # The lookup of token types is a product with a one-hot matrix, because its gradient is then a product, too. This is
    # cheap, because there are about two types.
    types = as_rows(tf.one_hot(inputs["token_type_ids"], config.type_vocab_size, dtype=values.dtype))
    types = one_hot_product(types, tf.convert_to_tensor(embeddings.token_type_embeddings))
    values += tf.reshape(types, tf.shape(values))
    if "position_ids" in inputs:
        values += tf.gather(embeddings.position_embeddings, inputs["position_ids"])
    else:
        values += embeddings.position_embeddings[:length]
    values = dropout(layer_norm(embeddings.LayerNorm, as_rows(values)), config.hidden_dropout_prob)
    values = tf.cast(values, encoder.compute_dtype)
    if hasattr(encoder, "embeddings_project"):
        values = dense(encoder.embeddings_project, values)
    return values


def _layer(
    layer: "tf_keras.layers.Layer",
    hidden: tf.Tensor,
    length: int,
    positions: tf.Tensor | None,
    scores_mask: tf.Tensor,
    dropout: Drop,
    config: "PretrainedConfig",
) -> tf.Tensor:
    """Apply one layer, (batch * length, hidden) → the same shape; with `positions`, → (batch * chosen, hidden)."""
    rate = config.hidden_dropout_prob
    attention = layer.attention.self_attention
    if positions is None:
        queries, keys, values = _project(hidden, length, config, attention.query, attention.key, attention.value)
    else:
        keys, values = _project(hidden, length, config, attention.key, attention.value)
        hidden = as_rows(select(tf.reshape(hidden, (-1, length, hidden.shape[-1])), positions))
        (queries,) = _project(hidden, positions.shape[1], config, attention.query)
    context = _attend(queries, keys, values, scores_mask, dropout, config)

    output = layer.attention.dense_output
    hidden = layer_norm(output.LayerNorm, dropout(dense(output.dense, context), rate) + hidden)
    inner = activation(config.hidden_act)(dense(layer.intermediate.dense, hidden))
    output = layer.bert_output
    return layer_norm(output.LayerNorm, dropout(dense(output.dense, inner), rate) + hidden)


def _project(
    hidden: tf.Tensor, length: int, config: "PretrainedConfig", *layers: "tf_keras.layers.Layer"
) -> list[tf.Tensor]:
    """Apply several `Dense` layers to the same input; each result is (batch, heads, length, depth)."""
    heads = config.num_attention_heads
    parts = affine(hidden, [layer.kernel for layer in layers], [layer.bias for layer in layers])
    return [permute(tf.reshape(part, (-1, length, heads, part.shape[-1] // heads)), (0, 2, 1, 3)) for part in parts]


def _attend(
    queries: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    scores_mask: tf.Tensor,
    dropout: Drop,
    config: "PretrainedConfig",
) -> tf.Tensor:
    """Compute scaled dot-product attention, with the softmax in float32. (batch, heads, length, depth) → (batch *
    length, hidden)."""
    heads, depth = queries.shape[1], queries.shape[-1]
    scores = tf.cast(product(queries, keys, transpose_b=True), tf.float32) / math.sqrt(depth)
    weights = tf.nn.softmax(scores + scores_mask)
    weights = dropout(tf.cast(weights, values.dtype), config.attention_probs_dropout_prob)
    context = permute(product(weights, values), (0, 2, 1, 3))
    return tf.reshape(context, (-1, heads * depth))
