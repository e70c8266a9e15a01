"""Adapt a pretrained BERT to your own text, and see whether it was worth it: MLM before and after, and with labelled
texts of your domain a classifier on top of both.

python examples/adapt_bert.py --model klue/bert-base --corpus my_texts.csv --text-column sentence --steps 2000
python examples/adapt_bert.py --model DIR --corpus book.txt --sample-by line --language en --new-tokens 500
    --task-train labelled.csv --task-seeds 3
"""

from pathlib import Path

from pretraining import Run, make_parser, positive  # first: it sets TensorFlow up

# isort: split
from transformers import AutoTokenizer

import keras_pretrain as kp
from keras_pretrain.features.building import choose_objective
from keras_pretrain.models.sizes import BERT_SIZES, LEARNING_RATES
from keras_pretrain.tokenization import cleaning_of


def parse_arguments(argv=None):
    parser = make_parser(__doc__, BERT_SIZES, output="output/adapted")
    parser.add_argument("--model", required=True, help="the checkpoint: a folder or a name on the Hub")
    parser.add_argument(
        "--sample-by", choices=("paragraph", "line"), default="paragraph", help="what a document is in a .txt file"
    )
    parser.add_argument(
        "--objective", choices=("mlm+nsp", "mlm"), help="default: mlm where most documents are one sentence"
    )
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--add-tokens", type=Path, help="a file of new words, or pieces of words (##), one a line")
    words.add_argument("--new-tokens", type=positive, help="add so many of the wordpieces that the corpus has most of")
    parser.add_argument("--task-train", help="labelled texts, for a classifier on the model before and after")
    parser.add_argument("--task-validation", default="0.1", help="another file, or the share to hold out")
    parser.add_argument("--task-text-column", default="text")
    parser.add_argument("--task-label-column", default="label")
    parser.add_argument("--task-group-column")
    parser.add_argument("--task-keep-labels", nargs="+")
    parser.add_argument("--task-epochs", type=positive, default=3)
    parser.add_argument("--task-seeds", type=positive, default=3)
    parser.set_defaults(steps=1000, learning_rate=1e-4)
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    run = Run(args, LEARNING_RATES)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = kp.BertPretrainer.from_pretrained(args.model, seed=args.seed)
    model.require_fit(tokenizer, args.block_size)
    # What is wrong with these is found out now.
    task = load_task(args) if args.task_train else None
    words = args.add_tokens.read_text(encoding="utf-8").splitlines() if args.add_tokens else []

    corpus = run.read_corpus(sample_by=args.sample_by)
    objective = args.objective or choose_objective(corpus["train"])
    sentences = run.split_sentences(corpus, objective, cleaning_of(tokenizer))
    figures = {"before": kp.evaluation.evaluate_mlm(args.model, sentences["validation"], block_size=args.block_size)}
    if args.new_tokens:
        words = kp.find_new_tokens(sentences["train"], tokenizer, count=args.new_tokens)
        print(f"New wordpieces: {' '.join(words[:12])} ...")
    if words:
        tokenizer = kp.add_tokens(model, tokenizer, [word for word in words if word.strip()])
    _, train, validation = run.make_batches(sentences, tokenizer, objective)
    preview = kp.callbacks.FillMaskPreview(validation, tokenizer, max(1, args.steps // 5), log_dir=args.tensorboard)
    training = run.train(model, train, validation, [preview])
    run.write_metrics(training)  # the model card takes its facts from there
    kp.save_checkpoint(model, tokenizer, args.output, overwrite=args.overwrite)

    figures["adapted"] = kp.evaluation.evaluate_mlm(args.output, sentences["validation"], block_size=args.block_size)
    if task:
        for name, checkpoint in (("before", args.model), ("adapted", args.output)):
            print(f"\nThe task on the model {name}:")
            figures[name] |= judge_on_task(checkpoint, task, args)
    run.write_metrics(training | figures)
    print_table(figures)
    if words:
        print("The tokenizer has new words, so the gaps are not the same: compare loss_per_character.")


def load_task(args):
    is_share = args.task_validation.replace(".", "", 1).isdigit()
    return kp.finetuning.load_examples(
        args.task_train,
        validation=float(args.task_validation) if is_share else args.task_validation,
        text_column=args.task_text_column,
        label_column=args.task_label_column,
        group_column=args.task_group_column,
        keep_labels=args.task_keep_labels,
        seed=args.seed,
    )


def judge_on_task(checkpoint, task, args) -> dict[str, dict]:
    seeds = range(args.seed, args.seed + args.task_seeds)
    tuned = kp.finetuning.finetune(
        checkpoint, task["train"], task["validation"], epochs=args.task_epochs, seeds=seeds, verbose=2
    )
    return {f"task_{name}": each for name, each in tuned.metrics.items()}


def print_table(figures: dict[str, dict]) -> None:
    print(f"\n{'':24}{'before':>16}{'adapted':>16}")
    for name in figures["before"]:
        cells = (figures[model][name] for model in ("before", "adapted"))
        texts = (f"{c['mean']:.3f} ± {c['std']:.3f}" if isinstance(c, dict) else f"{c:,.4g}" for c in cells)
        print(f"{name:24}" + "".join(f"{text:>16}" for text in texts))


if __name__ == "__main__":
    main()
