"""`train_tokenizer`: the vocabulary that WordPiece training gives, the same one every time, in BERT's layout."""

import json
import os
import subprocess
import sys

import pytest
from datasets import Dataset, DatasetDict
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizer, BertTokenizerFast, ElectraTokenizerFast, PreTrainedTokenizerFast

from keras_pretrain import load_sample, train_tokenizer
from keras_pretrain.settings import attach, settings_of
from keras_pretrain.tokenization import choose_text_cleaning, cleaning_of, record_cleaning, sample_documents
from keras_pretrain.wordpieces import extend_tokenizer

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# No two pairs of pieces are equally frequent at any step, so that there is one right order of merges.
NO_TIES = (
    {"데이": 50, "데이터": 37, "데이터는": 20}  # pairs 107, 57, 20
    | {"모델": 29, "모델이": 11, "모델이다": 5}  # pairs 45, 16, 5
    | {"th": 40, "the": 31, "학습": 23, "자료": 1}  # pairs 71, 31, 23, and one below the least frequency of 2
)


def tokens_of(tokenizer):
    return tokenizer.convert_ids_to_tokens(range(len(tokenizer)))


def make_base(kind=BertTokenizerFast, tokens=SPECIAL_TOKENS, **options):
    """A tokenizer that lowers case, with a vocabulary that is to go."""
    vocabulary = {token: i for i, token in enumerate([*tokens, "옛", "것"])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return kind(tokenizer_object=backend, do_lower_case=True, model_max_length=128, **options)


@pytest.fixture(scope="module")
def sample_tokenizer():
    return train_tokenizer(load_sample("ko"), vocab_size=2000)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_vocabulary_is_the_same_in_every_process(sample_tokenizer, hash_seed):
    code = """
import json
from keras_pretrain import load_sample, train_tokenizer
print(json.dumps(train_tokenizer(load_sample("ko"), vocab_size=2000).get_vocab()))
"""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == sample_tokenizer.get_vocab()


def test_special_tokens_come_first_in_the_order_of_bert(sample_tokenizer):
    assert tokens_of(sample_tokenizer)[:5] == SPECIAL_TOKENS
    ids = [getattr(sample_tokenizer, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")]
    assert ids == [0, 1, 2, 3, 4]
    assert sample_tokenizer.all_special_ids == [1, 3, 0, 2, 4]
    pair = sample_tokenizer("이", "그")
    assert pair.tokens() == ["[CLS]", "이", "[SEP]", "그", "[SEP]"]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]


def test_a_lower_casing_tokenizer_is_the_cased_one_of_lower_case_texts(tmp_path):
    texts = [" ".join([word.capitalize(), word.upper(), word] * count) for word, count in NO_TIES.items()]
    texts.append("Café 학교 CAFÉ")
    lower = train_tokenizer(texts, vocab_size=60, lowercase=True)
    assert lower.get_vocab() == train_tokenizer([text.lower() for text in texts], vocab_size=60).get_vocab()
    lower.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    slow = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=True, strip_accents=False)
    for text in ("THE Café 학교", "the café 학교"):
        expected = lower("the café 학교")["input_ids"]
        assert lower(text)["input_ids"] == loaded(text)["input_ids"] == slow(text)["input_ids"] == expected
        assert lower.unk_token_id not in expected
    assert loaded.do_lower_case is True


@pytest.mark.parametrize("merges", range(11))
def test_the_pieces_are_those_of_the_plain_trainer(merges):
    texts = [" ".join([word] * count) for word, count in NO_TIES.items()]
    characters = {form for word in NO_TIES for i, c in enumerate(word) for form in ({c, "##" + c} if i else {c})}
    vocab_size = len(SPECIAL_TOKENS) + len(characters) + merges

    plain = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    plain.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, min_frequency=2)
    )
    tokenizer = train_tokenizer(texts, vocab_size=vocab_size)
    assert tokenizer.get_vocab().keys() == plain.get_vocab().keys()
    assert len(tokenizer) == min(vocab_size, len(SPECIAL_TOKENS) + len(characters) + 9)


def test_characters_come_first_and_the_rarest_become_unknown():
    tokenizer = train_tokenizer(["가나 가나 가나 가다"], vocab_size=9)
    assert tokens_of(tokenizer)[5:] == ["가", "##나", "나", "가나"]
    assert tokenizer.tokenize("가나 나나 가다 다") == ["가나", "나", "##나", "[UNK]", "[UNK]"]


@pytest.mark.parametrize("vocab_size", [6, 7, 8, 50, 333, 1000])
def test_the_vocabulary_is_never_larger_than_asked_for(vocab_size):
    tokenizer = train_tokenizer(load_sample("ko").select(range(20)), vocab_size=vocab_size)
    assert vocab_size - 1 <= len(tokenizer) <= vocab_size  # a character of two forms may not fit in the last place


