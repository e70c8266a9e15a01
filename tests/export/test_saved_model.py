"""What a SavedModel answers, beside the model that it was made of and 🤗's pipelines."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from transformers import BertConfig, TFBertForSequenceClassification, pipeline

import keras_pretrain as kp
from keras_pretrain.export.saved_model import ServedModel

pytest.importorskip("tensorflow_text", reason="tensorflow-text is not installed: pip install -e '.[serving]'")

TEXTS = ["가 [MASK] 다", "라 마 [MASK] 사 [MASK]", "", "가 나 다 라 마 바 사 아 자 차 " * 20 + "[MASK]"]


def with_random_weights(model):
    """Biases and layer norms are born 0 and 1: as random numbers they cannot be lost unseen."""
    model.build_in_name_scope()
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def vocabulary():
    """Words, and pieces that go on: 가다 is 가 ##다."""
    return kp.train_tokenizer(
        ["가다 나다 라다 마다 바다 사다 아다 자다 차다 가 나 다 라 마 바 사 아 자 차"] * 2, vocab_size=27
    )


@pytest.fixture(scope="module")
def model(vocabulary):
    return with_random_weights(kp.BertPretrainer.from_size("tiny", vocabulary, num_hidden_layers=1, vocab_size=32))


@pytest.fixture(scope="module")
def folder(model, vocabulary, tmp_path_factory):
    return kp.export_saved_model(model, vocabulary, tmp_path_factory.mktemp("served") / "1", max_length=64, top_k=3)


@pytest.fixture(scope="module")
def signatures(folder):
    return tf.saved_model.load(str(folder)).signatures


def test_fill_mask_gives_the_pipelines_answers(model, vocabulary, signatures, tmp_path):
    kp.save_checkpoint(model, vocabulary, tmp_path)
    fill_mask = pipeline("fill-mask", model=str(tmp_path), framework="tf", top_k=3)
    answers = signatures["fill_mask"](text=tf.constant(TEXTS))
    assert {name: value.shape for name, value in answers.items()} == dict.fromkeys(answers, (4, 2, 3))
    for row, mask, expected in [
        (0, 0, fill_mask(TEXTS[0])),
        *((1, i, each) for i, each in enumerate(fill_mask(TEXTS[1]))),
    ]:
        assert answers["token_ids"][row, mask].numpy().tolist() == [answer["token"] for answer in expected]
        tokens = [token.decode() for token in answers["tokens"][row, mask].numpy()]
        assert tokens == vocabulary.convert_ids_to_tokens([answer["token"] for answer in expected])
        np.testing.assert_allclose(answers["scores"][row, mask], [a["score"] for a in expected], rtol=1e-5)


def test_the_users_own_sentence_is_filled(vocabulary, signatures):
    text = "가,  [MASK] 나\n[MASK]!"
    answers = signatures["fill_mask"](text=tf.constant([text]))
    pieces = text.split("[MASK]")
    for mask in range(2):
        for token, sequence in zip(
            answers["tokens"][0, mask].numpy(), answers["sequences"][0, mask].numpy(), strict=True
        ):
            before, after = "[MASK]".join(pieces[: mask + 1]), "[MASK]".join(pieces[mask + 1 :])
            token = token.decode()
            filled = before.rstrip() + token[2:] if token.startswith("##") else before + token
            assert sequence.decode() == filled + after


def test_a_text_without_a_mask_or_with_it_beyond_the_limit_has_no_answer(signatures):
    answers = signatures["fill_mask"](text=tf.constant(TEXTS))
    for row, masks in ((2, 0), (3, 0), (0, 1)):
        assert (answers["tokens"][row, masks:].numpy() == b"").all()
        assert (answers["sequences"][row, masks:].numpy() == b"").all()
        assert (answers["token_ids"][row, masks:].numpy() == -1).all()
        assert (answers["scores"][row, masks:].numpy() == 0).all()


