"""Which words are hidden follows from the text alone; the figures are those of the stock model, gap by gap."""

import math

import numpy as np
import pytest
import tensorflow as tf
from datasets import Dataset
from transformers import BertConfig, BertTokenizerFast

import keras_pretrain as kp
from keras_pretrain.evaluation.hidden_words import hide_words

PIECES = ["가", "나", "다", "라", "##가", "##나", "##다", "가나", "##라"]
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def tokenizer_of(folder, pieces):
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]))
    return BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False)


def random_model(tokenizer, **size):
    tf.keras.utils.set_random_seed(1)
    model = kp.BertPretrainer(BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, **SIZE | size))
    model.build_in_name_scope()
    return model


@pytest.fixture(scope="module")
def pieces_tokenizer(tmp_path_factory):
    return tokenizer_of(tmp_path_factory.mktemp("pieces"), PIECES)


@pytest.fixture(scope="module")
def random_texts():
    rng = np.random.default_rng(0)
    words = ["가", "나다", "가나다", "라가", "다다다라", "마", "나라"]
    return [" ".join(words[i] for i in rng.integers(0, len(words), rng.integers(1, 60))) for _ in range(80)]


@pytest.fixture(scope="module")
def model(pieces_tokenizer):
    return random_model(pieces_tokenizer)


def by_hand(model, tokenizer, texts):
    """Each passage alone, by the stock model's whole logits."""
    bits = characters = right = words_hidden = unknown = 0
    for words, is_hidden in hide_words(texts):
        ids, gaps = [tokenizer.cls_token_id], []
        for word, hidden in zip(words, is_hidden, strict=True):
            pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word))
            if hidden:
                gaps.append((word, len(ids), pieces))
            ids += [tokenizer.mask_token_id] * len(pieces) if hidden else pieces
        logits = model({"input_ids": np.array([[*ids, tokenizer.sep_token_id]])}).prediction_logits[0].numpy()
        logits = logits.astype(np.float64)
        for word, place, pieces in gaps:
            words_hidden += 1
            characters += len(word)
            if tokenizer.unk_token_id in pieces:
                unknown += 1
                bits += 16 * len(word)
                continue
            rows = logits[place : place + len(pieces)]
            losses = np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(pieces)), pieces]
            bits += losses.sum() / math.log(2)
            right += (rows.argmax(axis=1) == pieces).all()
    return {
        "bits_per_character": bits / characters, "word_accuracy": right / words_hidden, "hidden_words": words_hidden,
        "unknown_words": unknown,
    }  # fmt: skip


def test_the_figures_are_those_of_the_stock_model_by_hand(model, pieces_tokenizer, random_texts):
    expected = by_hand(model, pieces_tokenizer, random_texts)
    assert expected["unknown_words"] > 10
    assert 0 < expected["word_accuracy"] < 0.9
    data = Dataset.from_dict({"text": random_texts})
    found = kp.evaluation.evaluate_hidden_words(model, data, pieces_tokenizer, batch_size=8)
    assert found == pytest.approx(expected, rel=1e-4)


def test_every_tokenizer_is_asked_for_the_same_words(random_texts, tmp_path):
    data = Dataset.from_dict({"text": random_texts})
    counts = set()
    for name, pieces in (("short", PIECES), ("long", [*PIECES, "나다", "가나다", "라가", "다다다라"])):
        (tmp_path / name).mkdir()
        tokenizer = tokenizer_of(tmp_path / name, pieces)
        found = kp.evaluation.evaluate_hidden_words(random_model(tokenizer), data, tokenizer)
        counts.add((found["hidden_words"], found["unknown_words"]))
    assert len(counts) == 1


def test_their_share_and_their_place_follow_from_the_text(random_texts):
    hidden = np.concatenate([is_hidden for _, is_hidden in hide_words(random_texts * 20, share=0.999)])
    assert hidden.mean() == pytest.approx(0.999, abs=0.002)
    texts = [f"{text} {i}" for i, text in enumerate(random_texts * 40)]
    count = sum(len(text.split()) for text in texts)
    is_hidden = np.array([each for _, part in hide_words(texts) for each in part])
    assert is_hidden.sum() / count == pytest.approx(0.15, abs=4 * math.sqrt(0.15 * 0.85 / count))
    assert list(hide_words(texts[5:9])) == [part for text in texts[5:9] for part in hide_words([text])]


def test_passages_hold_all_words_and_are_no_longer_than_asked():
    text = "가나 다라마 " * 30 + "가" * 50
    parts = [words for words, _ in hide_words([text], share=1.0, passage=20)]
    assert max(len(" ".join(words)) for words in parts) <= 20
    assert [word for words in parts for word in words] == [word[:20] for word in text.split()]
    with pytest.raises(ValueError, match=r"share.*0"):
        next(hide_words([text], share=0.0))


def test_a_tie_is_no_hit(pieces_tokenizer, random_texts):
    constant = random_model(pieces_tokenizer)
    for weight in constant.mlm.trainable_weights:
        weight.assign(tf.zeros_like(weight))
    data = Dataset.from_dict({"text": random_texts})
    found = kp.evaluation.evaluate_hidden_words(constant, data, pieces_tokenizer)
    assert found["word_accuracy"] == 0


def test_what_cannot_be_evaluated_is_refused(model, pieces_tokenizer, random_texts):
    data = Dataset.from_dict({"text": random_texts})

    def evaluate(texts=data, using=model, **settings):
        kp.evaluation.evaluate_hidden_words(using, texts, pieces_tokenizer, **settings)

    with pytest.raises(ValueError, match=r"No word"):
        evaluate(Dataset.from_dict({"text": [" "]}))
    for settings in ({"share": 0}, {"share": 1.5}, {"passage": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            evaluate(**settings)
    with pytest.raises(ValueError, match=r"16 positions.*passage"):
        evaluate(using=random_model(pieces_tokenizer, max_position_embeddings=16))
