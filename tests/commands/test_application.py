"""The command: help, versions, settings as YAML, and what a script's own parser does."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import yaml

from keras_pretrain.commands import main, parse
from keras_pretrain.runs import BertSettings


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["bert", "--help"], ["finetune", "--help"]])
def test_help_needs_no_tensorflow(arguments):
    code = (
        "import sys; from keras_pretrain.commands import main; status = main(sys.argv[1:]); "
        "assert not {'tensorflow', 'transformers', 'datasets'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_every_setting_has_a_flag_with_help(capsys):
    main(["bert", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for flag in ("--precision", "--gradient-accumulation-steps"[:27], "--mask-prob", "--dropout", "--schedule",
                 "--warmup-ratio", "--weight-decay", "--epsilon", "--beta-1", "--strategy", "--no-resume"):  # fmt: skip
        assert flag in shown


def test_settings_are_printed_as_yaml_that_is_read_again(tmp_path, capsys):
    assert main(["bert", "--steps", "170", "--phases", "64:0.5", "128:0.5", "--no-resume", "--print-config"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    assert main(["bert", "--config", str(tmp_path / "my.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text
    assert main(["bert", "--config", str(tmp_path / "my.yaml"), "--steps=190", "--resume", "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert (values["steps"], values["phases"]) == (190, ["64:0.5", "128:0.5"])


def test_hours_on_the_command_line_take_the_place_of_steps_in_a_file(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("kind: bert\nsteps: 500\nplanned_steps: 300\n", encoding="utf-8")
    assert main(["bert", "--config", str(tmp_path / "my.yaml"), "--hours", "2", "--print-config"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert (values["steps"], values["hours"], values["planned_steps"]) == (None, 2.0, None)


def test_a_script_without_arguments_has_its_defaults():
    assert parse(BertSettings, []).steps == 600


def test_a_script_takes_the_settings_that_it_names(capsys):
    args = parse(BertSettings, ["--steps", "5", "--size", "mini"], takes=("steps", "size"), steps_per_epoch=1)
    assert (args.steps, args.size, args.learning_rate) == (5, "mini", 1e-3)
    with pytest.raises(SystemExit) as ended:
        parse(BertSettings, ["--hours", "1"], takes=("steps",))
    assert ended.value.code == 2
    assert "--hours" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        parse(BertSettings, ["--help"], takes=("steps",), description="What it does.")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "What it does." in shown
    assert "--size" not in shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("learning_rate must be above 0, not -1.", "--learning-rate must be above 0, not -1."),
        ("pass overwrite=True to replace it", "pass --overwrite to replace it"),
        ("start anew with resume=False, which", "start anew with --no-resume, which"),
        ("set seed=3 or block_size=64", "set --seed 3 or --block-size 64"),
        ("/home/block_size/x is missing", "/home/block_size/x is missing"),
        ("seed must be at least 0", "--seed must be at least 0"),
        ("`corpus` and `prepared` exclude", "--corpus and --prepared exclude"),
        ("give encoding=... or on_bad_rows='skip'", "give --encoding ... or --on-bad-rows skip"),
    ],
)
def test_messages_name_the_flags(said, shown, capsys):
    @dataclass(frozen=True, kw_only=True)
    class Refusing(BertSettings):
        def __post_init__(self):
            raise ValueError(said)

    with pytest.raises(SystemExit):
        parse(Refusing, [])
    assert capsys.readouterr().err.endswith(f": error: {shown}\n")


def test_a_table_of_models_of_which_only_some_have_a_metric():
    from keras_pretrain.runs.evaluating import table

    text = table({"first": {"mlm_loss": 1.5}, "second": {"mlm_loss": 2.5, "pipeline_loss": 3.5}})
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["mlm_loss", "1.5", "2.5"],
        ["pipeline_loss", "-", "3.5"],
    ]
