"""`prepare_corpus` and `load_prepared`: a corpus of any size → a folder of examples with all that belongs to them."""

import contextlib
import hashlib
import itertools
import json
import logging
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import datasets
from datasets import Dataset, DatasetDict
from tqdm.auto import tqdm

from keras_pretrain.corpus.sentences import choose_backend, make_splitter, splitter_versions
from keras_pretrain.features.building import check_settings, describe, report_examples
from keras_pretrain.features.next_sentence import check_pairable
from keras_pretrain.prepared.documents import Survey, Unit, block_characters, find_units, read_blocks, stamp, survey
from keras_pretrain.prepared.engines import LocalEngine
from keras_pretrain.prepared.report import draw_lengths
from keras_pretrain.prepared.shards import block_of, finished_or_absent, forget_others
from keras_pretrain.prepared.stages import (
    Building,
    Result,
    Splitting,
    Tokenizing,
    digest_tokenizer,
    sentences_of,
)
from keras_pretrain.system import lock
from keras_pretrain.tokenization import empty_tokenizer, train_tokenizer

logger = logging.getLogger(__name__)

_REPORT = "report.json"
_MARK = "made_of.json"  # beside the tokenizer
_LOCK = ".lock"
_SPLITS = ("train", "validation")
_RANDOM_SHARDS = 8  # that a shard takes its random sentences from
# A vocabulary of 25,000 learns little from more, and counting words takes memory.
_TOKENIZER_CHARACTERS = 20_000_000


@dataclass(frozen=True)
class Prepared:
    """What a prepared folder holds.

    Attributes:
      directory: the folder.
      tokenizer: a fast tokenizer.
      report: settings and figures.
      features: `train` and, where there is one, `validation`: the columns of `build_features`, used where they lie.
    """

    directory: Path
    tokenizer: object
    report: dict

    @cached_property
    def features(self) -> DatasetDict:
        settings = self.report["settings"]
        features = DatasetDict()
        for split in filter(self.report.get, _SPLITS):
            files = [str(self.directory / split / name) for name in self.report[split]["files"]]
            info = (describe(settings["objective"], settings["block_size"]) for _ in files)
            features[split] = datasets.concatenate_datasets(list(map(Dataset.from_file, files, info)))
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
                f"prepare it again with --objective {objective}: sentences are not split anew."
            )
        if tokenizer is not None and digest_tokenizer(tokenizer) != self.report["settings"]["tokenizer"]:
            raise ValueError(
                "The corpus was prepared with another tokenizer than the model's. Prepare it again with --tokenizer "
                "and the model's folder: sentences are not split anew."
            )


