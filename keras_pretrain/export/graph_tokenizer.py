"""`GraphTokenizer`: a BERT tokenizer made of TensorFlow ops, for models that take strings."""

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import tensorflow as tf
from tokenizers import models, normalizers, pre_tokenizers

from keras_pretrain.export.character_table import LETTER, SPACE, normalization_table, word_classes

if TYPE_CHECKING:
    import tensorflow_text
    from transformers import PreTrainedTokenizerBase

# Texts on which tokenizers often differ: controls, joiners, marks, full-width forms, ideographs, long words, broken
# emoji.
_HARD_TEXTS = (
    "", " ", "\t\r\n\x0b\x0c\x85\u2028\u3000\xa0", "\x00a\x01b\x7f\ufffd", "zero\u200bwidth\u200djoin\ufeff",
    "한국어 텍스트, 띄어쓰기없음.", "\u1112\u1161\u11ab\u1100\u1173\u11af", "각\u0301ㄱㅏ㈜㎏①",
    "a\u302e\u08d4\u0323\u1b44", "中文字漢한字\U00020000豈", "ＡＢＣ１２３！？「」",
    "Café CAFE\u0301 İstanbul ΣΑΣ ﬁ ß ẞ",
    "\U0001f469\u200d\U0001f467\U0001f3f3\ufe0f\U0001f1f0\U0001f1f7é", "a" * 100, "a" * 101, "가" * 100, "가" * 101,
    "don't_stop--now...###", "## ##가 가##", "[MASK][mask] [CLS]가[SEP][PAD]x[UNK]", "[MA\x00SK]",
    "\ue000가\U0010ffff나\U000e0001", "$+<=>^`|~",
)  # fmt: skip


