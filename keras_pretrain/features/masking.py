"""BERT's masking: chooses the positions to predict in a batch, and replaces their tokens with `[MASK]`, a random token
or the original token."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # a label with no loss, as in 🤗 transformers


# The default probability of gluing (see `GluedRests`). Measured with `mini` on reviews, 3,000 steps
# (benchmarks/README.md): with 0.75, a pipeline has the right token among the five likeliest about as often as the same
# model has it if it sees the rest as a `##` piece; with 0, only 0.4 times as often. The loss of other masks is higher
# by 0.06 with gluing from the first step on, and by 0.012 in only the second half (`glue_after`), as in runs of BERT.
GLUE_PROB = 0.75


def describe_gluing(glue_prob: float) -> dict[str, float | str]:
    """Return the settings of gluing that a run records; none if nothing is glued. Versions that did not record
    `glued_gaps` also glued after gaps inside words."""
    return {"glue_prob": glue_prob, "glued_gaps": "beginnings of words"} if glue_prob else {}


class GluedRests:
    """Finds rests of words that fill-mask pipelines tokenize differently from training. A rest is what follows a gap
    (`[MASK]`) at the beginning of a word.

    In a pipeline, every 🤗 tokenizer splits `[MASK]입니다` at `[MASK]` first, so that the rest becomes `입니다`, which
    begins a word. In training, tokens are masked after tokenizing, so the rest is `##입니다`. Gluing replaces it with
    `입니다`. This is done only if the rest is a single piece, and the vocabulary has a token of the same characters
    that begins a word. A longer rest does not change, because a pipeline may split it differently. A rest after a gap
    inside a word does not change either, because hardly anybody writes such a gap.

    Args:
      tokenizer: a WordPiece tokenizer. If its vocabulary has no `##` pieces, there is nothing to glue.

    Attributes:
      beginnings: (vocabulary,) int32: for each `##` piece, the id of the token of the same characters that begins a
        word; -1 if there is none, and for all other tokens.
      continues: (vocabulary,) bool: whether a token is a `##` piece, which continues a word.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        vocabulary = tokenizer.get_vocab()
        size = max(len(tokenizer), max(vocabulary.values(), default=0) + 1)
        self.beginnings = np.full(size, -1, np.int32)
        self.continues = np.zeros(size, bool)
        special = set(tokenizer.all_special_tokens)
        for token, number in vocabulary.items():
            if token.startswith("##") and len(token) > 2:
                self.continues[number] = True
                if token[2:] not in special:
                    self.beginnings[number] = vocabulary.get(token[2:], -1)

    def behind(self, ids: np.ndarray, is_gap: np.ndarray, is_chosen: np.ndarray) -> np.ndarray:
        """Find the rests to glue: single pieces after a gap at the beginning of a word that have an entry in
        `beginnings`.

        Args:
          ids: int32, the tokens before masking; the last axis is the order of the text.
          is_gap: bool, in the shape of `ids`: the positions of `[MASK]`.
          is_chosen: bool, in the shape of `ids`: all positions to predict.

        Returns:
          bool, in the shape of `ids`.
        """
        follows_gap, ends_word = np.zeros_like(is_gap), np.ones_like(is_gap)
        follows_gap[..., 1:] = is_gap[..., :-1] & ~self.continues[ids[..., :-1]]
        ends_word[..., :-1] = ~self.continues[ids[..., 1:]]
        return follows_gap & ends_word & ~is_chosen & (self.beginnings[ids] >= 0)


