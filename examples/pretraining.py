"""What the pretraining examples share: arguments, text → batches, training, and the figures of a run."""

import argparse
import json
import math
import os
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would bury ours

import keras_pretrain as kp  # before TensorFlow: it makes tf.keras legacy Keras

# isort: split
import tensorflow as tf

from keras_pretrain.corpus.cleaning import CLEANINGS
from keras_pretrain.export.checkpoint import require_writable
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.tokenization import cleaning_of
from keras_pretrain.training.optimization import SCHEDULES
from keras_pretrain.training.previews import require_tensorboard

VALIDATIONS = 10  # in a run


def make_parser(description: str, sizes, output: str, *, takes_prepared=False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    corpus = parser.add_mutually_exclusive_group()
    corpus.add_argument("--corpus", help="a file, folder, glob or name on the Hub; default: the package's sample")
    if takes_prepared:
        corpus.add_argument(
            "--prepared", type=Path, metavar="FOLDER", help="what prepare_corpus.py made; it has its own block size"
        )
        parser.add_argument(
            "--strategy",
            choices=("one", "mirrored", "multiworker"),
            default="one",
            help="one device, the GPUs of this machine, or several machines (each with its TF_CONFIG); --batch-size is "
            "that of all of them together",
        )
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--language", choices=("ko", "en"), default="ko")
    parser.add_argument("--cleaning", choices=CLEANINGS, help="default: comments for ko, prose for en")
    parser.add_argument("--size", choices=sizes, default="tiny")
    parser.add_argument("--vocab-size", type=positive, default=25_000)
    parser.add_argument("--block-size", type=positive, default=None if takes_prepared else 128, help="default: 128")
    parser.add_argument("--batch-size", type=positive, default=32)
    parser.add_argument(
        "--passes",
        type=positive,
        default=10,
        help="sets of examples made of the corpus, each with other cuts and pairs",
    )
    parser.add_argument("--steps", type=positive, default=600, help="rounded up to whole epochs")
    parser.add_argument("--steps-per-epoch", type=positive, default=100, help="epochs are what history.csv has rows of")
    parser.add_argument("--learning-rate", type=float, help="the peak; default: by size, the larger the lower")
    parser.add_argument("--schedule", choices=SCHEDULES, default="linear", help="of the learning rate, after a warm-up")
    parser.add_argument("--checkpoint-every", type=positive, default=500, help="steps; a killed run goes on from there")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="go on where the output has a run"
    )
    parser.add_argument("--seed", type=positive, default=42)
    parser.add_argument("--num-proc", type=positive, help="processes that split sentences; default: one a processor")
    parser.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write figures and previews for TensorBoard")
    parser.add_argument("--output", type=Path, default=Path(output))
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files in the output that this version did not write"
    )
    return parser


def positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return int(text)


def make_strategy(args) -> tf.distribute.Strategy:
    """What `--strategy` asks for."""
    name = getattr(args, "strategy", "one")
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if "TF_CONFIG" not in os.environ:
        raise ValueError("--strategy multiworker needs TF_CONFIG in the environment, which says where the workers are.")
    if not args.prepared:
        raise ValueError("--strategy multiworker needs --prepared: a corpus is prepared once, not on each machine.")
    return tf.distribute.MultiWorkerMirroredStrategy()


