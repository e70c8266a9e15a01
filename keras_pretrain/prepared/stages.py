"""What is done with one block of a corpus at each stage: functions of their arguments alone, for any process anywhere.

Each writes one shard and returns `(its path, its figures)`; where the shard is there already, nothing is done.
"""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.features.building import build_examples
from keras_pretrain.features.tokenizing import Tokenize, TokenizedCorpus, choose_tokenize, tokenize_documents
from keras_pretrain.prepared.documents import Block
from keras_pretrain.prepared.shards import block_of, name_shard, read_figures, read_shard, write_shard

_RULES = 1  # goes up whenever a stage gives something else than before for the same settings: old shards are not used
Result = tuple[Path, dict]


@dataclass(frozen=True)
class Splitting:
    """Documents → sentences.

    Attributes:
      splitter: from a document to its sentences.
      made_of: the name and version of the splitter, and what it has learned.
      clean: whether `clean_text` is applied.
    """

    folder: Path
    splitter: Callable[[str], list[str]]
    made_of: tuple[str, ...]
    clean: bool

    def __call__(self, block: Block) -> Result:
        settings = [_RULES, self.made_of, self.clean, block.split]
        path = self.folder / name_shard(block.name, settings, *block.texts)
        figures = read_figures(path)
        if figures is None:
            documents = [self.splitter(clean_text(text) if self.clean else text) for text in block.texts]
            figures = {
                "split": block.split,
                "documents": len(documents),
                "source_characters": sum(map(len, block.texts)),
                "sentences": sum(map(len, documents)),
                "characters": sum(len(sentence) for document in documents for sentence in document),
            }
            write_shard(path, {"sentences": pa.array(documents, pa.list_(pa.string()))}, figures, compress=True)
        return path, figures


@dataclass(frozen=True)
class Tokenizing:
    """Sentences → ids, of the documents for training or of those for validation, of which each shard has a number."""

    folder: Path
    tokenizer: Path
    digest: str
    seed: int

    def __call__(self, task: tuple[Path, str, int]) -> Result:
        shard, split, validation = task
        settings = [_RULES, self.digest, self.seed, validation, split]
        path = self.folder / split / name_shard(block_of(shard.name), settings, shard.name)
        figures = read_figures(path)
        if figures is None:
            documents = sentences_of(shard, split, validation, self.seed)
            batches = (documents[first : first + 1000] for first in range(0, len(documents), 1000))
            corpus = tokenize_documents(batches, _load_tokenize(self.tokenizer, self.digest))
            sentences = pa.ListArray.from_arrays(
                pa.array(corpus.sentence_starts, pa.int32()), pa.array(corpus.ids.astype(_smallest_type(corpus.ids)))
            )
            ids = pa.ListArray.from_arrays(pa.array(corpus.document_starts, pa.int32()), sentences)
            figures = {
                "documents": corpus.num_documents,
                "empty_documents": corpus.empty_documents,
                "longest_document": int(np.diff(corpus.document_starts).max(initial=0)),
            }
            write_shard(path, {"ids": ids}, figures)
        return path, figures


@dataclass(frozen=True)
class Building:
    """Ids → examples. Random sentences are taken from other shards, which are drawn from the whole corpus."""

    folder: Path
    tokenizer: Path
    digest: str
    objective: str
    block_size: int
    short_seq_prob: float
    seed: int

    def __call__(self, task: tuple[Path, tuple[Path, ...], int, int]) -> Result:
        shard, others, passes, empty_documents = task
        settings = [_RULES, self.objective, self.block_size, self.short_seq_prob, self.seed, passes]
        path = self.folder / name_shard(block_of(shard.name), settings, shard.name, *(each.name for each in others))
        figures = read_figures(path)
        if figures is None:
            columns, figures = self._build(shard, others, passes)
            figures["empty_documents"] = empty_documents
            write_shard(path, columns, figures)
        return path, figures

    def _build(self, shard: Path, others: tuple[Path, ...], passes: int) -> tuple[dict, dict]:
        own = read_ids(shard)
        parts = [own, *(read_ids(other) for other in others if other != shard)]
        part = {}
        if self.objective == "mlm+nsp":
            part = {"documents": own.num_documents, "random_from": 0 if shard in others else own.num_documents}
        columns, figures = build_examples(
            TokenizedCorpus.join(parts),
            load_tokenizer(self.tokenizer, self.digest),
            self.objective,
            self.block_size,
            self.short_seq_prob,
            [(self.seed, each, *map(int, block_of(shard.name).split("-"))) for each in range(passes)],
            **part,
        )
        lengths = np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in columns["input_ids"].chunks])
        figures["lengths"] = np.bincount(lengths, minlength=self.block_size + 1).tolist()
        return columns, figures


def sentences_of(shard: Path, split: str, validation: int, seed: int) -> list[list[str]]:
    """The documents of a sentence shard that belong to one split.

    Args:
      split: `"train"` or `"validation"`.
      validation: how many are for validation; which ones is drawn.
      seed: of the draw.
    """
    column = read_shard(shard)["sentences"]
    draw = random.Random(f"validation {seed} {block_of(shard.name)}")
    drawn = draw.sample(range(len(column)), validation)
    chosen = np.isin(np.arange(len(column)), drawn, invert=split == "train")
    return column.filter(pa.array(chosen)).to_pylist()


def read_ids(shard: Path) -> TokenizedCorpus:
    """What `Tokenizing` wrote."""
    column = read_shard(shard)["ids"].combine_chunks()
    starts = (column.values.offsets, column.offsets)
    sentence_starts, document_starts = (each.to_numpy().astype(np.int64) for each in starts)
    return TokenizedCorpus(column.values.values.to_numpy().astype(np.int32), sentence_starts, document_starts, 0)


@lru_cache(maxsize=1)
def load_tokenizer(folder: Path, digest: str):
    """The tokenizer of a prepared folder, once a process."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def digest_tokenizer(tokenizer) -> str:
    """Of all that its ids follow from; padding and truncation are left from the last call."""
    settings = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    return hashlib.blake2b(json.dumps(settings).encode(), digest_size=8).hexdigest()


@lru_cache(maxsize=1)
def _load_tokenize(folder: Path, digest: str) -> Tokenize:
    return choose_tokenize(load_tokenizer(folder, digest))


def _smallest_type(ids: np.ndarray) -> type:
    return np.uint16 if ids.max(initial=0) < 1 << 16 else np.int32
