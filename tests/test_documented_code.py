"""The code of README.md and of the documentation runs, with tiny data and settings.

Each page is a test; of README.md and the guides, each section is one. Its blocks run in their order, in a folder with
the files of `files`. `SMALLER` and `ARGUMENTS` make them quick. What does not run is in `COMMANDS_NOT_RUN` and
`BLOCKS_NOT_RUN`, with the reason. Korean tutorials show the code of the English ones, and do not run a second time.
"""

import csv
import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import no_xla
from hub_server import TOKEN

import keras_pretrain as kp
from keras_pretrain.commands import main
from keras_pretrain.models import sizes

pytestmark = pytest.mark.usefixtures("without_xla")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COMMAND = "keras-pretrain "

# What is replaced in every block: a pattern, what stands there instead, and why.
SMALLER = [
    (r"my_reviews", "my_texts", "one corpus is enough"),
    (r"klue/bert-base", "tiny_bert", "no network"),
    (r"monologg/koelectra-base-v3", "tiny_electra", "no network"),
    (r"--hours 2\b", "--steps 2", "hours"),
    (r"--steps 40000\b", "--steps 4", "extends the run of 2 steps"),
    (r"--steps \d{4,}", "--steps 2", "hours"),
    (r"--size (small|base)", "--size tiny", "compiles and trains faster"),
    (r"--new-tokens \d+", "--new-tokens 2", "the corpus is small"),
    (r"--seeds \d+", "--seeds 1", "time"),
    (r"--task-train (\S+)", r"--task-train \1 --task-seeds 1 --task-epochs 1", "time"),
    (r"--batch-size \d+", "--batch-size 4", "the corpus is small"),
    (r"--num-proc \d+", "--num-proc 1", "two cores"),
    (r"--passes \d+", "--passes 1", "time"),
    (r"\bfrom_size\(\"(small|base)\"", 'from_size("tiny"', "compiles and trains faster"),
    (r"\bvocab_size=\d[\d_]*", "vocab_size=300", "the corpus is small"),
    (r"\bblock_size=\d+", "block_size=32", "attention over long blocks takes time"),
    (r"\bbatch_size=\d+", "batch_size=4", "the corpus is small"),
    (r"\bdupe_factor=\d+", "dupe_factor=1", "time"),
    (r"\bnum_proc=\d+", "num_proc=1", "two cores"),
    (r"\bcount=500\b", "count=5", "the corpus is small"),
    (r"\bepochs=\d+", "epochs=1", "time"),
    (r"\bsteps_per_epoch=\d+", "steps_per_epoch=2", "time"),
    (r"\bevery_steps=\d+", "every_steps=1", "there are two steps"),
    (r"\brange\(3\)", "range(1)", "time"),
    (r"\bseeds=\(1, 2, 3\)", "seeds=(1,)", "time"),
    (r"precision=\"auto\"", 'precision="float32"', "its test takes seconds"),
]
# What is added to a command, unless it has the argument already.
_TRAINING = {"--steps": "2", "--steps-per-epoch": "1", "--batch-size": "4", "--num-proc": "1", "--precision": "float32"}
_EXAMPLES = {"--block-size": "32", "--passes": "1"}
ARGUMENTS = {
    "bert": _TRAINING | _EXAMPLES | {"--vocab-size": "300"},
    "electra": _TRAINING | _EXAMPLES | {"--vocab-size": "300"},
    "adapt": _TRAINING | _EXAMPLES,
    "prepare": {"--num-proc": "1", "--block-size": "32", "--vocab-size": "300"},
    "finetune": {"--epochs": "1", "--batch-size": "8", "--max-length": "32"},
}
OF_CORPUS = ("--block-size", "--passes", "--vocab-size")  # refused beside --prepared and --init-from