class GraphTokenizer(tf.Module):
    """Produces the same ids as a 🤗 `BertTokenizerFast`, with only TensorFlow and tensorflow-text.

    Normalisation and word boundaries come from tables of all Unicode characters, which are made by calling the
    tokenizer. WordPiece is tensorflow-text's. Special and added tokens are matched in the same way as in the tokenizer.
    A tokenizer that cannot be reproduced causes an error. The constructor compares the result with the tokenizer on
    texts that are hard to tokenize.

    Args:
      tokenizer: a fast WordPiece tokenizer with BERT's normaliser and pre-tokenizer, cased or not.
      max_length: longer sequences are cut to this number of tokens, which includes `[CLS]` and `[SEP]`.

    Raises:
      ValueError: a tokenizer of another kind, or one with settings that are not reproduced.
      ModuleNotFoundError: tensorflow-text is not installed.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> None:
        super().__init__()
        _require_reproducible(tokenizer)
        if max_length < 3:
            raise ValueError(f"max_length must leave room beside [CLS] and [SEP]: 3 at least, not {max_length}.")
        self.max_length = max_length
        self._cls, self._sep, self._pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
        backend = tokenizer.backend_tokenizer
        settings = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
        self._normalize = normalization_table(*(getattr(backend.normalizer, name) for name in settings))
        self._class_of = word_classes()
        self._max_characters = backend.model.max_input_chars_per_word
        vocabulary = backend.get_vocab(with_added_tokens=False)
        self._wordpiece = _wordpiece(vocabulary, backend.model)
        self._unknown_word = next(chr(c) for c in range(0xE000, 0xF900) if chr(c) not in vocabulary)
        added = [(token, number) for number, token in tokenizer.added_tokens_decoder.items()]
        self._added = {token.content: number for token, number in added if not token.normalized}
        self._added_normalized = {
            backend.normalizer.normalize_str(token.content): number for token, number in added if token.normalized
        }
        _require_equal(self, tokenizer)

    def __call__(self, text: tf.Tensor, text_pair: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Texts → a model's inputs, as `tokenizer(text, text_pair, truncation=True, max_length=max_length,
        padding=True)`.

        Args:
          text: (batch,) string, UTF-8; invalid bytes are read as U+FFFD.
          text_pair: (batch,) string, the second text of each pair.

        Returns:
          `input_ids`, `token_type_ids`, `attention_mask`, each (batch, longest) int32.
        """
        around = tf.ones((tf.shape(text)[0], 1), tf.int32)
        cls, sep = around * self._cls, around * self._sep
        if text_pair is None:
            parts = [cls, self.tokenize(text)[:, : self.max_length - 2], sep]
        else:
            message = "text_pair must have as many texts as text: one second text for each first text."
            with tf.control_dependencies([tf.debugging.assert_equal(tf.size(text), tf.size(text_pair), message)]):
                text_pair = tf.identity(text_pair)
            first, second = _cut_longer(self.tokenize(text), self.tokenize(text_pair), self.max_length - 3)
            parts = [cls, first, sep, second, sep]
        types = [tf.zeros_like(part) if number < 3 else tf.ones_like(part) for number, part in enumerate(parts)]
        ids, types = tf.concat(parts, axis=1), tf.concat(types, axis=1)
        shape = tf.maximum(ids.bounding_shape(out_type=tf.int32), [0, 2])  # an empty batch has length 2, as [CLS] [SEP]
        return {
            "input_ids": ids.to_tensor(self._pad, shape=shape),
            "token_type_ids": types.to_tensor(shape=shape),
            "attention_mask": tf.ones_like(ids).to_tensor(shape=shape),
        }

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """(batch,) texts → (batch, tokens) int32 ids, without special tokens around them and not truncated."""
        # regex_split ends a text at its first NUL. The normaliser drops NUL anyway, as it drops U+FFFD.
        texts = tf.strings.regex_replace(texts, r"\x00", "\ufffd")
        return _pick_out(self._added, texts, self._tokenize_plain)

    def _tokenize_plain(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """(n,) texts without special tokens → (n, tokens) ids."""
        characters = self._normalize(_decode(texts))
        if not self._added_normalized:
            return self._tokenize_normalized(characters)
        return _pick_out(
            self._added_normalized,
            tf.strings.unicode_encode(characters, "UTF-8"),
            lambda texts: self._tokenize_normalized(_decode(texts)),
        )

    def _tokenize_normalized(self, characters: tf.RaggedTensor) -> tf.RaggedTensor:
        """(n, characters) normalised code points → (n, tokens) ids."""
        words, text_of_word = self._split_words(characters)
        strings = tf.strings.unicode_encode(words, "UTF-8")
        strings = tf.where(words.row_lengths() > self._max_characters, self._unknown_word, strings)
        pieces = self._wordpiece.tokenize(strings)
        return tf.RaggedTensor.from_value_rowids(pieces, text_of_word, nrows=characters.nrows()).merge_dims(1, 2)

    def _split_words(self, texts: tf.RaggedTensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Code points (n, characters) → code points (words, characters), and the index of each word's text."""
        classes, text = self._class_of(texts.values), texts.value_rowids()
        count = tf.shape(classes)[0]
        class_before = tf.concat([[SPACE], classes[:-1]], axis=0)[:count]
        text_before = tf.concat([text[:1], text[:-1]], axis=0)[:count]
        continues = (classes == LETTER) & (class_before == LETTER) & (text == text_before)
        is_kept = classes != SPACE
        is_start = is_kept & ~continues
        word = tf.cumsum(tf.cast(is_start, tf.int64)) - 1
        words = tf.RaggedTensor.from_value_rowids(
            texts.values[is_kept], word[is_kept], nrows=tf.math.count_nonzero(is_start)
        )
        return words, text[is_start]


def _cut_longer(first: tf.RaggedTensor, second: tf.RaggedTensor, room: int) -> list[tf.RaggedTensor]:
    """Truncate two texts to `room` tokens in total, as 🤗 does. If only one of them is longer than half of `room`, it
    gets what the other leaves. If both are longer, each keeps half; an odd token goes to the longer text, or to the
    second if they are equally long."""
    lengths = [first.row_lengths(), second.row_lengths()]
    half = tf.constant(room // 2, tf.int64)
    kept_shorter = tf.minimum(tf.minimum(*lengths), half)
    first_is_shorter = lengths[0] <= lengths[1]
    fits = lengths[0] + lengths[1] <= room
    return [
        _cut(tokens, tf.where(fits, length, tf.where(is_shorter, kept_shorter, room - kept_shorter)))
        for tokens, length, is_shorter in zip(
            (first, second), lengths, (first_is_shorter, ~first_is_shorter), strict=True
        )
    ]


def _cut(tokens: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Keep the first `lengths[i]` tokens of each row `i`."""
    places = tf.ragged.range(tokens.row_lengths()).values
    return tf.ragged.boolean_mask(tokens, tokens.with_values(places < tf.gather(lengths, tokens.value_rowids())))


def _decode(texts: tf.Tensor) -> tf.RaggedTensor:
    return tf.strings.unicode_decode(texts, "UTF-8")


def _pick_out(added: dict[str, int], texts: tf.Tensor, tokenize: Callable) -> tf.RaggedTensor:
    """Tokenize texts in which added tokens are matched literally: the leftmost match first; at one place, the longest.

    Args:
      added: the added tokens and their ids.
      texts: (n,) string.
      tokenize: tokenizes the text between added tokens, (m,) string → (m, tokens) int32.

    Returns:
      (n, tokens) int32.
    """
    if not added:
        return tokenize(texts)
    longest_first = sorted(added, key=len, reverse=True)
    pattern = "|".join(rf"\Q{token}\E" for token in longest_first)
    parts = _tensorflow_text().regex_split(texts, pattern, pattern)
    matches = parts.values[:, tf.newaxis] == tf.constant(longest_first)
    is_added = tf.reduce_any(matches, axis=1)
    numbers = tf.constant([added[token] for token in longest_first], tf.int32)
    found = tf.gather(numbers, tf.argmax(tf.cast(matches[is_added], tf.int32), axis=1))
    between = tokenize(parts.values[~is_added])
    ids = tf.concat([between, tf.RaggedTensor.from_tensor(found[:, tf.newaxis])], axis=0)
    order = tf.concat([tf.where(~is_added)[:, 0], tf.where(is_added)[:, 0]], axis=0)
    ids = tf.gather(ids, tf.math.invert_permutation(order))
    return parts.with_values(ids).merge_dims(1, 2)


def _wordpiece(vocabulary: dict[str, int], model: models.WordPiece) -> "tensorflow_text.FastWordpieceTokenizer":
    """tensorflow-text's WordPiece, for single words of any length."""
    return _tensorflow_text().FastWordpieceTokenizer(
        sorted(vocabulary, key=vocabulary.__getitem__),
        suffix_indicator=model.continuing_subword_prefix,
        max_bytes_per_word=4 * model.max_input_chars_per_word + 4,  # longer words were replaced before
        token_out_type=tf.int32,
        unknown_token=model.unk_token,
        no_pretokenization=True,
    )


def _tensorflow_text() -> ModuleType:
    try:
        import tensorflow_text
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "A SavedModel that takes strings needs tensorflow-text: pip install 'keras_pretrain[serving]'."
        ) from error
    return tensorflow_text


def _require_reproducible(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise an error if a tokenizer does not have the components of BERT's."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow (Python) tokenizer, which cannot be reproduced inside a TensorFlow "
            "graph. Use a fast one, such as BertTokenizerFast or the result of AutoTokenizer."
        )
    parts = {"model": models.WordPiece, "normalizer": normalizers.BertNormalizer}
    for name, kind in (parts | {"pre_tokenizer": pre_tokenizers.BertPreTokenizer}).items():
        part = getattr(backend, name)
        if not isinstance(part, kind):
            raise ValueError(
                f"The tokenizer's {name} is {type(part).__name__}, and only {kind.__name__} can be reproduced inside a "
                "TensorFlow graph. Export with another tokenizer, or serve ids: the model's signatures that end in "
                "_ids take them."
            )
    if not backend.normalizer.clean_text:
        raise ValueError(
            "The tokenizer's normalizer keeps control characters (clean_text=False), which cannot be reproduced inside "
            "a TensorFlow graph. If your texts have no control characters, set clean_text=True; or serve ids: the "
            "model's signatures that end in _ids take them."
        )
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("The vocabulary's ids have gaps. The ids of a BERT vocabulary are consecutive: 0, 1, 2 …")
    if backend.model.unk_token not in vocabulary:
        raise ValueError(f"The vocabulary has no {backend.model.unk_token} for unknown words.")
    parting = [
        token.content for token in tokenizer.added_tokens_decoder.values() if token.single_word or not token.content
    ]
    if parting:
        raise ValueError(f"Added tokens that match only whole words (single_word=True) are not supported: {parting}.")
    if (tokenizer.padding_side, tokenizer.truncation_side) != ("right", "right"):
        raise ValueError("The tokenizer pads or truncates on the left. Only padding and truncation on the right work.")
    around = [tokenizer.cls_token_id, tokenizer.sep_token_id]
    if None in around or tokenizer("").input_ids != around:
        raise ValueError(
            f"The tokenizer does not put [CLS] before a text and [SEP] after it: {tokenizer('').input_ids}."
        )


def _require_equal(graph_tokenizer: GraphTokenizer, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Compare the two tokenizers on hard texts, alone and joined with words of the vocabulary."""
    vocabulary = tokenizer.convert_ids_to_tokens(range(0, len(tokenizer), max(1, len(tokenizer) // 500)))
    texts = [*_HARD_TEXTS, " ".join(vocabulary), "".join(vocabulary), "".join(_HARD_TEXTS)]
    got = graph_tokenizer.tokenize(tf.constant(texts)).to_list()
    expected = tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
    for text, ours, theirs in zip(texts, got, expected, strict=True):
        if ours != theirs:
            raise ValueError(
                f"Inside the graph, {text[:80]!r} would get other tokens: {tokenizer.convert_ids_to_tokens(ours)[:20]} "
                f"instead of {tokenizer.convert_ids_to_tokens(theirs)[:20]}. This vocabulary cannot be reproduced."
            )
