"""Prepare a corpus of any size once, and pretrain on it without loading it into memory.

python examples/prepare_corpus.py --corpus my_texts/ --output prepared
keras-pretrain bert --prepared prepared --size base --steps 100000 --output my_bert

On a Ray cluster, with the corpus and the output on a disk that all machines see:

python examples/prepare_corpus.py --corpus /shared/texts --output /shared/prepared --engine ray --ray-address auto
"""

import sys

import keras_pretrain as kp
from keras_pretrain.commands import parse


def main(argv=None):
    args = parse(kp.runs.PrepareSettings, argv, description=__doc__)
    prepared = kp.prepare_corpus(
        args.corpus,
        args.output,
        text_column=args.text_column,
        sample_by=args.sample_by,
        encoding=args.encoding,
        dialect=args.dialect,
        on_bad_rows=args.on_bad_rows,
        drop_duplicates=args.drop_duplicates,
        validation_fraction=args.validation,
        language=args.language,
        cleaning=args.cleaning,
        backend=args.backend,
        tokenizer=args.tokenizer,
        vocab_size=args.vocab_size,
        lowercase=args.lowercase,
        objective=args.objective,
        block_size=args.block_size,
        line_by_line=args.line_by_line,
        dupe_factor=args.passes,
        seed=args.seed,
        num_proc=args.num_proc,
        engine=kp.prepared.RayEngine(args.ray_address) if args.engine == "ray" else None,
        overwrite=args.overwrite,
        dry_run=args.dry_run,
    )
    if args.dry_run:
        print("\n".join(f"replaced or deleted: {name}" for name in prepared.replaced))
    else:
        print(f"\n{args.output} is ready; see report.json and lengths.png.")
        print({split: len(examples) for split, examples in prepared.features.items()})


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nStopped. What is finished is kept: the same command goes on with the rest.")
        sys.exit(130)
