"""Chooses the validation documents by a hash of each document's text and the seed.

The split is the same in memory, on disk, and for any number of processes. Adding documents never moves an earlier one
from training to validation (except in a corpus of a few documents). Documents with the same text are always on the same
side.
"""

import hashlib
import unicodedata

import numpy as np

from keras_pretrain.corpus.cleaning import cut_at_blanks

# In Korean, these are about 4,000 sequences of 128 tokens with 80,000 masked tokens, which is enough to measure the
# mean loss to about 0.01.
VALIDATION_CHARACTERS = 1_000_000


def document_hash(text: str) -> int:
    """A 64-bit hash of a document's text, with Unicode NFC and each run of white space as one space."""
    digest = hashlib.blake2b(digest_size=8)
    for part in cut_at_blanks(text):  # in parts: a list of all words of a book takes ten times the book's memory
        digest.update("".join(f"{word} " for word in unicodedata.normalize("NFC", part).split()).encode())
    return int.from_bytes(digest.digest(), "little")


def validation_bound(hashes: np.ndarray, characters: np.ndarray, fraction: float, seed: int) -> int:
    """Compute the upper bound (exclusive) of the keys of validation documents: a document is in the validation split if
    its key from `split_keys` is below this bound.

    By default, the bound is `fraction` of the range of keys. It is lowered if the documents below it have more than
    `VALIDATION_CHARACTERS` characters, and raised if they are fewer than two different documents (fewer than one, in a
    corpus of two or three). The document with the highest key is always for training.

    Args:
      hashes: (documents,) uint64 of `document_hash`.
      characters: (documents,) the number of characters of each document.
      fraction: share of the documents, at least 0 and below 1; with 0 there is no validation.
      seed: the seed for the split.

    Returns:
      The bound, from 0 to 2**64 - 1.

    Raises:
      ValueError: validation is asked for and all documents are the same.
    """
    if fraction == 0:
        return 0
    keys = split_keys(hashes, seed)
    bound = int(fraction * 2**64)
    below = np.flatnonzero(keys < np.uint64(bound))
    below = below[np.argsort(keys[below], kind="stable")]
    too_many = np.cumsum(characters[below].astype(np.int64)) > VALIDATION_CHARACTERS
    if too_many.any():
        bound = int(keys[below[np.argmax(too_many)]])  # excludes all documents of that text
    different = np.unique(keys)
    if len(different) < 2:
        raise ValueError(
            f"The corpus has only one document{'' if len(keys) == 1 else ', many times'}, and validation needs another "
            "one. Give more documents (in .txt files, a blank line separates documents; with sample_by='line', each "
            "line is a document), or set validation_fraction=0."
        )
    fewest = 2 if len(different) >= 4 else 1
    return min(max(bound, int(different[fewest - 1]) + 1), int(different[-1]))


def split_keys(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Mix hashes with a seed by the last step of SplitMix64 (Steele et al., 2014); returns (documents,) uint64."""
    start = ((seed + 1) * 0x9E3779B97F4A7C15) % 2**64
    keys = hashes.astype(np.uint64) + np.uint64(start)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def is_validation(hashes: np.ndarray, bound: int, seed: int) -> np.ndarray:
    """Whether each document is for validation, (documents,) bool."""
    return split_keys(hashes, seed) < np.uint64(bound)


def first_occurrences(hashes: np.ndarray) -> np.ndarray:
    """Whether each document is the first one with its text, (documents,) bool."""
    first = np.zeros(len(hashes), bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return first
