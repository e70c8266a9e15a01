"""Labelled examples → batches of a few fixed lengths."""

import logging
from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.features.masking import MaskingCollator
from keras_pretrain.features.tokenizing import plain_text, plain_text_backend
from keras_pretrain.tokenization import choose_text_cleaning

logger = logging.getLogger(__name__)

_SHARES = (0.5, 0.85, 1.0)  # the share of the examples that fit into each length; each is a program to compile
_MULTIPLE = 8  # lengths are multiples of this
_PREFETCHED = 4


@dataclass(frozen=True)
class EncodedExamples:
    """Token ids of examples, special tokens included, and their labels as numbers.

    Attributes:
      input_ids, token_type_ids: one array an example.
      labels: (examples,) int32, float32 for regression; `None` where there are none.
    """

    input_ids: list[np.ndarray]
    token_type_ids: list[np.ndarray]
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, (examples,) int64."""
        return np.fromiter(map(len, self.input_ids), np.int64, len(self))


def encode_examples(
    examples: Dataset, tokenizer, config=None, *, max_length: int = 128, cleaning: str | None = None
) -> EncodedExamples:
    """Clean and tokenize to `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`, truncating the longer side first.

    Special tokens that appear in a text, such as `[SEP]`, are tokenized as ordinary characters; tokens that were added
    to the tokenizer keep their ids.

    Args:
      examples: columns `text` and optionally `pair` and `label`.
      tokenizer: the model's; it is not changed.
      config: the model's; its `label2id` numbers the classes. Without it, labels are not read.
      max_length: the maximum number of tokens of an example.
      cleaning: as in `clean_text`; by default the one recorded with the tokenizer, which is that of the pretraining
        text, or `"none"` without a record. A text that cleaning empties stays an example; a warning counts them.

    Raises:
      ValueError: a label that the config does not have, or an unknown cleaning.
    """
    cleaning = choose_text_cleaning(tokenizer, cleaning)
    columns = [examples[name][:] for name in ("text", "pair") if name in examples.column_names]
    arrays = _encode(tokenizer, [_clean(texts, cleaning) for texts in columns], max_length)
    labels = None
    if config is not None and config.num_labels == 1:
        labels = np.asarray(examples["label"][:], np.float32)
    elif config is not None:
        unknown = set(map(str, examples["label"][:])) - set(config.label2id)
        if unknown:
            raise ValueError(f"The model has no label {sorted(unknown)[0]!r}; it has {', '.join(config.label2id)}.")
        labels = np.array([config.label2id[str(label)] for label in examples["label"][:]], np.int32)
    return EncodedExamples(*arrays, labels)


def _clean(texts: list[str], cleaning: str) -> list[str]:
    cleaned = [clean_text(text, cleaning) for text in texts]
    empty = [text for text, left in zip(texts, cleaned, strict=True) if text.strip() and not left.strip()]
    if empty:
        logger.warning(
            "Cleaning %r leaves nothing of %d of %d texts, such as %r; they stay examples without a word. Choose "
            "another cleaning, or leave them out.", cleaning, len(empty), len(texts), empty[0][:50],
        )  # fmt: skip
    return cleaned


def _encode(tokenizer, columns: list[list[str]], max_length: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Ids and token types of each text, or of each pair of texts."""
    if getattr(tokenizer, "is_fast", False):
        backend = plain_text_backend(tokenizer)
        backend.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
        encoded = backend.encode_batch(columns[0] if len(columns) == 1 else list(zip(*columns, strict=True)))
        ids, types = [each.ids for each in encoded], [each.type_ids for each in encoded]
    else:
        columns = [[plain_text(tokenizer, text) for text in texts] for texts in columns]
        settings = {"truncation": "longest_first", "max_length": max_length, "return_token_type_ids": True}
        encoded = tokenizer(*columns, **settings)
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
    return list(map(np.asarray, ids)), list(map(np.asarray, types))


