"""Sentences → token ids, laid end to end, so that any run of sentences is one slice."""

import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm, trange

_BLOCK = 256  # documents that share a random stream
_MOST_WORDS = 300_000  # that are remembered: 50 MB

Tokenize = Callable[[list[str]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class TokenizedCorpus:
    """Token ids of all sentences of all documents, in order; no sentence and no document is empty.

    Attributes:
      ids: (tokens,) int32.
      sentence_starts: (sentences + 1,) int64: sentence `i` is `ids[sentence_starts[i]:sentence_starts[i + 1]]`.
      document_starts: (documents + 1,) int64: the sentences of document `i` are `document_starts[i]` to
        `document_starts[i + 1]`.
      empty_documents: how many documents had no token at all and were left out.
    """

    ids: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray
    empty_documents: int

    @property
    def num_documents(self) -> int:
        return len(self.document_starts) - 1

    @property
    def num_sentences(self) -> int:
        return len(self.sentence_starts) - 1

    @classmethod
    def join(cls, parts: list["TokenizedCorpus"]) -> "TokenizedCorpus":
        """Several corpora as one, the documents of one after those of the other."""
        starts = {}
        for name in ("sentence_starts", "document_starts"):
            arrays = [getattr(part, name) for part in parts]
            shifts = np.cumsum([0, *(array[-1] for array in arrays)])
            moved = [array[1:] + shift for array, shift in zip(arrays, shifts[:-1], strict=True)]
            starts[name] = np.concatenate([np.zeros(1, np.int64), *moved])
        ids = np.concatenate([part.ids for part in parts])
        return cls(ids=ids, **starts, empty_documents=sum(part.empty_documents for part in parts))

    @classmethod
    def from_documents(cls, documents) -> "TokenizedCorpus":
        """From an iterable with, for each document, an iterable of token-id lists."""
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
        """From the ids of all sentences and how many ids a sentence and sentences a document has, empty ones too."""
        has_token = np.concatenate([[0], np.cumsum(sentence_lengths > 0)])
        ends = np.cumsum(document_lengths).astype(np.int64)
        document_lengths = has_token[ends] - has_token[ends - document_lengths.astype(np.int64)]
        return cls(
            ids=ids,
            sentence_starts=_starts(sentence_lengths[sentence_lengths > 0]),
            document_starts=_starts(document_lengths[document_lengths > 0]),
            empty_documents=int(np.count_nonzero(document_lengths == 0)),
        )


def tokenize_sentences(sentences: Dataset, tokenizer, batch_size: int = 1000) -> TokenizedCorpus:
    """Tokenize every sentence, on all processors (the tokenizer's own threads), without special tokens.

    Args:
      sentences: column `sentences` (list[str]), one row a document.
      tokenizer: a fast tokenizer, or any other, which takes longer.
      batch_size: documents tokenized at a time.
    """
    batches = (batch["sentences"] for batch in sentences.select_columns(["sentences"]).iter(batch_size))
    with tqdm(total=len(sentences), desc="Tokenizing", unit=" documents", delay=2) as progress:
        return tokenize_documents(batches, choose_tokenize(tokenizer), progress.update)


def tokenize_documents(
    batches: Iterable[list[list[str]]], tokenize: Tokenize, done: Callable[[int], object] = lambda documents: None
) -> TokenizedCorpus:
    """Tokenize documents, lists of sentences, some at a time.

    Args:
      batches: documents that are tokenized at a time.
      tokenize: as `choose_tokenize` gives it.
      done: is told how many documents were.
    """
    parts = [TokenizedCorpus.from_documents([])]
    for documents in batches:
        flat = [sentence for document in documents for sentence in document]
        ids, lengths = tokenize(flat) if flat else (np.zeros(0, np.int32), np.zeros(0, np.int64))
        sentences = np.fromiter(map(len, documents), np.int64, len(documents))
        parts.append(TokenizedCorpus.from_lengths(ids, lengths, sentences))
        done(len(documents))
    return TokenizedCorpus.join(parts)


def choose_tokenize(tokenizer) -> Tokenize:
    """The quickest function from sentences to `(ids, lengths)`, all their ids and how many each has, that gives what
    the tokenizer gives."""
    return WordByWord(tokenizer) if _splits_at_blanks(tokenizer) else partial(_tokenize_whole, tokenizer)


def _tokenize_whole(tokenizer, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    # verbose=False: a sentence longer than the model's length is no fault here, it is cut later.
    ids = tokenizer(sentences, add_special_tokens=False, verbose=False)["input_ids"]
    return np.fromiter(chain.from_iterable(ids), np.int32), np.fromiter(map(len, ids), np.int64)


class WordByWord:
    """Tokenizes each run of characters between blanks once, and looks it up where it occurs again.

    Args:
      tokenizer: must not change from now on.
    """

    def __init__(self, tokenizer):
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()  # these are left from the last call
        self._backend.no_padding()
        self._forget()

    def _forget(self):
        self._words = _Words()
        self._ids, self._lengths = np.zeros(0, np.int32), np.zeros(0, np.int64)  # of all words, in their order

    def __call__(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
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
        # Where each id comes from: its word's start, and how far it is into the word.
        source = np.arange(ends[-1]) + np.repeat(starts[occurrences] - (ends - lengths), lengths)
        return self._ids[source], np.diff(ends[np.cumsum(counts) - 1], prepend=0)

    def _learn(self, words: list[str]) -> None:
        encoded = [each.ids for each in self._backend.encode_batch_fast(words, add_special_tokens=False)]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        self._lengths = np.concatenate([self._lengths, lengths])
        ids = np.fromiter(chain.from_iterable(encoded), np.int32, lengths.sum())
        self._ids = np.concatenate([self._ids, ids])


class _Words(dict):
    """Numbers words in the order in which they are first asked for."""

    def __init__(self):
        super().__init__()
        self._new = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        self._new.append(word)
        return number

    def take_new(self) -> list[str]:
        """Those that were not there when this was last called."""
        new, self._new = self._new, []
        return new


def _splits_at_blanks(tokenizer) -> bool:
    """Whether a text's tokens are those of what stands between its blanks, as in BERT's and ELECTRA's tokenizers."""
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
    corpus: TokenizedCorpus, purpose: str, seed, documents: int | None = None
) -> Iterator[tuple[random.Random, int]]:
    """The number of each document, or of the first so many, with its random stream, behind a progress bar.

    A block of documents shares a stream that follows from `purpose`, `seed` (one number or several) and the block
    alone: any process can make any block and gets the same.
    """
    seed = [int(part) for part in np.atleast_1d(seed)]
    documents = corpus.num_documents if documents is None else documents
    for document in trange(documents, desc=purpose, unit=" documents", delay=2):
        if document % _BLOCK == 0:
            rng = random.Random(f"{purpose} {seed} {document // _BLOCK}")
        yield rng, document


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
