"""Trains a WordPiece tokenizer on texts, with a reproducible result."""

import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias, overload

from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tqdm.auto import tqdm
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerBase

from keras_pretrain.compat.transformers import saved_settings
from keras_pretrain.corpus.cleaning import check_cleaning, cut_at_blanks
from keras_pretrain.settings import settings_of

logger = logging.getLogger(__name__)

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # the order of BERT's vocabularies
TOKENIZER_CHARACTERS = 20_000_000  # on a larger corpus, a tokenizer is trained on a sample of this size
_CONTINUING = "##"

# The input of `train_tokenizer`: texts, lists of texts, or a dataset with a column of texts or of lists of texts.
Texts: TypeAlias = Iterable[str | Iterable[str]] | Dataset


@overload
def train_tokenizer(
    texts: Texts, *, vocab_size: int = 25_000, base: None = None, lowercase: bool = False, cleaning: str | None = None
) -> BertTokenizerFast: ...
@overload
def train_tokenizer(
    texts: Texts,
    *,
    vocab_size: int = 25_000,
    base: str | os.PathLike[str] | PreTrainedTokenizerBase,
    lowercase: Literal[False] = False,
    cleaning: str | None = None,
) -> PreTrainedTokenizerBase: ...
def train_tokenizer(
    texts: Texts,
    *,
    vocab_size: int = 25_000,
    base: str | os.PathLike[str] | PreTrainedTokenizerBase | None = None,
    lowercase: bool = False,
    cleaning: str | None = None,
) -> PreTrainedTokenizerBase:
    """Train a BERT WordPiece tokenizer.

    Without a `base`, the tokenizer keeps accents (stripping them would split Hangul syllables), and case unless
    `lowercase` is set. With a `base`, its normalisation, pre-tokenization and special tokens are kept and only the
    vocabulary is new, as with `train_new_from_iterator`. Special tokens come first, `[PAD]` = 0.

    The same texts give the same vocabulary. The Rust trainer would number characters in the order of a hash table,
    which differs between runs. So this function numbers them first, by their frequency. If the vocabulary is too small
    for all characters, the rarest become `[UNK]`.

    Args:
      texts: an iterable, read once, of texts or lists of texts; or a `Dataset` with a column `text` or `sentences`.
        Of a `Dataset` of sentences with more than 20 million characters, only a random sample of this size is read,
        because more text changes the vocabulary little, and counting its words takes memory.
      vocab_size: number of tokens, with the special ones; the result has fewer if the texts have too few words.
      base: a tokenizer with a WordPiece model, or its name or folder.
      lowercase: the tokenizer turns all letters into lower case, so that `The` and `the` are one token. A model then
        cannot tell or predict capital letters. Not with a `base`, which has its own rule.
      cleaning: how the texts were cleaned, one of the names of `clean_text`. It is recorded with the tokenizer (see
        `record_cleaning`); the texts are not cleaned here. Default: the cleaning that a `Dataset` from
        `prepare_sentences` records; without such a record, none, even if the `base` records one.

    Returns:
      A `BertTokenizerFast` with a `model_max_length` of 512. With a `base`, the class and the `model_max_length` are
      those of the base.

    Raises:
      ValueError: there is no text, the vocabulary is too small for the special tokens, the base is not WordPiece,
        `lowercase` is set with a base, or the cleaning is unknown or not the cleaning of the texts.

    >>> tokenizer = train_tokenizer(["데이터를 모은다", "데이터를 쓴다"], vocab_size=60)
    >>> tokenizer.tokenize("데이터를 모은다")
    ['데이터를', '모', '##은', '##다']
    """
    cleaning = _choose_recorded(cleaning, settings_of(texts).get("cleaning"))
    if base is not None and lowercase:
        raise ValueError("lowercase cannot be set with a base, which has its own rule for case. Leave it out.")
    tokenizer = empty_tokenizer(vocab_size, lowercase=lowercase) if base is None else _empty_copy(base)
    special_tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    _check_room(vocab_size, len(special_tokens))
    if "sentences" in (getattr(texts, "column_names", None) or ()):
        dataset: Dataset = texts
        dataset = dataset.select_columns(["sentences"])
        texts = sample_documents(lambda: (each for batch in dataset.iter(1000) for each in batch["sentences"]))
    chunks = count_chunks(texts)
    vocabulary = _train_vocabulary(tokenizer.backend_tokenizer, chunks, special_tokens, vocab_size)
    tokenizer.backend_tokenizer.model = models.WordPiece(vocabulary, unk_token=tokenizer.unk_token)
    record_cleaning(tokenizer, cleaning)
    return tokenizer


