"""Records: all settings of a run, typed and documented. They are checked before any heavy library is imported."""

import codecs
import dataclasses
import inspect
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, Union, cast, get_args, get_origin

import yaml

from keras_pretrain.features.masking import GLUE_PROB
from keras_pretrain.models.sizes import ELECTRA_LEARNING_RATES, LEARNING_RATES
from keras_pretrain.runs.recipes import recipe_file, recipe_names

RECORD = "run.yaml"

# Settings whose value is either a path on this machine or a name on the Hub.
_SOURCES = ("corpus", "tokenizer", "model", "init_from", "init_generator_from")
# Settings for making examples from a corpus. They cannot be given with a prepared folder, which was made with its own.
_OF_CORPUS = (
    "text_column", "sample_by", "encoding", "dialect", "on_bad_rows", "drop_duplicates", "cleaning", "backend",
    "vocab_size", "lowercase", "passes", "line_by_line",
)  # fmt: skip
_ASKED_EACH_TIME = ("resume", "overwrite", "dry_run")
# Settings in which a run may differ from its recipe and still have the same losses, apart from chance.
_NOT_OF_A_RECIPE = {
    "seed", "precision", "corpus", "corpus_name", "prepared", "text_column", "sample_by", "encoding", "dialect",
    "on_bad_rows", "num_proc", "overwrite", "gradient_accumulation_steps", "hours", "strategy", "validation_share",
    "planned_steps", "checkpoint_every", "resume", "recipe", "tensorboard", "output", "task_train", "task_validation",
    "task_text_column", "task_label_column", "task_group_column", "task_keep_labels", "task_epochs", "task_seeds",
}  # fmt: skip
# For records of older versions, which lack these settings: the values that those versions used.
_DEFAULTS_OF_OLD_RUNS = {"packed": False, "glue_prob": 0.0, "glue_after": 0}
# For type checkers; a test compares these literals with the tables that they come from.
Objective = Literal["mlm+nsp", "mlm"]
BertSize = Literal["tiny", "mini", "small", "base", "large"]
ElectraSize = Literal["tiny", "mini", "small", "base", "large"]
Cleaning = Literal["comments", "prose", "none"]
Precision = Literal["auto", "float32", "bfloat16", "mixed_bfloat16", "mixed_float16"]
_Own = TypeVar("_Own", bound="PretrainingSettings")  # Python 3.10 has no `typing.Self`
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


def setting(default: Any = dataclasses.MISSING, *, private: bool = False, free: bool = False, **bounds: float) -> Any:
    """A field of a record.

    Args:
      default: the default value; without one, the setting is required.
      private: the value is a path or name of this machine, and is never published.
      free: the setting has no effect on the trained model, so a resumed run may change it.
      **bounds: bounds of a number: `least`, `most`, `above`, `below`.
    """
    return dataclasses.field(default=default, metadata={"private": private, "free": private or free} | bounds)


