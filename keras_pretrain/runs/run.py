"""`Run`: carries out a pretraining run, from its settings to the finished model."""

import contextlib
import dataclasses
import logging
import os
import shutil
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import tensorflow as tf
import tf_keras
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from keras_pretrain.corpus.cleaning import choose_cleaning
from keras_pretrain.corpus.loading import load_corpus
from keras_pretrain.corpus.samples import load_sample
from keras_pretrain.corpus.sentences import choose_backend
from keras_pretrain.export.checkpoint import save_checkpoint
from keras_pretrain.features.batching import batches_behind, packed_row_count, to_tf_dataset
from keras_pretrain.features.building import build_features, choose_objective
from keras_pretrain.features.masking import GLUE_PROB
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.models.bert import BertPretrainer
from keras_pretrain.models.electra import ElectraPretrainer
from keras_pretrain.models.loading import find_checkpoint
from keras_pretrain.models.precision import choose_precision
from keras_pretrain.preparation import Prepared, load_prepared, prepare_sentences
from keras_pretrain.runs.metrics import require_output, write_metrics, write_record
from keras_pretrain.runs.recipes import curves_file, recipe_names, recipe_results
from keras_pretrain.runs.settings import (
    RECORD,
    AdaptSettings,
    ElectraSettings,
    FinetuneSettings,
    Objective,
    Phase,
    Precision,
    PretrainingSettings,
    read_settings,
)
from keras_pretrain.system import memory_bytes
from keras_pretrain.tokenization import train_tokenizer
from keras_pretrain.training.balance import BalanceWatch
from keras_pretrain.training.callbacks import FillMaskPreview, ReplacedTokensPreview, for_run
from keras_pretrain.training.forecast import Pace, measure
from keras_pretrain.training.optimization import create_optimizer
from keras_pretrain.training.progress import format_duration
from keras_pretrain.training.reference import Reference, ReferenceWatch, read_reference

logger = logging.getLogger(__name__)

_Settings = TypeVar("_Settings", PretrainingSettings, FinetuneSettings)

_VALIDATIONS = 10  # validations per run; fewer if they would take more than validation_share of the time
_MEASURED_SECONDS = 3.0
_SAVING_SECONDS_PER_BYTE = 1 / 200e6  # to write the model and the last checkpoint, at 200 MB/s


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Make the strategy that the setting `strategy` names. Call this before any other use of TensorFlow."""
    strategies = {
        "one": tf.distribute.get_strategy,
        "mirrored": tf.distribute.MirroredStrategy,
        "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
    }
    return strategies[name]()


def with_precision(settings: _Settings) -> _Settings:
    """Return the settings, with the precision chosen for this machine if it is `"auto"` or not given.

    Raises:
      ValueError: this machine does not compute correctly in the given precision.
    """
    precision = settings.precision or "auto"
    gpus = tf.config.get_visible_devices("GPU")
    if precision == "auto" and settings.strategy == "multiworker" and not gpus:
        logger.info("Precision: float32: the processors of several machines may differ.")
        precision = "float32"
    if precision.startswith("mixed_") and not gpus:
        logger.info("Precision %s is slow on this machine: no GPU is visible. Leave it out.", precision)
    try:
        return dataclasses.replace(settings, precision=cast(Precision, choose_precision(precision)))
    except ValueError as error:
        raise ValueError(
            f"`precision` is {precision}. {error} A run that was begun with it needs a machine like its first."
        ) from None


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Set Keras' policy for a precision, and restore the old policy at the end of the block."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(precision if precision.startswith("mixed_") else "float32")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def compile_precision(precision: str) -> str:
    """Return the argument `precision` for `compile`. It is `"float32"` if Keras' policy sets a mixed precision."""
    return "float32" if precision.startswith("mixed_") else precision


