"""What a model card says, and what it keeps to itself."""

import copy
import json
import re

import pytest
import yaml

import keras_pretrain as kp
from keras_pretrain.export.model_card import card_on_hub
from keras_pretrain.tokenization import record_cleaning

RUN = {
    "loss": 6.1234567,
    "val_mlm_loss": 6.5349,
    "val_nsp_loss": None,
    "tokens_per_second": 12345.6,
    "corpus": {"name": "me/ko_docs", "on_hub": True, "language": "ko", "train": 1786, "validation": 198},
    "settings": {"block_size": 128, "learning_rate": 1e-3, "shapes": [[128, 32]], "schedule": "linear"},
    "base": "klue/bert-base",
    "base_model": "klue/bert-base",
    "task": None,
    "seconds": {"training": 3.0},
    "versions": {"tensorflow": "2.21.0"},
}
OLD_RUN = {
    "val_mlm_loss": 6.5349,
    "corpus": {"train": 1786, "validation": 198},
    "arguments": {
        "corpus": "/home/kim/secret/ko_docs.jsonl.gz", "prepared": "/home/kim/prepared", "tensorboard": "logs/of_kim",
        "task_train": "kim.csv", "language": "ko", "block_size": 128, "learning_rate": 1e-3, "size": "tiny",
        "init_from": "/home/kim/base", "output": "/home/kim/out", "num_proc": 3, "resume": True,
    },
    "versions": {"keras_pretrain": "0.1.0"},
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tokenizer):
    return kp.BertPretrainer.from_size("tiny", tokenizer)


def card_of(model, tokenizer, folder, **settings):
    kp.save_checkpoint(model, tokenizer, folder, **settings)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_card_tells_the_run(model, tokenizer, tmp_path):
    card = card_of(model, tokenizer, tmp_path / "my_bert", run=RUN)
    assert yaml.safe_load(card.split("---")[1]) == {
        "language": "ko",
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "datasets": ["me/ko_docs"],
        "base_model": "klue/bert-base",
        "tags": ["keras_pretrain", "bert", "tensorflow", "safetensors"],
    }
    for line in (
        "# my_bert",
        "Corpus: me/ko_docs; Korean; 1,786 documents for train, 198 documents for validation.",
        "| block size | 128 |",
        "| schedule | linear |",
        "| val_mlm_loss | 6.535 |",
        "12,346 tokens per second.",
        "Made with tensorflow 2.21.0.",
        "| layers | 2 |",
        f"| parameters | {model.count_params():,} |",
        "WordPiece, 15 tokens, cased; special tokens `[UNK]`, `[SEP]`, `[PAD]`, `[CLS]`, `[MASK]`.",
        'model = TFBertForPreTraining.from_pretrained("my_bert")',
        'model = BertForPreTraining.from_pretrained("my_bert")',
        'answers = pipeline("fill-mask", model="my_bert")',
    ):
        assert line in card.splitlines()
    assert "trained with keras_pretrain. Training continued from klue/bert-base." in card
    assert "nan" not in card.lower()
    assert "None" not in card


@pytest.mark.parametrize("run", [RUN, OLD_RUN])
def test_paths_of_a_machine_are_not_told(model, tokenizer, tmp_path, run):
    folder = tmp_path / "my_bert"
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(run | {"versions": {"keras_pretrain": "0.1.0"}}))
    card = card_of(model, tokenizer, folder)
    assert "kim" not in card
    assert str(tmp_path) not in card
    for line in ("| block size | 128 |", "| learning rate | 0.001 |", "| val_mlm_loss | 6.535 |"):
        assert line in card.splitlines()


def test_a_corpus_without_a_name_and_a_local_base_are_said_so(model, tokenizer, tmp_path):
    run = {
        "corpus": {"name": None, "on_hub": False, "language": "en"},
        "base": "a local checkpoint",
        "base_model": None,
    }
    card = card_of(model, tokenizer, tmp_path, run=run | {"task": {"name": "nsmc"}})
    assert "Corpus: a local corpus; English." in card
    assert "Training continued from a local checkpoint." in card
    assert "Task: nsmc." in card
    assert "base_model" not in card
    assert "datasets" not in card


def test_metrics_that_are_no_number_are_left_out(model, tokenizer, tmp_path):
    card = card_of(model, tokenizer, tmp_path, run={"loss": float("nan"), "val_loss": None, "mlm_loss": 1.5})
    assert "| mlm_loss | 1.5 |" in card
    assert "loss | nan" not in card
    assert "| val_loss" not in card


def test_each_reader_has_three_lines(model, tokenizer, tmp_path):
    blocks = card_of(model, tokenizer, tmp_path / "my_bert").split("```python\n")[1:]
    assert [len(block.split("\n```")[0].splitlines()) for block in blocks] == [3, 3, 3, 3]


