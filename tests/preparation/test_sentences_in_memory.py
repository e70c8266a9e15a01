"""`prepare_sentences`: the right sentences in the right order, once, and never half of them."""

import re

import datasets
import pytest
from datasets import Dataset, DatasetDict

import keras_pretrain as kp
from keras_pretrain import clean_text, load_corpus, prepare_sentences, train_tokenizer
from keras_pretrain.corpus.cleaning import CLEANINGS, describe_cleaning
from keras_pretrain.folders import MANIFEST
from keras_pretrain.preparation import documents
from keras_pretrain.preparation import sentences as module
from keras_pretrain.settings import settings_of
from keras_pretrain.tokenization import cleaning_of

TEXTS = [f"{i}번 문서다. 둘째 문장이다.\n다른 문단 『{i}』" for i in range(250)]
SENTENCES = [[f"{i}번 문서다.", "둘째 문장이다.", f"다른 문단 {i}"] for i in range(250)]
SMALL = Dataset.from_dict({"text": TEXTS[:3]})

ENGLISH = "We met Dr. Kim today. He left."
# What Punkt needs to see that "Dr." does not end a sentence.
ABOUT_DOCTORS = "The index of Dr. Kim is here. The test by Dr. Lee failed. We asked Dr. Park again. It was Dr. Choi."


def prepare(corpus, cache_dir, **options):
    return prepare_sentences(corpus, cache_dir=cache_dir, **{"backend": "fast", **options})


class Recorder:
    """A splitter that notes what it splits, and may fail at a document."""

    def __init__(self, split, fails_at=None, error=None):
        self.split, self.fails_at, self.error = split, fails_at, error
        self.backend, self.seen = None, []

    def learned(self):
        return self.split.learned()

    def __call__(self, text):
        if self.fails_at is not None and text.startswith(self.fails_at):
            raise self.error
        self.seen.append(text)
        return self.split(text)


@pytest.fixture
def recorded(monkeypatch):
    """The splitters made so far, with what they have split in this process."""
    made = []
    make_splitter = module.make_splitter

    def record(backend, texts=()):
        made.append(Recorder(make_splitter(backend, texts)))
        made[-1].backend = backend
        return made[-1]

    monkeypatch.setattr(module, "make_splitter", record)
    return made


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(documents, "_BLOCK_CHARACTERS", (500, 500))


@pytest.mark.parametrize("num_proc", [1, 2, None])
def test_any_number_of_processes_gives_the_same_rows_in_order(tmp_path, num_proc):
    corpus = Dataset.from_dict({"id": range(250), "text": TEXTS})
    prepared = prepare(corpus, tmp_path, num_proc=num_proc)
    assert prepared.column_names == ["sentences"]
    assert list(prepared["sentences"]) == SENTENCES


def test_any_number_of_processes_fills_the_cache_with_the_same_bytes(tmp_path, small_blocks):
    corpus = Dataset.from_dict({"text": TEXTS})
    for num_proc in (1, 2):
        assert list(prepare(corpus, tmp_path / str(num_proc), num_proc=num_proc)["sentences"]) == SENTENCES
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.arrow")} for name in ("1", "2"))
    assert one == two
    assert len(one) > 10


def test_kiwi_is_the_default(tmp_path, recorded):
    corpus = Dataset.from_dict({"text": ["회의가 끝났어요 이제 집에 갈게요"]})
    assert list(prepare(corpus, tmp_path, backend=None)["sentences"]) == [["회의가 끝났어요", "이제 집에 갈게요"]]
    assert [splitter.backend for splitter in recorded] == ["kiwi"]


def test_each_split_of_a_dataset_dict_is_prepared(tmp_path):
    corpus = DatasetDict(train=SMALL, validation=Dataset.from_dict({"text": TEXTS[5:7]}))
    prepared = prepare(corpus, tmp_path)
    assert isinstance(prepared, DatasetDict)
    assert {name: list(part["sentences"]) for name, part in prepared.items()} == {
        "train": SENTENCES[:3],
        "validation": SENTENCES[5:7],
    }


def test_without_cleaning_the_characters_stay(tmp_path):
    corpus = Dataset.from_dict({"text": ["『漢字』를 쓴다.\nㅋㅋㅋㅋㅋ"]})
    assert list(prepare(corpus, tmp_path, cleaning="none")["sentences"]) == [["『漢字』를 쓴다.", "ㅋㅋㅋㅋㅋ"]]
    assert list(prepare(corpus, tmp_path)["sentences"]) == [["를 쓴다.", "ㅋㅋ"]]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"language": "ko", "backend": "fast"}, "comments"),
        ({"language": "en", "backend": "punkt"}, "prose"),
        ({"language": "ko", "backend": "fast", "cleaning": "prose"}, "prose"),
        ({"language": "en", "backend": "punkt", "cleaning": "none"}, "none"),
    ],
)
def test_the_cleaning_is_said_and_kept_with_the_sentences(tmp_path, package_log, settings, name):
    corpus = DatasetDict(train=SMALL, validation=SMALL)
    prepared = prepare(corpus, tmp_path, **settings)
    assert describe_cleaning(name) in package_log.messages
    assert [settings_of(part)["cleaning"] for part in prepared.values()] == [name, name]
    assert settings_of(prepare(SMALL, tmp_path, **settings))["cleaning"] == name  # from the cache
    assert cleaning_of(train_tokenizer(prepared["train"])) == name


