"""The stages of preparation: each makes one block's shard, which follows from the block and the settings alone.

Any process, on any machine that sees the same folders, can call them. If the shard exists already, nothing is done.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import AutoTokenizer

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.corpus.validation import is_validation
from keras_pretrain.features.building import build_block
from keras_pretrain.features.tokenizing import Tokenize, TokenizedCorpus, choose_tokenize, tokenize_documents
from keras_pretrain.preparation.documents import Block, Unit, survey
from keras_pretrain.preparation.shards import Result, Shelf, read_shard

_RULES = 2  # goes up whenever a stage gives something else than before for the same settings: old shards are not used
_LONGEST_ERROR = 200  # characters of a splitter's error message that are stored


@dataclass(frozen=True)
class Surveying:
    """A unit → the hash and the length of each document, and counts of the rows without a document."""

    shelf: Shelf

    def __call__(self, unit: Unit) -> Result:
        return self.shelf.provide(f"{unit.number:05d}", [_RULES, unit.stamp()], lambda: survey(unit))


@dataclass(frozen=True)
class Splitting:
    """Documents → cleaned sentences.

    Attributes:
      splitter: from a cleaned document to its sentences.
      made_of: the backend, its versions, and a digest of what the splitter has learned.
      cleaning: one of `CLEANINGS`.
    """

    shelf: Shelf
    splitter: Callable[[str], list[str]]
    made_of: tuple[str, ...]
    cleaning: str

    def __call__(self, block: Block) -> Result:
        content = [[_RULES, self.made_of, self.cleaning, block.split], *block.texts]
        return self.shelf.provide(block.name, content, lambda: self._split(block))

    def _split(self, block: Block) -> tuple[dict, dict]:
        failures = []

        def sentences(text: str) -> list[str]:
            text = clean_text(text, self.cleaning)
            try:
                return self.splitter(text)
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}"[:_LONGEST_ERROR])
                return [" ".join(text.split())]

        documents = list(map(sentences, block.texts))
        figures = {
            "split": block.split,
            "documents": len(documents),
            "source_characters": sum(map(len, block.texts)),
            "sentences": sum(map(len, documents)),
            "characters": sum(len(sentence) for document in documents for sentence in document),
            "not_split": len(failures),
            "first_failure": failures[0] if failures else None,
        }
        return {"sentences": pa.array(documents, pa.list_(pa.string())), "hash": pa.array(block.hashes)}, figures


@dataclass(frozen=True)
class Tokenizing:
    """Sentences → ids, for the training documents or for the validation documents of a shard.

    Attributes:
      tokenizer: its folder.
      digest: of the tokenizer.
      seed, bound: decide which documents are for validation (`corpus.validation`); not used if the source has a
        validation split of its own.
    """

    shelf: Shelf
    tokenizer: Path
    digest: str
    seed: int
    bound: int

    def __call__(self, task: tuple[str, str | None, str]) -> Result:
        """Tokenize one block, given the sentence shard, the split that the shard belongs to, and the split to take."""
        shard, split_of_shard, split = task
        drawn = None if split_of_shard else [self.seed, self.bound]
        block = f"{split}/{Path(shard).stem.rsplit('-', 1)[0]}"
        return self.shelf.provide(block, [[_RULES, self.digest, drawn, split], shard], lambda: self._tokenize(*task))

    def _tokenize(self, shard: str, split_of_shard: str | None, split: str) -> tuple[dict, dict]:
        bound = None if split_of_shard else self.bound
        documents = documents_of(self.shelf.root / shard, split, self.seed, bound).to_pylist()
        corpus = tokenize_documents(documents, _load_tokenize(self.tokenizer, self.digest))
        ids = pa.array(corpus.ids.astype(np.uint16 if corpus.ids.max(initial=0) < 1 << 16 else np.int32))
        sentences = pa.ListArray.from_arrays(pa.array(corpus.sentence_starts, pa.int32()), ids)
        column = pa.ListArray.from_arrays(pa.array(corpus.document_starts, pa.int32()), sentences)
        figures = {
            "documents": corpus.num_documents,
            "empty_documents": corpus.empty_documents,
            "longest_document": int(np.diff(corpus.document_starts).max(initial=0)),
            "tokens": len(corpus.ids),
        }
        return {"ids": column}, figures


# A part of a token shard: its name, its first document, and the document after its last one.
Piece = tuple[str, int, int]


@dataclass(frozen=True)
class Building:
    """Ids → examples, of a block of documents. Random sentences come from blocks drawn from the whole split."""

    shelf: Shelf
    tokenizer: Path
    digest: str
    objective: str
    block_size: int
    short_seq_prob: float
    seed: int

    def __call__(self, task: tuple[int, list[list[Piece]], bool, int]) -> Result:
        """Build one block.

        Args:
          task: the block's number; its pieces, then those of the other blocks that it takes random sentences from;
            whether it was drawn itself; and the number of passes.
        """
        number, blocks, is_drawn, passes = task
        settings = [self.objective, self.block_size, self.short_seq_prob, self.seed, is_drawn, passes]
        return self.shelf.provide(f"{number:05d}", [[_RULES, *settings], blocks], lambda: self._build(*task))

    def _build(self, number: int, blocks: list[list[Piece]], is_drawn: bool, passes: int) -> tuple[dict, dict]:
        corpora = [
            TokenizedCorpus.join([_read_ids(self.shelf.root / name).part(first, end) for name, first, end in block])
            for block in blocks
        ]
        tokenizer = _load_tokenizer(self.tokenizer, self.digest)
        settings = (self.objective, self.block_size, self.short_seq_prob, self.seed, passes)
        columns, figures = build_block(number, corpora, is_drawn, tokenizer, *settings)
        lengths = np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in columns["input_ids"].chunks])
        figures["lengths"] = np.bincount(lengths, minlength=self.block_size + 1).tolist()
        return columns, figures


def documents_of(shard: Path, split: str, seed: int, bound: int | None) -> pa.Array:
    """The documents of a sentence shard that belong to one split, as a column of lists of sentences.

    Args:
      split: `"train"` or `"validation"`.
      seed, bound: as of `Tokenizing`; with a bound of `None`, all documents of the shard belong to the split.
    """
    table = read_shard(shard)
    if bound is None:
        return table["sentences"]
    chosen = is_validation(table["hash"].to_numpy(), bound, seed)
    return table["sentences"].filter(pa.array(chosen if split == "validation" else ~chosen))


def document_starts(shard: Path) -> np.ndarray:
    """The token at which each document of a token shard begins, and the end of the last one; (documents + 1,) int64."""
    corpus = _read_ids(shard)
    return corpus.sentence_starts[corpus.document_starts]


def _read_ids(shard: Path) -> TokenizedCorpus:
    column = read_shard(shard)["ids"]
    if len(column) == 0:
        return TokenizedCorpus.from_documents([])
    column = column.chunk(0)  # there is one
    starts = (column.values.offsets, column.offsets)
    sentence_starts, document_starts = (each.to_numpy().astype(np.int64) for each in starts)
    return TokenizedCorpus(column.values.values.to_numpy(), sentence_starts, document_starts, 0)


def as_tokenizer(tokenizer):
    """The tokenizer, loaded if it is given as a name or folder."""
    return AutoTokenizer.from_pretrained(tokenizer) if isinstance(tokenizer, (str, os.PathLike)) else tokenizer


def digest_tokenizer(tokenizer) -> str:
    """A digest of everything that determines a tokenizer's ids; padding and truncation remain from the last call."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    return hashlib.blake2b(json.dumps(settings).encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=1)
def _load_tokenizer(folder: Path, digest: str):
    return as_tokenizer(folder)


@lru_cache(maxsize=1)
def _load_tokenize(folder: Path, digest: str) -> Tokenize:
    return choose_tokenize(_load_tokenizer(folder, digest))
