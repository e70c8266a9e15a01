"""Fine-tune a pretrained encoder on labelled texts, or pairs of texts: a classifier (or a regressor) out.

python examples/finetune_classifier.py --model my_bert --train reviews.csv --validation 0.1 --output my_classifier
python examples/finetune_classifier.py --model my_bert --train train.jsonl --validation dev.jsonl --text-column a
    --pair-column b --label-column score --regression --seeds 3 --output my_regressor
"""

import argparse
import json
import math
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would bury ours

import keras_pretrain as kp
from keras_pretrain.corpus.cleaning import CLEANINGS
from keras_pretrain.export.checkpoint import require_writable
from keras_pretrain.folders import OwnedFolder


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a BERT or ELECTRA checkpoint: a folder or a name on the Hub")
    parser.add_argument("--train", required=True, help="a .csv, .tsv, .json, .jsonl (each also .gz) or .parquet file")
    parser.add_argument("--validation", default="0.1", help="another such file, or the share of --train to hold out")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--pair-column", help="the second text, where there are pairs")
    parser.add_argument("--label-column", default="label")
    parser.add_argument("--group-column", help="examples of one group are not divided between train and validation")
    parser.add_argument("--keep-labels", nargs="+", help="leave examples with other labels out")
    parser.add_argument("--regression", action="store_true", help="labels are numbers to be predicted")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, help="the peak; default: by the encoder's size")
    parser.add_argument("--layerwise-decay", type=float, default=1.0, help="of the learning rate, for each layer down")
    parser.add_argument("--class-weight", choices=("balanced",))
    parser.add_argument("--patience", type=int, help="stop after so many epochs without progress")
    parser.add_argument("--max-length", type=int, default=128, help="tokens; longer examples are cut")
    parser.add_argument("--seeds", type=int, default=1, help="runs, with the seeds --seed, --seed + 1 and so on")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--cleaning", choices=CLEANINGS, help="default: as the pretraining text was cleaned")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files in the output that this version did not write"
    )
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    begun = time.perf_counter()
    require_writable(args.output, overwrite=args.overwrite)
    OwnedFolder(args.output, "metrics", overwrite=args.overwrite).require_replaceable(["metrics.json"])
    data = kp.finetuning.load_examples(
        args.train,
        validation=as_share(args.validation),
        text_column=args.text_column,
        pair_column=args.pair_column,
        label_column=args.label_column,
        group_column=args.group_column,
        keep_labels=args.keep_labels,
        regression=args.regression,
        seed=args.seed,
    )
    tuned = kp.finetuning.finetune(
        args.model,
        data["train"],
        data["validation"],
        regression=args.regression,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        layerwise_decay=args.layerwise_decay,
        class_weight=args.class_weight,
        patience=args.patience,
        max_length=args.max_length,
        cleaning=args.cleaning,
        seeds=range(args.seed, args.seed + args.seeds),
        verbose=1 if sys.stdout.isatty() else 2,  # a bar that moves, or a line an epoch
    )
    kp.save_checkpoint(tuned.model, tuned.tokenizer, args.output, overwrite=args.overwrite)
    write_metrics(tuned, args, time.perf_counter() - begun)
    show_predictions(tuned, data["validation"].select(range(min(3, len(data["validation"])))), args.max_length)


def as_share(text: str) -> float | str:
    """`--validation`: a number is a share, anything else a file."""
    try:
        return float(text)
    except ValueError:
        return text


def write_metrics(tuned, args, seconds: float) -> None:
    """The mean of each figure under its own name, all of them by seed, and what is needed to run it again."""
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    figures = {name: each["mean"] for name, each in tuned.metrics.items()}
    report = {name: None if math.isnan(value) else value for name, value in figures.items()} | {
        "by_seed": dict(zip(map(str, tuned.seeds), tuned.by_seed, strict=True)),
        "std": {name: each["std"] for name, each in tuned.metrics.items()},
        "seconds": seconds,
        "arguments": arguments,
        "settings": tuned.settings,
        "seed": args.seed,
        "saved_seed": tuned.best_seed,
        "versions": {name: version(name) for name in ("keras_pretrain", "tensorflow", "transformers", "scikit-learn")},
    }
    folder = OwnedFolder(args.output, "metrics", overwrite=args.overwrite)
    folder.write_text("metrics.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{args.output} is ready; on validation, over {len(tuned.seeds)} seed(s):")
    for name, each in tuned.metrics.items():
        print(f"  {name:10} {each['mean']:.4f} ± {each['std']:.4f}")


def show_predictions(tuned, examples, max_length: int) -> None:
    pairs = examples["pair"][:] if "pair" in examples.column_names else None
    texts = examples["text"][:]
    said = kp.finetuning.predict(tuned.model, texts, pairs, tokenizer=tuned.tokenizer, max_length=max_length)
    for i, text in enumerate(texts):
        if said.probabilities is None:
            answer = f"{said.labels[i]:.2f}"
        else:
            answer = f"{said.labels[i]} {said.probabilities[i].max():.0%}"
        shown = text if pairs is None else f"{text} | {pairs[i]}"
        print(f"  {answer} (it is {examples['label'][i]}): {' '.join(shown.split())[:100]}")


if __name__ == "__main__":
    main()
