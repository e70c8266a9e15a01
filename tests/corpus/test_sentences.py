"""`split_sentences` in both languages, with and without what nltk downloads."""

import logging
import re
import subprocess
import sys

import nltk
import pytest
from nltk.tokenize.punkt import PunktTrainer, save_punkt_params

from keras_pretrain import split_sentences, system
from keras_pretrain.corpus import sentences
from keras_pretrain.corpus.sentences import make_splitter, warn_if_unsplit

KOREAN = "회의가 끝났어요 이제 집에 갈게요. 밥은 3.5인분입니다! 내일 봐요"
ENGLISH = "We met Dr. Kim today. He left."
# What Punkt needs to see that "Dr." does not end a sentence.
ABOUT_DOCTORS = "The index of Dr. Kim is here. The test by Dr. Lee failed. We asked Dr. Park again. It was Dr. Choi."
HOW_TO_GET_PUNKT_TAB = r"python -m nltk\.downloader punkt_tab .*punkt_tab\.zip.*~/nltk_data/tokenizers"


@pytest.fixture
def nltk_data(tmp_path, monkeypatch):
    """An empty folder, the only one in which nltk looks for data."""
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    sentences._load_punkt_tab.cache_clear()
    yield tmp_path
    sentences._load_punkt_tab.cache_clear()


@pytest.fixture
def punkt_tab(nltk_data):
    """A small `punkt_tab` as the download would leave it."""
    folder = nltk_data / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True, mode=0o700)
    save_punkt_params(PunktTrainer(ABOUT_DOCTORS).get_params(), dir=str(folder))


@pytest.mark.parametrize(
    ("backend", "first"),
    [
        ("mecab", ["회의가 끝났어요", "이제 집에 갈게요."]),
        ("pecab", ["회의가 끝났어요", "이제 집에 갈게요."]),
        ("fast", ["회의가 끝났어요", "이제 집에 갈게요."]),
        ("kiwi", ["회의가 끝났어요", "이제 집에 갈게요."]),
        ("punct", ["회의가 끝났어요 이제 집에 갈게요."]),
    ],
)
def test_korean_is_split_by_each_backend(backend, first):
    assert split_sentences(KOREAN, backend=backend) == [*first, "밥은 3.5인분입니다!", "내일 봐요"]


def test_kiwi_is_the_default_for_korean():
    text = "그는 “집에 가자. 배고프다.”라고 말했다 나는 웃었다"
    assert split_sentences(text) == split_sentences(text, "ko", backend="kiwi")


def test_lines_are_sentences_and_nothing_is_imported_for_them():
    code = """
import sys
from keras_pretrain import split_sentences
assert split_sentences(" 하나. 둘.\\n\\n셋", backend="lines") == ["하나. 둘.", "셋"]
print([name for name in ("kss", "nltk", "kiwipiepy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("language", "backend"), [("ko", "mecab"), ("ko", "kiwi"), ("ko", "punct"), ("ko", "rules"), ("en", "punkt")]
)
def test_a_line_break_ends_a_sentence(language, backend):
    text = "  마침표 없는 제목\n\n \r\n본문이다.  끝났다.\n"
    assert split_sentences(text, language, backend) == ["마침표 없는 제목", "본문이다.", "끝났다."]


@pytest.mark.parametrize(("language", "backend"), [("ko", "mecab"), ("en", "punkt")])
def test_blank_text_has_no_sentences(language, backend):
    assert split_sentences(" \n\t\n", language, backend) == []


@pytest.mark.parametrize(
    ("language", "backend", "message"),
    [
        ("fr", None, "'ko' and 'en', not.*'fr'"),
        ("ko", "punkt", "'punkt'.* not for 'ko'.* kiwi, .*lines"),
        ("en", "mecab", "'mecab'.* not for 'en'.* punkt, .*lines"),
    ],
)
def test_an_unknown_language_or_backend_is_named(language, backend, message):
    with pytest.raises(ValueError, match=message):
        split_sentences(KOREAN, language, backend)


def test_english_without_punkt_tab_learns_from_the_text(nltk_data):
    assert split_sentences(ENGLISH, "en") == ["We met Dr.", "Kim today.", "He left."]
    assert split_sentences(f"{ABOUT_DOCTORS} {ENGLISH}", "en")[-2:] == ["We met Dr. Kim today.", "He left."]


def test_punkt_learns_from_all_texts_together(nltk_data):
    split = sentences.make_splitter("punkt", (f"{part}." for part in ABOUT_DOCTORS.split(". ")))
    assert split(ENGLISH) == ["We met Dr. Kim today.", "He left."]


def test_punkt_tab_that_is_not_there_is_an_error_that_says_how_to_get_it(nltk_data):
    with pytest.raises(LookupError, match=f"{HOW_TO_GET_PUNKT_TAB}.*backend='punkt'"):
        split_sentences(ENGLISH, "en", backend="punkt_tab")


def test_punkt_tab_splits_where_it_is_asked_for(punkt_tab):
    assert split_sentences(ENGLISH, "en", backend="punkt_tab") == ["We met Dr. Kim today.", "He left."]


def test_the_default_does_not_depend_on_what_is_installed(punkt_tab, monkeypatch):
    assert sentences.choose_backend("en") == "punkt"
    assert sentences.choose_backend("ko") == "kiwi"
    assert {sentences.choose_backend(language, objective=objective) for language in ("ko", "en")
            for objective in ("mlm", "rtd")} == {"lines"}  # fmt: skip

    monkeypatch.setattr(system, "installed_version", lambda name: None)
    for language, backend, how in (
        ("ko", "mecab", r"kss is .* backend 'mecab'.*\[korean\].*'kiwi' or 'rules'"),
        ("ko", None, r"kiwipiepy is .* backend 'kiwi'.*\[korean\].*'rules'"),
        ("en", None, r"nltk is .* backend 'punkt'.*\[english\].*'rules'"),
        ("en", "punkt_tab", r"nltk is .*\[english\].*the backend 'rules'"),
    ):
        with pytest.raises(ModuleNotFoundError, match=how):
            sentences.choose_backend(language, backend)
    assert sentences.choose_backend("ko", "rules") == "rules"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("모은다. 그리고 배운다! 정말일까? 그렇다…", ["모은다.", "그리고 배운다!", "정말일까?", "그렇다…"]),
        ("그는 “간다.” 라고 했다. 끝.", ["그는 “간다.”", "라고 했다.", "끝."]),
        ("값은 3.14이다. 버전 2.21.0을 쓴다.", ["값은 3.14이다.", "버전 2.21.0을 쓴다."]),
        ("1. 설치한다. 2. 실행한다.", ["1. 설치한다.", "2. 실행한다."]),
        ("We met Dr. Kim and J. Smith today. He left (e.g. at noon.) Why?",
         ["We met Dr. Kim and J. Smith today.", "He left (e.g. at noon.)", "Why?"]),
        ("Nothing follows... but this. ", ["Nothing follows... but this."]),
        ("마침표 없음", ["마침표 없음"]),
        ("정답은 3. 다음 문장이다.", ["정답은 3.", "다음 문장이다."]),
        ("He came.  and left. Then  it rained.", ["He came.  and left.", "Then  it rained."]),
    ],
)  # fmt: skip
def test_rules_split_at_stops_that_end_a_sentence(text, expected):
    assert split_sentences(text, "ko", "rules") == split_sentences(text, "en", "rules") == expected


def test_where_mecab_has_no_wheel_no_command_is_named_that_would_not_help(monkeypatch):
    monkeypatch.setattr(sentences, "installed_version", lambda name: None)
    monkeypatch.setattr("sys.version_info", (3, 13, 0))
    with pytest.raises(ModuleNotFoundError, match=r"python-mecab-ko.*Python 3\.13.*'kiwi' or 'rules'") as error:
        sentences.choose_backend("ko", "mecab")
    assert "pip install" not in str(error.value)


def test_punkt_stays_available_where_punkt_tab_is_installed(punkt_tab):
    assert split_sentences(ENGLISH, "en", backend="punkt") == ["We met Dr.", "Kim today.", "He left."]


def test_kss_leaves_the_root_logger_alone():
    code = """
