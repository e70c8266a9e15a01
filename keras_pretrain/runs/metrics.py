"""`metrics.json`: the results of a run, and the settings to repeat it, without anything private."""

import json
import logging
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras
from datasets import Dataset, DatasetDict

from keras_pretrain.corpus.loading import is_hub_name
from keras_pretrain.export.checkpoint import require_writable
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.runs.settings import RECORD, PretrainingSettings, Settings, public_name, read_yaml

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
_HEADER = "# The record of this run. `keras-pretrain VERB --config run.yaml --output FOLDER` uses its settings again.\n"
_PACKAGES = ("keras_pretrain", "tensorflow", "transformers", "datasets", "tokenizers")


def require_output(settings: Settings) -> None:
    """Check before a run that its checkpoint, metrics and record can be written to its output.

    Raises:
      FileExistsError: the output has other files with these names, and `overwrite` is off.
      ValueError: the output belongs to a run of another kind.
      OSError: the folder cannot be written to.
    """
    record = Path(settings.output).expanduser() / RECORD
    if OwnedFolder(settings.output, "run").owns(RECORD):
        kind = read_yaml(record).get("kind")
        if kind != settings.kind:
            raise ValueError(f"`output`: {settings.output} holds a run of {kind!r}, not of {settings.kind!r}.")
    require_writable(settings.output, overwrite=settings.overwrite)
    folder = OwnedFolder(settings.output, "metrics", overwrite=settings.overwrite)
    folder.require_replaceable([METRICS, RECORD])


def write_metrics(
    settings: Settings,
    metrics: dict | tf_keras.callbacks.History,
    *,
    documents: DatasetDict | dict[str, int] | None = None,
    seconds: dict | None = None,
    **more: Any,
) -> None:
    """Write `metrics.json` and the record `run.yaml` into the output of a run. If they cannot be written, it only logs
    a warning, so that the model can still be saved.

    Args:
      settings: the settings of the run; `metrics.json` contains only `settings.public()`.
      metrics: the result of `model.fit`, whose last values are used, or a dictionary of metrics. Its `"settings"`, if
        any, are added to those of the run.
      documents: the corpus or the labelled examples, as a `DatasetDict`; or the number of documents in each split.
      seconds: the seconds of each stage.
      **more: further metrics. NaN and infinity, which JSON does not have, become `null`.
    """
    history = getattr(metrics, "history", None)
    metrics = metrics if history is None else {name: values[-1] for name, values in history.items()}
    chosen = metrics.get("settings", {})  # those that `finetune` chose, or with which a folder was prepared
    base = getattr(settings, "init_from", None) or getattr(settings, "model", None)
    report = (
        metrics
        | more
        | {
            "kind": settings.kind,
            "settings": settings.public() | {name: each for name, each in chosen.items() if each is not None},
            "seed": settings.seed,
            "seconds": seconds or {},
            "base_model": public_name(base),
            "base": public_name(base) or (base and "a local checkpoint"),
            "versions": {name: version(name) for name in _PACKAGES},
        }
    )
    known = documents or {}
    parts = {name: known[name] for name in ("train", "validation") if name in known}
    counts = {name: _count(part) for name, part in parts.items()}
    if isinstance(settings, PretrainingSettings):
        report["corpus"] = describe_corpus(settings) | counts
    else:
        report["task"] = {"name": getattr(settings, "data_name", None)} | counts
    if not metrics.get("tokens_per_second", 1):  # nothing was left to train, so the speed comes from the earlier file
        report |= _speed_before(Path(settings.output) / METRICS)
    try:
        text = json.dumps(as_json(report), indent=2, ensure_ascii=False, allow_nan=False)
        folder = OwnedFolder(settings.output, "metrics", overwrite=settings.overwrite)
        folder.write_text(METRICS, text + "\n")
        write_record(settings)
    except OSError as error:
        logger.warning("The metrics could not be written: %s", error)


def write_record(settings: Settings) -> None:
    """Write `run.yaml` into the output of a run. Call this only after checking that the run can continue there."""
    folder = OwnedFolder(settings.output, "run", overwrite=settings.overwrite)
    folder.write_text(RECORD, _HEADER + settings.to_yaml())


def _count(part: dict | int | Dataset) -> int:
    """The number of documents in a split, which is given as a dataset, a part of a prepared folder's report, or a
    number."""
    if isinstance(part, dict):
        return part["documents"]
    return part if isinstance(part, int) else len(part)


def describe_corpus(settings: PretrainingSettings) -> dict:
    """Describe a corpus for publication: its name (given by the user, or the one on the Hub) and its language."""
    on_hub = settings.corpus is not None and is_hub_name(settings.corpus)
    is_sample = settings.corpus is None and settings.prepared is None
    name = settings.corpus if on_hub else "the sample inside keras_pretrain" if is_sample else None
    return {"name": settings.corpus_name or name, "on_hub": on_hub, "language": settings.language}


def _speed_before(file: Path) -> dict:
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
        return {name: before[name] for name in ("tokens_per_second", "seconds")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def as_json(value: object) -> Any:
    """Make a value valid JSON: `NaN` and `Infinity`, which JSON does not have, become `None`."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, dict):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
