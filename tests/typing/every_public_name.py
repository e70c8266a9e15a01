"""Uses every public name in the way a user would. It is type-checked and never executed: see `tests/test_types.py`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import DatasetDict
from transformers import BertConfig, BertTokenizerFast, PreTrainedTokenizerBase
from typing_extensions import assert_type

import keras_pretrain as kp


def read_text() -> list[str]:
    kp.enable_logging("WARNING")
    corpus = kp.load_corpus(Path("texts.csv"), text_column="body", dialect=";", validation_fraction=0.05)
    documents = kp.load_sample("en")
    assert_type(kp.choose_objective(documents), str)
    prepared = kp.prepare_sentences(corpus, cleaning="prose", num_proc=2, cache_dir="cache")
    kp.train_tokenizer(prepared["train"], vocab_size=8000)
    text = assert_type(kp.clean_text("  a text ", "prose"), str)
    return assert_type(kp.split_sentences(text, "en", backend="rules"), list[str])


def train_tokenizers(texts: list[str]) -> PreTrainedTokenizerBase:
    tokenizer = assert_type(kp.train_tokenizer(texts, vocab_size=8000, cleaning="prose"), BertTokenizerFast)
    assert_type(kp.find_new_tokens(texts, tokenizer, count=100), list[str])
    return assert_type(kp.train_tokenizer([texts, texts], base=tokenizer), PreTrainedTokenizerBase)


def prepare_on_disk(tokenizer: PreTrainedTokenizerBase) -> kp.prepared.Prepared:
    engine = kp.prepared.RayEngine("auto")
    plan = assert_type(kp.prepare_corpus("texts/", "prepared", dry_run=True), kp.prepared.DryRun)
    print(plan.written, plan.replaced, plan.kept)
    kp.prepared.prepare_corpus("texts", "prepared", engine=kp.prepared.LocalEngine(num_proc=2))
    made = kp.prepare_corpus("texts/", Path("prepared"), engine=engine, tokenizer=tokenizer, block_size=64)
    assert_type(made, kp.prepared.Prepared)
    kp.prepared.prepare_sentences(kp.load_sample())
    info = assert_type(kp.cache_info(clear=True), kp.prepared.CacheInfo)
    kp.prepared.cache_info("cache")
    print(info.files, kp.prepared.load_prepared("prepared").report)
    assert_type(kp.load_prepared("prepared").tokenizer, PreTrainedTokenizerBase)
    return kp.load_prepared("prepared")


def pretrain_bert(sentences: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    features = kp.build_features(sentences, tokenizer, objective="mlm", block_size=128, dupe_factor=2)
    train = kp.to_tf_dataset(features["train"], tokenizer, batch_size=32, packed=True)
    model = kp.BertPretrainer.from_size("small", tokenizer, features=features["train"], hidden_dropout_prob=0.1)
    assert_type(model, kp.BertPretrainer)
    tokenizer = assert_type(kp.add_tokens(model, tokenizer, ["##러닝"]), PreTrainedTokenizerBase)
    optimizer = kp.create_optimizer(num_train_steps=1000, size="small", schedule="cosine")
    model.compile(optimizer, precision="auto", jit_compile=False)
    assert_type(model.precision, str)
    callbacks = kp.callbacks.for_run(
        "run",
        [
            kp.callbacks.FillMaskPreview(train, tokenizer, every_steps=50, log_dir="logs"),
            kp.callbacks.PushToHub("model", tokenizer, "me/model", private=True),
        ],
        monitor="val_mlm_loss",
    )
    history = model.fit(train.repeat(), epochs=10, steps_per_epoch=100, callbacks=callbacks)
    print(history.history["mlm_loss"])
    folder = assert_type(kp.save_checkpoint(model, tokenizer, "model", run={"base": "none"}, overwrite=True), Path)
    assert_type(kp.export_saved_model(model, tokenizer, folder / "served", max_length=128), Path)
    assert_type(kp.push_to_hub(folder, "me/model", message="First"), str)
    assert_type(kp.BertPretrainer.from_pretrained("me/model", mask_prob=0.2), kp.BertPretrainer)
    kp.BertPretrainer(BertConfig(vocab_size=30), mask_prob=0.2, seed=1)


def pretrain_electra(sentences: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> kp.ElectraPretrainer:
    features = kp.build_features(sentences, tokenizer, objective="rtd")
    train = kp.to_tf_dataset(features["train"], tokenizer, batch_size=32)
    model = kp.ElectraPretrainer.from_size("small", tokenizer, disc_weight=25.0)
    checkpointing = kp.callbacks.Checkpointing(Path("run"), every_steps=500, keep=3)
    assert_type(checkpointing.latest, Path | None)
    figures = kp.callbacks.RunFigures()
    shown = [kp.callbacks.ReplacedTokensPreview(train, tokenizer), kp.callbacks.Progress(every_seconds=10.0)]
    written = [kp.callbacks.CSVHistory("history.csv"), kp.callbacks.TrainingCurves("history.csv", "curves.png")]
    model.compile("adam")
    model.fit(train, epochs=2, callbacks=[figures, checkpointing, *shown, *written])
    assert_type(figures.tokens_per_second, float)
    return assert_type(kp.ElectraPretrainer.from_pretrained("model", tokenizer=tokenizer), kp.ElectraPretrainer)


def collate(tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    collator = kp.MaskingCollator(tokenizer, block_size=8, mask_prob=0.15)
    return assert_type(collator([{"input_ids": [2, 5, 3], "token_type_ids": [0, 0, 0]}]), dict[str, np.ndarray])


def evaluate(sentences: DatasetDict, model: kp.BertPretrainer, tokenizer: PreTrainedTokenizerBase) -> None:
    metrics = kp.evaluation.evaluate_mlm(model, sentences["validation"], tokenizer, precision="auto")
    assert_type(metrics, dict[str, float])
    kp.evaluation.evaluate_mlm("me/model", sentences["validation"], revision="main", local_files_only=True)
    metrics |= kp.evaluation.evaluate_hidden_words("model", sentences["validation"], passage=100, revision="main")
    found = kp.evaluation.evaluate_replaced_tokens("electra", sentences["validation"], revision="main")
    found |= kp.evaluation.evaluate_next_sentences(model, sentences["validation"], tokenizer, batch_size=8)
    assert_type(found, dict[str, float])
    network, its_tokenizer = kp.evaluation.load_masked_lm("model")
    print(network.config, its_tokenizer.vocab_size)
    both = kp.evaluation.compare_mlm({"ours": "model", "theirs": "them/model"}, sentences["validation"])
    assert_type(both["ours"]["mlm_loss"], float)


def finetune() -> kp.finetuning.FineTuned:
    data = kp.finetuning.load_examples("labelled.csv", validation=0.2, pair_column="second", keep_labels=["a", "b"])
    assert_type(kp.finetuning.check_examples(data["train"], data["validation"]), list[str])
    tuned = kp.finetuning.finetune(
        "me/model", data["train"], data["validation"], seeds=range(3), class_weight="balanced", callbacks=[]
    )
    assert_type(tuned, kp.finetuning.FineTuned)
    assert_type(tuned.best_seed, int)
    said = kp.finetuning.predict(tuned.model, ["a text"], ["another"], tokenizer=tuned.tokenizer)
    assert_type(said, kp.finetuning.Predictions)
    assert_type(said.probabilities, np.ndarray | None)
    assert_type(kp.finetuning.evaluate(tuned.model, data["validation"], tokenizer=tuned.tokenizer), dict[str, float])
    return tuned


def train_classifier(data: DatasetDict, tokenizer: PreTrainedTokenizerBase) -> None:
    model = kp.finetuning.load_classifier("me/model", labels=["no", "yes"], dropout=0.1, token="hf_token")
    assert_type(model, kp.finetuning.BertClassifier | kp.finetuning.ElectraClassifier)
    encoded = kp.finetuning.encode_examples(data["train"], tokenizer, model.config, max_length=64)
    assert_type(encoded.labels, np.ndarray | None)
    train = kp.finetuning.to_tf_dataset(encoded, tokenizer, batch_size=32, class_weight={0: 1.0, 1: 2.0})
    model.compile(kp.create_optimizer(num_train_steps=100))
    model.fit(train, epochs=3)


@dataclass(frozen=True, kw_only=True)
class MySettings(kp.runs.BertSettings):
    """Settings of a script.

    Args:
      note: Of the run.
    """

    note: str = kp.runs.setting("", free=True)


def run_all(make: Callable[[], kp.runs.PrepareSettings]) -> None:
    print(make().output, kp.runs.PrepareSettings(corpus="texts.csv", output=Path("prepared")).to_yaml())
    settings = MySettings(corpus="texts.csv", size="small", hours=1.5, note="first")
    kp.runs.require_output(settings)
    run = kp.runs.Run(settings)
    assert_type(run.carry_out(), dict[str, float])
    kp.runs.write_metrics(settings, {"loss": 1.0}, seconds={"total": 1.0}, extra=2.0)
    kp.runs.Run(kp.runs.ElectraSettings(init_from="me/electra", output=Path("electra"))).carry_out()
    adaptation = kp.runs.AdaptationRun(kp.runs.AdaptSettings(model="me/model", new_tokens=500))
    assert_type(adaptation.table(), str)
    tuned = kp.runs.run_finetuning(
        kp.runs.FinetuneSettings(model="model", train=Path("labelled.csv"), output=Path("classifier"), seeds=3)
    )
    assert_type(tuned, kp.finetuning.FineTuned)
    print(kp.runs.read_settings("run.yaml", check=False).kind)
    suite = kp.runs.evaluate_suite(["me/model"], "data", "korean", tasks=["nsmc"], seeds=1, untrained=True)
    print(kp.runs.suite_table(suite))
    with kp.runs.make_strategy("mirrored").scope():
        pass
