"""Measure the preparation of examples: the speed of each stage beside the tutorials' code, and the memory it needs.

    python -m benchmarks.preparation --corpus my_texts.jsonl.gz [--rounds 3] [--memory-megabytes 20 400]

The stages run in one process with one thread, on documents of the corpus. The memory is measured for `prepare_corpus`
with two processes, on the corpus repeated with changes until it has the given number of megabytes. There, Korean
sentences are split by the fast backend of kss, because only the memory matters, not the time.
"""

import argparse
import gc
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from datasets import Dataset
from soynlp.normalizer import repeat_normalize

import keras_pretrain as kp
from keras_pretrain.corpus.cleaning import _COMMENT_URL, _unwanted
from keras_pretrain.corpus.sentences import make_splitter
from keras_pretrain.features.building import build_block
from keras_pretrain.features.tokenizing import choose_tokenize, tokenize_documents

BLOCK_SIZE, VOCAB_SIZE = 128, 8000
QUICK = {"ko": "fast", "en": "punkt"}  # fast sentence splitters, for measuring memory
CHARACTERS = {"ours": 1_000_000, "tutorial": 1_000_000, "splitting": 400_000, "pecab": 3_000}


def take(texts: list[str], characters: int) -> list[str]:
    taken, size = [], 0
    for text in texts:
        if size >= characters:
            break
        taken.append(text)
        size += len(text)
    return taken


def tutorial_clean(texts: list[str]) -> list[str]:
    def clean(example):
        text = _COMMENT_URL.sub("", _unwanted().sub(" ", example["text"]))
        return {"text": repeat_normalize(text.strip(), num_repeats=2)}

    return Dataset.from_dict({"text": texts}).map(clean)["text"]


def tutorial_examples(documents: list[list[str]], tokenizer) -> Dataset:
    """Make pairs as in the tutorials: BERT's algorithm on lists in `Dataset.map`, which tokenizes one sentence at a
    time and pads each pair."""
    most = BLOCK_SIZE - 3

    def pair(batch):
        tokenized = [
            [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(sentence)) for sentence in document]
            for document in batch["sentences"]
        ]
        columns = {name: [] for name in ("input_ids", "token_type_ids", "attention_mask", "next_sentence_label")}
        for number, document in enumerate(tokenized):
            chunk, i = [], 0
            target = random.randint(2, most) if random.random() < 0.1 else most
            while i < len(document):
                chunk.append(document[i])
                if i == len(document) - 1 or sum(map(len, chunk)) >= target:
                    cut = random.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
                    a = [token for sentence in chunk[:cut] for token in sentence]
                    is_random = len(chunk) == 1 or random.random() < 0.5
                    if is_random:
                        other = random.choice([*tokenized[:number], *tokenized[number + 1 :]] or tokenized) or [[]]
                        following = other[random.randrange(len(other)) :]
                        i -= len(chunk) - cut
                    else:
                        following = chunk[cut:]
                    b = []
                    for sentence in following:
                        b.extend(sentence)
                        if is_random and len(b) >= target - len(a):
                            break
                    example = {
                        "input_ids": tokenizer.build_inputs_with_special_tokens(a, b),
                        "token_type_ids": tokenizer.create_token_type_ids_from_sequences(a, b),
                    }
                    padded = tokenizer.pad(example, padding="max_length", max_length=BLOCK_SIZE)
                    for name, values in padded.items():
                        columns[name].append(values[:BLOCK_SIZE])
                    columns["next_sentence_label"].append(int(is_random))
                    chunk = []
                i += 1
        return columns

    sentences = Dataset.from_dict({"sentences": documents})
    return sentences.map(pair, batched=True, remove_columns=["sentences"])


class Fresh:
    """Changes the texts before each call and splits them, because kss caches the texts that it has split."""

    def __init__(self, splitter, texts: list[str]):
        self.splitter, self.texts, self.calls = splitter, texts, 0

    def __call__(self):
        self.calls += 1
        digit = str(self.calls % 10)
        for text in self.texts:
            self.splitter("\n".join(f"{digit} {line}" for line in text.splitlines()))


def stages(texts: list[str]) -> dict:
    """Return `{stage: {contender: (texts, function)}}`. Each function is called once per round."""
    blocks = {name: take(texts, characters) for name, characters in CHARACTERS.items()}
    splitters = {name: make_splitter(name) for name in ("mecab", "kiwi", "pecab")}
    for splitter in splitters.values():
        splitter("하나다. 둘이다.")
    split = make_splitter("fast")
    sentences = [split(kp.clean_text(text)) for text in blocks["ours"]]
    tokenizer = kp.train_tokenizer(sentences, vocab_size=VOCAB_SIZE)

    def tokenize():
        return tokenize_documents(sentences, choose_tokenize(tokenizer))  # a new function, with an empty cache

    corpus = tokenize()

    def build(corpus=corpus):
        build_block(0, [corpus], True, tokenizer, "mlm+nsp", BLOCK_SIZE, 0.1, 42, 1)

    build()
    ours, tutorial = blocks["ours"], blocks["tutorial"]
    return {
        "cleaning": {
            "ours": (ours, lambda: [kp.clean_text(text) for text in ours]),
            "tutorial": (tutorial, lambda: tutorial_clean(tutorial)),
        },
        "splitting": {
            "ours (mecab)": (blocks["splitting"], Fresh(splitters["mecab"], blocks["splitting"])),
            "ours (kiwi)": (blocks["splitting"], Fresh(splitters["kiwi"], blocks["splitting"])),
            "tutorial (pecab)": (blocks["pecab"], Fresh(splitters["pecab"], blocks["pecab"])),
        },
        "training a tokenizer": {"ours": (ours, lambda: kp.train_tokenizer(sentences, vocab_size=VOCAB_SIZE))},
        "tokenizing": {"ours": (ours, tokenize)},
        "pairing": {"ours": (ours, build)},
        "tokenizing and pairing": {
            "ours": (ours, lambda: build(tokenize())),
            "tutorial": (ours, lambda: tutorial_examples(sentences, tokenizer)),
        },
    }


