"""Converts sentences to token ids in one array, so that consecutive sentences are a single slice."""

import json
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer
from tqdm.auto import tqdm, trange

from keras_pretrain.corpus.cleaning import cut_at_blanks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BLOCK = 256  # number of documents that share a random stream
_CHARACTERS_AT_ONCE = 1_000_000
_MOST_WORDS = 300_000  # number of words whose ids are kept; they take 50 MB
_NO_TEXT = "\uffff"  # a code point that is never assigned to a character

Tokenize = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class TokenizedCorpus:
    """Token ids of all sentences of all documents, in order; no sentence and no document is empty.

    Attributes:
      ids: (tokens,) int32.
      sentence_starts: (sentences + 1,) int64. Sentence `i` is `ids[sentence_starts[i]:sentence_starts[i + 1]]`.
      document_starts: (documents + 1,) int64. The sentences of document `i` are `document_starts[i]` to
        `document_starts[i + 1]`.
      empty_documents: number of documents that were left out because they had no token.
    """

    ids: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray
    empty_documents: int

    def part(self, first: int, end: int) -> "TokenizedCorpus":
        """Return the documents from `first` up to `end`, `end` not included."""
        sentences = self.document_starts[first : end + 1]
        tokens = self.sentence_starts[sentences[0] : sentences[-1] + 1]
        return TokenizedCorpus(self.ids[tokens[0] : tokens[-1]], tokens - tokens[0], sentences - sentences[0], 0)

    @property
    def num_documents(self) -> int:
        return len(self.document_starts) - 1

    @property
    def num_sentences(self) -> int:
        return len(self.sentence_starts) - 1

    @classmethod
    def join(cls, parts: list["TokenizedCorpus"]) -> "TokenizedCorpus":
        """Join several corpora to one, in the given order."""
        starts = {}
        for name in ("sentence_starts", "document_starts"):
            arrays = [getattr(part, name) for part in parts]
            shifts = np.cumsum([0, *(array[-1] for array in arrays)])
            moved = [array[1:] + shift for array, shift in zip(arrays, shifts[:-1], strict=True)]
            starts[name] = np.concatenate([np.zeros(1, np.int64), *moved])
        ids = np.concatenate([part.ids for part in parts])
        return cls(ids=ids, **starts, empty_documents=sum(part.empty_documents for part in parts))

    @classmethod
    def from_documents(cls, documents: Iterable[Sequence[Sequence[int]]]) -> "TokenizedCorpus":
        """Make a corpus from an iterable that has, for each document, an iterable of token-id lists."""
        ids, sentence_lengths, document_lengths = array("i"), array("q"), array("q")
        for document in documents:
            for sentence in document:
                ids.extend(sentence)
                sentence_lengths.append(len(sentence))
            document_lengths.append(len(document))
        return cls.from_lengths(
            np.array(ids, np.int32), np.array(sentence_lengths, np.int64), np.array(document_lengths, np.int64)
        )

    @classmethod
    def from_lengths(
        cls, ids: np.ndarray, sentence_lengths: np.ndarray, document_lengths: np.ndarray
    ) -> "TokenizedCorpus":
        """Make a corpus from the ids of all sentences, the number of ids of each sentence, and the number of sentences
        of each document. Empty sentences and documents are allowed, and left out."""
        has_token = np.concatenate([[0], np.cumsum(sentence_lengths > 0)])
        ends = np.cumsum(document_lengths).astype(np.int64)
        document_lengths = has_token[ends] - has_token[ends - document_lengths.astype(np.int64)]
        return cls(
            ids=ids,
            sentence_starts=_starts(sentence_lengths[sentence_lengths > 0]),
            document_starts=_starts(document_lengths[document_lengths > 0]),
            empty_documents=int(np.count_nonzero(document_lengths == 0)),
        )


def tokenize_sentences(sentences: Dataset, tokenizer: "PreTrainedTokenizerBase") -> TokenizedCorpus:
    """Tokenize every sentence without special tokens, on all processors (in the tokenizer's own threads).

    Args:
      sentences: a dataset with column `sentences` (list[str]), one document per row.
      tokenizer: a tokenizer; a slow (Python) one takes longer.
    """
    dataset = sentences.select_columns(["sentences"])
    documents = (document for batch in dataset.iter(100) for document in batch["sentences"])
    documents = tqdm(documents, total=len(sentences), desc="Tokenizing", unit=" documents", delay=2)
    return tokenize_documents(documents, choose_tokenize(tokenizer))