import logging
from keras_pretrain import split_sentences
assert split_sentences("하나다. 둘이다.", backend="fast") == ["하나다.", "둘이다."]
print(logging.getLogger().handlers)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_what_punkt_has_learned_does_not_change_by_its_use():
    splitter = make_splitter("punkt", ["We met Dr. Zork. Dr. Zork met us. He saw cats etc. and left."] * 20)
    before = splitter.learned()
    splitter("We met Dr. Zork. Cats etc. Qux left. No. 5 came.")
    assert splitter.learned() == before
    assert make_splitter("punkt", ["Other words."]).learned() != before


@pytest.mark.parametrize(
    ("characters", "sentences", "is_warned"),
    [
        (2000, 3, True),
        (1999, 1, False),  # may be one long sentence
        (5000, 10, False),
        (5001, 10, True),
        (1_000_000, 20_000, False),
        (2000, 0, True),
        (0, 0, False),
    ],
)
def test_a_corpus_that_is_hardly_split_is_warned_of(characters, sentences, is_warned, package_log):
    warn_if_unsplit("punkt", characters, sentences)
    assert [record.levelno for record in package_log.records] == [logging.WARNING] * is_warned


@pytest.mark.parametrize(
    ("backend", "others"),
    [
        ("punkt", "another backend (backend='punkt_tab')"),
        ("mecab", "backend='pecab' or backend='punct' or backend='fast');"),
        ("ours", "another backend; or"),
        ("rules", "another backend; or"),
    ],
)
def test_the_warning_names_the_backend_the_figures_and_what_to_do(backend, others, package_log):
    warn_if_unsplit(backend, 12_000, 4)
    [message] = package_log.messages
    assert re.search(rf"\bbackend {backend!r} .*\b12,000 characters.*\b4 sentences.*\b3,000 characters", message)
    assert re.search(f'line breaks.*{re.escape(others)}.*objective="mlm"', message)


def test_punkt_that_takes_the_last_word_for_an_abbreviation_is_warned_of(package_log):
    texts = [" ".join(f"Number {i} the cat sees it." for i in range(k, k + 30)) for k in range(10)]
    found = sum(len(part) for part in map(make_splitter("punkt", texts), texts))
    assert found == len(texts)  # one sentence a document
    warn_if_unsplit("punkt", sum(map(len, texts)), found)
    assert re.search(r"\b8,035 characters.*\b10 sentences", package_log.text)


def test_rules_take_a_time_that_grows_with_the_length_alone():
    for part in (".", "!", "A. ", "12. "):
        text = part * 50_000
        assert "".join(split_sentences(text, "ko", "rules")).replace(" ", "") == text.replace(" ", "")
