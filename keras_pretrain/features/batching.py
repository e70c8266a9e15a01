"""Makes batches from examples: a `tf.data.Dataset` with static shapes, masked anew in each epoch."""

import copy
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from keras_pretrain.features.building import recorded_settings
from keras_pretrain.features.masking import GLUE_PROB, IGNORED, MaskingCollator, describe_gluing
from keras_pretrain.features.packing import Layout, Packing, pack, plan_rows

if TYPE_CHECKING:
    import tensorflow as tf

# The seed of each random stream contains one of these numbers, so that order, training masks and validation masks are
# independent.
_ORDER, _MASKS = 1, {True: 2, False: 3}
_PREFETCHED = 4  # number of batches to make ahead
_ROWS_AT_ONCE = 256

Arrays = dict[str, np.ndarray]
Batch = tuple[Arrays, Arrays] | Arrays  # `(inputs, labels)`, or only inputs if the model masks


def to_tf_dataset(
    features: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int,
    mask_prob: float = 0.15,
    glue_prob: float = GLUE_PROB,
    glue_after: int = 0,
    seed: int = 42,
    training: bool = True,
    block_size: int | None = None,
    objective: str | None = None,
    packed: bool = False,
) -> "tf.data.Dataset":
    """Batch, pad and mask examples for `fit` and `evaluate`.

    A batch depends only on the arguments of this function and on the number of the step. With `training=True`, each
    iterator over the dataset (even one that only looks at the first batch) starts a new epoch, with another order and
    other masks. The last examples of an epoch are left out if they do not fill a batch. `fit` of this package's models
    counts the steps that it has trained: after `fit(dataset.repeat())`, the next `fit` continues with the next
    batch, and after `fit(dataset)` with the next epoch. With `training=False`, order and masks are always the same, and
    padding rows fill up the last batch, so that every example counts and XLA compiles a single shape. Padding rows have
    no attention and no loss.

    Args:
      features: examples from `build_features`, or a dataset with its columns.
      tokenizer: the tokenizer with which the examples were made.
      batch_size: number of rows of a batch; with several replicas, the global batch size.
      mask_prob: the share of the ordinary tokens to predict. It has no effect for `"rtd"`, except with `packed`.
      glue_prob: if a `[MASK]` is at the beginning of a word and one `##` piece follows, the probability that this
        piece is shown without `##`, as in a fill-mask pipeline: `[MASK] 입니다` instead of `[MASK] ##입니다` (see
        `MaskingCollator`). It has no effect for `"rtd"`.
      glue_after: the number of steps at the start of training for which `glue_prob` is 0, rounded up to a whole group
        of steps (about 256 rows are made at a time). Models learn more in the same time if they first see text as the
        tokenizer splits it.
      seed: the seed for order and masks, 0 or above.
      training: shuffle and mask anew in each epoch.
      block_size: length of every row. Default: the block size that the features were built for.
      objective: the objective that the features were built for, `"mlm"` or `"rtd"`; needed only if they do not record
        it.
      packed: put several examples into a row if they fit; only for the models of this package. Each example attends
        only to itself and has its own positions, so losses and gradients are the same as with one example per row. With
        `packed`, `mask_prob` chooses the predicted positions for `"rtd"`, too.

    Returns:
      A `tf.data.Dataset` of `(inputs, labels)`: `inputs = {input_ids, token_type_ids, attention_mask}`, each
      (batch_size, block_size) int32; `labels = {labels (batch_size, block_size), next_sentence_label (batch_size,)}`
      int32. `next_sentence_label` is missing if the features have none; -100 means no loss. For the objective `"rtd"`,
      the dataset yields only `inputs`, which are not masked: `ElectraPretrainer` masks them in its step.

      With `packed`, `inputs = {packed_ids, token_type_ids, position_ids, example_ids (each (batch_size, block_size)),
      masked_positions (batch_size, most labels of a row)}`; `example_ids` number the examples of a row from 1, and are
      0 for padding. Unused `masked_positions` are -1. `labels` belong to `masked_positions`; `next_sentence_label` is
      (batch_size, most examples of a row).

    Raises:
      ValueError: a missing column, ids outside the tokenizer's vocabulary, fewer examples than one training batch,
        an example longer than `block_size`, a negative seed or `glue_after`, or an unknown objective. After `select` or
        saving, features no longer record whether they are masked here (`"mlm"`) or by the model (`"rtd"`); give
        `objective` for them.
    """
    if glue_after < 0:
        raise ValueError(f"glue_after must be at least 0, not {glue_after}.")
    masking = {"mask_prob": mask_prob, "glue_prob": glue_prob}
    batches = Batches(features, tokenizer, batch_size, masking, seed, training, block_size, objective, packed)
    batches.glue_after = glue_after if training else 0
    dataset = _as_dataset(batches)
    dataset.keras_pretrain_batches = batches  # read by `batches_behind`
    return dataset


