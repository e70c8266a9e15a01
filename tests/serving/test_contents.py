"""What a folder is taken for, without loading it."""

import json
import subprocess
import sys

import pytest
import yaml

from keras_pretrain.runs import FinetuneSettings
from keras_pretrain.runs.metrics import write_record
from keras_pretrain.serving.contents import inspect_folder, seed_histories

pytest_plugins = ["pages"]


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("bert", ["fill", "compare"]),
        ("electra", ["fill", "judge", "compare"]),
        ("electra/generator", ["fill", "compare"]),
        ("classifier", ["classify", "compare"]),
        ("encoder", ["compare"]),
    ],
)
def test_a_checkpoint_is_known_by_its_head(folders, name, tasks):
    assert inspect_folder(folders / name).tasks == tasks


def test_a_discriminator_alone_fills_no_gaps(folders, tmp_path):
    (tmp_path / "alone").mkdir()
    for file in (folders / "electra").glob("*.*"):
        (tmp_path / "alone" / file.name).write_bytes(file.read_bytes())
    assert inspect_folder(tmp_path / "alone").tasks == ["judge", "compare"]


def test_a_run_is_known_before_it_has_a_checkpoint(run_writer):
    assert inspect_folder(run_writer.folder).tasks == ["run"]


def test_history_alone_is_a_run(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,step\n0,1.0,10\n")
    assert inspect_folder(tmp_path).tasks == ["run"]


def test_a_fine_tuning_is_known_after_its_first_epoch(seed_writer):
    folder = seed_writer.folder
    folder.mkdir()
    with pytest.raises(ValueError, match=r"fine-tuning.*first epoch"):
        inspect_folder(folder)
    seed_writer.write_epoch(10, 0, loss=1.0)
    seed_writer.write_epoch(9, 0, loss=1.0)
    (folder / "run" / "history-seed-mine.csv").write_text("")
    assert inspect_folder(folder).tasks == inspect_folder(folder / "run").tasks == ["run"]
    for each in (folder, folder / "run"):
        assert seed_histories(each) == {seed: folder / "run" / f"history-seed-{seed}.csv" for seed in (9, 10)}
        assert list(seed_histories(each)) == [9, 10]


@pytest.mark.parametrize("pair_column", [None, "second"])
def test_the_record_states_whether_texts_come_in_pairs(folders, tmp_path, pair_column):
    folder = tmp_path / "classifier"
    folder.mkdir()
    for file in (folders / "classifier").glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    assert inspect_folder(folder).takes_pairs is None
    (tmp_path / "labelled.csv").write_text("text,label\n가,좋음\n")
    write_record(
        FinetuneSettings(
            model=str(folders / "bert"), train=tmp_path / "labelled.csv", pair_column=pair_column, output=folder
        )
    )
    contents = inspect_folder(folder)
    assert (contents.takes_pairs, contents.tasks) == (pair_column is not None, ["classify", "compare", "run"])


def test_other_folders_are_refused(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        inspect_folder(tmp_path / "missing")
    with pytest.raises(ValueError, match="neither a checkpoint nor a run"):
        inspect_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match="gpt2"):
        inspect_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(FileNotFoundError, match="no weights"):
        inspect_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"kind": "sing"}))
    with pytest.raises(ValueError, match="sing"):
        inspect_folder(tmp_path)


COMMAND = [sys.executable, "-X", "importtime", "-m", "keras_pretrain", "serve"]


def refused(*arguments):
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert (done.returncode, done.stdout) == (2, "")
    assert "tensorflow" not in done.stderr.partition("keras-pretrain serve:")[0]
    return lines


def test_what_is_wrong_is_one_line_before_tensorflow_is_imported(folders, tmp_path):
    from keras_pretrain.serving.application import listen

    assert refused(tmp_path) == [
        f"keras-pretrain serve: error: {tmp_path} is neither a checkpoint nor a run: it has no config.json, run.yaml "
        "or history.csv. A fine-tuning has a history after its first epoch."
    ]
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        (line,) = refused(folders / "bert", "--port", port)
    assert f"--port: {port} is taken" in line
    (line,) = refused(folders / "bert", "--port", "70000")
    assert "--port must be from 0 to 65,535" in line
    (line,) = refused(folders / "bert", "--host", "192.0.2.1")
    assert "--host: 192.0.2.1 is no address of this machine" in line


def test_the_extra_is_asked_for(folders, monkeypatch, capsys):
    from keras_pretrain import system
    from keras_pretrain.commands import main

    monkeypatch.setattr(system, "installed_version", lambda name: None)
    assert main(["serve", str(folders / "bert")]) == 2
    assert "pip install 'keras_pretrain[demo]'" in capsys.readouterr().err
