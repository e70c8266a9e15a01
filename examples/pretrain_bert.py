"""Pretrain a BERT on your own documents: text in, a fill-mask model out.

python examples/pretrain_bert.py                                  # the sample inside the package
python examples/pretrain_bert.py --corpus my_texts.jsonl.gz --size small --steps 20000 --output my_bert
"""

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
from transformers import AutoTokenizer, pipeline

from keras_pretrain.models.sizes import LEARNING_RATES

PROMPTS = {
    "ko": "컴퓨터는 데이터를 [MASK]에 저장한다.",
    "en": "The function returns a [MASK] object.",
}


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="a file, folder, glob or name on the Hub; default: the package's sample")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--language", choices=("ko", "en"), default="ko")
    parser.add_argument("--init-from", help="a BERT checkpoint to continue from, with its tokenizer")
    parser.add_argument("--objective", choices=("mlm+nsp", "mlm"), default="mlm+nsp")
    parser.add_argument("--size", choices=("tiny", "mini", "small", "base", "large"), default="tiny")
    parser.add_argument("--vocab-size", type=positive, default=25_000)
    parser.add_argument("--block-size", type=positive, default=128)
    parser.add_argument("--batch-size", type=positive, default=32)
    parser.add_argument("--steps", type=positive, default=600, help="rounded up to a multiple of ten")
    parser.add_argument(
        "--learning-rate", type=float, help="the peak; default: by size, 1e-3 for tiny to 1e-4 for large"
    )
    parser.add_argument("--seed", type=positive, default=42)
    parser.add_argument("--num-proc", type=positive, help="processes that split sentences; default: one a processor")
    parser.add_argument("--output", type=Path, default=Path("output/bert"))
    return parser.parse_args(argv)


def positive(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return int(text)


def main(argv=None):
    args = parse_arguments(argv)
    epochs = min(10, args.steps)
    args.steps = epochs * math.ceil(args.steps / epochs)
    tf.keras.utils.set_random_seed(args.seed)
    seconds = {}

    # What can be wrong is found out now, not after an hour of preparation.
    args.output.mkdir(parents=True, exist_ok=True)
    if args.learning_rate is None:
        args.learning_rate = LEARNING_RATES[args.size]
    optimizer = kp.create_optimizer(learning_rate=args.learning_rate, num_train_steps=args.steps)
    if args.init_from:
        tokenizer = AutoTokenizer.from_pretrained(args.init_from)
        model = kp.BertPretrainer.from_pretrained(args.init_from, seed=args.seed)
        model.require_fit(tokenizer, args.block_size)

    # Documents → sentences.
    start = time.perf_counter()
    source = args.corpus or kp.load_sample(args.language)
    corpus = kp.load_corpus(source, text_column=args.text_column, seed=args.seed)
    # clean_text's rules are made for Korean; English keeps its apostrophes and dashes.
    is_korean = args.language == "ko"
    sentences = kp.prepare_sentences(corpus, language=args.language, clean=is_korean, num_proc=args.num_proc)
    seconds["sentences"] = time.perf_counter() - start

    if not args.init_from:
        start = time.perf_counter()
        tokenizer = kp.train_tokenizer(sentences["train"], vocab_size=args.vocab_size)
        seconds["tokenizer"] = time.perf_counter() - start

    # Sentences → batches. A run that goes through the corpus several times makes new pairs for each time.
    start = time.perf_counter()
    settings = {"objective": args.objective, "block_size": args.block_size, "seed": args.seed}
    features = kp.build_features(sentences, tokenizer, **settings)
    passes = min(10, math.ceil(args.steps * args.batch_size / len(features["train"])))
    if passes > 1:
        features["train"] = kp.build_features(sentences["train"], tokenizer, **settings, dupe_factor=passes)
    batching = {"tokenizer": tokenizer, "batch_size": args.batch_size, "seed": args.seed}
    train = kp.to_tf_dataset(features["train"], **batching)
    validation = kp.to_tf_dataset(features["validation"], **batching, training=False)
    seconds["features"] = time.perf_counter() - start

    if not args.init_from:
        model = kp.BertPretrainer.from_size(args.size, tokenizer, features=features["train"], seed=args.seed)

    # Training, evaluated ten times.
    start = time.perf_counter()
    model.compile(optimizer)
    tokens_per_step = args.batch_size * sum(map(len, features["train"]["input_ids"])) / len(features["train"])
    throughput = kp.callbacks.Throughput(tokens_per_step)
    history = model.fit(
        train.repeat(),
        epochs=epochs,
        steps_per_epoch=args.steps // epochs,
        validation_data=validation,
        callbacks=[throughput, kp.callbacks.FillMaskPreview(validation, tokenizer, max(1, args.steps // 5))],
    )
    seconds["training"] = time.perf_counter() - start

    # Out.
    kp.save_checkpoint(model, tokenizer, args.output)
    figures = {name: values[-1] for name, values in history.history.items()}
    write_metrics(args, figures | {"tokens_per_second": throughput.tokens_per_second, "seconds": seconds})
    show_predictions(args.output, PROMPTS[args.language])


def write_metrics(args, figures):
    """The figures, and what is needed to run it again."""
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    packages = ("keras_pretrain", "tensorflow", "transformers", "datasets", "kss")
    versions = {name: version(name) for name in packages}
    report = figures | {"arguments": arguments, "seed": args.seed, "versions": versions}
    (args.output / "metrics.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def show_predictions(checkpoint, prompt):
    print(f"\n{checkpoint} is ready. {prompt}")
    for answer in pipeline("fill-mask", model=str(checkpoint), framework="tf")(prompt):
        print(f"  {answer['score']:.3f}  {answer['sequence']}")


if __name__ == "__main__":
    main()