def test_encode_gives_the_hidden_states_mean_and_the_pooler(model, vocabulary, signatures):
    inputs = vocabulary(TEXTS, truncation=True, max_length=64, padding=True, return_tensors="tf")
    expected = model.bert(**inputs)
    weight = inputs["attention_mask"].numpy()[:, :, np.newaxis]
    mean = (expected.last_hidden_state.numpy() * weight).sum(axis=1) / weight.sum(axis=1)
    answers = signatures["encode"](text=tf.constant(TEXTS))
    np.testing.assert_allclose(answers["mean"], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answers["pooled"], expected.pooler_output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fill_mask", "encode"])
def test_ids_give_what_their_text_gives(signatures, name):
    of_text = signatures[name](text=tf.constant(TEXTS))
    of_ids = signatures[f"{name}_ids"](**signatures["tokenize"](text=tf.constant(TEXTS)))
    assert set(of_text) - set(of_ids) == ({"sequences"} if name == "fill_mask" else set())
    for key, value in of_ids.items():
        assert value.numpy().tolist() == of_text[key].numpy().tolist()


@pytest.mark.parametrize("size", [0, 1, 17])
def test_batches_of_any_size(signatures, size):
    assert signatures["serving_default"](text=tf.constant(["가 [MASK]"] * size, tf.string))["tokens"].shape == (
        size, min(size, 1), 3,
    )  # fmt: skip


def test_ids_longer_than_the_model_are_refused(signatures):
    ids = tf.ones((1, 513), tf.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"longer.*\b512 positions"):
        signatures["encode_ids"](input_ids=ids, token_type_ids=0 * ids, attention_mask=ids)


BARE = """
import json, sys
for name in ("keras_pretrain", "transformers", "tokenizers", "datasets"):
    sys.modules[name] = None
import tensorflow as tf, tensorflow_text
signatures = tf.saved_model.load(sys.argv[1]).signatures
instances = json.loads(sys.argv[2])
inputs = {name: tf.constant([instance[name] for instance in instances]) for name in instances[0]}
answers = signatures["serving_default"](**inputs)
assert all(len(value) == len(instances) for value in answers.values())
rows = [{name: value[row].numpy() for name, value in answers.items()} for row in range(len(instances))]
as_json = lambda value: value.decode() if isinstance(value, bytes) else value.tolist()
print(json.dumps({"signatures": sorted(signatures), "predictions": rows}, default=as_json))
"""


def test_it_answers_in_a_process_that_has_nothing_of_ours(signatures, folder):
    """As TensorFlow Serving's REST: a list of dictionaries in, one out, each value's first axis the batch."""
    instances = json.dumps([{"text": text} for text in TEXTS])
    environment = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(folder), instances], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["signatures"] == ["encode", "encode_ids", "fill_mask", "fill_mask_ids", "serving_default", "tokenize"]
    expected = signatures["fill_mask"](text=tf.constant(TEXTS))
    for row, prediction in enumerate(answer["predictions"]):
        for name, value in prediction.items():
            ours = expected[name][row].numpy().tolist()
            assert value == ([[t.decode() for t in m] for m in ours] if expected[name].dtype == tf.string else ours)


def make_classifier(**settings):
    config = BertConfig(
        vocab_size=27, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, **settings
    )
    return with_random_weights(TFBertForSequenceClassification(config))


def test_a_classifier_classifies_texts_and_pairs(vocabulary, tmp_path):
    labels = {0: "나쁨", 1: "보통", 2: "좋음"}
    names = {"id2label": labels, "label2id": {label: number for number, label in labels.items()}}
    classifier = make_classifier(**names)
    kp.export_saved_model(classifier, vocabulary, tmp_path / "1")
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert sorted(signatures) == [
        "classify", "classify_ids", "classify_pairs", "encode", "encode_ids", "serving_default", "tokenize",
    ]  # fmt: skip
    texts, pairs = TEXTS[:2], TEXTS[1:3]
    for answers, inputs in (
        (signatures["serving_default"](text=tf.constant(texts)), (texts,)),
        (signatures["classify_pairs"](text=tf.constant(texts), text_pair=tf.constant(pairs)), (texts, pairs)),
    ):
        probabilities = tf.nn.softmax(classifier(vocabulary(*inputs, padding=True, return_tensors="tf")).logits).numpy()
        order = np.argsort(-probabilities, axis=1)
        assert [[label.decode() for label in row] for row in answers["labels"].numpy()] == [
            [labels[number] for number in row] for row in order
        ]
        np.testing.assert_allclose(answers["scores"], np.take_along_axis(probabilities, order, axis=1), rtol=1e-5)


