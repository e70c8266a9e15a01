"""`run_finetuning`: carries out a `FinetuneSettings`, and writes the classifier with its record, metrics and card."""

import dataclasses
import logging
import sys
import time
from pathlib import Path
from typing import cast

from datasets import Dataset

from keras_pretrain.export.checkpoint import save_checkpoint
from keras_pretrain.finetuning import FineTuned, finetune, load_examples, predict
from keras_pretrain.runs.metrics import require_output, write_metrics
from keras_pretrain.runs.run import compile_precision, make_strategy, policy, with_precision
from keras_pretrain.runs.settings import RECORD, FinetuneSettings, read_settings

logger = logging.getLogger(__name__)


def run_finetuning(settings: FinetuneSettings) -> FineTuned:
    """Fine-tune a checkpoint on labelled texts, save the classifier, and show its metrics and a few predictions.

    After a crash, a call with the same settings trains only the missing seeds.

    Raises:
      ValueError, FileNotFoundError, FileExistsError: the settings cannot be carried out; raised before training starts.
    """
    begun, output = time.perf_counter(), Path(settings.output).expanduser()
    require_output(settings)
    strategy = make_strategy(settings.strategy)
    data = load_examples(
        settings.train,
        validation=settings.held_out,
        text_column=settings.text_column,
        pair_column=settings.pair_column,
        label_column=settings.label_column,
        group_column=settings.group_column,
        keep_labels=settings.keep_labels,
        regression=settings.regression,
        seed=settings.seed,
    )
    names = (
        "regression", "epochs", "batch_size", "learning_rate", "layerwise_decay", "warmup_ratio", "weight_decay",
        "dropout", "token_dropout", "class_weight", "patience", "max_length", "cleaning", "resume",
    )  # fmt: skip
    record = output / RECORD
    if settings.resume and settings.precision == "auto" and record.exists():  # finished seeds keep their precision
        settings = dataclasses.replace(
            settings, precision=cast(FinetuneSettings, read_settings(record, check=False)).precision
        )
    settings = with_precision(settings)
    with policy(settings.precision), strategy.scope():
        tuned = finetune(
            settings.model,
            data["train"],
            data["validation"],
            seeds=range(settings.seed, settings.seed + settings.seeds),
            directory=output / "run",  # `finetune` compares its settings with those stored there
            precision=compile_precision(settings.precision),
            verbose=1 if sys.stdout.isatty() else 2,  # a progress bar, or one line per epoch
            **{name: getattr(settings, name) for name in names},
        )
    seconds = {"total": time.perf_counter() - begun}
    write_metrics(settings, tuned.report(), documents=data, seconds=seconds)
    save_checkpoint(tuned.model, tuned.tokenizer, output, overwrite=settings.overwrite)  # the card has the metrics
    _show(tuned, data["validation"], settings)
    return tuned


def _show(tuned: FineTuned, validation: Dataset, settings: FinetuneSettings) -> None:
    lines = [f"{settings.output} is ready; on validation, over {len(tuned.seeds)} seed(s):"]
    lines += [f"  {name:10} {each['mean']:.4f} ± {each['std']:.4f}" for name, each in tuned.metrics.items()]
    examples = validation.select(range(min(3, len(validation))))
    pairs = examples["pair"][:] if "pair" in examples.column_names else None
    texts = examples["text"][:]
    said = predict(tuned.model, texts, pairs, tokenizer=tuned.tokenizer, max_length=settings.max_length)
    for i, text in enumerate(texts):
        answer = f"{said.labels[i]:.2f}" if said.probabilities is None else said.labels[i]
        share = "" if said.probabilities is None else f" {said.probabilities[i].max():.0%}"
        shown = text if pairs is None else f"{text} | {pairs[i]}"
        lines.append(f"  {answer}{share} (labelled {examples['label'][i]}): {' '.join(shown.split())[:100]}")
    logger.info("%s", "\n".join(lines))
