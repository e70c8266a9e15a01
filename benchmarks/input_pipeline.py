"""Compare `to_tf_dataset` with the pipeline of the tutorials (🤗's collator in `Dataset.to_tf_dataset`), alternately.

    python -m benchmarks.input_pipeline [--rounds 5]

The result is the number of sequences per second that a training loop receives. They are tensors, shuffled, padded to
128 tokens, masked and batched.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import datasets
import numpy as np
from transformers import DataCollatorForLanguageModeling

import keras_pretrain as kp

EXAMPLES, BLOCK_SIZE = 40_000, 128


def make_features(tokenizer) -> datasets.Dataset:
    """Make examples of two segments of random tokens, with 40 to 128 tokens each example."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(40, BLOCK_SIZE + 1, EXAMPLES)
    columns = {
        "input_ids": [rng.integers(5, len(tokenizer), length).astype(np.int32) for length in lengths],
        "token_type_ids": [(np.arange(length) >= length // 2).astype(np.int8) for length in lengths],
        "next_sentence_label": rng.integers(0, 2, EXAMPLES).astype(np.int32),
    }
    return datasets.Dataset.from_dict(columns)


def ours(features, tokenizer, batch_size):
    return kp.to_tf_dataset(features, tokenizer, batch_size=batch_size, block_size=BLOCK_SIZE)


def tutorial(features, tokenizer, batch_size):
    """Make batches as in the tutorials: pad all examples first, then use 🤗's TensorFlow masking collator."""
    padded = features.map(
        lambda example: dict(tokenizer.pad(example, padding="max_length", max_length=BLOCK_SIZE)), desc="Padding"
    )
    collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.15, return_tensors="tf")
    return padded.to_tf_dataset(
        columns=["input_ids", "token_type_ids", "attention_mask"],
        label_cols=["labels", "next_sentence_label"],
        batch_size=batch_size,
        shuffle=True,
        collate_fn=collator,
    )


def sequences_per_second(dataset, batch_size: int, seconds: float) -> float:
    iterator = iter(dataset.repeat())
    next(iterator)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(iterator)
        count += batch_size
    return count / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[16, 32, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()

    words = [chr(0xAC00 + i) for i in range(5000)]
    tokenizer = kp.train_tokenizer([" ".join(words)] * 2, vocab_size=5005)
    features = make_features(tokenizer)
    print("sequences a second: median (min to max); ratio: median of rounds")
    print("| batch | ours | 🤗's collator | ratio |\n|---|---|---|---|")
    for batch_size in options.batch_sizes:
        pipelines = {
            "ours": ours(features, tokenizer, batch_size),
            "tutorial": tutorial(features, tokenizer, batch_size),
        }
        rates = {name: [] for name in pipelines}
        for _ in range(options.rounds):
            for name, pipeline in pipelines.items():
                rates[name].append(sequences_per_second(pipeline, batch_size, options.seconds))
        ratios = [own / theirs for own, theirs in zip(rates["ours"], rates["tutorial"], strict=True)]
        shown = [f"{statistics.median(r):,.0f} ({min(r):,.0f} to {max(r):,.0f})" for r in rates.values()]
        print(f"| {batch_size} | {shown[0]} | {shown[1]} | {statistics.median(ratios):.1f} |")


if __name__ == "__main__":
    main()
