"""`evaluate_suite`: compares encoders on hidden words, pretraining heads and tasks, with the same settings for all."""

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, cast

import xxhash
from datasets import Dataset, DatasetDict
from transformers import AutoConfig, TFBertForPreTraining, TFElectraForPreTraining

from keras_pretrain.compat.tf_keras import initializers_drawing_from
from keras_pretrain.corpus.cleaning import CLEANINGS, require_cleaning
from keras_pretrain.corpus.loading import load_corpus
from keras_pretrain.corpus.readers import KNOWN
from keras_pretrain.corpus.sentences import BACKENDS
from keras_pretrain.evaluation import (
    evaluate_hidden_words,
    evaluate_mlm,
    evaluate_next_sentences,
    evaluate_replaced_tokens,
)
from keras_pretrain.evaluation.heads import MissingHead, require_pairs
from keras_pretrain.export.checkpoint import save_checkpoint
from keras_pretrain.export.privacy import public_metrics
from keras_pretrain.finetuning import finetune, load_examples
from keras_pretrain.finetuning.finished_seeds import OtherSettings
from keras_pretrain.finetuning.metrics import require_metrics
from keras_pretrain.finetuning.training import check_finetuning_settings
from keras_pretrain.models.loading import Checkpoint, check_checkpoint, find_checkpoint
from keras_pretrain.models.precision import precision_of_products
from keras_pretrain.preparation import prepare_sentences
from keras_pretrain.runs.metrics import METRICS
from keras_pretrain.runs.settings import RECORD, read_yaml

logger = logging.getLogger(__name__)

