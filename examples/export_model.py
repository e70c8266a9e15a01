"""Export a trained BERT as a SavedModel that takes strings, upload it to the Hub, or both.

python examples/export_model.py --model output/bert --saved-model output/served/1
python examples/export_model.py --model output/bert --push-to me/my_bert --private    # with HF_TOKEN or `hf auth login`

`keras-pretrain export` and `keras-pretrain push` do the same for classifiers and ELECTRA.
"""

import argparse
from pathlib import Path

import keras_pretrain as kp  # must be imported first: it makes tf.keras legacy Keras

# isort: split
from transformers import AutoTokenizer


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder that save_checkpoint or an example wrote")
    parser.add_argument("--saved-model", type=Path, help="folder for the SavedModel; TensorFlow Serving wants …/1")
    parser.add_argument("--max-length", type=int, help="tokens of a text that are read; default: the model's")
    parser.add_argument("--overwrite", action="store_true", help="replace a SavedModel that this version did not write")
    parser.add_argument("--push-to", metavar="REPO", help="a name on the Hub, OWNER/NAME")
    parser.add_argument("--private", action="store_true", default=None, help="of a repository that is made now")
    args = parser.parse_args(argv)
    if not args.saved_model and not args.push_to:
        parser.error("say where to: --saved-model FOLDER, --push-to REPO or both")
    if not args.model.is_dir():
        parser.error(f"--model: there is no folder {args.model}")
    return args


def main(argv=None):
    kp.enable_logging()
    args = parse_arguments(argv)
    if args.saved_model:
        model, tokenizer = kp.BertPretrainer.from_pretrained(args.model), AutoTokenizer.from_pretrained(args.model)
        settings = {"max_length": args.max_length, "overwrite": args.overwrite}
        folder = kp.export_saved_model(model, tokenizer, args.saved_model, **settings)
        print(f'{folder} is ready: tf.saved_model.load("{folder}").signatures, after `import tensorflow_text`.')
    if args.push_to:
        print(f"Uploaded: {kp.push_to_hub(args.model, args.push_to, private=args.private)}")


if __name__ == "__main__":
    main()
