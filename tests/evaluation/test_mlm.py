import copy
import math

import numpy as np
import pytest
from datasets import Dataset
from transformers import BertConfig, ElectraConfig, TFBertForMaskedLM

import keras_pretrain as kp
from keras_pretrain.features.masking import IGNORED
from keras_pretrain.features.packing import unpack
from keras_pretrain.tokenization import record_cleaning

WIDTHS = {
    "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
SETTINGS = {"block_size": 16, "batch_size": 8, "seed": 3}


@pytest.fixture(scope="module")
def bert():
    model = kp.BertPretrainer(BertConfig(**WIDTHS))
    model.build_in_name_scope()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight.numpy() + 0.1 * rng.standard_normal(weight.shape))
    return model


@pytest.fixture(scope="module")
def few(sentences):
    return sentences.select(range(5))


@pytest.fixture(scope="module")
def saved(bert, tokenizer, tmp_path_factory):
    return kp.save_checkpoint(bert, tokenizer, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def figures(bert, few, tokenizer):
    return kp.evaluation.evaluate_mlm(bert, few, tokenizer, **SETTINGS)


def test_the_figures_are_those_of_the_stock_model_by_hand(bert, few, tokenizer, figures):
    whole = Dataset.from_dict({"sentences": [[" ".join(document)] for document in few["sentences"]]})
    features = kp.build_features(whole, tokenizer, objective="mlm", block_size=16, short_seq_prob=0, seed=3)
    batches = kp.to_tf_dataset(features, tokenizer, batch_size=8, seed=3, training=False, packed=True)
    losses, hits = [], []
    for inputs, labels in batches:
        inputs, labels = unpack(inputs, labels)
        logits = bert(inputs).prediction_logits.numpy().astype(np.float64)
        rows, places = np.nonzero(labels["labels"] != IGNORED)
        targets = labels["labels"][rows, places]
        chosen = logits[rows, places]
        losses += (np.log(np.exp(chosen).sum(axis=1)) - chosen[np.arange(len(targets)), targets]).tolist()
        hits += (chosen.argmax(axis=1) == targets).tolist()
    assert figures["masked_tokens"] == len(losses) > 20
    assert figures["mlm_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert figures["mlm_accuracy"] == pytest.approx(np.mean(hits))
    assert figures["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)
    # Every word of this vocabulary is one character.
    assert figures["loss_per_character"] == pytest.approx(figures["mlm_loss"], rel=1e-6)
    assert figures["unknown_share"] == 0


def test_a_checkpoint_gives_the_same_as_its_model(saved, few, figures):
    again = kp.evaluation.evaluate_mlm(saved, few, **SETTINGS)
    assert again == pytest.approx(figures, rel=1e-4)


def test_an_electra_is_judged_by_its_generator(few, tokenizer, tmp_path):
    generator = ElectraConfig(embedding_size=8, **WIDTHS)
    pair = kp.ElectraPretrainer(generator, ElectraConfig(embedding_size=8, **WIDTHS), tokenizer)
    kp.save_checkpoint(pair, tokenizer, tmp_path)
    of_folder = kp.evaluation.evaluate_mlm(tmp_path, few, **SETTINGS)
    assert of_folder == pytest.approx(kp.evaluation.evaluate_mlm(pair, few, tokenizer, **SETTINGS), rel=1e-4)
    assert of_folder["mlm_loss"] == pytest.approx(math.log(20), abs=0.2)


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("bias", [3e5, np.inf, np.nan])
def test_a_model_that_diverged_has_figures_that_say_so(bert, few, tokenizer, bias):
    diverged = kp.BertPretrainer(BertConfig(**WIDTHS))
    diverged.build_in_name_scope()
    diverged.set_weights(bert.get_weights())
    diverged.mlm.predictions.bias.assign(np.array([0.0] * 19 + [bias], np.float32))
    figures = kp.evaluation.evaluate_mlm(diverged, few, tokenizer, **SETTINGS)
    assert figures["masked_tokens"] > 20
    if bias == 3e5:
        assert 709 < figures["mlm_loss"] < math.inf
        assert figures["perplexity"] == math.inf
    else:
        assert not math.isfinite(figures["mlm_loss"])
        assert not math.isfinite(figures["perplexity"])
        assert not math.isfinite(figures["loss_per_character"])


@pytest.fixture(scope="module")
def dirty(few):
    """The same documents with URLs, zero-width spaces and sentences that hold nothing else."""
    documents = [
        ["https://example.com/1", *(f"{text} \u200b https://example.com/?q={i}" for i, text in enumerate(document))]
        for document in few["sentences"]
    ]
    return Dataset.from_dict({"sentences": documents})


def with_cleaning(tokenizer, name):
    tokenizer = copy.deepcopy(tokenizer)
    record_cleaning(tokenizer, name)
    return tokenizer


@pytest.mark.usefixtures("without_xla")
def test_sentences_are_cleaned_as_the_tokenizer_says(bert, few, dirty, tokenizer, figures):
    evaluate = kp.evaluation.evaluate_mlm
    of_prose = with_cleaning(tokenizer, "prose")
    assert evaluate(bert, dirty, of_prose, **SETTINGS) == pytest.approx(figures, rel=1e-4)
    assert evaluate(bert, dirty, tokenizer, cleaning="prose", **SETTINGS) == pytest.approx(figures, rel=1e-4)
    raw = evaluate(bert, dirty, tokenizer, **SETTINGS)
    assert raw["unknown_share"] > 0.3
    assert evaluate(bert, dirty, of_prose, cleaning="none", **SETTINGS) == pytest.approx(raw, rel=1e-4)
    with pytest.raises(ValueError, match=r"'rough'.*'comments', 'prose', 'none'"):
        evaluate(bert, dirty, tokenizer, cleaning="rough", **SETTINGS)


@pytest.mark.usefixtures("without_xla")
def test_how_a_text_was_split_makes_no_difference(bert, few, tokenizer, figures):
    whole = [[" ".join(document)] for document in few["sentences"]]
    words = [" ".join(document).split() for document in few["sentences"]]
    for sentences in (whole, words):
        split = Dataset.from_dict({"sentences": sentences})
        assert kp.evaluation.evaluate_mlm(bert, split, tokenizer, **SETTINGS) == pytest.approx(figures, rel=1e-4)
    texts = Dataset.from_dict({"text": ["\n\n".join(document) for document in few["sentences"]]})
    assert kp.evaluation.evaluate_mlm(bert, texts, tokenizer, **SETTINGS) == pytest.approx(figures, rel=1e-4)


@pytest.mark.usefixtures("without_xla")
def test_line_by_line_is_as_if_each_line_were_a_document(bert, few, tokenizer, figures):
    lines = [sentence for document in few["sentences"] for sentence in document]
    apart = Dataset.from_dict({"sentences": [[line] for line in lines]})
    expected = kp.evaluation.evaluate_mlm(bert, apart, tokenizer, **SETTINGS)
    assert expected["masked_tokens"] != figures["masked_tokens"]
    texts = Dataset.from_dict({"text": ["\n".join(document) for document in few["sentences"]]})
    for corpus in (few, texts):
        found = kp.evaluation.evaluate_mlm(bert, corpus, tokenizer, line_by_line=True, **SETTINGS)
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_text_that_cleaning_empties_is_refused(bert, tokenizer):
    with pytest.raises(ValueError, match="the corpus is empty"):
        kp.evaluation.evaluate_mlm(
            bert, Dataset.from_dict({"sentences": [["漢字"]]}), tokenizer, cleaning="comments", **SETTINGS
        )


@pytest.mark.usefixtures("without_xla")
def test_models_with_different_cleanings_are_said(saved, bert, dirty, tokenizer, figures, tmp_path, package_log):
    kp.save_checkpoint(bert, with_cleaning(tokenizer, "prose"), tmp_path)
    models = {"raw": saved, "cleaned": tmp_path}
    kp.evaluation.compare_mlm(models, dirty, **SETTINGS)
    assert "raw: none, cleaned: prose" in package_log.text
    package_log.clear()
    alike = kp.evaluation.compare_mlm(models, dirty, cleaning="prose", **SETTINGS)
    assert alike["raw"] == alike["cleaned"] == pytest.approx(figures, rel=1e-4)
    assert "cleaning" not in package_log.text


def test_models_of_one_tokenizer_are_compared_without_a_word(saved, few, figures, package_log):
    compared = kp.evaluation.compare_mlm({"before": saved, "after": saved}, few, **SETTINGS)
    assert compared["before"] == compared["after"] == pytest.approx(figures, rel=1e-4)
    assert "tokenizers differ" not in package_log.text


def test_another_tokenizer_is_said(saved, bert, few, tokenizer, tmp_path, package_log):
    grown = kp.BertPretrainer.from_pretrained(saved)
    extended = kp.add_tokens(grown, tokenizer, ["가나"])
    kp.save_checkpoint(grown, extended, tmp_path)
    kp.evaluation.compare_mlm({"before": saved, "after": tmp_path}, few, **SETTINGS)
    assert "compare loss_per_character" in package_log.text


def test_a_checkpoint_without_a_head_is_said(bert, few, tokenizer, tmp_path, package_log):
    from transformers import TFBertModel

    encoder = TFBertModel(BertConfig(**WIDTHS))
    kp.save_checkpoint(encoder, tokenizer, tmp_path)
    kp.evaluation.evaluate_mlm(tmp_path, few, **SETTINGS)
    assert "has no MLM head" in package_log.text


def test_what_cannot_be_evaluated_is_refused(bert, few, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="needs its tokenizer"):
        kp.evaluation.evaluate_mlm(TFBertForMaskedLM(BertConfig(**WIDTHS)), few)
    with pytest.raises(TypeError, match="Unknown arguments for a model object: block"):
        kp.evaluation.evaluate_mlm(bert, few, tokenizer, block=3)
    with pytest.raises(ValueError, match="has no MLM head"):
        kp.evaluation.evaluate_mlm(kp.finetuning.BertClassifier(BertConfig(**WIDTHS)), few, tokenizer)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="model type 'gpt2'"):
        kp.evaluation.evaluate_mlm(tmp_path, few)
    with pytest.raises(ValueError, match="nothing but"):
        kp.evaluation.evaluate_mlm(bert, Dataset.from_dict({"sentences": [["a b"]]}), tokenizer, **SETTINGS)
    with pytest.raises(ValueError, match="too long for the model"):
        kp.evaluation.evaluate_mlm(
            kp.BertPretrainer(BertConfig(max_position_embeddings=8, **WIDTHS)), few, tokenizer, block_size=16
        )
