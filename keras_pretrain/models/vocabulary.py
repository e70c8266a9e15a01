"""`add_tokens`: adds wordpieces to a tokenizer, and embeddings for them to its model."""

import logging
from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import tf_keras
from transformers import PreTrainedTokenizerBase

from keras_pretrain.models.pretraining import require_vocabulary
from keras_pretrain.wordpieces import extend_tokenizer, old_pieces

logger = logging.getLogger(__name__)


def add_tokens(
    model: tf_keras.Model, tokenizer: PreTrainedTokenizerBase, new_tokens: Iterable[str]
) -> PreTrainedTokenizerBase:
    """Teach a tokenizer and its model new wordpieces, before the model is compiled.

    Each new row of the word embeddings is the mean of the rows of the pieces into which the old tokenizer splits the
    token. If the model has an MLM head, the same holds for its bias. All other weights and the ids of all old tokens do
    not change. Spare rows of the model, beyond the old vocabulary, are used first.

    Args:
      model: a `BertPretrainer`, an `ElectraPretrainer` (whose two networks both grow) or any of 🤗's TensorFlow BERT
        and ELECTRA models. It is changed in place.
      tokenizer: the model's tokenizer; it is not changed.
      new_tokens: words (`"딥러닝"`) or pieces inside words (`"##러닝"`), for example from `find_new_tokens` or the
        lines of a file. Tokens that already exist are skipped.

    Returns:
      A tokenizer of the same class that has the new tokens. See `extend_tokenizer`.

    Raises:
      ValueError: a token that the tokenizer would never find, a tokenizer that does not fit the model, or a model that
        is already compiled (its optimizer would know only the old weights).

    >>> tokenizer = train_tokenizer(["데이터를 모은다", "데이터를 쓴다"], vocab_size=60)
    >>> model = BertPretrainer.from_size("tiny", tokenizer)
    >>> tokenizer.tokenize("데이터베이스를"), add_tokens(model, tokenizer, ["데이터베이스"]).tokenize("데이터베이스를")
    (['[UNK]'], ['데이터베이스', '##를'])
    """
    if getattr(model, "optimizer", None) is not None:
        raise ValueError("The model is compiled already: add tokens first, then compile it.")
    networks = [model.discriminator, model.generator] if hasattr(model, "discriminator") else [model]
    for network in networks:
        require_vocabulary(network.config, tokenizer)
    extended = extend_tokenizer(tokenizer, (token.strip() for token in new_tokens))
    known = tokenizer.get_vocab()
    fresh = sorted(
        (token for token in extended.get_vocab() if token not in known), key=extended.get_vocab().__getitem__
    )
    pieces = [old_pieces(token, tokenizer) for token in fresh]
    ids = np.array([extended.get_vocab()[token] for token in fresh], np.int64)
    for network in networks:
        _grow(network, ids, pieces)
    if hasattr(model, "discriminator"):
        model.take_tokenizer(extended)
    unknown = sum(each == [tokenizer.unk_token_id] for each in pieces)
    logger.info(
        "%d tokens are new; the model has %d embeddings for %d tokens.%s",
        len(fresh), networks[0].config.vocab_size, len(extended),
        f" {unknown} start from [UNK], because the vocabulary lacks their characters." if unknown else "",
    )  # fmt: skip
    return extended


def _grow(network: tf_keras.Model, ids: np.ndarray, pieces: list[list[int]]) -> None:
    """Give a 🤗 model new rows for `ids`. Each row is the mean of the rows of its `pieces`."""
    network.build_in_name_scope()
    embeddings = getattr(network, network.base_model_prefix).embeddings
    head = network.get_lm_head()
    bias = getattr(head, "bias", None)
    _replace(embeddings, "weight", _with_means(embeddings.weight.numpy(), ids, pieces))
    if bias is not None:
        _replace(head, "bias", _with_means(bias.numpy(), ids, pieces))
    network.config.vocab_size = embeddings.weight.shape[0]


def _with_means(rows: np.ndarray, ids: np.ndarray, pieces: list[list[int]]) -> np.ndarray:
    size = max(len(rows), ids.max(initial=-1) + 1)
    grown = np.zeros((size, *rows.shape[1:]), rows.dtype)
    grown[: len(rows)] = rows
    for row, old in zip(ids, pieces, strict=True):
        grown[row] = rows[old].mean(axis=0)
    return grown


def _replace(layer: tf_keras.layers.Layer, attribute: str, value: np.ndarray) -> None:
    """Replace a variable of a layer with one of the same name but another shape."""
    old = getattr(layer, attribute)
    scope, _, name = old.name.split(":")[0].rpartition("/")
    # Another layer creates the new variable. If `layer` created it, the variable would be the last one of `layer`, and
    # not at the place of the old one.
    maker = tf_keras.layers.Layer(dtype=layer.dtype_policy)
    with tf.name_scope(f"{scope}/"):  # the slash makes this the whole name instead of a suffix
        start = tf.constant_initializer(value)
        new = maker.add_weight(name, value.shape, initializer=start, trainable=old.trainable)
    setattr(layer, attribute, new)
