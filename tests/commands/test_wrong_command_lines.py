"""What a user gets wrong is one line on standard error and exit status 2, and nothing is written."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pytest

import keras_pretrain as kp
from keras_pretrain.commands import main
from keras_pretrain.folders import OwnedFolder
from keras_pretrain.runs import BertSettings

TEXTS = ["데이터를 모은다. 모델을 배운다.", "컴퓨터는 데이터를 쓴다. 사람은 글을 쓴다."] * 4

# Command lines; FILE names are those that `things` makes. Each has a word that the message must contain.
ARGUMENTS = """
bert --steps 0                       | --steps
bert --steps x                       | --steps
bert --steps=-5                      | --steps
bert --learning-rate 0               | --learning-rate
bert --learning-rate nan             | --learning-rate
bert --learning-rate fast            | --learning-rate
bert --batch-size 0                  | --batch-size
bert --batch-size 1.5                | --batch-size
bert --seed=-1                       | --seed
bert --seed one                      | --seed
bert --size huge                     | --size
bert --language fr                   | --language
bert --mask-prob 0                   | --mask-prob
bert --mask-prob 1.5                 | --mask-prob
bert --dropout 1                     | --dropout
bert --warmup-ratio 2                | --warmup-ratio
bert --weight-decay=-1               | --weight-decay
bert --epsilon 0                     | --epsilon
bert --beta-1 1                      | --beta-1
bert --beta-2=-0.1                   | --beta-2
bert --precision float8              | --precision
bert --schedule steps                | --schedule
bert --hours 0                       | --hours
bert --vocab-size 3                  | --vocab-size
bert --block-size 2                  | --block-size
bert --passes 0                      | --passes
bert --objective nsp                 | --objective
bert --cleaning all                  | --cleaning
bert --backend magic                 | magic
bert --encoding utf-99               | utf-99
bert --checkpoint-every 0            | --checkpoint-every
bert --stepz 5                       | --stepz
bert --steps                         | --steps
bort                                 | bert
bert 5                               | 5
electra --disc-weight 0              | --disc-weight
electra --size huge                  | --size
prepare                              | --corpus
prepare --corpus texts.txt           | --output
prepare --corpus texts.txt --output o --validation 1   | --validation
finetune --model bert --train labelled.csv             | --output
finetune --model bert --train labelled.csv --output o --max-length 3 | --max-length
finetune --model bert --train labelled.csv --output o --layerwise-decay 0 | --layerwise-decay
evaluate                             | --model
evaluate --model bert --data empty_folder --corpus texts.txt | --suite
evaluate --model bert --suite korean | --data
evaluate --model bert --corpus texts.txt --seeds 5 | --suite
evaluate --model bert --suite korean --data empty_folder --pair-column x | --pair-column
evaluate --model bert --suite korean --data empty_folder --output o | ko_nsmc_train
evaluate --model bert --suite swahili --data empty_folder --output o | --suite
fill-mask --model bert               | text
fill-mask --model bert 가나다        | [MASK]
fill-mask --model bert --top-k 0 가[MASK] | --top-k
"""
FILES = """
bert --corpus ./none                 | none
bert --corpus none.txt               | none.txt
bert --corpus empty.txt              | empty.txt
bert --corpus blank.txt              | blank.txt
bert --corpus letter.docx            | letter.docx
bert --corpus empty_folder           | empty_folder
bert --corpus nothing*.txt           | nothing*.txt
bert --corpus no_column.csv          | text
bert --corpus bad_row.csv            | bad_row.csv
bert --corpus latin1.txt             | latin1.txt
bert --corpus cut.txt.gz             | cut.txt.gz
bert --corpus bad.jsonl              | bad.jsonl
bert --corpus bad.parquet            | bad.parquet
bert --corpus one_document.txt       | validation
bert --prepared none                 | none
bert --prepared texts.txt            | texts.txt
bert --prepared empty_folder         | empty_folder
bert --output texts.txt              | texts.txt
bert --output foreign_model          | config.json
bert --output foreign_metrics        | metrics.json
bert --output foreign_record         | run.yaml
bert --config none.yaml              | none.yaml
bert --config empty_folder           | empty_folder
bert --config bad.yaml               | bad.yaml
bert --config list.yaml              | list.yaml
bert --config unknown.yaml           | stepz
bert --config electra.yaml           | electra
bert --config wrong.yaml             | --steps
finetune --model bert --train none.csv --output o      | none.csv
finetune --model bert --train empty_folder --output o  | empty_folder
finetune --model bert --train no_column.csv --output o | text
finetune --model bert --train one_class.csv --output o | class
finetune --model bert --train labelled.csv --validation none.csv --output o | none.csv
finetune --model bert --train labelled.csv --output foreign_model          | config.json
adapt --model bert --corpus texts.txt --add-tokens none.txt --output o     | --add-tokens
adapt --model bert --corpus texts.txt --task-train none.csv --output o     | --task-train
prepare --corpus texts.txt --output foreign_model      | foreign_model
prepare --corpus none.txt --output o                   | none.txt
prepare --corpus texts.txt --output texts.txt          | texts.txt
evaluate --model bert --corpus none.txt                | none.txt
evaluate --model bert --corpus texts.txt --json-file list.yaml | --json-file
push --model none --repo me/x        | none
"""
CHECKPOINTS = """
bert --init-from ./none              | none
bert --init-from no_config           | config.json
bert --init-from bad_config          | config.json
bert --init-from gpt                 | gpt2
bert --init-from no_weights          | weights
bert --init-from cut_weights         | cut_weights
bert --init-from no_tokenizer        | tokenizer
bert --init-from texts.txt           | texts.txt
bert --init-from electra             | electra
electra --init-from bert             | bert
electra --init-from no_generator     | generator
bert --init-from other_vocabulary    | tokens
bert --init-from bert --block-size 600 | 600
adapt --model no_weights --corpus texts.txt --output o  | weights
adapt --model bad_config --corpus texts.txt --output o  | config.json
finetune --model no_weights --train labelled.csv --output o | weights
finetune --model gpt --train labelled.csv --output o    | gpt2
evaluate --model no_weights --corpus texts.txt          | weights
evaluate --model ./none --corpus texts.txt              | none
evaluate --model bert                                   | run.yaml
fill-mask --model cut_weights 가[MASK]                  | cut_weights
fill-mask --model no_config 가[MASK]                    | config.json
export --model no_weights --output o                    | weights
export --model ./none --output o                        | none
export --model bert --output o --max-length 9999        | 9999
"""
COMBINATIONS = """
bert --corpus texts.txt --prepared empty_folder         | --prepared
bert --hours 1 --steps 5                                | --hours
bert --block-size 64 --phases 128:1                     | --phases
bert --phases 128:0.5 512:0.4                           | 0.9
bert --phases 512:0.5 128:0.5                           | increase
bert --phases 128                                       | 128
bert --phases 64:0.5 128:0.5 --steps 50                 | phases
bert --phases 128:1 --prepared empty_folder             | --prepared
bert --batch-size 10 --gradient-accumulation-steps 3    | --gradient-accumulation-steps
bert --strategy multiworker                             | TF_CONFIG
electra --init-generator-from bert                      | --init-from
adapt --model bert --add-tokens texts.txt --new-tokens 5 --output o | --new-tokens
adapt --model bert --prepared empty_folder --output o   | --prepared
finetune --model bert --train labelled.csv --output bert  | --output
adapt --model bert --corpus texts.txt --output bert     | --output
electra --init-from electra --output electra            | --output
finetune --model bert --train labelled.csv --output begun | bert
bert --prepared empty_folder --passes 3                 | --passes
bert --line-by-line                                     | --objective
prepare --corpus texts.txt --output o --line-by-line    | --objective
bert --prepared empty_folder --line-by-line             | --prepared
evaluate --model bert --corpus texts.txt --label-column x | --label-column
adapt --model bert --strategy multiworker --output o    | --strategy
push --model prepared --repo me/x                       | texts
push --model foreign_metrics --repo me/x                | config.json
prepare --corpus texts.txt --output o --ray-address auto  | --ray-address
prepare --corpus texts.txt --output o --engine ray --num-proc 2 | --num-proc
finetune --model bert --train labelled.csv --output o --regression --class-weight balanced | --class-weight
bert --output begun --size mini                         | size is mini and was tiny
bert --output begun --steps 100                         | steps is 100 and was 600
bert --output begun --hours 1                           | --hours
electra --output begun                                  | electra
bert --steps 5 --steps 6                                | --steps
evaluate --model bert --corpus texts.txt --seed 1.5     | --seed
bert --no-steps                                         | --no-steps
"""


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    folder = tmp_path_factory.mktemp("things")
    text = "\n\n".join(f"{i}번. {line}" for i, line in enumerate(TEXTS * 8))
    files = {
        "texts.txt": text,
        "empty.txt": "",
        "blank.txt": " \n\n \n",
        "letter.docx": text,
        "one_document.txt": TEXTS[0],
        "no_column.csv": "a,b\n1,2\n",
        "bad_row.csv": 'text,b\n"가,2\n나,3\n',
        "bad.jsonl": '{"text": "가"}\n{"text": \n',
        "bad.parquet": "PAR1 no parquet",
        "bad.yaml": "steps: [1\n",
        "list.yaml": "- 1\n- 2\n",
        "unknown.yaml": "stepz: 5\n",
        "electra.yaml": "kind: electra\n",
        "wrong.yaml": "steps: many\n",
        "labelled.csv": "text,label\n" + "".join(f"좋은 글 {i},{i % 2}\n" for i in range(20)),
        "one_class.csv": "text,label\n" + "".join(f"좋은 글 {i},1\n" for i in range(20)),
        "foreign_model/config.json": "{}",
        "foreign_metrics/metrics.json": "{}",
        "foreign_record/run.yaml": "mine: 1\n",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "latin1.txt").write_bytes("caf\xe9 au lait".encode("latin-1"))
    (folder / "cut.txt.gz").write_bytes(gzip.compress(text.encode())[:-20])
    (folder / "empty_folder").mkdir()
    begun = BertSettings(output=folder / "begun", steps=600).completed()
    (folder / "begun").mkdir()
    OwnedFolder(folder / "begun", "run").write_text("run.yaml", begun.to_yaml())
    OwnedFolder(folder / "prepared", "preparation").write_text("report.json", "{}")
    _make_checkpoints(folder)
    return folder


def _make_checkpoints(folder: Path) -> None:
    tokenizer = kp.train_tokenizer(TEXTS, vocab_size=60)
    kp.save_checkpoint(kp.BertPretrainer.from_size("tiny", tokenizer), tokenizer, folder / "bert")
    kp.save_checkpoint(kp.ElectraPretrainer.from_size("tiny", tokenizer), tokenizer, folder / "electra")
    broken = ("no_config", "bad_config", "gpt", "no_weights", "cut_weights", "no_tokenizer", "other_vocabulary")
    for name in broken:
        shutil.copytree(folder / "bert", folder / name)
    shutil.copytree(folder / "electra", folder / "no_generator")
    shutil.rmtree(folder / "no_generator" / "generator")
    (folder / "no_config" / "config.json").unlink()
    (folder / "bad_config" / "config.json").write_text("{")
    config = json.loads((folder / "gpt" / "config.json").read_text()) | {"model_type": "gpt2"}
    (folder / "gpt" / "config.json").write_text(json.dumps(config))
    (folder / "no_weights" / "model.safetensors").unlink()
    weights = (folder / "cut_weights" / "model.safetensors").read_bytes()
    (folder / "cut_weights" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / "no_tokenizer" / name).unlink()
    larger = kp.train_tokenizer([f"가{chr(0xAC00 + i)} 나{chr(0xAC00 + i)}" for i in range(200)], vocab_size=150)
    larger.save_pretrained(folder / "other_vocabulary")


def _lines() -> list:
    lines = []
    for block in (ARGUMENTS, FILES, CHECKPOINTS, COMBINATIONS):
        for line in block.strip().splitlines():
            command, _, word = line.rpartition("|")
            lines.append(pytest.param(command.split(), word.strip(), id=command.strip()))
    return lines


def _contents(folder: Path) -> dict:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files} | {
        str(path): "folder" for path in folder.rglob("*") if path.is_dir()
    }


def test_there_are_a_hundred_of_them():
    assert len(_lines()) >= 100


@pytest.mark.parametrize(("command", "word"), _lines())
def test_one_line_and_nothing_written(things, command, word, monkeypatch, capfd):
    monkeypatch.chdir(things)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    before = _contents(things)
    assert main(command) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("keras-pretrain")
    assert "error: " in lines[0]
    assert word in lines[0]
    assert _contents(things) == before


def test_debug_shows_the_traceback(capfd):
    assert main(["bert", "--corpus", "./none", "--debug"]) == 2
    assert "Traceback" in capfd.readouterr().err