def test_each_cleaning_has_its_own_place_in_the_cache(tmp_path):
    text = "『漢字』를 쓴다ㅋㅋㅋㅋ\u200b 1000000번."
    corpus = Dataset.from_dict({"text": [text]})
    for _ in range(2):
        for name in CLEANINGS:
            assert prepare(corpus, tmp_path, cleaning=name)["sentences"][:] == [[clean_text(text, name)]]


def test_clean_still_works_and_names_what_replaces_it(tmp_path):
    corpus = Dataset.from_dict({"text": ["『漢字』를 쓴다."]})
    with pytest.warns(DeprecationWarning, match="use cleaning='none'") as warned:
        assert list(prepare_sentences(corpus, backend="fast", cache_dir=tmp_path, clean=False)["sentences"]) == [
            ["『漢字』를 쓴다."]
        ]
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="use cleaning='comments'"):
        assert list(prepare(corpus, tmp_path, clean=True)["sentences"]) == [["를 쓴다."]]
    with pytest.raises(ValueError, match=r"cleaning='prose'.* clean=True.*cleaning alone"):
        prepare(corpus, tmp_path, clean=True, cleaning="prose")
    with pytest.raises(ValueError, match=r"'rough'.*'comments', 'prose', 'none'"):
        prepare(corpus, tmp_path, cleaning="rough")


def test_a_document_that_cleaning_empties_has_no_sentences(tmp_path):
    corpus = Dataset.from_dict({"text": ["하나다.", "漢字", "둘이다."]})
    assert list(prepare(corpus, tmp_path)["sentences"]) == [["하나다."], [], ["둘이다."]]


def test_no_documents_give_no_sentences(tmp_path):
    empty = SMALL.select([])
    assert list(prepare(empty, tmp_path)["sentences"]) == []


def test_a_second_run_does_not_split_again(tmp_path, recorded):
    prepare(SMALL, tmp_path)
    same = Dataset.from_dict({"id": range(3), "text": TEXTS[:3]})
    assert list(prepare(same, tmp_path)["sentences"]) == SENTENCES[:3]
    assert [len(splitter.seen) for splitter in recorded] == [3, 0]


def test_a_longer_corpus_is_split_where_it_is_new(tmp_path, recorded, small_blocks):
    prepare(Dataset.from_dict({"text": TEXTS[:200]}), tmp_path, num_proc=1)
    assert list(prepare(Dataset.from_dict({"text": TEXTS}), tmp_path, num_proc=1)["sentences"]) == SENTENCES
    assert len(recorded[1].seen) < 80


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ([*TEXTS[:2], "셋."], {}),
        (TEXTS[:3][::-1], {}),
        (TEXTS[:2], {}),
        ([TEXTS[0], TEXTS[1] + TEXTS[2]], {}),
        (TEXTS[:3], {"cleaning": "none"}),
        (TEXTS[:3], {"backend": "punct"}),
    ],
    ids=["text", "order", "fewer", "borders", "clean", "backend"],
)
def test_another_text_or_setting_is_split_anew(tmp_path, recorded, texts, options):
    prepare(SMALL, tmp_path)
    other = prepare(Dataset.from_dict({"text": texts}), tmp_path, **options)
    assert len(recorded[1].seen) == len(texts)
    assert list(other["sentences"]) == list(
        prepare(Dataset.from_dict({"text": texts}), tmp_path / "fresh", **options)["sentences"]
    )


def test_results_lie_in_the_cache_of_datasets_by_default(tmp_path, monkeypatch, recorded):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    prepare(SMALL, None)
    assert list(prepare(SMALL, tmp_path / "keras_pretrain")["sentences"]) == SENTENCES[:3]
    assert [len(splitter.seen) for splitter in recorded] == [3, 0]


def contents(cache):
    return {path.name: path.read_bytes() for path in cache.rglob("*") if path.is_file() and path.name != MANIFEST}


