"""Let a trained model fill the gaps of a sentence.

python examples/fill_mask.py --model output/bert "대한민국의 수도는 [MASK]입니다"

`keras-pretrain fill-mask` does the same, also for a SavedModel.
"""

import argparse
from pathlib import Path

import keras_pretrain as kp  # must be imported first: it makes tf.keras legacy Keras

# isort: split
from transformers import pipeline


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder or Hub name of a checkpoint")
    parser.add_argument("--top-k", type=int, default=5, help="answers")
    parser.add_argument("text", nargs="+", help="with one [MASK] or several")
    args = parser.parse_args(argv)
    for text in args.text:
        if "[MASK]" not in text:
            parser.error(f"there is no [MASK] in {text!r}")
    return args


def main(argv=None):
    kp.enable_logging()
    args = parse_arguments(argv)
    generator = Path(args.model) / "generator"  # in an ELECTRA, the generator fills the gaps
    model = str(generator) if generator.is_dir() else args.model
    fill_mask = pipeline("fill-mask", model=model, framework="tf", top_k=args.top_k)
    for text in args.text:
        print(text)
        answers = fill_mask(text)
        gaps = [answers] if isinstance(answers[0], dict) else answers  # for one gap, there is no outer list
        for number, gap in enumerate(gaps, start=1):
            if len(gaps) > 1:
                print(f" gap {number}")
            for answer in gap:
                print(f"  {answer['score']:.3f}  {fill_mask.tokenizer.convert_ids_to_tokens(answer['token'])}")


if __name__ == "__main__":
    main()
