"""`inspect_folder`: what a folder holds, and so what the page has to show. Needs no TensorFlow."""

from dataclasses import dataclass
from pathlib import Path

from keras_pretrain.models.loading import Checkpoint, check_checkpoint
from keras_pretrain.runs.settings import RECORD, FinetuneSettings, Settings, read_settings

HISTORY = "history{}.csv"  # of a run, or of one of its phases
_SEED_HISTORY = "history-seed-"  # and the seed, of a fine-tuning


@dataclass(frozen=True)
class Contents:
    """What a folder holds.

    Attributes:
      folder: the folder, absolute.
      fills, judges, classifies: the checkpoint of the network with this head, if there is one: masked language model,
        ELECTRA's discriminator, classifier or regressor.
      encodes: the checkpoint whose encoder compares sentences; `None` for a run without a checkpoint.
      takes_pairs: whether a fine-tuned model was trained on pairs of texts; `None` where no record states it.
      is_run: whether a run writes, or has written, its record or its history there.
    """

    folder: Path
    fills: Checkpoint | None
    judges: Checkpoint | None
    classifies: Checkpoint | None
    encodes: Checkpoint | None
    takes_pairs: bool | None
    is_run: bool

    @property
    def tasks(self) -> list[str]:
        """The parts of the page, in their order."""
        parts = {
            "fill": self.fills,
            "judge": self.judges,
            "classify": self.classifies,
            "compare": self.encodes,
            "run": self.is_run,
        }
        return [name for name, part in parts.items() if part]


def inspect_folder(folder: Path) -> Contents:
    """Find out what a folder holds, without loading it.

    Raises:
      FileNotFoundError: no such folder, or a checkpoint in it that lacks its weights or its tokenizer.
      ValueError: it holds neither a checkpoint nor a run, or a checkpoint that is damaged or of another model type.
      ModuleNotFoundError: weights that only torch can read, and torch (the extra `torch`) is missing.
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    is_run = (folder / RECORD).is_file() or any(folder.glob(HISTORY.format("*"))) or bool(seed_histories(folder))
    is_checkpoint = any((folder / part / "config.json").is_file() for part in ("", "discriminator"))
    if not is_checkpoint and not is_run:
        raise ValueError(
            f"{folder} is neither a checkpoint nor a run: it has no config.json, {RECORD} or {HISTORY.format('')}. "
            "A fine-tuning has a history after its first epoch."
        )
    settings = read_record(folder)
    takes_pairs = settings.pair_column is not None if isinstance(settings, FinetuneSettings) else None
    encodes = check_checkpoint(folder) if is_checkpoint else None
    head = _head(encodes) if encodes else ""
    is_electra = encodes is not None and encodes.model_type == "electra"
    fills = encodes if head == "MaskedLM" or (head == "PreTraining" and not is_electra) else None
    if is_electra and (folder / "generator" / "config.json").is_file():
        fills = check_checkpoint(folder / "generator", ("electra",))
    judges = encodes if is_electra and head == "PreTraining" else None
    classifies = encodes if head == "SequenceClassification" else None
    return Contents(folder, fills, judges, classifies, encodes, takes_pairs, is_run)


def seed_histories(folder: Path) -> dict[int, Path]:
    """The history of each seed of a fine-tuning: in its own folder of results, or in `run` of the folder that
    `keras-pretrain finetune` writes."""
    files = [file for place in (folder, folder / "run") for file in place.glob(f"{_SEED_HISTORY}*.csv")]
    seeds = {file.stem.removeprefix(_SEED_HISTORY): file for file in files}
    return {int(seed): seeds[seed] for seed in sorted(filter(str.isdecimal, seeds), key=int)}


def read_record(folder: Path) -> Settings | None:
    """The settings of the run in a folder, not checked; `None` where it has no record.

    Raises:
      ValueError: a record that cannot be read.
    """
    try:
        return read_settings(folder / RECORD, check=False)
    except FileNotFoundError:
        return None


def _head(checkpoint: Checkpoint) -> str:
    """What the architecture is for, as 🤗 names it: `MaskedLM`; empty where there is no head or no name."""
    architectures = checkpoint.config.get("architectures") or [""]
    return str(architectures[0]).partition("For")[2]