def test_an_interrupted_run_goes_on_with_the_blocks_that_are_missing(tmp_path, monkeypatch, small_blocks):
    corpus = Dataset.from_dict({"text": TEXTS})
    expected = prepare(corpus, tmp_path / "untouched", num_proc=1)
    make_splitter = module.make_splitter
    fast = make_splitter("fast")
    with monkeypatch.context() as patch:
        patch.setattr(module, "make_splitter", lambda *_: Recorder(fast, "120", KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus, tmp_path / "broken", num_proc=1)
    half = len(contents(tmp_path / "broken"))
    assert 3 < half < len(contents(tmp_path / "untouched"))
    again = Recorder(fast)
    monkeypatch.setattr(module, "make_splitter", lambda *_: again)
    assert prepare(corpus, tmp_path / "broken", num_proc=1)["sentences"][:] == expected["sentences"][:]
    assert 120 < len(again.seen) < 250 - 100
    # The cache holds the result and nothing else.
    assert contents(tmp_path / "broken") == contents(tmp_path / "untouched")


def test_a_document_that_the_splitter_fails_on_is_kept_and_counted(tmp_path, monkeypatch, package_log):
    fast = module.make_splitter("fast")
    failing = Recorder(fast, "1번", RuntimeError("analysis failed"))
    monkeypatch.setattr(module, "make_splitter", lambda *_: failing)
    whole = " ".join(clean_text(TEXTS[1]).split())
    assert list(prepare(SMALL, tmp_path)["sentences"]) == [SENTENCES[0], [whole], SENTENCES[2]]
    assert re.search(r"\b1 documents .*'fast'.*RuntimeError: analysis failed", package_log.text)


def test_a_corpus_that_is_hardly_split_is_warned_of(tmp_path, package_log):
    corpus = Dataset.from_dict({"text": ["No end of this " * 200]})
    prepare(corpus, tmp_path, language="en", backend="punkt")
    assert re.search(r"'punkt' .*\b2,999 characters.*\b1 sentence\b", package_log.text)


def test_the_cache_says_what_is_in_it_and_is_cleared(tmp_path):
    prepare(SMALL, tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "sentences" / "mine.arrow").write_text("mine")
    info = kp.cache_info(tmp_path)
    assert (info.directory, info.files, info.others) == (tmp_path, 1, ["mine.txt", "sentences/mine.arrow"])
    assert info.size > 100
    assert kp.cache_info(tmp_path, clear=True) == info
    assert sorted(contents(tmp_path)) == ["mine.arrow", "mine.txt"]
    assert kp.cache_info(tmp_path).files == 0


def test_where_another_run_was_first_its_result_stands(tmp_path, monkeypatch):
    make_splitter = module.make_splitter

    def overtaken(backend, texts):
        monkeypatch.setattr(module, "make_splitter", make_splitter)
        prepare(SMALL, tmp_path)
        return make_splitter(backend, texts)

    monkeypatch.setattr(module, "make_splitter", overtaken)
    assert list(prepare(SMALL, tmp_path)["sentences"]) == SENTENCES[:3]
    assert len(contents(tmp_path)) == 1


@pytest.mark.parametrize("order", [("train", "validation"), ("validation", "train")])
def test_punkt_learns_from_the_training_part_alone(tmp_path, order):
    parts = {
        "train": Dataset.from_dict({"text": [ABOUT_DOCTORS]}),
        "validation": Dataset.from_dict({"text": [ENGLISH]}),
    }
    corpus = DatasetDict({name: parts[name] for name in order})
    prepared = prepare(corpus, tmp_path, language="en", backend="punkt")
    assert list(prepared["validation"]["sentences"]) == [["We met Dr. Kim today.", "He left."]]


def test_another_training_part_splits_validation_anew(tmp_path):
    validation = Dataset.from_dict({"text": [ENGLISH]})
    first, second = (
        prepare(
            DatasetDict(train=Dataset.from_dict({"text": [text]}), validation=validation),
            tmp_path,
            language="en",
            backend="punkt",
        )
        for text in (ABOUT_DOCTORS, "Nobody is here.")
    )
    assert list(first["validation"]["sentences"]) == [["We met Dr. Kim today.", "He left."]]
    assert list(second["validation"]["sentences"]) == [["We met Dr.", "Kim today.", "He left."]]


@pytest.mark.parametrize(
    ("corpus", "options", "message"),
    [
        (
            SMALL.rename_column("text", "body"),
            {},
            r"no column 'text'.*\bbody\b.*load_corpus\(.*text_column",
        ),
        (DatasetDict(train=SMALL, dev=SMALL.rename_column("text", "body")), {}, r"corpus \(dev\) has no column 'text'"),
        (SMALL, {"num_proc": 0}, "num_proc .*at least 1, not 0"),
        (SMALL, {"language": "fr"}, "'ko' and 'en', not.*'fr'"),
        (SMALL, {"backend": "punkt"}, "'punkt'.* not for 'ko'.* kiwi"),
    ],
    ids=["column", "column of a split", "num_proc", "language", "backend"],
)
def test_what_cannot_be_prepared_is_explained(tmp_path, corpus, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(corpus, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_rows_without_text_do_not_follow_from_load_corpus(tmp_path):
    """The rows that load_corpus leaves out are still in the table under the dataset."""
    corpus = load_corpus(Dataset.from_dict({"text": ["가나다.", None, "라마바.", " ", "사아자."]}))
    prepared = prepare(corpus, tmp_path)
    assert sorted(prepared["train"]["sentences"][:] + prepared["validation"]["sentences"][:]) == [
        ["가나다."], ["라마바."], ["사아자."],
    ]  # fmt: skip


def test_a_row_that_holds_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'text' is null.*load_corpus"):
        prepare(Dataset.from_dict({"text": ["가.", None]}), tmp_path)
