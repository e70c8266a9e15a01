"""Fine-tune a pretrained encoder on labelled texts or pairs of texts; the result is a classifier or a regressor.

python examples/finetune_classifier.py --model my_bert --train reviews.csv --validation 0.1 --output my_classifier
python examples/finetune_classifier.py --model my_bert --train train.jsonl --validation dev.jsonl --text-column a
    --pair-column b --label-column score --regression --seeds 3 --output my_regressor
"""

import keras_pretrain as kp
from keras_pretrain.commands import parse

TAKES = (
    "model", "train", "validation", "text_column", "pair_column", "label_column", "group_column", "keep_labels",
    "regression", "data_name", "epochs", "batch_size", "learning_rate", "layerwise_decay", "token_dropout",
    "class_weight", "patience", "max_length", "seeds", "seed", "cleaning", "output", "resume", "overwrite",
)  # fmt: skip


def main(argv=None):
    args = parse(kp.runs.FinetuneSettings, argv, description=__doc__, takes=TAKES)
    kp.runs.require_output(args)  # errors are reported now, not after the training
    data = kp.finetuning.load_examples(
        args.train,
        validation=args.held_out,
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
        token_dropout=args.token_dropout,
        class_weight=args.class_weight,
        patience=args.patience,
        max_length=args.max_length,
        cleaning=args.cleaning,
        seeds=range(args.seed, args.seed + args.seeds),
        directory=args.output / "run",  # finished seeds are not trained again after a crash
        resume=args.resume,
        verbose=2,
    )
    kp.runs.write_metrics(args, tuned.report(), documents=data)
    kp.save_checkpoint(tuned.model, tuned.tokenizer, args.output, overwrite=args.overwrite)
    print(f"\n{args.output} is ready; on validation, over {len(tuned.seeds)} seed(s):")
    for name, each in tuned.metrics.items():
        print(f"  {name:10} {each['mean']:.4f} ± {each['std']:.4f}")


if __name__ == "__main__":
    main()
