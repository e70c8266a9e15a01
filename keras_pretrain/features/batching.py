"""Examples → batches: a `tf.data.Dataset` with static shapes, masked afresh each epoch."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from keras_pretrain.features.building import recorded_settings
from keras_pretrain.features.masking import IGNORED, MaskingCollator

# What a random stream is for: a part of its seed, so that order, training masks and validation masks are independent.
_ORDER, _MASKS = 1, {True: 2, False: 3}


def to_tf_dataset(
    features: Dataset,
    tokenizer,
    *,
    batch_size: int,
    mask_prob: float = 0.15,
    seed: int = 42,
    training: bool = True,
    block_size: int | None = None,
):
    """Batch, pad and mask examples for `fit` and `evaluate`.

    Every batch is a pure function of `seed`, epoch and step. While training, each iterator over the dataset (each
    epoch of `fit`, but also a look at its first batch) is a new epoch: another order, other masks, and the few examples
    that do not fill a last batch stay out. Otherwise order and masks are the same each time and the last batch is
    filled up with rows that have no attention and no loss, so that every example counts, and XLA compiles one shape.

    Args:
      features: examples from `build_features`, or a dataset with its columns.
      tokenizer: the tokenizer they were made with.
      batch_size: rows of every batch.
      mask_prob: share of the ordinary tokens to predict (see `MaskingCollator`).
      seed: of order and masks.
      training: shuffle and mask afresh each epoch.
      block_size: length of every row; by default what the features were built for.

    Returns:
      A `tf.data.Dataset` of `(inputs, labels)`: `inputs = {input_ids, token_type_ids, attention_mask}`, each
      (batch_size, block_size) int32; `labels = {labels (batch_size, block_size), next_sentence_label (batch_size,)}`
      int32, without the latter where the features have none. -100 means no loss. For features of the objective
      `"rtd"`, `inputs` alone, not masked: `ElectraPretrainer` masks in its step.

    Raises:
      ValueError: a missing column, ids outside the tokenizer's vocabulary, fewer examples than one training batch,
        or an example longer than `block_size`.
    """
    # TensorFlow is imported where it is first needed: preparing a corpus does not need it.
    import tensorflow as tf

    batches = Batches(features, tokenizer, batch_size, mask_prob, seed, training, block_size)
    shape = (batch_size, batches.collator.block_size)
    inputs = {
        name: tf.TensorSpec(shape, tf.int32, name=name) for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    labels = {"labels": tf.TensorSpec(shape, tf.int32, name="labels")}
    if batches.next_sentence_label is not None:
        labels["next_sentence_label"] = tf.TensorSpec(shape[:1], tf.int32, name="next_sentence_label")
    signature = (inputs, labels) if batches.is_masked else inputs
    dataset = tf.data.Dataset.from_generator(batches.next_epoch, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(tf.data.AUTOTUNE)


class Batches:
    """The batches of any epoch, each computed from its number alone."""

    def __init__(self, features: Dataset, tokenizer, batch_size, mask_prob, seed, training, block_size):
        _check(features, tokenizer, batch_size, training)
        rows = _Rows(features)
        recorded = recorded_settings(features)
        self.is_masked = recorded.get("objective") != "rtd"
        block_size = block_size or recorded.get("block_size") or int(rows.lengths.max())
        if rows.lengths.max() > block_size:
            raise ValueError(f"The longest example has {rows.lengths.max()} tokens and does not fit into {block_size}.")
        mask_prob = mask_prob if self.is_masked else 0.0
        self.collator = MaskingCollator(tokenizer, block_size=block_size, mask_prob=mask_prob)
        self.rows = rows
        self.next_sentence_label = None
        if "next_sentence_label" in features.column_names:
            self.next_sentence_label = np.asarray(features.with_format("numpy")["next_sentence_label"][:], np.int32)
        self.batch_size = batch_size
        self.seed = seed
        self.training = training
        self._epochs_begun = 0

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self.rows) // self.batch_size if self.training else -(-len(self.rows) // self.batch_size)

    def next_epoch(self):
        """Generate the batches of the epoch after the last one that was begun."""
        epoch = self._epochs_begun if self.training else 0
        self._epochs_begun += 1
        order = self.order(epoch)
        for step in range(len(self)):
            yield self.batch(epoch, step, order)

    def order(self, epoch: int) -> np.ndarray:
        """The examples' order in an epoch, (examples,) int64."""
        if not self.training:
            return np.arange(len(self.rows))
        return np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.rows))

    def batch(self, epoch: int, step: int, order: np.ndarray):
        """`(inputs, labels)` as numpy arrays, or `inputs` alone where the model masks."""
        chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, _MASKS[self.training], epoch, step])
        inputs, labels = self.collator.collate(*self.rows.take(chosen), rng, rows=self.batch_size)
        if self.next_sentence_label is not None:
            labels["next_sentence_label"] = np.full(self.batch_size, IGNORED, np.int32)
            labels["next_sentence_label"][: len(chosen)] = self.next_sentence_label[chosen]
        return (inputs, labels) if self.is_masked else inputs


