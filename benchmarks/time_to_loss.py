"""Test whether this package reaches in a short time the validation loss that torch reaches in a long time.

    python -m benchmarks.time_to_loss --corpus KOREAN.jsonl.gz --torch-python PATH [--torch-seconds 240] [--seconds 24]

torch (`torch_pretraining.py`) trains for `--torch-seconds` with each of `--torch-rates`, then again at the best rate
with logits only for the masked tokens. After that, this package trains for `--seconds`, which include compilation and
the computation of word embeddings from co-occurrence. A short run of 60 steps determines how many steps fit into this
time. Both use the same tokenizer, examples and masked validation examples. This package differs in five things: it
packs several examples into a row of a batch, may have smaller batches, starts from embeddings and an output bias
computed from the corpus, starts with attention to neighbouring tokens, and uses an epsilon of 1e-10 in AdamW. Each
run is a new process with one seed; losses are measured after the training.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_pretrain.models.sizes import BERT_SIZES, LEARNING_RATES

HERE = Path(__file__).parent
_SEED = 0


def build(options: argparse.Namespace):
    """Return the tokenizer and the examples of the corpus. The sentences are cached, so a second process only trains
    the tokenizer and makes the examples again, which gives the same ones."""
    import keras_pretrain as kp

    corpus = kp.load_corpus(options.corpus)
    sentences = kp.prepare_sentences(corpus)
    tokenizer = kp.train_tokenizer(sentences["train"], vocab_size=options.vocab_size)
    return tokenizer, kp.build_features(sentences, tokenizer, block_size=options.block_size)


def write_arrays(tokenizer, features, folder: Path, batch_size: int) -> None:
    """Write the training examples, concatenated, and the masked validation examples, which are the same for every
    model."""
    import keras_pretrain as kp

    train = features["train"].with_format("numpy")
    ids, types = train["input_ids"][:], train["token_type_ids"][:]
    arrays = {
        "ids": np.concatenate(ids),
        "types": np.concatenate(types),
        "lengths": np.array([len(each) for each in ids]),
    }
    arrays["next"] = np.array(train["next_sentence_label"][:])
    parts: dict[str, list] = {}
    for inputs, labels in kp.to_tf_dataset(features["validation"], tokenizer, batch_size=batch_size, training=False,
                                           glue_prob=0.0):  # fmt: skip
        for name, value in (*inputs.items(), ("labels", labels["labels"])):
            parts.setdefault(f"val_{name}", []).append(value.numpy())
    arrays |= {name: np.concatenate(values) for name, values in parts.items()}
    is_padding = arrays["val_attention_mask"].sum(1) == 0  # rows that fill up the last batch
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value[~is_padding] if name.startswith("val_") else value)


def train_ours(options: argparse.Namespace) -> dict:
    """Train for `options.steps`. Returns seconds and loss, the seconds of the model's initialization, and those from
    the call of `fit` to the end of each step."""
    import tensorflow as tf

    import keras_pretrain as kp

    class Clock(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ends.append(time.perf_counter() - begun)

    tokenizer, features = build(options)
    ends: list[float] = []
    tf.keras.utils.set_random_seed(_SEED)
    begun = time.perf_counter()
    model = kp.BertPretrainer.from_size(options.size, tokenizer, features=features["train"], seed=_SEED)
    initialization = time.perf_counter() - begun
    rate = options.learning_rate or LEARNING_RATES[options.size]
    model.compile(kp.create_optimizer(num_train_steps=options.steps, learning_rate=rate), precision="auto")
    batching = {"glue_prob": 0.0, "seed": _SEED}
    rows = options.our_batch_size or options.batch_size
    train = kp.to_tf_dataset(features["train"], tokenizer, packed=True, batch_size=rows, **batching).repeat()
    begun = time.perf_counter()
    model.fit(train, steps_per_epoch=options.steps, verbose=0, callbacks=[Clock()])
    seconds = time.perf_counter() - begun
    batching |= {"batch_size": options.batch_size, "seed": 42}
    validation = kp.to_tf_dataset(features["validation"], tokenizer, training=False, **batching)
    loss = model.evaluate(validation, verbose=0, return_dict=True)["mlm_loss"]
    return {
        "steps": options.steps, "seconds": initialization + seconds, "mlm_loss": loss, "initialization": initialization,
        "step_ends": ends,
    }  # fmt: skip


def call_ours(steps: int, options: argparse.Namespace) -> dict:
    command = [sys.executable, "-m", "benchmarks.time_to_loss", *sys.argv[1:], "--steps", str(steps)]
    return _last_line(command)


def call_torch(rate: float, gathered: bool, tokenizer, options: argparse.Namespace, folder: Path) -> dict:
    layers, hidden, heads = BERT_SIZES[options.size]
    settings = {
        "layers": layers, "hidden": hidden, "heads": heads, "vocabulary": len(tokenizer),
        "mask_id": tokenizer.mask_token_id, "special_ids": tokenizer.all_special_ids, "batch_size": options.batch_size,
        "rate": rate, "seconds": options.torch_seconds, "max_steps": options.torch_steps, "seed": _SEED,
        "precision": options.torch_precision, "gathered": gathered,
    }  # fmt: skip
    command = [options.torch_python, str(HERE / "torch_pretraining.py"), str(folder), json.dumps(settings)]
    return _last_line(command)


def _last_line(command: list[str]) -> dict:
    """Run a command and parse the last line of its standard output as JSON. Its standard error is shown."""
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--torch-python", help="the Python of an environment with torch and transformers")
    parser.add_argument("--torch-seconds", type=float, default=240)
    parser.add_argument("--torch-rates", nargs="+", type=float, default=[5e-4, 1e-3, 2e-3])
    parser.add_argument("--torch-steps", type=int, default=-1, help="stop earlier")
    parser.add_argument("--torch-precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--seconds", type=float, default=24)
    parser.add_argument("--steps", type=int, help="train this number of steps here, and print one line of JSON")
    parser.add_argument("--learning-rate", type=float, help="ours; default: that of the size")
    parser.add_argument("--size", choices=list(BERT_SIZES), default="mini")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--our-batch-size", type=int, help="rows of a batch in this package; default: --batch-size")
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--vocab-size", type=int, default=8000)
    options = parser.parse_args()
    if options.steps:
        print(json.dumps(train_ours(options)))
        return
    tokenizer, features = build(options)
    print("| | learning rate | steps | seconds | validation MLM loss |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(tokenizer, features, Path(folder), options.batch_size)
        found: dict[float, float] = {}
        for rate in options.torch_rates if options.torch_python else ():
            result = call_torch(rate, False, tokenizer, options, Path(folder))
            found[rate] = result["mlm_loss"]
            _print_row("torch", rate, result)
        if found:
            best = min(found, key=lambda rate: found[rate])
            _print_row("torch, logits of masked tokens", best, call_torch(best, True, tokenizer, options, Path(folder)))
    first = call_ours(60, options)
    ends = first["step_ends"]
    pace = (ends[-1] - ends[9]) / (len(ends) - 10)
    steps = 10 + max(0, int((options.seconds - first["initialization"] - ends[9]) / pace))
    result = call_ours(steps, options)
    _print_row("ours", options.learning_rate or LEARNING_RATES[options.size], result)
    print(f"Of our seconds, {result['initialization']:.1f} are the initialization, before `fit`.")


def _print_row(name: str, rate: float, result: dict) -> None:
    print(f"| {name} | {rate:g} | {result['steps']} | {result['seconds']:.1f} | {result['mlm_loss']:.4f} |", flush=True)


if __name__ == "__main__":
    main()