_SUITES = resources.files("keras_pretrain") / "suites"
_METRICS = {False: ("accuracy", "f1_macro", "f1"), True: ("spearman", "pearson")}
_OF_TEXT = ("file", "part", *(name for name in inspect.signature(load_corpus).parameters if name != "source"))
_FINETUNING = ("epochs", "batch_size", "max_length", "learning_rate", "layerwise_decay", "token_dropout")
_PASSED_ON = ("text_column", "pair_column", "label_column", "group_column", "keep_labels", "regression", "seed",
              "encoding", "dialect")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Task:
    """Labelled texts on which each encoder is fine-tuned.

    Attributes:
      metric: the metric in the table: `accuracy`, `f1_macro` or `f1`; `spearman` or `pearson` for regression.
      train: `file`, and arguments of `load_examples`.
      validation: `file`, or the share of `train` for validation.
      epochs, batch_size, max_length, learning_rate, layerwise_decay, token_dropout: as for `finetune`.
    """

    metric: str
    train: dict[str, Any]
    validation: dict[str, Any] | float = 0.1
    epochs: int = 3
    batch_size: int = 32
    max_length: int = 128
    learning_rate: float | None = None
    layerwise_decay: float = 1.0
    token_dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The text and tasks on which models are compared.

    Attributes:
      name: the name of the suite or of its file.
      cleaning: how to clean all texts, as in `clean_text`; the same for every model.
      text: `file`, the texts whose words are hidden and whose tokens are replaced, and arguments of `load_corpus`. With
        `part: validation`, only the validation split of `load_corpus` is used.
      pairs: the text for next-sentence pairs: the entries of `text`, and `language` (`ko` or `en`), which chooses the
        sentence splitter. Some documents must have several sentences.
      tasks: maps the name of each task to the `Task`.
    """

    name: str
    cleaning: str
    text: dict[str, Any] | None = None
    pairs: dict[str, Any] | None = None
    tasks: dict[str, Task] = field(default_factory=dict)


def read_suite(name: str | os.PathLike[str]) -> Suite:
    """Read a suite: the name of one in the package (`"korean"` or `"english"`), or the path of your own YAML file.

    Raises:
      FileNotFoundError: no such suite.
      ValueError: an entry is unknown or missing, or a setting of a task is outside its range.
    """
    known = sorted(each.name.removesuffix(".yaml") for each in _SUITES.iterdir() if each.name.endswith(".yaml"))
    if str(name) not in known and not Path(name).is_file():
        raise FileNotFoundError(f"`suite`: there is no suite and no file {name}. Known: {', '.join(known)}.")
    with resources.as_file(_SUITES / f"{name}.yaml") as packaged:
        values = read_yaml(packaged if str(name) in known else name)
    tasks = values.pop("tasks", None) or {}
    read = {task: _entries(Task, each, f"{name}: task {task!r}") for task, each in tasks.items()}
    suite = _entries(Suite, {"name": str(name), **values, "tasks": read}, str(name))
    if suite.cleaning not in CLEANINGS:
        raise ValueError(f"{name}: cleaning must be one of {', '.join(CLEANINGS)}, not {suite.cleaning!r}.")
    _check_text(suite.text, f"{name}: `text`", _OF_TEXT)
    _check_text(suite.pairs, f"{name}: `pairs`", (*_OF_TEXT, "language"))
    if suite.pairs is not None and suite.pairs.get("language") not in BACKENDS:
        raise ValueError(
            f"{name}: `pairs` needs `language`, {' or '.join(BACKENDS)}, not {suite.pairs.get('language')!r}."
        )
    if suite.text is None and suite.pairs is None and not suite.tasks:
        raise ValueError(f"{name}: a suite needs at least one of `text`, `pairs` and `tasks`.")
    for task, each in suite.tasks.items():
        unknown = sorted(set(each.train) - {"file", *_PASSED_ON})
        if unknown:
            raise ValueError(f"{name}: `train` of the task {task!r} has unknown entries: {', '.join(unknown)}.")
        allowed = _METRICS[bool(each.train.get("regression"))]
        if each.metric not in allowed:
            raise ValueError(
                f"{name}: the task {task!r} has the metric {each.metric!r}. Choose {' or '.join(allowed)}."
            )
        try:
            check_finetuning_settings({setting: getattr(each, setting) for setting in _FINETUNING})
        except ValueError as error:
            raise ValueError(f"{name}: the task {task!r}: {error}") from None
    return suite


def evaluate_suite(
    models: Sequence[str],
    data: str | os.PathLike[str],
    suite: str | os.PathLike[str] = "korean",
    *,
    tasks: Iterable[str] | None = None,
    seeds: int = 3,
    untrained: bool = False,
    output: str | os.PathLike[str] = "output/suite",
    precision: str = "auto",
) -> dict[str, dict[str, Any]]:
    """Compare encoders of this package or from elsewhere on hidden words, gaps before the rest of a word, replaced
    tokens, next sentences, and fine-tuned tasks.

    All models are fine-tuned on each task with the suite's settings. Results of finished seeds are kept in `output`, so
    that the same call after a kill trains only the missing seeds.

    Args:
      models: folders or Hub names of BERT or ELECTRA models.
      data: the folder of the suite's files.
      suite: the name of one in the package (`"korean"` or `"english"`), or the path of your own YAML file.
      tasks: the tasks of the suite to fine-tune on. Default: all.
      seeds: number of runs of each task; 0 leaves the tasks out.
      untrained: also evaluate an encoder with the first model's config and tokenizer, but with random weights.
      output: a folder for the fine-tuning, with a sub-folder for each model, named by the model's content.
      precision: precision of matrix products, as for `compile`.

    Returns:
      For each model, a dictionary. For models with an MLM head, it has the metrics of `evaluate_hidden_words`, and
      those of `evaluate_mlm` for gaps before the rest of a word (`pipeline_...`, `continuation_...`, `glued_gaps`). For
      an ELECTRA with its generator, it has the metrics of `evaluate_replaced_tokens`, and for a `BertForPreTraining`
      those of `evaluate_next_sentences` on the suite's `pairs`, if their sentence splitter is installed. The metrics of
      a head without trained weights are left out, and the log says so: the checkpoint lacks its weights, or the run
      that made the checkpoint had `objective="mlm"`, which does not train an NSP head. For each task, it has
      `{"metric", "mean", "std", "values"}` over the seeds. The untrained encoder is called `"untrained"`; it has no
      metrics of next sentences.

    Raises:
      FileNotFoundError: a model, the suite or one of its files is missing; raised before anything is computed.
      ValueError: a suite that cannot be read, an unknown task, a negative number of seeds, a damaged checkpoint,
        `pairs` whose documents all have a single sentence, or an `output` with results of other settings of a task.
      ModuleNotFoundError: there are tasks, but the extra `finetune` is not installed.
    """
    chosen = _choose(read_suite(suite), tasks, seeds)
    require_cleaning(chosen.cleaning)
    if chosen.tasks:
        require_metrics()
    if len(set(models)) < len(models) or not models:
        raise ValueError("`model`: give at least one, each once.")
    if untrained and "untrained" in models:
        raise ValueError(
            "`untrained`: one of the models has the name of the untrained encoder. Write its folder as ./untrained."
        )
    found = {name: check_checkpoint(name) for name in models}
    files = _find_files(chosen, Path(data).expanduser())
    texts = None if chosen.text is None else _load_text(chosen.text, files)
    paired = [] if chosen.pairs is None else [name for name, each in found.items() if _has_nsp_head(name, each)]
    sentences = _load_pairs(chosen, files) if paired else None
    paired = [] if sentences is None else paired
    examples = {name: _load_task(task, files) for name, task in chosen.tasks.items()}
    of_products, folder = precision_of_products(precision), Path(output).expanduser()
    if untrained:
        name = str(_save_untrained(next(iter(found.values())), folder))
        found["untrained"] = check_checkpoint(name)
    figures: dict[str, dict[str, Any]] = {}
    for number, (label, checkpoint) in enumerate(found.items(), 1):
        logger.info("%s (%d of %d)", label, number, len(found))
        name = label if label in models else str(checkpoint.folder)
        how: dict[str, Any] = {"cleaning": chosen.cleaning, "precision": of_products}
        figures[label] = {} if texts is None else _evaluate_text(name, checkpoint, texts, how)
        if label in paired:
            figures[label] |= _unless_missing(evaluate_next_sentences, name, sentences, checkpoint, how)
        for task, settings in chosen.tasks.items():
            logger.info("%s: %d seeds of %s", label, seeds, task)
            try:
                tuned = finetune(
                    name,
                    examples[task]["train"],
                    examples[task]["validation"],
                    regression=bool(settings.train.get("regression")),
                    cleaning=chosen.cleaning,
                    seeds=range(seeds),
                    directory=folder / _key(checkpoint) / task,
                    precision=precision,  # "auto" keeps the precision of finished seeds
                    verbose=2,
                    **{each: getattr(settings, each) for each in _FINETUNING},
                )
            except OtherSettings as error:
                raise ValueError(f"`output`: {error.found} Choose another output.") from None
            figures[label][task] = {"metric": settings.metric, **tuned.metrics[settings.metric]}
    return figures


def suite_table(figures: dict[str, dict[str, Any]]) -> str:
    """The result of `evaluate_suite` in Markdown, with a column for each model."""
    rows = {
        "bits a character, hidden words": "bits_per_character",
        "hidden words right": "word_accuracy",
        "loss, «[MASK]이» as pipelines read it": "pipeline_loss",
        "loss, «[MASK]##이»": "continuation_loss",
        "replaced tokens, AUC": "disc_auc",
        "replaced tokens found": "replaced_accuracy",
        "original tokens recognized": "original_accuracy",
        "originals among the generator's tokens": "sampled_original",
        "next sentences right": "nsp_accuracy",
        "order of sentences right": "order_accuracy",
    }
    lines = [f"| | {' | '.join(figures)} |", "|---" * (len(figures) + 1) + "|"]
    for title, name in rows.items():
        if any(name in each for each in figures.values()):
            cells = (f"{each[name]:.3f}" if name in each else "-" for each in figures.values())
            lines.append(f"| {title} | {' | '.join(cells)} |")
    for task in next(iter(figures.values())):
        entries = [each[task] for each in figures.values() if task in each]
        if isinstance(entries[0], dict):
            cells = (f"{each['mean']:.4f} ± {each['std']:.4f}" for each in entries)
            lines.append(f"| {task}, {entries[0]['metric']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _entries(record: type, values: object, place: str) -> Any:
    """Make a record from a YAML mapping; an error names the wrong entry."""
    if not isinstance(values, dict):
        raise ValueError(f"{place} must be a mapping, `name: value` for each entry.")
    names = [each.name for each in fields(record)]
    unknown = sorted(set(map(str, values)) - set(names))
    if unknown:
        raise ValueError(f"{place} has unknown entries: {', '.join(unknown)}. Known: {', '.join(names)}.")
    for name in ("text", "pairs", "train", "validation"):
        value = values.get(name)
        if isinstance(value, dict) and not isinstance(value.get("file"), str):
            raise ValueError(f"{place}: `{name}` needs `file`, the name of a file without its ending.")
    try:
        return record(**values)
    except TypeError as error:
        raise ValueError(f"{place}: {str(error).partition('__init__() ')[2]}.") from None


def _check_text(text: dict[str, Any] | None, place: str, known: Sequence[str]) -> None:
    """Raise an error for unknown entries of a text, or an unknown part."""
    if text is None:
        return
    if not isinstance(text, dict):
        raise ValueError(f"{place} must be a mapping, such as {{file: NAME}}, not {text!r}.")
    unknown = sorted(set(map(str, text)) - set(known))
    if unknown:
        raise ValueError(f"{place} has unknown entries: {', '.join(unknown)}. Known: {', '.join(known)}.")
    if text.get("part", "train") not in ("train", "validation"):
        raise ValueError(f"{place}: `part` must be train or validation, not {text['part']!r}.")


def _choose(suite: Suite, tasks: Iterable[str] | None, seeds: int) -> Suite:
    if seeds < 0:
        raise ValueError(f"`seeds` must be at least 0, not {seeds}.")
    names = list(suite.tasks) if tasks is None else list(tasks)
    unknown = [name for name in names if name not in suite.tasks]
    if unknown:
        raise ValueError(f"`tasks`: {suite.name} has no {', '.join(unknown)}. Choose among {', '.join(suite.tasks)}.")
    chosen = {name: suite.tasks[name] for name in names if seeds}
    return replace(suite, tasks=chosen)


def _find_files(suite: Suite, folder: Path) -> dict[str, Path]:
    """The path of each file of the suite. One error names all missing files."""
    if not folder.is_dir():
        raise FileNotFoundError(f"`data`: {folder} is no folder. Give the folder of the suite's files.")
    wanted: dict[str, list[str]] = {}
    parts: list[tuple[str, object]] = [("text", suite.text), ("pairs", suite.pairs)]
    for name, task in suite.tasks.items():
        parts += [(name, task.train), (name, task.validation)]
    for user, part in parts:
        if isinstance(part, dict):
            wanted.setdefault(part["file"], []).append(user)
    found = {stem: [path for path in folder.glob(f"{stem}.*") if path.is_file()] for stem in wanted}
    missing = [f"{stem} ({', '.join(dict.fromkeys(wanted[stem]))})" for stem, paths in found.items() if not paths]
    if missing:
        raise FileNotFoundError(
            f"`data`: {folder} lacks {'; '.join(missing)}. Each is a file with one of the endings {KNOWN}. Or choose "
            "tasks whose files are there."
        )
    for stem, paths in found.items():
        if len(paths) > 1:
            raise ValueError(f"`data`: {folder} has {stem} more than once: {', '.join(sorted(p.name for p in paths))}.")
    return {stem: paths[0] for stem, paths in found.items()}


def _load_text(text: dict[str, Any], files: dict[str, Path]) -> Dataset:
    settings = {name: value for name, value in text.items() if name not in ("file", "part", "language")}
    part = text.get("part", "train")
    if part != "validation":
        settings["validation_fraction"] = 0
    return load_corpus(files[text["file"]], **settings)[part]


def _load_pairs(suite: Suite, files: dict[str, Path]) -> Dataset | None:
    """The sentences of `pairs`, cleaned; `None` if their splitter is not installed.

    Raises:
      ValueError: no pair can be made.
    """
    text = cast(dict[str, Any], suite.pairs)
    try:
        sentences = prepare_sentences(_load_text(text, files), language=text["language"], cleaning=suite.cleaning)
    except ModuleNotFoundError as error:
        logger.info("Next sentences are not evaluated. %s", error)
        return None
    try:
        require_pairs(row for batch in sentences.iter(1000) for row in batch["sentences"])
    except ValueError as error:
        raise ValueError(f"{suite.name}: `pairs`: {error}") from None
    return sentences


def _load_task(task: Task, files: dict[str, Path]) -> DatasetDict:
    settings = {name: value for name, value in task.train.items() if name != "file"}
    held_out = task.validation
    return load_examples(
        files[task.train["file"]],
        validation=files[held_out["file"]] if isinstance(held_out, dict) else held_out,
        **settings,
    )


def _evaluate_text(name: str, checkpoint: Checkpoint, texts: Dataset, how: dict[str, Any]) -> dict[str, float]:
    """The metrics of the heads that read the suite's `text`.

    Args:
      checkpoint: the BERT, or the discriminator of an ELECTRA.
      how: `cleaning` and `precision`.
    """
    with_mlm, figures = find_checkpoint(name, generator=True), {}
    architectures = _architectures(with_mlm)
    if "MaskedLM" in architectures or "BertForPreTraining" in architectures:
        figures = evaluate_hidden_words(name, texts, **how)
        gaps = evaluate_mlm(name, texts, block_size=_block_size(with_mlm), **how)
        figures |= {key: gaps[key] for key in gaps if key.startswith(("pipeline_", "continuation_", "glued_"))}
    else:
        logger.info("%s has no MLM head, so hidden words are not evaluated.", name)
    if "ElectraForPreTraining" not in _architectures(checkpoint):
        return figures
    if with_mlm.folder == checkpoint.folder:
        logger.info("%s has no generator/ beside its config.json, so replaced tokens are not evaluated.", name)
        return figures
    return figures | _unless_missing(evaluate_replaced_tokens, name, texts, checkpoint, how)


def _unless_missing(
    evaluate: Callable[..., dict[str, float]],
    name: str,
    corpus: Dataset | None,
    checkpoint: Checkpoint,
    how: dict[str, Any],
) -> dict[str, float]:
    """The metrics of a head; none if its weights are missing."""
    try:
        return evaluate(name, corpus, block_size=_block_size(checkpoint), **how)
    except MissingHead as error:
        logger.info("%s Its metrics are left out.", error)
        return {}


def _architectures(checkpoint: Checkpoint) -> str:
    return str(checkpoint.config.get("architectures"))


def _block_size(checkpoint: Checkpoint) -> int:
    return min(128, checkpoint.config["max_position_embeddings"])


def _has_nsp_head(name: str, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint has an NSP head, except if a record shows that the run did not train this head."""
    if "BertForPreTraining" not in _architectures(checkpoint):
        logger.info("The config of %s names no NSP head, so next sentences are not evaluated.", name)
        return False
    if _recorded_objective(checkpoint.folder) == "mlm":
        logger.info("%s was trained with objective mlm, so its NSP head is not evaluated.", name)
        return False
    return True


