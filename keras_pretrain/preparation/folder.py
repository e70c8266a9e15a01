"""`prepare_corpus` and `load_prepared`: a corpus of any size → a folder of examples with all that belongs to them."""

import contextlib
import copy
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from itertools import compress
from pathlib import Path

import datasets
import numpy as np
from datasets import Dataset, DatasetDict
from tqdm.auto import tqdm

from keras_pretrain.corpus.cleaning import choose_cleaning, clean_text, describe_cleaning
from keras_pretrain.corpus.loading import find_source, report_duplicates, report_rows
from keras_pretrain.corpus.readers import ReadingOptions
from keras_pretrain.corpus.sentences import choose_backend, make_splitter, splitter_versions, warn_if_unsplit
from keras_pretrain.corpus.validation import first_occurrences, is_validation, validation_bound
from keras_pretrain.features.blocks import divide, draw_blocks
from keras_pretrain.features.building import add_figures, check_settings, report_examples
from keras_pretrain.features.next_sentence import check_pairable
from keras_pretrain.folders import LOCK, OwnedFolder
from keras_pretrain.preparation.documents import Unit, block_characters, find_units, read_blocks
from keras_pretrain.preparation.engines import LocalEngine
from keras_pretrain.preparation.lengths import draw_lengths
from keras_pretrain.preparation.overlap import refuse_overlap
from keras_pretrain.preparation.shards import Result, Shelf, collect, digest_content, is_shard, read_shard
from keras_pretrain.preparation.stages import (
    Building,
    Splitting,
    Surveying,
    Tokenizing,
    digest_tokenizer,
    document_starts,
    documents_of,
)
from keras_pretrain.settings import attach
from keras_pretrain.system import lock
from keras_pretrain.tokenization import (
    TOKENIZER_CHARACTERS,
    cleaning_of,
    empty_tokenizer,
    record_cleaning,
    sample_documents,
    train_tokenizer,
)

logger = logging.getLogger(__name__)

