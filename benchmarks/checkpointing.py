"""Measure how long it takes to save a run, and how long a resumed run takes to finish its first step.

    python -m benchmarks.checkpointing [--size small] [--steps 8] [--rounds 3]

A trial with these options takes half a minute: `--size tiny --vocab-size 500 --block-size 16 --steps 2 --rounds 1
--examples 2000 --resumes 1`.

Saving: the same model trains with and without `Checkpointing`, alternately. Each save is timed separately, so its share
of the time of 100 steps can be computed without running 100 steps. Resuming: two runs over a large dataset are saved,
one at step 100 and one at step 100,000, and resumed alternately. The measured time is from the call of `fit` to the end
of the first step, in a process that has already compiled the step.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import datasets
import numpy as np

import keras_pretrain as kp

# isort: split
import tensorflow as tf
from transformers import BertConfig

from keras_pretrain.models.sizes import BERT_SIZES, bert_size

EVERY = 100  # assumed steps between two checkpoints, for the printed share of the run's time


def make_features(examples: int, block_size: int, vocab_size: int) -> datasets.Dataset:
    """Make examples of one segment of random tokens, each with `block_size` tokens."""
    ids = np.random.default_rng(0).integers(5, vocab_size, (examples, block_size), dtype=np.int32)
    types = np.zeros((examples, block_size), np.int8)
    return datasets.Dataset.from_dict({"input_ids": ids, "token_type_ids": types})


def make_batches(features: datasets.Dataset, tokenizer, batch_size: int, block_size: int):
    return kp.to_tf_dataset(features, tokenizer, batch_size=batch_size, block_size=block_size, objective="mlm")


def make_tokenizer(vocab_size: int):
    words = [chr(0xAC00 + i) for i in range(5000)]
    pairs = (a + b for a in words[:200] for b in words)
    vocabulary = [*words, *(pair for pair, _ in zip(pairs, range(vocab_size), strict=False))]
    return kp.train_tokenizer([" ".join(vocabulary)] * 2, vocab_size=vocab_size)


def make_model(size: str, vocab_size: int):
    tf.keras.utils.set_random_seed(0)
    model = kp.BertPretrainer(BertConfig(vocab_size=vocab_size, hidden_act="gelu_new", **bert_size(size)))
    model.compile(kp.create_optimizer(num_train_steps=200_000))
    return model


class Stopwatch(tf.keras.callbacks.Callback):
    """Records when it was created and when each step ended. A step includes the callbacks that precede this one."""

    def __init__(self):
        super().__init__()
        self.ends = [time.perf_counter()]

    def on_train_batch_end(self, batch, logs=None):
        self.ends.append(time.perf_counter())


class TimedCheckpointing(kp.callbacks.Checkpointing):
    """Records how many seconds each save takes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seconds = []

    def _save(self, *args):
        begun = time.perf_counter()
        super()._save(*args)
        self.seconds.append(time.perf_counter() - begun)


def compare_saving(options, folder: Path) -> None:
    """Time steps with and without `Checkpointing`, alternately. Each round saves once in the middle and once at the
    end."""
    tokenizer = make_tokenizer(options.vocab_size)
    features = make_features(options.batch_size * 200, options.block_size, len(tokenizer))
    model = make_model(options.size, len(tokenizer))
    seconds, saves = {"with": [], "without": []}, []
    for round_ in range(options.rounds + 1):  # the first round compiles and is not counted
        for name in seconds:
            data = make_batches(features, tokenizer, options.batch_size, options.block_size)
            stopwatch, callbacks = Stopwatch(), []
            if name == "with":
                callbacks = [TimedCheckpointing(folder / f"round-{round_}", every_steps=options.steps // 2 + 1)]
            model.fit(data, epochs=1, steps_per_epoch=options.steps, verbose=0, callbacks=[*callbacks, stopwatch])
            if round_:
                seconds[name] += np.diff(stopwatch.ends)[1:].tolist()
                saves += callbacks[0].seconds if callbacks else []
    plain, save = statistics.median(seconds["without"]), statistics.median(saves)
    print(f"\n{options.size}, batch {options.batch_size} × {options.block_size}, vocabulary {len(tokenizer)}:")
    print(f"a step without checkpointing: {plain:.3f} s (median of {len(seconds['without'])})")
    print(f"a step with it, between saves: {statistics.median(seconds['with']):.3f} s")
    print(f"a save: {save:.3f} s (median of {len(saves)}; {min(saves):.3f} to {max(saves):.3f})")
    print(f"checkpointing every {EVERY} steps: {save / (EVERY * plain):.2%} of the run's time")


def compare_resuming(options, folder: Path) -> None:
    """Time how long a run that was saved at step 100, and one saved at step 100,000, takes to finish its first step."""
    tokenizer = kp.train_tokenizer([" ".join(chr(0xAC00 + i) for i in range(500))] * 2, vocab_size=505)
    features = make_features(options.examples, 16, len(tokenizer))
    tiny = make_model("tiny", len(tokenizer))
    places = (100, 100_000)

    def resume(place: int, save: bool = False) -> float:
        data = make_batches(features, tokenizer, batch_size=8, block_size=16)
        stopwatch = Stopwatch()
        checkpointing = kp.callbacks.Checkpointing(folder / str(place), every_steps=1 if save else 10**9, keep=1)
        callbacks = [checkpointing, stopwatch, _Stop()]
        with contextlib.suppress(KeyboardInterrupt):
            tiny.fit(data.repeat(), epochs=1, steps_per_epoch=200_000, verbose=0, callbacks=callbacks)
        return stopwatch.ends[1] - stopwatch.ends[0]

    for place in places:
        resume(place, save=True)  # saves a new run after one step; below, the saved step number is set to `place`
        (saved,) = (folder / str(place)).glob("step-*")
        progress = json.loads((saved / "progress.json").read_text()) | {"step": place}
        (saved / "progress.json").write_text(json.dumps(progress))
        saved.rename(saved.with_name(f"step-{place:010d}"))
    seconds = {place: [] for place in places}
    for _ in range(options.resumes):
        for place in places:
            seconds[place].append(resume(place))
    print(f"\nto the first step of a resumed run over {options.examples:,} examples, {options.resumes} times each:")
    for place, times in seconds.items():
        spread = f"{min(times):.3f} to {max(times):.3f}"
        print(f"at step {place:,}: {statistics.median(times):.3f} s ({spread})")


class _Stop(tf.keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(BERT_SIZES), default="small")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--vocab-size", type=int, default=25_000)
    parser.add_argument("--steps", type=int, default=8, help="of each round, with and without")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=1_000_000, help="of the dataset that runs are resumed on")
    parser.add_argument("--resumes", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare_saving(options, Path(folder) / "saving")
        compare_resuming(options, Path(folder) / "resuming")


if __name__ == "__main__":
    main()
