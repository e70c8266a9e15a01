"""Makes batches of labelled examples that all have one shape and little padding."""

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from datasets import Dataset
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.features.masking import MaskingCollator
from keras_pretrain.features.packing import Layout
from keras_pretrain.features.tokenizing import plain_text, plain_text_backend
from keras_pretrain.tokenization import choose_text_cleaning

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)

_MULTIPLE = 8  # row lengths are multiples of this
# Longer rows have less padding, but attention takes longer. At this row length, attention takes about as long as all
# other parts of a step together.
_COSTLY_LENGTH = 1024
_NOISE = (0.3, 0.2, 0.1, 0.05, 0.0)  # values of `noise` to try, in this order
_PREFETCHED = 4


@dataclass(frozen=True)
class EncodedExamples:
    """The token ids of examples, with special tokens, and their labels as numbers.

    Attributes:
      input_ids, token_type_ids: one array of integers per example.
      labels: (examples,) int32, or float32 for regression; `None` without labels.
    """

    input_ids: list[np.ndarray]
    token_type_ids: list[np.ndarray]
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each example, (examples,) int64."""
        return np.fromiter(map(len, self.input_ids), np.int64, len(self))


def encode_examples(
    examples: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig | None = None,
    *,
    max_length: int = 128,
    cleaning: str | None = None,
) -> EncodedExamples:
    """Clean and tokenize to `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`, truncating the longer side first.

    Special tokens that appear in a text, such as `[SEP]`, are tokenized as ordinary characters; tokens that were added
    to the tokenizer keep their ids.

    Args:
      examples: a dataset with column `text` and optionally `pair` and `label`.
      tokenizer: the model's tokenizer; it is not changed.
      config: the model's config, whose `label2id` numbers the classes. Without a config, labels are not read.
      max_length: the maximum number of tokens of an example.
      cleaning: how to clean the texts, as in `clean_text`. Default: the cleaning of the pretraining text, if it is
        recorded with the tokenizer, else `"none"`. A text that is empty after cleaning stays an example; a warning
        reports the number of such texts.

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
            "Cleaning %r removes all characters of %d of %d texts, such as %r. They are used as empty texts. Choose "
            "another cleaning, or leave them out.", cleaning, len(empty), len(texts), empty[0][:50],
        )  # fmt: skip
    return cleaned


