"""The stages of preparation. A stage makes the shard of one block, which depends only on the block and the settings.

Any process can call a stage, on any machine that sees the same folders. If the shard already exists, it does nothing.
"""

import hashlib
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.corpus.validation import is_validation
from keras_pretrain.features.building import build_block
from keras_pretrain.features.tokenizing import Tokenize, TokenizedCorpus, choose_tokenize, tokenize_documents
from keras_pretrain.preparation.documents import Block, Unit, survey
from keras_pretrain.preparation.shards import Result, Shelf, read_shard

_RULES = 2  # increased whenever a stage gives another result for the same settings, so that old shards are not used
_LONGEST_ERROR = 200  # maximum number of characters stored of a splitter's error message


def survey_unit(shelf: Shelf, unit: Unit) -> Result:
    """Compute, for a unit, the hash and the length of each document, and the number of rows without a document."""
    return shelf.provide(f"{unit.number:05d}", [_RULES, unit.stamp()], lambda: survey(unit))


def split_block(
    shelf: Shelf, splitter: Callable[[str], list[str]], made_of: tuple[str, ...], cleaning: str, block: Block
) -> Result:
    """Clean the documents of a block and split them into sentences. `made_of` identifies the backend, its versions, and
    the learned parameters of the splitter."""
    failures = []

    def split(text: str) -> list[str]:
        text = clean_text(text, cleaning)
        try:
            return splitter(text)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}"[:_LONGEST_ERROR])
            return [" ".join(text.split())]

    def make() -> tuple[dict, dict]:
        documents = list(map(split, block.texts))
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

    return shelf.provide(block.name, [[_RULES, made_of, cleaning, block.split], *block.texts], make)


def tokenize_shard(
    shelf: Shelf, tokenizer: Path, digest: str, seed: int, bound: int, task: tuple[str, str | None, str]
) -> Result:
    """Tokenize the training documents or the validation documents of a sentence shard.

    The seed and the bound determine the split of a document (`corpus.validation`), unless the source has its own
    validation split. A task consists of the sentence shard, the split of the source that it belongs to (or `None`), and
    the split to tokenize.
    """
    shard, split_of_shard, split = task

    def make() -> tuple[dict, dict]:
        documents = documents_of(shelf.root / shard, split, seed, None if split_of_shard else bound).to_pylist()
        corpus = tokenize_documents(documents, _load_tokenize(tokenizer, digest))
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

    name = f"{split}/{Path(shard).stem.rsplit('-', 1)[0]}"
    drawn = None if split_of_shard else [seed, bound]
    return shelf.provide(name, [[_RULES, digest, drawn, split], shard], make)


# A part of a token shard: its name, its first document, and the document after its last one.
Piece = tuple[str, int, int]


def build_examples(
    shelf: Shelf, tokenizer: Path, digest: str, settings: dict, task: tuple[int, list[list[Piece]], bool, int]
) -> Result:
    """Make examples from the ids of a block of documents. Random sentences come from blocks that are drawn from the
    whole split.

    The settings are arguments of `build_block`. A task consists of the number of the block; the pieces of the block,
    followed by those of each block for random sentences; whether the block itself is one of the blocks for random
    sentences; and the number of passes.
    """
    number, blocks, is_drawn, passes = task

    def make() -> tuple[dict, dict]:
        corpora = [
            TokenizedCorpus.join([_read_ids(shelf.root / name).part(first, end) for name, first, end in block])
            for block in blocks
        ]
        loaded = _load_tokenizer(tokenizer, digest)
        columns, figures = build_block(number, corpora, is_drawn, loaded, **settings, passes=passes)
        lengths = np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in columns["input_ids"].chunks])
        figures["lengths"] = np.bincount(lengths, minlength=settings["block_size"] + 1).tolist()
        return columns, figures

    return shelf.provide(f"{number:05d}", [[_RULES, *settings.values(), is_drawn, passes], blocks], make)


def documents_of(shard: Path, split: str, seed: int, bound: int | None) -> pa.Array:
    """The documents of a sentence shard that belong to a split (all, if `bound` is `None`), as lists of sentences."""
    table = read_shard(shard)
    if bound is None:
        return table["sentences"]
    chosen = is_validation(table["hash"].to_numpy(), bound, seed)
    return table["sentences"].filter(pa.array(chosen if split == "validation" else ~chosen))


def document_starts(shard: Path) -> np.ndarray:
    """The index of the first token of each document in a token shard, and the end of the last document,
    (documents + 1,) int64."""
    corpus = _read_ids(shard)
    return corpus.sentence_starts[corpus.document_starts]


def _read_ids(shard: Path) -> TokenizedCorpus:
    column = read_shard(shard)["ids"]
    if len(column) == 0:
        return TokenizedCorpus.from_documents([])
    column = column.chunk(0)  # a shard's column has a single chunk
    starts = (column.values.offsets, column.offsets)
    sentence_starts, document_starts = (each.to_numpy().astype(np.int64) for each in starts)
    return TokenizedCorpus(column.values.values.to_numpy(), sentence_starts, document_starts, 0)


@overload
def as_tokenizer(tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase) -> PreTrainedTokenizerBase: ...
@overload
def as_tokenizer(tokenizer: None) -> None: ...
@overload
def as_tokenizer(
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None,
) -> PreTrainedTokenizerBase | None: ...
def as_tokenizer(tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None) -> PreTrainedTokenizerBase | None:
    """The tokenizer, loaded if it is given as a name or folder."""
    return AutoTokenizer.from_pretrained(tokenizer) if isinstance(tokenizer, (str, os.PathLike)) else tokenizer


def digest_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """Compute a digest of everything that determines a tokenizer's ids. Padding and truncation are left out, because
    they only reflect the tokenizer's last call."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    return hashlib.blake2b(json.dumps(settings).encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=1)
def _load_tokenizer(folder: Path, digest: str) -> PreTrainedTokenizerBase:
    return as_tokenizer(folder)


@lru_cache(maxsize=1)
def _load_tokenize(folder: Path, digest: str) -> Tokenize:
    return choose_tokenize(_load_tokenizer(folder, digest))
