"""`clean_text` against KcBERT's rule as its author wrote it down, and where it does more than that."""

import re
import sys
from types import SimpleNamespace

import emoji
import pytest
from soynlp.normalizer import repeat_normalize

from keras_pretrain import clean_text, load_sample
from keras_pretrain.corpus import cleaning


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
    return repeat_normalize(line.strip(), num_repeats=2)


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
    [("ㅋㅋㅋ", "ㅋㅋㅋ"), ("ㅋㅋㅋㅋ", "ㅋㅋ"), ("하하하하하", "하하"), ("zzzzz 00000", "zz 00"), ("!!!!!", "!!!!!")],
)
def test_four_or_more_of_a_letter_shrink_to_two(text, cleaned):
    assert clean_text(text) == cleaned


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