class _Rows:
    """Examples as slices of the Arrow buffers they lie in: nothing is copied before a batch needs it."""

    def __init__(self, features: Dataset):
        self._chunks = []
        lengths = []
        for table in features.select_columns(["input_ids", "token_type_ids"]).with_format("arrow").iter(10_000):
            for batch in table.to_batches():
                input_ids, token_type_ids = (_as_list(batch.column(i)) for i in range(2))
                offsets = input_ids.offsets.to_numpy()
                if not np.array_equal(np.diff(offsets), np.diff(token_type_ids.offsets.to_numpy())):
                    raise ValueError("input_ids and token_type_ids differ in length in some example.")
                lengths.append(np.diff(offsets))
                type_offsets = token_type_ids.offsets.to_numpy()
                values = input_ids.values.to_numpy(), offsets, token_type_ids.values.to_numpy(), type_offsets
                self._chunks.append(values)
        self.lengths = np.concatenate(lengths)
        self._first = np.cumsum([0, *map(len, lengths)])

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, indices: np.ndarray) -> tuple[list, list]:
        """`(input_ids, token_type_ids)` of some examples, a list of arrays each."""
        chunks = np.searchsorted(self._first, indices, side="right") - 1
        within = indices - self._first[chunks]
        input_ids, token_type_ids = [], []
        for chunk, row in zip(chunks.tolist(), within.tolist(), strict=True):
            ids, offsets, types, type_offsets = self._chunks[chunk]
            input_ids.append(ids[offsets[row] : offsets[row + 1]])
            token_type_ids.append(types[type_offsets[row] : type_offsets[row + 1]])
        return input_ids, token_type_ids


def _as_list(column: pa.Array) -> pa.Array:
    """Lists of any length, where the type says that all have one (as already padded data may)."""
    if pa.types.is_fixed_size_list(column.type):
        return column.cast(pa.list_(column.type.value_type))
    return column


def _check(features: Dataset, tokenizer, batch_size: int, training: bool) -> None:
    missing = [name for name in ("input_ids", "token_type_ids") if name not in features.column_names]
    if missing:
        raise ValueError(
            f"The features have no column {', '.join(missing)}; their columns are {', '.join(features.column_names)}. "
            "build_features makes them."
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    if len(features) == 0:
        raise ValueError("There are no examples.")
    if training and len(features) < batch_size:
        raise ValueError(
            f"{len(features)} examples do not fill one training batch of {batch_size}. Give a smaller batch_size or "
            "more text."
        )
    lowest, highest = _id_range(features)
    if lowest < 0 or highest >= len(tokenizer):
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"The features hold the id {wrong}, outside the tokenizer's vocabulary of {len(tokenizer)}. They were made "
            "with another tokenizer."
        )


def _id_range(features: Dataset) -> tuple[int, int]:
    lowest, highest = 0, 0
    for table in features.select_columns(["input_ids"]).with_format("arrow").iter(10_000):
        found = pc.min_max(pc.list_flatten(table["input_ids"])).as_py()
        lowest, highest = min(lowest, found["min"] or 0), max(highest, found["max"] or 0)
    return lowest, highest
