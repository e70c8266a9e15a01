"""Packing: chooses which examples share a row."""

from dataclasses import dataclass

import numpy as np

from keras_pretrain.features.masking import IGNORED

_PACKING = 4  # a part of the random stream's seed; `batching` uses other numbers


@dataclass(frozen=True)
class Packing:
    """A plan of the examples that share a row.

    Attributes:
      members: (examples,) numbers of the examples; the examples of a row are next to each other.
      ends: (rows,) the end of each row's examples in `members`.
      most_examples: the maximum number of examples in a row.
      most_labels: an upper bound of the number of labels in a row, for the `mask_prob` of the plan.
    """

    members: np.ndarray
    ends: np.ndarray
    most_examples: int
    most_labels: int

    def __len__(self) -> int:
        return len(self.ends)

    def of_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of the examples in some rows, and the number of examples in each of these rows."""
        starts = np.where(rows > 0, self.ends[rows - 1], 0)
        counts = self.ends[rows] - starts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.members[np.repeat(starts, counts) + within], counts


def pack(lengths: np.ndarray, block_size: int, *, mask_prob: float, seed: int) -> Packing:
    """Put examples into few rows of `block_size` tokens, with the best-fit decreasing algorithm.

    Rows are planned from the counts of lengths (`plan_rows`), which takes as long for ten million examples as for a
    thousand. Then, for each row, examples of the planned lengths are drawn at random.

    Args:
      lengths: (examples,) number of tokens of each example, from 1 to `block_size`.
      mask_prob: the share of the tokens to predict (at least one in each example), for `most_labels`.
      seed: the seed for the draw.
    """
    plan = plan_rows(np.bincount(lengths, minlength=block_size + 1), block_size)
    drawn = np.random.default_rng([seed, _PACKING]).permutation(len(lengths))
    by_length = drawn[np.argsort(lengths[drawn].astype(np.uint16), kind="stable")]
    next_of = np.cumsum(np.bincount(lengths, minlength=block_size + 1)) - np.bincount(lengths, minlength=block_size + 1)
    members, sizes = [], []
    for composition, rows in plan:
        columns = np.empty((rows, len(composition)), by_length.dtype)
        for column, length in enumerate(composition):
            columns[:, column] = by_length[next_of[length] : next_of[length] + rows]
            next_of[length] += rows
        members.append(columns.ravel())
        sizes.append(np.full(rows, len(composition)))
    labels = [np.maximum(np.rint(mask_prob * np.array(composition)), mask_prob > 0).sum() for composition, _ in plan]
    return Packing(
        np.concatenate(members),
        np.cumsum(np.concatenate(sizes)),
        max(len(composition) for composition, _ in plan),
        int(max(*labels, 1)),
    )


def plan_rows(counts: np.ndarray, block_size: int) -> list[tuple[tuple[int, ...], int]]:
    """Plan rows with best-fit decreasing: take the longest example first, and put each example into the row in which it
    leaves the least room. A histogram of lengths represents the examples.

    The algorithm is from Krell et al. (2021, "Efficient Sequence Packing without Cross-contamination").

    Args:
      counts: (block_size + 1,) the number of examples of each length.

    Returns:
      `[(lengths of a row's examples, number of such rows), ...]`.
    """
    open_rows: list[list] = [
        [] for _ in range(block_size + 1)
    ]  # open_rows[n]: `(example lengths, number of such rows)` of rows with n free tokens
    for length in range(block_size, 0, -1):
        left = int(counts[length])
        while left:
            room = next((room for room in range(length, block_size) if open_rows[room]), block_size)
            composition, rows = open_rows[room].pop() if room < block_size else ((), left)
            fitting = room // length
            filled = min(rows, left // fitting)
            if filled:
                open_rows[room - fitting * length].append((composition + (length,) * fitting, filled))
                left -= filled * fitting
            if left and filled < rows:  # the examples that are left do not fill a row
                open_rows[room - left * length].append((composition + (length,) * left, 1))
                filled, left = filled + 1, 0
            if room < block_size and filled < rows:
                open_rows[room].append((composition, rows - filled))
    return [each for rows in open_rows for each in rows]


class Layout:
    """Computes the positions of tokens in packed rows. In a row, the examples follow each other from the first column
    on.

    Args:
      lengths: (examples,) number of tokens of each example, row by row.
      counts: the number of examples of each row.
      rows: number of rows of the batch; rows beyond `counts` stay empty.
      length: number of tokens of a row.

    Attributes:
      row, number: (examples,) the row of each example, and its index among the examples of the row.
      token_rows, columns: (tokens,) the row and column of each token.
    """

    def __init__(self, lengths: np.ndarray, counts: np.ndarray, rows: int, length: int):
        self._shape = rows, length
        self.row = np.repeat(np.arange(len(counts)), counts)
        examples = np.arange(len(lengths))
        self.number = examples - np.repeat(np.cumsum(counts) - counts, counts)
        starts = np.cumsum(lengths) - lengths  # index of each example's first token among all tokens
        self._offsets = starts - starts[examples - self.number]  # the same within the row
        self._positions = np.arange(lengths.sum()) - np.repeat(starts, lengths)
        self.token_rows = np.repeat(self.row, lengths)
        self.columns = np.repeat(self._offsets, lengths) + self._positions
        self._lengths = lengths

    def spread(self, values: np.ndarray, filler: int = 0) -> np.ndarray:
        """Arrange one value for each token in rows, (rows, length) int32."""
        spread = np.full(self._shape, filler, np.int32)
        spread[self.token_rows, self.columns] = values
        return spread

    def inputs(self, ids: np.ndarray, types: np.ndarray, pad_token_id: int) -> dict[str, np.ndarray]:
        """Make the model's inputs, each (rows, length) int32. `example_ids` count from 1 in each row."""
        return {
            "packed_ids": self.spread(ids, pad_token_id),
            "token_type_ids": self.spread(types),
            "position_ids": self.spread(self._positions),
            "example_ids": self.spread(np.repeat(self.number + 1, self._lengths)),
        }

    def of_examples(self, values: np.ndarray, most: int, filler: int = 0) -> np.ndarray:
        """Arrange one value for each example in rows, (rows, most), with `filler` where a row has fewer examples."""
        found = np.full((self._shape[0], most), filler, np.asarray(values).dtype)
        found[self.row, self.number] = values
        return found

    def first_positions(self, most: int) -> np.ndarray:
        """The column at which each example starts, (rows, most) int32; -1 where a row has fewer examples."""
        return self.of_examples(self._offsets.astype(np.int32), most, -1)


