"""Clean documents before they are split and tokenized."""

import logging
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from keras_pretrain.system import require_packages

logger = logging.getLogger(__name__)

CLEANINGS = ("comments", "prose", "none")
_SEEN, _FEWEST_LETTERS = 100_000, 500  # characters that `warn_of_language` reads, and letters that it needs

_DEFAULTS = {"ko": "comments", "en": "prose"}
_REMOVED = {
    "comments": "URLs and all characters but ASCII, Hangul, emoji and ％·∼ (Hanja, ℃, typographic quotation marks and "
    "accented letters go) are removed; a letter repeated four or more times shrinks to two, digits do not; white space "
    "becomes one space, empty lines go",
    "prose": "Unicode is normalized (NFC); control and zero-width characters and URLs are removed; white space becomes "
    "one space, empty lines go",
    "none": "the text stays as it is",
}

# Matches a URL as KcBERT's cleaning does: scheme, host with a top-level domain, then any characters of a path.
_COMMENT_URL = re.compile(r"https?://(?:www\.)?[-\w@:%.+~#=]{1,256}\.[a-zA-Z0-9()]{1,6}\b[-\w()@:%+.~#?&/=]*", re.ASCII)
# Matches a URL in prose. Punctuation belongs to the URL only if the URL continues after it, so removing the URL keeps
# the full stop of the sentence.
_PROSE_URL = re.compile(
    r"https?://(?:[-\w@%+~#&/=$*]|\([-\w@:%+.~#?&/=$*,;!']*\)|[.?:!,;'](?=[-\w@%+~#&/=$*(]))+", re.ASCII | re.IGNORECASE
)
# The cleaning "comments" keeps these characters and emoji: ASCII, a few marks, and Hangul letters (ㄱ-ㅣ) and syllables
# (가-힣).
_KEPT = "\x00-\x7f％·∼ㄱ-ㅣ가-힣"
# The cleaning "prose" removes these: control characters (Cc) that are not white space, soft hyphens, zero-width spaces,
# word joiners and byte order marks. It keeps the zero-width joiner (U+200D), which holds emoji together.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff]+")
# soynlp would shrink repeated digits like letters (1000000 to 100). So digits are replaced by private-use characters
# while soynlp runs. At this point, the text contains no such characters.
_HIDE_DIGITS = {ord(str(digit)): 0xE000 + digit for digit in range(10)}
_SHOW_DIGITS = {private: digit for digit, private in _HIDE_DIGITS.items()}


