"""`clean_text`: "comments" against KcBERT's rule as its author wrote it down, and where each cleaning differs."""

import re
import sys
import unicodedata
from types import SimpleNamespace

import emoji
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from soynlp.normalizer import repeat_normalize

from keras_pretrain import clean_text, load_sample
from keras_pretrain.corpus import cleaning
from keras_pretrain.corpus import cleaning as module
from keras_pretrain.corpus.cleaning import (
    CLEANINGS,
    choose_cleaning,
    cut_at_blanks,
    describe_cleaning,
    warn_of_language,
)


def clean_as_kcbert(line):
    """https://github.com/Beomi/KcBERT, "Preprocessing"; for one line of text."""
    tables = [emoji.EMOJI_DATA] if hasattr(emoji, "EMOJI_DATA") else emoji.UNICODE_EMOJI.values()
    emojis = "".join({sequence for table in tables for sequence in table})
    pattern = re.compile(f"[^ .,?!/@$%~％·∼()\x00-\x7fㄱ-ㅣ가-힣{emojis}]+")
    url_pattern = re.compile(
        r"https?:\/\/(www\.)?[-a-zA-Z0-9@:%._\+~#=]{1,256}\.[a-zA-Z0-9()]{1,6}\b([-a-zA-Z0-9()@:%_\+.~#?&//=]*)"
    )
    line = pattern.sub(" ", line)
    line = url_pattern.sub("", line)
    # But for one thing: no run of digits is shortened. Between two of them, a mark that soynlp does not know.
    line = re.sub(r"(?<=\d)(?=\d)", "\ue000", line)
    return repeat_normalize(line.strip(), num_repeats=2).replace("\ue000", "")


@pytest.fixture
def fresh_patterns():
    """The pattern is made once a process from the emoji library; these tests have others."""
    cleaning._unwanted.cache_clear()
    yield
    cleaning._unwanted.cache_clear()


@pytest.mark.parametrize(
    "line",
    [
        "대박ㅋㅋㅋㅋㅋㅋ 진짜 ㅠㅠㅠㅠㅠ",
        "와아아아아아!!!!! 10000원 aaaaab ㅎㅎㅎ",
        "漢字 かな Ünï 『인용』 “따옴표” – … № ㈜ 가나다",
        "🤗 좋아요 👩‍💻🇰🇷 1️⃣ ❤️ ☎",
        "100% 100％ 가·나 1∼2 ~ @ $ [ ] { } \\ ^ - _ `",
        "보세요 https://www.example.com/a/b.html?c=1&d=%20#e 그리고 http://kr.example.org",
        "http://localhost/ 와 https://a.b 와 ftp://example.com 와 www.example.com",
        "https://example.com/한글/경로 (https://example.com) 뒤",
        "  앞뒤\t 공백 　 ",
        "\x00\x07제어 문자\x7f",
        "",
    ],
)
def test_a_line_is_cleaned_as_for_kcbert(line):
    assert clean_text(line) == clean_as_kcbert(line)


def test_the_korean_sample_is_cleaned_as_for_kcbert():
    for text in load_sample("ko")["text"]:
        assert clean_text(text) == "\n".join(map(clean_as_kcbert, text.splitlines()))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("첫 문단\n둘째 문단", "첫 문단\n둘째 문단"),
        ("첫 문단 \r\n\r\n \t\n  둘째 문단\n", "첫 문단\n둘째 문단"),
        ("첫 문단\n漢字\n둘째 문단", "첫 문단\n둘째 문단"),
        ("ㅋㅋ\nㅋㅋ", "ㅋㅋ\nㅋㅋ"),
        ("\n \n", ""),
    ],
)
def test_line_breaks_with_text_on_both_sides_stay(text, cleaned):
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("주소는 https://example.com입니다", "주소는 입니다"),
        ("https://example.com/a?b=c에서 받는다", "에서 받는다"),
    ],
)
def test_a_url_ends_where_korean_begins(text, cleaned):
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [("ㅋㅋㅋ", "ㅋㅋㅋ"), ("ㅋㅋㅋㅋ", "ㅋㅋ"), ("하하하하하", "하하"), ("zzzzz ____", "zz __"), ("!!!!!", "!!!!!")],
)
def test_four_or_more_of_a_letter_shrink_to_two(text, cleaned):
    assert clean_text(text) == cleaned


