"""Pretrain an ELECTRA on your own documents; the result is an encoder to fine-tune.

python examples/pretrain_electra.py                               # the sample inside the package
python examples/pretrain_electra.py --corpus my_texts.jsonl.gz --size small --steps 20000 --output my_electra
"""

import keras_pretrain as kp
from keras_pretrain.commands import parse

TAKES = (
    "corpus", "corpus_name", "text_column", "language", "cleaning", "init_from", "init_generator_from", "size",
    "vocab_size", "block_size", "batch_size", "passes", "steps", "steps_per_epoch", "learning_rate", "schedule",
    "seed", "num_proc", "output", "checkpoint_every", "resume", "overwrite", "tensorboard",
)  # fmt: skip


def main(argv=None):
    args = parse(kp.runs.ElectraSettings, argv, description=__doc__, takes=TAKES)
    kp.runs.require_output(args)  # errors are reported now, not after the training
    model = tokenizer = None
    if args.init_from:
        model = kp.ElectraPretrainer.from_pretrained(args.init_from, args.init_generator_from, seed=args.seed)
        tokenizer = model.tokenizer

    corpus = kp.load_corpus(args.corpus or kp.load_sample(args.language), text_column=args.text_column, seed=args.seed)
    how = {"objective": "rtd", "tokenizer": tokenizer, "num_proc": args.num_proc}
    sentences = kp.prepare_sentences(corpus, language=args.language, cleaning=args.cleaning, **how)
    tokenizer = tokenizer or kp.train_tokenizer(sentences["train"], vocab_size=args.vocab_size)
    building = {"objective": "rtd", "block_size": args.block_size, "dupe_factor": args.passes}
    features = kp.build_features(sentences, tokenizer, seed=args.seed, **building)
    batching = {"batch_size": args.batch_size, "seed": args.seed}
    train = kp.to_tf_dataset(features["train"], tokenizer, **batching)
    validation = kp.to_tf_dataset(features["validation"], tokenizer, training=False, **batching)

    model = model or kp.ElectraPretrainer.from_size(args.size, tokenizer, features=features["train"], seed=args.seed)
    optimizing = {"learning_rate": args.learning_rate, "schedule": args.schedule}
    model.compile(kp.create_optimizer(num_train_steps=args.steps, **optimizing), precision="auto")
    every = max(1, args.steps // 5)
    preview = kp.callbacks.ReplacedTokensPreview(validation, tokenizer, every, log_dir=args.tensorboard)
    saving = {"checkpoint_every": args.checkpoint_every, "resume": args.resume, "overwrite": args.overwrite}
    history = model.fit(
        train.repeat(),
        epochs=args.steps // args.steps_per_epoch,
        steps_per_epoch=args.steps_per_epoch,
        validation_data=validation,
        validation_freq=max(1, args.steps // args.steps_per_epoch // 10),
        callbacks=kp.callbacks.for_run(args.output, [preview], tensorboard=args.tensorboard, **saving),
    )
    kp.runs.write_metrics(args, history, documents=corpus)
    kp.save_checkpoint(model, tokenizer, args.output, overwrite=args.overwrite)
    print(f"\n{args.output} is ready: the encoder to fine-tune, and in generator/ its generator.\n{preview.render()}")


if __name__ == "__main__":
    main()