def _recorded_objective(folder: Path) -> str | None:
    """The objective of the run that made a checkpoint, from its metrics or else its record; `None` if neither tells."""
    try:
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        return public_metrics(metrics)["settings"]["objective"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no file, or another program's
        pass
    try:
        return read_yaml(folder / RECORD).get("objective")
    except (OSError, ValueError):
        return None


def _key(checkpoint: Checkpoint) -> str:
    """A folder name that depends on the checkpoint's content, so that it changes if the weights change."""
    digest = xxhash.xxh3_64()
    for file in checkpoint.weights():
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    name = "".join(sign if sign.isalnum() else "-" for sign in Path(checkpoint.name).name)[-40:]
    return f"{name}-{digest.hexdigest()}"


def _save_untrained(checkpoint: Checkpoint, output: Path) -> Path:
    """Make a checkpoint with the config and tokenizer of another one, and random weights from seed 0."""
    config, tokenizer = AutoConfig.from_pretrained(checkpoint.folder), checkpoint.tokenizer()
    with initializers_drawing_from(0):
        model = (TFElectraForPreTraining if config.model_type == "electra" else TFBertForPreTraining)(config)
        model.build_in_name_scope()
    return save_checkpoint(model, tokenizer, output / f"untrained-{_key(checkpoint)}")
