"""Texts → a WordPiece tokenizer, the same one every time."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tqdm.auto import tqdm
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # the order of BERT's vocabularies
_CONTINUING = "##"


def train_tokenizer(
    texts: Iterable,
    *,
    vocab_size: int = 25_000,
    base: str | os.PathLike | PreTrainedTokenizerFast | None = None,
) -> BertTokenizerFast:
    """Train a BERT WordPiece tokenizer.

    From nothing it is cased and keeps accents (stripping them would take Hangul syllables apart); with a `base`, its
    normalisation, pre-tokenization and special tokens stay and the vocabulary is new, as `train_new_from_iterator`
    does. Special tokens come first, `[PAD]` = 0.

    The same texts give the same vocabulary: the Rust trainer alone numbers the pieces in the order of a hash table
    that differs from run to run, so characters are numbered here first, by how often they occur. Where the vocabulary
    has no room for all of them, the rarest become `[UNK]`.

    Args:
      texts: an iterable, read once, of texts or lists of texts; or a `Dataset` with a column `text` or `sentences`.
      vocab_size: number of tokens, the special ones included; fewer where the texts do not hold as many.
      base: a tokenizer with a WordPiece model, or its name or folder.

    Returns:
      A `BertTokenizerFast` (with a `base`, one of the base's class) with `model_max_length` 512 or the base's.

    Raises:
      ValueError: no text, a vocabulary too small for the special tokens, or a base that is not WordPiece.

    >>> tokenizer = train_tokenizer(["데이터를 모은다", "데이터를 쓴다"], vocab_size=60)
    >>> tokenizer.tokenize("데이터를 모은다")
    ['데이터를', '모', '##은', '##다']
    """
    tokenizer = empty_tokenizer(vocab_size) if base is None else _empty_copy(base)
    special_tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    _check_room(vocab_size, len(special_tokens))
    chunks = count_chunks(texts)
    vocabulary = _train_vocabulary(tokenizer.backend_tokenizer, chunks, special_tokens, vocab_size)
    tokenizer.backend_tokenizer.model = models.WordPiece(vocabulary, unk_token=tokenizer.unk_token)
    return tokenizer


def empty_tokenizer(vocab_size: int) -> BertTokenizerFast:
    """BERT's tokenizer, cased, with the special tokens alone: what becomes one of `vocab_size` tokens.

    Raises:
      ValueError: that leaves no room beside the special tokens.
    """
    _check_room(vocab_size, len(SPECIAL_TOKENS))
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=_CONTINUING)
    cls, sep = ("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])
    backend.post_processor = processors.BertProcessing(sep, cls)
    return BertTokenizerFast(tokenizer_object=backend, do_lower_case=False, strip_accents=False, model_max_length=512)


def _check_room(vocab_size: int, special_tokens: int) -> None:
    if vocab_size <= special_tokens:
        raise ValueError(
            f"vocab_size must leave room beside the {special_tokens} special tokens; {vocab_size} is too small."
        )


def _empty_copy(base) -> PreTrainedTokenizerFast:
    """The base tokenizer with its special tokens alone, numbered from 0."""
    if isinstance(base, (str, os.PathLike)):
        base = AutoTokenizer.from_pretrained(base)
    backend = getattr(base, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.model, models.WordPiece):
        kind = "slow (Python)" if backend is None else type(backend.model).__name__
        raise ValueError(
            f"The base tokenizer is {kind}; a fast WordPiece tokenizer is needed, such as BERT's or ELECTRA's."
        )
    empty = base.train_new_from_iterator([], vocab_size=0, show_progress=False)
    order = [token for token in SPECIAL_TOKENS if token in empty.get_vocab()]
    if sorted(empty.get_vocab(), key=empty.get_vocab().get)[: len(order)] != order:
        raise ValueError(f"The base tokenizer's special tokens are not in BERT's order: {sorted(empty.get_vocab())}.")
    return empty


def count_chunks(texts: Iterable) -> Counter:
    """How often each run of characters between white space occurs: all that training needs, and far smaller."""
    chunks = Counter()
    for text in tqdm(_each_text(texts), desc="Counting words", unit=" texts", delay=2):
        chunks.update(text.split())
    if not chunks:
        raise ValueError("There is no text to train a tokenizer on.")
    return chunks


def _each_text(texts) -> Iterator[str]:
    columns = getattr(texts, "column_names", None)
    if isinstance(columns, dict):
        raise ValueError(f"Give train_tokenizer one split, for example corpus['train'], not all of {sorted(columns)}.")
    if columns is not None:
        column = next((name for name in ("text", "sentences") if name in columns), None)
        if column is None:
            raise ValueError(f"A dataset for train_tokenizer has a column 'text' or 'sentences', not {columns}.")
        texts = (text for batch in texts.select_columns([column]).iter(1000) for text in batch[column])
    elif isinstance(texts, str):
        raise ValueError("train_tokenizer takes an iterable of texts, not one text.")
    for text in texts:
        if isinstance(text, str):
            yield text
        else:
            yield from text


def _train_vocabulary(
    backend: Tokenizer, chunks: Counter, special_tokens: list[str], vocab_size: int
) -> dict[str, int]:
    words = count_words(backend, chunks)
    alphabet, dropped = _choose_alphabet(words, vocab_size - len(special_tokens))
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        continuing_subword_prefix=_CONTINUING,
        # Not special at all, but these get their numbers before the trainer's hash table can give others.
        special_tokens=[*special_tokens, *alphabet],
    )
    fresh = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    fresh.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    removal = str.maketrans(dict.fromkeys(dropped, " "))
    fresh.train_from_iterator(_repeated(words, removal), trainer)
    return fresh.get_vocab()


def count_words(backend: Tokenizer, chunks: Counter) -> Counter:
    """The words as the tokenizer's own normaliser and pre-tokenizer see them."""
    words = Counter()
    for chunk, count in chunks.items():
        normalized = backend.normalizer.normalize_str(chunk) if backend.normalizer else chunk
        pieces = backend.pre_tokenizer.pre_tokenize_str(normalized) if backend.pre_tokenizer else [(normalized, None)]
        for word, _ in pieces:
            words[word] += count
    return words


def _choose_alphabet(words: Counter, limit: int) -> tuple[list[str], list[str]]:
    """Characters as they stand at the beginning (`가`) and inside (`##가`) of words, most frequent first.

    Returns:
      The `limit` most frequent at most, and the characters that were left out altogether.
    """
    frequency, forms = Counter(), {}
    for word, count in words.items():
        for i, character in enumerate(word):
            frequency[character] += count
            forms.setdefault(character, set()).add(_CONTINUING + character if i else character)
    kept, room = [], limit
    ranked = sorted(frequency, key=lambda character: (-frequency[character], character))
    for position, character in enumerate(ranked):
        # The trainer adds the plain form of every character it sees, so that one counts always.
        tokens = sorted({character, *forms[character]})
        if len(tokens) > room:
            return kept, ranked[position:]
        kept += tokens
        room -= len(tokens)
    return kept, []


def _repeated(words: Counter, removal: dict) -> Iterator[str]:
    """Texts in which each word occurs as often as it was counted, a million characters a text at most."""
    for word, count in sorted(words.items()):
        word = word.translate(removal) if removal else word
        at_once = max(1, 1_000_000 // (len(word) + 1))
        while count > 0:
            yield " ".join([word] * min(count, at_once))
            count -= at_once