def packed_row_count(features: Dataset, block_size: int) -> int:
    """Count the rows into which `to_tf_dataset(..., packed=True)` packs the examples."""
    counts = np.bincount(_Rows(features).lengths, minlength=block_size + 1)
    return sum(rows for _, rows in plan_rows(counts, block_size))


@dataclass
class Position:
    """The position from which the next pass over the training batches starts.

    Each `fit` has its own position, which its iterators move. A thread that still prefetches for an earlier `fit`
    therefore does not change the position of a later one.

    Attributes:
      step: the number of the step, counted through all epochs.
      is_repeated: if true, each pass has the number of batches of an epoch, wherever it starts, as `repeat` needs it.
        If false, the pass ends at the end of its epoch. A pass that starts within an epoch is then filled up with
        batches that are never used, so that it has the length of an epoch, too.
    """

    step: int
    is_repeated: bool


def dataset_from(batches: "Batches", position: Position) -> "tf.data.Dataset":
    """Make a dataset of the training batches from a position on. The position is read when the first batch is
    requested."""
    dataset = _as_dataset(batches, position=position)
    return dataset.repeat() if position.is_repeated else dataset


def dataset_of_part(
    batches: "Batches",
    is_repeated: bool,
    pipeline: int,
    pipelines: int,
    replicas: int,
    position: Position | None = None,
) -> "tf.data.Dataset":
    """Make the dataset of one worker, which has only the rows of its replicas in each batch. Each element has the rows
    of one replica: first those of the first replica, then those of the next one, and so on for each batch.

    Args:
      batches: the global batches.
      is_repeated: whether the dataset repeats without end.
      pipeline, pipelines: the worker's number, and the number of workers.
      replicas: the number of replicas, summed over all workers.
      position: where to start. Default: each iterator starts a new epoch.

    Raises:
      ValueError: the batch size is not a multiple of the number of replicas.
    """
    if batches.batch_size % replicas:
        raise ValueError(
            f"A batch of {batches.batch_size} cannot be divided among {replicas} replicas. batch_size is the global "
            "batch size: choose a multiple of the number of replicas."
        )
    rows = batches.batch_size // pipelines
    dataset = _as_dataset(batches, slice(pipeline * rows, (pipeline + 1) * rows), replicas // pipelines, position)
    return dataset.repeat() if is_repeated else dataset


def _as_dataset(
    batches: "Batches", rows: slice = slice(None), parts: int = 1, position: Position | None = None
) -> "tf.data.Dataset":
    """Make a dataset of some rows of each batch. The rows are split into `parts` elements."""
    # TensorFlow is imported here because preparing a corpus does not need it.
    import tensorflow as tf

    # The generator yields several steps at a time; `unbatch` removes this axis.
    height = len(range(batches.batch_size)[rows]) // parts
    signature = _map_specs(
        batches.shapes, lambda name, shape: tf.TensorSpec((None, height, *shape), tf.int32, name=name)
    )
    dataset = tf.data.Dataset.from_generator(
        lambda: batches.next_pass(rows, parts, position), output_signature=signature
    ).unbatch()
    length = tf.data.experimental.assert_cardinality(len(batches) * parts)
    dataset = dataset.apply(length).prefetch(_PREFETCHED * parts)
    options = tf.data.Options()
    # Autotuning has nothing to tune here, and its thread sleeps for 10, 20, 40 ms and so on up to a minute. An iterator
    # waits for this thread at its end: a validation of 3 s took 5.1 s, and one of 6 s took 10.2 s.
    options.autotune.enabled = False
    # If `dataset_of_part` is not used, `tf.distribute` must shard by data, because there are no files to shard.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def batches_behind(dataset: object) -> tuple["Batches | None", bool]:
    """Find the `Batches` from which a `tf.data.Dataset` was made.

    Returns:
      `(batches, is_repeated)`: `is_repeated` is true if the dataset repeats the batches without end. `batches` is
      `None` if the dataset was not made from `Batches`, or was changed by anything but `repeat()`, `prefetch` and
      `with_options`.
    """
    from keras_pretrain.compat.tensorflow import inputs_of

    is_repeated = False
    is_infinite = hasattr(dataset, "cardinality") and int(dataset.cardinality()) == -1
    while not hasattr(dataset, "keras_pretrain_batches"):
        kind = type(dataset).__name__.strip("_")
        if kind not in ("RepeatDataset", "PrefetchDataset", "OptionsDataset"):
            return None, False
        is_repeated = is_repeated or kind == "RepeatDataset"
        (dataset,) = inputs_of(dataset)
    if is_repeated and not is_infinite:
        return None, False
    return dataset.keras_pretrain_batches, is_repeated


class Batches:
    """Computes the batch of any step from the number of the step, without the steps before it.

    Steps are numbered through all epochs. Several steps (about 256 rows) are made at once, because a NumPy call costs
    as much for 16 rows as for 256. The seed of the masks contains the epoch and the number of this group of steps in
    the epoch.

    Attributes:
      next_step: the step at which the next `fit` starts. An iterator outside `fit` takes the next epoch after this
        step.
    """

    def __init__(
        self,
        features: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        masking: dict,
        seed: int,
        training: bool,
        block_size: int | None = None,
        objective: str | None = None,
        packed: bool = False,
    ) -> None:
        _check(features, tokenizer, batch_size, seed)
        recorded = recorded_settings(features, objective, block_size)
        examples = _Rows(features)
        self.is_masked = recorded["objective"] != "rtd"
        block_size = recorded["block_size"] or int(examples.lengths.max())
        if examples.lengths.max() > block_size:
            longest = examples.lengths.max()
            raise ValueError(f"The longest example has {longest} tokens and does not fit into block_size {block_size}.")
        if not self.is_masked:
            masking = {"mask_prob": masking["mask_prob"] if packed else 0.0, "glue_prob": 0.0}
        self.collator = MaskingCollator(tokenizer, block_size=block_size, **masking)
        self.rows = examples
        self.packing = None
        if packed:
            self.packing = pack(examples.lengths, block_size, mask_prob=self.collator.mask_prob, seed=seed)
        self.next_sentence_label = None
        if "next_sentence_label" in features.column_names:
            self.next_sentence_label = np.asarray(features.with_format("numpy")["next_sentence_label"][:], np.int32)
        self.batch_size = batch_size
        self.seed = seed
        self.training = training
        self.glue_after = 0
        self.steps_at_once = max(1, _ROWS_AT_ONCE // batch_size)
        self.next_step = 0
        # The order of the epoch that was requested last.
        self._order: tuple[int | None, np.ndarray] = (None, np.zeros(0, np.int64))
        if training and self.row_count < batch_size:
            made = f"{self.row_count} packed rows" if packed else f"{self.row_count} examples"
            raise ValueError(
                f"{made} do not fill one training batch of {batch_size}. Give a smaller batch_size or more text."
            )

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.row_count // self.batch_size if self.training else -(-self.row_count // self.batch_size)

    @property
    def row_count(self) -> int:
        """The number of rows of an epoch: the number of examples, or fewer if they are packed."""
        return len(self.rows if self.packing is None else self.packing)

    @property
    def padding(self) -> float:
        """The share of an epoch's positions that hold no token."""
        return 1 - float(self.rows.lengths.sum()) / (self.row_count * self.collator.block_size)

    @property
    def shapes(self) -> dict | tuple[dict, dict]:
        """The shapes of a batch's tensors, without the first axis (rows), nested like a batch."""
        block = (self.collator.block_size,)
        names: tuple[str, ...] = ("input_ids", "token_type_ids", "attention_mask")
        predicted: tuple[int, ...] = block
        pairs: tuple[int, ...] = ()
        if self.packing is not None:
            names = ("packed_ids", "token_type_ids", "position_ids", "example_ids")
            predicted, pairs = (self.packing.most_labels,), (self.packing.most_examples,)
        inputs: dict[str, tuple[int, ...]] = dict.fromkeys(names, block)
        if self.packing is not None:
            inputs["masked_positions"] = predicted
        labels = {"labels": predicted}
        if self.next_sentence_label is not None:
            labels["next_sentence_label"] = pairs
        return (inputs, labels) if self.is_masked else inputs

    def description(self) -> dict:
        """Return everything that determines the batches, as JSON values. A checksum represents the examples."""
        # Earlier versions did not record these settings, so a run that does not use them leaves them out.
        newer: dict[str, Any] = {} if self.packing is None else {"packed": True}
        newer |= describe_gluing(self.collator.glue_prob)
        newer |= {"glue_after": self.glue_after} if self.glue_after else {}
        return {
            "tokenizer": {
                "vocab_size": len(self.collator.is_special),
                "pad_token_id": self.collator.pad_token_id,
                "mask_token_id": self.collator.mask_token_id,
                "special_ids": np.flatnonzero(self.collator.is_special).tolist(),
            },
            "examples": len(self.rows),
            "checksum": self._checksum(),
            "training": self.training,
            "steps_at_once": self.steps_at_once,
            "batch_size": self.batch_size,
            "block_size": self.collator.block_size,
            "mask_prob": self.collator.mask_prob,
            "seed": self.seed,
            **newer,
        }

    def _checksum(self) -> int:
        labels = self.next_sentence_label
        return self.rows.checksum() if labels is None else zlib.crc32(labels.data, self.rows.checksum())

    def start(self, is_repeated: bool) -> Position:
        """The position of a `fit` that starts now: the next step or, if the data are not repeated, the next epoch."""
        return Position(self.next_step if is_repeated else self.whole_epochs(self.next_step), is_repeated)

    def whole_epochs(self, step: int) -> int:
        """A step's number, rounded up to the beginning of an epoch."""
        return -(-step // len(self)) * len(self)

    def next_pass(self, rows: slice = slice(None), parts: int = 1, position: Position | None = None) -> Iterator[Batch]:
        """Generate the batches of an epoch, several steps at a time.

        Args:
          rows: the rows to take from each batch.
          parts: the number of equal parts into which the rows are split, as if they were several steps.
          position: where to start; this function moves the position to the end of the pass. Without a position, the
            pass is a new epoch.
        """
        first, count = 0, len(self)
        if self.training and position is not None:
            first = position.step
            count = count if position.is_repeated else count - first % count
            position.step += count
        elif self.training:
            first = self.start(is_repeated=False).step
            self.next_step = first + count
        for start, number in ((first, count), (first, len(self) - count)):
            for steps in self.steps(start, number, rows):
                yield _map(lambda values: values.reshape(-1, values.shape[1] // parts, *values.shape[2:]), steps)

    def steps(self, first: int, count: int, rows: slice = slice(None)) -> Iterator[Batch]:
        """Generate `count` steps from `first` on, several at a time; each array has an additional first axis for the
        steps."""
        while count > 0:
            epoch, within = divmod(first, len(self))
            number, offset = divmod(within, self.steps_at_once)
            group = self._group(epoch, number, rows)
            end = min(self.steps_at_once, len(self) - number * self.steps_at_once, offset + count)
            yield _map(lambda values, cut=slice(offset, end): values[cut], group)
            first += end - offset
            count -= end - offset

    def batch(self, step: int) -> Batch:
        """`(inputs, labels)` of one step as NumPy arrays, or only `inputs` if the model masks."""
        return _map(lambda values: values[0], next(self.steps(step, 1)))

    def epoch(self) -> Iterator[Batch]:
        """Generate the batches of the first epoch, one after the other."""
        for steps in self.steps(0, len(self)):
            parts = steps if isinstance(steps, tuple) else (steps,)
            for number in range(len(next(iter(parts[0].values())))):
                yield _map(lambda values, number=number: values[number], steps)

    def with_glue(self, glue_prob: float) -> "Batches":
        """The same batches with another `glue_prob`."""
        other = copy.copy(self)
        other.collator = copy.copy(self.collator)
        other.collator.glue_prob = glue_prob
        return other

    def tokens(self, step: int) -> int:
        """Count the tokens of a step, without padding."""
        epoch, number = divmod(step, len(self))
        chosen = self.order(epoch)[number * self.batch_size :][: self.batch_size]
        examples = chosen if self.packing is None else self.packing.of_rows(chosen)[0]
        return int(self.rows.lengths[examples].sum())

    def order(self, epoch: int) -> np.ndarray:
        """The order of the rows in an epoch, (rows,) int64."""
        if not self.training:
            return np.arange(self.row_count)
        cached, order = self._order
        if cached != epoch:
            order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.row_count)
            self._order = epoch, order  # a single assignment, because two iterators may run in two threads
        return order

    def _group(self, epoch: int, number: int, wanted: slice) -> Batch:
        """Make the steps of a group. Each array has the shape (steps, wanted rows, ...).

        Masks are drawn for at most 256 rows at a time. A batch with more rows is made in chunks of 256, and chunks
        without a wanted row are skipped.
        """
        first = number * self.steps_at_once
        steps = min(self.steps_at_once, len(self) - first)
        chosen = self.order(epoch)[first * self.batch_size :][: steps * self.batch_size]
        collator = self.collator
        if epoch * len(self) + first < self.glue_after:
            collator = copy.copy(collator)
            collator.glue_prob = 0.0
        if self.batch_size <= _ROWS_AT_ONCE:
            made = self._rows(chosen, steps * self.batch_size, (epoch, number), collator)
            made = _map(lambda values: values.reshape(steps, self.batch_size, *values.shape[1:])[:, wanted], made)
        else:
            begin, end, _ = wanted.indices(self.batch_size)
            starts = range(begin - begin % _ROWS_AT_ONCE, end, _ROWS_AT_ONCE)
            chunks = [
                self._rows(
                    chosen[start : start + _ROWS_AT_ONCE],
                    min(_ROWS_AT_ONCE, self.batch_size - start),
                    (epoch, number, start),
                    collator,
                )
                for start in starts
            ]
            cut = slice(begin - starts[0], end - starts[0])
            made = _join(chunks, lambda values: np.concatenate(values)[np.newaxis, cut])
        return made if self.is_masked else made[0]

    def _rows(
        self, chosen: np.ndarray, rows: int, place: tuple[int, ...], collator: MaskingCollator
    ) -> tuple[Arrays, Arrays]:
        """Pad and mask some rows, and return them as `(inputs, labels)`.

        Args:
          chosen: the numbers of the rows.
          rows: the number of rows of the result; padding rows fill it up.
          place: numbers on which the masks depend, in addition to the seed.
        """
        rng = np.random.default_rng([self.seed, _MASKS[self.training], *place])
        if self.packing is not None:
            return self._packed_rows(self.packing, chosen, rows, rng, collator)
        inputs, labels = collator.collate(*self.rows.take(chosen), rng, rows=rows)
        if self.next_sentence_label is not None:
            labels["next_sentence_label"] = np.full(rows, IGNORED, np.int32)
            labels["next_sentence_label"][: len(chosen)] = self.next_sentence_label[chosen]
        return inputs, labels

    def _packed_rows(
        self, packing: Packing, chosen: np.ndarray, rows: int, rng: np.random.Generator, collator: MaskingCollator
    ) -> tuple[Arrays, Arrays]:
        examples, counts = packing.of_rows(chosen)
        lengths = self.rows.lengths[examples]
        layout = Layout(lengths, counts, rows, collator.block_size)
        ids, types = map(np.concatenate, self.rows.take(examples))
        is_chosen = collator.choose_in_examples(ids, lengths, rng)
        shown = collator.hide(ids, is_chosen, rng) if self.is_masked else ids
        inputs = layout.inputs(shown, types, collator.pad_token_id)
        inputs["masked_positions"] = np.full((rows, packing.most_labels), -1, np.int32)
        labels = {"labels": np.full((rows, packing.most_labels), IGNORED, np.int32)}
        predicted_rows = layout.token_rows[is_chosen]
        per_row = np.bincount(predicted_rows, minlength=rows)
        places = predicted_rows, np.arange(len(predicted_rows)) - (np.cumsum(per_row) - per_row)[predicted_rows]
        inputs["masked_positions"][places] = layout.columns[is_chosen]
        labels["labels"][places] = ids[is_chosen]
        if self.next_sentence_label is not None:
            pairs = self.next_sentence_label[examples].astype(np.int32)
            labels["next_sentence_label"] = layout.of_examples(pairs, packing.most_examples, IGNORED)
        return inputs, labels


def _map_specs(shapes: Any, function: Callable[[str, tuple[int, ...]], Any]) -> Any:
    """Apply a function to each name and shape."""
    if isinstance(shapes, tuple):
        return tuple(_map_specs(part, function) for part in shapes)
    return {name: function(name, shape) for name, shape in shapes.items()}


def _join(batches: list, function: Callable[[list], Any]) -> Any:
    """Combine several batches of the same structure: apply a function to the list of corresponding arrays."""
    first = batches[0]
    if isinstance(first, dict):
        return {name: _join([batch[name] for batch in batches], function) for name in first}
    if isinstance(first, tuple):
        return tuple(_join(list(parts), function) for parts in zip(*batches, strict=True))
    return function(batches)


def _map(function: Callable[..., np.ndarray], batch: Any) -> Any:
    """Apply a function to each array of a batch."""
    return _join([batch], lambda values: function(values[0]))


class _Rows:
    """Gives access to examples as slices of their Arrow buffers, without copying them before a batch needs them."""

    def __init__(self, features: Dataset) -> None:
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

    def checksum(self) -> int:
        """Compute a checksum of all lengths, ids and token types."""
        checksum = zlib.crc32(self.lengths.data)
        for ids, offsets, types, type_offsets in self._chunks:
            for values, ends in ((ids, offsets), (types, type_offsets)):
                checksum = zlib.crc32(np.ascontiguousarray(values[ends[0] : ends[-1]]).data, checksum)
        return checksum

    def take(self, indices: np.ndarray) -> tuple[list, list]:
        """Return `(input_ids, token_type_ids)` of some examples; each is a list with one array per example."""
        chunks = np.searchsorted(self._first, indices, side="right") - 1
        within = indices - self._first[chunks]
        input_ids, token_type_ids = [], []
        for chunk, row in zip(chunks.tolist(), within.tolist(), strict=True):
            ids, offsets, types, type_offsets = self._chunks[chunk]
            input_ids.append(ids[offsets[row] : offsets[row + 1]])
            token_type_ids.append(types[type_offsets[row] : type_offsets[row + 1]])
        return input_ids, token_type_ids


def _as_list(column: pa.Array) -> pa.Array:
    """Convert fixed-size lists, which padded data may have, to lists of variable length."""
    if pa.types.is_fixed_size_list(column.type):
        return column.cast(pa.list_(column.type.value_type))
    return column


def _check(features: Dataset, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int) -> None:
    missing = [name for name in ("input_ids", "token_type_ids") if name not in features.column_names]
    if missing:
        raise ValueError(
            f"The features have no column {', '.join(missing)}; their columns are {', '.join(features.column_names)}. "
            "build_features makes them."
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    if seed < 0:
        raise ValueError(f"seed must be 0 or above, not {seed}.")
    if len(features) == 0:
        raise ValueError("There are no examples.")
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
