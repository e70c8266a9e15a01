"""Sentences → token ids, laid end to end, so that any run of sentences is one slice."""

import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm, trange

_BLOCK = 256  # documents that share a random stream


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
        ids, sentence_lengths, document_lengths, empty = array("i"), array("q"), array("q"), 0
        for document in documents:
            sentences = [sentence for sentence in document if len(sentence)]
            if not sentences:
                empty += 1
                continue
            for sentence in sentences:
                ids.extend(sentence)
                sentence_lengths.append(len(sentence))
            document_lengths.append(len(sentences))
        return cls(
            ids=np.array(ids, np.int32),
            sentence_starts=_starts(sentence_lengths),
            document_starts=_starts(document_lengths),
            empty_documents=empty,
        )


def tokenize_sentences(sentences: Dataset, tokenizer, batch_size: int = 500) -> TokenizedCorpus:
    """Tokenize every sentence, on all processors (the tokenizer's own threads), without special tokens.

    Args:
      sentences: column `sentences` (list[str]), one row a document.
      tokenizer: a fast tokenizer.
      batch_size: documents tokenized at a time.
    """
    batches = (batch["sentences"] for batch in sentences.select_columns(["sentences"]).iter(batch_size))
    with tqdm(total=len(sentences), desc="Tokenizing", unit=" documents", delay=2) as progress:
        return TokenizedCorpus.from_documents(tokenize_documents(batches, tokenizer, progress.update))


def tokenize_documents(
    batches: Iterable[list[list[str]]], tokenizer, done: Callable[[int], object] = lambda documents: None
) -> Iterator[list[list[int]]]:
    """Each sentence of each document as ids.

    Args:
      batches: documents that are tokenized at a time.
      done: is told how many documents were.
    """
    for documents in batches:
        flat = [sentence for document in documents for sentence in document]
        # verbose=False: a sentence longer than the model's length is no fault here, it is cut later.
        ids = iter(tokenizer(flat, add_special_tokens=False, verbose=False)["input_ids"] if flat else ())
        for document in documents:
            yield [next(ids) for _ in document]
        done(len(documents))


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


def _starts(lengths: array) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
