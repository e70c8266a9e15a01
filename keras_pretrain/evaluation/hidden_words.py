"""Measures how well a masked language model fills in hidden words, which are the same for every tokenizer."""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
import tf_keras
import xxhash
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from keras_pretrain.evaluation.mlm import gap_logits, load_model, whole_documents
from keras_pretrain.features.masking import IGNORED
from keras_pretrain.models.objectives import crossentropy_of_each
from keras_pretrain.models.precision import precision_of_products
from keras_pretrain.models.pretraining import require_vocabulary
from keras_pretrain.models.products import computing_in
from keras_pretrain.tokenization import choose_text_cleaning

if TYPE_CHECKING:
    from typing_extensions import Unpack  # Python 3.10 does not have it

    from keras_pretrain.models.loading import Download

# Each character of an unknown word counts as a choice among 65,536 characters, the size of the first Unicode plane.
_UNKNOWN_BITS = 16.0
_SMALLEST_LENGTH = 32  # tokens; rows have this length or twice as many, four times as many, and so on


def evaluate_hidden_words(
    model: str | os.PathLike[str] | tf_keras.Model,
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    share: float = 0.15,
    passage: int = 160,
    batch_size: int = 64,
    cleaning: str | None = None,
    precision: str = "float32",
    **download: "Unpack[Download]",
) -> dict[str, float]:
    """Hide words of texts and let a model fill them.

    The hidden words depend only on the text (`hide_words`), so all models are asked for the same characters, even if
    their tokenizers differ. All pieces of a hidden word become `[MASK]`, and each piece is predicted independently. The
    number of pieces stays visible. With a lower-casing tokenizer, they are predicted in lower case, which is easier.
    Only in these two ways do the metrics still depend on the tokenizer.

    Args:
      model, tokenizer, precision, **download: as for `evaluate_mlm`.
      texts: a dataset with column `text` (str) or `sentences` (list[str]), one document per row.
      share: the share of the words to hide.
      passage: the maximum number of characters of a passage; the model reads one passage at a time.
      batch_size: the number of passages in a batch.
      cleaning: how to clean the text, as in `clean_text`. Default: the cleaning recorded with the tokenizer. Set it to
        compare models on the same text.

    Returns:
      `bits_per_character` (of the hidden words; `inf` or `nan` for a model that diverged), `word_accuracy` (the share
      of hidden words whose pieces are all the model's first choice), `hidden_words` (their number), and `unknown_words`
      (how many of them the tokenizer writes with `[UNK]` or not at all; these count as wrong, and as 16 bits per
      character).

    Raises:
      FileNotFoundError: there is no such checkpoint, or its weights or tokenizer are missing.
      ValueError: a setting outside its range, no text, a model without an MLM head, or a passage that has more tokens
        than the model has positions.
      ModuleNotFoundError: weights that only torch can read, and torch (the extra `torch`) is missing.
    """
    for name, value in (("passage", passage), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
    model, tokenizer = load_model(model, tokenizer, download)
    documents = whole_documents(texts, choose_text_cleaning(tokenizer, cleaning))
    passages = list(hide_words((row for [row] in documents["sentences"][:]), share=share, passage=passage))
    if not passages:
        raise ValueError("No word of the texts was hidden: they are empty, or too short for this share.")
    asked = _Asked(passages, tokenizer)
    require_vocabulary(model.config, tokenizer)
    positions = model.config.max_position_embeddings
    if asked.lengths.max() > positions:
        raise ValueError(
            f"A passage has {asked.lengths.max()} tokens, and the model has {positions} positions. Set passage to "
            f"fewer than {passage} characters."
        )
    precision = precision_of_products(precision)

    @tf.function(jit_compile=True, autograph=False)
    def forward(batch: dict[str, np.ndarray]) -> tuple[tf.Tensor, tf.Tensor]:
        with computing_in(precision, opaque_true=tf.reduce_min(batch["input_ids"]) >= 0):
            logits = tf.cast(gap_logits(model, batch), tf.float32)
            logits = tf.reshape(logits, (-1, logits.shape[-1]))
        losses, _ = crossentropy_of_each(logits, batch["labels"])
        targets = tf.reshape(tf.maximum(batch["labels"], 0), (-1, 1))
        rivals = tf.reduce_sum(tf.cast(logits >= tf.gather(logits, targets, batch_dims=1), tf.int32), axis=-1)
        return losses, rivals == 1  # a tie does not count as a hit

    bits, is_right = np.zeros(asked.words), np.ones(asked.words, bool)
    for batch, words in asked.batches(batch_size, positions):
        losses, hits = (values.numpy().reshape(words.shape) for values in forward(batch))
        is_piece = words >= 0
        np.add.at(bits, words[is_piece], losses[is_piece].astype(np.float64) / math.log(2))
        np.logical_and.at(is_right, words[is_piece], hits[is_piece])
    bits[asked.is_unknown] = _UNKNOWN_BITS * asked.characters[asked.is_unknown]
    return {
        "bits_per_character": float(bits.sum() / asked.characters.sum()),
        "word_accuracy": float((is_right & ~asked.is_unknown).mean()),
        "hidden_words": asked.words,
        "unknown_words": int(asked.is_unknown.sum()),
    }


def hide_words(
    texts: Iterable[str], *, share: float = 0.15, passage: int = 160
) -> Iterator[tuple[list[str], list[bool]]]:
    """Divide texts into passages of words (at white space), and choose the words to hide by a hash of the passage.

    Args:
      texts: documents.
      share: the probability that a word is hidden.
      passage: the maximum number of characters of a passage; a longer word is cut.

    Yields:
      The words of a passage, and which of them are hidden (at least one).

    Raises:
      ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, not {share}.")
    limit = round(share * 2**64)
    for text in texts:
        for words in _passages(text.split(), passage):
            key = " ".join(words)
            is_hidden = [xxhash.xxh3_64_intdigest(f"{i} {key}".encode()) < limit for i in range(len(words))]
            if any(is_hidden):
                yield words, is_hidden


def _passages(words: list[str], most: int) -> Iterator[list[str]]:
    part: list[str] = []
    length = 0
    for word in (each[:most] for each in words):
        if part and length + 1 + len(word) > most:
            yield part
            part, length = [], 0
        length += len(word) + bool(part)
        part.append(word)
    if part:
        yield part


@dataclass
class _Gaps:
    """The gaps of a passage: the position of each gap, the token to predict, and the hidden word that it belongs to."""

    places: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)


class _Asked:
    """The tokenized passages with their gaps.

    Attributes:
      lengths: (passages,) the length of each passage in tokens.
      words: the number of hidden words.
      characters, is_unknown: (words,) the number of characters of each hidden word, and whether it is unknown.
    """

    def __init__(self, passages: list[tuple[list[str], list[bool]]], tokenizer: PreTrainedTokenizerBase) -> None:
        different = list({word: None for words, _ in passages for word in words})
        encoded = tokenizer(different, add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids_of = dict(zip(different, encoded["input_ids"], strict=True))
        self._pad, self._mask = tokenizer.pad_token_id, tokenizer.mask_token_id
        self._rows: list[tuple[list[int], _Gaps]] = []
        characters: list[int] = []
        is_unknown: list[bool] = []
        for words, is_hidden in passages:
            ids, gaps = [tokenizer.cls_token_id], _Gaps()
            for word, hidden in zip(words, is_hidden, strict=True):
                pieces = ids_of[word]
                if hidden:
                    gaps.places += range(len(ids), len(ids) + len(pieces))
                    gaps.labels += pieces
                    gaps.words += [len(characters)] * len(pieces)
                    characters.append(len(word))
                    is_unknown.append(not pieces or tokenizer.unk_token_id in pieces)
                ids += [self._mask] * len(pieces) if hidden else pieces
            self._rows.append(([*ids, tokenizer.sep_token_id], gaps))
        self.lengths = np.array([len(ids) for ids, _ in self._rows])
        self.words = len(characters)
        self.characters, self.is_unknown = np.array(characters), np.array(is_unknown)

    def batches(self, size: int, positions: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Yield batches, and the index of the hidden word of each gap, (rows, gaps), with -1 where there is no gap.
        Batches of the same row length have the same shape."""
        steps = np.maximum(np.ceil(np.log2(self.lengths / _SMALLEST_LENGTH)), 0).astype(int)
        for step in np.unique(steps).tolist():
            rows = np.flatnonzero(steps == step)
            length = min(_SMALLEST_LENGTH << step, positions)
            gaps = max(1, *(len(self._rows[row][1].places) for row in rows))
            for start in range(0, len(rows), size):
                yield self._batch(rows[start : start + size], size, length, gaps)

    def _batch(self, chosen: np.ndarray, size: int, length: int, gaps: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        ids, mask = np.full((size, length), self._pad, np.int32), np.zeros((size, length), np.int32)
        places, labels = np.zeros((size, gaps), np.int32), np.full((size, gaps), IGNORED, np.int32)
        words = np.full((size, gaps), -1)
        for row, number in enumerate(chosen):
            tokens, of_row = self._rows[number]
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
            for array, values in ((places, of_row.places), (labels, of_row.labels), (words, of_row.words)):
                array[row, : len(values)] = values
        batch = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": mask}
        return batch | {"masked_positions": places, "labels": labels}, words