# How commands begin that do not run.
COMMANDS_NOT_RUN = {
    'pip install -e ".[korean,plots]" && python examples/pretrain_bert.py': ".ci/run runs it as it stands",
    'pip install -e ".[test]" && python -m pytest': ".ci/run runs it as it stands",
    "pip install": ".ci/run installs the package",
    "keras-pretrain doctor": "the result depends on the machine; tests/runs/test_doctor.py runs it",
    "keras-pretrain bert --prepared prepared --strategy mirrored": "needs GPUs; the Python below it runs without",
    "keras-pretrain serve": "answers until Ctrl-C; tests/serving runs it",
    "TF_CONFIG=": "needs several machines; tests/training/test_workers.py starts two processes",
    "keras-pretrain prepare --corpus /shared/texts": "needs a Ray cluster; tests/preparation starts one",
}
# How blocks begin that do not run.
BLOCKS_NOT_RUN = {
    "train: 2,524 pairs": "output of a command",
    "step 1,200 of 20,000": "output of a command",
    "The loss has exploded": "a message",
    'model.fit(train.repeat(), epochs=10, steps_per_epoch=100, callbacks=kp.callbacks.for_run("my_bert"))': (
        "a part of a script; tutorials/first-model.md has the whole"
    ),
    'kp.push_to_hub("my_bert", "me/my_bert", private=True)  #': "a part of a script; how-to/hub.md has the whole",
    "!pip install": "Colab",
    "from google.colab import drive": "Colab",
}
# Folders that a page takes from an earlier page: the name there, and the one in `files`.
GIVEN = {
    "tutorials/sentence-pairs.md": {"my_bert": "tiny_bert"},
    "how-to/hub.md": {"my_bert": "tiny_bert"},
    "how-to/serving.md": {"my_bert": "tiny_bert"},
    "how-to/compare-models.md": {"my_bert": "tiny_bert"},
    "how-to/several-gpus.md": {"prepared": "ready"},
    "how-to/starving-gpu.md": {"prepared": "ready"},
    "models.md: Handing the model over": {"my_bert": "tiny_bert"},
}


def documented() -> dict[str, list[tuple[str, str]]]:
    """The blocks of each page, or of each section of README.md and of a guide: language and code."""
    pages = {"README.md": ROOT / "README.md"}
    pages |= {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))}
    units = {}
    for name, path in pages.items():
        if name.startswith("ko/"):
            continue
        sections = [path.read_text(encoding="utf-8")]
        if "/" not in name:
            sections = re.split(r"^## (?=.)", sections[0], flags=re.MULTILINE)
        for section in sections:
            title = section.partition("\n")[0].strip("# ")
            blocks = blocks_of(section)
            if blocks:
                units[name if len(sections) == 1 else f"{name}: {title}"] = blocks
    return units


