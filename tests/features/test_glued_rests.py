"""The rest of a word behind a gap is shown as pipelines show it, in its share of the cases; nothing else changes."""

import numpy as np
import pytest
import tensorflow as tf
from datasets import Dataset
from transformers import BertTokenizer, BertTokenizerFast

import keras_pretrain as kp
from keras_pretrain.export.answers import _encode
from keras_pretrain.features.batching import batches_behind
from keras_pretrain.features.masking import IGNORED, GluedRests, MaskingCollator

WORDS = ["장점", "연기", "이", "입니다", "##이", "##입니다", "##력", "정말", "##만", "##."]


@pytest.fixture(scope="module")
def glue_tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]), encoding="utf-8")
    return BertTokenizerFast(str(file), do_lower_case=False)


def ids_of(tokenizer, *tokens):
    return np.array(tokenizer.convert_tokens_to_ids(list(tokens)), np.int32)


def test_the_rest_is_what_the_tokenizer_makes_of_it(glue_tokenizer):
    rests = GluedRests(glue_tokenizer)
    for rest, beginning in (("##이", "이"), ("##입니다", "입니다")):
        piped = glue_tokenizer.tokenize(f"정말 [MASK]{rest[2:]}")
        assert piped == ["정말", "[MASK]", beginning]
        (place,) = ids_of(glue_tokenizer, rest)
        assert glue_tokenizer.convert_ids_to_tokens(int(rests.beginnings[place])) == beginning
    others = ids_of(glue_tokenizer, "##력", "##만", "정말", "이")
    assert (rests.beginnings[others] == -1).all()
    assert rests.continues[others].tolist() == [True, True, False, False]


def test_only_rests_of_one_piece_behind_a_mask_that_are_not_predicted(glue_tokenizer):
    rests = GluedRests(glue_tokenizer)
    ids = ids_of(glue_tokenizer, "장점", "##이", "정말", "연기", "##력", "##이", "연기", "##이", "##입니다")
    gap = np.zeros(9, bool)
    gap[[0, 4]] = True  # «[MASK]이» begins a word, «연기[MASK]이» does not
    assert np.flatnonzero(rests.behind(ids, gap, gap)).tolist() == [1]
    both = gap.copy()
    both[1] = True  # the rest is predicted itself
    assert not rests.behind(ids, both, both).any()
    gap[6] = True  # the rest has two pieces
    assert np.flatnonzero(rests.behind(ids, gap, gap)).tolist() == [1]


@pytest.fixture(scope="module")
def glued_features(glue_tokenizer):
    rng = np.random.default_rng(0)
    words = [
        ids_of(glue_tokenizer, *each)
        for each in (("장점", "##이"), ("연기", "##입니다"), ("정말",), ("연기", "##력", "##이"))
    ]
    rows = []
    for _ in range(900):
        body = np.concatenate([words[i] for i in rng.integers(0, 4, 12)])
        rows.append([2, *body.tolist(), 3])
    return Dataset.from_dict({"input_ids": rows, "token_type_ids": [[0] * len(row) for row in rows]})


@pytest.mark.parametrize("packed", [False, True])
def test_their_share_is_kept_and_nothing_else_changes(glue_tokenizer, glued_features, packed):
    def batches(share):
        settings = {"block_size": 64, "objective": "mlm", "batch_size": 32, "packed": packed, "glue_prob": share}
        return list(kp.to_tf_dataset(glued_features, glue_tokenizer, training=False, **settings))

    rests, name = GluedRests(glue_tokenizer), "packed_ids" if packed else "input_ids"
    never, always, often = (batches(share) for share in (0.0, 1.0, 0.3))
    places = changed = 0
    for (plain, labels), (glued, same_labels), (some, _) in zip(never, always, often, strict=True):
        for key in labels:
            np.testing.assert_array_equal(labels[key], same_labels[key])
        plain_ids, glued_ids, some_ids = (each[name].numpy() for each in (plain, glued, some))
        differs = plain_ids != glued_ids
        np.testing.assert_array_equal(glued_ids[differs], rests.beginnings[plain_ids[differs]])
        before = np.roll(differs, -1, axis=1)
        assert (plain_ids[before] == glue_tokenizer.mask_token_id).all()
        assert not (some_ids != plain_ids)[~differs].any()
        places += differs.sum()
        changed += (some_ids != plain_ids).sum()
    assert places > 500
    assert changed / places == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / places))