def clean_text(text: str, cleaning: str = "comments") -> str:
    r"""Clean one document, or a text to give to a model.

    - `"comments"`, the default for Korean: the rules used to clean KcBERT's corpus of online comments (Lee, 2020,
      https://huggingface.co/beomi/kcbert-base), applied to each line. Characters other than ASCII, Hangul, emoji and
      the marks `％·∼` become a space. This removes Hanja, `℃`, typographic quotation marks and accented letters. URLs
      are removed. A letter repeated four or more times in a row shrinks to two; three stay (soynlp's
      `repeat_normalize`). White space becomes one space. Unlike KcBERT's rules, these never shorten digits: 1000000
      stays 1000000.
    - `"prose"`, the default for English. The text becomes Unicode NFC. URLs, soft hyphens, zero-width spaces, word
      joiners, byte order marks, and control characters other than white space are removed. White space becomes one
      space.
    - `"none"`: the text is not changed.

    `"comments"` and `"prose"` remove empty lines and keep the other line breaks, so that sentences do not run together
    across paragraphs. Cleaning a cleaned text changes nothing.

    Args:
      text: a document, with line breaks between paragraphs.
      cleaning: one of the names above.

    Returns:
      The cleaned document. Unless the cleaning is `"none"`, a single `\n` separates its paragraphs.

    Raises:
      ValueError: an unknown cleaning.

    >>> clean_text("정말 좋아요ㅋㅋㅋㅋㅋ 『추천』 https://example.com/a?b=1\n\n 두 번째  문단 ")
    '정말 좋아요ㅋㅋ 추천\n두 번째 문단'
    >>> clean_text("It’s 20 ℃ –  see https://example.com/a.", "prose")
    'It’s 20 ℃ – see .'
    """
    check_cleaning(cleaning)
    if cleaning == "none":
        return text
    clean = _clean_comment if cleaning == "comments" else _clean_prose
    lines = (" ".join(filter(None, map(clean, cut_at_blanks(line)))) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def cut_at_blanks(text: str, characters: int = 1_000_000) -> Iterator[str]:
    """Cut a text at spaces into parts of at least `characters` characters; the last part may be shorter. The spaces at
    the cuts are dropped."""
    start = 0
    while len(text) - start > characters:
        end = text.find(" ", start + characters)
        if end < 0:
            break
        yield text[start:end]
        start = end + 1
    yield text[start:] if start else text


def check_cleaning(cleaning: str) -> None:
    """Raise a `ValueError` if a name is not one of `CLEANINGS`."""
    if cleaning not in CLEANINGS:
        raise ValueError(f"Unknown cleaning {cleaning!r}; it must be one of {', '.join(map(repr, CLEANINGS))}.")


def require_cleaning(cleaning: str) -> None:
    """Raise an error if a library that the cleaning needs is missing.

    Raises:
      ValueError: an unknown cleaning.
      ModuleNotFoundError: the message names the library and the extra that has it.
    """
    check_cleaning(cleaning)
    if cleaning == "comments":
        instead = "The cleaning 'prose' needs no other package."
        require_packages("the cleaning 'comments'", ("emoji", "soynlp"), "korean", instead)


def choose_cleaning(language: str, cleaning: str | None = None, clean: bool | None = None) -> str:
    """The name of the cleaning to use.

    Args:
      language: `"ko"` or `"en"`; determines the default.
      cleaning: one of `CLEANINGS`, or `None`.
      clean: deprecated; `False` means `cleaning="none"`, and `True` means the default cleaning of the language.

    Raises:
      ValueError: an unknown language or cleaning, or both `cleaning` and `clean`.
      ModuleNotFoundError: as `require_cleaning`.
    """
    if language not in _DEFAULTS:
        raise ValueError(f"Unknown language {language!r}; it must be one of {', '.join(map(repr, _DEFAULTS))}.")
    if clean is not None:
        if cleaning is not None:
            raise ValueError(f"Both cleaning={cleaning!r} and clean={clean!r} are given. Give cleaning alone.")
        cleaning = _DEFAULTS[language] if clean else "none"
        message = f"clean={clean!r} is deprecated; use cleaning={cleaning!r}."
        warnings.warn(message, DeprecationWarning, stacklevel=3)  # points to the line that calls prepare_sentences
    elif cleaning is None:
        cleaning = _DEFAULTS[language]
    require_cleaning(cleaning)
    return cleaning


def warn_of_language(texts: Iterable[str], language: str) -> None:
    """Warn if texts seem to be in the other of the two languages, by the share of their letters that are Hangul.

    Args:
      texts: the documents; the first 100,000 characters are read.
      language: `"ko"` or `"en"`.
    """
    read, hangul, letters = 0, 0, 0
    for text in texts:
        part = text[: _SEEN - read]
        read += len(part)
        hangul += sum("가" <= character <= "힣" for character in part)
        letters += sum(map(str.isalpha, part))
        if read >= _SEEN:
            break
    share = hangul / max(letters, 1)
    if letters >= _FEWEST_LETTERS and ((language == "ko" and share < 0.05) or (language == "en" and share > 0.5)):
        other = "en" if language == "ko" else "ko"
        logger.warning(
            "The language is %s, but %.0f%% of the letters are Hangul. Cleaning and sentence splitting depend on the "
            "language: set language to %s if that is the language of the text.",
            language, 100 * share, other,
        )  # fmt: skip


def describe_cleaning(cleaning: str) -> str:
    """One line for the log and the model card that describes a cleaning; raises a `ValueError` if it is unknown."""
    check_cleaning(cleaning)
    return f'Cleaning "{cleaning}": {_REMOVED[cleaning]}.'


def _clean_comment(line: str) -> str:
    line = _shrink_repeats(_COMMENT_URL.sub("", _unwanted().sub(" ", line)))
    while _COMMENT_URL.search(line):  # shortening repeated letters can turn httttps:// into a URL
        line = _shrink_repeats(_COMMENT_URL.sub("", line))
    return line


def _shrink_repeats(line: str) -> str:
    return _repeat_normalize()(line.translate(_HIDE_DIGITS).strip(), num_repeats=2).translate(_SHOW_DIGITS)


def _clean_prose(line: str) -> str:
    line = unicodedata.normalize("NFC", _CONTROL.sub("", line))
    while _PROSE_URL.search(line):
        # Removing a URL can put a combining accent after the letter before the URL; NFC then joins the two.
        line = unicodedata.normalize("NFC", _PROSE_URL.sub("", line))
    return " ".join(line.split())


@lru_cache(maxsize=1)
def _unwanted() -> re.Pattern:
    """A pattern for all characters except `_KEPT` and the parts of emoji."""
    require_cleaning("comments")
    import emoji

    # emoji 2 has a single table; emoji 1 has a table for each language.
    tables = [emoji.EMOJI_DATA] if hasattr(emoji, "EMOJI_DATA") else emoji.UNICODE_EMOJI.values()
    characters = sorted({character for table in tables for sequence in table for character in sequence})
    return re.compile(f"[^{_KEPT}{re.escape(''.join(characters))}]+")


@lru_cache(maxsize=1)
def _repeat_normalize() -> Callable[..., str]:
    require_cleaning("comments")
    # Imported here because soynlp imports scikit-learn and scipy, which takes 2 seconds.
    from soynlp.normalizer import repeat_normalize

    return repeat_normalize