def _encode(
    tokenizer: PreTrainedTokenizerBase, columns: list[list[str]], max_length: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The ids and token types of each text or each pair of texts."""
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


def round_up(length: int) -> int:
    """Round a length up to the next length that rows can have."""
    return int(-(-length // _MULTIPLE) * _MULTIPLE)


@dataclass(frozen=True)
class BatchPlan:
    """The shape of all packed batches of a training, and the division of the examples among the batches.

    Attributes:
      lengths: number of tokens of each example.
      batch_count: number of batches of an epoch; all have the same number of examples, or one fewer.
      rows, row_length, most_examples: rows of a batch; tokens of a row; maximum number of examples of a row.
      filled_rows: the number of rows that the examples need. More rows are added only to reach a multiple.
    """

    lengths: np.ndarray
    batch_count: int
    rows: int
    row_length: int
    most_examples: int
    filled_rows: int

    @property
    def padding(self) -> float:
        """The share of the positions in the rows that is padding."""
        return 1 - float(self.lengths.sum()) / (self.batch_count * self.rows * self.row_length)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw which examples share a batch and a row, and the order of the batches.

        Returns:
          (batches, rows, most_examples) the indices of the examples, each once; -1 where a row has fewer examples.
        """
        divisions = (self._divide_and_place(rng, noise) for noise in _NOISE)
        batches, placed = next(each for each in divisions if each is not None)  # noise 0 fits, as in the plan
        if self.rows > self.filled_rows:
            spread = _place(batches, self.lengths, self.rows, self.row_length, evenly=True)
            placed = placed if spread is None or spread.shape[2] > self.most_examples else spread
        drawn = np.full((self.batch_count, self.rows, self.most_examples), -1)
        drawn[:, : placed.shape[1], : placed.shape[2]] = placed
        return drawn[rng.permutation(self.batch_count)]

    def _divide_and_place(self, rng: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the batches, and the rows of each, if they fit. The draw does not depend on the number of replicas."""
        batches = _divide(self.lengths, self.batch_count, rng, noise)
        placed = _place(batches, self.lengths, self.filled_rows, self.row_length)
        return (batches, placed) if placed is not None and placed.shape[2] <= self.most_examples else None


def plan_batches(lengths: np.ndarray, batch_size: int, multiple: int = 1) -> BatchPlan:
    """Choose the shape of the batches, with a row length that leaves little padding.

    Args:
      lengths: number of tokens of each example.
      batch_size: the maximum number of examples of a batch.
      multiple: the number of rows of a batch is a multiple of this number.
    """
    count = -(-len(lengths) // batch_size)
    batches = _divide(lengths, count, np.random.default_rng(0), 0.0)
    tokens = np.where(batches >= 0, lengths[batches], 0).sum(axis=1).max()

    def cost(rows: int, row_length: int) -> float:
        return rows * row_length * (1 + row_length / _COSTLY_LENGTH)

    shortest = {rows: round_up(max(lengths.max(), -(-tokens // rows))) for rows in range(1, batches.shape[1] + 1)}
    least = math.inf
    best: BatchPlan | None = None
    for rows, length in sorted(shortest.items(), key=lambda shape: cost(*shape)):  # cheapest first
        for row_length in itertools.count(length, _MULTIPLE):
            if cost(rows, row_length) >= least:
                break
            placed = _place(batches, lengths, rows, row_length)
            if placed is not None:
                rounded = -(-rows // multiple) * multiple
                least = cost(rows, row_length)
                best = BatchPlan(lengths, count, rounded, row_length, placed.shape[2] + 1, rows)
                break
        if cost(rows, length) >= least:
            break
    return cast(BatchPlan, best)  # never None: a plan with one example per row always fits


def _divide(lengths: np.ndarray, count: int, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Divide examples into `count` batches with nearly equal numbers of examples and of tokens.

    The `count` longest examples go to different batches. The next `count` longest follow, again to different batches:
    the longest of them goes to the batch with the fewest tokens so far, and so on.

    Args:
      noise: how random the order by length is: lengths are multiplied by a random factor, and this is the standard
        deviation of its logarithm. Without noise, each draw makes batches with the same lengths.

    Returns:
      (count, examples) the indices of the examples in each batch, the longest first; -1 if a batch has one fewer.
    """
    blurred = lengths * np.exp(noise * rng.standard_normal(len(lengths)))
    order = rng.permutation(len(lengths))
    most = -(-len(lengths) // count)
    strata = np.full(most * count, -1)
    strata[: len(lengths)] = order[np.argsort(-blurred[order], kind="stable")]
    known = np.append(lengths, 0)  # index -1, which means no example, has length 0
    batches, tokens = np.empty((count, most), np.int64), np.zeros(count, np.int64)
    for number, stratum in enumerate(strata.reshape(most, count)):
        by_tokens = np.argsort(tokens, kind="stable")
        batches[by_tokens, number] = stratum[np.argsort(-known[stratum], kind="stable")]
        tokens[:] += known[batches[:, number]]
    return np.take_along_axis(batches, np.argsort(-known[batches], axis=1, kind="stable"), axis=1)


def _place(
    batches: np.ndarray, lengths: np.ndarray, rows: int, row_length: int, *, evenly: bool = False
) -> np.ndarray | None:
    """Put the examples of each batch into rows: each into the row with the least room left, or with `evenly` the most.

    Args:
      batches: from `_divide`.
      lengths: number of tokens of each example.

    Returns:
      (batches, rows, examples) the indices of the examples, then -1 to the end of each row; `None` if they do not fit.
    """
    every, known = np.arange(len(batches)), np.append(lengths, 0)
    room, filled = np.full((len(batches), rows), row_length), np.zeros((len(batches), rows), np.int64)
    placed = np.full((len(batches), rows, batches.shape[1]), -1)
    for examples in batches.T:
        left = room - known[examples][:, np.newaxis]
        row = left.argmax(axis=1) if evenly else np.where(left < 0, row_length + 1, left).argmin(axis=1)
        if (left[every, row] < 0).any():
            return None
        room[every, row] -= known[examples]
        placed[every, row, filled[every, row]] = examples
        filled[every, row] += examples >= 0
    return placed[:, :, : filled.max()]


def to_tf_dataset(
    encoded: EncodedExamples,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_size: int = 32,
    packed: bool = False,
    class_weight: Mapping[int, float] | None = None,
    token_dropout: float = 0.0,
    multiple: int = 1,
    seed: int = 42,
) -> "tf.data.Dataset":
    """Make training batches for `fit`, which are drawn anew in each epoch.

    Under `tf.distribute.MirroredStrategy`, Keras divides each batch among the replicas.

    Args:
      encoded: from `encode_examples`.
      tokenizer: its padding token fills the rows.
      batch_size: the global batch size, summed over all replicas.
      packed: several examples share a row, and each attends only to itself, so that there is little padding. Only the
        classifiers of this package accept such batches. Each epoch has every example once. All batches have the same
        number of examples or one fewer, at most `batch_size`. If not packed, each example has its own row, and the
        last examples of an epoch are left out if they do not fill a batch.
      class_weight: maps the index of a class to the weight of its examples in the loss.
      token_dropout: the probability that an ordinary token is replaced by `[MASK]`, drawn anew in each epoch.
      multiple: the model's `gradient_accumulation_steps`. The number of packed rows is a multiple of this number and of
        the number of replicas.
      seed: the same seed gives the same batches in each epoch.

    Returns:
      A `tf.data.Dataset` of `(inputs, labels)`, or of `(inputs, labels, weights)` if `class_weight` is given. Inputs
      are `input_ids`, `token_type_ids` and `attention_mask`, each (batch_size, length) int32, and labels and weights
      (batch_size,). Packed inputs are `packed_ids`, `token_type_ids`, `position_ids` and `example_ids`, each (rows,
      length) int32, and `first_positions` (the start of each example), (rows, examples) int32 with -1 where a row has
      fewer examples. Labels and weights are then (rows, examples).

    Raises:
      ValueError: no examples, or, if they are not packed, fewer than one batch; a class without a weight; a
        `batch_size` or `multiple` below 1; a `token_dropout` outside its range, or a tokenizer without a mask token.
    """
    import tensorflow as tf

    for name, value in (("batch_size", batch_size), ("multiple", multiple)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
    if not len(encoded):
        raise ValueError("There are no examples to make batches of.")
    if not packed and len(encoded) < batch_size:
        raise ValueError(f"{len(encoded)} examples do not fill one batch of {batch_size}. Give a smaller batch_size.")
    if packed:
        plan = plan_batches(encoded.lengths, batch_size, multiple * tf.distribute.get_strategy().num_replicas_in_sync)
        return packed_dataset(
            encoded, tokenizer, plan, class_weight=class_weight, token_dropout=token_dropout, seed=seed
        )
    columns = _columns(encoded, class_weight)
    count, length = len(encoded) // batch_size, round_up(encoded.lengths.max())

    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(encoded))[: count * batch_size].reshape(count, batch_size)

    def make(chosen: np.ndarray) -> tuple:
        return pad(encoded, chosen, tokenizer, length), *(each[chosen] for each in columns)

    names = ("input_ids", "token_type_ids", "attention_mask")
    shapes = dict.fromkeys(names, (batch_size, length)), *((batch_size,) for _ in columns)
    return _dataset(draw, make, count, shapes, columns, _TokenDropout(tokenizer, token_dropout), seed)


def packed_dataset(
    encoded: EncodedExamples,
    tokenizer: PreTrainedTokenizerBase,
    plan: BatchPlan,
    *,
    class_weight: Mapping[int, float] | None = None,
    token_dropout: float = 0.0,
    seed: int = 42,
) -> "tf.data.Dataset":
    """Like `to_tf_dataset(packed=True)`, but with an existing plan for these examples."""
    columns = _columns(encoded, class_weight)

    def make(chosen: np.ndarray) -> tuple:
        inputs, layout, examples = pack_rows(encoded, chosen, tokenizer, plan.row_length)
        return inputs, *(layout.of_examples(each[examples], plan.most_examples) for each in columns)

    row, of_examples = (plan.rows, plan.row_length), (plan.rows, plan.most_examples)
    names = ("packed_ids", "token_type_ids", "position_ids", "example_ids")
    shapes = dict.fromkeys(names, row) | {"first_positions": of_examples}, *(of_examples for _ in columns)
    return _dataset(plan.draw, make, plan.batch_count, shapes, columns, _TokenDropout(tokenizer, token_dropout), seed)


class _TokenDropout:
    """Replaces random ordinary tokens by `[MASK]`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rate: float) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"token_dropout must be a share, at least 0 and below 1, not {rate}.")
        if rate and tokenizer.mask_token_id is None:
            raise ValueError("token_dropout needs a tokenizer with a mask token. Leave token_dropout at 0.")
        self._rate, self._mask = rate, tokenizer.mask_token_id
        self._special = np.array(tokenizer.all_special_ids)

    def __call__(self, inputs: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the inputs with other ids; the given arrays do not change."""
        if not self._rate:
            return inputs
        name = "packed_ids" if "packed_ids" in inputs else "input_ids"
        ids = inputs[name]
        is_dropped = (rng.random(ids.shape) < self._rate) & ~np.isin(ids, self._special)
        return inputs | {name: np.where(is_dropped, np.int32(self._mask), ids)}


def _dataset(
    draw: Callable[[np.random.Generator], np.ndarray],
    make: Callable[[np.ndarray], tuple],
    count: int,
    shapes: tuple,
    columns: list[np.ndarray],
    drop_tokens: _TokenDropout,
    seed: int,
) -> "tf.data.Dataset":
    """Make a dataset of batches that are drawn anew in each epoch.

    Args:
      draw: returns the indices of the examples in each batch of an epoch.
      make: makes a batch of the given examples.
      count: number of batches of an epoch.
      shapes: the shapes of the result of `make`: the inputs, all int32, and the columns.
      columns: labels and weights, for their dtypes.
      drop_tokens: changes the inputs of each batch.
      seed: the seed for the draws.
    """
    import tensorflow as tf

    epoch = iter(range(1 << 62))

    def batches() -> Iterator[tuple]:
        rng = np.random.default_rng([seed, next(epoch)])
        for inputs, *others in map(make, draw(rng)):
            yield drop_tokens(inputs, rng), *others

    inputs = {name: tf.TensorSpec(shape, tf.int32, name=name) for name, shape in shapes[0].items()}
    others = (tf.TensorSpec(shape, each.dtype) for shape, each in zip(shapes[1:], columns, strict=True))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=(inputs, *others))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(_PREFETCHED)
    options = tf.data.Options()
    options.autotune.enabled = False  # else its thread would delay the end of each epoch; see features.batching
    return dataset.with_options(options)


def _columns(encoded: EncodedExamples, class_weight: Mapping[int, float] | None) -> list[np.ndarray]:
    """Return labels, if there are any, and weights, if `class_weight` is given; (examples,) each."""
    weights = None if class_weight is None else _weigh(encoded.labels, class_weight)
    return [each for each in (encoded.labels, weights) if each is not None]


def _weigh(labels: np.ndarray | None, class_weight: Mapping[int, float]) -> np.ndarray:
    """The weight of each example in the loss, (examples,) float32."""
    if labels is None:
        raise ValueError("class_weight needs labelled examples: pass the model's config to encode_examples.")
    missing = sorted({*labels.tolist()} - {*class_weight})
    if missing:
        raise ValueError(f"class_weight has no weight for class {missing[0]}: give one for each class.")
    return np.array([class_weight[label] for label in labels.tolist()], np.float32)


def pack_rows(
    encoded: EncodedExamples, rows: np.ndarray, tokenizer: PreTrainedTokenizerBase, length: int
) -> tuple[dict[str, np.ndarray], Layout, np.ndarray]:
    """Make packed inputs of some examples.

    Args:
      rows: (rows, most) the indices of the examples in each row, with -1 where a row has fewer.
      length: number of tokens of a row.

    Returns:
      The inputs, as in `to_tf_dataset`; the places of the examples in the rows; and their indices, row by row.
    """
    is_example = rows >= 0
    examples = rows[is_example]
    ids, types = ([values[i] for i in examples] for values in (encoded.input_ids, encoded.token_type_ids))
    layout = Layout(np.array(list(map(len, ids))), is_example.sum(axis=1), len(rows), length)
    inputs = layout.inputs(np.concatenate(ids), np.concatenate(types), tokenizer.pad_token_id)
    return inputs | {"first_positions": layout.first_positions(rows.shape[1])}, layout, examples


def pad(
    encoded: EncodedExamples,
    chosen: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    rows: int | None = None,
) -> dict:
    """Make inputs of some examples, one per row, (rows, length) int32 each. Rows without an example are padding."""
    collator = MaskingCollator(tokenizer, block_size=length, mask_prob=0.0)
    ids, types = ([values[i] for i in chosen] for values in (encoded.input_ids, encoded.token_type_ids))
    inputs, _ = collator.collate(ids, types, np.random.default_rng(0), rows=rows)
    return inputs