@pytest.mark.parametrize("packed", [False, True])
def test_before_glue_after_nothing_is_glued(glue_tokenizer, glued_features, packed):
    settings = {"block_size": 64, "objective": "mlm", "batch_size": 32, "packed": packed}

    def batches(**gluing):
        dataset = kp.to_tf_dataset(glued_features, glue_tokenizer, **settings, **gluing)
        return list(dataset.repeat().take(60)), batches_behind(dataset)[0]

    (plain, _), (glued, _), (late, made) = (batches(**each) for each in ({"glue_prob": 0.0}, {}, {"glue_after": 20}))
    assert made.steps_at_once == 8
    name = "packed_ids" if packed else "input_ids"
    first = made.description()["glue_after"]
    # Groups of steps begin anew with each epoch.
    starts = [step // len(made) * len(made) + step % len(made) // 8 * 8 for step in range(60)]
    assert any(start < first for start in starts)
    assert any(start >= first for start in starts)
    for start, *ids in zip(
        starts, *([inputs[name] for inputs, _ in each] for each in (plain, glued, late)), strict=True
    ):
        np.testing.assert_array_equal(ids[2], ids[1] if start >= first else ids[0])
    with pytest.raises(ValueError, match=r"glue_after.*-1"):
        batches(glue_after=-1)


def test_electra_shows_them_to_the_generator_in_the_step(glue_tokenizer, glued_features):
    dataset = kp.to_tf_dataset(glued_features, glue_tokenizer, batch_size=256, objective="rtd", block_size=64)
    inputs = next(iter(dataset))
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ids, rests = inputs["input_ids"].numpy(), GluedRests(glue_tokenizer)
    shown = {}
    for share in (0.0, 1.0, 0.3):
        model = kp.ElectraPretrainer.from_size("tiny", glue_tokenizer, glue_prob=share, **size)
        shown[share] = model.replace_tokens(inputs)["masked_ids"].numpy()
    plain = shown[0.0]
    positions = tf.where(plain == glue_tokenizer.mask_token_id).numpy()
    is_mask = np.zeros_like(plain, bool)
    is_mask[tuple(positions.T)] = True
    # With the masks alone known, what is behind them is predicted or not: `behind` bounds it from above.
    possible = rests.behind(ids, is_mask, is_mask)
    differs = shown[1.0] != plain
    assert differs.sum() > 100
    assert not (differs & ~possible).any()
    np.testing.assert_array_equal(shown[1.0][differs], rests.beginnings[ids[differs]])
    share = (shown[0.3] != plain).sum() / differs.sum()
    assert share == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / differs.sum()))


def test_evaluation_reports_the_same_gaps_both_ways(glue_tokenizer, tmp_path):
    from transformers import BertConfig

    tf.keras.utils.set_random_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = kp.BertPretrainer(BertConfig(vocab_size=len(glue_tokenizer), **size))
    model.build_in_name_scope()
    texts = Dataset.from_dict({"text": ["정말 장점이 연기입니다 정말 장점이 연기력이 " * 4] * 40})
    figures = kp.evaluation.evaluate_mlm(model, texts, glue_tokenizer, block_size=64)
    assert 0 < figures["glued_gaps"] < figures["masked_tokens"]
    assert figures["pipeline_loss"] != figures["continuation_loss"]
    assert figures["pipeline_loss"] == pytest.approx(figures["continuation_loss"], rel=0.3)