def _documented(record: type | None) -> dict[str, str]:
    """The texts in the `Args` of a docstring, by name."""
    return dict(re.findall(r"^ +(\w+): (.+)$", inspect.cleandoc(record.__doc__ or ""), re.MULTILINE))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The common base of all records."""

    kind: ClassVar[str] = ""

    if TYPE_CHECKING:  # fields of all records, each with its own default

        @property
        def output(self) -> Path: ...
        @property
        def overwrite(self) -> bool: ...
        @property
        def seed(self) -> int: ...

    def __init_subclass__(cls) -> None:
        """Add the base's settings to the docstring of a record, from which the command makes its help."""
        super().__init_subclass__()
        arguments = _documented(cls.__base__) | _documented(cls)
        summary = (cls.__doc__ or "").partition("\n")[0]
        cls.__doc__ = f"{summary}\n\nArgs:\n" + "\n".join(f"  {name}: {text}" for name, text in arguments.items())

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = _as_type(field.name, field.type, getattr(self, field.name))
            if field.name in _SOURCES and value and Path(value).expanduser().exists():
                value = os.path.abspath(os.path.expanduser(value))  # absolute paths are recognized as local later
            object.__setattr__(self, field.name, value)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                _check_bounds(field.name, value, field.metadata)
        self.check()

    def check(self) -> None:
        """Raise an error for settings that contradict each other.

        Raises:
          ValueError, FileNotFoundError: the message names the settings.
        """

    def unused(self) -> set[str]:
        """The names of the settings that have no effect together with the others."""
        return set()

    def public(self) -> dict:
        """The settings that may be published, without those that are private, not set or without effect."""
        left_out = {*_NOT_PUBLISHED, *self.unused()}
        values = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field, value in values
            if not field.metadata["private"] and value is not None and field.name not in left_out
        }

    def to_yaml(self) -> str:
        """The settings as YAML, which `read_settings` and `keras-pretrain VERB --config` take.

        Settings that delete or replace files are left out, because they must be given each time.
        """
        known = dataclasses.fields(_KINDS.get(self.kind, self))  # a script may add its own settings
        names = [field.name for field in known if field.name not in _ASKED_EACH_TIME]
        values = {"kind": self.kind} | {name: _plain(getattr(self, name)) for name in names}
        return yaml.safe_dump(values, allow_unicode=True, sort_keys=False)


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(Settings):
    """Settings for the corpus, and for making examples from it.

    Args:
      corpus: A file, folder, glob or name of a dataset on the Hub.
      text_column: The column that holds the text.
      sample_by: The unit that is a document in a .txt file: a paragraph (between blank lines) or a line.
      encoding: The encoding of text files; cp949 for many Korean Excel files.
      dialect: The dialect of .csv and .tsv files: a delimiter, excel, excel-tab or unix.
      on_bad_rows: Stop at rows that cannot be read, or skip and count them.
      drop_duplicates: Leave out texts that occurred before.
      language: The language of the corpus.
      cleaning: How to clean texts. Default: as recorded with a given tokenizer; else comments for ko, prose for en.
      backend: The sentence splitter. Default: kiwi for ko, punkt for en, lines if no sentences are needed.
      vocab_size: The number of tokens of a new tokenizer.
      lowercase: Let a new tokenizer turn all letters into lower case; the model then predicts no capital letters.
      line_by_line: Make each line of a text an example of its own, for reviews and messages. Not for mlm+nsp.
      passes: Number of sets of examples to make, each with other cuts and pairs. No effect with line_by_line.
      seed: The seed for every random choice.
      num_proc: Worker processes. Default: one for each processor.
      overwrite: Replace files in the output that this version did not write.
    """

    if TYPE_CHECKING:  # a field or property of the records below

        @property
        def objective(self) -> str | None: ...

    corpus: str | None = setting(None, private=True)
    text_column: str = setting("text", private=True)
    sample_by: Literal["paragraph", "line"] = setting("paragraph")
    encoding: str = setting("utf-8")
    dialect: str | None = setting(None)
    on_bad_rows: Literal["error", "skip"] = setting("error")
    drop_duplicates: bool = setting(False)
    language: Literal["ko", "en"] = setting("ko")
    cleaning: Cleaning | None = setting(None)
    backend: str | None = setting(None)
    vocab_size: int = setting(25_000, least=6)
    lowercase: bool = setting(False)
    line_by_line: bool = setting(False)
    seed: int = setting(42, least=0, most=2**31 - 1)
    num_proc: int | None = setting(None, free=True, least=1)
    overwrite: bool = setting(False, free=True)

    def check(self) -> None:
        _check_encoding(self.encoding)
        if self.corpus is not None:
            require_source("corpus", self.corpus)
        given = next((name for name in ("tokenizer", "init_from") if getattr(self, name, None)), None)
        if self.lowercase and given:
            raise ValueError(
                f"`lowercase` cannot be set with `{given}`: a given tokenizer has its own rule for case. "
                "Leave `lowercase` out."
            )
        if self.line_by_line and self.objective == "mlm+nsp" and getattr(self, "prepared", None) is None:
            possible = "mlm (BERT) or rtd (ELECTRA)" if self.kind == "prepare" else "mlm"
            raise ValueError(
                "`line_by_line` makes examples of one line, but the `objective` mlm+nsp needs pairs. Set `objective` "
                f"to {possible}, or leave `line_by_line` out."
            )

    def unused(self) -> set[str]:
        """As `Settings.unused`."""
        return {"passes"} if self.line_by_line else set()


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(CorpusSettings):
    """Settings of `prepare_corpus`.

    Args:
      output: The folder to write. The same command continues after a crash.
      validation: Share of the documents for the validation split, up to about a million characters.
      tokenizer: A folder or name on the Hub. Default: train a new one.
      objective: The objective to make examples for; rtd is for ELECTRA.
      block_size: The maximum number of tokens of an example.
      engine: Run in processes of this machine, or on a Ray cluster.
      ray_address: The address of the Ray cluster. Default: RAY_ADDRESS, or only this machine.
      overwrite: Replace a folder that an older version prepared.
      dry_run: Report the files that would be written and replaced, and stop.
    """

    kind: ClassVar[str] = "prepare"

    corpus: str = setting(private=True)
    output: Path = setting(private=True)
    validation: float = setting(0.1, least=0, below=1)
    tokenizer: str | None = setting(None, private=True)
    objective: Literal["mlm+nsp", "mlm", "rtd"] = setting("mlm+nsp")
    block_size: int = setting(128, least=8)
    passes: int = setting(1, least=1)
    engine: Literal["local", "ray"] = setting("local", free=True)
    ray_address: str | None = setting(None, private=True)
    dry_run: bool = setting(False, free=True)

    def check(self) -> None:
        super().check()
        if self.ray_address and self.engine != "ray":
            raise ValueError("`ray_address` is for `engine` ray. Leave it out, or set the engine to ray.")
        if self.num_proc and self.engine == "ray":
            raise ValueError("`num_proc` is for `engine` local: a Ray cluster has its own number of processors.")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a run with a single block size.

    Attributes:
      name: part of the names of its files; empty if the run has one phase.
      block_size: the maximum number of tokens of an example.
      batch_size: number of rows in a batch. All phases have about the same number of tokens per batch.
      steps: number of training steps.
    """

    name: str
    block_size: int
    batch_size: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class PretrainingSettings(CorpusSettings):
    """Settings of a pretraining run.

    Args:
      corpus: A file, folder, glob or name of a dataset on the Hub. Default: the sample inside the package.
      prepared: A folder that `keras-pretrain prepare` wrote, instead of a corpus.
      corpus_name: The name of the corpus in the model card. Default: a local corpus is not named.
      size: The size of a new model.
      block_size: The maximum number of tokens of an example. Default: 128.
      phases: Block sizes in their order, each with its share of the steps: 64:0.3 128:0.6 512:0.1.
      mask_prob: Share of the tokens to predict.
      glue_prob: Probability that the rest of a word after a gap is shown as in pipelines. Default: 0.75.
      glue_after: Number of steps before glue_prob takes effect. Default: half of the steps; 0 for ELECTRA.
      dropout: Dropout rate of hidden states and attention. Default: 0 for a new model, else the given model's.
      batch_size: Rows of a batch, summed over all replicas.
      packed: Put several examples into a row. Default: do so if it saves a tenth of the rows.
      gradient_accumulation_steps: Compute each batch in this number of parts, one after the other, to save memory.
      steps: Training steps, rounded up to whole epochs. Default: 600 (adapt: 1,000). A larger number extends a run.
      hours: Choose as many steps as fit into these hours, from the start of the command. No effect if steps are set.
      steps_per_epoch: Steps of an epoch; each epoch is a row of history.csv.
      learning_rate: The peak learning rate. Default: by size; 1e-4 for a given model.
      schedule: The schedule of the learning rate after its warm-up.
      warmup_ratio: Share of the steps in which the learning rate rises.
      weight_decay: Weight decay per step, multiplied by the learning rate.
      epsilon: AdamW's epsilon.
      beta_1: AdamW's beta_1.
      beta_2: AdamW's beta_2.
      precision: Use bfloat16 for processors with AMX, mixed_bfloat16 for GPUs. Default: auto, the fastest.
      strategy: One device, all GPUs of this machine, or several machines (each with its TF_CONFIG).
      validation_share: The maximum share of the time for validation; limits the number of validations.
      planned_steps: Set by the package: the number of steps before an extension, to which the shares of phases apply.
      validation_every: Epochs between two validations. Default: ten per run, or fewer to keep validation_share.
      checkpoint_every: Steps between two checkpoints; a killed run continues from the last one.
      resume: Continue the run in the output folder. Otherwise its checkpoints are deleted.
      recipe: The recipe whose curves are shown beside those of the run. `--config RECIPE` sets it.
      tensorboard: A folder for metrics and previews in TensorBoard's format.
      output: The folder of the run and of the model.
    """

    default_steps: ClassVar[int] = 600
    learning_rates: ClassVar[dict[str, float]] = {}
    if TYPE_CHECKING:  # fields or properties of the records below

        @property
        def init_from(self) -> str | None: ...
        @property
        def size(self) -> str: ...
    else:
        init_from: ClassVar[str | None] = None

    prepared: Path | None = setting(None, private=True)
    corpus_name: str | None = setting(None, free=True)
    block_size: int | None = setting(None, least=8)
    phases: tuple[str, ...] | None = setting(None)
    passes: int = setting(10, least=1)
    mask_prob: float = setting(0.15, above=0, below=1)
    glue_prob: float | None = setting(None, least=0, most=1)
    glue_after: int | None = setting(None, least=0)
    dropout: float | None = setting(None, least=0, below=1)
    batch_size: int = setting(32, least=1)
    packed: bool | None = setting(None)
    gradient_accumulation_steps: int = setting(1, least=1)
    steps: int | None = setting(None, least=1)
    hours: float | None = setting(None, free=True, above=0)
    steps_per_epoch: int = setting(100, least=1)
    learning_rate: float | None = setting(None, above=0)
    schedule: Literal["linear", "cosine", "constant"] = setting("linear")
    warmup_ratio: float = setting(0.1, least=0, most=1)
    weight_decay: float = setting(0.01, least=0)
    epsilon: float = setting(1e-10, above=0)
    beta_1: float = setting(0.9, least=0, below=1)
    beta_2: float = setting(0.999, least=0, below=1)
    precision: Precision | None = setting(None)
    strategy: Literal["one", "mirrored", "multiworker"] = setting("one", free=True)
    validation_share: float = setting(0.05, free=True, above=0, most=1)
    validation_every: int | None = setting(None, least=1)
    planned_steps: int | None = setting(None, free=True, least=1)
    checkpoint_every: int = setting(500, free=True, least=1)
    resume: bool = setting(True, free=True)
    recipe: str | None = setting(None, free=True)
    tensorboard: Path | None = setting(None, private=True)

    def check(self) -> None:
        super().check()
        if self.prepared is not None and self.corpus is not None:
            raise ValueError("`corpus` and `prepared` exclude each other: give one of them.")
        if self.prepared is not None and not self.prepared.is_dir():
            raise FileNotFoundError(
                f"`prepared`: there is no folder {self.prepared}. `keras-pretrain prepare` makes one."
            )
        if self.phases and self.block_size is not None:
            raise ValueError("`block_size` and `phases` exclude each other: the phases have block sizes of their own.")
        if self.phases and self.prepared is not None:
            raise ValueError("`phases` and `prepared` exclude each other: a prepared folder has one block size.")
        given = [name for name in _OF_CORPUS if getattr(self, name) != self._default_of(name)]
        if self.prepared is not None and given:
            raise ValueError(
                f"`{given[0]}` has no effect with `prepared`, which was prepared with its own. Leave it out."
            )
        if self.hours is None or self.steps is not None:
            self._require_epochs(self._whole_epochs(self.steps or self.default_steps) // self.steps_per_epoch)
        if not math.isclose(sum(self.shares), 1, abs_tol=1e-6):
            raise ValueError(f"The shares of `phases` must add up to 1, and add up to {sum(self.shares):g}.")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"`batch_size` ({self.batch_size}) must be a multiple of `gradient_accumulation_steps` "
                f"({self.gradient_accumulation_steps})."
            )
        if self.strategy == "multiworker":
            _check_cluster(self)
        if self.recipe in recipe_names() and self._recipe().kind != self.kind:
            raise ValueError(f"`recipe`: {self.recipe} is a recipe of {self._recipe().kind!r}, not of {self.kind!r}.")

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Block size and batch size of each phase. All batches have about the same number of tokens."""
        blocks = [block for block, _ in self._parse_phases()]
        return [(block, max(1, self.batch_size * blocks[0] // block)) for block in blocks]

    def plan(self) -> list[Phase]:
        """Divide the steps among the phases, in whole epochs. `steps` must be set.

        Raises:
          ValueError: fewer epochs than phases.
        """
        steps = cast(int, self.steps)
        planned = min(self.planned_steps or steps, steps)
        parsed, epochs = self._parse_phases(), planned // self.steps_per_epoch
        self._require_epochs(epochs)
        counts: list[int] = []
        left = epochs
        for number, (_, share) in enumerate(parsed):
            others = len(parsed) - number - 1
            counts.append(min(max(1, round(share * epochs)), left - others) if others else left)
            left -= counts[-1]
        counts[-1] += (steps - epochs * self.steps_per_epoch) // self.steps_per_epoch  # an extension
        return [
            Phase(
                name=f"-{block}" if len(parsed) > 1 else "",
                block_size=block,
                batch_size=batch_size,
                steps=count * self.steps_per_epoch,
            )
            for (block, batch_size), count in zip(self.shapes, counts, strict=True)
        ]

    def _require_epochs(self, epochs: int) -> None:
        phases = len(self._parse_phases())
        if epochs < phases:
            raise ValueError(
                f"{phases} phases need an epoch each, and there are {epochs} epochs of {self.steps_per_epoch} steps. "
                "Give more `steps`, or a smaller `steps_per_epoch`."
            )

    @classmethod
    def _default_of(cls, name: str) -> object:
        return getattr(cls, name)  # a dataclass keeps a field's default there

    def unused(self) -> set[str]:
        """As `Settings.unused`."""
        unused = super().unused() | (set(_OF_CORPUS) if self.prepared is not None else set())
        unused |= {"size", "vocab_size", "lowercase"} if self.init_from else set()
        follows = self.recipe in recipe_names() and not self.differences_from_recipe()
        return unused if follows else unused | {"recipe"}

    def differences_from_recipe(self) -> list[str]:
        """The names of the settings that differ from those of the `recipe`. The comparison leaves out the seed, the
        precision, settings that do not change the model, and settings for reading the corpus.

        Raises:
          ValueError: there is no such recipe.
        """
        ours, theirs = self.completed(), self._recipe().completed()
        names = [field.name for field in dataclasses.fields(theirs) if field.name not in _NOT_OF_A_RECIPE]
        return [name for name in names if getattr(ours, name) != getattr(theirs, name)]

    def _recipe(self) -> "PretrainingSettings":
        recipe = read_settings(recipe_file(cast(str, self.recipe)), check=False)
        return cast(PretrainingSettings, recipe)

    @property
    def shares(self) -> list[float]:
        """The share of the steps of each phase."""
        return [share for _, share in self._parse_phases()]

    def _whole_epochs(self, steps: int) -> int:
        return -(-steps // self.steps_per_epoch) * self.steps_per_epoch

    def completed(self: _Own) -> _Own:
        """These settings, with values for those that were not given, and with steps that make whole epochs."""
        steps = self._whole_epochs(self.steps or self.default_steps)
        glue_after = 0 if self.kind == "electra" else steps // 2
        return dataclasses.replace(
            self,
            block_size=self.block_size if self.phases else self.block_size or 128,
            steps=steps,
            learning_rate=self.learning_rate or self.default_learning_rate,
            precision=self.precision or "auto",
            glue_prob=GLUE_PROB if self.glue_prob is None else self.glue_prob,
            glue_after=glue_after if self.glue_after is None else self.glue_after,
        )

    @property
    def default_learning_rate(self) -> float:
        """The default learning rate: by size; 1e-4 for a model that was trained before."""
        return 1e-4 if self.init_from else self.learning_rates[self.size]

    def _parse_phases(self) -> list[tuple[int, float]]:
        phases = []
        for text in self.phases or (f"{self.block_size or 128}:1",):
            found = re.fullmatch(r"(\d+):(\d*\.?\d+)", str(text))
            if not found or int(found[1]) < 8 or float(found[2]) <= 0:
                raise ValueError(f"A phase is a block size and a share, such as 128:0.9, not {text!r}.")
            phases.append((int(found[1]), float(found[2])))
        blocks = [block for block, _ in phases]
        if blocks != sorted(set(blocks)):
            raise ValueError(f"The block sizes of `phases` must increase: {', '.join(map(str, blocks))}.")
        return phases

    def continued(self: _Own, stored: "PretrainingSettings") -> _Own:
        """Return these settings for continuing a run; settings that are not given are taken from its record.

        Args:
          stored: the settings in the record of the run.

        Raises:
          ValueError: a setting that changes the result differs from the record, or there are fewer steps than before.
        """
        differing: list[str] = []
        taken: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            ours, theirs = getattr(self, field.name), getattr(stored, field.name)
            if theirs is None and field.name in _DEFAULTS_OF_OLD_RUNS:
                theirs = _DEFAULTS_OF_OLD_RUNS[field.name]
            if field.name == "steps" or (field.metadata["free"] and field.name != "corpus_name"):
                continue
            if ours is None or (field.name, ours) == ("precision", "auto"):
                taken[field.name] = theirs
            elif ours != theirs and not field.metadata["free"]:
                differing.append(f"`{field.name}` is {_plain(ours)} and was {_plain(theirs)}")
        taken["planned_steps"] = stored.planned_steps or stored.steps
        if self.steps is None and self.hours in (None, stored.hours):
            taken["steps"] = stored.steps
        elif self.steps is None:
            before = "not given" if stored.hours is None else f"{stored.hours:g}"
            differing.append(f"`hours` is {self.hours:g} and was {before} (more `steps` extend a run)")
        elif stored.steps is not None and self._whole_epochs(self.steps) < stored.steps:
            differing.append(f"`steps` is {self.steps} and was {stored.steps}")
        taken["hours"] = stored.hours if self.hours is None else self.hours
        if differing:
            raise ValueError(
                f"The output holds a run with other settings: {'; '.join(differing)}. Choose another output, or start "
                "this run anew with resume=False, which deletes its checkpoints."
            )
        return dataclasses.replace(self, **taken)


@dataclass(frozen=True, kw_only=True)
class BertSettings(PretrainingSettings):
    """Settings for pretraining a BERT.

    Args:
      objective: Predict masks and next sentences; or only masks, for documents of a single sentence.
      init_from: A BERT checkpoint to continue from, with its tokenizer: a folder or a name on the Hub.
    """

    kind: ClassVar[str] = "bert"
    learning_rates: ClassVar[dict[str, float]] = LEARNING_RATES

    size: BertSize = setting("tiny")
    objective: Objective = setting("mlm+nsp")
    init_from: str | None = setting(None, private=True)
    output: Path = setting(Path("output/bert"), private=True)

    def check(self) -> None:
        super().check()
        _require_checkpoint("init_from", self.init_from, ("bert",), self.output)


@dataclass(frozen=True, kw_only=True)
class ElectraSettings(PretrainingSettings):
    """Settings for pretraining an ELECTRA.

    Args:
      init_from: An ELECTRA to continue from: a folder that this package wrote, or a discriminator's folder or name.
      init_generator_from: The generator's folder or name, if init_from does not include it.
      disc_weight: Weight of the discriminator's loss; the generator's is 1.
    """

    kind: ClassVar[str] = "electra"
    learning_rates: ClassVar[dict[str, float]] = ELECTRA_LEARNING_RATES

    size: ElectraSize = setting("tiny")
    objective: ClassVar[str] = "rtd"
    init_from: str | None = setting(None, private=True)
    init_generator_from: str | None = setting(None, private=True)
    disc_weight: float = setting(50.0, above=0)
    output: Path = setting(Path("output/electra"), private=True)

    def check(self) -> None:
        super().check()
        if self.init_generator_from and not self.init_from:
            raise ValueError("`init_generator_from` needs `init_from`, the discriminator's checkpoint.")
        _require_checkpoint("init_from", self.init_from, ("electra",), self.output)
        _require_checkpoint("init_generator_from", self.init_generator_from, ("electra",), self.output)
        if self.init_from:
            from keras_pretrain.models.loading import find_electra

            find_electra(self.init_from, self.init_generator_from)


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(PretrainingSettings):
    """Settings for adapting a checkpoint to other text.

    Args:
      model: The BERT or ELECTRA checkpoint to adapt: a folder or a name on the Hub.
      objective: The training objective of a BERT. Default: mlm if most documents are a single sentence, else mlm+nsp.
      add_tokens: A file of new words or pieces of words (##), one per line.
      new_tokens: Add this number of new wordpieces, the most frequent ones of the corpus.
      task_train: Labelled texts on which a classifier is trained, from the model before and after, to compare both.
      task_validation: Another file of labelled texts, or the share of task_train for validation.
      task_text_column: The column of task_train that holds the text.
      task_label_column: The column of task_train that holds the label.
      task_group_column: Examples of one group stay together on one side of the split.
      task_keep_labels: The labels to keep; examples with other labels are left out.
      task_epochs: Epochs of fine-tuning.
      task_seeds: Number of fine-tuning runs. The first one uses `seed`, the next one `seed` + 1, and so on.
    """

    kind: ClassVar[str] = "adapt"
    default_steps: ClassVar[int] = 1000

    model: str = setting(private=True)
    prepared: ClassVar[None] = None  # type: ignore[misc]  # no setting of this record
    vocab_size: ClassVar[None] = None  # type: ignore[misc]
    lowercase: ClassVar[bool] = False  # type: ignore[misc]
    strategy: Literal["one", "mirrored"] = setting("one", free=True)
    objective: Objective | None = setting(None)
    add_tokens: Path | None = setting(None, private=True)
    new_tokens: int | None = setting(None, least=1)
    task_train: Path | None = setting(None, private=True)
    task_validation: str = setting("0.1", private=True)
    task_text_column: str = setting("text", private=True)
    task_label_column: str = setting("label", private=True)
    task_group_column: str | None = setting(None, private=True)
    task_keep_labels: tuple[str, ...] | None = setting(None, private=True)
    task_epochs: int = setting(3, free=True, least=1)
    task_seeds: int = setting(3, free=True, least=1)
    output: Path = setting(Path("output/adapted"), private=True)

    def check(self) -> None:
        super().check()
        _require_checkpoint("model", self.model, ("bert", "electra"), self.output)
        if self.add_tokens and self.new_tokens:
            raise ValueError("`add_tokens` and `new_tokens` exclude each other: give one of them.")
        for name in ("add_tokens", "task_train"):
            _require_file(name, getattr(self, name))
        if not isinstance(self.task_held_out, float):
            _require_file("task_validation", self.task_held_out)

    @property
    def init_from(self) -> str:
        """The checkpoint to continue from, as in `BertSettings`; here, it is `model`."""
        return self.model

    @property
    def task_held_out(self) -> float | Path:
        """`task_validation` as a share or as a file."""
        return _share_or_file(self.task_validation)


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(Settings):
    """Settings of fine-tuning.

    Args:
      model: A BERT or ELECTRA checkpoint: a folder or a name on the Hub.
      train: A .csv, .tsv, .json, .jsonl (each also .gz) or .parquet file.
      validation: Another such file, or the share of train for validation.
      text_column: The column that holds the text.
      pair_column: The column that holds the second text, if there are pairs.
      label_column: The column that holds the label.
      group_column: Examples of one group stay together on one side of the split.
      keep_labels: The labels to keep; examples with other labels are left out.
      regression: Labels are numbers to predict.
      data_name: The name of the labelled texts in the model card.
      epochs: The maximum number of passes over train.
      batch_size: The global batch size, summed over all replicas.
      learning_rate: The peak. Default: by the encoder's size.
      layerwise_decay: Each layer's learning rate is this factor times that of the layer above; 1 for equal rates.
      warmup_ratio: Share of the steps in which the learning rate rises.
      weight_decay: Weight decay per step, multiplied by the learning rate.
      dropout: Dropout rate of hidden states and attention.
      token_dropout: Probability that a token of train is replaced by [MASK].
      class_weight: Weights of the classes in the loss.
      patience: Stop after this number of epochs without improvement.
      max_length: The maximum number of tokens; longer examples are truncated.
      seeds: Number of runs. The first one uses `seed`, the next one `seed` + 1, and so on.
      seed: The first seed.
      cleaning: How to clean texts. Default: the cleaning of the pretraining text, else none.
      precision: Use bfloat16 for processors with AMX, mixed_bfloat16 for GPUs. Default: auto, the fastest.
      strategy: One device, or all GPUs of this machine.
      resume: Keep finished seeds and train only the others. Otherwise they are deleted.
      output: The folder of the classifier.
      overwrite: Replace files in the output that this version did not write.
    """

    kind: ClassVar[str] = "finetune"

    model: str = setting(private=True)
    train: Path = setting(private=True)
    output: Path = setting(private=True)
    validation: str = setting("0.1", private=True)
    text_column: str = setting("text", private=True)
    pair_column: str | None = setting(None, private=True)
    label_column: str = setting("label", private=True)
    group_column: str | None = setting(None, private=True)
    keep_labels: tuple[str, ...] | None = setting(None, private=True)
    regression: bool = setting(False)
    data_name: str | None = setting(None)
    epochs: int = setting(3, least=1)
    batch_size: int = setting(32, least=1)
    learning_rate: float | None = setting(None, above=0)
    layerwise_decay: float = setting(1.0, above=0, most=1)
    warmup_ratio: float = setting(0.1, least=0, most=1)
    weight_decay: float = setting(0.01, least=0)
    dropout: float = setting(0.1, least=0, below=1)
    token_dropout: float = setting(0.0, least=0, below=1)
    class_weight: Literal["balanced"] | None = setting(None)
    patience: int | None = setting(None, least=1)
    max_length: int = setting(128, least=4)
    seeds: int = setting(1, least=1)
    seed: int = setting(42, least=0, most=2**31 - 1)
    cleaning: Cleaning | None = setting(None)
    precision: Precision = setting("auto")
    strategy: Literal["one", "mirrored"] = setting("one", free=True)
    resume: bool = setting(True, free=True)
    overwrite: bool = setting(False, free=True)

    def check(self) -> None:
        _require_checkpoint("model", self.model, ("bert", "electra"), self.output)
        _require_file("train", self.train)
        if not isinstance(self.held_out, float):
            _require_file("validation", self.held_out)
        if self.regression and self.class_weight:
            raise ValueError("`class_weight` is for classes, and `regression` has none.")

    @property
    def held_out(self) -> float | Path:
        """`validation` as a share or as a file."""
        return _share_or_file(self.validation)


_NOT_PUBLISHED = (
    "overwrite", "resume", "num_proc", "checkpoint_every", "dry_run", "engine", "planned_steps", "validation_share",
)  # fmt: skip
_KINDS = {kind.kind: kind for kind in (PrepareSettings, BertSettings, ElectraSettings, AdaptSettings, FinetuneSettings)}


def read_settings(file: str | os.PathLike[str], *, check: bool = True) -> Settings:
    """Read a record that a run wrote (`run.yaml`) or that you wrote.

    Args:
      file: a YAML file with the `kind` of the record and its settings.
      check: raise an error for values out of range and missing paths. (A finished run's corpus may have been moved.)

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is not YAML, a setting does not exist, or a value is outside its range.
    """
    values = read_yaml(file)
    if values.get("kind") not in _KINDS:
        raise ValueError(f"{file} has the kind {values.get('kind')!r}; it must be one of {', '.join(_KINDS)}.")
    kind = _KINDS[values.pop("kind")]
    names = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(values.keys() - names.keys())
    if unknown:
        raise ValueError(f"{file} has the setting {unknown[0]!r}, which {kind.kind!r} does not have.")
    if check:
        return kind(**values)
    record = object.__new__(kind)
    for name, field in names.items():
        object.__setattr__(record, name, _as_type(name, field.type, values.get(name, field.default)))
    return record


class _Loader(yaml.SafeLoader):
    """Reads numbers by the rules of YAML 1.2. PyYAML follows YAML 1.1, which reads 64:0.3 as a number in base 60 and
    1e-4 as a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_NUMBERS = {"int": r"[-+]?(0|[1-9][0-9]*)", "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"}
for _name, _form in _NUMBERS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^{_form}$"), list("-+.0123456789"))


def read_yaml(file: str | os.PathLike[str]) -> dict:
    """The settings in a YAML file, without checks.

    Raises:
      FileNotFoundError: no such file.
      ValueError: it holds no YAML mapping.
    """
    try:
        values = yaml.load(Path(file).read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as YAML: {error}") from None
    except IsADirectoryError:
        raise ValueError(f"{file} is a folder; a YAML file is expected.") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold settings, a line of `name: value` for each.")
    return values


def _share_or_file(text: str) -> float | Path:
    try:
        share = float(text)
    except ValueError:
        return Path(text)
    return share if 0 < share < 1 else Path(text)


def public_name(name: str | None) -> str | None:
    """The Hub name of a model in a record; `None` for a local model, which records store as an absolute path."""
    return name if name and _HUB_NAME.fullmatch(name) else None


def require_source(setting: str, source: str) -> None:
    """Raise an error for a value that cannot be a corpus: an empty name, or a path that does not exist.

    Raises:
      ValueError, FileNotFoundError
    """
    if not source.strip():
        raise ValueError(f"`{setting}` is empty. Give a file, folder, glob or name on the Hub.")
    is_path = source.startswith(("/", ".", "~")) or source.count("/") > 1 or "." in Path(source).suffix
    if is_path and not any(sign in source for sign in "*?[") and not Path(source).expanduser().exists():
        raise FileNotFoundError(f"`{setting}`: there is no file or folder {source}.")


def _require_file(setting: str, file: Path | None) -> None:
    if file is not None and not file.is_file():
        there = "a folder" if file.is_dir() else "no file"
        raise FileNotFoundError(f"`{setting}`: {file} is {there}. Give a file.")


def _require_checkpoint(setting: str, name: str | None, kinds: tuple[str, ...], output: Path) -> None:
    """Raise an error for a checkpoint that cannot be loaded, or that the run would overwrite."""
    if name is None:
        return
    parts = [output.expanduser() / part for part in ("", "generator", "discriminator")]
    if Path(name).is_dir() and any(part.is_dir() and os.path.samefile(name, part) for part in parts):
        raise ValueError(
            f"`output` is the folder of `{setting}`, whose model would be replaced. Choose another output."
        )
    from keras_pretrain.models.loading import check_checkpoint

    try:
        check_checkpoint(name, kinds)
    except (ValueError, OSError) as error:
        raise type(error)(f"`{setting}`: {error}") from None


def _check_encoding(name: str) -> None:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError(f"There is no encoding {name!r}; utf-8 and cp949 are the usual ones.") from None


def _check_cluster(settings: PretrainingSettings) -> None:
    if "TF_CONFIG" not in os.environ:
        raise ValueError("`strategy` multiworker needs the environment variable TF_CONFIG, which names the workers.")
    try:
        json.loads(os.environ["TF_CONFIG"])
    except ValueError:
        raise ValueError("The environment variable TF_CONFIG holds no JSON.") from None
    if settings.prepared is None:
        raise ValueError("`strategy` multiworker needs `prepared`: a corpus is prepared once, not on each machine.")
    if settings.hours is not None:
        raise ValueError("`strategy` multiworker needs `steps`, not `hours`: each worker would choose its own steps.")


def _check_bounds(name: str, value: float, bounds: Mapping[str, float]) -> None:
    signs = {
        "least": ("at least", lambda bound: value >= bound),
        "most": ("at most", lambda bound: value <= bound),
        "above": ("above", lambda bound: value > bound),
        "below": ("below", lambda bound: value < bound),
    }
    wanted = [(sign, bounds[sign]) for sign in signs if sign in bounds]
    if not math.isfinite(value) or not all(signs[sign][1](bound) for sign, bound in wanted):
        expected = " and ".join(f"{signs[sign][0]} {bound:,}" for sign, bound in wanted) or "a finite number"
        raise ValueError(f"`{name}` must be {expected}, not {value}.")


def _plain(value: object) -> object:
    """Convert a value to a type that YAML can store."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _as_type(name: str, kind: Any, value: Any) -> Any:
    """Convert a setting to its type.

    Raises:
      ValueError: the value is of another type, or is not allowed.
    """
    kinds = get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else (kind,)
    if value is None and type(None) in kinds:
        return None
    kind = next(each for each in kinds if each is not type(None))
    is_bool = isinstance(value, bool)
    if get_origin(kind) is Literal:
        allowed, expected = value in get_args(kind), f"one of {', '.join(map(str, get_args(kind)))}"
    elif get_origin(kind) is tuple:
        allowed, expected = isinstance(value, (tuple, list)), "a list"
        value = tuple(map(str, value)) if allowed else value
    elif kind is Path:
        allowed, expected = isinstance(value, (str, os.PathLike)), "a path"
        value = Path(value) if allowed else value
    elif kind is float:
        allowed, expected = isinstance(value, Real) and not is_bool, "a number"
        value = float(value) if allowed else value
    elif kind is int:
        allowed, expected = isinstance(value, Integral) and not is_bool, "a whole number"
    elif kind is bool:
        allowed, expected = is_bool, "true or false"
    else:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        allowed, expected = isinstance(value, str), "a text"
    if not allowed:
        raise ValueError(f"`{name}` must be {expected}, not {value!r}.")
    return value
