"""Pretrain a BERT on short blocks first and on long ones at the end, as BERT was: attention costs the square of the
length, and most of what there is to learn is learned as well from 128 tokens.

python examples/pretrain_in_phases.py --corpus my_texts.jsonl.gz --size small --steps 20000 --output my_bert
"""

from pretraining import Run, make_parser, positive  # first: it sets TensorFlow up

# isort: split
import keras_pretrain as kp
from keras_pretrain.models.sizes import BERT_SIZES, LEARNING_RATES


def parse_arguments(argv=None):
    parser = make_parser(__doc__, BERT_SIZES, output="output/bert")
    parser.add_argument("--long-block-size", type=positive, default=512)
    parser.add_argument("--long-share", type=float, default=0.1, help="of the steps, at the end; BERT: 0.1")
    args = parser.parse_args(argv)
    if not 0 < args.long_share < 1:
        parser.error(f"--long-share is a share of the steps, above 0 and below 1, not {args.long_share}")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    run = Run(args, LEARNING_RATES)
    sentences, tokenizer = run.read()
    # A long batch holds as many tokens as a short one. One optimizer, and one schedule, for both phases.
    long_steps = max(1, round(args.long_share * args.steps))
    shrink = max(1, args.long_block_size // args.block_size)
    phases = [
        (args.block_size, args.batch_size, args.steps - long_steps),
        (args.long_block_size, max(1, args.batch_size // shrink), long_steps),
    ]

    model = None
    for args.block_size, args.batch_size, steps in phases:
        features, train, validation = run.make_batches(sentences, tokenizer, "mlm+nsp")
        if model is None:
            model = kp.BertPretrainer.from_size(args.size, tokenizer, features=features["train"], seed=args.seed)
            model.compile(run.optimizer)
        print(f"\n{steps} steps of {args.batch_size} blocks of {args.block_size} tokens")
        checkpointing = kp.callbacks.Checkpointing(
            args.output / f"run-{args.block_size}", every_steps=args.checkpoint_every, resume=args.resume
        )
        fit = {"steps_per_epoch": steps, "validation_data": validation, "callbacks": [checkpointing]}
        history = model.fit(train.repeat(), **fit).history

    kp.save_checkpoint(model, tokenizer, args.output)
    run.write_metrics({name: values[-1] for name, values in history.items()})


if __name__ == "__main__":
    main()
