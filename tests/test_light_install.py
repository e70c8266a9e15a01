"""What works without the extras, and what is asked for by the name of its extra before work starts."""

import pytest
from datasets import Dataset

import keras_pretrain as kp
from keras_pretrain import system
from keras_pretrain.preparation.pipeline import LENGTHS
from keras_pretrain.training.curves import TrainingCurves

OF_EXTRAS = {
    "korean": ("kiwipiepy", "kiwipiepy_model", "kss", "pecab", "python-mecab-ko", "soynlp", "emoji"),
    "english": ("nltk",),
    "finetune": ("scikit-learn", "scipy"),
    "plots": ("matplotlib",),
}
TEXTS = {"text": ["하나. 둘.", "셋. 넷."], "label": ["가", "나"]}


@pytest.fixture
def core(monkeypatch):
    """As if no extra were installed."""
    missing, real = sum(OF_EXTRAS.values(), ()), system.installed_version
    monkeypatch.setattr(system, "installed_version", lambda name: None if name in missing else real(name))


@pytest.mark.parametrize(("language", "cleaning"), [("ko", "prose"), ("en", None)])
def test_the_sample_is_split_and_cleaned_by_what_the_core_has(core, tmp_path, package_log, language, cleaning):
    settings = kp.runs.Run(kp.runs.BertSettings(language=language, output=tmp_path)).settings
    assert (settings.backend, settings.cleaning) == ("rules", cleaning)
    extra = {"ko": "korean", "en": "english"}[language]
    assert f"pip install 'keras_pretrain[{extra}]'" in package_log.text
    sentences = kp.prepare_sentences(
        kp.load_corpus(kp.load_sample(language)), language=language, backend="rules", cleaning="prose"
    )
    assert sentences["train"].num_rows > 10


def test_a_corpus_of_the_user_is_not_treated_in_another_way_but_refused(core, tmp_path):
    (tmp_path / "corpus.txt").write_text("하나. 둘.\n")
    for extra, settings in (("korean", {}), ("english", {"language": "en"}), ("korean", {"backend": "rules"})):
        record = kp.runs.BertSettings(corpus=str(tmp_path / "corpus.txt"), output=tmp_path / "output", **settings)
        with pytest.raises(ModuleNotFoundError, match=rf"pip install 'keras_pretrain\[{extra}\]'"):
            kp.runs.Run(record)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("extra", "call"),
    [
        ("korean", lambda: kp.prepare_sentences(Dataset.from_dict(TEXTS), backend="rules", cleaning="comments")),
        ("finetune", lambda: kp.finetuning.finetune("missing", *[Dataset.from_dict(TEXTS)] * 2)),
        ("finetune", lambda: kp.finetuning.evaluate("missing", Dataset.from_dict(TEXTS))),
        ("plots", lambda: TrainingCurves("history.csv", "curves.png")),
    ],
)
def test_what_is_missing_is_asked_for_by_its_extra(core, extra, call):
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'keras_pretrain\[{extra}\]'") as error:
        call()
    assert error.value.name in OF_EXTRAS[extra]


def test_without_matplotlib_there_are_no_pictures(core, tmp_path, package_log):
    callbacks = kp.callbacks.for_run(tmp_path)
    assert not any(isinstance(each, TrainingCurves) for each in callbacks)
    how = {"backend": "rules", "cleaning": "prose", "block_size": 32, "vocab_size": 500, "num_proc": 1}
    prepared = kp.prepare_corpus(kp.load_sample("ko").select(range(30)), tmp_path / "prepared", **how)
    assert not (tmp_path / "prepared" / LENGTHS).exists()
    assert len(kp.load_prepared(tmp_path / "prepared").features["train"]) == len(prepared.features["train"]) > 0
    assert package_log.text.count("pip install 'keras_pretrain[plots]'") == 2
