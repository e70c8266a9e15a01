"""`prepare_corpus` makes a folder with examples, tokenizer and report from a corpus of any size; `load_prepared` loads
it."""

import contextlib
import errno
import json
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, overload

import datasets
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from keras_pretrain.corpus.cleaning import choose_cleaning
from keras_pretrain.corpus.loading import Source, find_source
from keras_pretrain.corpus.readers import ReadingOptions
from keras_pretrain.corpus.sentences import choose_backend
from keras_pretrain.features.building import check_settings
from keras_pretrain.folders import LOCK, OwnedFolder
from keras_pretrain.preparation.documents import find_units
from keras_pretrain.preparation.engines import LocalEngine, RayEngine
from keras_pretrain.preparation.overlap import refuse_overlap
from keras_pretrain.preparation.pipeline import LENGTHS, MADE_OF, REPORT, SPLITS, Preparation, Settings
from keras_pretrain.preparation.shards import is_shard
from keras_pretrain.preparation.stages import as_tokenizer, digest_tokenizer
from keras_pretrain.settings import attach
from keras_pretrain.system import lock
from keras_pretrain.tokenization import cleaning_of, empty_tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack  # Python 3.10 does not have it

logger = logging.getLogger(__name__)

_FOLDERS = ("survey", "sentences", "tokens", "tokenizer", *SPLITS)
_TOKENIZER = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "made_of.json")
_TOKENIZER_FILES = tuple(f"tokenizer/{name}" for name in _TOKENIZER)
_FIXED = (REPORT, LENGTHS, *_TOKENIZER_FILES)
# Examples of the names of all files that are written. The names of other shards differ only in their numbers.
_SHARD = "00000-00000-0123456789abcdef.arrow"
_EXAMPLES = (
    *_FIXED,
    *(f"{name}/{_SHARD}" for name in ("survey", "sentences", "tokens/train", "tokens/validation", *SPLITS)),
)