class Run:
    """One run of an example: its arguments, and the seconds that each stage took."""

    def __init__(self, args, learning_rates: dict):
        self.args = args
        args.steps = args.steps_per_epoch * math.ceil(args.steps / args.steps_per_epoch)
        if args.learning_rate is None:
            args.learning_rate = learning_rates[args.size]
        self.seconds = {}
        self.strategy = make_strategy(args)  # before TensorFlow does anything else
        self.is_chief = self.strategy.extended.should_checkpoint  # of several machines, one writes and shows
        self.prepared = self._load_prepared() if getattr(args, "prepared", None) else None
        args.block_size = args.block_size or 128
        tf.keras.utils.set_random_seed(args.seed)
        # What can be wrong is found out now, not after an hour of preparation.
        require_writable(args.output, overwrite=args.overwrite)
        self.folder = OwnedFolder(args.output, "metrics", overwrite=args.overwrite)
        self.folder.require_replaceable(["metrics.json"])
        if args.tensorboard:
            require_tensorboard()
        with self.strategy.scope():
            self.optimizer = kp.create_optimizer(
                learning_rate=args.learning_rate, num_train_steps=args.steps, schedule=args.schedule
            )

    def prepare(self, objective: str, tokenizer=None):
        """Text → `(tokenizer, features, train, validation)`; a tokenizer is trained where none is given."""
        if self.prepared:
            return self._batch_prepared(objective, tokenizer)
        cleaning = cleaning_of(tokenizer) if tokenizer else None
        sentences = self.split_sentences(self.read_corpus(), objective, cleaning)
        tokenizer = tokenizer or self.train_tokenizer(sentences["train"])
        features, train, validation = self.make_batches(sentences, tokenizer, objective)
        return tokenizer, features, train, validation

    def _load_prepared(self):
        args, prepared = self.args, kp.load_prepared(self.args.prepared)
        block_size = prepared.report["settings"]["block_size"]
        if args.block_size not in (None, block_size):
            raise ValueError(f"{args.prepared} has blocks of {block_size} tokens, not of {args.block_size}.")
        if "validation" not in prepared.features:
            raise ValueError(f"{args.prepared} holds nothing out for validation; prepare it with --validation above 0.")
        args.block_size, args.language = block_size, prepared.report["settings"]["language"]
        return prepared

    def _batch_prepared(self, objective: str, tokenizer):
        args, prepared, start = self.args, self.prepared, time.perf_counter()
        prepared.require_fit(objective, tokenizer)
        features, tokenizer = prepared.features, prepared.tokenizer
        self.corpus = {name: prepared.report[name]["documents"] for name in features}
        train, validation = self.batch(features, tokenizer, args.batch_size)
        epochs = args.steps * args.batch_size / len(features["train"])
        if epochs > 2:
            print(f"Each example will be seen {epochs:.0f} times; prepare_corpus.py --passes makes as many new ones.")
        self._clock("features", start)
        return tokenizer, features, train, validation

    def read_corpus(self, **reading):
        """Text → documents; `reading` is for `load_corpus`."""
        args, start = self.args, time.perf_counter()
        source = args.corpus or kp.load_sample(args.language)
        corpus = kp.load_corpus(source, text_column=args.text_column, seed=args.seed, **reading)
        self.corpus = {name: len(part) for name, part in corpus.items()}  # for the model card
        self._clock("corpus", start)
        return corpus

    def split_sentences(self, corpus, objective: str, cleaning: str | None = None):
        """Documents → sentences.

        Args:
          cleaning: of a tokenizer that is there already.
        """
        args, start = self.args, time.perf_counter()
        how = {"language": args.language, "cleaning": args.cleaning or cleaning, "objective": objective}
        sentences = kp.prepare_sentences(corpus, **how, num_proc=args.num_proc)
        self._clock("sentences", start)
        return sentences

    def train_tokenizer(self, sentences):
        start = time.perf_counter()
        tokenizer = kp.train_tokenizer(sentences, vocab_size=self.args.vocab_size)
        self._clock("tokenizer", start)
        return tokenizer

    def make_batches(self, sentences, tokenizer, objective: str, block_size=None, batch_size=None):
        """Sentences → examples, and batches of them for training and validation."""
        args, start = self.args, time.perf_counter()
        settings = {"objective": objective, "block_size": block_size or args.block_size, "seed": args.seed}
        features = kp.build_features(sentences, tokenizer, **settings, dupe_factor=args.passes)
        train, validation = self.batch(features, tokenizer, batch_size or args.batch_size)
        self._clock("features", start)
        return features, train, validation

    def batch(self, features, tokenizer, batch_size: int):
        """Examples → batches for training and validation."""
        batching = {"tokenizer": tokenizer, "batch_size": batch_size, "seed": self.args.seed}
        train = kp.to_tf_dataset(features["train"], **batching)
        return train, kp.to_tf_dataset(features["validation"], **batching, training=False)

    def train(self, model, train, validation, callbacks=(), steps=None, phase=None) -> dict:
        """Train and evaluate; the last value of each metric, and tokens a second."""
        args, start = self.args, time.perf_counter()
        steps = steps or args.steps
        epochs = steps // args.steps_per_epoch
        if model.optimizer is not self.optimizer:
            with self.strategy.scope():
                model.compile(self.optimizer)
        figures = kp.callbacks.RunFigures()
        history = model.fit(
            train.repeat(),
            epochs=epochs,
            steps_per_epoch=args.steps_per_epoch,
            validation_data=validation,
            validation_freq=[math.ceil(epochs * (i + 1) / VALIDATIONS) for i in range(VALIDATIONS)],
            callbacks=self._callbacks(figures, callbacks, steps, f"-{phase}" if phase else ""),
            verbose="auto" if self.is_chief else 0,
        )
        self._clock("training", start)
        last = {name: values[-1] for name, values in history.history.items()}
        return last | {"tokens_per_second": figures.tokens_per_second}

    def _callbacks(self, figures, others, steps: int, phase: str) -> list:
        """What saves and shows a run, or one phase of it. Each finds in the logs what those before it put there."""
        args = self.args
        table = args.output / f"history{phase}.csv"
        saving = {"every_steps": args.checkpoint_every, "resume": args.resume, "overwrite": args.overwrite}
        callbacks = [figures, kp.callbacks.Checkpointing(args.output / f"run{phase}", **saving)]
        if not self.is_chief:
            return callbacks
        callbacks += [
            *others,
            kp.callbacks.CSVHistory(table, overwrite=args.overwrite),
            kp.callbacks.TrainingCurves(table, args.output / f"training_curves{phase}.png", overwrite=args.overwrite),
            kp.callbacks.Progress(),
        ]
        if args.tensorboard:
            often = {"update_freq": max(1, steps // 1000), "write_graph": False}
            callbacks.append(tf.keras.callbacks.TensorBoard(args.tensorboard / f"figures{phase}", **often))
        return callbacks

    def write_metrics(self, figures: dict) -> None:
        """The figures, and what is needed to run it again."""
        file = self.args.output / "metrics.json"
        arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(self.args).items()}
        packages = ("keras_pretrain", "tensorflow", "transformers", "datasets", "kss")
        report = figures | {
            "corpus": self.corpus,
            "seconds": self.seconds,
            "arguments": arguments,
            "seed": self.args.seed,
            "versions": {name: version(name) for name in packages},
        }
        if figures["tokens_per_second"] == 0 and file.exists():  # the run was finished already: how fast is known
            before = json.loads(file.read_text())
            report |= {name: before[name] for name in ("tokens_per_second", "seconds")}
        try:
            self.folder.write_text(file.name, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:  # the model, which is saved next, matters more
            print(f"The metrics are not written: {error}")

    def _clock(self, stage: str, start: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
