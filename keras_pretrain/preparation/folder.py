"""`prepare_corpus` and `load_prepared`: a corpus of any size → a folder of examples with all that belongs to them."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict

from keras_pretrain.corpus.cleaning import choose_cleaning
from keras_pretrain.corpus.loading import find_source
from keras_pretrain.corpus.readers import ReadingOptions
from keras_pretrain.corpus.sentences import choose_backend
from keras_pretrain.features.building import check_settings
from keras_pretrain.folders import LOCK, OwnedFolder
from keras_pretrain.preparation.documents import find_units
from keras_pretrain.preparation.engines import LocalEngine
from keras_pretrain.preparation.overlap import refuse_overlap
from keras_pretrain.preparation.pipeline import LENGTHS, MADE_OF, REPORT, SPLITS, Preparation, Settings, as_tokenizer
from keras_pretrain.preparation.shards import is_shard
from keras_pretrain.preparation.stages import digest_tokenizer
from keras_pretrain.settings import attach
from keras_pretrain.system import lock
from keras_pretrain.tokenization import cleaning_of, empty_tokenizer

logger = logging.getLogger(__name__)

_FOLDERS = ("survey", "sentences", "tokens", "tokenizer", *SPLITS)
_TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "made_of.json")
# Names that stand for all that is written: other shards differ in their numbers only.
_SHARD = "00000-00000-0123456789abcdef.arrow"
_EXAMPLES = (
    REPORT,
    LENGTHS,
    *(f"tokenizer/{name}" for name in _TOKENIZER_FILES),
    *(f"{name}/{_SHARD}" for name in ("survey", "sentences", "tokens/train", "tokens/validation", *SPLITS)),
)


@dataclass(frozen=True)
class Prepared:
    """What a prepared folder holds.

    Attributes:
      directory: the folder.
      tokenizer: a fast tokenizer.
      report: settings and counts.
    """

    directory: Path
    tokenizer: object
    report: dict

    @cached_property
    def features(self) -> DatasetDict:
        """`train` and, where there is one, `validation`: the columns of `build_features`, used where they lie."""
        settings = self.report["settings"]
        features = DatasetDict()
        for split in filter(self.report.get, SPLITS):
            files = [str(self.directory / split / name) for name in self.report[split]["files"]]
            examples = datasets.concatenate_datasets(list(map(Dataset.from_file, files)))
            features[split] = attach(examples, objective=settings["objective"], block_size=settings["block_size"])
        return features

    def require_fit(self, objective: str, tokenizer=None) -> None:
        """Refuse a model that cannot be trained on it.

        Args:
          objective: `"mlm+nsp"`, `"mlm"` or `"rtd"`.
          tokenizer: of a model that is there already.

        Raises:
          ValueError: prepared for another objective, or with another tokenizer.
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
    """What `prepare_corpus(dry_run=True)` returns: what a run would do, file by file where names are known.

    Attributes:
      directory: the output.
      written: files, and folders (ending in `/`) in which files are written.
      replaced: files of an earlier preparation that are replaced, or deleted when they are no longer needed.
      kept: files of others that stay as they are.
    """

    directory: Path
    written: list[str]
    replaced: list[str]
    kept: list[str]


