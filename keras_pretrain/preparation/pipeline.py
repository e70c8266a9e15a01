"""Runs the stages of a preparation one after the other, in a folder that keeps finished shards."""

import contextlib
import copy
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, compress
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from keras_pretrain.corpus.cleaning import clean_text, describe_cleaning, warn_of_language
from keras_pretrain.corpus.loading import find_duplicates, report_rows
from keras_pretrain.corpus.sentences import make_splitter, splitter_versions, warn_if_unsplit
from keras_pretrain.corpus.validation import is_validation, validation_bound
from keras_pretrain.features.blocks import divide, draw_blocks
from keras_pretrain.features.building import add_figures, report_examples
from keras_pretrain.features.next_sentence import check_pairable
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.preparation.documents import Unit, block_characters, read_blocks
from keras_pretrain.preparation.engines import LocalEngine, RayEngine
from keras_pretrain.preparation.lengths import draw_lengths
from keras_pretrain.preparation.shards import Result, Shelf, collect, digest_content, read_shard
from keras_pretrain.preparation.stages import (
    as_tokenizer,
    build_examples,
    digest_tokenizer,
    document_starts,
    documents_of,
    split_block,
    survey_unit,
    tokenize_shard,
)
from keras_pretrain.system import can_draw, installed_version
from keras_pretrain.tokenization import TOKENIZER_CHARACTERS, record_cleaning, sample_documents, train_tokenizer

logger = logging.getLogger(__name__)

REPORT = "report.json"
LENGTHS = "lengths.png"
MADE_OF = "tokenizer/made_of.json"  # a digest of everything that determines the tokenizer
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Settings:
    """The settings of a preparation. Together with the corpus, they determine the files of the prepared folder."""

    text_column: str
    validation_fraction: float
    language: str
    cleaning: str
    backend: str
    vocab_size: int
    lowercase: bool
    objective: str
    block_size: int
    line_by_line: bool
    short_seq_prob: float
    dupe_factor: int
    seed: int
    drop_duplicates: bool


