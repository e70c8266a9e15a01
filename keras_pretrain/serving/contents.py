"""`inspect_folder`: finds out what a folder contains, and so which parts the page has. Does not import TensorFlow."""

from dataclasses import dataclass
from pathlib import Path

from keras_pretrain.models.loading import Checkpoint, check_checkpoint
from keras_pretrain.runs.settings import RECORD, FinetuneSettings, Settings, read_settings

HISTORY = "history{}.csv"  # the history of a run, or with a suffix, of one of its phases
_SEED_HISTORY = "history-seed-"  # a fine-tuning has a history for each seed; the number of the seed follows


@dataclass(frozen=True)
class Contents:
    """The contents of a folder.

    Attributes:
      folder: the absolute path.
      fills: the checkpoint of a masked language model; `None` if there is none.
      judges: the checkpoint of an ELECTRA discriminator; `None` if there is none.
      classifies: the checkpoint of a classifier or regressor; `None` if there is none.
      encodes: the checkpoint whose encoder compares sentences; `None` for a run without a checkpoint.
      takes_pairs: whether a fine-tuned model was trained on pairs of texts; `None` if no record states it.
      is_run: whether the folder has the record or the history of a run.
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
        """The names of the parts of the page, in the order in which the page shows them."""
        parts = {
            "fill": self.fills,
            "judge": self.judges,
            "classify": self.classifies,
            "compare": self.encodes,
            "run": self.is_run,
        }
        return [name for name, part in parts.items() if part]


def inspect_folder(folder: Path) -> Contents:
    """Find out what a folder contains, without loading any weights.

    Raises:
      FileNotFoundError: there is no such folder, or a checkpoint in it has no weights or no tokenizer.
      ValueError: the folder contains neither a checkpoint nor a run; or a checkpoint is damaged or of another model
        type.
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
    """The history file of each seed of a fine-tuning.

    Args:
      folder: the folder that `keras-pretrain finetune` wrote, with the histories in `run/`; or a folder with the
        histories themselves.
    """
    files = [file for place in (folder, folder / "run") for file in place.glob(f"{_SEED_HISTORY}*.csv")]
    seeds = {file.stem.removeprefix(_SEED_HISTORY): file for file in files}
    return {int(seed): seeds[seed] for seed in sorted(filter(str.isdecimal, seeds), key=int)}


def read_record(folder: Path) -> Settings | None:
    """Read the settings of the run in a folder, without checking them; `None` if the folder has no record.

    Raises:
      ValueError: a record that cannot be read.
    """
    try:
        return read_settings(folder / RECORD, check=False)
    except FileNotFoundError:
        return None


def _head(checkpoint: Checkpoint) -> str:
    """The part of the architecture's name after "For", such as `MaskedLM`; empty if the config names no head."""
    architectures = checkpoint.config.get("architectures") or [""]
    return str(architectures[0]).partition("For")[2]