@pytest.mark.parametrize("number", ["1000000", "00000", "10000원", "9999999999", "1e10000", "a1111a", "010-0000-1111"])
@pytest.mark.parametrize("name", CLEANINGS)
def test_digits_are_never_shortened(number, name):
    assert clean_text(f"값은 {number} ㅋㅋㅋ", name) == f"값은 {number} ㅋㅋㅋ"


def test_what_looks_like_a_hidden_digit_is_none():
    assert clean_text("가\ue000\ue001나 12") == "가 나 12"
    assert clean_text("가\ue000\ue001나 12", "prose") == "가\ue000\ue001나 12"


KEPT_IN_PROSE = [
    "大韓民國(대한민국)은 20 ℃ – “따옴표” ‘안’ … don’t naïve Café №1 ㈜가 ＡＢＣ",
    "ㅋㅋㅋㅋㅋ aaaaa !!!!!",
    "👩\u200d💻 🇰🇷 1️⃣ ❤️",
    "한글\u200c사이",
]


@pytest.mark.parametrize("text", KEPT_IN_PROSE)
def test_prose_keeps_every_letter_and_mark(text):
    assert clean_text(text, "prose") == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("e\u0301 가", "é 가"),
        ("e\u00ad\u0301", "é"),
        ("a\u00adb\u200bc\u2060d\ufeffe\x00f\x07g\x7fh\x9fi", "abcdefghi"),
        ("  a\tb\u00a0\u3000c  ", "a b c"),
        ("첫 문단 \r\n\r\n \t\n  둘째\u2028셋째\x0b넷째\n", "첫 문단\n둘째\n셋째\n넷째"),
        ("\u200b\n\ufeff", ""),
        ("See https://example.com/a_b?c=1,2&d=%20#e. Then", "See . Then"),
        ("(http://example.com/a) and HTTPS://Example.com!", "() and !"),
        ("https://en.wikipedia.org/wiki/Seal_(mammal), too", ", too"),
        ("주소는 https://example.com입니다", "주소는 입니다"),
        ("http:// and https", "http:// and https"),
        ("http://localhost:8080/x-y?", "?"),
    ],
)
def test_prose_loses_controls_urls_and_white_space(text, cleaned):
    assert clean_text(text, "prose") == cleaned


@pytest.mark.parametrize("text", ["", " \r\n\n\x00 e\u0301 https://example.com ㅋㅋㅋㅋ"])
def test_none_changes_nothing(text):
    assert clean_text(text, "none") == text


# What the rules look for, next to anything else: plain random text would hardly ever hold it.
PIECES = st.sampled_from(
    ["h", "htttt", "tt", "ps", "http://", "https://www.", "a.bc", "ㅋㅋ", "aaa", "00", "👩\u200d💻"]
) | st.sampled_from(
    "/().ㅋ1e漢각\u1100\u1161\u11a8ﬁ\u212a\u037e \t\n\r\x00\x1c\x85\u00ad\u0301\u0327\u200b\u200d\ue000\u3000"
)
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=14).map("".join)


@pytest.mark.parametrize("name", CLEANINGS)
@settings(derandomize=True, deadline=None, max_examples=1500)
@given(text=TEXTS)
@example(text="httttps://a.bc")
@example(text="ㅋㅋhttps://a.bcㅋㅋ")
@example(text="xhttps://a.bc\u0301 e\u00ad\u0301")
def test_cleaning_twice_is_cleaning_once(name, text):
    once = clean_text(text, name)
    assert clean_text(once, name) == once


@settings(derandomize=True, deadline=None, max_examples=500)
@given(text=TEXTS)
def test_prose_removes_nothing_else(text):
    left = [character for line in clean_text(text, "prose").splitlines() for character in line if character != " "]
    controls = {c for c in map(chr, range(0xA0)) if unicodedata.category(c) == "Cc"} | set("\u00ad\u200b\u2060\ufeff")
    assert controls.isdisjoint(left)
    if "http" not in unicodedata.normalize("NFC", "".join(c for c in text if c not in controls or c.isspace())):
        lines = ("".join(c for c in line if c not in controls or c.isspace()) for line in text.splitlines())
        assert left == [c for line in lines for c in unicodedata.normalize("NFC", line) if not c.isspace()]


