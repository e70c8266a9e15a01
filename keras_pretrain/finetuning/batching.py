"""Labelled examples → batches of a few fixed lengths."""

from dataclasses import dataclass

import numpy as np
from datasets import Dataset

from keras_pretrain.features.masking import MaskingCollator

_SHARES = (0.5, 0.85, 1.0)  # of the examples that fit into each length: three programs to compile
_MULTIPLE = 8  # lengths are multiples of it
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


def encode_examples(examples: Dataset, tokenizer, config=None, *, max_length: int = 128) -> EncodedExamples:
    """Tokenize `[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`, whose longer side is cut first.

    Args:
      examples: columns `text`, and perhaps `pair` and `label`.
      tokenizer: the model's.
      config: the model's, whose `label2id` numbers the classes; without it labels are not read.
      max_length: the most tokens of an example.

    Raises:
      ValueError: a label that the config does not have.
    """
    pairs = examples["pair"][:] if "pair" in examples.column_names else None
    encoded = tokenizer(
        examples["text"][:],
        pairs,
        truncation="longest_first",
        max_length=max_length,
        return_token_type_ids=True,
        return_attention_mask=False,
    )
    arrays = (list(map(np.asarray, encoded[name])) for name in ("input_ids", "token_type_ids"))
    labels = None
    if config is not None and config.num_labels == 1:
        labels = np.asarray(examples["label"][:], np.float32)
    elif config is not None:
        unknown = set(map(str, examples["label"][:])) - set(config.label2id)
        if unknown:
            raise ValueError(f"The model has no label {sorted(unknown)[0]!r}; it has {', '.join(config.label2id)}.")
        labels = np.array([config.label2id[str(label)] for label in examples["label"][:]], np.int32)
    return EncodedExamples(*arrays, labels)


def choose_lengths(lengths: np.ndarray) -> tuple[int, ...]:
    """The few lengths that batches are padded to: half of the examples fit into the first, all into the last.

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
    """Which examples stand together: those that are padded to the same length.

    Args:
      lengths: tokens of each example.
      fixed: as of `choose_lengths`.
      batch_size: examples of a batch.
      rng: of the order, for training: what does not fill a batch goes on to the next length, and what is left at the
        end, less than a batch, stays out. Without it examples are sorted by length, and the last batch may be short.

    Returns:
      Indices of the examples of each batch.
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
    """Training batches for `fit`, shuffled anew each epoch; examples of like length stand together.

    Args:
      encoded: as of `encode_examples`.
      tokenizer: whose padding token fills the rows.
      batch_size: examples of a batch.
      lengths: as of `choose_lengths`, from the examples by default. Give them to the model's `compile`, too.
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
    """Some examples as inputs of one shape, (rows, length) int32 each; further rows are padding."""
    collator = MaskingCollator(tokenizer, block_size=length, mask_prob=0.0)
    ids, types = ([values[i] for i in chosen] for values in (encoded.input_ids, encoded.token_type_ids))
    inputs, _ = collator.collate(ids, types, np.random.default_rng(0), rows=rows)
    return inputs