def test_answers_are_whole_words_and_say_how_rests_are_read(glue_tokenizer, tmp_path, package_log):
    from transformers import BertConfig, pipeline

    from keras_pretrain.export.answers import fill_gaps

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    tf.keras.utils.set_random_seed(0)
    model = kp.BertPretrainer(BertConfig(vocab_size=len(glue_tokenizer), initializer_range=0.5, **size))
    model.build_in_name_scope()
    kp.save_checkpoint(model, glue_tokenizer, tmp_path)
    text = "정말 [MASK]이 연기[MASK] 장점"
    (read,) = fill_gaps(tmp_path, [text], top_k=2)
    assert "glue_prob" in package_log.text
    (piped,) = fill_gaps(tmp_path, [text], top_k=2, rests="beginning")
    answers = pipeline("fill-mask", model=str(tmp_path), framework="tf", top_k=2)(text)
    for gap, expected in zip(piped, answers, strict=True):
        tokens = glue_tokenizer.convert_ids_to_tokens([each["token"] for each in expected])
        assert [each.token for each in gap] == tokens
        assert [each.probability for each in gap] == pytest.approx([each["score"] for each in expected], rel=1e-4)
    assert read[0][0].probability != piped[0][0].probability
    for each in read[0]:
        assert each.word == each.token.removeprefix("##") + "이"
    for each in read[1]:
        assert each.word == ("연기" if each.token.startswith("##") else "") + each.token.removeprefix("##")
    with pytest.raises(ValueError, match=r"rests.*auto"):
        fill_gaps(tmp_path, [text], rests="word")


def test_a_share_outside_its_range_is_refused(glue_tokenizer):
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"glue_prob.*from 0 to 1"):
            MaskingCollator(glue_tokenizer, block_size=8, glue_prob=share)


def test_stock_collators_get_them_too(glue_tokenizer):
    collator = MaskingCollator(glue_tokenizer, block_size=8, mask_prob=0.5, glue_prob=1.0, seed=1)
    ids = ids_of(glue_tokenizer, "[CLS]", "장점", "##이", "[SEP]").tolist()
    seen = set()
    for _ in range(50):
        batch = collator([{"input_ids": ids, "token_type_ids": [0] * 4}])
        if batch["input_ids"][0, 1] == glue_tokenizer.mask_token_id:
            seen.add(int(batch["input_ids"][0, 2]))
            assert batch["labels"][0, 2] == IGNORED
    assert seen == {int(ids_of(glue_tokenizer, "이")[0])}


@pytest.fixture(scope="module")
def punctuated(tmp_path_factory):
    """A lower-casing tokenizer with `##.`, as stock vocabularies have it."""
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "able", "##able", ".", "##.", "un"]
    file.write_text("\n".join(tokens), encoding="utf-8")
    return BertTokenizerFast(str(file), do_lower_case=True)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the [MASK].", ["the", "[MASK]", "."]),
        ("un[MASK]ABLE.", ["un", "[MASK]", "##able", "."]),
        ("the [MASK] able", ["the", "[MASK]", "able"]),
    ],
)
def test_punctuation_is_no_rest_and_rests_are_normalized(punctuated, text, tokens):
    ids, count = _encode(punctuated, text, as_continuation=True)
    assert punctuated.convert_ids_to_tokens(ids)[1:-1] == tokens
    assert count == ("##able" in tokens)


def test_a_slow_tokenizer_is_read_as_it_is(punctuated, tmp_path):
    punctuated.save_vocabulary(str(tmp_path))
    slow = BertTokenizer(str(tmp_path / "vocab.txt"))
    assert _encode(slow, "un[MASK]able", as_continuation=True) == (slow("un[MASK]able")["input_ids"], 0)


def test_electra_refuses_what_it_cannot_put_back(glue_tokenizer, glued_features):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = kp.ElectraPretrainer.from_size("tiny", glue_tokenizer, **size)
    model.compile("adam", run_eagerly=True)
    how = {"batch_size": 4, "block_size": 64}
    masked = kp.to_tf_dataset(glued_features, glue_tokenizer, objective="mlm", **how)
    with pytest.raises(ValueError, match=r"glue_prob=0"):
        model.fit(masked, steps_per_epoch=1, verbose=0)
    other = kp.to_tf_dataset(glued_features, glue_tokenizer, objective="rtd", packed=True, mask_prob=0.3, **how)
    with pytest.raises(ValueError, match=r"mask_prob=0.3"):
        model.fit(other, steps_per_epoch=1, verbose=0)


def test_later_draws_of_a_collator_do_not_depend_on_the_share(glue_tokenizer, glued_features):
    examples = [glued_features[i] for i in range(8)]
    collators = [MaskingCollator(glue_tokenizer, block_size=64, glue_prob=share) for share in (0.0, 1.0)]
    for _ in range(3):
        plain, glued = (collator(examples) for collator in collators)
        np.testing.assert_array_equal(plain["labels"], glued["labels"])