def test_a_regressor_gives_numbers_and_several_labels_at_once_a_score_each(vocabulary):
    inputs = vocabulary(TEXTS[:2], padding=True, return_tensors="tf")
    regressor = make_classifier(num_labels=1)
    answers = ServedModel(regressor, vocabulary).functions["classify"](text=tf.constant(TEXTS[:2]))
    assert set(answers) == {"value"}
    np.testing.assert_allclose(answers["value"], regressor(inputs).logits[:, 0], rtol=1e-5)
    tagger = make_classifier(num_labels=3, problem_type="multi_label_classification")
    scores = ServedModel(tagger, vocabulary).functions["classify"](text=tf.constant(TEXTS[:2]))["scores"]
    expected = np.sort(tf.sigmoid(tagger(inputs).logits).numpy(), axis=1)[:, ::-1]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_electras_networks_go_to_two_folders_in_float32(vocabulary, tmp_path):
    """Made for mixed precision, they answer as their float32 twins."""
    settings = {"num_hidden_layers": 1}
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = kp.ElectraPretrainer.from_size("tiny", vocabulary, **settings)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    twin = kp.ElectraPretrainer.from_size("tiny", vocabulary, **settings)
    for name in ("generator", "discriminator"):
        getattr(twin, name).set_weights(with_random_weights(getattr(model, name)).get_weights())
    kp.export_saved_model(model, vocabulary, tmp_path)
    inputs = vocabulary(TEXTS[:1], return_tensors="tf")
    loaded = {name: tf.saved_model.load(str(tmp_path / name)) for name in ("generator", "discriminator")}
    mean = twin.discriminator.electra(**inputs).last_hidden_state.numpy().mean(axis=1)
    got = loaded["discriminator"].signatures["serving_default"](text=tf.constant(TEXTS[:1]))
    assert set(got) == {"mean"}
    np.testing.assert_allclose(got["mean"], mean, rtol=1e-5, atol=1e-5)
    probabilities = np.sort(tf.nn.softmax(twin.generator(inputs).logits[0, 2]).numpy())[::-1]
    got = loaded["generator"].signatures["fill_mask"](text=tf.constant(TEXTS[:1]))
    np.testing.assert_allclose(got["scores"][0, 0], probabilities[:5], rtol=1e-5)


def test_other_files_stay_and_those_in_the_way_are_refused(model, vocabulary, tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "thesis.tex").write_text("years")
    (tmp_path / "saved_model.pb").write_text("mine")
    with pytest.raises(FileExistsError, match=r"saved_model\.pb .*overwrite=True"):
        kp.export_saved_model(model, vocabulary, tmp_path)
    assert (tmp_path / "saved_model.pb").read_text() == "mine"
    kp.export_saved_model(model, vocabulary, tmp_path, overwrite=True)
    kp.export_saved_model(model, vocabulary, tmp_path)  # its own is replaced without asking
    assert "encode" in tf.saved_model.load(str(tmp_path)).signatures
    assert (tmp_path / "variables" / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"max_length": 513}, "max_length .*513.*512 positions"),
        ({"max_length": 2}, "max_length .*3 at least, not 2"),
        ({"top_k": 0}, "top_k .*1 and .* tokens, not 0"),
        ({"top_k": 28}, "top_k .*1 and .* tokens, not 28"),
    ],
)
def test_settings_out_of_range_are_refused(model, vocabulary, tmp_path, settings, match):
    with pytest.raises(ValueError, match=match):
        kp.export_saved_model(model, vocabulary, tmp_path / "1", **settings)


def test_a_folder_is_not_a_model(vocabulary, tmp_path):
    with pytest.raises(ValueError, match=r"export_saved_model .*my_bert .*from_pretrained"):
        kp.export_saved_model("my_bert", vocabulary, tmp_path / "1")