def test_an_unknown_cleaning_is_refused():
    for refused in (lambda: clean_text("가", "kcbert"), lambda: describe_cleaning("kcbert")):
        with pytest.raises(ValueError, match=r"'kcbert'.*'comments', 'prose', 'none'"):
            refused()
    with pytest.raises(ValueError, match=r"'kcbert'.*'comments', 'prose', 'none'"):
        choose_cleaning("ko", "kcbert")


def test_the_cleaning_follows_the_language():
    assert [choose_cleaning(language) for language in ("ko", "en")] == ["comments", "prose"]
    assert [choose_cleaning("ko", name) for name in CLEANINGS] == [*CLEANINGS]
    with pytest.raises(ValueError, match="'fr'"):
        choose_cleaning("fr")


@pytest.mark.parametrize(
    ("language", "clean", "name"), [("ko", True, "comments"), ("en", True, "prose"), ("ko", False, "none")]
)
def test_clean_is_deprecated_and_works(language, clean, name):
    with pytest.warns(DeprecationWarning, match=rf"\bclean={clean}\b.*deprecated.*cleaning='{name}'"):
        assert choose_cleaning(language, clean=clean) == name
    with pytest.raises(ValueError, match=f"cleaning='{name}'.* clean={clean}.*cleaning alone"):
        choose_cleaning(language, name, clean)


@pytest.mark.parametrize(
    ("name", "said"),
    [("comments", ("URLs", "Hanja", "℃", "digits do not")), ("prose", ("NFC", "URLs")), ("none", ("stays as it is",))],
)
def test_each_cleaning_is_described_in_one_line(name, said):
    line = describe_cleaning(name)
    assert "\n" not in line
    assert all(word in line for word in (name, *said))


@pytest.mark.parametrize(
    "library",
    [
        SimpleNamespace(UNICODE_EMOJI={"en": {"🤗": ":hugging_face:", "👩‍💻": ":woman:"}, "ko": {"🇰🇷": ":한국:"}}),
        SimpleNamespace(EMOJI_DATA={"🤗": {"en": ":hugging_face:"}, "👩‍💻": {}, "🇰🇷": {}}),
    ],
    ids=["emoji 1", "emoji 2"],
)
def test_the_emoji_that_either_library_knows_stay(monkeypatch, fresh_patterns, library):
    monkeypatch.setitem(sys.modules, "emoji", library)
    assert clean_text("🤗 가 👩‍💻 나 🇰🇷 다 😀 라") == "🤗 가 👩‍💻 나 🇰🇷 다 라"


@pytest.mark.parametrize("cleaning", ["comments", "prose"])
def test_a_very_long_line_is_cleaned_in_parts_with_the_same_result(cleaning, monkeypatch):
    text = " 『漢字』 https://a.kr/b ㅋㅋㅋㅋㅋ  café\u0301 1000000 " * 50
    whole = clean_text(text, cleaning)
    cut = module.cut_at_blanks
    monkeypatch.setattr(module, "cut_at_blanks", lambda line: cut(line, 7))
    assert clean_text(text, cleaning) == whole


@pytest.mark.parametrize("characters", [1, 3, 10, 1000])
def test_a_text_cut_at_blanks_loses_nothing_but_blanks(characters):
    text = "가나  다라마 바 사아자차카 \n 타 "
    parts = list(cut_at_blanks(text, characters))
    assert " ".join(parts) == text
    assert all(" " not in part[characters:] for part in parts)


@pytest.mark.parametrize(
    ("sample", "language", "is_warned"),
    [("ko", "ko", False), ("en", "en", False), ("ko", "en", True), ("en", "ko", True)],
)
def test_text_of_the_other_language_is_noticed(sample, language, is_warned, package_log):
    warn_of_language(load_sample(sample)["text"], language)
    assert len(package_log.records) == is_warned
    assert all(f"set language to {sample}" in message for message in package_log.messages)


@pytest.mark.parametrize("texts", [["a few words"], ["12 34 " * 1000], [], ["단어 " * 300 + "word " * 700]])
def test_few_letters_and_mixed_text_tell_no_language(texts, package_log):
    for language in ("ko", "en"):
        warn_of_language(texts, language)
    assert not package_log.records
