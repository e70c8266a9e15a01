"""Adapt a pretrained BERT to your own text, and compare its MLM before and after.

python examples/adapt_bert.py --model klue/bert-base --corpus my_texts.csv --text-column sentence --steps 2000
python examples/adapt_bert.py --model DIR --corpus book.txt --sample-by line --language en --new-tokens 500

`keras-pretrain adapt` also fine-tunes a classifier on the model before and after, and adapts ELECTRA.
"""

from transformers import AutoTokenizer

import keras_pretrain as kp
from keras_pretrain.commands import parse

TAKES = (
    "model", "corpus", "corpus_name", "text_column", "sample_by", "language", "cleaning", "objective", "new_tokens",
    "block_size", "batch_size", "passes", "steps", "steps_per_epoch", "learning_rate", "schedule", "seed", "num_proc",
    "output", "checkpoint_every", "resume", "overwrite",
)  # fmt: skip


def main(argv=None):
    args = parse(kp.runs.AdaptSettings, argv, description=__doc__, takes=TAKES)
    kp.runs.require_output(args)  # errors are reported now, not after the training
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = kp.BertPretrainer.from_pretrained(args.model, seed=args.seed)
    source = args.corpus or kp.load_sample(args.language)
    corpus = kp.load_corpus(source, text_column=args.text_column, sample_by=args.sample_by, seed=args.seed)
    objective = args.objective or kp.choose_objective(corpus["train"])  # "mlm" if most documents are single sentences
    how = {"objective": objective, "tokenizer": tokenizer, "num_proc": args.num_proc}
    sentences = kp.prepare_sentences(corpus, language=args.language, cleaning=args.cleaning, **how)
    before = kp.evaluation.evaluate_mlm(args.model, sentences["validation"], block_size=args.block_size)
    if args.new_tokens:
        words = kp.find_new_tokens(sentences["train"], tokenizer, count=args.new_tokens)
        tokenizer = kp.add_tokens(model, tokenizer, words)
    building = {"objective": objective, "block_size": args.block_size, "dupe_factor": args.passes}
    features = kp.build_features(sentences, tokenizer, seed=args.seed, **building)
    batching = {"batch_size": args.batch_size, "seed": args.seed}
    train = kp.to_tf_dataset(features["train"], tokenizer, **batching)
    validation = kp.to_tf_dataset(features["validation"], tokenizer, training=False, **batching)

    optimizing = {"learning_rate": args.learning_rate, "schedule": args.schedule}
    model.compile(kp.create_optimizer(num_train_steps=args.steps, **optimizing), precision="auto")
    saving = {"checkpoint_every": args.checkpoint_every, "resume": args.resume, "overwrite": args.overwrite}
    history = model.fit(
        train.repeat(),
        epochs=args.steps // args.steps_per_epoch,
        steps_per_epoch=args.steps_per_epoch,
        validation_data=validation,
        validation_freq=max(1, args.steps // args.steps_per_epoch // 10),
        callbacks=kp.callbacks.for_run(args.output, **saving),
    )
    after = kp.evaluation.evaluate_mlm(model, sentences["validation"], tokenizer, block_size=args.block_size)
    kp.runs.write_metrics(args, history, documents=corpus, before=before, adapted=after)
    kp.save_checkpoint(model, tokenizer, args.output, overwrite=args.overwrite)
    for name in before:  # new words change the masked positions; then compare only loss_per_character
        print(f"{name:24}{before[name]:>16,.4g}{after[name]:>16,.4g}")


if __name__ == "__main__":
    main()
