"""Masking: exact where it can be, statistics over 100,000 tokens where it cannot."""

import numpy as np
import pytest

import keras_pretrain as kp
from keras_pretrain.features.masking import IGNORED

ROWS, WIDTH = 1000, 128


@pytest.fixture(scope="module")
def big_tokenizer():
    """300 words, so that a random token is rarely the original one."""
    words = [
        f"{first}{second}" for first in "가나다라마바사아자차" for second in "가나다라마바사아자차카타파하거너더러머버"
    ]
    return kp.train_tokenizer([" ".join(words)] * 2, vocab_size=300)


@pytest.fixture(scope="module")
def input_ids(big_tokenizer):
    """128,000 positions: [CLS] … [SEP] … [SEP] and padding, lengths 4 to 128."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, len(big_tokenizer), (ROWS, WIDTH)).astype(np.int32)
    lengths = rng.integers(4, WIDTH + 1, ROWS)
    ids[:, 0] = big_tokenizer.cls_token_id
    ids[np.arange(ROWS), lengths // 2] = big_tokenizer.sep_token_id
    ids[np.arange(ROWS), lengths - 1] = big_tokenizer.sep_token_id
    ids[np.arange(WIDTH) >= lengths[:, None]] = big_tokenizer.pad_token_id
    return ids


def mask(tokenizer, input_ids, mask_prob, seed=0):
    collator = kp.MaskingCollator(tokenizer, block_size=input_ids.shape[1], mask_prob=mask_prob, glue_prob=0.0)
    return collator.mask(input_ids, np.random.default_rng(seed))


def ordinary(tokenizer, input_ids):
    return ~np.isin(input_ids, tokenizer.all_special_ids)


@pytest.mark.parametrize("mask_prob", [0.15, 0.3, 0.01])
def test_each_row_has_exactly_its_share_and_one_at_least(big_tokenizer, input_ids, mask_prob):
    _, labels = mask(big_tokenizer, input_ids, mask_prob)
    count = ordinary(big_tokenizer, input_ids).sum(axis=1)
    expected = np.minimum(np.maximum(1, np.rint(mask_prob * count)), count)
    np.testing.assert_array_equal((labels != IGNORED).sum(axis=1), expected)


def test_special_tokens_and_padding_are_never_chosen(big_tokenizer, input_ids):
    masked, labels = mask(big_tokenizer, input_ids, 1.0)
    special = ~ordinary(big_tokenizer, input_ids)
    assert (labels[special] == IGNORED).all()
    np.testing.assert_array_equal(masked[special], input_ids[special])
    assert (labels[~special] != IGNORED).all()


def test_unknown_tokens_are_not_predicted(tokenizer):
    ids = np.array([[2, 1, 5, 3], [2, 1, 1, 3]], np.int32)
    _, labels = mask(tokenizer, ids, 1.0)
    np.testing.assert_array_equal(labels, [[IGNORED, IGNORED, 5, IGNORED], [IGNORED] * 4])


def test_labels_are_the_originals_and_the_rest_is_untouched(big_tokenizer, input_ids):
    masked, labels = mask(big_tokenizer, input_ids, 0.15)
    chosen = labels != IGNORED
    np.testing.assert_array_equal(labels[chosen], input_ids[chosen])
    np.testing.assert_array_equal(masked[~chosen], input_ids[~chosen])


def test_eight_in_ten_become_mask_one_a_random_token_one_stays(big_tokenizer, input_ids):
    masked, labels = mask(big_tokenizer, input_ids, 1.0)
    chosen = labels != IGNORED
    now, before = masked[chosen], input_ids[chosen]
    is_mask, same = now == big_tokenizer.mask_token_id, now == before
    random_tokens = now[~is_mask & ~same]
    assert len(now) > 60_000
    assert is_mask.mean() == pytest.approx(0.8, abs=0.01)
    # One random token in 295 happens to be the original.
    assert same.mean() == pytest.approx(0.1 + 0.1 / 295, abs=0.005)
    assert len(random_tokens) / len(now) == pytest.approx(0.1 - 0.1 / 295, abs=0.005)
    assert not np.isin(random_tokens, big_tokenizer.all_special_ids).any()
    counts = np.bincount(random_tokens, minlength=len(big_tokenizer))[5:]
    assert counts.min() > 0.3 * counts.mean()  # every ordinary token comes up, none is favoured
    assert counts.max() < 2.5 * counts.mean()


def test_every_position_is_as_likely(big_tokenizer):
    ids = np.full((20_000, 16), 7, np.int32)
    _, labels = mask(big_tokenizer, ids, 0.25)
    np.testing.assert_allclose((labels != IGNORED).mean(axis=0), 0.25, atol=0.015)


def test_positions_are_drawn_independently(big_tokenizer):
    """Pairs of positions come up as often as drawing 4 of 16 without replacement says."""
    ids = np.full((20_000, 16), 7, np.int32)
    chosen = (mask(big_tokenizer, ids, 0.25)[1] != IGNORED).astype(float)
    together = chosen.T @ chosen / len(ids)
    off_diagonal = together[~np.eye(16, dtype=bool)]
    np.testing.assert_allclose(off_diagonal, 4 / 16 * 3 / 15, atol=0.01)


def test_zero_masks_nothing(big_tokenizer, input_ids):
    masked, labels = mask(big_tokenizer, input_ids, 0.0)
    np.testing.assert_array_equal(masked, input_ids)
    assert (labels == IGNORED).all()


def test_the_same_generator_state_gives_the_same_masks(big_tokenizer, input_ids):
    first, again, other = (mask(big_tokenizer, input_ids, 0.15, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_choice_equals_the_obvious_one(big_tokenizer, input_ids):
    """The same scores, row by row with a sort of the ordinary positions."""
    collator = kp.MaskingCollator(big_tokenizer, block_size=WIDTH, mask_prob=0.15)
    _, labels = collator.mask(input_ids, np.random.default_rng(3))
    scores = np.random.default_rng(3).integers(0, 1 << 32, input_ids.shape, np.uint32) >> 7  # 7 bits: 128 positions
    for row, row_ids in enumerate(input_ids):
        candidates = np.flatnonzero(ordinary(big_tokenizer, row_ids))
        wanted = min(max(1, round(0.15 * len(candidates))), len(candidates))
        order = sorted(candidates, key=lambda position: (scores[row, position], position))
        np.testing.assert_array_equal(np.flatnonzero(labels[row] != IGNORED), sorted(order[:wanted]))


def test_called_as_a_collator_it_pads_and_keeps_labels(tokenizer):
    collator = kp.MaskingCollator(tokenizer, block_size=6, mask_prob=0.5)
    batch = collator(
        [
            {"input_ids": [2, 5, 3, 6, 3], "token_type_ids": [0, 0, 0, 1, 1], "next_sentence_label": 1},
            {"input_ids": [2, 7, 3], "token_type_ids": [0, 0, 0], "next_sentence_label": 0},
        ]
    )
    np.testing.assert_array_equal(batch["attention_mask"], [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(batch["token_type_ids"], [[0, 0, 0, 1, 1, 0], [0] * 6])
    np.testing.assert_array_equal(batch["next_sentence_label"], [1, 0])
    np.testing.assert_array_equal((batch["labels"] != IGNORED).sum(axis=1), [1, 1])
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}


@pytest.mark.parametrize("mask_prob", [-0.1, 1.1])
def test_a_mask_prob_that_is_none_is_refused(tokenizer, mask_prob):
    with pytest.raises(ValueError, match=f"mask_prob .*from 0 to 1, not {mask_prob}"):
        kp.MaskingCollator(tokenizer, block_size=8, mask_prob=mask_prob)


def test_an_example_longer_than_the_block_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"\b3 tokens .*block_size 2\b.*to_tf_dataset"):
        kp.MaskingCollator(tokenizer, block_size=2)([{"input_ids": [2, 5, 3], "token_type_ids": [0, 0, 0]}])
