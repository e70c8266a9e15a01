"""Documents → sentences over a whole corpus: in parallel, with progress, and once only."""

import gc
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.corpus.sentences import choose_backend, make_splitter, splitter_versions
from keras_pretrain.system import available_processors

logger = logging.getLogger(__name__)

_FEATURES = datasets.Features({"sentences": datasets.List(datasets.Value("string"))})

_RULES = 1  # goes up whenever cleaning or splitting gives other sentences than before: old results are then not used


def prepare_sentences(
    corpus: Dataset | DatasetDict,
    *,
    language: str = "ko",
    clean: bool = True,
    num_proc: int | None = None,
    backend: str | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> Dataset | DatasetDict:
    """Clean documents and split them into sentences.

    Args:
      corpus: documents, column `text` (str).
      language: `"ko"` or `"en"`.
      clean: whether `clean_text` is applied first. Its rules are made for Korean: of English it would take typographic
        quotes, dashes and accents (don’t becomes don t), of other scripts all. Switch it off for those.
      num_proc: worker processes, each with one analyser; by default one for each processor that this process may use
        where there is work for them. The result is the same for any number.
      backend: what splits, as in `split_sentences`.
      cache_dir: where results are kept, under a name made of the texts and settings, so that a second run does not
        split again. By default a folder `keras_pretrain` in the cache of 🤗 `datasets` (`HF_DATASETS_CACHE`).

    Returns:
      As `corpus`, with the one column `sentences` (list[str]), one row a document in the same order. A document that
      cleaning left empty has an empty list.

    Raises:
      ValueError: no column `text`, an unknown language or backend, or num_proc below 1.
    """
    backend = choose_backend(language, backend)
    if num_proc is not None and num_proc < 1:
        raise ValueError(f"num_proc must be at least 1, not {num_proc}.")
    parts = corpus if isinstance(corpus, dict) else {"": corpus}
    for name, documents in parts.items():
        if "text" not in documents.column_names:
            raise ValueError(
                f"The corpus{f' ({name})' if name else ''} has no column 'text'; its columns are "
                f"{', '.join(documents.column_names)}. load_corpus(..., text_column=...) makes one."
            )
        if documents.features["text"].dtype not in ("string", "large_string"):
            raise ValueError(f"The column 'text' holds {documents.features['text']}, not text.")
    cache = Path(cache_dir) if cache_dir else Path(datasets.config.HF_DATASETS_CACHE) / "keras_pretrain"
    # Punkt learns from the training part alone, and splits every part alike.
    learn_from = parts.get("train", next(iter(parts.values()))) if backend == "punkt" else None
    prepared = {
        name: _prepare_part(documents, learn_from, backend, clean, num_proc, cache) for name, documents in parts.items()
    }
    return DatasetDict(prepared) if isinstance(corpus, dict) else prepared[""]


def _prepare_part(documents, learn_from, backend, clean, num_proc, cache: Path) -> Dataset:
    if len(documents) == 0:
        return Dataset.from_dict({"sentences": []}, features=_FEATURES)
    directory = cache / f"sentences-{_fingerprint(documents, learn_from, backend, clean)}"
    if directory.exists():
        logger.info("Sentences of %d documents taken from %s.", len(documents), directory)
        return datasets.load_from_disk(str(directory))

    splitter = make_splitter(backend, () if learn_from is None else _texts(learn_from, clean))
    logger.info("Loading the sentence splitter (%s); this can take some seconds.", backend)
    splitter.load()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as temporary:
        # A forked worker that collected what this process left of TensorFlow's functions would crash.
        gc.freeze()
        try:
            sentences = documents.map(
                _clean_and_split,
                fn_kwargs={"splitter": splitter, "clean": clean},
                batched=True,
                batch_size=100,
                num_proc=_workers(documents, num_proc),
                remove_columns=documents.column_names,
                features=_FEATURES,
                cache_file_name=str(Path(temporary) / "mapped.arrow"),
                # `datasets` would pickle the analyser to find a name; the directory has one already.
                new_fingerprint=directory.name.removeprefix("sentences-"),
                desc="Splitting sentences",
            )
        finally:
            gc.unfreeze()
        saved = Path(temporary) / "saved"
        sentences.save_to_disk(str(saved))
        del sentences
        _move(saved, directory)
    return datasets.load_from_disk(str(directory))


def _clean_and_split(batch: dict, splitter, clean: bool) -> dict:
    return {"sentences": [splitter(clean_text(text) if clean else text) for text in batch["text"]]}


def _workers(documents: Dataset, num_proc: int | None) -> int | None:
    """How many processes; `None` for this one. A process is worth its start for a hundred documents or more."""
    wanted = min(available_processors(), len(documents) // 100) if num_proc is None else min(num_proc, len(documents))
    return wanted if wanted > 1 else None


def _texts(documents: Dataset, clean: bool) -> Iterator[str]:
    for batch in documents.select_columns(["text"]).iter(1000):
        yield from map(clean_text, batch["text"]) if clean else batch["text"]


def _fingerprint(documents: Dataset, learn_from: Dataset | None, backend: str, clean: bool) -> str:
    """A name for the result: the same texts split the same way have the same one."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((_RULES, backend, clean, *splitter_versions(backend))).encode())
    for part in (documents,) if learn_from in (None, documents) else (documents, learn_from):
        digest.update(b"\0part")
        for text in _texts(part, clean=False):
            if text is None:
                raise ValueError("A row of 'text' holds nothing. load_corpus leaves such rows out, and says how many.")
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
    return digest.hexdigest()


def _move(source: Path, target: Path) -> None:
    """Give a finished folder its name, all at once; where another process was first, its result stands."""
    try:
        os.rename(source, target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(source)
