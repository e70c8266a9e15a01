"""Load small corpora for a first run, for examples and for tests, without a download."""

from collections.abc import Iterator
from importlib.resources import files

from datasets import Dataset


def load_sample(language: str = "ko") -> Dataset:
    """Load documents for trying the package, without a download.

    Args:
      language: `"ko"`: 160 short Korean documents on computing and data, written for this package (CC0);
        `"en"`: the Python language reference as `help()` shows it (`pydoc_data.topics` of the running Python).

    Returns:
      A dataset with column `text` (str), one row per document, with `\\n` between paragraphs.

    Raises:
      ValueError: there is no sample in that language.
    """
    if language == "ko":
        text = files("keras_pretrain.corpus").joinpath("data/ko_computing.txt").read_text(encoding="utf-8")
        documents = text.strip().split("\n\n")
    elif language == "en":
        from pydoc_data.topics import topics

        documents = filter(None, ("\n".join(_prose_paragraphs(topics[name])) for name in sorted(topics)))
    else:
        raise ValueError(f"There is no sample in {language!r}, only in 'ko' and 'en'. Give a corpus of your own.")
    return Dataset.from_dict({"text": list(documents)})


def _prose_paragraphs(text: str) -> Iterator[str]:
    """The prose of a topic, with one line per paragraph; code, tables and headings are left out."""
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        is_prose = all(line[:1].isalnum() or line[:1] in "\"'(*" for line in lines)
        is_heading = len(lines) > 1 and not lines[1].strip("*=-~^")
        if is_prose and not is_heading:
            yield " ".join(line.strip() for line in lines)
