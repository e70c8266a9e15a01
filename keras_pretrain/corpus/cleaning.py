"""Cleaning of documents: KcBERT's rules, kept line by line."""

import re
from functools import lru_cache

# A URL as KcBERT's cleaning knows it: scheme, host with a top-level domain, then anything a path may hold.
_URL = re.compile(r"https?://(?:www\.)?[-\w@:%.+~#=]{1,256}\.[a-zA-Z0-9()]{1,6}\b[-\w()@:%+.~#?&/=]*", re.ASCII)
# What stays, besides emoji: ASCII, a few marks, and Hangul as single letters (ㄱ-ㅣ) and syllables (가-힣).
_KEPT = "\x00-\x7f％·∼ㄱ-ㅣ가-힣"


def clean_text(text: str) -> str:
    """Clean one document as KcBERT's corpus was cleaned (Lee, 2020, https://huggingface.co/beomi/kcbert-base).

    Line by line: characters other than ASCII, Hangul, emoji and the marks `％·∼` become a space, URLs go, a character
    that stands four or more times in a row shrinks to two (soynlp's `repeat_normalize`; digits too: 10000 becomes
    100), white space becomes one space, ends are stripped. Lines that are empty afterwards go; the other line breaks
    stay, so that sentences do not run together across paragraphs.

    Args:
      text: a document, its paragraphs separated by line breaks.

    Returns:
      The cleaned document, its paragraphs separated by single `\\n`.

    >>> clean_text("정말 좋아요ㅋㅋㅋㅋㅋ 『추천』 https://example.com/a?b=1\\n\\n 두 번째  문단 ")
    '정말 좋아요ㅋㅋ 추천\\n두 번째 문단'
    """
    lines = (_clean_line(line) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _clean_line(line: str) -> str:
    line = _URL.sub("", _unwanted().sub(" ", line))
    return _repeat_normalize()(line.strip(), num_repeats=2)


@lru_cache(maxsize=1)
def _unwanted() -> re.Pattern:
    return re.compile(f"[^{_KEPT}{re.escape(_emoji_characters())}]+")


def _emoji_characters() -> str:
    """Every character that takes part in an emoji, from emoji 1 (`UNICODE_EMOJI`) or emoji 2 (`EMOJI_DATA`)."""
    import emoji

    if hasattr(emoji, "EMOJI_DATA"):
        sequences = emoji.EMOJI_DATA
    else:
        tables = emoji.UNICODE_EMOJI.values()  # one table a language
        sequences = {sequence for table in tables for sequence in table}
    return "".join(sorted(set("".join(sequences))))


@lru_cache(maxsize=1)
def _repeat_normalize():
    # soynlp imports scikit-learn and scipy: 2 seconds that only cleaning has to pay.
    from soynlp.normalizer import repeat_normalize

    return repeat_normalize