def test_without_a_run_the_card_says_what_is_known(model, tokenizer, tmp_path):
    card = card_of(model, tokenizer, tmp_path / "my_bert")
    assert "## Training" not in card
    assert "None" not in card


@pytest.mark.parametrize("name", ["training_curves.png", "training_curves-short.png"])
def test_a_picture_of_the_curves_is_shown(model, tokenizer, tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert f"![Training curves]({name})" in card_of(model, tokenizer, tmp_path)


def test_facts_come_from_metrics_json(model, tokenizer, tmp_path):
    (tmp_path / "metrics.json").write_text('{"val_loss": 7.25, "versions": {"keras_pretrain": "0.1.0"}}')
    assert "| val_loss | 7.25 |" in card_of(model, tokenizer, tmp_path)


def test_a_card_of_ones_own_stays(model, tokenizer, tmp_path):
    (tmp_path / "README.md").write_text("# Mine")
    assert card_of(model, tokenizer, tmp_path) == "# Mine"


def test_our_own_card_is_brought_up_to_date(model, tokenizer, tmp_path):
    card_of(model, tokenizer, tmp_path)
    assert "| val_loss | 7.25 |" in card_of(model, tokenizer, tmp_path, run={"val_loss": 7.25})


@pytest.mark.parametrize("name", ["comments", "prose"])
def test_the_cleaning_is_told_and_who_does_not_clean(model, tokenizer, tmp_path, name):
    cleaned = copy.deepcopy(tokenizer)
    record_cleaning(cleaned, name)
    card = card_of(model, cleaned, tmp_path)
    section = card.split("## Tokenizer")[1].split("\n## ")[0]
    assert f'Cleaning "{name}": ' in section
    assert "🤗 pipelines and a SavedModel do not" in section
    assert f'`keras_pretrain.clean_text(text, "{name}")`' in section


@pytest.mark.parametrize("name", [None, "none"])
def test_without_a_cleaning_there_is_nothing_to_tell(model, tokenizer, tmp_path, name):
    plain = copy.deepcopy(tokenizer)
    record_cleaning(plain, name)
    assert "clean" not in card_of(model, plain, tmp_path / "my_bert")


@pytest.mark.parametrize("name", [None, "none", "prose"])
def test_the_export_says_that_a_saved_model_does_not_clean(model, tokenizer, tmp_path, package_log, name):
    pytest.importorskip("tensorflow_text", reason="tensorflow-text is not installed: pip install -e '.[serving]'")
    recorded = copy.deepcopy(tokenizer)
    record_cleaning(recorded, name)
    kp.export_saved_model(model, recorded, tmp_path / "1")
    told = [message for message in package_log.messages if "clean_text" in message]
    assert len(told) == (name == "prose")
    assert all(re.search(rf"^{tmp_path / '1'} .*clean_text\(text, 'prose'\)", message) for message in told)


def test_electras_networks_have_a_card_each(tokenizer, tmp_path):
    model = kp.ElectraPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1)
    folder = tmp_path / "my_electra"
    folder.mkdir()
    (folder / "training_curves.png").write_bytes(b"picture")
    kp.save_checkpoint(model, tokenizer, folder, run=RUN)
    discriminator, generator = ((folder / part / "README.md").read_text() for part in ("", "generator"))
    assert 'TFElectraForMaskedLM.from_pretrained("my_electra/generator")' in generator
    assert "pipeline_tag: fill-mask" in generator
    assert 'TFElectraForPreTraining.from_pretrained("my_electra")' in discriminator
    assert 'kp.ElectraPretrainer.from_pretrained("my_electra")' in discriminator
    assert "pipeline_tag: feature-extraction" in discriminator
    assert "![Training curves](training_curves.png)" in discriminator
    assert "training_curves" not in generator


def test_on_the_hub_the_examples_name_the_repository(tokenizer, tmp_path):
    model = kp.ElectraPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1)
    kp.save_checkpoint(model, tokenizer, tmp_path / "my_electra")
    for part, place in (("", '"me/other"'), ("generator", '"me/other", subfolder="generator"')):
        card = (tmp_path / "my_electra" / part / "README.md").read_text()
        card = card_on_hub(card, "me/other", part)
        examples = "".join(card.split("```python\n")[1:])
        assert examples.count(f"from_pretrained({place}") == 5
        assert "my_electra" not in card
        assert "## Model" in card
        assert card_on_hub(card, "me/other", part) == card


def test_on_the_hub_rows_of_older_cards_that_hold_paths_are_left_out():
    section = "## How to load it\n\nfrom transformers import AutoTokenizer, TFBertForPreTraining"
    card = f"\n# my_bert\n\n{section}\n\n## Training\n"
    rows = "\n| | |\n|---|---|\n| prepared | /home/kim/prepared |\n| size | tiny |\n"
    on_hub = card_on_hub(card + rows, "me/my_bert", "")
    assert "| size | tiny |" in on_hub
    assert "kim" not in on_hub