def tokenize_documents(documents: Iterable[list[str]], tokenize: Tokenize) -> TokenizedCorpus:
    """Tokenize documents, about a million characters at a time, so that a very long document does not need more memory.

    Args:
      documents: documents, each a list of sentences.
      tokenize: a function from `choose_tokenize`.
    """
    document_lengths, parts = array("q"), [(np.zeros(0, np.int32), np.zeros(0, np.int64))]
    waiting: list[str] = []
    characters = 0
    for document in documents:
        document_lengths.append(len(document))
        for sentence in document:
            if waiting and len(sentence) > _CHARACTERS_AT_ONCE:
                parts.append(tokenize(waiting))
                waiting = []
            waiting.append(sentence)
            characters += len(sentence)
            if characters >= _CHARACTERS_AT_ONCE:
                parts.append(tokenize(waiting))
                waiting, characters = [], 0
    if waiting:
        parts.append(tokenize(waiting))
    ids, lengths = (np.concatenate(each) for each in zip(*parts, strict=True))
    return TokenizedCorpus.from_lengths(ids, lengths, np.frombuffer(document_lengths, np.int64))


def choose_tokenize(tokenizer: "PreTrainedTokenizerBase") -> Tokenize:
    """Return the fastest tokenize function that produces the same ids as the tokenizer.

    It maps sentences to `(ids, lengths)`: the ids of all sentences, and the number of ids of each sentence. Special
    tokens written in a sentence are tokenized as ordinary characters (see `plain_text_backend`).
    """
    if _splits_at_blanks(tokenizer):
        return WordByWord(tokenizer)
    if getattr(tokenizer, "is_fast", False):
        return partial(_tokenize_whole, plain_text_backend(tokenizer))
    return partial(_tokenize_slowly, tokenizer)


def plain_text_backend(tokenizer: "PreTrainedTokenizerBase") -> Tokenizer:
    """Copy a fast tokenizer's backend, and make the copy read `[SEP]` or `[MASK]` in a text as ordinary characters.

    It does so with all of the tokenizer's own special tokens (padding, unknown, class, separator, mask, begin and end
    of a text). Tokens that were added with `add_tokens` or as `additional_special_tokens` are still matched. With
    `add_special_tokens=True`, the backend still puts special tokens around a text.

    Args:
      tokenizer: a fast tokenizer; it is not changed.

    Returns:
      A backend without truncation and padding.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    core = set(core_special_tokens(tokenizer))
    for token in settings["added_tokens"]:
        token["special"] = token["content"] in core
    if settings["model"]["type"] == "WordPiece":
        # If the pre-tokenizer does not split brackets, `[SEP]` is a word, and the model would find it in the
        # vocabulary. So its entry is renamed to a string that no text contains.
        hidden = core & settings["model"]["vocab"].keys() - {settings["model"]["unk_token"]}
        vocabulary = settings["model"]["vocab"].items()
        settings["model"]["vocab"] = {_NO_TEXT + word if word in hidden else word: i for word, i in vocabulary}
        settings["added_tokens"] = [token for token in settings["added_tokens"] if token["content"] not in hidden]
    backend = Tokenizer.from_str(json.dumps(settings))
    backend.encode_special_tokens = True  # split tokens that are marked as special; the JSON has no such setting
    return backend


def plain_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    """Change a text so that a slow (Python) tokenizer of BERT or ELECTRA finds none of its own special tokens in it.

    It inserts a space after the first character of each special token: `[MASK]` becomes `[ MASK]`. This changes nothing
    else, because BERT's rules split this character (`[`) from the following text anyway. (`split_special_tokens=True`
    does not help: it does not split a special token between spaces, but does split added tokens.)
    """
    for token in core_special_tokens(tokenizer):
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def core_special_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """A tokenizer's special tokens without its `additional_special_tokens`."""
    # `additional_special_tokens` is a list.
    return [token for token in tokenizer.special_tokens_map.values() if isinstance(token, str)]


