"""The heads beside MLM, each against the stock networks with one example at a time."""

import copy
import math

import numpy as np
import pytest
import tensorflow as tf
from datasets import Dataset
from sklearn.metrics import roc_auc_score
from transformers import (
    BertConfig,
    ElectraConfig,
    TFBertForMaskedLM,
    TFBertForNextSentencePrediction,
    TFBertForPreTraining,
    TFBertModel,
    TFElectraForMaskedLM,
    TFElectraForPreTraining,
    TFElectraModel,
)

import keras_pretrain as kp
from keras_pretrain.evaluation.heads import MissingHead
from keras_pretrain.models.pretraining import _hash, unpack_batch
from keras_pretrain.tokenization import record_cleaning

evaluate_replaced_tokens = kp.evaluation.evaluate_replaced_tokens
evaluate_next_sentences = kp.evaluation.evaluate_next_sentences

WIDTHS = {
    "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 64,
}  # fmt: skip
SETTINGS = {"block_size": 32, "batch_size": 8, "seed": 3}


def shake(model, scale=0.3):
    """Random weights large enough for a network of this size to tell its inputs apart."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(weight.numpy() + scale * rng.standard_normal(weight.shape))
    return model


def make_bert(kind=TFBertForPreTraining):
    tf.keras.utils.set_random_seed(0)
    model = kind(BertConfig(**WIDTHS))
    model.build_in_name_scope()
    return shake(model)


def make_pair(tokenizer, **settings):
    """A pair whose generator draws the words of the text, and so sometimes the original."""
    tf.keras.utils.set_random_seed(0)
    configs = (ElectraConfig(embedding_size=8, **WIDTHS) for _ in range(2))
    pair = shake(kp.ElectraPretrainer(*configs, tokenizer, **settings))
    pair.generator.generator_lm_head.bias.assign([0.0] * 5 + [10.0] * 10 + [0.0] * 5)
    return pair


@pytest.fixture(scope="module")
def bert():
    return make_bert()


@pytest.fixture(scope="module")
def pair(tokenizer):
    return make_pair(tokenizer)


@pytest.fixture(scope="module")
def few(sentences):
    return sentences.select(range(12))


@pytest.fixture(scope="module")
def dirty(few):
    """The same documents with URLs, and sentences that hold nothing else."""
    documents = [
        ["https://example.com/1", *(f"{text} https://example.com/?q={i}" for i, text in enumerate(document))]
        for document in few["sentences"]
    ]
    return Dataset.from_dict({"sentences": documents})


def with_cleaning(tokenizer, name):
    tokenizer = copy.deepcopy(tokenizer)
    record_cleaning(tokenizer, name)
    return tokenizer


@pytest.fixture(scope="module")
def of_bert(bert, few, tokenizer):
    return evaluate_next_sentences(bert, few, tokenizer, **SETTINGS)


@pytest.fixture(scope="module")
def of_pair(pair, few):
    return evaluate_replaced_tokens(pair, few, **SETTINGS)


def pairs_of(documents, tokenizer):
    """`(A, B, whether B follows A)` of each pair, as texts."""
    features = kp.build_features(documents, tokenizer, block_size=32, short_seq_prob=0, seed=3)
    for row in features:
        words = tokenizer.convert_ids_to_tokens(row["input_ids"])
        end = words.index("[SEP]")
        yield " ".join(words[1:end]), " ".join(words[end + 1 : -1]), row["next_sentence_label"] == 0


def test_next_sentences_are_judged_as_by_the_stock_model_one_pair_at_a_time(bert, few, tokenizer, of_bert):
    def logits(first, second):
        return bert(tokenizer(first, second, return_tensors="tf")).seq_relationship_logits.numpy()[0].astype(float)

    hits, in_order = [], []
    for a, b, follows in pairs_of(few, tokenizer):
        logit_follows, logit_random = logits(a, b)
        hits.append(logit_follows > logit_random if follows else logit_random > logit_follows)
        if follows:
            probabilities = [1 / (1 + math.exp(each[1] - each[0])) for each in (logits(a, b), logits(b, a))]
            in_order.append(probabilities[0] > probabilities[1])
    assert of_bert == {
        "nsp_accuracy": pytest.approx(np.mean(hits)),
        "order_accuracy": pytest.approx(np.mean(in_order)),
        "nsp_pairs": len(hits),
        "order_pairs": len(in_order),
    }
    assert 5 < sum(hits) < len(hits) - 5  # the head is neither always right nor always wrong
    assert 2 < sum(in_order) < len(in_order) - 2


@pytest.mark.usefixtures("without_xla")
def test_the_batch_size_makes_no_difference(bert, few, tokenizer, of_bert):
    for batch_size in (1, 7, 1000):
        assert evaluate_next_sentences(bert, few, tokenizer, **SETTINGS | {"batch_size": batch_size}) == of_bert


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("kind", [TFBertForPreTraining, TFBertForNextSentencePrediction, kp.BertPretrainer])
def test_a_checkpoint_with_an_nsp_head_gives_the_same_as_its_model(kind, few, tokenizer, tmp_path):
    model = make_bert(kind)
    kp.save_checkpoint(model, tokenizer, tmp_path)
    expected = evaluate_next_sentences(model, few, tokenizer, **SETTINGS)
    assert evaluate_next_sentences(tmp_path, few, **SETTINGS) == expected
    assert evaluate_next_sentences(str(tmp_path), few, tokenizer, **SETTINGS) == expected


def with_head(bert, bias, kernel=0.0):
    """The same BERT with another NSP head, whose weights all have one value."""
    model = TFBertForPreTraining(BertConfig(**WIDTHS))
    model.build_in_name_scope()
    model.set_weights(bert.get_weights())
    head = model.nsp.seq_relationship
    head.kernel.assign(tf.fill(head.kernel.shape, kernel))
    head.bias.assign(bias)
    return model


@pytest.mark.usefixtures("without_xla")
def test_ties_are_wrong(bert, few, tokenizer):
    found = evaluate_next_sentences(with_head(bert, [1.0, 1.0], 0.5), few, tokenizer, **SETTINGS)
    assert found["nsp_accuracy"] == found["order_accuracy"] == 0


@pytest.mark.usefixtures("without_xla")
def test_the_pairs_are_half_true_and_depend_on_the_seed(bert, tokenizer):
    rng = np.random.default_rng(1)
    words = tokenizer.convert_ids_to_tokens(range(5, 15))
    texts = [[" ".join(rng.choice(words, 6)) for _ in range(20)] for _ in range(200)]
    documents = Dataset.from_dict({"sentences": texts})
    always = with_head(bert, [1.0, 0.0])  # says of every pair that B follows A
    found = evaluate_next_sentences(always, documents, tokenizer, **SETTINGS)
    assert found["nsp_pairs"] > 1000
    assert found["nsp_accuracy"] == found["order_pairs"] / found["nsp_pairs"]
    assert found["nsp_accuracy"] == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(found["nsp_pairs"]))
    assert evaluate_next_sentences(always, documents, tokenizer, **SETTINGS) == found
    assert evaluate_next_sentences(always, documents, tokenizer, **SETTINGS | {"seed": 4}) != found


@pytest.mark.usefixtures("without_xla")
def test_sentences_are_cleaned(bert, few, dirty, tokenizer, of_bert):
    assert evaluate_next_sentences(bert, dirty, tokenizer, cleaning="prose", **SETTINGS) == of_bert
    assert evaluate_next_sentences(bert, dirty, with_cleaning(tokenizer, "prose"), **SETTINGS) == of_bert
    raw = evaluate_next_sentences(bert, dirty, with_cleaning(tokenizer, "prose"), cleaning="none", **SETTINGS)
    assert raw["nsp_pairs"] > of_bert["nsp_pairs"]


@pytest.mark.usefixtures("without_xla")
def test_documents_without_a_pair_only_give_random_sentences(bert, few, tokenizer):
    texts = [few["sentences"][0], ["가"], [], ["나", " "]]
    found = evaluate_next_sentences(bert, Dataset.from_dict({"sentences": texts}), tokenizer, **SETTINGS)
    assert found["nsp_pairs"] == len(list(pairs_of(Dataset.from_dict({"sentences": texts}), tokenizer))) >= 1
    unpaired = Dataset.from_dict({"sentences": [["가 나", "다"], ["라"]]})
    by_label = {}
    for seed in range(8):  # a single pair, which is true in half of the cases
        each = evaluate_next_sentences(bert, unpaired, tokenizer, block_size=16, seed=seed)
        assert each["nsp_pairs"] == 1
        by_label[each["order_pairs"]] = each["order_accuracy"]
    assert math.isnan(by_label[0])
    assert by_label[1] in (0, 1)


@pytest.mark.usefixtures("without_xla")
def test_a_bert_that_diverged_has_no_figures(bert, few, tokenizer):
    found = evaluate_next_sentences(with_head(bert, [math.nan, 0.0]), few, tokenizer, **SETTINGS)
    assert math.isnan(found["nsp_accuracy"])
    assert math.isnan(found["order_accuracy"])


def test_a_checkpoint_without_a_trained_nsp_head_is_refused(few, tokenizer, tmp_path):
    for kind, words in (
        (TFBertForMaskedLM, r"no NSP head.*bert\.pooler.*seq_relationship"),
        (TFBertModel, r"no NSP head.*seq_relationship"),
    ):
        kp.save_checkpoint(make_bert(kind), tokenizer, tmp_path / kind.__name__)
        with pytest.raises(MissingHead, match=words):
            evaluate_next_sentences(tmp_path / kind.__name__, few, **SETTINGS)
    model = make_bert()
    model.nsp.seq_relationship.bias.assign([0.0, 0.0])
    kp.save_checkpoint(model, tokenizer, tmp_path / "new")
    with pytest.raises(MissingHead, match=r"new has an NSP head that was never trained.*biases"):
        evaluate_next_sentences(tmp_path / "new", few, **SETTINGS)


def test_pretraining_without_next_sentences_leaves_the_biases_at_0(few, tokenizer):
    """On this, the check for heads that were never trained relies."""
    biases = {}
    for objective in ("mlm", "mlm+nsp"):
        model = kp.BertPretrainer(BertConfig(**WIDTHS))
        model.compile(kp.create_optimizer(num_train_steps=10), run_eagerly=True)
        features = kp.build_features(few, tokenizer, objective=objective, block_size=32)
        model.fit(kp.to_tf_dataset(features, tokenizer, batch_size=4).take(1), verbose=0)
        biases[objective] = model.nsp.seq_relationship.bias.numpy()
    assert not biases["mlm"].any()
    assert biases["mlm+nsp"].all()


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ([["가 나", "다"]], r"No pair.*1 documents have text.*2 sentences.*two documents"),
        ([["가 나"], ["다"]], r"No pair.*2 documents have text.*1 sentences"),
        ([["https://example.com", "가"], ["나"], []], r"No pair.*2 documents have text.*1 sentences"),
        ([[], [" "]], r"No pair.*0 documents have text"),
    ],
)
def test_documents_that_give_no_pair_are_refused(documents, words, bert, tokenizer):
    documents = Dataset.from_dict({"sentences": documents})
    with pytest.raises(ValueError, match=words):
        evaluate_next_sentences(bert, documents, tokenizer, cleaning="prose", **SETTINGS)


def test_what_has_no_next_sentences_is_refused(bert, pair, few, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="TFBertForMaskedLM has no NSP head"):
        evaluate_next_sentences(make_bert(TFBertForMaskedLM), few, tokenizer)
    with pytest.raises(ValueError, match="needs its tokenizer"):
        evaluate_next_sentences(bert, few)
    with pytest.raises(TypeError, match="Unknown arguments for a model object: block"):
        evaluate_next_sentences(bert, few, tokenizer, block=3)
    kp.save_checkpoint(pair, tokenizer, tmp_path)
    with pytest.raises(ValueError, match="model type 'electra'"):
        evaluate_next_sentences(tmp_path, few)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        evaluate_next_sentences(tmp_path / "nowhere", few)
    with pytest.raises(ValueError, match=r"'sentences'.*\['text'\].*prepare_sentences"):
        evaluate_next_sentences(bert, Dataset.from_dict({"text": ["가"]}), tokenizer, **SETTINGS)
    for settings, words in (
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"block_size": 65}, "too long for the model"),
        ({"cleaning": "rough"}, "'rough'"),
        ({"precision": "float8"}, "float8"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate_next_sentences(bert, few, tokenizer, **SETTINGS | settings)


def batches_of(documents, tokenizer):
    """The batches of `SETTINGS`, in which a document is one sentence."""
    whole = Dataset.from_dict({"sentences": [[" ".join(document)] for document in documents["sentences"]]})
    features = kp.build_features(whole, tokenizer, objective="rtd", block_size=32, short_seq_prob=0, seed=3)
    return kp.to_tf_dataset(features, tokenizer, batch_size=8, seed=3, training=False, packed=True)


def test_replaced_tokens_are_judged_as_by_the_stock_discriminator_one_example_at_a_time(few, tokenizer, of_pair):
    model = make_pair(tokenizer, seed=3)  # the same networks; the draws depend on the seed
    logits, is_replaced, chosen, equal = [], [], 0, 0
    for batch in batches_of(few, tokenizer):
        batch = unpack_batch(batch)
        seed = tf.stack([3, _hash(batch["input_ids"])])
        _, sampled, samples = model._generate(model._prepare(batch, seed), seed, 0, None)
        for row in range(8):
            for example in range(1, int(tf.reduce_max(batch["example_ids"][row])) + 1):
                place = batch["example_ids"][row] == example
                original, shown = batch["input_ids"][row][place], sampled[row][place]
                logits += model.discriminator(shown[tf.newaxis]).logits.numpy()[0].tolist()
                is_replaced += (shown != original).numpy().tolist()
            positions = batch["masked_positions"][row].numpy()
            targets = batch["input_ids"][row].numpy()[positions[positions >= 0]]
            equal += np.sum(samples[row].numpy()[positions >= 0] == targets)
            chosen += len(targets)
    logits, is_replaced = np.array(logits), np.array(is_replaced)
    assert min(is_replaced.sum(), equal) > 3
    assert of_pair == {
        "disc_auc": pytest.approx(roc_auc_score(is_replaced, np.floor(logits * 32)), abs=1e-3),
        "replaced_accuracy": pytest.approx(np.mean(logits[is_replaced] >= 0)),
        "original_accuracy": pytest.approx(np.mean(logits[~is_replaced] < 0)),
        "sampled_original": pytest.approx(equal / chosen),
        "replaced_tokens": is_replaced.sum(),
        "original_tokens": np.sum(~is_replaced),
    }
    assert of_pair["disc_auc"] == pytest.approx(roc_auc_score(is_replaced, logits), abs=5e-3)
    assert abs(of_pair["disc_auc"] - 0.5) > 0.01


@pytest.mark.usefixtures("without_xla")
def test_the_checkpoint_of_a_pair_gives_the_same_as_its_model(pair, few, tokenizer, of_pair, tmp_path):
    kp.save_checkpoint(pair, tokenizer, tmp_path / "tied")
    assert evaluate_replaced_tokens(tmp_path / "tied", few, **SETTINGS) == pytest.approx(of_pair, rel=1e-4)
    untied = make_pair(tokenizer, tie_embeddings=False)
    kp.save_checkpoint(untied, tokenizer, tmp_path / "untied")
    expected = evaluate_replaced_tokens(untied, few, **SETTINGS)
    assert expected["disc_auc"] != pytest.approx(of_pair["disc_auc"], rel=1e-3)
    assert evaluate_replaced_tokens(str(tmp_path / "untied"), few, **SETTINGS) == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("without_xla")
def test_a_given_pair_stays_as_it_is(few, tokenizer, of_pair):
    pair = make_pair(tokenizer, mask_prob=0.3, temperature=2.0)
    optimizer = tf.keras.optimizers.SGD(0.05)
    pair.compile(optimizer, run_eagerly=True)
    before, weights = pair.description(), pair.get_weights()
    assert evaluate_replaced_tokens(pair, few, **SETTINGS) == pytest.approx(of_pair, rel=1e-4)
    assert pair.optimizer is optimizer
    assert pair.run_eagerly
    assert pair.description() == before
    assert pair.generator.electra.embeddings.weight is pair.discriminator.electra.embeddings.weight
    for old, new in zip(weights, pair.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.usefixtures("without_xla")
def test_texts_are_cleaned_and_their_sentences_make_no_difference(pair, few, dirty, tokenizer, of_pair):
    def same(*args, **settings):
        return evaluate_replaced_tokens(*args, **SETTINGS, **settings) == pytest.approx(of_pair, rel=1e-4)

    assert same(pair, dirty, cleaning="prose")
    cleaned = kp.ElectraPretrainer(pair.generator, pair.discriminator, with_cleaning(tokenizer, "prose"))
    assert same(cleaned, dirty)
    assert not same(cleaned, dirty, cleaning="none")
    assert same(pair, Dataset.from_dict({"text": ["\n\n".join(document) for document in few["sentences"]]}))
    assert same(pair, Dataset.from_dict({"sentences": [" ".join(each).split() for each in few["sentences"]]}))


@pytest.mark.usefixtures("without_xla")
def test_with_a_generator_that_always_draws_one_word_the_replaced_tokens_are_known(tokenizer, sentences):
    pair = make_pair(tokenizer)
    pair.generator.generator_lm_head.bias.assign(1000.0 * tf.one_hot(5, 20))
    head = pair.discriminator.discriminator_predictions.dense_prediction
    head.kernel.assign(tf.zeros_like(head.kernel))
    head.bias.assign([3.0])  # says of every token that it is replaced
    found = evaluate_replaced_tokens(pair, sentences, **SETTINGS)
    replaced, chosen, judged = 0, 0, 0
    for batch in batches_of(sentences, tokenizer):
        targets = tf.gather(batch["packed_ids"], tf.maximum(batch["masked_positions"], 0), batch_dims=1)
        targets = targets[batch["masked_positions"] >= 0].numpy()
        chosen += len(targets)
        replaced += np.sum(targets != 5)
        judged += np.sum(batch["example_ids"] > 0)
    assert found == {
        "disc_auc": pytest.approx(0.5),
        "replaced_accuracy": 1,
        "original_accuracy": 0,
        "sampled_original": pytest.approx(1 - replaced / chosen),
        "replaced_tokens": replaced,
        "original_tokens": judged - replaced,
    }
    ordinary = sum(len(text.split()) for document in sentences["sentences"] for text in document)
    assert chosen / ordinary == pytest.approx(0.15, abs=0.01)  # each example rounds its own share


@pytest.mark.usefixtures("without_xla")
def test_the_share_of_masks_and_the_seed_are_used(pair, few, of_pair):
    more = evaluate_replaced_tokens(pair, few, mask_prob=0.3, **SETTINGS)
    assert more["replaced_tokens"] > 1.5 * of_pair["replaced_tokens"]
    assert evaluate_replaced_tokens(pair, few, **SETTINGS | {"seed": 4}) != of_pair


@pytest.mark.usefixtures("without_xla")
def test_what_cannot_be_measured_is_nan(tokenizer, few):
    perfect = make_pair(tokenizer)
    perfect.generator.generator_lm_head.bias.assign(1000.0 * tf.one_hot(5, 20))
    found = evaluate_replaced_tokens(perfect, Dataset.from_dict({"text": ["가 가 가 가 가"] * 4}), **SETTINGS)
    assert math.isnan(found["disc_auc"])
    assert math.isnan(found["replaced_accuracy"])
    assert 0 <= found["original_accuracy"] <= 1
    assert (found["sampled_original"], found["replaced_tokens"], found["original_tokens"]) == (1, 0, 4 * 7)
    diverged = make_pair(tokenizer)
    diverged.discriminator.discriminator_predictions.dense_prediction.bias.assign([math.nan])
    found = evaluate_replaced_tokens(diverged, few, **SETTINGS)
    assert all(math.isnan(found[name]) for name in ("disc_auc", "replaced_accuracy", "original_accuracy"))


def test_a_pair_without_one_of_its_heads_is_refused(pair, few, tokenizer, tmp_path):
    config = ElectraConfig(embedding_size=8, **WIDTHS)
    encoder = TFElectraModel(config)
    for name, networks, words in (
        ("judge", {"": encoder, "generator": pair.generator}, r"no discriminator's head.*discriminator_predictions"),
        ("filler", {"": pair.discriminator, "generator": encoder}, r"generator has no generator's head"),
        ("twice", {"": pair.generator, "generator": pair.generator}, r"twice has no discriminator's head"),
    ):
        for part, network in networks.items():
            kp.save_checkpoint(network, tokenizer, tmp_path / name / part)
        with pytest.raises(MissingHead, match=words):
            evaluate_replaced_tokens(tmp_path / name, few, **SETTINGS)


def test_what_has_no_replaced_tokens_is_refused(bert, pair, few, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="TFElectraForPreTraining has no generator"):
        evaluate_replaced_tokens(pair.discriminator, few)
    with pytest.raises(TypeError, match="Unknown arguments for a model object: tokenizer"):
        evaluate_replaced_tokens(pair, few, tokenizer=tokenizer)
    for name, network, words in (
        ("alone", TFElectraForPreTraining(pair.config), r"no generator/ beside"),
        ("generator", TFElectraForMaskedLM(pair.generator.config), r"no generator/ beside"),
        ("bert", bert, r"model type 'bert'"),
    ):
        kp.save_checkpoint(network, tokenizer, tmp_path / name)
        with pytest.raises(ValueError, match=words):
            evaluate_replaced_tokens(tmp_path / name, few)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        evaluate_replaced_tokens(tmp_path / "nowhere", few)
    with pytest.raises(ValueError, match=r"'sentences' or 'text'.*\['body'\]"):
        evaluate_replaced_tokens(pair, Dataset.from_dict({"body": ["가"]}), **SETTINGS)
    with pytest.raises(ValueError, match="the corpus is empty"):
        evaluate_replaced_tokens(pair, Dataset.from_dict({"text": ["漢字"]}), cleaning="comments", **SETTINGS)
    for settings, words in (
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"block_size": 65}, "too long for the model"),
        ({"mask_prob": 0.0}, "mask_prob is a share"),
        ({"seed": -1}, "seed must be 0 or above"),
        ({"cleaning": "rough"}, "'rough'"),
        ({"precision": "float8"}, "float8"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate_replaced_tokens(pair, few, **SETTINGS | settings)
