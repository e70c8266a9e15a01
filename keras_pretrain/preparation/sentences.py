"""`prepare_sentences`: splits documents into sentences, with several processes and a cache."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from keras_pretrain.compat.datasets import cache_folder
from keras_pretrain.corpus.cleaning import choose_cleaning, clean_text, describe_cleaning, warn_of_language
from keras_pretrain.corpus.loading import each_text, require_text
from keras_pretrain.corpus.sentences import choose_backend, make_splitter, splitter_versions
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.preparation.documents import block_characters, make_blocks
from keras_pretrain.preparation.engines import LocalEngine
from keras_pretrain.preparation.pipeline import collect_sentences
from keras_pretrain.preparation.shards import Shelf
from keras_pretrain.preparation.stages import split_block
from keras_pretrain.settings import attach
from keras_pretrain.system import available_processors
from keras_pretrain.tokenization import cleaning_of

logger = logging.getLogger(__name__)

# In datasets 4 and later, a `Sequence` of values is a `List`.
_FEATURES = datasets.Features({"sentences": datasets.Sequence(datasets.Value("string"))})


def prepare_sentences(
    corpus: Dataset | DatasetDict,
    *,
    language: str = "ko",
    cleaning: str | None = None,
    clean: bool | None = None,
    objective: str = "mlm+nsp",
    backend: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    num_proc: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset | DatasetDict:
    """Clean documents and split them into sentences.

    Args:
      corpus: a dataset of documents, with column `text` (str).
      language: `"ko"` or `"en"`.
      cleaning: `"comments"`, `"prose"` or `"none"`, as in `clean_text`. Default: `"comments"` for Korean and `"prose"`
        for English. The log describes what the cleaning removes, and `train_tokenizer` records its name with the
        tokenizer.
      clean: deprecated; `False` means `cleaning="none"`, and `True` means the default cleaning of the language.
      objective: the objective for which the sentences are used. Only `"mlm+nsp"` needs sentences, so for `"mlm"` and
        `"rtd"` the default backend is `"lines"`.
      backend: the sentence splitter, as in `split_sentences`.
      tokenizer: an existing tokenizer; the cleaning recorded with it becomes the default.
      num_proc: number of worker processes. Default: one for each block of 200,000 characters, but at most one for each
        processor that this process may use. The result does not depend on it.
      cache_dir: the folder in which results are stored, so that a second run splits nothing, and a run after a crash
        splits only the missing blocks. Default: the folder `keras_pretrain` in the cache of 🤗 `datasets`
        (`HF_DATASETS_CACHE`); `cache_info` shows its content and clears it.

    Returns:
      Like `corpus`, but with the single column `sentences` (list[str]); one row per document, in the same order. A
      document that is empty after cleaning has an empty list. If the splitter fails on a document, it becomes one
      sentence, and the log counts it.

    Raises:
      ValueError: no column `text`, an unknown language, cleaning or backend, or num_proc below 1.
    """
    backend = choose_backend(language, backend, objective)
    recorded = cleaning_of(tokenizer) if tokenizer is not None and clean is None else None
    cleaning = choose_cleaning(language, cleaning or recorded, clean)
    if num_proc is not None and num_proc < 1:
        raise ValueError(f"num_proc must be at least 1, not {num_proc}.")
    parts = corpus if isinstance(corpus, dict) else {"": corpus}
    for name, documents in parts.items():
        hint = "load_corpus(..., text_column=...) makes one."
        require_text(documents.features, "text", f"The corpus{f' ({name})' if name else ''}", hint)
        column = documents.select_columns(["text"]).with_format("arrow")
        if any(batch["text"].null_count for batch in column.iter(10_000)):
            raise ValueError("A row of the column 'text' is null. load_corpus skips such rows, and logs their number.")
    logger.info(describe_cleaning(cleaning))
    # Punkt learns only from the training split, and splits all splits in the same way.
    learn_from = parts.get("train", next(iter(parts.values())))
    warn_of_language(each_text(learn_from), language)
    splitter = make_splitter(backend, (clean_text(text, cleaning) for text in each_text(learn_from)))
    made_of = (backend, *splitter_versions(backend), splitter.learned())
    cache = OwnedFolder(_cache_directory(cache_dir), "sentences")
    prepared = {}
    with cache.staging() as stage:
        splitting = partial(split_block, Shelf(cache.path, stage, "sentences"), splitter, made_of, cleaning)
        for name, documents in parts.items():
            sentences = _split(documents, splitting, backend, cache, stage, num_proc)
            prepared[name] = attach(sentences, cleaning=cleaning)
    return DatasetDict(prepared) if isinstance(corpus, dict) else prepared[""]


@dataclass(frozen=True)
class CacheInfo:
    """What `cache_info` found.

    Attributes:
      directory: the cache.
      files, size: the number of this package's files, and their size in bytes.
      others: files that this version did not write, or that have changed; they are never deleted.
    """

    directory: Path
    files: int
    size: int
    others: list[str]


def cache_info(cache_dir: str | os.PathLike[str] | None = None, *, clear: bool = False) -> CacheInfo:
    """Describe the content of the cache of `prepare_sentences`. With `clear`, clear the cache afterwards.

    Args:
      cache_dir: as for `prepare_sentences`.
      clear: delete this package's files. Datasets whose sentences are in the cache cannot be read afterwards.
    """
    cache = OwnedFolder(_cache_directory(cache_dir), "sentences")
    names = list(filter(cache.owns, cache.names()))
    info = CacheInfo(cache.path, len(names), sum((cache.path / name).stat().st_size for name in names), cache.foreign())
    if clear:
        cache.delete(names)
    return info


def _cache_directory(cache_dir: str | os.PathLike[str] | None) -> Path:
    return Path(cache_dir) if cache_dir else cache_folder() / "keras_pretrain"


def _split(
    documents: Dataset, splitting: Callable, backend: str, cache: OwnedFolder, stage: Path, num_proc: int | None
) -> Dataset:
    if len(documents) == 0:
        return Dataset.from_dict({"sentences": []}, features=_FEATURES)
    table = documents.select_columns(["text"]).with_format("arrow")
    total = sum(pc.sum(pc.utf8_length(batch["text"])).as_py() for batch in table.iter(10_000))
    size = block_characters(total)
    workers = num_proc or min(available_processors(), max(1, total // size))
    results = LocalEngine(workers).run(splitting, make_blocks(each_text(documents), "", None, size))
    results = collect_sentences(cache, stage, results, total, backend)
    files = [str(cache.path / result.name) for result in results]
    return datasets.concatenate_datasets([Dataset.from_file(file).select_columns(["sentences"]) for file in files])
