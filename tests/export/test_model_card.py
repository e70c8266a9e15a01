"""What a model card says, and what it keeps to itself."""

import copy

import pytest
import yaml

import keras_pretrain as kp
from keras_pretrain.tokenization import record_cleaning

RUN = {
    "loss": 6.1234567,
    "val_mlm_loss": 6.5349,
    "tokens_per_second": 12345.6,
    "corpus": {"train": 1786, "validation": 198},
    "arguments": {
        "corpus": "/home/kim/secret/ko_docs.jsonl.gz", "language": "ko", "block_size": 128, "learning_rate": 1e-3,
        "init_from": "klue/bert-base", "output": "/home/kim/out", "num_proc": None,
    },
    "versions": {"tensorflow": "2.21.0"},
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
        "base_model": "klue/bert-base",
        "tags": ["keras_pretrain", "bert", "tensorflow", "safetensors"],
    }
    for line in (
        "# my_bert",
        "Corpus: ko_docs.jsonl.gz; Korean; 1,786 documents for train, 198 documents for validation.",
        "| block size | 128 |",
        "| init from | klue/bert-base |",
        "| val_mlm_loss | 6.535 |",
        "12,346 tokens a second.",
        "Made with tensorflow 2.21.0.",
        "| layers | 2 |",
        f"| parameters | {model.count_params():,} |",
        "WordPiece, 15 tokens, cased; special tokens `[UNK]`, `[SEP]`, `[PAD]`, `[CLS]`, `[MASK]`.",
        'model = TFBertForPreTraining.from_pretrained("my_bert")',
        'model = BertForPreTraining.from_pretrained("my_bert")',
        'answers = pipeline("fill-mask", model="my_bert")',
    ):
        assert line in card.splitlines()


def test_paths_of_a_machine_are_not_told(model, tokenizer, tmp_path):
    card = card_of(model, tokenizer, tmp_path / "my_bert", run=RUN)
    assert "/home/kim" not in card
    assert str(tmp_path) not in card


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
    told = [message for message in package_log.messages if "does not clean text" in message]
    said = f"{tmp_path / '1'} does not clean text: give it clean_text(text, 'prose')."
    assert told == ([said] if name == "prose" else [])


def test_electras_networks_have_a_card_each(tokenizer, tmp_path):
    model = kp.ElectraPretrainer.from_size("tiny", tokenizer, num_hidden_layers=1)
    (tmp_path / "training_curves.png").write_bytes(b"picture")
    kp.save_checkpoint(model, tokenizer, tmp_path, run=RUN)
    cards = {name: (tmp_path / name / "README.md").read_text() for name in ("generator", "discriminator")}
    assert "TFElectraForMaskedLM" in cards["generator"]
    assert "pipeline_tag: fill-mask" in cards["generator"]
    assert "TFElectraForPreTraining" in cards["discriminator"]
    assert "pipeline_tag: feature-extraction" in cards["discriminator"]
    assert (tmp_path / "discriminator" / "training_curves.png").read_bytes() == b"picture"
