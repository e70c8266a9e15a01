"""Test data written by commit b074e80: what later versions must still read, resume, refuse or adopt.

The files beside this script were written by the package as it was at that commit, by running the script in an empty
folder with that version on the path:

    git worktree add ../b074e80 b074e80
    mkdir ../made && cd ../made
    PYTHONPATH=../b074e80 python ../REPOSITORY/tests/data/b074e80/make.py

It writes, into the current folder:

- `corpus.csv`: 60 English documents of two to six sentences;
- `prepared/`: what `kp.prepare_corpus` made of it, in blocks of about 1,000 characters;
- `features-*.jsonl`, beside the script: the examples of the run;
- `run/` and `history.csv`: a run of two epochs of four steps, interrupted after the seventh step. The checkpoints are
  those of steps 4 and 6; `best/` is that of step 4. There is no `training_curves.png`;
- `checkpoint/`: the model after the seventh step, with its tokenizer, a model card and a `metrics.json`.

The one change made to the files afterwards: `prepared/survey.json` names the corpus `/data/corpus.csv`, in place of the
folder that it was in.

Tests import the functions, so that today's code continues the run with the same settings.
"""

import csv
import json
import os
from pathlib import Path
from unittest import mock

import keras_pretrain as kp

EPOCHS, STEPS, BATCH = 2, 4, 8
INTERRUPTED_AFTER = 7
WORDS = ["가", "나", "다", "라", "마", "바", "사", "아", "자", "차"]  # those of tests/conftest.py
ENGLISH = [
    "the", "cat", "dog", "bird", "fish", "sees", "eats", "finds", "takes", "one", "big",
    "small", "red", "old", "house", "tree", "river", "road",
]  # fmt: skip
PREPARATION = {
    "language": "en", "backend": "punkt", "clean": False, "objective": "mlm+nsp", "vocab_size": 300, "block_size": 32,
    "num_proc": 1,
}  # fmt: skip
BLOCK_CHARACTERS = (1000, 1000)  # for several blocks of a small corpus; `prepare_corpus` has no argument for it


def make_corpus(path: Path) -> Path:
    """Documents whose sentences name the document, on one line or on several."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text"])
        for i in range(60):
            sentences = [
                f"Number {i} {ENGLISH[(i + k) % 18]} it {ENGLISH[(i * k + 1) % 18]}." for k in range(2 + i % 5)
            ]
            rows.writerow([("\n" if i % 2 else " ").join(sentences)])
    return path


def prepare(corpus: Path, directory: Path):
    """Prepare the corpus with the settings of `prepared/`; the caller sets the length of a block."""
    return kp.prepare_corpus(corpus, directory, **PREPARATION)


def make_tokenizer():
    """The tokenizer of tests/conftest.py: five special tokens and ten words. It is the one in `checkpoint/`."""
    return kp.train_tokenizer([" ".join(WORDS)] * 2, vocab_size=15)


def make_data(tokenizer) -> dict:
    """What `fit` was given: `x` and `validation_data`, four batches and two."""
    from datasets import Dataset, Features, List, Value

    saved = [Path(__file__).with_name(f"features-{name}.jsonl") for name in ("train", "validation")]
    if saved[0].exists():  # later versions build other examples
        rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in saved]
        types = Features(
            input_ids=List(Value("int32")), token_type_ids=List(Value("int8")), next_sentence_label=Value("int32")
        )
        train, validation = (Dataset.from_list(part, features=types) for part in rows)
    else:
        documents = [
            [" ".join(WORDS[(start + i + k) % 10] for k in range(3 + (start * i) % 5)) for i in range(8)]
            for start in range(40)
        ]
        sentences = Dataset.from_dict({"sentences": documents})
        features = kp.build_features(sentences, tokenizer, objective="mlm+nsp", block_size=24)
        train = features.select(range(STEPS * BATCH))
        validation = features.select(range(STEPS * BATCH, STEPS * BATCH + 16))
        for part, path in zip((train, validation), saved, strict=True):
            path.write_text("".join(json.dumps(row) + "\n" for row in part))
    return {
        "x": kp.to_tf_dataset(train, tokenizer, batch_size=BATCH, block_size=24),
        "validation_data": kp.to_tf_dataset(validation, tokenizer, batch_size=BATCH, block_size=24, training=False),
    }


def make_model():
    """The compiled model, with the weights that the run started from."""
    import tensorflow as tf
    from transformers import BertConfig

    tf.keras.utils.set_random_seed(0)
    config = BertConfig(
        vocab_size=15, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    model = kp.BertPretrainer(config)
    model.compile(kp.create_optimizer(learning_rate=1e-2, num_train_steps=EPOCHS * STEPS), run_eagerly=True)
    return model


def make_callbacks(directory: Path) -> list:
    """`Checkpointing` in `directory/run` and `CSVHistory` in `directory/history.csv`."""
    return [
        kp.callbacks.Checkpointing(directory / "run", every_steps=2, keep=2, monitor="val_mlm_loss"),
        kp.callbacks.CSVHistory(directory / "history.csv"),
    ]


def train(model, tokenizer, directory: Path, *others):
    """The run; `others` are further callbacks. Returns its history."""
    callbacks = [*make_callbacks(directory), *others]
    return model.fit(**make_data(tokenizer), epochs=EPOCHS, callbacks=callbacks, verbose=0).history


def interrupt_after(steps: int):
    """A callback that ends the run after so many steps, as a crash would."""
    import tensorflow as tf

    class Interrupt(tf.keras.callbacks.Callback):
        left = steps

        def on_train_batch_end(self, batch, logs=None):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    return Interrupt()


def main() -> None:
    here = Path()
    with mock.patch("keras_pretrain.prepared.documents._BLOCK_CHARACTERS", BLOCK_CHARACTERS):
        prepare(make_corpus(here / "corpus.csv"), here / "prepared")
    survey = here / "prepared" / "survey.json"
    survey.write_text(survey.read_text().replace(os.fspath(here.absolute()), "/data"))

    tokenizer, model = make_tokenizer(), make_model()
    try:
        train(model, tokenizer, here, interrupt_after(INTERRUPTED_AFTER))
    except KeyboardInterrupt:
        print(f"Interrupted after step {int(model.optimizer.iterations)}.")

    best = json.loads((here / "run" / "best" / "progress.json").read_text())
    metrics = {name: values[-1] for name, values in best["history"].items()} | {
        "tokens_per_second": 1000.0,
        "seconds": {"training": 1.0},
        "arguments": {"size": "tiny", "steps": EPOCHS * STEPS, "batch_size": BATCH, "block_size": 24},
        "seed": 0,
    }
    (here / "checkpoint").mkdir()
    (here / "checkpoint" / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    kp.save_checkpoint(model, tokenizer, here / "checkpoint")


if __name__ == "__main__":
    main()
