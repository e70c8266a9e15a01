"""Ask a trained model what belongs in the gaps of a sentence.

python examples/fill_mask.py --model output/bert "대한민국의 수도는 [MASK]입니다"
python examples/fill_mask.py --model output/served/1 "The [MASK] returns an [MASK] object."      # a SavedModel
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would bury ours

import keras_pretrain  # noqa: F401  first: it makes tf.keras legacy Keras

# isort: split
import tensorflow as tf
from transformers import pipeline


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder of a checkpoint or of a SavedModel")
    parser.add_argument("--top-k", type=int, default=5, help="answers; a SavedModel has at most those it was made for")
    parser.add_argument("text", nargs="+", help="with one [MASK] or several")
    args = parser.parse_args(argv)
    if not args.model.is_dir():
        parser.error(f"--model: there is no folder {args.model}")
    for text in args.text:
        if "[MASK]" not in text:
            parser.error(f"there is no [MASK] in {text!r}")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    is_saved_model = (args.model / "saved_model.pb").exists()
    answers = ask_saved_model(args.model, args.text) if is_saved_model else ask(args.model, args.text, args.top_k)
    for text, gaps in zip(args.text, answers, strict=True):
        print(text)
        for number, gap in enumerate(gaps, start=1):
            if len(gaps) > 1:
                print(f" gap {number}")
            for token, score in gap[: args.top_k]:
                print(f"  {score:.3f}  {token}")


def ask(folder: Path, texts: list[str], top_k: int) -> list:
    """For each text, for each gap, `(token, score)`, best first."""
    generator = folder / "generator"  # of an ELECTRA, the network that fills gaps
    fill_mask = pipeline(
        "fill-mask", model=str(generator if generator.is_dir() else folder), framework="tf", top_k=top_k
    )

    def gaps(text):
        answers = fill_mask(text)
        return [answers] if isinstance(answers[0], dict) else answers  # one gap is not in a list of its own

    vocabulary = fill_mask.tokenizer
    return [
        [[(vocabulary.convert_ids_to_tokens(each["token"]), each["score"]) for each in gap] for gap in gaps(text)]
        for text in texts
    ]


def ask_saved_model(folder: Path, texts: list[str]) -> list:
    """As `ask`."""
    import tensorflow_text  # noqa: F401  its operations are part of the graph

    answers = tf.saved_model.load(str(folder)).signatures["fill_mask"](text=tf.constant(texts))
    tokens, scores = answers["tokens"].numpy(), answers["scores"].numpy()
    return [
        [
            [(token.decode(), score) for token, score in zip(*gap, strict=True)]
            for gap in zip(tokens[row], scores[row], strict=True)
            if gap[0][0]  # others of the batch may have more gaps
        ]
        for row in range(len(texts))
    ]


if __name__ == "__main__":
    main()
