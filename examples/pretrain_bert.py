"""Pretrain a BERT on your own documents: text in, a fill-mask model out.

python examples/pretrain_bert.py                                  # the sample inside the package
python examples/pretrain_bert.py --corpus my_texts.jsonl.gz --size small --steps 20000 --output my_bert
"""

from pretraining import Run, make_parser  # first: it sets TensorFlow up

# isort: split
from transformers import AutoTokenizer, pipeline

import keras_pretrain as kp
from keras_pretrain.models.sizes import BERT_SIZES, LEARNING_RATES

PROMPTS = {
    "ko": "컴퓨터는 데이터를 [MASK]에 저장한다.",
    "en": "The function returns a [MASK] object.",
}


def parse_arguments(argv=None):
    parser = make_parser(__doc__, BERT_SIZES, output="output/bert", takes_prepared=True)
    parser.add_argument("--objective", choices=("mlm+nsp", "mlm"), default="mlm+nsp")
    parser.add_argument("--init-from", help="a BERT checkpoint to continue from, with its tokenizer")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse_arguments(argv)
    run = Run(args, LEARNING_RATES)
    tokenizer = model = None
    if args.init_from:
        tokenizer = AutoTokenizer.from_pretrained(args.init_from)
        with run.strategy.scope():
            model = kp.BertPretrainer.from_pretrained(args.init_from, seed=args.seed)
        model.require_fit(tokenizer, args.block_size)

    tokenizer, features, train, validation = run.prepare(args.objective, tokenizer)
    if model is None:
        with run.strategy.scope():
            model = kp.BertPretrainer.from_size(args.size, tokenizer, features=features["train"], seed=args.seed)
    preview = kp.callbacks.FillMaskPreview(validation, tokenizer, max(1, args.steps // 5), log_dir=args.tensorboard)
    figures = run.train(model, train, validation, [preview])

    if not run.is_chief:
        return
    run.write_metrics(figures)
    kp.save_checkpoint(model, tokenizer, args.output, overwrite=args.overwrite)
    show_predictions(args.output, PROMPTS[args.language])


def show_predictions(checkpoint, prompt):
    print(f"\n{checkpoint} is ready. {prompt}")
    for answer in pipeline("fill-mask", model=str(checkpoint), framework="tf")(prompt):
        print(f"  {answer['score']:.3f}  {answer['sequence']}")


if __name__ == "__main__":
    main()
