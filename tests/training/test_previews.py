"""What a user sees of the model while it trains."""

import io
import pty
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from transformers import BertTokenizerFast

import keras_pretrain as kp
from keras_pretrain.features.masking import IGNORED
from keras_pretrain.training.previews import has_colour, in_colour


def answer(ids, is_replaced, probability):
    """What `ElectraPretrainer.replace_tokens` gives, for a model that does nothing else."""
    seen = {"sampled_ids": ids, "is_replaced": is_replaced, "probability": probability}
    return {name: tf.constant(value) for name, value in seen.items()}


@pytest.fixture
def shown(tmp_path):
    """A function that shows wordpieces as a preview does, those of `replaced` marked."""

    def show(tokens, replaced=()):
        tokens = ["[CLS]", *tokens, "[SEP]"]
        (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[MASK]", *tokens]), encoding="utf-8")
        tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
        ids = np.array([tokenizer.convert_tokens_to_ids(tokens)])
        preview = kp.callbacks.ReplacedTokensPreview({"input_ids": ids, "token_type_ids": 0 * ids}, tokenizer)
        seen = answer(ids, [[token in replaced for token in tokens]], np.zeros(ids.shape))
        preview.set_model(SimpleNamespace(replace_tokens=lambda inputs: seen))
        return preview.render().split("\n")[0].removeprefix("  actual  ")

    return show


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["데이터", "##베이스", "##를", "쓴다", "."], "데이터베이스를 쓴다."),
        (["값", "(", "예", ":", "10", "%", ")", "은", "?"], "값 (예: 10%) 은?"),
        (["##를", "##", "가"], "를 ## 가"),
    ],
)
def test_wordpieces_read_as_text(shown, tokens, text):
    assert shown(tokens) == text


def test_marked_pieces_stand_in_guillemets(shown):
    assert shown(["파일", "##을", "연다"], ["##을", "연다"]) == "파일«을» «연다»"


@pytest.fixture
def korean_tokenizer():
    return kp.train_tokenizer(["데이터베이스를 쓴다", "데이터를 쓴다", "베이스를 쓴다"] * 3, vocab_size=40)


@pytest.fixture
def batch(korean_tokenizer):
    """Two rows; only the second has masks in its first sentence: the 를 of 데이터를, and 쓴다 of the same sentence."""
    tokens = ["[CLS]", "데이터", "##를", "쓴다", "[SEP]", "베이스를", "[SEP]", "[PAD]"]
    original = np.array(korean_tokenizer.convert_tokens_to_ids(tokens))
    assert korean_tokenizer.unk_token_id not in original
    rows = np.stack([original, original])
    rows[1, [2, 3]] = korean_tokenizer.mask_token_id
    labels = np.where(rows == korean_tokenizer.mask_token_id, original, -100)
    types = np.array([[0, 0, 0, 0, 0, 1, 1, 0]] * 2)
    return {"input_ids": rows, "token_type_ids": types, "attention_mask": types * 0 + 1}, {"labels": labels}


def test_the_preview_shows_masked_filled_and_actual(batch, korean_tokenizer):
    preview = kp.callbacks.FillMaskPreview(batch, korean_tokenizer)
    answers = korean_tokenizer.convert_tokens_to_ids(["[PAD]", "[PAD]", "##를", "데이터", *["[PAD]"] * 4])
    logits = tf.one_hot([answers], len(korean_tokenizer))
    preview.set_model(lambda inputs, training: SimpleNamespace(prediction_logits=logits))
    assert preview.render().split("\n") == [
        "  masked  데이터[MASK] [MASK]",
        "  filled  데이터«를» «데이터»",
        "  actual  데이터«를» «쓴다»",
    ]


@pytest.fixture
def counting_model():
    return SimpleNamespace(optimizer=SimpleNamespace(iterations=0))


