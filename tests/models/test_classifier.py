import numpy as np
import pytest
import tensorflow as tf
from transformers import (
    BertConfig,
    ElectraConfig,
    TFBertForMaskedLM,
    TFBertForSequenceClassification,
    TFElectraForSequenceClassification,
)

import keras_pretrain as kp
from keras_pretrain.finetuning.batching import EncodedExamples, pack_rows
from keras_pretrain.models.classifier import BertClassifier, ElectraClassifier, load_classifier

WIDTHS = {
    "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS = {
    "bert": (BertClassifier, TFBertForSequenceClassification, BertConfig),
    "electra": (ElectraClassifier, TFElectraForSequenceClassification, ElectraConfig),
}


def make(kind, num_labels=3, **settings):
    model = KINDS[kind][0](KINDS[kind][2](num_labels=num_labels, **WIDTHS, **settings))
    model.build_in_name_scope()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight.numpy() + 0.1 * rng.standard_normal(weight.shape))
    return model


def batch(lengths=(8, 3, 5, 4), width=8, num_labels=3):
    rng = np.random.default_rng(1)
    attention = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int32)
    inputs = {
        "input_ids": rng.integers(5, 20, attention.shape).astype(np.int32) * attention,
        "token_type_ids": (np.arange(width) > 2).astype(np.int32) * attention,
        "attention_mask": attention,
    }
    labels = np.arange(len(lengths)) % num_labels
    labels = labels.astype(np.int32) if num_labels > 1 else rng.standard_normal(len(lengths)).astype(np.float32)
    return {name: tf.constant(values) for name, values in inputs.items()}, tf.constant(labels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_labels", [3, 1])
def test_losses_and_gradients_are_those_of_the_stock_model(kind, num_labels):
    model = make(kind, num_labels, **NO_DROPOUT)
    stock = KINDS[kind][1](model.config)
    stock.build_in_name_scope()
    stock.set_weights(model.get_weights())
    inputs, labels = batch(num_labels=num_labels)
    with tf.GradientTape() as tape:
        expected = tf.reduce_mean(stock(inputs, labels=labels, training=True).loss)
    expected_gradients = tape.gradient(expected, stock.trainable_variables)

    model.compile("sgd")
    data = model._unpack((inputs, labels))
    sums, gradients = model._gradients(data, model._counts(data), tf.constant([0, 0]), None)
    assert float(sums["task_loss"] / sums["task_count"]) == pytest.approx(float(expected), rel=1e-5)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(ours, tf.convert_to_tensor(theirs), atol=2e-6)


def test_weights_count_as_given():
    model = make("bert", **NO_DROPOUT)
    model.compile("sgd", jit_compile=False)
    inputs, labels = batch()
    losses = KINDS["bert"][1].hf_compute_loss(model, tf.constant(labels), model(inputs).logits).numpy()
    weights = np.array([1.0, 0.0, 2.0, 0.5], np.float32)
    logs = model.test_step((inputs, labels, weights))
    assert float(logs["loss"]) == pytest.approx(float((losses * weights).sum() / 4), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_labels", [3, 1])
def test_losses_and_gradients_of_packed_rows_are_those_of_the_same_examples_alone(kind, num_labels, tokenizer):
    model = make(kind, num_labels, **NO_DROPOUT)
    model.compile("sgd")
    lengths = np.array([3, 8, 5, 4, 2])
    inputs, labels = batch(lengths, num_labels=num_labels)
    ids, types = ([row[:length] for row, length in zip(inputs[name].numpy(), lengths, strict=True)] for name in
                  ("input_ids", "token_type_ids"))  # fmt: skip
    labels, weights = labels.numpy(), np.array([1, 0.5, 2, 1, 3], np.float32)
    rows = np.array([[0, 2, 4], [3, -1, -1], [1, -1, -1], [-1, -1, -1]])
    packed, layout, examples = pack_rows(EncodedExamples(ids, types, labels), rows, tokenizer, 11)
    shared = packed, *(layout.of_examples(each[examples], 3) for each in (labels, weights))
    results = []
    for each in ((inputs, labels, weights), tf.nest.map_structure(tf.constant, shared)):
        data = model._unpack(each)
        logs = {name: float(value) for name, value in model.test_step(each).items()}
        model.reset_metrics()
        results.append((logs, *model._gradients(data, model._counts(data), tf.constant([0, 0]), None)))
    (logs, sums, gradients), (packed_logs, packed_sums, packed_gradients) = results
    assert float(sums["task_count"]) == float(packed_sums["task_count"]) == 5
    assert packed_logs == pytest.approx(logs, rel=1e-5)
    for ours, expected in zip(packed_gradients, gradients, strict=True):
        ours, expected = map(tf.convert_to_tensor, (ours, expected))
        np.testing.assert_allclose(ours, expected, atol=1e-5 * float(tf.reduce_max(tf.abs(expected))) + 1e-9)


def test_one_step_serves_every_seed():
    model = make("bert")
    model.compile("sgd", jit_compile=False)
    runs = []
    start = model.get_weights()
    for seed in (1, 1, 2):
        model.set_weights(start)
        model.optimizer.iterations.assign(0)
        model.seed.assign(seed)
        dataset = tf.data.Dataset.from_tensors(batch()).concatenate(
            tf.data.Dataset.from_tensors(batch(lengths=(4, 2, 3, 1)))
        )
        model.fit(dataset, verbose=0)
        runs.append(model.get_weights())
    assert all(np.array_equal(first, again) for first, again in zip(runs[0], runs[1], strict=True))
    assert not all(np.array_equal(first, other) for first, other in zip(runs[0], runs[2], strict=True))


def test_a_label_that_is_no_class_is_refused():
    model = make("bert")
    model.compile("sgd", jit_compile=False)
    inputs, labels = batch()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"label of the batch .*\b3 classes"):
        model.evaluate(tf.data.Dataset.from_tensors((inputs, labels + 1)), verbose=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_classifier_is_the_same_in_the_stock_class(kind, tokenizer, tmp_path):
    model = make(kind)
    kp.save_checkpoint(model, tokenizer, tmp_path)
    stock = KINDS[kind][1].from_pretrained(tmp_path)
    inputs, _ = batch()
    np.testing.assert_allclose(stock(inputs).logits, model(inputs).logits, atol=1e-5)
    np.testing.assert_allclose(load_classifier(tmp_path)(inputs).logits, model(inputs).logits, atol=1e-5)


def test_labels_are_kept_in_the_config(tokenizer, tmp_path):
    kp.save_checkpoint(kp.BertPretrainer(BertConfig(**WIDTHS)), tokenizer, tmp_path / "encoder")
    model = load_classifier(tmp_path / "encoder", labels=["나쁨", "좋음"], dropout=0.2, seed=3)
    assert model.config.id2label == {0: "나쁨", 1: "좋음"}
    assert model.config.hidden_dropout_prob == model.config.attention_probs_dropout_prob == 0.2
    again = load_classifier(tmp_path / "encoder", labels=["나쁨", "좋음"], seed=3)
    np.testing.assert_array_equal(model.classifier.kernel, again.classifier.kernel)
    other = load_classifier(tmp_path / "encoder", labels=["나쁨", "좋음"], seed=4)
    assert not np.allclose(other.classifier.kernel, again.classifier.kernel)
    kp.save_checkpoint(model, tokenizer, tmp_path / "classifier")
    assert load_classifier(tmp_path / "classifier").config.label2id == {"나쁨": 0, "좋음": 1}


def test_a_classifier_goes_on_with_other_labels(tokenizer, tmp_path):
    model = make("bert", num_labels=3)
    kp.save_checkpoint(model, tokenizer, tmp_path)
    again = load_classifier(tmp_path, labels=["a", "b"])
    assert again.classifier.kernel.shape == (16, 2)
    np.testing.assert_array_equal(again.bert.pooler.dense.kernel, model.bert.pooler.dense.kernel)


def test_the_encoder_of_an_electra_pretrainer_is_its_discriminators(tokenizer, tmp_path):
    configs = [ElectraConfig(embedding_size=8, **WIDTHS) for _ in range(2)]
    pair = kp.ElectraPretrainer(*configs, tokenizer)
    kp.save_checkpoint(pair, tokenizer, tmp_path)
    model = load_classifier(tmp_path, labels=["a", "b"])
    ours = model.electra.encoder.layer[0].intermediate.dense.kernel
    np.testing.assert_array_equal(ours, pair.discriminator.electra.encoder.layer[0].intermediate.dense.kernel)


@pytest.mark.parametrize("change", [{"num_hidden_layers": 3}, {"vocab_size": 25}])
def test_a_checkpoint_whose_encoder_is_not_that_of_its_config_is_refused(tokenizer, tmp_path, change):
    kp.save_checkpoint(kp.BertPretrainer(BertConfig(**WIDTHS)), tokenizer, tmp_path)
    BertConfig(**(WIDTHS | change)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path} lacks \d+ weights of the bert encoder.*config"):
        load_classifier(tmp_path, labels=["a", "b"])


def test_a_checkpoint_without_a_pooler_gets_a_new_one_by_seed(tokenizer, tmp_path):
    kp.save_checkpoint(TFBertForMaskedLM(BertConfig(**WIDTHS)), tokenizer, tmp_path)
    kernels = [load_classifier(tmp_path, labels=["a", "b"], seed=seed).bert.pooler.dense.kernel for seed in (1, 1, 2)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.allclose(kernels[0], kernels[2])


def test_checkpoints_that_cannot_be_fine_tuned_are_refused(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no folder {tmp_path / 'missing'}"):
        load_classifier(tmp_path / "missing", labels=["a", "b"])
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match=r"model type 'gpt2'.*'bert' or 'electra'"):
        load_classifier(tmp_path, labels=["a", "b"])
    kp.save_checkpoint(kp.BertPretrainer(BertConfig(**WIDTHS)), tokenizer, tmp_path / "encoder")
    with pytest.raises(ValueError, match=r"/encoder .*no classification head.*give the labels"):
        load_classifier(tmp_path / "encoder")