def prepare_corpus(
    source,
    directory: str | os.PathLike,
    *,
    text_column: str = "text",
    sample_by: str = "paragraph",
    encoding: str = "utf-8",
    dialect=None,
    on_bad_rows: str = "error",
    validation_fraction: float = 0.1,
    drop_duplicates: bool = False,
    language: str = "ko",
    cleaning: str | None = None,
    clean: bool | None = None,
    backend: str | None = None,
    tokenizer=None,
    vocab_size: int = 25_000,
    objective: str = "mlm+nsp",
    block_size: int = 128,
    short_seq_prob: float = 0.1,
    dupe_factor: int = 1,
    seed: int = 42,
    num_proc: int | None = None,
    engine=None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Prepared | DryRun:
    """Documents → examples on the disk, for corpora that do not fit into memory and runs that may be interrupted.

    The corpus is worked on in blocks: cleaned, split into sentences, tokenized, made into examples, a file for each.
    Files are named by their content and settings, so what is finished is not done again: not after a crash, and not
    when only later settings have changed. The same source, settings and seed give the same tokenizer and examples as
    `load_corpus` → `prepare_sentences` → `train_tokenizer` → `build_features`, whatever the engine and the number of
    processes.

    Nothing in the folder is replaced or deleted but files that this function wrote there and that have not changed
    since (`folders.OwnedFolder`). A folder that was finished before can be loaded until the new examples are there, or
    until its tokenizer changes.

    Args:
      source, text_column, sample_by, encoding, dialect, on_bad_rows: the corpus and how it is read, as in
        `load_corpus`.
      directory: where everything goes: a folder that is empty, does not exist, or was prepared before. It holds one
        corpus with one set of settings at a time.
      validation_fraction, drop_duplicates: as in `load_corpus`.
      language, cleaning, clean, backend: as in `prepare_sentences`. The cleaning of a given `tokenizer` is the default
        where one is recorded with it.
      tokenizer: a fast tokenizer, its name or folder; by default one is trained on the training documents.
      vocab_size: of the trained one.
      objective, block_size, short_seq_prob, dupe_factor, seed: as in `build_features`.
      num_proc: worker processes; by default one for each processor that this process may use.
      engine: who works, instead of processes of this machine: a `RayEngine`.
      overwrite: take over a folder that was prepared by a version without a manifest (0.1.0 before November 2026), and
        replace the report and the tokenizer even where they were changed.
      dry_run: check everything that can be checked without reading the corpus, report what would be written and
        replaced, and do nothing.

    Returns:
      As `load_prepared(directory)`. The folder holds `survey/`, `sentences/`, `tokens/`, `train/` and `validation/`
      (Arrow files, readable by `Dataset.from_file`), `tokenizer/`, `report.json` and `lengths.png`. When it is
      finished, the first three can be deleted; they save time when it is prepared again with other settings.

    Raises:
      FileNotFoundError, ValueError: as `load_corpus`, `prepare_sentences`, `train_tokenizer` and `build_features`; and
        where source and output would share a file.
      FileExistsError: the directory holds something else than a prepared corpus.
      BlockingIOError: another process is preparing it.
      OSError: the disk is full. What is finished is kept.
      RuntimeError: a worker process died.
    """
    directory = Path(directory).expanduser().resolve()  # another machine works in another folder
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be at least 0 and below 1, not {validation_fraction}.")
    options = ReadingOptions(sample_by=sample_by, encoding=encoding, dialect=dialect, on_bad_rows=on_bad_rows)
    backend = choose_backend(language, backend, objective)
    engine = engine or LocalEngine(num_proc)
    given = as_tokenizer(tokenizer)
    if given is not None and not getattr(given, "is_fast", False):
        raise ValueError(f"The tokenizer is a slow one ({type(given).__name__}, in Python); a fast one is needed.")
    recorded = cleaning_of(given) if given is not None and clean is None else None
    cleaning = choose_cleaning(language, cleaning or recorded, clean)
    check_settings(given or empty_tokenizer(vocab_size), objective, block_size, short_seq_prob, dupe_factor)
    settings = Settings(
        text_column, validation_fraction, language, cleaning, backend, vocab_size, objective, block_size,
        short_seq_prob, dupe_factor, seed, drop_duplicates,
    )  # fmt: skip
    # A streaming dataset is read when it is found: not before it is known where the result can go.
    opened = None if isinstance(source, (str, os.PathLike)) else _open_folder(directory, overwrite)
    found = find_source(source, text_column)
    refuse_overlap(source, found, directory, _FOLDERS, _EXAMPLES)
    folder, old = opened or _open_folder(directory, overwrite)
    units = find_units(found, text_column, options)
    if dry_run:
        return _plan(folder, old)
    folder.adopt(old)
    with _locked(folder), folder.staging() as stage:
        seconds = Preparation(folder, stage, units, settings, engine, given).run()
    logger.info("%s is prepared: %s.", directory, ", ".join(f"{name} {each:,.1f} s" for name, each in seconds.items()))
    return load_prepared(directory)


def load_prepared(directory: str | os.PathLike) -> Prepared:
    """What `prepare_corpus` made.

    Raises:
      FileNotFoundError: nothing was prepared there, its preparation was not finished, or files are missing.
      ValueError: its tokenizer has been replaced.
    """
    directory = Path(directory)
    if not (directory / REPORT).exists():
        is_begun = (directory / "survey").exists() or (directory / "sentences").exists()
        raise FileNotFoundError(
            f"{directory} holds no prepared corpus: it has no {REPORT}. "
            + ("Its preparation was not finished; the same command goes on with it." if is_begun else "")
        )
    report = json.loads((directory / REPORT).read_text(encoding="utf-8"))
    files = [directory / split / name for split in filter(report.get, SPLITS) for name in report[split]["files"]]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(f"{directory} is not whole: {len(missing)} files are missing, first {missing[0]}.")
    tokenizer = as_tokenizer(directory / "tokenizer")
    if digest_tokenizer(tokenizer) != report["settings"]["tokenizer"]:
        raise ValueError(f"{directory / 'tokenizer'} is not the tokenizer that the examples were made with.")
    return Prepared(directory, tokenizer, report)


def _open_folder(directory: Path, overwrite: bool) -> tuple[OwnedFolder, list[str]]:
    """The output, if it may be written to, and the files there of a version without a manifest.

    Raises:
      FileExistsError: it may not.
    """
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
                f"The output {directory} holds something else than a prepared corpus, {others[0]} for example. Choose "
                "a folder that is empty or does not exist yet."
            )
    fixed = (REPORT, LENGTHS, *(f"tokenizer/{name}" for name in _TOKENIZER_FILES))
    folder.require_replaceable(name for name in fixed if name not in old)
    return folder, old


