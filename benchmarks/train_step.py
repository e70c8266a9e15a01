"""Our training step beside its peers, all in one run and in turn, on this machine.

    python -m benchmarks.train_step [--sizes small mini] [--electra-sizes small base] [--torch-python PATH] [--rounds 5]
        [--leave-out tutorial]

`--torch-python` is the interpreter of an environment with torch and transformers; without it torch is left out, and
the table says so. All contenders are in memory together; `--leave-out` names those for which it is too small.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
from pathlib import Path

from keras_pretrain.models.sizes import BERT_SIZES, ELECTRA_SIZES

PEERS = ("ours", "stock", "stock_xla", "tutorial")
TORCH_PEERS = ("torch_eager", "torch_compile")


def counted_flops(shape: dict) -> float:
    """Floating-point operations of the matrix products of our step, forward and backward (twice the forward).

    The last layer's queries, output and feed-forward and the vocabulary are counted for the predicted positions and
    [CLS] alone, since they are computed only there; the peers' work is greater, their useful work is not.
    """
    batch, length, hidden = shape["batch"], shape["length"], shape["hidden"]
    predicted = round(0.15 * (length - 2))
    tokens, chosen = batch * length, batch * (predicted + 1)
    product = 2 * hidden * hidden  # of one token with one (hidden, hidden) matrix
    full_layer = tokens * 12 * product + 2 * 2 * tokens * length * hidden
    last_layer = (tokens * 2 + chosen * 10) * product + 2 * 2 * chosen * length * hidden
    heads = batch * predicted * (product + 2 * hidden * shape["vocabulary"])
    return 3.0 * ((shape["layers"] - 1) * full_layer + last_layer + heads)


class Contender:
    """One process of `contenders.py`."""

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


def time_in_turn(shape: dict, pythons: dict[str, str], options) -> dict[str, Contender]:
    """A few steps of each contender, and again, so that all meet the machine's good and bad minutes."""
    contenders = {name: Contender(name, shape, python) for name, python in pythons.items()}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            contender.run(20 if name == "sgemm" else options.steps)
    for contender in contenders.values():
        contender.stop()
    return contenders


def print_table(title: str, contenders: dict[str, Contender], own_name: str) -> list[float]:
    """One line for each contender; the SGEMM rate of each round, in FLOP a second."""
    rates = [2 * 2048**3 / seconds for seconds in contenders.pop("sgemm").seconds]
    ours = contenders[own_name].seconds
    low, middle, high = (f(rates) / 1e9 for f in (min, statistics.median, max))
    print(f"\n{title}; SGEMM {middle:.0f} GFLOP/s ({low:.0f} to {high:.0f})")
    print("| | s/step, median (min to max) | ours is faster by (median of rounds) | memory, GiB |\n|---|---|---|---|")
    for name, contender in contenders.items():
        ratios = [theirs / own for theirs, own in zip(contender.seconds, ours, strict=True)]
        spread = f"{min(contender.seconds):.3f} to {max(contender.seconds):.3f}"
        median, ratio = statistics.median(contender.seconds), statistics.median(ratios)
        print(f"| {name} | {median:.3f} ({spread}) | {ratio:.2f} | {contender.memory_gib:.1f} |")
    return rates


def compare_bert(size: str, options) -> None:
    layers, hidden, _ = BERT_SIZES[size]
    shape = {"layers": layers, "hidden": hidden} | batch_shape(options)
    pythons = dict.fromkeys(("sgemm", *PEERS), sys.executable)
    if options.torch_python:
        pythons |= dict.fromkeys(TORCH_PEERS, options.torch_python)
    pythons = {name: python for name, python in pythons.items() if name not in options.leave_out}
    contenders = time_in_turn(shape, pythons, options)
    title = f"BERT {size}: {layers} × {hidden}, {describe(shape)}"
    rates = print_table(title, contenders, "ours")
    flops, ours = counted_flops(shape), contenders["ours"].seconds
    shares = [flops / own / rate for own, rate in zip(ours, rates, strict=True)]
    print(
        f"ours: {flops / 1e9:.0f} GFLOP a step by count, {statistics.median(shares):.0%} of the SGEMM rate of the same "
        f"round (median; {min(shares):.0%} to {max(shares):.0%})"
    )
    if not options.torch_python:
        print("torch is left out: give --torch-python an interpreter that has torch and transformers.")


def compare_electra(size: str, options) -> None:
    shape = {"electra": size} | batch_shape(options)
    contenders = time_in_turn(shape, dict.fromkeys(("sgemm", "electra", "electra_tutorial"), sys.executable), options)
    title = f"ELECTRA {size}: {describe(shape)}"
    print_table(title, contenders, "electra")


def describe(shape: dict) -> str:
    return f"vocabulary {shape['vocabulary']}, batch {shape['batch']} × {shape['length']}"


def batch_shape(options) -> dict:
    return {"batch": options.batch_size, "length": options.block_size, "vocabulary": options.vocab_size}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", choices=list(BERT_SIZES), default=["small"])
    parser.add_argument("--electra-sizes", nargs="*", choices=list(ELECTRA_SIZES), default=[])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--vocab-size", type=int, default=25_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--torch-python")
    parser.add_argument("--leave-out", nargs="+", choices=[*PEERS[1:], *TORCH_PEERS], default=[])
    options = parser.parse_args()
    for size in options.sizes:
        compare_bert(size, options)
    for size in options.electra_sizes:
        compare_electra(size, options)


if __name__ == "__main__":
    main()