class MaskingCollator:
    """Pads examples to `block_size` and masks them, for this package's `to_tf_dataset` and for the one of 🤗 datasets.

    In each example, a share `mask_prob` of the ordinary tokens (rounded, at least one) is chosen without replacement.
    Special tokens and `[UNK]` are never chosen. A chosen token becomes `[MASK]` with probability 0.8 and a random
    ordinary token with probability 0.1, and is otherwise unchanged (Devlin et al., 2019).

    Args:
      tokenizer: the tokenizer with which the examples were made.
      block_size: length of every row.
      mask_prob: the share of the ordinary tokens to predict; 0 masks nothing.
      glue_prob: the probability that the rest of a word after a `[MASK]` is shown as in a fill-mask pipeline, `입니다`
        instead of `##입니다` (see `GluedRests`). It changes no label and no other draw.
      seed: the seed for calls of the object itself: the same sequence of calls gives the same masks. `collate` and
        the other methods use the generator in their arguments.

    Raises:
      ValueError: mask_prob or glue_prob outside [0, 1], or a tokenizer without `[MASK]`.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        block_size: int,
        mask_prob: float = 0.15,
        glue_prob: float = GLUE_PROB,
        seed: int = 42,
    ) -> None:
        for name, value in (("mask_prob", mask_prob), ("glue_prob", glue_prob)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is a probability, from 0 to 1, not {value}.")
        if tokenizer.mask_token_id is None:
            raise ValueError("The tokenizer has no mask token; a BERT or ELECTRA tokenizer is needed.")
        self.block_size = block_size
        self.mask_prob = mask_prob
        self.glue_prob = glue_prob
        self.rests = GluedRests(tokenizer)
        self.pad_token_id = tokenizer.pad_token_id
        self.mask_token_id = tokenizer.mask_token_id
        self.is_special = np.zeros(len(tokenizer), bool)
        self.is_special[tokenizer.all_special_ids] = True
        self.ordinary_ids = np.flatnonzero(~self.is_special).astype(np.int32)
        self._rng = np.random.default_rng(seed)

    def __call__(self, examples: list[dict]) -> dict[str, np.ndarray]:
        """Collate a list of examples to one dictionary of arrays, labels included, as 🤗's data collators do."""
        inputs, labels = self.collate(
            [example["input_ids"] for example in examples],
            [example["token_type_ids"] for example in examples],
            self._rng,
        )
        if "next_sentence_label" in examples[0]:
            labels["next_sentence_label"] = np.array([example["next_sentence_label"] for example in examples], np.int32)
        return inputs | labels

    def collate(
        self, input_ids: list, token_type_ids: list, rng: np.random.Generator, rows: int | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Pad and mask examples.

        Args:
          input_ids, token_type_ids: one sequence for each example.
          rng: the generator for the draws.
          rows: number of rows of the result. Default: the number of examples. Further rows are padding, without
            attention and without loss.

        Returns:
          `({input_ids, token_type_ids, attention_mask}, {labels})`, each (rows, block_size) int32.

        Raises:
          ValueError: an example longer than `block_size`.
        """
        lengths = np.fromiter(map(len, input_ids), np.int64, len(input_ids))
        if lengths.max(initial=0) > self.block_size:
            raise ValueError(
                f"An example of {lengths.max()} tokens does not fit into block_size {self.block_size}. Build the "
                "features with this block_size, or give to_tf_dataset the block_size of the features."
            )
        rows = len(input_ids) if rows is None else rows
        lengths = np.pad(lengths, (0, rows - len(lengths)))
        attention_mask = (np.arange(self.block_size) < lengths[:, None]).astype(np.int32)
        ids = self._pad(input_ids, attention_mask, self.pad_token_id)
        types = self._pad(token_type_ids, attention_mask, 0)
        masked, labels = self.mask(ids, rng)
        return {"input_ids": masked, "token_type_ids": types, "attention_mask": attention_mask}, {"labels": labels}

    def mask(self, input_ids: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Mask a padded batch.

        Args:
          input_ids: (rows, block_size) int32.
          rng: the generator for the draws.

        Returns:
          `(masked_ids, labels)`, both like `input_ids`. `labels` has the original tokens at the positions to predict,
          and -100 elsewhere.
        """
        chosen = self._choose(input_ids, rng)
        labels = np.where(chosen, input_ids, np.int32(IGNORED))
        return self.hide(input_ids, chosen, rng), labels

    def hide(self, input_ids: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Replace each chosen token with `[MASK]` (80%) or a random token (10%), or keep it (10%). Then glue rests of
        words (see `GluedRests`), each with probability `glue_prob`.

        Args:
          input_ids: int32, of any shape.
          chosen: bool, of the same shape: the tokens to predict.
          rng: the generator for the draws.
        """
        fate = rng.random(int(chosen.sum()), np.float32)
        original = input_ids[chosen]
        replaced = np.where(fate < 0.8, np.int32(self.mask_token_id), original)
        is_random = fate >= 0.9
        replaced[is_random] = rng.choice(self.ordinary_ids, int(is_random.sum()))
        masked = input_ids.copy()
        masked[chosen] = replaced
        if self.glue_prob > 0:
            (rng,) = rng.spawn(1)  # so that later draws do not depend on the draws below
            is_glued = self.rests.behind(input_ids, chosen & (masked == self.mask_token_id), chosen)
            is_glued[is_glued] = rng.random(int(is_glued.sum()), np.float32) < self.glue_prob
            masked[is_glued] = self.rests.beginnings[input_ids[is_glued]]
        return masked

    def choose_in_examples(self, ids: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose the positions to predict, by the same rule as `mask`, for examples that are concatenated.

        Args:
          ids: (tokens,) int32, the tokens of all examples.
          lengths: (examples,) the number of tokens of each example.
          rng: the generator for the draws.

        Returns:
          (tokens,) bool.
        """
        example = np.repeat(np.arange(len(lengths)), lengths)
        ordinary = ~self.is_special[ids]
        wanted = self._wanted(np.bincount(example, weights=ordinary, minlength=len(lengths)))
        # Sort by example; within an example, ordinary tokens before the others; then at random.
        keys = (example << 33) | (~ordinary).astype(np.int64) << 32 | rng.integers(0, 1 << 32, len(ids), np.int64)
        order = np.argsort(keys)
        rank = np.empty(len(ids), np.int64)
        rank[order] = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rank < wanted[example]

    def _wanted(self, count: np.ndarray) -> np.ndarray:
        """The number of tokens to predict, given the number of ordinary tokens."""
        return np.minimum(np.maximum(np.rint(self.mask_prob * count), self.mask_prob > 0), count).astype(np.int64)

    def _choose(self, input_ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose the positions to predict: `max(1, round(mask_prob * ordinary tokens))` ordinary tokens of each row,
        but none if the row has none or `mask_prob` is 0."""
        rows, width = input_ids.shape
        ordinary = ~self.is_special[input_ids]
        count = ordinary.sum(axis=1)
        wanted = self._wanted(count)
        # Choose the `wanted` smallest random numbers of each row. They all differ, because their low bits are the
        # position.
        position_bits = np.uint32(math.ceil(math.log2(max(width, 2))))
        scores = rng.integers(0, 1 << 32, (rows, width), np.uint32)
        scores = ((scores >> position_bits) << position_bits) | np.arange(width, dtype=np.uint32)
        scores[~ordinary] = np.iinfo(np.uint32).max
        ranked = np.sort(scores, axis=1)
        threshold = np.take_along_axis(ranked, np.maximum(wanted - 1, 0)[:, None], axis=1)
        return (scores <= threshold) & ordinary & (wanted > 0)[:, None]

    def _pad(self, sequences: list, attention_mask: np.ndarray, filler: int) -> np.ndarray:
        padded = np.full(attention_mask.shape, filler, np.int32)
        if sequences:
            padded[attention_mask.astype(bool)] = np.concatenate(sequences)
        return padded