@pytest.mark.parametrize(("steps_per_batch", "shown"), [(1, ["3", "6"]), (2, ["4", "6"])])
def test_the_preview_comes_every_so_many_steps(batch, korean_tokenizer, capsys, counting_model, steps_per_batch, shown):
    preview = kp.callbacks.FillMaskPreview(batch, korean_tokenizer, every_steps=3)
    preview.render = lambda: ""
    preview.set_model(counting_model)
    preview.on_train_begin()
    for number in range(8 // steps_per_batch):
        counting_model.optimizer.iterations += steps_per_batch
        preview.on_train_batch_end(number)
    assert capsys.readouterr().out.replace("step", "").split() == shown


def test_the_actual_line_has_the_originals_of_random_replacements_too(batch, korean_tokenizer):
    inputs, labels = batch
    original = inputs["input_ids"][1, 1]
    inputs["input_ids"][1, 1] = korean_tokenizer.convert_tokens_to_ids("베이스를")
    labels["labels"][1, 1] = original
    preview = kp.callbacks.FillMaskPreview(batch, korean_tokenizer)
    logits = tf.one_hot([[0] * 8], len(korean_tokenizer))
    preview.set_model(lambda inputs, training: SimpleNamespace(prediction_logits=logits))
    masked, _, actual = preview.render().split("\n")
    assert masked == "  masked  베이스를[MASK] [MASK]"
    assert actual == "  actual  데이터«를» «쓴다»"


def test_a_preview_of_every_zeroth_step_is_refused(batch, korean_tokenizer):
    with pytest.raises(ValueError, match=r"every_steps .*at least 1, not 0"):
        kp.callbacks.FillMaskPreview(batch, korean_tokenizer, every_steps=0)


def test_masked_batches_are_put_back_for_electra(batch, korean_tokenizer):
    inputs, labels = batch
    preview = kp.callbacks.ReplacedTokensPreview(batch, korean_tokenizer)
    original = np.where(labels["labels"] != IGNORED, labels["labels"], inputs["input_ids"])
    seen = []
    preview.set_model(
        SimpleNamespace(
            replace_tokens=lambda inputs: (seen.append(inputs), answer(original[:1], [[0] * 8], [[0.0] * 8]))[1]
        )
    )
    preview.render()
    np.testing.assert_array_equal(seen[0]["input_ids"], original[:1])


def test_batches_and_models_of_the_other_kind_are_refused(batch, korean_tokenizer):
    with pytest.raises(ValueError, match=r"FillMaskPreview .*'labels'.*ReplacedTokensPreview"):
        kp.callbacks.FillMaskPreview(batch[0], korean_tokenizer)
    for kind, model, message in (
        (
            kp.callbacks.FillMaskPreview,
            SimpleNamespace(replace_tokens=None),
            "for BERT.*ELECTRA.*ReplacedTokensPreview",
        ),
        (
            kp.callbacks.ReplacedTokensPreview,
            SimpleNamespace(),
            "ElectraPretrainer.*SimpleNamespace.*BERT.*FillMaskPreview",
        ),
    ):
        preview = kind(batch, korean_tokenizer)
        preview.set_model(model)
        with pytest.raises(ValueError, match=message):
            preview.on_train_begin()


def test_the_preview_is_written_for_tensorboard(batch, korean_tokenizer, counting_model, tmp_path):
    preview = kp.callbacks.FillMaskPreview(batch, korean_tokenizer, every_steps=1, log_dir=tmp_path)
    preview.render = lambda: "  masked  [MASK]\n  filled  «저장»"
    preview.set_model(counting_model)
    preview.on_train_begin()
    for step in (1, 2):
        counting_model.optimizer.iterations = step
        preview.on_train_batch_end(step)
    (file,) = (tmp_path / "preview").iterdir()
    events = [event for event in tf.compat.v1.train.summary_iterator(str(file)) if event.summary.value]
    assert [event.step for event in events] == [1, 2]
    (text,) = tf.make_ndarray(events[0].summary.value[0].tensor).ravel()
    assert text.decode() == "      masked  [MASK]\n      filled  «저장»"


def test_tensorboard_that_is_missing_is_said_at_once(batch, korean_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "keras_pretrain\[tensorboard\]"'):
        kp.callbacks.FillMaskPreview(batch, korean_tokenizer, log_dir=tmp_path)


def test_the_electra_preview_shows_what_was_replaced_and_what_was_made_of_it(batch, korean_tokenizer):
    inputs, labels = batch
    ids = np.where(labels["labels"] != IGNORED, labels["labels"], inputs["input_ids"])  # not masked, as for ELECTRA
    preview = kp.callbacks.ReplacedTokensPreview({**inputs, "input_ids": ids}, korean_tokenizer)
    sampled = ids[:1].copy()
    sampled[0, 2:4] = korean_tokenizer.convert_tokens_to_ids(["데이터", "베이스를"])
    seen = {
        "sampled_ids": tf.constant(sampled),
        "is_replaced": tf.constant(sampled != ids[:1]),
        "probability": tf.constant([[0, 0.75, 0.91, 0.12, 0, 0, 0, 0]]),
    }
    preview.set_model(SimpleNamespace(replace_tokens=lambda inputs: seen))
    assert preview.render().split("\n") == [
        "  actual  데이터«를» «쓴다»",
        "  filled  데이터 «데이터» «베이스를»",
        "  judged  !데이터 75%! «데이터 91%» «베이스를 12%!»",
        "  1 of 2 replaced tokens found, 1 false alarm",
    ]


def test_right_and_wrong_have_colours_where_the_terminal_has_them(monkeypatch):
    text = "  masked  a [MASK] b\n  filled  «a» b «c»\n  actual  «a» b «d»\n  judged  «e 91%» d «f 12%!»"
    painted = in_colour(text)
    assert re.sub(r"\033\[\d+m", "", painted) == text
    found = re.findall(r"\033\[(\d+)m(.+?)\033\[0m", painted)
    yellow, green, red = "33", "32", "31"
    assert found == [(yellow, "[MASK]"), (green, "«a»"), (red, "«c»"), (green, "«e 91%»"), (red, "«f 12%!»")]
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    main, terminal = pty.openpty()
    with open(main), open(terminal, "w") as stream:
        assert has_colour(stream)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not has_colour(stream)
    assert not has_colour(io.StringIO())
