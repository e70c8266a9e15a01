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
    if args.steps <= args.steps_per_epoch:
        parser.error("--steps must be more than --steps-per-epoch: each phase has one epoch at least")
    if args.long_block_size <= args.block_size:
        parser.error(f"--long-block-size must be above --block-size, {args.block_size}")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    run = Run(args, LEARNING_RATES)
    sentences = run.split_sentences(run.read_corpus(), "mlm+nsp")
    tokenizer = run.train_tokenizer(sentences["train"])
    # A long batch holds as many tokens as a short one. One optimizer, and one schedule, for both phases.
    epochs = args.steps // args.steps_per_epoch
    long_steps = args.steps_per_epoch * min(max(1, round(args.long_share * epochs)), epochs - 1)
    long_batch_size = max(1, args.batch_size * args.block_size // args.long_block_size)
    phases = {
        "short": {"block_size": args.block_size, "batch_size": args.batch_size, "steps": args.steps - long_steps},
        "long": {"block_size": args.long_block_size, "batch_size": long_batch_size, "steps": long_steps},
    }
    # Both are prepared before the first is trained: what is wrong with the second is found out now.
    data = {
        name: run.make_batches(sentences, tokenizer, "mlm+nsp", phase["block_size"], phase["batch_size"])
        for name, phase in phases.items()
    }

    features = data["short"][0]["train"]
    model = kp.BertPretrainer.from_size(args.size, tokenizer, features=features, seed=args.seed)
    for name, phase in phases.items():
        print(f"\n{phase['steps']} steps of {phase['batch_size']} blocks of {phase['block_size']} tokens")
        _, train, validation = data[name]
        figures = run.train(model, train, validation, steps=phase["steps"], phase=name)

    run.write_metrics(figures)
    kp.save_checkpoint(model, tokenizer, args.output, overwrite=args.overwrite)


if __name__ == "__main__":
    main()
