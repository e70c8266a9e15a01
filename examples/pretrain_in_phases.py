"""Pretrain a BERT on short blocks first and on long ones at the end, as the original BERT was trained. The cost of
attention grows with the square of the length, and short blocks teach the model most of what it learns.

python examples/pretrain_in_phases.py --corpus my_texts.jsonl.gz --size small --steps 20000 --phases 128:0.9 512:0.1
"""

import keras_pretrain as kp
from keras_pretrain.commands import parse

TAKES = (
    "corpus", "corpus_name", "text_column", "language", "cleaning", "size", "vocab_size", "phases", "batch_size",
    "passes", "steps", "steps_per_epoch", "learning_rate", "schedule", "seed", "num_proc", "output",
    "checkpoint_every", "resume", "overwrite",
)  # fmt: skip


def main(argv=None):
    args = parse(kp.runs.BertSettings, argv, description=__doc__, takes=TAKES, phases=("128:0.9", "512:0.1"))
    kp.runs.require_output(args)  # errors are reported now, not after the training
    corpus = kp.load_corpus(args.corpus or kp.load_sample(args.language), text_column=args.text_column, seed=args.seed)
    sentences = kp.prepare_sentences(corpus, language=args.language, cleaning=args.cleaning, num_proc=args.num_proc)
    tokenizer = kp.train_tokenizer(sentences["train"], vocab_size=args.vocab_size)

    # All phases are prepared before the first one is trained, so errors in a later phase are reported now.
    phases, data = args.plan(), []
    for phase in phases:
        building = {"block_size": phase.block_size, "dupe_factor": args.passes, "seed": args.seed}
        features = kp.build_features(sentences, tokenizer, **building)
        batching = {"batch_size": phase.batch_size, "seed": args.seed}
        train = kp.to_tf_dataset(features["train"], tokenizer, **batching)
        data.append((features, train, kp.to_tf_dataset(features["validation"], tokenizer, training=False, **batching)))

    # All phases share one optimizer and one schedule.
    model = kp.BertPretrainer.from_size(args.size, tokenizer, features=data[0][0]["train"], seed=args.seed)
    optimizing = {"learning_rate": args.learning_rate, "schedule": args.schedule}
    model.compile(kp.create_optimizer(num_train_steps=args.steps, **optimizing), precision="auto")
    saving = {"checkpoint_every": args.checkpoint_every, "resume": args.resume, "overwrite": args.overwrite}
    for phase, (_, train, validation) in zip(phases, data, strict=True):
        print(f"\n{phase.steps} steps of {phase.batch_size} blocks of {phase.block_size} tokens")
        history = model.fit(
            train.repeat(),
            epochs=phase.steps // args.steps_per_epoch,
            steps_per_epoch=args.steps_per_epoch,
            validation_data=validation,
            validation_freq=max(1, phase.steps // args.steps_per_epoch // 10),
            callbacks=kp.callbacks.for_run(args.output, part=phase.name, **saving),
        )
    kp.runs.write_metrics(args, history, documents=corpus)
    kp.save_checkpoint(model, tokenizer, args.output, overwrite=args.overwrite)
    print(f"\n{args.output} is ready.")


if __name__ == "__main__":
    main()