_REPORT = "report.json"
_LENGTHS = "lengths.png"
_MADE_OF = "tokenizer/made_of.json"
_SPLITS = ("train", "validation")
_FOLDERS = ("survey", "sentences", "tokens", "tokenizer", *_SPLITS)
_TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "made_of.json")
# Names that stand for all that is written: other shards differ in their numbers only.
_SHARD = "00000-00000-0123456789abcdef.arrow"
_EXAMPLES = (
    _REPORT,
    _LENGTHS,
    *(f"tokenizer/{name}" for name in _TOKENIZER_FILES),
    *(f"{name}/{_SHARD}" for name in ("survey", "sentences", "tokens/train", "tokens/validation", *_SPLITS)),
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
        for split in filter(self.report.get, _SPLITS):
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


@dataclass(frozen=True)
class _Settings:
    """What the files of a prepared folder follow from, besides the corpus."""

    text_column: str
    validation_fraction: float
    language: str
    cleaning: str
    backend: str
    vocab_size: int
    objective: str
    block_size: int
    short_seq_prob: float
    dupe_factor: int
    seed: int
    drop_duplicates: bool


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
    given = _as_tokenizer(tokenizer)
    if given is not None and not getattr(given, "is_fast", False):
        raise ValueError(f"The tokenizer is a slow one ({type(given).__name__}, in Python); a fast one is needed.")
    recorded = cleaning_of(given) if given is not None and clean is None else None
    cleaning = choose_cleaning(language, cleaning or recorded, clean)
    check_settings(given or empty_tokenizer(vocab_size), objective, block_size, short_seq_prob, dupe_factor)
    settings = _Settings(
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
        seconds = _Preparation(folder, stage, units, settings, engine, given).run()
    logger.info("%s is prepared: %s.", directory, ", ".join(f"{name} {each:,.1f} s" for name, each in seconds.items()))
    return load_prepared(directory)


def load_prepared(directory: str | os.PathLike) -> Prepared:
    """What `prepare_corpus` made.

    Raises:
      FileNotFoundError: nothing was prepared there, its preparation was not finished, or files are missing.
      ValueError: its tokenizer has been replaced.
    """
    directory = Path(directory)
    if not (directory / _REPORT).exists():
        is_begun = (directory / "survey").exists() or (directory / "sentences").exists()
        raise FileNotFoundError(
            f"{directory} holds no prepared corpus: it has no {_REPORT}. "
            + ("Its preparation was not finished; the same command goes on with it." if is_begun else "")
        )
    report = json.loads((directory / _REPORT).read_text(encoding="utf-8"))
    files = [directory / split / name for split in filter(report.get, _SPLITS) for name in report[split]["files"]]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(f"{directory} is not whole: {len(missing)} files are missing, first {missing[0]}.")
    tokenizer = _as_tokenizer(directory / "tokenizer")
    if digest_tokenizer(tokenizer) != report["settings"]["tokenizer"]:
        raise ValueError(f"{directory / 'tokenizer'} is not the tokenizer that the examples were made with.")
    return Prepared(directory, tokenizer, report)


def _as_tokenizer(tokenizer):
    if isinstance(tokenizer, (str, os.PathLike)):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(tokenizer)
    return tokenizer


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
    fixed = (_REPORT, _LENGTHS, *(f"tokenizer/{name}" for name in _TOKENIZER_FILES))
    folder.require_replaceable(name for name in fixed if name not in old)
    return folder, old


def _files_of_old_version(directory: Path) -> list[str]:
    """What a version without a manifest wrote, as far as the files themselves show it."""
    report = directory / _REPORT
    try:
        is_old = "keras_pretrain" in json.loads(report.read_text(encoding="utf-8"))["versions"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        is_old = False
    shards = [path for name in _FOLDERS for path in (directory / name).glob("**/*.arrow") if is_shard(path)]
    if not is_old and not shards:
        return []
    others = [directory / name for name in (_REPORT, _LENGTHS, "survey.json") if (directory / name).is_file()]
    if (directory / _MADE_OF).is_file():
        others += [path for name in _TOKENIZER_FILES if (path := directory / "tokenizer" / name).is_file()]
    return sorted(str(path.relative_to(directory)) for path in [*shards, *others])


def _plan(folder: OwnedFolder, old: list[str]) -> DryRun:
    written = [f"{name}/" for name in _FOLDERS] + [_REPORT, _LENGTHS]
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


class _Preparation:
    """One call of `prepare_corpus`: the stages in their order, their shards, and the seconds that each takes."""

    def __init__(self, folder: OwnedFolder, stage: Path, units: list[Unit], settings: _Settings, engine, given):
        self.folder = folder
        self.stage = stage
        self.units = units
        self.settings = settings
        self.engine = engine
        self.given = given
        self.seconds: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        """All of it; returns the seconds of each stage."""
        with self._clock("survey"):
            surveys = self._survey()
            bound = self._choose_validation(surveys)
        with self._clock("sentences"):
            sentences = self._split(surveys, bound)
        with self._clock("tokenizer"):
            digest = self._provide_tokenizer(sentences, bound)
        with self._clock("tokens"):
            tokens = self._tokenize(sentences, digest, bound)
        with self._clock("examples"):
            examples = {split: self._build(split, results, digest) for split, results in tokens.items()}
        self._finish(surveys, sentences, tokens, examples, digest)
        return self.seconds

    @contextlib.contextmanager
    def _clock(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 1)

    def _shelf(self, name: str, *, compress: bool = False) -> Shelf:
        return Shelf(self.folder.path, self.stage, name, compress)

    def _collect(self, function, tasks: list, description: str, expand=None, progress=None) -> list[Result]:
        """Run a stage over its tasks; the results in the order of their names."""
        bar = progress or tqdm(total=len(tasks), desc=description, unit=" blocks", delay=2)
        results = []
        with bar:
            for result in collect(self.folder, self.stage, self.engine.run(function, tasks, expand)):
                results.append(result)
                bar.update(result.figures["source_characters"] if progress else 1)
        return sorted(results, key=lambda result: result.name)

    def _survey(self) -> list[Result]:
        results = self._collect(Surveying(self._shelf("survey")), self.units, "Reading")
        counts, names = Counter(), ("documents", "empty", "missing", "bad")
        for result in results:
            counts.update({name: result.figures[name] for name in names})
        first_bad = next((result.figures["first_bad"] for result in results if result.figures["bad"]), None)
        report_rows("the corpus", **{name: counts[name] for name in names}, first_bad=first_bad)
        return results

    def _choose_validation(self, surveys: list[Result]) -> int:
        """Count exact duplicates, leave them out where that is asked for, and decide what is for validation."""
        tables = [read_shard(self.folder.path / result.name) for result in surveys]
        hashes = np.concatenate([table["hash"].to_numpy() for table in tables])
        characters = np.concatenate([table["characters"].to_numpy() for table in tables])
        first = first_occurrences(hashes)
        ends = np.cumsum([len(table) for table in tables])
        self.duplicates = int(np.count_nonzero(~first))
        self.duplicates_across = None
        if self.units[0].split is not None:
            self.duplicates_across = int(np.isin(hashes[ends[0] :], hashes[: ends[0]]).sum())
        for unit, documents in zip(self.units, np.split(first, ends[:-1]), strict=True):
            if unit.split and not (documents.any() if self.settings.drop_duplicates else len(documents)):
                raise ValueError(f"{unit.split}: the corpus is empty: there is no document in this split.")
        if self.settings.drop_duplicates and self.duplicates:
            self.units = [
                replace(unit, keep=first[end - len(table) : end])
                for unit, table, end in zip(self.units, tables, ends.tolist(), strict=True)
            ]
            hashes, characters = hashes[first], characters[first]
        report_duplicates(self.duplicates, self.duplicates_across, self.settings.drop_duplicates)
        if self.units[0].split is not None:
            return 0
        return validation_bound(hashes, characters, self.settings.validation_fraction, self.settings.seed)

    def _split(self, surveys: list[Result], bound: int) -> list[Result]:
        settings = self.settings
        logger.info(describe_cleaning(settings.cleaning))
        total = sum(result.figures["characters"] for result in surveys)
        splitter = make_splitter(settings.backend, self._training_texts(bound))  # Punkt learns from the first of them
        made_of = (settings.backend, *splitter_versions(settings.backend), splitter.learned())
        stage = Splitting(self._shelf("sentences", compress=True), splitter, made_of, settings.cleaning)
        expand = partial(read_blocks, characters=block_characters(total))
        bar = tqdm(total=total, desc="Splitting sentences", unit=" characters", unit_scale=True, delay=2)
        results = self._collect(stage, self.units, "", expand, bar)
        report_splitting(settings.backend, [result.figures for result in results])
        return results

    def _training_texts(self, bound: int) -> Iterator[str]:
        for unit in self.units:
            for block in read_blocks(unit, 200_000) if unit.split != "validation" else ():
                held_out = is_validation(block.hashes, bound, self.settings.seed)
                yield from (clean_text(text, self.settings.cleaning) for text in compress(block.texts, ~held_out))

    def _provide_tokenizer(self, sentences: list[Result], bound: int) -> str:
        """Put the tokenizer that was given, or a new one, into its folder; returns its digest."""
        settings = self.settings
        made_of = [settings.vocab_size, settings.seed, bound, [result.name for result in sentences]]
        if self.given is not None:
            made_of = [digest_tokenizer(self.given)]
        mark = json.dumps({"made_of": digest_content([settings.cleaning, made_of])})
        file = self.folder.path / _MADE_OF
        if not (self.folder.owns(_MADE_OF) and file.read_text() == mark and self._owns_tokenizer()):
            tokenizer = copy.deepcopy(self.given)
            if tokenizer is None:
                tokenizer = train_tokenizer(self._sample(sentences, bound), vocab_size=settings.vocab_size)
            record_cleaning(tokenizer, settings.cleaning)
            names = [f"tokenizer/{name}" for name in _save(tokenizer, self.stage / "tokenizer", mark)]
            self.folder.delete([_REPORT, _MADE_OF])  # examples of the old tokenizer are of no use
            self.folder.move(self.stage, sorted(names, key=lambda name: name == _MADE_OF))
            self.folder.delete(set(self.folder.names("tokenizer")) - {*names})
        return digest_tokenizer(_as_tokenizer(self.folder.path / "tokenizer"))

    def _owns_tokenizer(self) -> bool:
        return all(map(self.folder.owns, self.folder.names("tokenizer")))

    def _sample(self, sentences: list[Result], bound: int) -> Iterator[list[str]]:
        """The training documents that a tokenizer is trained on."""

        def training_documents() -> Iterator[list[str]]:
            for result in sentences:
                split = result.figures["split"]
                if split != "validation":
                    shard = self.folder.path / result.name
                    yield from documents_of(shard, "train", self.settings.seed, None if split else bound).to_pylist()

        # Sentences have fewer characters than documents: where all have few enough, nothing need be counted.
        if sum(result.figures["characters"] for result in sentences) <= TOKENIZER_CHARACTERS:
            return training_documents()
        return sample_documents(training_documents)

    def _tokenize(self, sentences: list[Result], digest: str, bound: int) -> dict[str, list[Result]]:
        """The shards of each split that hold a document."""
        tasks = [
            (result.name, result.figures["split"], split)
            for result in sentences
            for split in _SPLITS
            if result.figures["split"] in (None, split) and (split == "train" or bound or result.figures["split"])
        ]
        folder = self.folder.path / "tokenizer"
        stage = Tokenizing(self._shelf("tokens"), folder, digest, self.settings.seed, bound)
        results = self._collect(stage, tasks, "Tokenizing")
        tokens = {split: [each for each in results if each.name.startswith(f"tokens/{split}/")] for split in _SPLITS}
        tokens = {split: shards for split, shards in tokens.items() if shards}
        for split, shards in tokens.items():
            if not any(result.figures["documents"] for result in shards):
                raise ValueError(f"{split}: the corpus is empty: there is no token in any of its documents.")
        return tokens

    def _build(self, split: str, tokens: list[Result], digest: str) -> list[Result]:
        settings = self.settings
        if settings.objective == "mlm+nsp":
            documents = sum(result.figures["documents"] for result in tokens)
            with _naming(split):
                check_pairable(documents, any(result.figures["longest_document"] > 1 for result in tokens))
        names = [result.name for result in tokens]
        starts = (document_starts(self.folder.path / name) for name in names)
        divided = divide(starts, sum(result.figures["tokens"] for result in tokens))
        blocks = [[(names[part], first, end) for part, first, end in block] for block in divided]
        passes = settings.dupe_factor if split == "train" else 1
        tasks = []
        for number, block in enumerate(blocks):
            drawn = draw_blocks(number, len(blocks), settings.seed) if settings.objective == "mlm+nsp" else []
            others = [blocks[other] for other in drawn if other != number]
            tasks.append((number, [block, *others], number in drawn, passes))
        folder = self.folder.path / "tokenizer"
        shared = (settings.objective, settings.block_size, settings.short_seq_prob, settings.seed)
        stage = Building(self._shelf(split), folder, digest, *shared)
        return self._collect(stage, tasks, f"Building {split}")

    def _finish(self, surveys, sentences, tokens, examples, digest: str) -> None:
        """Write the report, which makes the folder a finished one, and delete what does not belong to it."""
        settings = self.settings
        splits = {split: self._report_split(split, tokens[split], results) for split, results in examples.items()}
        counts = {name: sum(each.figures[name] for each in surveys) for name in ("empty", "missing", "bad")}
        report = {
            "documents": sum(each.figures["documents"] for each in sentences),
            "characters": sum(each.figures["characters"] for each in surveys),
            "skipped_rows": counts,
            "duplicates": self.duplicates,
            "duplicates_dropped": settings.drop_duplicates,
            "duplicates_across_splits": self.duplicates_across,
            "sentences": sum(each.figures["sentences"] for each in sentences),
            "documents_not_split": sum(each.figures["not_split"] for each in sentences),
            **splits,
            "settings": asdict(settings) | {"tokenizer": digest},
            "versions": _versions(),
        }
        with self.folder.writing(last=_REPORT) as stage:
            draw_lengths(stage / _LENGTHS, {split: each["lengths"] for split, each in splits.items()})
            (stage / _REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        current = {
            each.name for results in (surveys, sentences, *tokens.values(), *examples.values()) for each in results
        }
        current |= {_REPORT, _LENGTHS, *self.folder.names("tokenizer")}
        kept = self.folder.delete(set(self.folder.names()) - current)
        if kept:
            logger.warning(
                "%d files of an earlier preparation were changed since, and stay: %s ...", len(kept), kept[0]
            )

    def _report_split(self, split: str, tokens: list[Result], examples: list[Result]) -> dict:
        settings = self.settings
        total = add_figures(result.figures for result in examples)
        total["empty_documents"] = sum(result.figures["empty_documents"] for result in tokens)
        if not total["examples"]:
            raise ValueError(f"{split}: the corpus gives no example.")
        report_examples(f"{split}: ", settings.objective, settings.block_size, total)
        figures = dict(total) | {"unknown_token_rate": total["unknown_tokens"] / total["tokens"]}
        if settings.objective == "mlm+nsp":
            figures["random_pair_rate"] = total["random_pairs"] / total["examples"]
        figures["padding"] = 1 - total["positions"] / (total["examples"] * settings.block_size)
        files = [result.name.removeprefix(f"{split}/") for result in examples if result.figures["examples"]]
        return figures | {"files": files}


def report_splitting(backend: str, figures: list[dict]) -> None:
    """Warn of documents that could not be split, and of a splitter that splits almost nothing.

    Args:
      backend: the splitter.
      figures: of the shards that `Splitting` made.
    """
    failed = sum(each["not_split"] for each in figures)
    if failed:
        first = next(each["first_failure"] for each in figures if each["not_split"])
        logger.warning(
            "%d documents could not be split into sentences by %r and are kept as one sentence each. First error: %s",
            failed, backend, first,
        )  # fmt: skip
    if backend != "lines":
        warn_if_unsplit(backend, *(sum(each[name] for each in figures) for name in ("characters", "sentences")))


@contextlib.contextmanager
def _naming(split: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{split}: {error}") from None


def _save(tokenizer, directory: Path, mark: str) -> list[str]:
    """Save a tokenizer and what it was made of; returns the files' names."""
    tokenizer.save_pretrained(directory)
    (directory / Path(_MADE_OF).name).write_text(mark)
    return [path.name for path in directory.iterdir()]


def _versions() -> dict[str, str]:
    packages = ("keras_pretrain", "transformers", "tokenizers", "datasets", "kiwipiepy", "kss", "nltk")
    return {name: version(name) for name in packages}
