"""Pretrain an ELECTRA on your own documents: text in, an encoder for fine-tuning out.

python examples/pretrain_electra.py                               # the sample inside the package
python examples/pretrain_electra.py --corpus my_texts.jsonl.gz --size small --steps 20000 --output my_electra
python examples/pretrain_electra.py --corpus my_texts.jsonl.gz --init-from DISCRIMINATOR --init-generator-from GENERATOR
"""

from pretraining import Run, make_parser  # first: it sets TensorFlow up

# isort: split

import keras_pretrain as kp
from keras_pretrain.models.sizes import ELECTRA_LEARNING_RATES, ELECTRA_SIZES


def parse_arguments(argv=None):
    parser = make_parser(__doc__, ELECTRA_SIZES, output="output/electra", takes_prepared=True)
    parser.add_argument(
        "--init-from", help="an ELECTRA discriminator to continue from, with its tokenizer; or an --output of this"
    )
    parser.add_argument("--init-generator-from", help="its generator; not needed for an --output of this")
    args = parser.parse_args(argv)
    if args.init_generator_from and not args.init_from:
        parser.error("--init-generator-from needs --init-from, the discriminator")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    run = Run(args, ELECTRA_LEARNING_RATES)
    tokenizer = model = None
    if args.init_from:
        with run.strategy.scope():
            model = kp.ElectraPretrainer.from_pretrained(args.init_from, args.init_generator_from, seed=args.seed)
        tokenizer = model.tokenizer
        model.require_fit(tokenizer, args.block_size)

    tokenizer, features, train, validation = run.prepare("rtd", tokenizer)
    if model is None:
        with run.strategy.scope():
            model = kp.ElectraPretrainer.from_size(args.size, tokenizer, features=features["train"], seed=args.seed)
    preview = kp.callbacks.ReplacedTokensPreview(
        validation, tokenizer, max(1, args.steps // 5), log_dir=args.tensorboard
    )
    figures = run.train(model, train, validation, [preview])

    if not run.is_chief:
        return
    run.write_metrics(figures)
    kp.save_checkpoint(model, tokenizer, args.output, overwrite=args.overwrite)
    print(f"\n{args.output} is ready; its discriminator/ is the encoder to fine-tune.\n{preview.render()}")


if __name__ == "__main__":
    main()