def _files_of_old_version(directory: Path) -> list[str]:
    """What a version without a manifest wrote, as far as the files themselves show it."""
    report = directory / REPORT
    try:
        is_old = "keras_pretrain" in json.loads(report.read_text(encoding="utf-8"))["versions"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        is_old = False
    shards = [path for name in _FOLDERS for path in (directory / name).glob("**/*.arrow") if is_shard(path)]
    if not is_old and not shards:
        return []
    others = [directory / name for name in (REPORT, LENGTHS, "survey.json") if (directory / name).is_file()]
    if (directory / MADE_OF).is_file():
        others += [path for name in _TOKENIZER_FILES if (path := directory / "tokenizer" / name).is_file()]
    return sorted(str(path.relative_to(directory)) for path in [*shards, *others])


def _plan(folder: OwnedFolder, old: list[str]) -> DryRun:
    written = [f"{name}/" for name in _FOLDERS] + [REPORT, LENGTHS]
    replaced = sorted({*filter(folder.owns, folder.names()), *old})
    plan = DryRun(folder.path, written, replaced, [name for name in folder.foreign() if name not in old])
    logger.info(
        "Nothing is written (dry run). %s would hold %s; %d files of an earlier preparation would be replaced or "
        "deleted, as far as they are no longer needed; %d other files would stay.",
        folder.path, ", ".join(plan.written), len(plan.replaced), len(plan.kept),
    )  # fmt: skip
    return plan


@contextlib.contextmanager
def _locked(folder: OwnedFolder) -> Iterator[None]:
    """Keep other processes out of the folder."""
    folder.path.mkdir(parents=True, exist_ok=True)
    message = f"Another process is preparing {folder.path}. Wait for it, or choose another folder."
    descriptor = lock(folder.path / LOCK, message)
    try:
        yield
    except OSError as error:
        if error.errno == 28:  # ENOSPC, in this process or in a worker
            raise OSError(
                error.errno, f"The disk of {folder.path} is full. What is finished is kept: make room and start again"
            ) from error
        raise
    finally:
        os.close(descriptor)
