"""Compare our training step with its alternatives (the contenders) on this machine, in one run, a few steps at a time.

    python -m benchmarks.train_step [--sizes small mini] [--electra-sizes small base] [--classifier-sizes mini]
        [--torch-python PATH] [--rounds 5] [--leave-out tutorial]

`--torch-python` is the interpreter of an environment with torch and transformers; without it, torch is left out, and
the output says so. All contenders have the same activation (GELU in its tanh form), dropout (0.1) and batch. They are
in memory at the same time; if they do not fit, `--leave-out` names the ones to leave out.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
from pathlib import Path

from keras_pretrain.models.sizes import BERT_SIZES, ELECTRA_SIZES, electra_sizes

BERT = ("ours_bfloat16", "ours_float32", "stock", "stock_xla", "tutorial")
BERT_TORCH = ("torch_float32", "torch_bfloat16", "torch_compiled_float32", "torch_compiled_bfloat16")
ELECTRA = ("electra_bfloat16", "electra_float32", "electra_tutorial")
ELECTRA_TORCH = ("electra_torch_float32", "electra_torch_bfloat16")
CLASSIFIER = ("classifier_bfloat16", "classifier_float32")
RATES = ("rate_float32", "rate_bfloat16")


def counted_flops(shape: dict) -> float:
    """Count the floating-point operations of the matrix products of our step, forward and backward (twice the forward).

    In the last layer, queries, attention, output and feed-forward are counted only for the predicted positions and
    `[CLS]`, because our step computes them only there. Stock models compute them at every position.
    """
    batch, length, hidden = shape["batch"], shape["length"], shape["hidden"]
    predicted = round(0.15 * (length - 2))
    tokens, chosen = batch * length, batch * (predicted + 1)
    product = 2 * hidden * hidden  # operations for one token and one (hidden, hidden) matrix
    full_layer = tokens * 12 * product + 2 * 2 * tokens * length * hidden
    last_layer = (tokens * 2 + chosen * 10) * product + 2 * 2 * chosen * length * hidden
    heads = batch * predicted * (product + 2 * hidden * shape["vocabulary"])
    return 3.0 * ((shape["layers"] - 1) * full_layer + last_layer + heads)


class Contender:
    """A process of `contenders.py` that runs one contender."""

    def __init__(self, name: str, shape: dict, python: str):
        command = [python, str(Path(__file__).parent / "contenders.py"), name, json.dumps(shape)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.seconds, self.memory_gib = [], 0.0
        if not self.process.stdout.readline():
            last_words = self.process.communicate()[1][-2000:]
            if self.process.returncode == -signal.SIGKILL:
                last_words = f"It was killed, as happens when memory runs out. Leave it out: --leave-out {name}"
            raise RuntimeError(f"{name} did not start:\n{last_words}")

    def run(self, steps: int) -> None:
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.seconds.append(answer["seconds"])
        self.memory_gib = answer["memory_gib"]

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(title: str, names: tuple[str, ...], torch_names: tuple[str, ...], shape: dict, options) -> dict:
    """Run a few steps of each contender in every round, so that slow phases of the machine affect all; prints a table.

    Returns:
      For each contender, and for each matrix product, the seconds per step in each round.
    """
    pythons = dict.fromkeys((*RATES, *names), sys.executable)
    if options.torch_python:
        pythons |= dict.fromkeys(torch_names, options.torch_python)
    pythons = {name: python for name, python in pythons.items() if name not in options.leave_out}
    contenders = {name: Contender(name, shape, python) for name, python in pythons.items()}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            contender.run(20 if name in RATES else options.steps)
    for contender in contenders.values():
        contender.stop()
    rates = {name.removeprefix("rate_"): contenders.pop(name).seconds for name in RATES}
    spread = "; ".join(
        "{} {:.0f} GFLOP/s ({:.0f} to {:.0f})".format(
            precision, *(2 * 2048**3 / f(seconds) / 1e9 for f in (statistics.median, max, min))
        )
        for precision, seconds in rates.items()
    )
    print(f"\n{title}; products of 2,048² matrices: {spread}")
    print_table(contenders)
    if torch_names and not options.torch_python:
        print("torch is left out: give --torch-python an interpreter that has torch and transformers.")
    return rates | {name: contender.seconds for name, contender in contenders.items()}


def print_table(contenders: dict[str, Contender]) -> None:
    """Print a row for each contender, with the ratios of its time to those of the first two (ours in bfloat16 and in
    float32)."""
    first, second = (contender.seconds for contender in list(contenders.values())[:2])
    print("| | s/step, median (min to max) | times bfloat16's | times float32's | memory, GiB |\n|---|---|---|---|---|")
    for name, contender in contenders.items():
        ratios = [
            statistics.median(theirs / own for theirs, own in zip(contender.seconds, ours, strict=True))
            for ours in (first, second)
        ]
        spread = f"{min(contender.seconds):.3f} to {max(contender.seconds):.3f}"
        median = statistics.median(contender.seconds)
        print(f"| {name} | {median:.3f} ({spread}) | {ratios[0]:.2f} | {ratios[1]:.2f} | {contender.memory_gib:.1f} |")


def compare_bert(size: str, options) -> None:
    layers, hidden, _ = BERT_SIZES[size]
    shape = {"layers": layers, "hidden": hidden} | batch_shape(options)
    seconds = compare(f"BERT {size}: {layers} × {hidden}, {describe(shape)}", BERT, BERT_TORCH, shape, options)
    flops = counted_flops(shape)
    for precision in ("bfloat16", "float32"):
        pairs = zip(seconds[f"ours_{precision}"], seconds[precision], strict=True)
        shares = [flops / own / (2 * 2048**3 / product) for own, product in pairs]
        print(
            f"ours_{precision}: {flops / 1e9:.0f} GFLOP by count, {statistics.median(shares):.0%} of the rate of "
            f"{precision} in the same round (median; {min(shares):.0%} to {max(shares):.0%})"
        )


def compare_electra(size: str, options) -> None:
    discriminator, generator = electra_sizes(size)
    shape = {"electra": (generator, discriminator)} | batch_shape(options)
    compare(f"ELECTRA {size}: {describe(shape)}", ELECTRA, ELECTRA_TORCH, shape, options)


def compare_classifier(size: str, options) -> None:
    layers, hidden, _ = BERT_SIZES[size]
    shape = {"layers": layers, "hidden": hidden} | batch_shape(options)
    compare(f"Fine-tuning BERT {size}: {layers} × {hidden}, {describe(shape)}", CLASSIFIER, (), shape, options)


def describe(shape: dict) -> str:
    return f"vocabulary {shape['vocabulary']}, batch {shape['batch']} × {shape['length']}"


def batch_shape(options) -> dict:
    return {"batch": options.batch_size, "length": options.block_size, "vocabulary": options.vocab_size}


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", choices=list(BERT_SIZES), default=["small"])
    parser.add_argument("--electra-sizes", nargs="*", choices=list(ELECTRA_SIZES), default=[])
    parser.add_argument("--classifier-sizes", nargs="*", choices=list(BERT_SIZES), default=[])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--vocab-size", type=int, default=25_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--torch-python")
    left_out = [*BERT[2:], *BERT_TORCH, *ELECTRA[2:], *ELECTRA_TORCH]
    parser.add_argument("--leave-out", nargs="+", choices=left_out, default=[])
    options = parser.parse_args(argv)
    for sizes, compare_size in (
        (options.sizes, compare_bert),
        (options.electra_sizes, compare_electra),
        (options.classifier_sizes, compare_classifier),
    ):
        for size in sizes:
            compare_size(size, options)


if __name__ == "__main__":
    main()
