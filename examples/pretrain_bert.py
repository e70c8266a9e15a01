"""Pretrain a BERT on your own documents; the result is a fill-mask model.

python examples/pretrain_bert.py                                  # the sample inside the package
python examples/pretrain_bert.py --corpus my_texts.jsonl.gz --size small --steps 20000 --output my_bert
"""

from transformers import AutoTokenizer

import keras_pretrain as kp
from keras_pretrain.commands import parse
from keras_pretrain.export.answers import fill_gaps

TAKES = (
    "corpus", "corpus_name", "text_column", "language", "cleaning", "init_from", "objective", "size", "vocab_size",
    "block_size", "batch_size", "passes", "steps", "steps_per_epoch", "learning_rate", "schedule", "seed", "num_proc",
    "output", "checkpoint_every", "resume", "overwrite", "tensorboard",
)  # fmt: skip
PROMPTS = {"ko": "질문 하나에는 한 가지 내용만 담는 것이 [MASK]이다.", "en": "Names refer to [MASK]."}
NEXT = ("evaluate --model", "serve", "fill-mask '여러 사람이 [MASK]를 함께 쓴다.' --model")


def main(argv=None):
    args = parse(kp.runs.BertSettings, argv, description=__doc__, takes=TAKES)
    kp.runs.require_output(args)  # errors are reported now, not after the training
    tokenizer = AutoTokenizer.from_pretrained(args.init_from) if args.init_from else None
    corpus = kp.load_corpus(args.corpus or kp.load_sample(args.language), text_column=args.text_column, seed=args.seed)
    how = {"objective": args.objective, "tokenizer": tokenizer, "num_proc": args.num_proc}
    sentences = kp.prepare_sentences(corpus, language=args.language, cleaning=args.cleaning, **how)
    tokenizer = tokenizer or kp.train_tokenizer(sentences["train"], vocab_size=args.vocab_size)
    building = {"objective": args.objective, "block_size": args.block_size, "dupe_factor": args.passes}
    features = kp.build_features(sentences, tokenizer, seed=args.seed, **building)
    batching = {"batch_size": args.batch_size, "seed": args.seed}
    train = kp.to_tf_dataset(features["train"], tokenizer, **batching)
    validation = kp.to_tf_dataset(features["validation"], tokenizer, training=False, **batching)
    if args.init_from:
        model = kp.BertPretrainer.from_pretrained(args.init_from, seed=args.seed)
    else:
        model = kp.BertPretrainer.from_size(args.size, tokenizer, features=features["train"], seed=args.seed)
    optimizing = {"learning_rate": args.learning_rate, "schedule": args.schedule}
    model.compile(kp.create_optimizer(num_train_steps=args.steps, **optimizing), precision="auto")
    preview = kp.callbacks.FillMaskPreview(validation, tokenizer, max(1, args.steps // 5), log_dir=args.tensorboard)
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
    ((gap,),) = fill_gaps(args.output, [PROMPTS[args.language]], 3)
    print(f"\n{args.output} is ready, with training_curves.png. A text that it has not seen:\n{preview.render()}")
    print("A text of the sample:", PROMPTS[args.language], *(f"\n  {each.probability:.0%} {each.word}" for each in gap))
    print("Next:", *(f"\n  keras-pretrain {verb} {args.output}" for verb in NEXT))


if __name__ == "__main__":
    main()
