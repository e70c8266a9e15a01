"""Tables of what a BERT normaliser and pre-tokenizer do with each character. They are made by calling both.

Both process one character at a time (except for `CanonicalOrder`), so a table of all Unicode characters describes them
completely. The tables follow the Unicode version of the `tokenizers` library; a reimplementation of its rules would
follow another version.
"""

import functools
import unicodedata
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tokenizers import normalizers, pre_tokenizers

# A LETTER is joined to its neighbours, a SPACE separates them and is dropped, and an ALONE is a word of its own.
LETTER, SPACE, ALONE = 0, 1, 2

_CLEANED = -1  # in place of a combining class: the character is removed before marks are sorted
_SELF = -1  # in a replacement: stands for the character that is replaced
_BETWEEN_NORMALIZED = "|"  # a separator that normalisation never produces and never combines
_BETWEEN_WORDS = "a"
_CODE_POINTS = [*range(0xD800), *range(0xE000, 0x110000)]  # UTF-8 has no surrogates


class Runs:
    """An int32 value for each code point, stored as the code points where the value changes."""

    def __init__(self, values: Sequence[int] | np.ndarray) -> None:
        values = np.array(values, np.int32)
        starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
        self._starts = tf.constant(np.array(_CODE_POINTS, np.int32)[starts])
        self._values = tf.constant(values[starts])

    def __call__(self, code_points: tf.Tensor) -> tf.Tensor:
        """(n,) int32 code points → (n,) int32 values."""
        return tf.gather(self._values, tf.searchsorted(self._starts, code_points, side="right") - 1)


class NormalizationTable:
    """The normalised form of each character: itself, nothing, or other characters.

    Args:
      normalizer: a `BertNormalizer` of the `tokenizers` library.
    """

    def __init__(self, normalizer: normalizers.BertNormalizer) -> None:
        strips_accents = normalizer.lowercase if normalizer.strip_accents is None else normalizer.strip_accents
        self._sort = CanonicalOrder(normalizer.clean_text) if strips_accents else lambda texts: texts
        replacements = _split_normalized(normalizer)
        patterns: dict[tuple[int, ...], int] = {}
        pattern_numbers = []
        for code_point, replacement in zip(_CODE_POINTS, replacements, strict=True):
            pattern = tuple(_SELF if ord(new) == code_point else ord(new) for new in replacement)
            pattern_numbers.append(patterns.setdefault(pattern, len(patterns)))
        self._number = Runs(pattern_numbers)
        self._patterns = tf.ragged.constant(list(patterns), dtype=tf.int32, row_splits_dtype=tf.int64)

    def __call__(self, texts: tf.RaggedTensor) -> tf.RaggedTensor:
        """Code points (texts, characters) → normalised code points (texts, characters), int32."""
        texts = self._sort(texts)
        new = tf.gather(self._patterns, self._number(texts.values))
        old = tf.repeat(texts.values, new.row_lengths())
        values = tf.where(new.values == _SELF, old, new.values)
        return tf.RaggedTensor.from_row_splits(values, tf.gather(new.row_splits, texts.row_splits))


class CanonicalOrder:
    """Sorts combining marks, which is the only operation of a BERT normaliser that concerns several characters.

    A normaliser that strips accents first decomposes the text (NFD), which sorts the marks after a character by their
    combining class. Marks that its older Unicode version does not know as accents stay, in the sorted order.

    Args:
      clean_text: whether control characters are removed first.
    """

    def __init__(self, clean_text: bool) -> None:
        cleaned = _split_normalized(normalizers.BertNormalizer(clean_text, False, False, False))
        characters = zip(map(chr, _CODE_POINTS), cleaned, strict=True)
        self._class_of = Runs([_combining_class(character) if left else _CLEANED for character, left in characters])

    def __call__(self, texts: tf.RaggedTensor) -> tf.RaggedTensor:
        """Code points (texts, characters) → the same code points in canonical order."""
        classes = tf.cast(self._class_of(texts.values), tf.int64)
        # Marks are sorted between two characters that are not marks, and never beyond the end of a text.
        run = texts.value_rowids() + tf.cumsum(tf.cast(classes == 0, tf.int64))
        return texts.with_values(tf.gather(texts.values, tf.argsort(256 * run + tf.abs(classes), stable=True)))


@functools.lru_cache(maxsize=4)  # making a table takes two seconds
def normalization_table(
    clean_text: bool, handle_chinese_chars: bool, strip_accents: bool | None, lowercase: bool
) -> NormalizationTable:
    """The table of a `BertNormalizer` with these settings."""
    return NormalizationTable(normalizers.BertNormalizer(clean_text, handle_chinese_chars, strip_accents, lowercase))


@functools.cache
def word_classes() -> Runs:
    """`LETTER`, `SPACE` or `ALONE` for each code point, as `BertPreTokenizer` treats it."""
    text = _BETWEEN_WORDS + _BETWEEN_WORDS.join(map(chr, _CODE_POINTS)) + _BETWEEN_WORDS
    classes = np.full(len(text), SPACE, np.int32)
    for _, (start, end) in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text):
        classes[start:end] = LETTER
        # Separating letters have even indices, so a piece of one character at an odd index is a word of its own.
        if end - start == 1 and start % 2:
            classes[start] = ALONE
    return Runs(classes[1::2])


def _combining_class(character: str) -> int:
    """Unicode's combining class, or 0 if the `tokenizers` library does not know the mark yet and leaves it after one of
    a higher class."""
    number = unicodedata.combining(character)
    high = "\u0345"
    is_known = number and (number == 240 or normalizers.NFD().normalize_str(high + character)[-1] == high)
    return number if is_known else 0


def _split_normalized(normalizer: normalizers.Normalizer) -> list[str]:
    """Normalise each character of `_CODE_POINTS`. One call for all characters takes a third of the time of a call for
    each."""
    characters = [chr(code_point) for code_point in _CODE_POINTS]
    place = characters.index(_BETWEEN_NORMALIZED)
    characters[place] = ""  # the separator itself is normalised below
    replacements = normalizer.normalize_str(_BETWEEN_NORMALIZED.join(characters)).split(_BETWEEN_NORMALIZED)
    replacements[place] = normalizer.normalize_str(_BETWEEN_NORMALIZED)
    return replacements