def test_few_texts_give_a_small_vocabulary():
    assert tokens_of(train_tokenizer(["가나 가나"], vocab_size=25_000))[5:] == ["가", "##나", "나", "가나"]


def test_case_and_accents_and_syllables_stay():
    text = "TensorFlow 카페 Café 값"
    tokenizer = train_tokenizer([text] * 2)
    assert tokenizer.tokenize(text) == ["TensorFlow", "카페", "Café", "값"]
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert not [token for token in tokens_of(tokenizer) if "ᄀ" <= token.removeprefix("##")[0] <= "ᇿ"]


@pytest.mark.parametrize(
    "texts",
    [
        (text for text in ["데이터 모델", "데이터 모델", "학습"]),
        [["데이터 모델", "데이터 모델"], [], ["학습"]],
        Dataset.from_dict({"id": [0, 1, 2], "text": ["데이터 모델", "데이터 모델", "학습"]}),
        Dataset.from_dict({"sentences": [["데이터 모델", "데이터 모델"], [], ["학습"]]}),
    ],
    ids=["generator", "lists", "column text", "column sentences"],
)
def test_texts_come_in_several_forms(texts):
    expected = train_tokenizer(["데이터 모델", "데이터 모델", "학습"]).get_vocab()
    assert train_tokenizer(texts).get_vocab() == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (DatasetDict(train=Dataset.from_dict({"text": ["가"]})), r"corpus\['train'\], not all of \['train'\]"),
        (Dataset.from_dict({"body": ["가"]}), r"'text' or 'sentences', not \['body'\]"),
        ("가나다", "train_tokenizer .*iterable.*not one text"),
        *((nothing, "no text to train") for nothing in ([], [""], [[], [" \n"]], Dataset.from_dict({"text": []}))),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_holds_no_texts_is_explained(texts, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(texts)


def test_a_vocabulary_without_room_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size .*\b5 special tokens.*\b5 is too small"):
        train_tokenizer(["가"], vocab_size=5)


@pytest.mark.parametrize("kind", [BertTokenizerFast, ElectraTokenizerFast])
@pytest.mark.parametrize("from_folder", [True, False], ids=["folder", "object"])
def test_a_base_keeps_its_rules_and_gets_a_new_vocabulary(tmp_path, kind, from_folder):
    base = make_base(kind)
    base.save_pretrained(tmp_path)
    tokenizer = train_tokenizer(["Deep DEEP Café cafe"], base=tmp_path if from_folder else base)
    assert type(tokenizer) is kind
    assert tokenizer.model_max_length == 128
    assert tokens_of(tokenizer)[:5] == SPECIAL_TOKENS
    assert {"옛", "것"}.isdisjoint(tokenizer.get_vocab())
    assert tokenizer.tokenize("dEEp CAFÉ") == ["deep", "cafe"]
    assert tokens_of(base)[5:] == ["옛", "것"]


def test_a_base_keeps_its_special_tokens_and_the_way_it_places_them():
    base = train_tokenizer(["가나 다라"])
    base.add_special_tokens({"additional_special_tokens": ["[이름]"]})
    tokenizer = train_tokenizer(["라마 라마"], base=base)
    assert tokens_of(tokenizer)[:6] == [*SPECIAL_TOKENS, "[이름]"]
    assert tokens_of(tokenizer)[6:] == ["라", "##마", "마", "라마"]
    assert tokenizer("[이름] 라마")["input_ids"] == [2, 5, 9, 3]


def test_a_base_that_is_not_wordpiece_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL_TOKENS), encoding="utf-8")
    slow = BertTokenizer(str(tmp_path / "vocab.txt"))
    byte_pairs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    for base, kind in ((slow, r"slow \(Python\)"), (byte_pairs, "BPE")):
        with pytest.raises(ValueError, match=f"base tokenizer .*{kind}.*fast WordPiece"):
            train_tokenizer(["가"], base=base)


def test_a_base_has_its_own_rule_for_case():
    with pytest.raises(ValueError, match=r"lowercase .*base.*Leave it out"):
        train_tokenizer(["가"], base=make_base(), lowercase=True)


def test_a_base_with_special_tokens_in_another_order_is_refused():
    with pytest.raises(ValueError, match=r"special tokens .*BERT's order.*'\[CLS\]'"):
        train_tokenizer(["가"], base=make_base(tokens=SPECIAL_TOKENS[::-1]))


