"""`prepare_sentences`: the right sentences in the right order, once, and never half of them."""

import datasets
import pytest
from datasets import Dataset, DatasetDict

from keras_pretrain import load_corpus, prepare_sentences
from keras_pretrain.corpus import preparation

TEXTS = [f"{i}번 문서다. 둘째 문장이다.\n다른 문단 『{i}』" for i in range(250)]
SENTENCES = [[f"{i}번 문서다.", "둘째 문장이다.", f"다른 문단 {i}"] for i in range(250)]
SMALL = Dataset.from_dict({"text": TEXTS[:3]})

ENGLISH = "We met Dr. Kim today. He left."
# What Punkt needs to see that "Dr." does not end a sentence.
ABOUT_DOCTORS = "The index of Dr. Kim is here. The test by Dr. Lee failed. We asked Dr. Park again. It was Dr. Choi."


def prepare(corpus, cache_dir, **options):
    return prepare_sentences(corpus, cache_dir=cache_dir, **{"backend": "fast", **options})


@pytest.fixture
def analysers(monkeypatch):
    """The backends of the analysers made so far: one more for each time that something is split."""
    made = []
    make_splitter = preparation.make_splitter

    def count(backend, texts=()):
        made.append(backend)
        return make_splitter(backend, texts)

    monkeypatch.setattr(preparation, "make_splitter", count)
    return made


@pytest.mark.parametrize("num_proc", [1, 2, None])
def test_any_number_of_processes_gives_the_same_rows_in_order(tmp_path, num_proc):
    corpus = Dataset.from_dict({"id": range(250), "text": TEXTS})
    prepared = prepare(corpus, tmp_path, num_proc=num_proc)
    assert prepared.column_names == ["sentences"]
    assert list(prepared["sentences"]) == SENTENCES


def test_mecab_is_the_default(tmp_path, analysers):
    corpus = Dataset.from_dict({"text": ["회의가 끝났어요 이제 집에 갈게요"]})
    assert list(prepare(corpus, tmp_path, backend=None)["sentences"]) == [["회의가 끝났어요", "이제 집에 갈게요"]]
    assert analysers == ["mecab"]


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
    assert list(prepare(corpus, tmp_path, clean=False)["sentences"]) == [["『漢字』를 쓴다.", "ㅋㅋㅋㅋㅋ"]]
    assert list(prepare(corpus, tmp_path)["sentences"]) == [["를 쓴다.", "ㅋㅋ"]]


def test_a_document_that_cleaning_empties_has_no_sentences(tmp_path):
    corpus = Dataset.from_dict({"text": ["하나다.", "漢字", "둘이다."]})
    assert list(prepare(corpus, tmp_path)["sentences"]) == [["하나다."], [], ["둘이다."]]


def test_no_documents_give_no_sentences(tmp_path):
    empty = SMALL.select([])
    assert list(prepare(empty, tmp_path)["sentences"]) == []


def test_a_second_run_does_not_split_again(tmp_path, analysers, package_log):
    prepare(SMALL, tmp_path)
    same = Dataset.from_dict({"id": range(3), "text": TEXTS[:3]})
    again = prepare(same, tmp_path, num_proc=2)
    assert list(again["sentences"]) == SENTENCES[:3]
    assert analysers == ["fast"]
    [directory] = tmp_path.iterdir()
    assert package_log.messages[1:] == [f"Sentences of 3 documents taken from {directory}."]


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ([*TEXTS[:2], "셋."], {}),
        (TEXTS[:3][::-1], {}),
        (TEXTS[:2], {}),
        ([TEXTS[0], TEXTS[1] + TEXTS[2]], {}),
        (TEXTS[:3], {"clean": False}),
        (TEXTS[:3], {"backend": "punct"}),
    ],
    ids=["text", "order", "fewer", "borders", "clean", "backend"],
)
def test_another_text_or_setting_is_split_anew(tmp_path, analysers, texts, options):
    prepare(SMALL, tmp_path)
    other = prepare(Dataset.from_dict({"text": texts}), tmp_path, **options)
    assert len(analysers) == 2
    assert list(other["sentences"]) == list(
        prepare(Dataset.from_dict({"text": texts}), tmp_path / "fresh", **options)["sentences"]
    )


def test_results_lie_in_the_cache_of_datasets_by_default(tmp_path, monkeypatch, analysers):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    prepare(SMALL, None)
    assert list(prepare(SMALL, tmp_path / "keras_pretrain")["sentences"]) == SENTENCES[:3]
    assert analysers == ["fast"]


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    class Interrupted:
        def load(self):
            pass

        def __call__(self, text):
            if text.startswith("120"):
                raise KeyboardInterrupt
            return ["half a result"]

    corpus = Dataset.from_dict({"text": TEXTS})
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "make_splitter", lambda *_: Interrupted())
        with pytest.raises(KeyboardInterrupt):
            prepare(corpus, tmp_path, num_proc=1)
    assert list(tmp_path.iterdir()) == []
    assert list(prepare(corpus, tmp_path)["sentences"]) == SENTENCES


def test_where_another_run_was_first_its_result_stands(tmp_path, monkeypatch):
    make_splitter = preparation.make_splitter

    def overtaken(backend, texts):
        monkeypatch.setattr(preparation, "make_splitter", make_splitter)
        prepare(SMALL, tmp_path)
        return make_splitter(backend, texts)

    monkeypatch.setattr(preparation, "make_splitter", overtaken)
    assert list(prepare(SMALL, tmp_path)["sentences"]) == SENTENCES[:3]
    assert len(list(tmp_path.iterdir())) == 1


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
            r"no column 'text'; its columns are body\. load_corpus\(.*text_column",
        ),
        (DatasetDict(train=SMALL, dev=SMALL.rename_column("text", "body")), {}, r"corpus \(dev\) has no column 'text'"),
        (SMALL, {"num_proc": 0}, "num_proc must be at least 1, not 0"),
        (SMALL, {"language": "fr"}, "'ko' and 'en', not in 'fr'"),
        (SMALL, {"backend": "punkt"}, "'punkt' is not for 'ko'; choose one of mecab"),
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
    with pytest.raises(ValueError, match=r"A row of 'text' holds nothing. load_corpus leaves such rows out"):
        prepare(Dataset.from_dict({"text": ["가.", None]}), tmp_path)