def prepare_corpus(
    source,
    directory: str | os.PathLike,
    *,
    text_column: str = "text",
    sample_by: str = "paragraph",
    validation_fraction: float = 0.1,
    language: str = "ko",
    clean: bool = True,
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
) -> Prepared:
    """Documents → examples on the disk, for corpora that do not fit into memory and runs that may be cut off.

    The corpus is worked on in blocks of 200,000 to 4,000,000 characters: cleaned and split into sentences, tokenized,
    made into examples, a file for each. Files are named by their content and settings, so what is finished is not done
    again: not after a crash, and not when only later settings have changed. The same source and settings give the same
    files, whatever the engine and the number of processes.

    For next-sentence prediction each block takes its random sentences from eight blocks drawn from the whole corpus
    (from all of a smaller one), documents of these being equally likely.

    Args:
      source, text_column, sample_by: the corpus, as in `load_corpus`.
      directory: where everything goes; one corpus and one set of settings at a time.
      validation_fraction: share of the documents for validation, the same of each block; ignored where the source has
        a split of its own.
      language, clean, backend: as in `prepare_sentences`.
      tokenizer: a fast tokenizer, its name or folder; by default one is trained on the training documents, on a
        sample of 20 million characters where there are more.
      vocab_size: of the trained one.
      objective, block_size, short_seq_prob, dupe_factor, seed: as in `build_features`.
      num_proc: worker processes; by default one for each processor that this process may use.
      engine: who works, instead of processes of this machine: a `RayEngine`.

    Returns:
      As `load_prepared(directory)`. The folder holds `sentences/`, `tokens/`, `train/` and `validation/` (Arrow files,
      readable by `Dataset.from_file`), `tokenizer/`, `report.json` and `lengths.png`. When it is finished,
      `sentences/` and `tokens/` can go; they save time where it is prepared again with other settings.

    Raises:
      FileNotFoundError, ValueError: as `load_corpus`, `prepare_sentences`, `train_tokenizer` and `build_features`; and
        where the directory lies in the corpus' own folder.
      BlockingIOError: another process is preparing it.
      RuntimeError: a worker process died.
    """
    directory = Path(directory).resolve()  # another machine works in another folder
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be at least 0 and below 1, not {validation_fraction}.")
    backend = choose_backend(language, backend)
    engine = engine or LocalEngine(num_proc)
    given = _as_tokenizer(tokenizer)
    if given is not None and not getattr(given, "is_fast", False):
        raise ValueError(f"The tokenizer is a slow one ({type(given).__name__}, in Python); a fast one is needed.")
    check_settings(given or empty_tokenizer(vocab_size), objective, block_size, short_seq_prob, dupe_factor)
    _refuse_output_among_input(source, directory)
    units = find_units(source, text_column, sample_by)
    seconds = {}
    with _locked(directory):
        (directory / _REPORT).unlink(missing_ok=True)  # until all is done, the folder is an unfinished one
        with _Clock(seconds, "survey"):
            surveys = _survey(units, engine, directory)
        _check_size(surveys, units, validation_fraction)
        with _Clock(seconds, "sentences"):
            sentences = _split(units, surveys, engine, _make_splitting(units, directory, backend, clean))
        validation = _deal_validation(sentences, validation_fraction)
        with _Clock(seconds, "tokenizer"):
            digest = _provide_tokenizer(directory / "tokenizer", given, vocab_size, sentences, validation, seed)
        with _Clock(seconds, "tokens"):
            tokenizing = Tokenizing(directory / "tokens", directory / "tokenizer", digest, seed)
            tokens = _tokenize(sentences, validation, engine, tokenizing)
        with _Clock(seconds, "examples"):
            shared = (directory / "tokenizer", digest, objective, block_size, short_seq_prob, seed)
            examples = {
                split: _build(split, shards, engine, Building(directory / split, *shared), dupe_factor)
                for split, shards in tokens.items()
            }
        settings = {
            "source": os.fspath(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__,
            "text_column": text_column, "sample_by": sample_by, "validation_fraction": validation_fraction,
            "language": language, "clean": clean, "backend": backend, "vocab_size": vocab_size, "tokenizer": digest,
            "objective": objective, "block_size": block_size, "short_seq_prob": short_seq_prob,
            "dupe_factor": dupe_factor, "seed": seed,
        }  # fmt: skip
        _finish(directory, settings, surveys, sentences, tokens, examples)
    logger.info("%s is prepared: %s.", directory, ", ".join(f"{name} {each:,.1f} s" for name, each in seconds.items()))
    return load_prepared(directory)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of the folder, and clean up what a killed one left."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = lock(directory / _LOCK, f"Another process is preparing {directory}. Wait for it, or choose another.")
    try:
        for left in directory.glob(".unfinished-*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        os.close(descriptor)


def _refuse_output_among_input(source, directory: Path) -> None:
    """What is written must not be read as a part of the corpus when the same command goes on."""
    if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
        folder = Path(source).resolve()
        if directory.is_relative_to(folder):
            raise ValueError(f"The output {directory} lies in the corpus' own folder {folder}. Choose one outside.")


def load_prepared(directory: str | os.PathLike) -> Prepared:
    """What `prepare_corpus` made.

    Raises:
      FileNotFoundError: nothing was prepared there, its preparation has not come to its end, or files are gone.
      ValueError: its tokenizer has been replaced.
    """
    directory = Path(directory)
    if not (directory / _REPORT).exists():
        is_begun = (directory / "sentences").exists()
        raise FileNotFoundError(
            f"{directory} holds no prepared corpus: it has no {_REPORT}. "
            + ("Its preparation was not finished; the same command goes on with it." if is_begun else "")
        )
    report = json.loads((directory / _REPORT).read_text(encoding="utf-8"))
    files = [directory / split / name for split in filter(report.get, _SPLITS) for name in report[split]["files"]]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(f"{directory} is not whole: {len(missing)} files are gone, first {missing[0]}.")
    tokenizer = _as_tokenizer(directory / "tokenizer")
    if digest_tokenizer(tokenizer) != report["settings"]["tokenizer"]:
        raise ValueError(f"{directory / 'tokenizer'} is not the tokenizer that the examples were made with.")
    return Prepared(directory, tokenizer, report)


def _as_tokenizer(tokenizer):
    if isinstance(tokenizer, (str, os.PathLike)):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(tokenizer)
    return tokenizer


class _Clock:
    def __init__(self, seconds: dict[str, float], stage: str):
        self.seconds, self.stage = seconds, stage

    def __enter__(self):
        self.begun = time.perf_counter()

    def __exit__(self, *exception):
        self.seconds[self.stage] = round(time.perf_counter() - self.begun, 1)


def _survey(units: list[Unit], engine, directory: Path) -> list[Survey]:
    """Count all documents, unless that was done and no file has changed."""
    file = directory / "survey.json"
    seen = [stamp(units), units[0].text_column, units[0].sample_by]
    if file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["seen"] == json.loads(json.dumps(seen)):
            return [Survey(**each) for each in before["surveys"]]
    progress = tqdm(engine.run(survey, units), total=len(units), desc="Reading", unit=" parts", delay=2)
    surveys = sorted(progress, key=lambda each: each.unit)
    with finished_or_absent(file) as unfinished:
        unfinished.write_text(json.dumps({"seen": seen, "surveys": [asdict(each) for each in surveys]}))
    return surveys


def _check_size(surveys: list[Survey], units: list[Unit], validation_fraction: float) -> None:
    total, empty, missing = (sum(getattr(each, name) for each in surveys) for name in ("documents", "empty", "missing"))
    rows = total + empty + missing
    if total == 0:
        raise ValueError(f"The corpus is empty: it has {rows} rows and no text in any of them.")
    if total < rows:
        logger.warning(
            "%d of %d rows skipped: %d empty, %d missing or not text.", rows - total, rows, empty, missing
        )  # fmt: skip
    if total == 1 and validation_fraction and units[0].split is None:
        raise ValueError(
            "The corpus has one document, and validation needs another. Give more documents (in .txt files a blank "
            "line separates them; sample_by='line' takes each line for one), or validation_fraction=0."
        )


def _make_splitting(units: list[Unit], directory: Path, backend: str, clean: bool) -> Splitting:
    texts = (text for unit in units for block in read_blocks(unit, 200_000) for text in block.texts)
    splitter = make_splitter(backend, texts)  # Punkt learns from the first of them
    made_of = (backend, *splitter_versions(backend), splitter.learned())
    return Splitting(directory / "sentences", splitter, made_of, clean)


def _split(units: list[Unit], surveys: list[Survey], engine, splitting: Splitting) -> list[Result]:
    total = sum(each.characters for each in surveys)
    expand = partial(read_blocks, characters=block_characters(total))
    results = []
    with tqdm(total=total, desc="Splitting sentences", unit=" characters", unit_scale=True, delay=2) as progress:
        for path, figures in engine.run(splitting, units, expand):
            results.append((path, figures))
            progress.update(figures["source_characters"])
    return _in_order(results)


def _deal_validation(sentences: list[Result], fraction: float) -> list[int]:
    """How many documents of each shard are for validation.

    Together they are the share of the whole that was asked for, and two at least where the corpus has four: next-
    sentence prediction needs them.
    """
    documents = [figures["documents"] for _, figures in sentences]
    if any(figures["split"] for _, figures in sentences):
        return [
            count if figures["split"] == "validation" else 0
            for count, (_, figures) in zip(documents, sentences, strict=True)
        ]
    ends = list(itertools.accumulate(documents))
    total = ends[-1]
    wanted = min(max(2 if total >= 4 else 1, round(fraction * total)), total - 1) if fraction else 0
    dealt = [end * wanted // total for end in ends]  # up to each shard
    return [after - before for before, after in zip([0, *dealt], dealt, strict=False)]


def _tokenize(sentences: list[Result], validation: list[int], engine, tokenizing: Tokenizing) -> dict:
    """The shards of each split that hold a document."""
    tasks = [
        (path, split, count)
        for (path, figures), count in zip(sentences, validation, strict=True)
        for split, size in (("train", figures["documents"] - count), ("validation", count))
        if size
    ]
    results = _in_order(tqdm(engine.run(tokenizing, tasks), total=len(tasks), desc="Tokenizing", delay=2))
    tokens = {}
    for split in _SPLITS[: 2 if any(validation) else 1]:
        shards = [each for each in results if each[0].parent.name == split]
        tokens[split] = [(path, figures) for path, figures in shards if figures["documents"]]
        if not tokens[split]:
            raise ValueError(f"{split}: the corpus is empty: there is no token in any of its documents.")
    return tokens


def _build(split: str, tokens: list[Result], engine, building: Building, passes: int) -> list[Result]:
    if building.objective == "mlm+nsp":
        try:
            documents = sum(figures["documents"] for _, figures in tokens)
            check_pairable(documents, any(figures["longest_document"] > 1 for _, figures in tokens))
        except ValueError as error:
            raise ValueError(f"{split}: {error}") from None
    passes = passes if split == "train" else 1
    shards = [path for path, _ in tokens]
    tasks = [
        (path, _random_shards(path, shards, building), passes, figures["empty_documents"]) for path, figures in tokens
    ]
    return _in_order(tqdm(engine.run(building, tasks), total=len(tasks), desc=f"Building {split}", delay=2))


def _random_shards(path: Path, shards: list[Path], building: Building) -> tuple[Path, ...]:
    """Where a shard takes its random sentences from: every shard is as likely as any other, its own too."""
    if building.objective != "mlm+nsp":
        return ()
    draw = random.Random(f"random sentences {building.seed} {block_of(path.name)}")
    return tuple(sorted(draw.sample(shards, min(_RANDOM_SHARDS, len(shards)))))


def _in_order(results: Iterable[Result]) -> list[Result]:
    return sorted(results, key=lambda result: result[0].name)


def _provide_tokenizer(
    folder: Path, given, vocab_size: int, sentences: list[Result], validation: list[int], seed: int
) -> str:
    """Put the tokenizer that was given, or a new one, into its folder.

    Returns:
      Its digest.
    """
    if given is not None:
        _save_tokenizer(given, folder, {})
        return digest_tokenizer(given)
    made_of = [vocab_size, seed, validation, [path.name for path, _ in sentences]]
    mark = {"made_of": hashlib.blake2b(json.dumps(made_of).encode(), digest_size=8).hexdigest()}
    file = folder / _MARK
    if not file.exists() or json.loads(file.read_text()) != mark:
        _save_tokenizer(train_tokenizer(_sample(sentences, validation, seed), vocab_size=vocab_size), folder, mark)
    return digest_tokenizer(_as_tokenizer(folder))


def _sample(sentences: list[Result], validation: list[int], seed: int) -> Iterator[str]:
    """Sentences of training documents; where there are too many characters, the same share of each shard."""
    characters = sum(figures["characters"] for _, figures in sentences)
    share = min(1.0, _TOKENIZER_CHARACTERS / max(characters, 1))
    for (path, _), count in zip(sentences, validation, strict=True):
        draw = random.Random(f"tokenizer {seed} {block_of(path.name)}")
        for document in sentences_of(path, "train", count, seed):
            if draw.random() < share:
                yield from document


def _save_tokenizer(tokenizer, folder: Path, mark: dict) -> None:
    unfinished = folder.with_name(f".unfinished-{folder.name}")
    for old in (unfinished, folder):
        shutil.rmtree(old, ignore_errors=True)
    tokenizer.save_pretrained(unfinished)
    (unfinished / _MARK).write_text(json.dumps(mark))
    os.replace(unfinished, folder)


def _add_up(split: str, results: list[Result], objective: str, block_size: int) -> dict:
    """The figures of all shards of a split, and what the log says of them."""
    total, lengths = Counter(), [0] * (block_size + 1)
    for _, figures in results:
        lengths = [before + more for before, more in zip(lengths, figures["lengths"], strict=True)]
        total.update({name: count for name, count in figures.items() if name not in ("lengths", "passes")})
    total["passes"] = results[0][1]["passes"]
    if not total["examples"]:
        raise ValueError(f"{split}: the corpus gives no example.")
    report_examples(f"{split}: ", objective, block_size, total)
    figures = dict(total) | {"unknown_token_rate": total["unknown_tokens"] / total["tokens"]}
    if objective == "mlm+nsp":
        figures["random_pair_rate"] = total["random_pairs"] / total["examples"]
    return figures | {"padding": 1 - total["positions"] / (total["examples"] * block_size), "lengths": lengths}


def _finish(directory: Path, settings: dict, surveys, sentences, tokens, examples) -> None:
    """Write the report, which makes the folder a finished one, and delete what does not belong to it."""
    objective, block_size = settings["objective"], settings["block_size"]
    figures = {split: _add_up(split, results, objective, block_size) for split, results in examples.items()}
    packages = ("keras_pretrain", "transformers", "tokenizers", "datasets", "kss", "nltk")
    report = {
        "documents": sum(each.documents for each in surveys),
        "characters": sum(each.characters for each in surveys),
        "skipped_rows": {name: sum(getattr(each, name) for each in surveys) for name in ("empty", "missing")},
        "sentences": sum(each["sentences"] for _, each in sentences),
        **{split: each | {"files": [path.name for path, _ in examples[split]]} for split, each in figures.items()},
        "settings": settings,
        "versions": {name: version(name) for name in packages},
    }
    with finished_or_absent(directory / "lengths.png") as unfinished:
        draw_lengths(unfinished, {split: each["lengths"] for split, each in figures.items()})
    with finished_or_absent(directory / _REPORT) as unfinished:
        unfinished.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    forget_others(directory / "sentences", sentences)
    for split in _SPLITS:
        forget_others(directory / "tokens" / split, tokens.get(split, []))
        forget_others(directory / split, examples.get(split, []))
