"""The same text gives the same ids at pretraining, fine-tuning and prediction, for each cleaning."""

import re
from itertools import pairwise

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoTokenizer, BertConfig

import keras_pretrain as kp
from keras_pretrain.corpus.cleaning import CLEANINGS
from keras_pretrain.features.tokenizing import tokenize_sentences
from keras_pretrain.finetuning import encode_examples
from keras_pretrain.finetuning.prediction import Predictor
from keras_pretrain.tokenization import cleaning_of

KOREAN = [
    "정말 좋아요ㅋㅋㅋㅋㅋ 👩‍💻🤗🤗🤗🤗🤗 1000000원 『추천』!!!!! https://example.com/a?b=1 입니다.",
    "大韓民國의 기온은 20 ℃다. “따옴표”와 ‘안’ – 그리고 … 3.14.\n\n둘째\u200b 문단\t 00000 번이다. [SEP] 끝 [MASK].",
    "httttps://example.com 와아아아아아 e\u0301 각 \ufeff가나다라. 漢字",
]
ENGLISH = [
    "It’s 20 ℃ – naïve Café, e\u0301tude. See https://example.com/a_(b). It costs 1000000 dollars 😀😀😀😀😀!",
    "soooooo good\u00ad ness…\n\n A second\t paragraph with [SEP] and [MASK] in it. Then 大韓民國 follows.",
]
CASES = [("ko", "fast", KOREAN, name) for name in CLEANINGS] + [("en", "punkt", ENGLISH, name) for name in CLEANINGS]


@pytest.fixture
def encoded_for_prediction(monkeypatch):
    """The ids that reach the model in `predict`."""
    seen = []
    predict = Predictor.predict
    monkeypatch.setattr(Predictor, "predict", lambda self, encoded: seen.append(encoded) or predict(self, encoded))
    return seen


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(("language", "backend", "texts", "cleaning"), CASES)
def test_one_text_has_one_sequence_of_ids(tmp_path, encoded_for_prediction, language, backend, texts, cleaning):
    corpus = Dataset.from_dict({"text": texts})
    sentences = kp.prepare_sentences(
        corpus, language=language, cleaning=cleaning, backend=backend, num_proc=1, cache_dir=tmp_path / "cache"
    )
    tokenizer = kp.train_tokenizer(sentences, vocab_size=400)
    assert cleaning_of(tokenizer) == cleaning
    tokens = tokenize_sentences(sentences, tokenizer)
    starts = tokens.sentence_starts[tokens.document_starts]
    pretrained = [tokens.ids[start:end].tolist() for start, end in pairwise(starts)]
    assert len(pretrained) == len(texts)

    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    model = kp.finetuning.BertClassifier(config)
    kp.save_checkpoint(model, tokenizer, tmp_path / "model")
    saved = AutoTokenizer.from_pretrained(tmp_path / "model")
    finetuned = encode_examples(corpus, saved, max_length=512).input_ids
    assert [row[1:-1].tolist() for row in finetuned] == pretrained

    kp.finetuning.predict(tmp_path / "model", texts, max_length=512)
    kp.finetuning.predict(model, texts, tokenizer=saved, max_length=512)
    for encoded in encoded_for_prediction:
        assert [row[1:-1].tolist() for row in encoded.input_ids] == pretrained
    assert len(encoded_for_prediction) == 2


def test_the_cleanings_differ_on_these_texts():
    for texts in (KOREAN, ENGLISH):
        assert len({tuple(kp.clean_text(text, name) for text in texts) for name in CLEANINGS}) == 3


def test_a_cleaning_given_by_name_is_used_instead(tokenizer):
    examples = Dataset.from_dict({"text": ["가 나 https://example.com 다"], "pair": ["漢 라"]})
    plain, cleaned = (encode_examples(examples, tokenizer, cleaning=name) for name in (None, "comments"))
    ids = tokenizer.convert_tokens_to_ids
    cls, sep, unknown = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id
    assert cleaned.input_ids[0].tolist() == [cls, *ids(["가", "나", "다"]), sep, ids("라"), sep]
    assert plain.input_ids[0].tolist().count(unknown) > 5
    with pytest.raises(ValueError, match=r"'rough'.*'comments', 'prose', 'none'"):
        encode_examples(examples, tokenizer, cleaning="rough")


def test_texts_that_cleaning_empties_stay_and_are_counted(tokenizer, package_log):
    texts = ["가", "漢字", "나", "https://example.com"]
    encoded = encode_examples(Dataset.from_dict({"text": texts}), tokenizer, cleaning="comments")
    assert encoded.lengths.tolist() == [3, 2, 3, 2]
    [warning] = [record for record in package_log.records if record.levelname == "WARNING"]
    assert re.search(r"'comments' .*\b2 of 4 texts.*'漢字'.*another cleaning", warning.getMessage())


def test_a_cleaning_that_empties_nothing_says_nothing(tokenizer, package_log):
    encode_examples(Dataset.from_dict({"text": ["가", " ", "나ㅋㅋㅋㅋ"]}), tokenizer, cleaning="comments")
    assert not package_log.records


@pytest.mark.parametrize("pairs", [False, True])
def test_special_tokens_in_a_labelled_text_are_characters(tokenizer, pairs):
    columns = {"text": ["가 [SEP] 나 [MASK]"]} | ({"pair": ["[CLS]다[PAD]"]} if pairs else {})
    [row] = encode_examples(Dataset.from_dict(columns), tokenizer).input_ids
    special = [tokenizer.cls_token_id, *[tokenizer.sep_token_id] * (2 if pairs else 1)]
    assert sorted(set(row.tolist()) & {*special, tokenizer.mask_token_id, tokenizer.pad_token_id}) == sorted({*special})
    assert np.sum(row == tokenizer.sep_token_id) == len(special) - 1
    assert np.sum(row == tokenizer.cls_token_id) == 1
    assert tokenizer("[MASK]")["input_ids"][1] == tokenizer.mask_token_id