def choose_lengths(lengths: np.ndarray) -> tuple[int, ...]:
    """Choose the few lengths that batches are padded to: half of the examples fit into the first, all into the last.

    Args:
      lengths: tokens of each example.

    Returns:
      One to three increasing multiples of 8.
    """
    found = np.quantile(lengths, _SHARES, method="inverted_cdf")
    return tuple(sorted({int(-(-length // _MULTIPLE) * _MULTIPLE) for length in found}))


def plan_batches(
    lengths: np.ndarray, fixed: tuple[int, ...], batch_size: int, rng: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Group the examples that are padded to the same length into batches.

    Args:
      lengths: tokens of each example.
      fixed: from `choose_lengths`.
      batch_size: examples per batch.
      rng: shuffles, for training: examples that do not fill a batch move on to the next length, and the remainder at
        the end, less than a batch, is left out. Without it, examples are sorted by length, and batches may be short.

    Returns:
      The indices of the examples of each batch.
    """
    if rng is None:
        order = np.argsort(lengths, kind="stable")
        classes = np.searchsorted(fixed, lengths[order])
        parts = np.split(order, np.flatnonzero(np.diff(classes)) + 1)
        return [part[i : i + batch_size] for part in parts for i in range(0, len(part), batch_size)]
    batches, rest = [], np.zeros(0, np.int64)
    classes = np.searchsorted(fixed, lengths)
    for number in range(len(fixed)):
        members = rng.permutation(np.concatenate([rest, np.flatnonzero(classes == number)]))
        whole = len(members) // batch_size * batch_size
        batches += np.split(members[:whole], whole // batch_size) if whole else []
        rest = members[whole:]
    return [batches[i] for i in rng.permutation(len(batches))]


def to_tf_dataset(
    encoded: EncodedExamples, tokenizer, *, batch_size: int = 32, lengths: tuple[int, ...] | None = None, seed=42
):
    """Training batches for `fit`, reshuffled each epoch; each batch holds examples of similar length.

    Under `tf.distribute.MirroredStrategy`, Keras divides each batch among the replicas.

    Args:
      encoded: from `encode_examples`.
      tokenizer: its padding token fills the rows.
      batch_size: the global batch size, summed over all replicas.
      lengths: from `choose_lengths`, by default for these examples. Pass the same to the model's `compile`.
      seed: the same seed gives the same batches in each epoch.

    Returns:
      A `tf.data.Dataset` of `(inputs, labels)`: `inputs = {input_ids, token_type_ids, attention_mask}`, each
      (batch_size, lengths[-1]) int32, and labels (batch_size,).

    Raises:
      ValueError: fewer examples than one batch.
    """
    import tensorflow as tf

    if len(encoded) < batch_size:
        raise ValueError(f"{len(encoded)} examples do not fill one batch of {batch_size}. Give a smaller batch_size.")
    lengths = lengths or choose_lengths(encoded.lengths)
    epoch = iter(range(1 << 62))

    def batches():
        rng = np.random.default_rng([seed, next(epoch)])
        for chosen in plan_batches(encoded.lengths, lengths, batch_size, rng):
            yield pad(encoded, chosen, tokenizer, lengths[-1]), encoded.labels[chosen]

    shape = (batch_size, lengths[-1])
    names = ("input_ids", "token_type_ids", "attention_mask")
    labels = tf.TensorSpec((batch_size,), tf.as_dtype(encoded.labels.dtype), name="labels")
    signature = ({name: tf.TensorSpec(shape, tf.int32, name=name) for name in names}, labels)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(encoded) // batch_size)).prefetch(_PREFETCHED)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread would delay the end of each epoch: see features.batching
    return dataset.with_options(options)


def pad(encoded: EncodedExamples, chosen: np.ndarray, tokenizer, length: int, rows: int | None = None) -> dict:
    """Some examples as inputs of one shape, (rows, length) int32 each; rows without an example are padding."""
    collator = MaskingCollator(tokenizer, block_size=length, mask_prob=0.0)
    ids, types = ([values[i] for i in chosen] for values in (encoded.input_ids, encoded.token_type_ids))
    inputs, _ = collator.collate(ids, types, np.random.default_rng(0), rows=rows)
    return inputs