def time_stages(texts: list[str], rounds: int) -> None:
    table = stages(texts)
    gc.freeze()  # else each collection scans the objects of the analysers, which takes half a second
    seconds = {(stage, name): [] for stage, contenders in table.items() for name in contenders}
    for _ in range(rounds):
        for (stage, name), times in seconds.items():
            begun = time.perf_counter()
            table[stage][name][1]()
            times.append(time.perf_counter() - begun)
    print(f"\n{'':44}{'MB/s':>10}{'documents/s':>14}{'characters/s':>16}   faster by")
    for stage, contenders in table.items():
        rates = {}
        for name, (documents, _) in contenders.items():
            middle = statistics.median(seconds[stage, name])
            characters = sum(map(len, documents))
            rates[name] = [characters / each for each in seconds[stage, name]]
            megabytes = sum(len(text.encode()) for text in documents) / 1e6
            figures = f"{megabytes / middle:>10,.3f}{len(documents) / middle:>14,.2f}{characters / middle:>16,.0f}"
            first = next(iter(rates))
            pairs = zip(rates[first], rates[name], strict=True)
            ratio = statistics.median(ours / theirs for ours, theirs in pairs)
            print(f"{stage + ', ' + name:44}{figures}" + (f"   {ratio:,.1f}" if name != first else ""))


def write_corpus(texts: list[str], megabytes: int, path: Path) -> Path:
    """Write the documents repeatedly as JSON lines, each time with shuffled lines and replaced digits."""
    rng, size = random.Random(0), 0
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        while size < megabytes * 1e6:
            for text in texts:
                lines = text.splitlines()
                rng.shuffle(lines)
                changed = "\n".join(lines).translate({ord(str(i)): str(rng.randrange(10)) for i in range(10)})
                size += len(changed.encode())
                file.write(json.dumps({"text": changed}, ensure_ascii=False) + "\n")
                if size >= megabytes * 1e6:
                    break
    return path


def measure_memory(corpus: Path, folder: Path, num_proc: int, language: str) -> tuple[float, float, float, float]:
    """Run `prepare_corpus`. Returns the peak resident memory in MiB of the parent, of the largest worker and of all
    processes together, and the seconds that it took."""
    command = [
        sys.executable, "-c",
        "import sys, keras_pretrain as kp\n"
        "kp.prepare_corpus(sys.argv[1], sys.argv[2], vocab_size=8000, num_proc=int(sys.argv[3]),"
        " language=sys.argv[4], backend=sys.argv[5])",
        str(corpus), str(folder), str(num_proc), language, QUICK[language],
    ]  # fmt: skip
    most = {"parent": 0.0, "worker": 0.0, "all": 0.0}
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            resident = {pid: _resident(pid) for pid in _family(process.pid)}
            parent = resident.pop(process.pid, 0.0)
            now = {"parent": parent, "worker": max(resident.values(), default=0.0)}
            now["all"] = parent + sum(resident.values())
            most = {name: max(most[name], now[name]) for name in most}
            time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"prepare_corpus ended with status {process.returncode}.")
    return *most.values(), time.perf_counter() - begun


def _family(pid: int) -> list[int]:
    family = [pid]
    for member in family:
        try:
            for task in Path(f"/proc/{member}/task").iterdir():
                family += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # the process has ended
    return family


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-megabytes", type=int, nargs="*", default=[20, 400])
    parser.add_argument("--num-proc", type=int, default=2)
    parser.add_argument("--language", choices=sorted(QUICK), default="ko", help="of the memory's corpus")
    args = parser.parse_args()
    kp.enable_logging()
    texts = kp.load_corpus(args.corpus, validation_fraction=0)["train"]["text"][:]
    if args.rounds:
        time_stages(texts, args.rounds)
    print(f"\n{'corpus, MB':>12}{'parent, MiB':>14}{'a worker, MiB':>16}{'all, MiB':>12}{'s':>10}")
    for megabytes in args.memory_megabytes:
        with tempfile.TemporaryDirectory() as folder:
            corpus = write_corpus(texts, megabytes, Path(folder) / "corpus.jsonl.gz")
            parent, worker, together, seconds = measure_memory(
                corpus, Path(folder) / "prepared", args.num_proc, args.language
            )
        print(f"{megabytes:>12,}{parent:>14,.0f}{worker:>16,.0f}{together:>12,.0f}{seconds:>10,.0f}", flush=True)


if __name__ == "__main__":
    main()
