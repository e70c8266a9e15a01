"""BERT's masking: chooses the positions to predict in a batch, and replaces their tokens with `[MASK]`, a random token
or the original token."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # a label with no loss, as in 🤗 transformers


# The share of glued gaps (see `GluedRests`) from the first step on. Measured with `mini` on reviews, 3,000 steps, three
# seeds (benchmarks/README.md): in a pipeline, the token is then among the five likeliest about as often as with the
# rest as a continuation in the same model, and 0.4 times as often with 0. It costs 0.06 of the loss of other masks.
# With all gaps, but only in the second half of the steps (`glue_after`), it cost 0.02 (one seed): runs do this.
GLUE_PROB = 0.75


def describe_gluing(glue_prob: float) -> dict[str, float | str]:
    """What a run records of it. Versions that did not record `glued_gaps` glued those inside words, too."""
    return {"glue_prob": glue_prob, "glued_gaps": "beginnings of words"} if glue_prob else {}


class GluedRests:
    """How the rest of a word looks behind a gap at its beginning: as pipelines show it, not as training otherwise does.

    In «[MASK]입니다», every 🤗 tokenizer takes `[MASK]` out first, so that the rest becomes `입니다`, the beginning of
    a word. In training, where a token is hidden after tokenizing, the rest would be `##입니다`. Only rests of one piece
    whose characters are also a token that begins a word are rewritten. Longer rests may be tokenized differently, and
    are left as they are, as are rests behind a gap inside a word, which hardly anybody writes.

    Args:
      tokenizer: a WordPiece tokenizer; one without `##` pieces has no such rests.

    Attributes:
      beginnings: (vocabulary,) int32: for each `##` piece the token of the same characters that begins a word, else -1.
      continues: (vocabulary,) bool: whether a token goes on with a word.
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
        """Where a rest of one piece stands behind a gap that begins a word, and can be written as such a beginning.

        Args:
          ids: int32, the tokens before masking; the last axis is the order of the text.
          is_gap, is_chosen: bool, like `ids`: where `[MASK]` stands, and all that is predicted.

        Returns:
          bool, like `ids`.
        """
        follows_gap, ends_word = np.zeros_like(is_gap), np.ones_like(is_gap)
        follows_gap[..., 1:] = is_gap[..., :-1] & ~self.continues[ids[..., :-1]]
        ends_word[..., :-1] = ~self.continues[ids[..., 1:]]
        return follows_gap & ends_word & ~is_chosen & (self.beginnings[ids] >= 0)


class MaskingCollator:
    """Pads examples to `block_size` and masks them, for this package's `to_tf_dataset` and for 🤗's.

    Of an example's ordinary tokens, `mask_prob` (rounded, one at least) are chosen without replacement; special tokens
    and `[UNK]` never are. Of the chosen, 80% become `[MASK]`, 10% a random ordinary token, 10% stay as they are
    (Devlin et al., 2019).

    Args:
      tokenizer: the tokenizer the examples were made with.
      block_size: length of every row.
      mask_prob: share of the ordinary tokens to predict; 0 masks nothing.
      glue_prob: the probability that the rest of a word after a `[MASK]` is shown as pipelines show it, `입니다`
        instead of `##입니다` (see `GluedRests`). It changes no label and no other draw.
      seed: of the draws. The same sequence of calls gives the same masks; `collate` takes a generator of its own.

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
        """Collate as 🤗's data collators do: a list of examples in, one dictionary of arrays out, labels included."""
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
        """Pad and mask.

        Args:
          input_ids, token_type_ids: one sequence an example.
          rng: where the draws come from.
          rows: rows of the result; those beyond the examples are all padding, without attention and without loss.

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
          rng: where the draws come from.

        Returns:
          `(masked_ids, labels)`, both like `input_ids`; `labels` holds the original where it is to be predicted and
          -100 elsewhere.
        """
        chosen = self._choose(input_ids, rng)
        labels = np.where(chosen, input_ids, np.int32(IGNORED))
        return self.hide(input_ids, chosen, rng), labels

    def hide(self, input_ids: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The ids with `[MASK]`, a random token or the same in the place of each one chosen (80, 10 and 10%), and with
        the rests of words that are shown as pipelines show them.

        Args:
          input_ids, chosen: int32 and bool, of one shape.
        """
        fate = rng.random(int(chosen.sum()), np.float32)
        original = input_ids[chosen]
        replaced = np.where(fate < 0.8, np.int32(self.mask_token_id), original)
        is_random = fate >= 0.9
        replaced[is_random] = rng.choice(self.ordinary_ids, int(is_random.sum()))
        masked = input_ids.copy()
        masked[chosen] = replaced
        if self.glue_prob > 0:
            (rng,) = rng.spawn(1)  # so that the draws after these do not depend on them
            is_glued = self.rests.behind(input_ids, chosen & (masked == self.mask_token_id), chosen)
            is_glued[is_glued] = rng.random(int(is_glued.sum()), np.float32) < self.glue_prob
            masked[is_glued] = self.rests.beginnings[input_ids[is_glued]]
        return masked

    def choose_in_examples(self, ids: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Where to predict, as in `mask`, for examples that lie one after the other.

        Args:
          ids: (tokens,) int32, of all examples.
          lengths: (examples,) of each.

        Returns:
          (tokens,) bool.
        """
        example = np.repeat(np.arange(len(lengths)), lengths)
        ordinary = ~self.is_special[ids]
        wanted = self._wanted(np.bincount(example, weights=ordinary, minlength=len(lengths)))
        # Sorted by example, ordinary tokens before the others, and then at random.
        keys = (example << 33) | (~ordinary).astype(np.int64) << 32 | rng.integers(0, 1 << 32, len(ids), np.int64)
        order = np.argsort(keys)
        rank = np.empty(len(ids), np.int64)
        rank[order] = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rank < wanted[example]

    def _wanted(self, count: np.ndarray) -> np.ndarray:
        """How many of so many ordinary tokens are predicted."""
        return np.minimum(np.maximum(np.rint(self.mask_prob * count), self.mask_prob > 0), count).astype(np.int64)

    def _choose(self, input_ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Where to predict: in each row exactly `max(1, round(mask_prob * ordinary tokens))` of the ordinary tokens."""
        rows, width = input_ids.shape
        ordinary = ~self.is_special[input_ids]
        count = ordinary.sum(axis=1)
        wanted = self._wanted(count)
        # The `wanted` smallest of random numbers that are all different: their low bits are the position.
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