def record_cleaning(tokenizer: PreTrainedTokenizerBase, cleaning: str | None) -> None:
    """Record with a tokenizer how to clean the texts of its model.

    Fine-tuning, evaluation and prediction then clean their texts in the same way. `save_pretrained` writes the record
    to `tokenizer_config.json` (`"cleaning"`), and `AutoTokenizer` reads it back.

    Args:
      tokenizer: any 🤗 tokenizer; it is changed in place.
      cleaning: one of the names of `clean_text`; `None` removes the record.

    Raises:
      ValueError: an unknown cleaning.
    """
    if cleaning is None:
        saved_settings(tokenizer).pop("cleaning", None)
    else:
        check_cleaning(cleaning)
        saved_settings(tokenizer)["cleaning"] = cleaning


def cleaning_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The cleaning that `record_cleaning` recorded with a tokenizer; `None` if there is none."""
    return saved_settings(tokenizer).get("cleaning")


def keep_cleaning(tokenizer: PreTrainedTokenizerBase, cleaning: str | None) -> None:
    """Record a cleaning with a tokenizer that records none; warn if the tokenizer records another one. `None` means
    that the cleaning is not known, and does nothing."""
    recorded = cleaning_of(tokenizer)
    if recorded is None:
        record_cleaning(tokenizer, cleaning)
    elif cleaning not in (None, recorded):
        logger.warning(
            "The sentences were cleaned with %r, and the tokenizer's text with %r. Prepare them with "
            "cleaning=%r, or record_cleaning(tokenizer, %r).", cleaning, recorded, recorded, cleaning,
        )  # fmt: skip


def choose_text_cleaning(tokenizer: PreTrainedTokenizerBase, cleaning: str | None = None) -> str:
    """Choose the cleaning of a text for a tokenizer: the given one, else the one recorded with the tokenizer, else
    none.

    Raises:
      ValueError: an unknown cleaning.
    """
    cleaning = cleaning or cleaning_of(tokenizer) or "none"
    check_cleaning(cleaning)
    return cleaning


def _choose_recorded(given: str | None, known: str | None) -> str | None:
    if given is None:
        return known
    check_cleaning(given)
    if known not in (None, given):
        raise ValueError(
            f"The texts were cleaned with {known!r}, and cleaning={given!r} is given. Leave it out, or prepare the "
            f"texts with prepare_sentences(..., cleaning={given!r})."
        )
    return given


def empty_tokenizer(vocab_size: int, *, lowercase: bool = False) -> BertTokenizerFast:
    """Make BERT's tokenizer with only the special tokens. Training adds tokens up to `vocab_size`.

    Raises:
      ValueError: `vocab_size` has no room for more than the special tokens.
    """
    _check_room(vocab_size, len(SPECIAL_TOKENS))
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=_CONTINUING)
    cls, sep = ("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])
    backend.post_processor = processors.BertProcessing(sep, cls)
    return BertTokenizerFast(
        tokenizer_object=backend, do_lower_case=lowercase, strip_accents=False, model_max_length=512
    )


def _check_room(vocab_size: int, special_tokens: int) -> None:
    if vocab_size <= special_tokens:
        raise ValueError(
            f"vocab_size must leave room beside the {special_tokens} special tokens; {vocab_size} is too small."
        )


def _empty_copy(base: str | os.PathLike[str] | PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Copy the base tokenizer with only its special tokens, numbered from 0."""
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