def _tokenize_whole(backend: Tokenizer, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return _lay_out([each.ids for each in backend.encode_batch_fast(sentences, add_special_tokens=False)])


def _tokenize_slowly(tokenizer: "PreTrainedTokenizerBase", sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    texts = [plain_text(tokenizer, sentence) for sentence in sentences]
    # verbose=False turns off the warning for sentences longer than the model's maximum, because these are cut later.
    return _lay_out(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])


def _lay_out(ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.fromiter(chain.from_iterable(ids), np.int32), np.fromiter(map(len, ids), np.int64)


class WordByWord:
    """Tokenizes each word (the characters between two spaces) once, and reuses the ids if the word occurs again.

    Args:
      tokenizer: a fast tokenizer; it is copied, so later changes to it have no effect.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._backend = plain_text_backend(tokenizer)
        self._forget()

    def _forget(self) -> None:
        self._words = _Words()
        self._ids, self._lengths = np.zeros(0, np.int32), np.zeros(0, np.int64)  # the ids of all words, in order

    def __call__(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        if len(sentences) == 1 and len(sentences[0]) > _CHARACTERS_AT_ONCE:
            parts = [self([part])[0] for part in cut_at_blanks(sentences[0], _CHARACTERS_AT_ONCE // 2)]
            ids = np.concatenate(parts)
            return ids, np.array([len(ids)])
        if len(self._words) > _MOST_WORDS:
            self._forget()
        words = [sentence.split(" ") for sentence in sentences]
        counts = np.fromiter(map(len, words), np.int64, len(words))
        occurrences = map(self._words.__getitem__, chain.from_iterable(words))
        occurrences = np.fromiter(occurrences, np.int64, counts.sum())
        self._learn(self._words.take_new())
        starts = np.cumsum(self._lengths) - self._lengths
        lengths = self._lengths[occurrences]
        ends = np.cumsum(lengths)
        # The source of each id: the start of its word, plus its index in the word.
        source = np.arange(ends[-1]) + np.repeat(starts[occurrences] - (ends - lengths), lengths)
        return self._ids[source], np.diff(ends[np.cumsum(counts) - 1], prepend=0)

    def _learn(self, words: list[str]) -> None:
        ids, lengths = _tokenize_whole(self._backend, words)
        self._ids = np.concatenate([self._ids, ids])
        self._lengths = np.concatenate([self._lengths, lengths])


class _Words(dict):
    """Numbers words in the order in which they are first looked up."""

    def __init__(self) -> None:
        super().__init__()
        self._new: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        self._new.append(word)
        return number

    def take_new(self) -> list[str]:
        """The words that were added since the last call."""
        new, self._new = self._new, []
        return new


def _splits_at_blanks(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer gives the same ids if it tokenizes each word (between spaces) separately, as those of BERT
    and ELECTRA do."""
    if not getattr(tokenizer, "is_fast", False):
        return False
    backend = tokenizer.backend_tokenizer
    return (
        type(backend.model).__name__ == "WordPiece"
        and type(backend.normalizer).__name__ in ("BertNormalizer", "NoneType")
        and type(backend.pre_tokenizer).__name__ == "BertPreTokenizer"
        and not any(" " in str(token) for token in tokenizer.added_tokens_decoder.values())
    )


def seeded_documents(
    corpus: TokenizedCorpus, purpose: str, seed: int | Sequence[int], documents: int | None = None
) -> Iterator[tuple[random.Random, int]]:
    """Yield a random stream and the number of a document, for each document or the first `documents` of them. Shows a
    progress bar.

    Each group of 256 consecutive documents shares a stream. It depends only on `purpose`, `seed` (one or more numbers)
    and the numbers of these documents, so the result does not depend on the process.
    """
    seed = [int(part) for part in np.atleast_1d(seed)]
    documents = corpus.num_documents if documents is None else documents
    for document in trange(documents, desc=purpose, unit=" documents", delay=2):
        if document % _BLOCK == 0:
            rng = random.Random(f"{purpose} {seed} {document // _BLOCK}")
        yield rng, document


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
