"""Prepare a corpus of any size once, for as many pretraining runs as you like.

python examples/prepare_corpus.py --corpus my_texts/ --output prepared
python examples/pretrain_bert.py --prepared prepared --size base --steps 100000

On a Ray cluster, with the corpus and the output on a disk that all machines see:

python examples/prepare_corpus.py --corpus /shared/texts --output /shared/prepared --engine ray --ray-address auto
"""

import argparse
import json
import sys
import time
from pathlib import Path

import keras_pretrain as kp
from keras_pretrain.corpus.cleaning import CLEANINGS
from keras_pretrain.features.building import OBJECTIVES


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="a file, folder, glob or name on the Hub")
    parser.add_argument("--output", type=Path, required=True, help="the folder; the same command goes on after a crash")
    parser.add_argument("--text-column", default="text")
    parser.add_argument(
        "--sample-by", choices=("paragraph", "line"), default="paragraph", help="what a document is in a .txt file"
    )
    parser.add_argument("--encoding", default="utf-8", help="of text files; cp949 for many Korean Excel files")
    parser.add_argument("--dialect", help="of .csv and .tsv files: a delimiter, excel, excel-tab or unix")
    parser.add_argument("--on-bad-rows", choices=("error", "skip"), default="error", help="rows that cannot be read")
    parser.add_argument("--drop-duplicates", action="store_true", help="leave out texts that occurred before")
    parser.add_argument("--language", choices=("ko", "en"), default="ko")
    parser.add_argument("--cleaning", choices=CLEANINGS, help="default: comments for ko, prose for en")
    parser.add_argument(
        "--backend", help="what splits sentences; default: kiwi for ko, punkt for en, lines where none are needed"
    )
    parser.add_argument("--validation", type=float, default=0.1, help="share of the documents to hold out")
    parser.add_argument("--tokenizer", help="a folder or name on the Hub; default: a new one")
    parser.add_argument("--vocab-size", type=int, default=25_000, help="of a new tokenizer")
    parser.add_argument("--objective", choices=OBJECTIVES, default="mlm+nsp", help="rtd: for ELECTRA")
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--passes", type=int, default=1, help="times that examples are made, each time with other cuts")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--num-proc", type=int, help="processes; default: one a processor")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--overwrite", action="store_true", help="take over a folder that an older version prepared")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written and replaced, and stop")
    parser.add_argument("--ray-address", help="of a Ray cluster; default: RAY_ADDRESS, or this machine alone")
    args = parser.parse_args(argv)
    if args.ray_address and args.engine != "ray":
        parser.error("--ray-address is for --engine ray")
    if args.num_proc and args.engine == "ray":
        parser.error("--num-proc is for --engine local: a Ray cluster has its own number of processors")
    return args


def main(argv=None):
    args = parse_arguments(argv)
    begun = time.perf_counter()
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
        objective=args.objective,
        block_size=args.block_size,
        dupe_factor=args.passes,
        seed=args.seed,
        num_proc=args.num_proc,
        engine=kp.prepared.RayEngine(args.ray_address) if args.engine == "ray" else None,
        overwrite=args.overwrite,
        dry_run=args.dry_run,
    )
    if args.dry_run:
        print("\n".join(f"replaced or deleted: {name}" for name in prepared.replaced))
        return
    report = prepared.report
    print(f"\n{args.output} is ready after {time.perf_counter() - begun:,.0f} s; see report.json and lengths.png.")
    for split in (name for name in ("train", "validation") if name in report):
        figures = {name: value for name, value in report[split].items() if name not in ("files", "lengths")}
        print(f"{split}: {json.dumps(figures)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\nStopped. What is finished is kept: the same command goes on with the rest.")
        sys.exit(130)