def count_chunks(texts: Texts) -> Counter:
    """Count each run of characters between white space. Training needs only these counts, which are far smaller than
    the texts."""
    chunks: Counter[str] = Counter()
    for text in tqdm(_each_text(texts), desc="Counting words", unit=" texts", delay=2):
        for part in cut_at_blanks(text):
            chunks.update(part.split())
    if not chunks:
        raise ValueError("There is no text to train a tokenizer on.")
    return chunks


def _each_text(texts: Texts) -> Iterator[str]:
    columns = getattr(texts, "column_names", None)
    if isinstance(columns, dict):
        raise ValueError(f"Give train_tokenizer one split, for example corpus['train'], not all of {sorted(columns)}.")
    if columns is not None:
        column = next((name for name in ("text", "sentences") if name in columns), None)
        if column is None:
            raise ValueError(f"A dataset for train_tokenizer has a column 'text' or 'sentences', not {columns}.")
        dataset: Dataset = texts
        texts = (text for batch in dataset.select_columns([column]).iter(1000) for text in batch[column])
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
        # The alphabet is passed as special tokens, because the trainer numbers these first, in the given order.
        special_tokens=[*special_tokens, *alphabet],
    )
    fresh = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    fresh.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    removal = str.maketrans(dict.fromkeys(dropped, " "))
    fresh.train_from_iterator(_repeated(words, removal), trainer)
    return fresh.get_vocab()


def count_words(backend: Tokenizer, chunks: Counter) -> Counter:
    """Count the words into which the tokenizer's normaliser and pre-tokenizer split the chunks."""
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        normalized = backend.normalizer.normalize_str(chunk) if backend.normalizer else chunk
        pieces = backend.pre_tokenizer.pre_tokenize_str(normalized) if backend.pre_tokenizer else [(normalized, None)]
        for word, _ in pieces:
            words[word] += count
    return words


def _choose_alphabet(words: Counter, limit: int) -> tuple[list[str], list[str]]:
    """Choose the characters of the vocabulary, the most frequent first, each in its forms for the beginning (`가`) and
    the inside (`##가`) of words.

    Returns:
      The chosen forms, at most `limit`, and the characters of which no form is chosen.
    """
    frequency: Counter[str] = Counter()
    forms: dict[str, set[str]] = {}
    for word, count in words.items():
        for i, character in enumerate(word):
            frequency[character] += count
            forms.setdefault(character, set()).add(_CONTINUING + character if i else character)
    kept: list[str] = []
    room = limit
    ranked = sorted(frequency, key=lambda character: (-frequency[character], character))
    for position, character in enumerate(ranked):
        # The trainer adds the plain form of every character that it sees, so the plain form is always counted.
        tokens = sorted({character, *forms[character]})
        if len(tokens) > room:
            return kept, ranked[position:]
        kept += tokens
        room -= len(tokens)
    return kept, []


def sample_documents(
    documents: Callable[[], Iterator[list[str]]], characters: int = TOKENIZER_CHARACTERS, seed: int = 0
) -> Iterator[list[str]]:
    """Yield documents to train a tokenizer on: all documents of a small corpus, or a random sample of a large one.

    Args:
      documents: a function that returns the documents (lists of sentences) from the start; it is called twice, the
        first time to count characters.
      characters: approximate number of characters of the sample.
      seed: the same documents and seed give the same sample.
    """
    total = sum(len(sentence) for document in documents() for sentence in document)
    draw = random.Random(f"tokenizer {seed}")
    for document in documents():
        if total <= characters or draw.random() < characters / total:
            yield document


def _repeated(words: Counter, removal: dict) -> Iterator[str]:
    """Yield texts in which each word occurs as often as it was counted; a text has at most a million characters."""
    for word, count in sorted(words.items()):
        word = word.translate(removal) if removal else word
        at_once = max(1, 1_000_000 // (len(word) + 1))
        while count > 0:
            yield " ".join([word] * min(count, at_once))
            count -= at_once