@pytest.mark.parametrize("base", [None, make_base()], ids=["from nothing", "from a base"])
def test_a_saved_tokenizer_is_the_same_again(tmp_path, base):
    tokenizer = train_tokenizer(load_sample("ko").select(range(20)), vocab_size=500, base=base)
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(reloaded) is BertTokenizerFast
    assert tokens_of(reloaded) == tokens_of(tokenizer)
    assert reloaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert reloaded.model_max_length == tokenizer.model_max_length == (512 if base is None else 128)
    text = "데이터 Café 㐂 [MASK]를 모은다."
    assert reloaded(text, text)["input_ids"] == tokenizer(text, text)["input_ids"]


@pytest.mark.parametrize("name", ["comments", "prose", "none"])
def test_the_cleaning_is_recorded_and_read_back(tmp_path, name):
    tokenizer = train_tokenizer(["가나 다라"], cleaning=name)
    assert cleaning_of(tokenizer) == name
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))["cleaning"] == name
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert cleaning_of(reloaded) == choose_text_cleaning(reloaded) == name
    assert reloaded("가나 다라")["input_ids"] == tokenizer("가나 다라")["input_ids"]
    slow = BertTokenizer.from_pretrained(tmp_path)
    assert cleaning_of(slow) == name
    slow.save_pretrained(tmp_path / "slow")
    assert cleaning_of(AutoTokenizer.from_pretrained(tmp_path / "slow")) == name


def test_a_tokenizer_that_knows_no_cleaning_has_none(tmp_path):
    tokenizer = train_tokenizer(["가나 다라"])
    tokenizer.save_pretrained(tmp_path)
    assert "cleaning" not in json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert cleaning_of(AutoTokenizer.from_pretrained(tmp_path)) is None
    assert choose_text_cleaning(tokenizer) == "none"
    assert choose_text_cleaning(tokenizer, "prose") == "prose"


def test_the_cleaning_comes_with_the_texts():
    sentences = attach(Dataset.from_dict({"sentences": [["가나"]]}), cleaning="comments")
    assert cleaning_of(train_tokenizer(sentences)) == "comments"
    assert cleaning_of(train_tokenizer(sentences, cleaning="comments")) == "comments"
    with pytest.raises(ValueError, match=r"'comments'.*cleaning='prose'.*Leave it out"):
        train_tokenizer(sentences, cleaning="prose")
    assert cleaning_of(train_tokenizer(sentences.select([0]))) is None
    with pytest.raises(ValueError, match=r"'rough'.*'comments', 'prose', 'none'"):
        train_tokenizer(["가나"], cleaning="rough")


@pytest.mark.parametrize("from_folder", [True, False], ids=["folder", "object"])
def test_the_cleaning_of_the_new_texts_wins_over_the_bases(tmp_path, from_folder):
    base = train_tokenizer(["가나 다라"], cleaning="comments")
    base.save_pretrained(tmp_path)
    given = tmp_path if from_folder else base
    assert cleaning_of(train_tokenizer(["라마"], base=given, cleaning="prose")) == "prose"
    assert cleaning_of(train_tokenizer(["라마"], base=given)) is None
    assert cleaning_of(base) == "comments"


def test_an_extended_tokenizer_keeps_the_cleaning():
    tokenizer = train_tokenizer(["가나 다라"], cleaning="prose")
    assert cleaning_of(extend_tokenizer(tokenizer, ["나가"])) == "prose"


def test_a_record_can_be_replaced_and_removed():
    tokenizer = train_tokenizer(["가나 다라"], cleaning="comments")
    record_cleaning(tokenizer, "none")
    assert cleaning_of(tokenizer) == "none"
    record_cleaning(tokenizer, None)
    assert cleaning_of(tokenizer) is None
    with pytest.raises(ValueError, match="'rough'"):
        record_cleaning(tokenizer, "rough")


def test_settings_go_with_the_object_alone():
    dataset = Dataset.from_dict({"text": ["가", "나"]})
    assert settings_of(dataset) == settings_of(["가"]) == {}
    assert attach(dataset, cleaning="prose") is dataset
    attach(dataset, objective="mlm")
    assert settings_of(dataset) == {"cleaning": "prose", "objective": "mlm"}
    assert settings_of(dataset.select([0])) == settings_of(dataset.map(lambda row: row)) == {}
    settings_of(dataset)["cleaning"] = "none"
    assert settings_of(dataset)["cleaning"] == "prose"


def test_a_large_corpus_is_sampled_the_same_way_each_time():
    documents = [[f"{i:04}"] * (1 + i % 3) for i in range(3000)]
    assert list(sample_documents(lambda: iter(documents))) == documents
    chosen = list(sample_documents(lambda: iter(documents), characters=6000))
    assert chosen == list(sample_documents(lambda: iter(documents), characters=6000))
    assert chosen != list(sample_documents(lambda: iter(documents), characters=6000, seed=1))
    assert chosen == sorted(chosen)
    assert 5000 < sum(len(sentence) for document in chosen for sentence in document) < 7000
