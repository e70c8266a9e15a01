"""`evaluate_checkpoints`: evaluates masked language models on text, or classifiers on labelled texts, as a table."""

import os
from pathlib import Path
from typing import Any

from datasets import Dataset

from keras_pretrain.corpus.loading import load_corpus
from keras_pretrain.corpus.samples import load_sample
from keras_pretrain.evaluation import compare_mlm
from keras_pretrain.finetuning import evaluate, load_examples
from keras_pretrain.models.loading import check_checkpoint
from keras_pretrain.runs.settings import RECORD, PretrainingSettings, Settings, read_settings


def evaluate_checkpoints(
    models: tuple[str, ...],
    corpus: str | None = None,
    *,
    text_column: str = "text",
    pair_column: str | None = None,
    label_column: str = "label",
    block_size: int | None = None,
    seed: int = 42,
) -> dict[str, dict[str, float]]:
    """Compute the metrics of several checkpoints on the same text.

    Args:
      models: folders or names on the Hub: all of them masked language models, or all of them classifiers.
      corpus: a source for `load_corpus`, or a file of labelled texts for classifiers. Default, for masked language
        models: the validation split of the run that made the first model; its record (`run.yaml`) names the corpus.
      text_column, pair_column, label_column: the columns of the corpus.
      block_size: the maximum number of tokens of an example. Default: that of the run that made the first model, or 128
        without a run. If the run was trained line by line, so is the text divided here.
      seed: the seed for the masks.

    Returns:
      For each model, the metrics of `evaluation.evaluate_mlm` or `finetuning.evaluate`.

    Raises:
      ValueError: no corpus is given and the first model has no record, or the models are not all of one kind.
    """
    found = [check_checkpoint(model) for model in models]
    are_classifiers = ["SequenceClassification" in str(each.config.get("architectures")) for each in found]
    if any(are_classifiers) != all(are_classifiers):
        raise ValueError("`model`: classifiers and masked language models are evaluated separately.")
    record = _record_of(models[0])
    if all(are_classifiers):
        if block_size is not None:
            raise ValueError("`block_size` is for masked language models; a classifier has the length of its run.")
        if corpus is None:
            raise ValueError("`corpus` is missing: a classifier is evaluated on a file of labelled texts.")
        is_regression = len(found[0].config.get("id2label", {})) == 1
        data = load_examples(
            {"train": corpus, "validation": corpus},
            regression=is_regression,
            text_column=text_column,
            pair_column=pair_column,
            label_column=label_column,
        )
        lengths = [getattr(_record_of(model), "max_length", 128) for model in models]
        pairs = zip(models, lengths, strict=True)
        return {model: evaluate(model, data["validation"], max_length=length) for model, length in pairs}
    if pair_column is not None or label_column != "label":
        raise ValueError("`label_column` and `pair_column` are for classifiers; these are masked language models.")
    if corpus is not None:
        documents = load_corpus(corpus, text_column=text_column, validation_fraction=0)["train"]
    elif isinstance(record, PretrainingSettings):
        documents = _validation_of(record)
    else:
        raise ValueError(f"`corpus` is missing, and {models[0]} has no {RECORD} that names one.")
    how: dict[str, Any] = {"block_size": block_size or 128, "seed": seed}
    if isinstance(record, PretrainingSettings):
        how["block_size"] = block_size or max(block for block, _ in record.shapes)
        how["line_by_line"] = record.line_by_line
    return compare_mlm(dict(zip(models, models, strict=True)), documents, **how)


def table(metrics: dict[str, dict[str, float]]) -> str:
    """The metrics as text, with a column for each model."""
    names = {name: name if len(name) <= 24 else f"…{name[-23:]}" for name in metrics}
    lines = [" " * 20 + "".join(f"{names[model]:>26}" for model in metrics)]
    for metric in dict.fromkeys(name for each in metrics.values() for name in each):
        values = (f"{each[metric]:,.4g}" if metric in each else "-" for each in metrics.values())
        lines.append(f"{metric:20}" + "".join(f"{value:>26}" for value in values))
    return "\n".join(lines)


def _record_of(model: str | os.PathLike[str]) -> Settings | None:
    file = Path(model) / RECORD
    return read_settings(file, check=False) if file.is_file() else None


def _validation_of(record: PretrainingSettings) -> Dataset:
    if record.prepared is not None:
        raise ValueError("`corpus` is missing, and the run was trained on a prepared folder, which has no texts.")
    names = ("text_column", "sample_by", "encoding", "dialect", "on_bad_rows", "drop_duplicates", "seed")
    reading = {name: getattr(record, name) for name in names}
    reading |= {} if record.corpus else {"text_column": "text"}
    return load_corpus(record.corpus or load_sample(record.language), **reading)["validation"]