def unpack(inputs: dict, labels: dict | None = None) -> tuple[dict, dict]:
    """Unpack a batch: each example gets its own row, as in a batch that was not packed.

    Args:
      inputs, labels: as `to_tf_dataset` gives them with `packed=True`.

    Returns:
      `(inputs, labels)`: `input_ids`, `token_type_ids`, `attention_mask`, (examples, block_size) each; `labels` of the
      same shape, and `next_sentence_label` (examples,), each only if the batch has it. All arrays are int32. The order
      of the examples is row by row.
    """
    inputs = {name: np.asarray(values) for name, values in inputs.items()}
    labels = {name: np.asarray(values) for name, values in (labels or {}).items()}
    rows, block_size = inputs["packed_ids"].shape
    by_position = np.full((rows, block_size), IGNORED, np.int32)
    if "labels" in labels:
        row, place = np.nonzero(inputs["masked_positions"] >= 0)
        by_position[row, inputs["masked_positions"][row, place]] = labels["labels"][row, place]
    taken = {"input_ids": inputs["packed_ids"], "token_type_ids": inputs["token_type_ids"], "labels": by_position}
    examples: dict[str, list[np.ndarray]] = {name: [] for name in (*taken, "attention_mask")}
    pairs = []
    for row in range(rows):
        for number in range(1, inputs["example_ids"][row].max(initial=0) + 1):
            columns = np.flatnonzero(inputs["example_ids"][row] == number)
            for name, values in taken.items():
                example = np.full(block_size, IGNORED if name == "labels" else 0, np.int32)
                example[: len(columns)] = values[row, columns]
                examples[name].append(example)
            examples["attention_mask"].append((np.arange(block_size) < len(columns)).astype(np.int32))
            if "next_sentence_label" in labels:
                pairs.append(labels["next_sentence_label"][row, number - 1])
    found = {name: np.stack(values) for name, values in examples.items()}
    unpacked_labels = {"labels": found.pop("labels")} if "labels" in labels else {}
    found.pop("labels", None)
    if pairs:
        unpacked_labels["next_sentence_label"] = np.array(pairs, np.int32)
    return found, unpacked_labels
