"""Measure how well models fill gaps before the rest of a word, such as «[MASK]이», in training and in pipelines.

    python -m benchmarks.glued_gaps --corpus KOREAN.jsonl.gz [--shares 0 0.5 1] [--after 0.5] [--seeds 0 1 2]

One model is trained for each share (`glue_prob`) and seed. Each text of the validation split gives one gap: it hides a
token of two or more characters that begins a word, and the rest of the word is one piece. The loss and the accuracy at
these gaps are measured twice: with the rest as training without `glue_prob` shows it (`##이`), and as every pipeline
shows it (`이`). `evaluate_mlm` gives two more losses: over all masks, in examples where every rest is a `##` piece; and
over ordinary masks, which are all masks except the gaps that `GluedRests` would rewrite.
"""

import argparse
import statistics
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

import keras_pretrain as kp
from keras_pretrain.features.masking import GluedRests
from keras_pretrain.models.sizes import BERT_SIZES


def choose_gaps(features, tokenizer, count: int, seed: int = 0) -> list[tuple[list[int], int]]:
    """Choose `count` examples at random, and in each the position of one gap. Returns `(input_ids, position)` pairs."""
    rests, rng, found = GluedRests(tokenizer), np.random.default_rng(seed), []
    lengths = np.array([len(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    is_word = (lengths >= 2) & ~rests.continues
    is_word[tokenizer.all_special_ids] = False
    for row in rng.permutation(len(features)).tolist():
        ids = np.array(features[row]["input_ids"])
        gaps = np.zeros(len(ids), bool)
        places = []
        for place in np.flatnonzero(is_word[ids]):
            gaps[:] = False
            gaps[place] = True
            if rests.behind(ids, gaps, gaps).any():
                places.append(int(place))
        if places:
            found.append((ids.tolist(), int(rng.choice(places))))
        if len(found) == count:
            break
    return found


def ask(model, tokenizer, gaps, block_size: int, *, as_beginning: bool) -> tuple[float, float, float]:
    """Measure a model at the gaps. Returns the mean loss, and the shares of the gaps whose original token is the
    model's first choice, or among its first five."""
    rests, losses, ranks = GluedRests(tokenizer), [], []
    forward = tf.function(lambda ids, mask: model.bert(ids, attention_mask=mask)[0], jit_compile=True)
    for start in range(0, len(gaps), 50):
        part = gaps[start : start + 50]
        ids = np.zeros((50, block_size), np.int32)
        places, targets = np.zeros(50, np.int32), np.zeros(50, np.int32)
        for row, (example, place) in enumerate(part):
            ids[row, : len(example)] = example
            places[row], targets[row] = place, example[place]
            ids[row, place] = tokenizer.mask_token_id
            if as_beginning:
                ids[row, place + 1] = rests.beginnings[example[place + 1]]
        hidden = tf.gather(forward(ids, (ids > 0).astype(np.int32)), places, batch_dims=1)
        logits = tf.nn.log_softmax(model.mlm(hidden[:, tf.newaxis])[:, 0]).numpy()
        for row in range(len(part)):
            losses.append(-logits[row, targets[row]])
            ranks.append((logits[row] > logits[row, targets[row]]).sum())
    ranks = np.array(ranks)
    return float(np.mean(losses)), float((ranks < 1).mean()), float((ranks < 5).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--shares", nargs="+", type=float, default=[0, 0.25, 0.5, 0.75, 1])
    parser.add_argument("--after", type=float, default=0.0, help="share of the steps before the first gap is glued")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--size", choices=list(BERT_SIZES), default="mini")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--vocab-size", type=int, default=16_000)
    parser.add_argument("--gaps", type=int, default=1500)
    options = parser.parse_args()
    kp.enable_logging()
    corpus = kp.load_corpus(options.corpus)
    sentences = kp.prepare_sentences(corpus, objective="mlm")
    tokenizer = kp.train_tokenizer(sentences["train"], vocab_size=options.vocab_size)
    features = kp.build_features(sentences, tokenizer, objective="mlm", block_size=options.block_size)
    gaps = choose_gaps(features["validation"], tokenizer, options.gaps)
    if not gaps:
        raise SystemExit("No validation text has a word of two pieces whose rest is also a token that begins a word.")
    names = [f"{rest} {figure}" for rest in ("##", "piped") for figure in ("loss", "top-1", "top-5")]
    names += ["ordinary loss", "all masks"]
    print(f"{len(gaps)} gaps\n| glue_prob | seed | {' | '.join(names)} |\n{'|---' * (len(names) + 2)}|")
    rows = {share: [] for share in options.shares}
    for seed in options.seeds:
        for share in options.shares:
            batching = {"batch_size": options.batch_size, "glue_prob": share, "seed": seed, "packed": True}
            batching["glue_after"] = round(options.after * options.steps)
            tf.keras.utils.set_random_seed(seed)
            model = kp.BertPretrainer.from_size(options.size, tokenizer, features=features["train"], seed=seed)
            optimizer = kp.create_optimizer(num_train_steps=options.steps, size=options.size)
            model.compile(optimizer, precision="auto")
            train = kp.to_tf_dataset(features["train"], tokenizer, **batching)
            model.fit(train.repeat(), steps_per_epoch=options.steps, verbose=0)
            figures = kp.evaluation.evaluate_mlm(model, corpus["validation"], tokenizer, block_size=options.block_size)
            both = [ask(model, tokenizer, gaps, options.block_size, as_beginning=piped) for piped in (False, True)]
            rest_free = figures["masked_tokens"] - figures["glued_gaps"]
            ordinary = figures["mlm_loss"] * figures["masked_tokens"]
            ordinary = (ordinary - figures["continuation_loss"] * figures["glued_gaps"]) / rest_free
            rows[share].append([*both[0], *both[1], ordinary, figures["mlm_loss"]])
            _print_row(share, seed, rows[share][-1])
    for share in options.shares:
        _print_row(share, "mean", map(statistics.mean, zip(*rows[share], strict=True)))


def _print_row(share: float, seed: int | str, figures: Iterable[float]) -> None:
    print(f"| {share} | {seed} | {' | '.join(f'{each:.3f}' for each in figures)} |", flush=True)


if __name__ == "__main__":
    main()