@dataclass(frozen=True)
class Prepared:
    """The contents of a prepared folder: `directory`, a fast `tokenizer`, and a `report` of settings and counts."""

    directory: Path
    tokenizer: PreTrainedTokenizerBase
    report: dict

    @cached_property
    def features(self) -> DatasetDict:
        """`train` and, if there is one, `validation`, memory-mapped, with the same columns as from `build_features`."""
        settings = self.report["settings"]
        features = DatasetDict()
        for split in filter(self.report.get, SPLITS):
            files = [str(self.directory / split / name) for name in self.report[split]["files"]]
            examples = datasets.concatenate_datasets(list(map(Dataset.from_file, files)))
            features[split] = attach(examples, objective=settings["objective"], block_size=settings["block_size"])
        return features

    def require_fit(self, objective: str, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        """Raise an error if a model cannot be trained on these examples.

        Args:
          objective: the objective of the model: `"mlm+nsp"`, `"mlm"` or `"rtd"`.
          tokenizer: the tokenizer of an existing model.

        Raises:
          ValueError: the examples were prepared for another objective, or with another tokenizer.
        """
        made_for = self.report["settings"]["objective"]
        if objective != made_for:
            raise ValueError(
                f"The corpus was prepared for the objective {made_for!r}, not {objective!r}. Train with that one, or "
                f"prepare it again with objective={objective!r}: sentences are not split again."
            )
        if tokenizer is not None and digest_tokenizer(tokenizer) != self.report["settings"]["tokenizer"]:
            raise ValueError(
                "The corpus was prepared with another tokenizer than the model's. Prepare it again with the model's "
                "folder as tokenizer: sentences are not split again."
            )


@dataclass(frozen=True)
class DryRun:
    """The result of `prepare_corpus(dry_run=True)`: what a call without `dry_run` would write, replace and keep.

    Attributes:
      directory: the output.
      written: files, and folders (ending in `/`) in which files are written.
      replaced: files of an earlier preparation that are replaced, or deleted if no longer needed.
      kept: other files, which are not changed.
    """

    directory: Path
    written: list[str]
    replaced: list[str]
    kept: list[str]


class PreparationArguments(TypedDict, total=False):
    """The keyword arguments of `prepare_corpus`, except `dry_run`, which determines the result's type."""

    text_column: str
    sample_by: str
    encoding: str
    dialect: str | dict | None
    on_bad_rows: str
    validation_fraction: float
    drop_duplicates: bool
    language: str
    cleaning: str | None
    clean: bool | None
    backend: str | None
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None
    vocab_size: int
    lowercase: bool
    objective: str
    block_size: int
    line_by_line: bool
    short_seq_prob: float
    dupe_factor: int
    seed: int
    num_proc: int | None
    engine: LocalEngine | RayEngine | None
    overwrite: bool


@overload
def prepare_corpus(
    source: Source,
    directory: str | os.PathLike[str],
    *,
    dry_run: Literal[False] = False,
    **arguments: "Unpack[PreparationArguments]",
) -> Prepared: ...
@overload
def prepare_corpus(
    source: Source,
    directory: str | os.PathLike[str],
    *,
    dry_run: Literal[True],
    **arguments: "Unpack[PreparationArguments]",
) -> DryRun: ...
@overload
def prepare_corpus(
    source: Source, directory: str | os.PathLike[str], *, dry_run: bool, **arguments: "Unpack[PreparationArguments]"
) -> Prepared | DryRun: ...
def prepare_corpus(
    source: Source,
    directory: str | os.PathLike[str],
    *,
    text_column: str = "text",
    sample_by: str = "paragraph",
    encoding: str = "utf-8",
    dialect: str | dict | None = None,
    on_bad_rows: str = "error",
    validation_fraction: float = 0.1,
    drop_duplicates: bool = False,
    language: str = "ko",
    cleaning: str | None = None,
    clean: bool | None = None,
    backend: str | None = None,
    tokenizer: str | os.PathLike[str] | PreTrainedTokenizerBase | None = None,
    vocab_size: int = 25_000,
    lowercase: bool = False,
    objective: str = "mlm+nsp",
    block_size: int = 128,
    line_by_line: bool = False,
    short_seq_prob: float = 0.1,
    dupe_factor: int = 1,
    seed: int = 42,
    num_proc: int | None = None,
    engine: LocalEngine | RayEngine | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Prepared | DryRun:
    """Make examples from documents on disk, for corpora that do not fit into memory and runs that may be interrupted.

    The corpus is processed in blocks. Each block is cleaned, split into sentences, tokenized and made into examples;
    each result has its own file, whose name depends on the content and the settings. So a repeated call, for example
    after a crash or with other settings for later steps, reuses finished files. The same source, settings and seed give
    the same tokenizer and examples as `load_corpus` → `prepare_sentences` → `train_tokenizer` → `build_features`, for
    any engine and number of processes.

    A file is replaced or deleted only if this function wrote it and it has not changed since (`folders.OwnedFolder`). A
    finished folder can be loaded until the new examples are complete, or until its tokenizer changes.

    Args:
      source, text_column, sample_by, encoding, dialect, on_bad_rows, validation_fraction, drop_duplicates: as in
        `load_corpus`.
      directory: the output, a folder that is empty, does not exist, or was prepared before. It holds one corpus with
        one set of settings at a time.
      language, cleaning, clean, backend: as in `prepare_sentences`; the cleaning recorded with a given `tokenizer` is
        the default.
      tokenizer: a fast tokenizer, or its name or folder. Default: train one on the training documents.
      vocab_size, lowercase: of the trained tokenizer, as in `train_tokenizer`.
      objective, block_size, line_by_line, short_seq_prob, dupe_factor, seed: as in `build_features`.
      num_proc: number of worker processes. Default: one for each processor that this process may use.
      engine: a `RayEngine`, to use a cluster instead of processes of this machine.
      overwrite: take over a folder that was prepared by a version without a manifest (0.1.0 before November 2026), and
        replace the report and the tokenizer even if they have changed.
      dry_run: only check the arguments, as far as possible without reading the corpus, and report the files that would
        be written and replaced; write nothing.

    Returns:
      As `load_prepared(directory)`. The folder holds `survey/`, `sentences/`, `tokens/`, `train/` and `validation/`
      (Arrow files, readable by `Dataset.from_file`), `tokenizer/`, `report.json` and `lengths.png`. The first three can
      be deleted when it is finished; they save time when it is prepared again with other settings.

    Raises:
      FileNotFoundError, ValueError: as `load_corpus`, `prepare_sentences`, `train_tokenizer` and `build_features`; also
        if source and output would share a file.
      FileExistsError: the directory contains files that are not a prepared corpus.
      BlockingIOError: another process is preparing the directory.
      OSError: the disk is full. Finished files are kept.
      RuntimeError: a worker process died.
    """
    directory = Path(directory).expanduser().resolve()  # a worker may have another current folder
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be at least 0 and below 1, not {validation_fraction}.")
    options = ReadingOptions(sample_by=sample_by, encoding=encoding, dialect=dialect, on_bad_rows=on_bad_rows)
    backend = choose_backend(language, backend, objective)
    engine = engine or LocalEngine(num_proc)
    given = as_tokenizer(tokenizer)
    if given is not None and not getattr(given, "is_fast", False):
        raise ValueError(f"The tokenizer is a slow one ({type(given).__name__}, in Python); a fast one is needed.")
    if given is not None and lowercase:
        raise ValueError("lowercase is set, but a given tokenizer has its own rule for case. Leave it out.")
    recorded = cleaning_of(given) if given is not None and clean is None else None
    cleaning = choose_cleaning(language, cleaning or recorded, clean)
    check_settings(
        given or empty_tokenizer(vocab_size), objective, block_size, line_by_line, short_seq_prob, dupe_factor
    )
    settings = Settings(
        text_column, validation_fraction, language, cleaning, backend, vocab_size, lowercase, objective,
        block_size, line_by_line, short_seq_prob, dupe_factor, seed, drop_duplicates,
    )  # fmt: skip
    # `find_source` reads a streaming dataset, so first check that the output can be written.
    opened = None if isinstance(source, (str, os.PathLike)) else _open_folder(directory, overwrite)
    found = find_source(source, text_column)
    refuse_overlap(source, found, directory, _FOLDERS, _EXAMPLES)
    folder, old = opened or _open_folder(directory, overwrite)
    units = find_units(found, text_column, options)
    if dry_run:
        return _plan(folder, old)
    directory.mkdir(parents=True, exist_ok=True)
    message = f"Another process is preparing {directory}. Wait for it, or choose another folder."
    try:
        with os.fdopen(lock(directory / LOCK, message), "w"):
            folder.adopt(old)
            with folder.staging() as stage:
                seconds = Preparation(folder, stage, units, settings, engine, given).run()
    except OSError as error:
        if error.errno != errno.ENOSPC:  # ENOSPC: the disk is full, for this process or a worker
            raise
        full = f"The disk of {directory} is full. Finished work is kept: make room and start again"
        raise OSError(error.errno, full) from error
    logger.info("%s is prepared: %s.", directory, ", ".join(f"{name} {each:,.1f} s" for name, each in seconds.items()))
    return load_prepared(directory)


def load_prepared(directory: str | os.PathLike[str]) -> Prepared:
    """Load the result of `prepare_corpus`.

    Raises:
      FileNotFoundError: nothing was prepared there, its preparation was not finished, or files are missing.
      ValueError: its tokenizer has been replaced.
    """
    directory = Path(directory)
    if not (directory / REPORT).exists():
        is_begun = (directory / "survey").exists() or (directory / "sentences").exists()
        raise FileNotFoundError(
            f"{directory} holds no prepared corpus: it has no {REPORT}. "
            + ("Its preparation is unfinished: run the same command again to continue it." if is_begun else "")
        )
    report = json.loads((directory / REPORT).read_text(encoding="utf-8"))
    files = [directory / split / name for split in filter(report.get, SPLITS) for name in report[split]["files"]]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"{directory} is incomplete: {len(missing)} files are missing (the first: {missing[0]})."
        )
    tokenizer = as_tokenizer(directory / "tokenizer")
    if digest_tokenizer(tokenizer) != report["settings"]["tokenizer"]:
        raise ValueError(f"{directory / 'tokenizer'} is not the tokenizer that the examples were made with.")
    return Prepared(directory, tokenizer, report)


def _open_folder(directory: Path, overwrite: bool) -> tuple[OwnedFolder, list[str]]:
    """The output folder, and its files from a version without a manifest; raises an error if it may not be written
    to."""
    if directory.exists() and not directory.is_dir():
        raise FileExistsError(f"The output {directory} is a file. Choose a folder that does not exist yet.")
    folder, old = OwnedFolder(directory, "preparation", overwrite=overwrite), []
    if directory.exists() and "preparation" not in folder.writers:
        old = _files_of_old_version(directory)
        if old and not overwrite:
            raise FileExistsError(
                f"{directory} was prepared by a version of keras_pretrain that kept no record of its files. Choose "
                "another folder, or pass overwrite=True to let this version replace and delete them. It can be loaded "
                "as it is."
            )
        others = [] if old else folder.foreign() or sorted(folder.writers)
        if others:
            raise FileExistsError(
                f"The output {directory} has files that do not belong to a prepared corpus, for example {others[0]}. "
                "Choose a folder that is empty or does not exist yet."
            )
    folder.require_replaceable(name for name in _FIXED if name not in old)
    return folder, old


def _files_of_old_version(directory: Path) -> list[str]:
    """The files that a version without a manifest wrote, if their own content shows this."""
    is_old = False
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        is_old = "keras_pretrain" in json.loads((directory / REPORT).read_text(encoding="utf-8"))["versions"]
    shards = [path for name in _FOLDERS for path in (directory / name).glob("**/*.arrow") if is_shard(path)]
    if not is_old and not shards:
        return []
    has_tokenizer = (directory / MADE_OF).is_file()
    names = [REPORT, LENGTHS, "survey.json", *(_TOKENIZER_FILES if has_tokenizer else ())]
    others = [name for name in names if (directory / name).is_file()]
    return sorted([*others, *(str(path.relative_to(directory)) for path in shards)])


def _plan(folder: OwnedFolder, old: list[str]) -> DryRun:
    written = [f"{name}/" for name in _FOLDERS] + [REPORT, LENGTHS]
    replaced = sorted({*filter(folder.owns, folder.names()), *old})
    plan = DryRun(folder.path, written, replaced, [name for name in folder.foreign() if name not in old])
    logger.info(
        "Nothing is written (dry run). %s would contain %s; %d files of an earlier preparation would be replaced, or "
        "deleted if they are no longer needed; %d other files would be kept.",
        folder.path, ", ".join(plan.written), len(plan.replaced), len(plan.kept),
    )  # fmt: skip
    return plan