class Preparation:
    """One call of `prepare_corpus`: runs the stages in their order and records the seconds that each takes."""

    def __init__(
        self,
        folder: OwnedFolder,
        stage: Path,
        units: list[Unit],
        settings: Settings,
        engine: LocalEngine | RayEngine,
        given: PreTrainedTokenizerBase | None,
    ) -> None:
        self.folder, self.stage = folder, stage
        self.units, self.settings = units, settings
        self.engine, self.given = engine, given
        self.tokenizer = folder.path / "tokenizer"
        self.seconds: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        """Run all stages; returns the seconds of each."""
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

    def _collect(self, stage: Callable, tasks: list, description: str) -> list[Result]:
        bar = tqdm(total=len(tasks), desc=description, unit=" blocks", delay=2)
        return collect(self.folder, self.stage, self.engine.run(stage, tasks), bar)

    def _survey(self) -> list[Result]:
        results = self._collect(partial(survey_unit, self._shelf("survey")), self.units, "Reading")
        counts = {name: _total(results, name) for name in ("documents", "empty", "missing", "bad")}
        first_bad = next((result.figures["first_bad"] for result in results if result.figures["bad"]), None)
        report_rows("the corpus", **counts, first_bad=first_bad)
        return results

    def _choose_validation(self, surveys: list[Result]) -> int:
        """Count exact duplicates, drop them if `drop_duplicates` is set, and return the bound of the validation split
        (`corpus.validation.validation_bound`)."""
        settings, has_validation = self.settings, self.units[0].split is not None
        tables = [read_shard(self.folder.path / result.name) for result in surveys]
        hashes = np.concatenate([table["hash"].to_numpy() for table in tables])
        characters = np.concatenate([table["characters"].to_numpy() for table in tables])
        ends = np.cumsum([len(table) for table in tables])
        border = ends[0] if has_validation else None
        first, self.duplicates, self.duplicates_across = find_duplicates(hashes, border, settings.drop_duplicates)
        parts = np.split(first, ends[:-1])
        for unit, part in zip(self.units, parts, strict=True):
            if unit.split and not (part.any() if settings.drop_duplicates else len(part)):
                raise ValueError(f"{unit.split}: the corpus is empty: there is no document in this split.")
        if settings.drop_duplicates and self.duplicates:
            self.units = [replace(unit, keep=part) for unit, part in zip(self.units, parts, strict=True)]
            hashes, characters = hashes[first], characters[first]
        if has_validation:
            return 0
        return validation_bound(hashes, characters, settings.validation_fraction, settings.seed)

    def _split(self, surveys: list[Result], bound: int) -> list[Result]:
        settings = self.settings
        logger.info(describe_cleaning(settings.cleaning))
        warn_of_language(self._training_texts(bound), settings.language)
        total = _total(surveys, "characters")
        splitter = make_splitter(settings.backend, self._training_texts(bound))  # Punkt learns from the first texts
        made_of = (settings.backend, *splitter_versions(settings.backend), splitter.learned())
        stage = partial(split_block, self._shelf("sentences", compress=True), splitter, made_of, settings.cleaning)
        expand = partial(read_blocks, characters=block_characters(total))
        results = self.engine.run(stage, self.units, expand)
        return collect_sentences(self.folder, self.stage, results, total, settings.backend)

    def _training_texts(self, bound: int) -> Iterator[str]:
        for unit in self.units:
            for block in read_blocks(unit, 200_000) if unit.split != "validation" else ():
                held_out = is_validation(block.hashes, bound, self.settings.seed)
                yield from (clean_text(text, self.settings.cleaning) for text in compress(block.texts, ~held_out))

    def _provide_tokenizer(self, sentences: list[Result], bound: int) -> str:
        """Save the given tokenizer, or a newly trained one, to its folder; returns its digest."""
        settings, folder = self.settings, self.folder
        made_of = [settings.vocab_size, settings.seed, bound, [result.name for result in sentences]]
        made_of += ["lowercase"] if settings.lowercase else []  # else the tokenizers of older versions stay valid
        if self.given is not None:
            made_of = [digest_tokenizer(self.given)]
        mark = json.dumps({"made_of": digest_content([settings.cleaning, made_of])})
        is_current = folder.owns(MADE_OF) and (folder.path / MADE_OF).read_text() == mark
        if not (is_current and all(map(folder.owns, folder.names("tokenizer")))):
            tokenizer = copy.deepcopy(self.given)
            if tokenizer is None:
                sample, size = self._sample(sentences, bound), settings.vocab_size
                tokenizer = train_tokenizer(sample, vocab_size=size, lowercase=settings.lowercase)
            record_cleaning(tokenizer, settings.cleaning)
            tokenizer.save_pretrained(self.stage / "tokenizer")
            (self.stage / MADE_OF).write_text(mark)
            names = [f"tokenizer/{path.name}" for path in (self.stage / "tokenizer").iterdir()]
            folder.delete([REPORT, MADE_OF])  # without a report, the examples of the old tokenizer cannot be loaded
            folder.move(self.stage, sorted(names, key=lambda name: name == MADE_OF))
            folder.delete(set(folder.names("tokenizer")) - {*names})
        return digest_tokenizer(as_tokenizer(self.tokenizer))

    def _sample(self, sentences: list[Result], bound: int) -> Iterator[list[str]]:
        """Yield the training documents that a tokenizer is trained on."""

        def training_documents() -> Iterator[list[str]]:
            for result in sentences:
                split = result.figures["split"]
                if split != "validation":
                    shard = self.folder.path / result.name
                    yield from documents_of(shard, "train", self.settings.seed, None if split else bound).to_pylist()

        # The training documents are a subset of these. If all documents together are small enough, they need not be
        # counted.
        if _total(sentences, "characters") <= TOKENIZER_CHARACTERS:
            return training_documents()
        return sample_documents(training_documents)

    def _tokenize(self, sentences: list[Result], digest: str, bound: int) -> dict[str, list[Result]]:
        """Tokenize each split. Returns the shards of each split, without empty ones."""
        tasks = [
            (result.name, result.figures["split"], split)
            for result in sentences
            for split in SPLITS
            if result.figures["split"] in (None, split) and (split == "train" or bound or result.figures["split"])
        ]
        stage = partial(tokenize_shard, self._shelf("tokens"), self.tokenizer, digest, self.settings.seed, bound)
        results = self._collect(stage, tasks, "Tokenizing")
        tokens = {split: [each for each in results if each.name.startswith(f"tokens/{split}/")] for split in SPLITS}
        tokens = {split: shards for split, shards in tokens.items() if shards}
        for split, shards in tokens.items():
            if not _total(shards, "documents"):
                raise ValueError(f"{split}: the corpus is empty: there is no token in any of its documents.")
        return tokens

    def _build(self, split: str, tokens: list[Result], digest: str) -> list[Result]:
        settings = self.settings
        if settings.objective == "mlm+nsp":
            try:
                has_pair = any(result.figures["longest_document"] > 1 for result in tokens)
                check_pairable(_total(tokens, "documents"), has_pair)
            except ValueError as error:
                raise ValueError(f"{split}: {error}") from None
        names = [result.name for result in tokens]
        starts = (document_starts(self.folder.path / name) for name in names)
        divided = divide(starts, _total(tokens, "tokens"))
        blocks = [[(names[part], first, end) for part, first, end in block] for block in divided]
        passes = settings.dupe_factor if split == "train" and not settings.line_by_line else 1
        tasks = []
        for number, block in enumerate(blocks):
            drawn = draw_blocks(number, len(blocks), settings.seed) if settings.objective == "mlm+nsp" else []
            others = [blocks[other] for other in drawn if other != number]
            tasks.append((number, [block, *others], number in drawn, passes))
        shared = {name: getattr(settings, name) for name in ("objective", "block_size", "short_seq_prob", "seed")}
        shared |= {"line_by_line": True} if settings.line_by_line else {}  # else the names of older files stay valid
        stage = partial(build_examples, self._shelf(split), self.tokenizer, digest, shared)
        return self._collect(stage, tasks, f"Building {split}")

    def _finish(
        self,
        surveys: list[Result],
        sentences: list[Result],
        tokens: dict[str, list[Result]],
        examples: dict[str, list[Result]],
        digest: str,
    ) -> None:
        """Write the report, which marks the folder as finished, and delete earlier files that are no longer needed."""
        settings = self.settings
        splits = {split: self._report_split(split, tokens[split], results) for split, results in examples.items()}
        packages = ("keras_pretrain", "transformers", "tokenizers", "datasets", "kiwipiepy", "kss", "nltk")
        report = {
            "documents": _total(sentences, "documents"),
            "characters": _total(surveys, "characters"),
            "skipped_rows": {name: _total(surveys, name) for name in ("empty", "missing", "bad")},
            "duplicates": self.duplicates,
            "duplicates_dropped": settings.drop_duplicates,
            "duplicates_across_splits": self.duplicates_across,
            "sentences": _total(sentences, "sentences"),
            "documents_not_split": _total(sentences, "not_split"),
            **splits,
            "settings": asdict(settings) | {"tokenizer": digest},
            "versions": {name: found for name in packages if (found := installed_version(name))},
        }
        with self.folder.writing(last=REPORT) as stage:
            has_picture = can_draw("The lengths")
            if has_picture:
                draw_lengths(stage / LENGTHS, {split: each["lengths"] for split, each in splits.items()})
            (stage / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        results = chain(surveys, sentences, *tokens.values(), *examples.values())
        current = {
            REPORT,
            *([LENGTHS] if has_picture else []),
            *self.folder.names("tokenizer"),
            *(result.name for result in results),
        }
        kept = self.folder.delete(set(self.folder.names()) - current)
        if kept:
            logger.warning(
                "%d files of an earlier preparation were changed since, and are kept: %s ...", len(kept), kept[0]
            )

    def _report_split(self, split: str, tokens: list[Result], examples: list[Result]) -> dict:
        settings = self.settings
        total = add_figures(result.figures for result in examples)
        total["empty_documents"] = _total(tokens, "empty_documents")
        if not total["examples"]:
            raise ValueError(f"{split}: no example could be built from the corpus.")
        report_examples(f"{split}: ", settings.objective, settings.block_size, total)
        figures = dict(total) | {"unknown_token_rate": total["unknown_tokens"] / total["tokens"]}
        if settings.objective == "mlm+nsp":
            figures["random_pair_rate"] = total["random_pairs"] / total["examples"]
        figures["padding"] = 1 - total["positions"] / (total["examples"] * settings.block_size)
        files = [result.name.removeprefix(f"{split}/") for result in examples if result.figures["examples"]]
        return figures | {"files": files}


def collect_sentences(
    folder: OwnedFolder, stage: Path, results: Iterable[Result], total: int, backend: str
) -> list[Result]:
    """Collect the shards of `split_block`, which have `total` characters. Warns of documents that the backend could not
    split."""
    bar = tqdm(total=total, desc="Splitting sentences", unit=" characters", unit_scale=True, delay=2)
    results = collect(folder, stage, results, bar, "source_characters")
    failed = _total(results, "not_split")
    if failed:
        first = next(result.figures["first_failure"] for result in results if result.figures["not_split"])
        logger.warning(
            "%d documents could not be split into sentences by %r and are kept as one sentence each. First error: %s",
            failed, backend, first,
        )  # fmt: skip
    if backend != "lines":
        warn_if_unsplit(backend, _total(results, "characters"), _total(results, "sentences"))
    return results


def _total(results: list[Result], figure: str) -> int:
    return sum(result.figures[figure] for result in results)