class Run:
    """A pretraining run: makes a trained checkpoint, with its record, metrics and card, from text or a prepared folder.

        metrics = Run(BertSettings(corpus="my_texts.jsonl.gz", size="small", output=Path("my_bert"))).carry_out()

    The output folder holds the checkpoint, `run.yaml` (the record of settings), `metrics.json`, `history.csv`,
    `training_curves.png`, `previews.txt` and `run/` (the checkpoints of the run). The same settings continue an
    interrupted run; more `steps` extend it.

    Args:
      settings: a `BertSettings`, `ElectraSettings` or `AdaptSettings`.
      begun: the `time.perf_counter()` from which `hours` are counted. Default: now.

    Raises:
      ValueError, FileNotFoundError, FileExistsError: settings that cannot be carried out, or an output folder with
        another run or with other files. Everything that does not need the corpus is checked here.
    """

    settings: PretrainingSettings
    prepared: Prepared | None
    model: BertPretrainer | ElectraPretrainer
    tokenizer: PreTrainedTokenizerBase
    documents: dict[str, int]
    preview: FillMaskPreview | ReplacedTokensPreview

    def __init__(self, settings: PretrainingSettings, *, begun: float | None = None) -> None:
        self._begun = time.perf_counter() if begun is None else begun
        self.seconds: dict[str, float] = {}
        self.output = Path(settings.output).expanduser()
        require_output(settings)
        self.prepared, settings = _open_prepared(settings)
        stored = self._read_record(settings)
        if stored:
            self.settings = settings.continued(stored)
        else:
            self.settings = _for_what_is_installed(dataclasses.replace(settings, planned_steps=None))
        self.strategy = make_strategy(self.settings.strategy)
        self.is_chief = self.strategy.extended.should_checkpoint  # only the chief writes files and shows progress
        self.model = self.tokenizer = self.documents = cast(Any, None)  # until they are loaded or made

    def carry_out(self) -> dict[str, float]:
        """Prepare, train and save. Returns the last value of each metric, and `tokens_per_second`."""
        self.settings = with_precision(self.settings)
        if self.settings.glue_prob is None:
            self.settings = dataclasses.replace(self.settings, glue_prob=GLUE_PROB)
        logger.info("%s", self._summary())
        ignored = [name for name in ("size", "vocab_size") if name in self.settings.unused()]
        if self.settings.init_from and ignored:
            logger.info("A given model has a size and a vocabulary of its own: %s have no effect.", ", ".join(ignored))
        tf_keras.utils.set_random_seed(self.settings.seed)
        with policy(self.settings.precision or "auto"):
            self._load_model()
            features = self.prepare()
            data = self._batch(features)
            self._make_model(features[0]["train"])
            self._decide(data)
            figures = self.train(data)
            if self.is_chief:
                self.save(figures)
                logger.info("%s is ready.\n%s", self.settings.output, self.preview.render())
        return figures

    def _read_record(self, settings: PretrainingSettings) -> PretrainingSettings | None:
        file = self.output / RECORD
        if not settings.resume or not file.exists():
            return None
        return cast(PretrainingSettings, read_settings(file, check=False))  # `require_output` has checked the kind

    def _load_model(self) -> None:
        """Load the checkpoint to continue from. An unsuitable one causes an error now, not after the preparation."""
        settings, name = self.settings, self.settings.init_from
        if name is None:
            return
        checkpoint = find_checkpoint(name)
        common: dict[str, Any] = {
            "seed": settings.seed,
            "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        }
        with self.strategy.scope():
            if checkpoint.model_type == "electra":
                generator = getattr(settings, "init_generator_from", None)
                weights = {"disc_weight": settings.disc_weight} if hasattr(settings, "disc_weight") else {}
                self.model = ElectraPretrainer.from_pretrained(
                    name, generator, mask_prob=settings.mask_prob, glue_prob=settings.glue_prob, **weights, **common
                )
                self.tokenizer = self.model.tokenizer
            else:
                self.model = BertPretrainer.from_pretrained(name, mask_prob=settings.mask_prob, **common)
                self.tokenizer = checkpoint.tokenizer()
        self.model.require_fit(self.tokenizer, max(block for block, _ in settings.shapes))
        if settings.dropout is not None:
            networks = [self.model.discriminator, self.model.generator] if self.objective == "rtd" else [self.model]
            for network in networks:
                network.config.hidden_dropout_prob = settings.dropout
                network.config.attention_probs_dropout_prob = settings.dropout

    @property
    def objective(self) -> str:
        """The objective of the run: `"mlm+nsp"`, `"mlm"` or `"rtd"`. In an adaptation, it may be `None` until `prepare`
        has chosen it."""
        return "rtd" if isinstance(self.model, ElectraPretrainer) else cast(str, self.settings.objective)

    def prepare(self) -> list:
        """Make the examples of each phase from the text; trains a tokenizer if there is none."""
        settings = self.settings
        if self.prepared:
            self.prepared.require_fit(self.objective, self.tokenizer)
            self.tokenizer = self.prepared.tokenizer
            self.documents = {name: self.prepared.report[name]["documents"] for name in self.prepared.features}
            return [self.prepared.features]
        with self._clock("corpus"):
            names = ("text_column", "sample_by", "encoding", "dialect", "on_bad_rows", "drop_duplicates", "seed")
            reading = {name: getattr(settings, name) for name in names}
            reading |= {} if settings.corpus else {"text_column": "text"}
            self.corpus = load_corpus(settings.corpus or load_sample(settings.language), **reading)
            self.documents = {name: len(part) for name, part in self.corpus.items()}
            if "validation" not in self.corpus:
                raise ValueError("The corpus has no validation split: it needs at least four documents.")
        if self.model is not None and self.objective is None:
            self.settings = settings = dataclasses.replace(
                cast(AdaptSettings, settings), objective=cast(Objective, self._choose_objective())
            )
        with self._clock("sentences"):
            names = ("language", "cleaning", "backend", "num_proc")
            how = {name: getattr(settings, name) for name in names} | {"tokenizer": self.tokenizer}
            self.sentences = prepare_sentences(self.corpus, objective=self.objective, **how)
        with self._clock("tokenizer"):
            if self.tokenizer is None:
                how = {name: getattr(settings, name) for name in ("vocab_size", "lowercase")}
                self.tokenizer = train_tokenizer(self.sentences["train"], **how)
            self._change_tokenizer()
        with self._clock("examples"):
            building: dict[str, Any] = {
                "objective": self.objective,
                "line_by_line": settings.line_by_line,
                "dupe_factor": settings.passes,
                "seed": settings.seed,
            }
            return [
                build_features(self.sentences, self.tokenizer, block_size=block, **building)
                for block, _ in settings.shapes
            ]

    def _choose_objective(self) -> str:
        return "mlm" if self.settings.line_by_line else choose_objective(self.corpus["train"])

    def _change_tokenizer(self) -> None:
        """Does nothing; a subclass that adds tokens overrides it. It is called before examples are built."""

    def _batch(self, features: list) -> list[tuple]:
        """The training and validation batches of each phase."""
        if self.settings.packed is None:
            self.settings = dataclasses.replace(self.settings, packed=self._packing_pays(features))
        settings, tokenizer, data = self.settings, self.tokenizer, []
        for examples, (_, batch_size) in zip(features, settings.shapes, strict=True):
            how: dict[str, Any] = {"batch_size": batch_size, "mask_prob": settings.mask_prob, "seed": settings.seed}
            how |= {"glue_prob": settings.glue_prob, "packed": settings.packed}
            train = to_tf_dataset(examples["train"], tokenizer, **how)
            how |= {"glue_prob": 0.0, "training": False}  # in all runs, to compare their losses
            data.append((train, to_tf_dataset(examples["validation"], tokenizer, **how)))
        return data

    def _packing_pays(self, features: list) -> bool:
        """Whether packing saves at least a tenth of the rows in some phase, and leaves enough rows for a batch in all
        phases."""
        pays = False
        for examples, (block_size, batch_size) in zip(features, self.settings.shapes, strict=True):
            rows = packed_row_count(examples["train"], block_size)
            pays = pays or rows <= 0.9 * len(examples["train"])
            if rows < batch_size:
                return False
        if pays:
            logger.info("Examples are packed: several short ones share a row.")
        return pays

    def _make_model(self, examples: Dataset) -> None:
        """Make a new model, if the run does not continue from one."""
        settings = self.settings
        if self.model is not None:
            return
        options: dict[str, Any] = {"mask_prob": settings.mask_prob, "seed": settings.seed}
        options |= {"glue_prob": settings.glue_prob} if settings.kind == "electra" else {}
        options["gradient_accumulation_steps"] = settings.gradient_accumulation_steps
        if settings.dropout is not None:
            options |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), settings.dropout)
        kind: type[BertPretrainer] | type[ElectraPretrainer] = BertPretrainer
        if isinstance(settings, ElectraSettings):
            kind, options["disc_weight"] = ElectraPretrainer, settings.disc_weight
        with self.strategy.scope():
            self.model = kind.from_size(settings.size, self.tokenizer, features=examples, **options)

    def _compile(self, settings: PretrainingSettings) -> None:
        names = ("learning_rate", "schedule", "warmup_ratio", "weight_decay", "epsilon", "beta_1", "beta_2")
        with self.strategy.scope():
            optimizer = create_optimizer(
                num_train_steps=cast(int, settings.steps), **{name: getattr(settings, name) for name in names}
            )
            if getattr(self.model, "optimizer", None) is None:
                self.model.compile(optimizer, precision=compile_precision(settings.precision or "auto"))
            else:
                self.model.replace_optimizer(optimizer)

    def _decide(self, data: list[tuple]) -> None:
        """Measure a few steps. From their duration, choose the number of steps for `hours`, and the interval between
        validations."""
        paces: list[Pace | None] = []
        if self.settings.steps is None and self.settings.hours is not None:
            self._compile(self.settings.completed())
            measured = [_measure(self.model, *each) for each in data]
            paces = [*measured]
            self.settings = dataclasses.replace(self.settings, steps=self._steps_in_hours(measured))
        self.settings = self.settings.completed()
        if self.objective == "rtd" and self.settings.glue_after:
            self.settings = dataclasses.replace(self.settings, glue_after=0)  # ELECTRA has one glue_prob for all steps
        self._compile(self.settings)
        if self.settings.strategy == "multiworker":  # each worker would measure another pace
            every = self.settings.validation_every or -(-self._epochs // _VALIDATIONS)
            self.settings = dataclasses.replace(self.settings, validation_every=every)
            return
        left = self._left()
        paces = paces or [_measure(self.model, *each) if n else None for each, n in zip(data, left, strict=True)]
        if not any(left):
            every = self.settings.validation_every or self._epochs
            self.settings = dataclasses.replace(self.settings, validation_every=every)
            return
        if self.settings.validation_every is None:
            every = -(-self._epochs // self._choose_validations(paces))
            self.settings = dataclasses.replace(self.settings, validation_every=every)
        found = [batches_behind(train)[0] for train, _ in data]
        self._forecast(paces, [each.padding for each in found if each is not None])

    @property
    def _epochs(self) -> int:
        return cast(int, self.settings.steps) // self.settings.steps_per_epoch

    def _choose_validations(self, paces: list[Pace | None]) -> int:
        """The number of validations of the run, not counting those at the ends of phases other than the last one."""
        training = sum(count * pace.seconds_per_step for count, pace in zip(self._left(), paces, strict=True) if pace)
        once = max(pace.seconds_per_validation for pace in paces if pace)
        allowed = int(self.settings.validation_share * training / max(once, 1e-9)) - (len(paces) - 1)
        return max(1, min(_VALIDATIONS, self._epochs, allowed))

    def _left(self) -> list[int]:
        """The number of steps that are not trained yet, for each phase."""
        return [max(0, phase.steps - self._done(phase)) for phase in self.settings.plan()]

    def _done(self, phase: Phase) -> int:
        steps = [int(path.name[5:]) for path in self.output.glob(f"run{phase.name}/step-*") if path.name[5:].isdigit()]
        return max(steps, default=0) if self.settings.resume else 0

    def _steps_in_hours(self, paces: list[Pace]) -> int:
        """The number of whole epochs that fit into `hours`."""
        settings, spent = self.settings, time.perf_counter() - self._begun
        hours = cast(float, settings.hours)
        budget = 3600 * hours - spent - self._seconds_to_finish(paces[-1])
        per_step = sum(share * pace.seconds_per_step for share, pace in zip(settings.shares, paces, strict=True))
        epoch = per_step * settings.steps_per_epoch
        validation = max(pace.seconds_per_validation for pace in paces)
        most = min(_VALIDATIONS * validation, settings.validation_share * budget)
        epochs = int((budget - max(len(paces) * validation, most)) / epoch)
        if epochs < len(paces):
            raise ValueError(
                f"`hours` ({hours:g}) are too few: {spent:,.0f} s have passed, and an epoch of "
                f"{settings.steps_per_epoch} steps takes {epoch:,.0f} s. Give more hours, a smaller model or a "
                "smaller `steps_per_epoch`."
            )
        return epochs * settings.steps_per_epoch

    def _seconds_to_finish(self, pace: Pace) -> float:
        return 5 + pace.checkpoint_bytes * _SAVING_SECONDS_PER_BYTE

    def _forecast(self, paces: list[Pace | None], padding: list[float]) -> None:
        """Report how long the run will take and how much memory and disk it needs; raise an error if these are not
        enough."""
        settings, seconds, every = self.settings, 0.0, self._validation_every
        for phase, pace, count, padding_share in zip(settings.plan(), paces, self._left(), padding, strict=True):
            if count and pace:
                epochs = count / settings.steps_per_epoch
                seconds += count * pace.seconds_per_step
                seconds += -(-epochs // every) * pace.seconds_per_validation
                rate = 1 / pace.seconds_per_step
                tokens = phase.batch_size * phase.block_size * (1 - padding_share)
                logger.info(
                    "%s steps of %d × %d positions, %.0f%% of them padding: %s tokens, %s a step at a learning rate of "
                    "up to %g. %.3g steps and %s tokens a second; a validation of %.1f s every %d steps.",
                    f"{count:,}", phase.batch_size, phase.block_size, 100 * padding_share, f"{count * tokens:,.0f}",
                    f"{tokens:,.0f}", settings.learning_rate,
                    rate, f"{rate * tokens:,.0f}",
                    pace.seconds_per_validation, every * settings.steps_per_epoch,
                )  # fmt: skip
        self.seconds["forecast"] = seconds
        known = next(pace for pace in paces if pace)
        disk = (2 * len(paces) + 2) * known.checkpoint_bytes  # two per phase, one being written, the model
        free = shutil.disk_usage(_existing(settings.output)).free
        if self.is_chief:
            logger.info(
                "Training will take about %s (until %s), %.1f of %.1f GiB of memory and %.2f of %.1f GiB of disk.",
                format_duration(seconds), time.strftime("%H:%M", time.localtime(time.time() + seconds)),
                known.memory / 2**30, memory_bytes() / 2**30, disk / 2**30, free / 2**30,
            )  # fmt: skip
        if disk > free:
            raise OSError(f"`output`: the disk of {settings.output} has too little room. Make room, or choose another.")

    def _summary(self) -> str:
        """The settings to print at the start, without those that are not set yet."""
        lines = self.settings.to_yaml().splitlines()
        shown = ", ".join(line.strip() for line in lines if not line.endswith((": null", ": false")))
        return textwrap.fill(f"Settings: {shown}", 120, subsequent_indent="  ")

    def train(self, data: list[tuple]) -> dict[str, float]:
        """Train all phases. Returns the last value of each metric, and `tokens_per_second`."""
        settings, phases = self.settings, self.settings.plan()
        figures: dict[str, float] = {}
        without_glue, follows_recipe = cast(int, settings.glue_after), self._compare_with_recipe()
        for phase, (train, validation) in zip(phases, data, strict=True):
            batches = batches_behind(train)[0]
            if batches is not None:
                batches.glue_after = max(0, without_glue)
            without_glue -= phase.steps
            if phase.name:
                logger.info("%d steps of %d blocks of %d tokens.", phase.steps, phase.batch_size, phase.block_size)
            self.preview = self._make_preview(phase, validation)
            reference = self._find_reference(phase)
            watches: list[tf_keras.callbacks.Callback] = []
            if reference and follows_recipe:
                watches.append(ReferenceWatch(reference))
            if self.objective == "rtd" and phase is phases[-1]:
                watches.append(BalanceWatch(phase.steps))
            callbacks = for_run(
                settings.output,
                [self.preview, *watches],
                part=phase.name,
                checkpoint_every=settings.checkpoint_every,
                resume=settings.resume,
                tensorboard=settings.tensorboard,
                overwrite=settings.overwrite,
                is_chief=self.is_chief,
                reference=reference,
            )
            if self.is_chief:
                callbacks.insert(2, _Recording(self.settings, is_first=phase is phases[0]))
            with self._clock("training"):
                history = self.model.fit(
                    train.repeat(),
                    epochs=phase.steps // settings.steps_per_epoch,
                    steps_per_epoch=settings.steps_per_epoch,
                    validation_data=validation,
                    validation_freq=self._validated_epochs(phase),
                    callbacks=callbacks,
                    verbose="auto" if self.is_chief else 0,
                )
            figures |= {name: values[-1] for name, values in history.history.items()}
            speed = callbacks[0].tokens_per_second
            figures["tokens_per_second"] = speed or figures.get("tokens_per_second", 0.0)
        return figures

    def _find_reference(self, phase: Phase) -> Reference | None:
        """The curves of the run's recipe for a phase; `None` if there are none."""
        name = self.settings.recipe
        file = curves_file(name, phase.name) if name in recipe_names() else None
        return read_reference(file, name) if file else None

    def _compare_with_recipe(self) -> bool:
        """Whether the run should reach the losses of its recipe, because the settings and the number of documents are
        the same. Otherwise, the log says what differs."""
        name = self.settings.recipe
        if name is None:
            return False
        if name not in recipe_names():
            logger.info("This version has no recipe %s, so there are no curves to compare this run with.", name)
            return False
        differences = self.settings.differences_from_recipe()
        if sum(self.documents.values()) != recipe_results(name)["documents"]:
            differences.append("corpus")
        if differences and self.is_chief:
            logger.info(
                "This run differs from the recipe %s in: %s. Its losses are therefore not compared with the recipe's.",
                name, ", ".join(differences),
            )  # fmt: skip
        return not differences

    def _validated_epochs(self, phase: Phase) -> list[int]:
        epochs = phase.steps // self.settings.steps_per_epoch
        return sorted({*range(self._validation_every, epochs + 1, self._validation_every), epochs})

    @property
    def _validation_every(self) -> int:
        return cast(int, self.settings.validation_every)  # `_decide` has chosen it

    def _make_preview(self, phase: Phase, validation: tf.data.Dataset) -> FillMaskPreview | ReplacedTokensPreview:
        every, settings = max(1, cast(int, self.settings.steps) // 5), self.settings
        kind = ReplacedTokensPreview if isinstance(self.model, ElectraPretrainer) else FillMaskPreview
        path = self.output / f"previews{phase.name}.txt"
        return kind(
            validation, self.tokenizer, every, log_dir=settings.tensorboard, path=path, overwrite=settings.overwrite
        )

    def save(self, figures: dict) -> None:
        """Write metrics, checkpoint and card, in this order, because the card takes its facts from the metrics."""
        self.seconds["total"] = time.perf_counter() - self._begun
        made = {"settings": self._preparation_settings()}
        write_metrics(self.settings, figures | made, documents=self.documents, seconds=self.seconds)
        save_checkpoint(self.model, self.tokenizer, self.settings.output, overwrite=self.settings.overwrite)

    def _preparation_settings(self) -> dict[str, object]:
        """How the examples of a prepared folder were made. (The model card describes the tokenizer elsewhere.) A folder
        of an older version records fewer settings."""
        if self.prepared is None:
            return {}
        made = self.prepared.report["settings"]
        names = ("backend", "drop_duplicates", "line_by_line")
        passes = {} if made.get("line_by_line") else {"passes": made["dupe_factor"]}
        return {name: made[name] for name in names if name in made} | passes

    @contextlib.contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun


def _for_what_is_installed(settings: PretrainingSettings) -> PretrainingSettings:
    """Check that the libraries for the settings are installed. For the sample, replace a default that needs a missing
    library; for any other corpus, a missing library is an error.

    Raises:
      ModuleNotFoundError: the message names the library and the extra that has it.
    """
    if settings.prepared is not None:
        return settings
    found: dict[str, Any] = {}
    unchosen = "mlm" if settings.line_by_line else "mlm+nsp"
    try:
        if settings.objective is not None or settings.corpus is None:
            choose_backend(settings.language, settings.backend, settings.objective or unchosen)
    except ModuleNotFoundError as error:
        if settings.corpus is not None or settings.backend is not None:
            raise
        found["backend"], reason = "rules", error
    try:
        if settings.init_from is None or settings.cleaning is not None:
            choose_cleaning(settings.language, settings.cleaning)
    except ModuleNotFoundError as error:
        if settings.corpus is not None or settings.cleaning is not None:
            raise
        found["cleaning"], reason = "prose", error
    if found:
        chosen = ", ".join(f"{name}: {value}" for name, value in found.items())
        logger.info("For the sample, %s. (%s)", chosen, reason)
    return dataclasses.replace(settings, **found)


class _Recording(tf_keras.callbacks.Callback):
    """Writes the record, after `Checkpointing` has locked the folder and checked that the run can continue there.

    Without `resume`, it first deletes the files of the earlier run, also of other phases, except files that have
    changed since.
    """

    def __init__(self, settings: PretrainingSettings, *, is_first: bool) -> None:
        super().__init__()
        self._settings, self._deletes = settings, is_first and not settings.resume

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        output = Path(self._settings.output).expanduser()
        earlier = [(path, "checkpointing") for path in output.glob("run-*") if path.is_dir()]
        earlier += [(output, writer) for writer in ("history", "curves", "previews")]
        for path, writer in earlier if self._deletes else ():
            folder = OwnedFolder(path, writer)
            folder.delete(folder.names())
        write_record(self._settings)


def _open_prepared(settings: PretrainingSettings) -> tuple[Prepared | None, PretrainingSettings]:
    """Load the prepared folder, if there is one. Returns it, and the settings with its block size and language."""
    if settings.prepared is None:
        return None, settings
    prepared = load_prepared(settings.prepared)
    made = prepared.report["settings"]
    if settings.block_size not in (None, made["block_size"]):
        raise ValueError(
            f"`prepared`: {prepared.directory} has blocks of {made['block_size']} tokens, and `block_size` is "
            f"{settings.block_size}. Leave `block_size` out."
        )
    if "validation" not in prepared.features:
        raise ValueError(f"`prepared`: {prepared.directory} has no validation split; prepare it with one.")
    return prepared, dataclasses.replace(settings, block_size=made["block_size"], language=made["language"])


def _measure(model: tf_keras.Model, train: tf.data.Dataset, validation: tf.data.Dataset) -> Pace:
    """Measure the pace of a few steps. If they are fast, measure again with about three seconds of steps."""
    pace = measure(model, train, validation)
    steps = int(_MEASURED_SECONDS / pace.seconds_per_step)
    return pace if steps <= 10 else measure(model, train, validation, steps=min(steps, 200), validation_batches=20)


def _existing(path: str | os.PathLike[str]) -> Path:
    """The path itself, or else the nearest existing folder above it."""
    path = Path(path).expanduser().absolute()
    return next(each for each in (path, *path.parents) if each.exists())