def blocks_of(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


UNITS = documented()


def commands(block: str) -> list[str]:
    """The commands of a block, one a line, without comments; lines that end with a backslash go on."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def is_listed(code: str, beginnings: dict[str, str]) -> bool:
    return code.startswith(tuple(beginnings))


def smaller(code: str) -> str:
    for pattern, replacement, _ in SMALLER:
        code = re.sub(pattern, replacement, code)
    return code


def run_command(line: str) -> None:
    verb, *arguments = shlex.split(smaller(line))[1:]
    arguments += ["--size", "tiny"] if "--config" in arguments and verb in ("bert", "electra") else []
    for name, value in ARGUMENTS.get(verb, {}).items():
        is_refused = name in OF_CORPUS and "--prepared" in arguments
        is_refused |= name == "--vocab-size" and "--init-from" in arguments
        if name not in arguments and not is_refused:
            arguments += [name, value]
    assert main([verb, *arguments]) == 0, line


def run_block(language: str, block: str, names: dict) -> None:
    if is_listed(block, BLOCKS_NOT_RUN):
        return
    if language == "yaml":
        Path("my_suite.yaml").write_text(block, encoding="utf-8")
        return
    if language == "python":
        exec(compile(smaller(block), block.partition("\n")[0], "exec"), names)
        return
    for line in commands(block):
        if not is_listed(line, COMMANDS_NOT_RUN):
            assert line.startswith(COMMAND), f"{line!r} is no command that this test runs: list it here"
            run_command(line)


@pytest.fixture(scope="module", autouse=True)
def smallest_sizes():
    """The size "tiny" is one narrow layer: most of the time goes to tracing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sizes.BERT_SIZES, "tiny", (1, 32, 2))
        patch.setitem(sizes.ELECTRA_SIZES, "tiny", (1, 32, 16, 2, 1 / 2))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with every file and checkpoint that the pages name."""
    folder = tmp_path_factory.mktemp("files")
    documents = kp.load_sample("ko")["text"][:40]
    with gzip.open(folder / "my_texts.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)
    (folder / "my_texts").mkdir()
    (folder / "my_texts" / "part.txt").write_text("\n\n".join(documents), encoding="utf-8")
    (folder / "book.txt").write_text("\n".join(text.replace("\n", " ") for text in documents), encoding="utf-8")
    sentences = [f"딥러닝 모델은 텐서플로로 {number}번 학습한다" for number in range(60)]
    labels = [str(number % 2) for number in range(60)]
    write_csv(folder / "my_texts.csv", sentence=sentences)
    write_csv(folder / "labelled.csv", text=sentences, label=labels)
    write_csv(folder / "from_excel.csv", "cp949", text=sentences)
    for name in ("pairs.csv", "test.csv"):
        write_csv(folder / name, text=sentences, sentence1=sentences, sentence2=sentences[::-1], label=labels)

    (folder / "words.txt").write_text("텐서플로\n##러닝\n", encoding="utf-8")
    (folder / "benchmark").mkdir()
    for name in ("ko_nsmc_train", "ko_nsmc_validation", "ko_hate_train", "ko_korsts_train", "ko_korsts_validation"):
        scores = [str(number % 6) for number in range(60)]
        columns = {"text_b": sentences[::-1], "label": scores} if "korsts" in name else {"label": labels}
        write_csv(folder / "benchmark" / f"{name}.csv", text=sentences, **columns)
    write_csv(folder / "benchmark" / "my_topics.csv", body=sentences, topic=labels)
    write_csv(folder / "benchmark" / "my_held_out_texts.csv", text=sentences)

    settings = {"vocab_size": 300, "block_size": 32, "num_proc": 1}
    tokenizer = kp.prepare_corpus(folder / "my_texts.jsonl.gz", folder / "ready", **settings).tokenizer
    with no_xla():
        bert = kp.BertPretrainer.from_size("tiny", tokenizer)
        kp.save_checkpoint(bert, tokenizer, folder / "tiny_bert")
        electra = kp.ElectraPretrainer.from_size("tiny", tokenizer)
        kp.save_checkpoint(electra, tokenizer, folder / "tiny_electra-discriminator")
    # On the Hub the two networks are repositories of their own.
    shutil.move(folder / "tiny_electra-discriminator" / "generator", folder / "tiny_electra-generator")
    return folder


def write_csv(path: Path, encoding: str = "utf-8", **columns: list[str]) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


@pytest.fixture
def folder_of_files(files, tmp_path, monkeypatch, hub):
    """A copy of `files` as the current folder, and a Hub on loopback that takes uploads."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"  # what the client makes of HF_ENDPOINT at import
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template)
    shutil.copytree(files, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("unit", UNITS)
def test_the_code_of_a_page_runs(unit, folder_of_files):
    for name, given in GIVEN.get(unit, {}).items():
        shutil.copytree(folder_of_files / given, folder_of_files / name)
    names = {"kp": kp} if ": " in unit else {}  # a section leaves out the import; a page does not
    for language, block in UNITS[unit]:
        run_block(language, block, names)


def test_what_is_not_run_is_there():
    blocks = [block for blocks in UNITS.values() for _, block in blocks]
    lines = [line for block in blocks for line in commands(block)]
    for code, listed in ((blocks, BLOCKS_NOT_RUN), (lines, COMMANDS_NOT_RUN)):
        assert [beginning for beginning in listed if not any(each.startswith(beginning) for each in code)] == []


@pytest.mark.parametrize("page", sorted((DOCS / "ko" / "tutorials").glob("*.md")), ids=lambda page: page.name)
def test_a_korean_tutorial_shows_the_code_of_the_english_one(page):
    english, korean = (
        re.sub(r"  # .*", "", "\n".join(code for _, code in blocks_of(path.read_text(encoding="utf-8"))))
        for path in (DOCS / "tutorials" / page.name, page)
    )
    assert english == korean
