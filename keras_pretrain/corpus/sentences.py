"""A document into sentences: kss for Korean, nltk's Punkt for English."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import version

logger = logging.getLogger(__name__)

BACKENDS = {"ko": ("mecab", "pecab", "punct", "fast"), "en": ("punkt_tab", "punkt")}
# Punkt learns a domain's abbreviations from half a million words; more text only takes longer.
_PUNKT_TRAINING_CHARACTERS = 3_000_000


def split_sentences(text: str, language: str = "ko", backend: str | None = None) -> list[str]:
    """Split one document into sentences. A line break always ends a sentence.

    Args:
      text: a document, its paragraphs separated by line breaks.
      language: `"ko"` (kss) or `"en"` (nltk's Punkt; Kiss and Strunk, 2006).
      backend: for Korean `"mecab"` (the default: 25,000 to 45,000 characters a second), `"pecab"` (3,000), `"punct"`
        (55,000) or `"fast"` (85,000), both blind where people leave out full stops. For English `"punkt_tab"`,
        nltk's trained model (the default where it is installed: `python -m nltk.downloader punkt_tab`), or `"punkt"`,
        which learns abbreviations from the text itself and needs no download (the default elsewhere).

    Returns:
      The sentences in order, stripped, none empty.

    Raises:
      ValueError: an unknown language or backend.
      LookupError: `"punkt_tab"` was asked for and is not installed.

    >>> split_sentences("데이터를 모은다. 그리고 모델을 배우게 한다.", backend="fast")
    ['데이터를 모은다.', '그리고 모델을 배우게 한다.']
    """
    backend = choose_backend(language, backend)
    return make_splitter(backend, [text])(text)


def choose_backend(language: str, backend: str | None = None) -> str:
    """The backend asked for, or a language's default."""
    if language not in BACKENDS:
        raise ValueError(f"Sentences can be split in 'ko' and 'en', not in {language!r}.")
    if backend is None:
        backend = "mecab" if language == "ko" else _best_punkt()
    if backend not in BACKENDS[language]:
        raise ValueError(f"Backend {backend!r} is not for {language!r}; choose one of {', '.join(BACKENDS[language])}.")
    return backend


def make_splitter(backend: str, texts: Iterable[str] = ()) -> Callable[[str], list[str]]:
    """A function from a document to its sentences, which can be sent to another process.

    Args:
      backend: one of `BACKENDS`.
      texts: what `"punkt"` learns from; the other backends do not look at it.
    """
    if backend == "punkt":
        return PunktSplitter(_learn_punkt(texts))
    if backend == "punkt_tab":
        return PunktSplitter(_load_punkt_tab())
    return KssSplitter(backend)


def splitter_versions(backend: str) -> tuple[str, ...]:
    """The versions of the libraries that a backend's sentences depend on."""
    libraries = ("nltk",) if backend.startswith("punkt") else ("kss", "python-mecab-ko", "python-mecab-ko-dic")
    return tuple(map(version, libraries))


class KssSplitter:
    """kss with one backend, loaded once a process: at first use, or by `load`, which forked workers then share."""

    def __init__(self, backend: str):
        self.backend = backend

    def load(self) -> None:
        _load_kss()

    def learned(self) -> str:
        """What splits besides the code: nothing."""
        return ""

    def __call__(self, text: str) -> list[str]:
        split = _load_kss()
        sentences = []
        for paragraph in text.splitlines():
            if paragraph.strip():
                sentences += split(paragraph, backend=self.backend, num_workers=1)
        return [sentence for sentence in map(str.strip, sentences) if sentence]


class PunktSplitter:
    """nltk's Punkt, trained already."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def load(self) -> None:
        """Nothing is left to load."""

    def learned(self) -> str:
        """A digest of what splits besides the code: abbreviations, collocations and the like."""
        parameters = {name: sorted(value) for name, value in vars(self.tokenizer._params).items()}
        # Words that were only asked for are there with 0.
        parameters["ortho_context"] = sorted(item for item in self.tokenizer._params.ortho_context.items() if item[1])
        return hashlib.blake2b(json.dumps(parameters).encode(), digest_size=8).hexdigest()

    def __call__(self, text: str) -> list[str]:
        sentences = (sentence for line in text.splitlines() for sentence in self.tokenizer.tokenize(line))
        return [sentence for sentence in map(str.strip, sentences) if sentence]


@lru_cache(maxsize=1)
def _load_kss() -> Callable:
    root = logging.getLogger()
    handlers = list(root.handlers)
    import kss  # up to 20 s; and it calls logging.basicConfig, which would prefix every other library's log lines

    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    return kss.split_sentences


def _best_punkt() -> str:
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        _say_how_to_get_punkt_tab()
        return "punkt"
    return "punkt_tab"


_HOW_TO_GET_PUNKT_TAB = (
    "nltk's English sentence model is not installed. To install it: python -m nltk.downloader punkt_tab (where there "
    "is no network, unpack packages/tokenizers/punkt_tab.zip of https://github.com/nltk/nltk_data into "
    "~/nltk_data/tokenizers)"
)


@lru_cache(maxsize=1)  # once a process, not once a text
def _say_how_to_get_punkt_tab() -> None:
    logger.warning("%s. Until then abbreviations are learned from the text itself.", _HOW_TO_GET_PUNKT_TAB)


@lru_cache(maxsize=1)
def _load_punkt_tab():
    from nltk.tokenize.punkt import PunktTokenizer

    try:
        return PunktTokenizer("english")
    except LookupError as error:
        raise LookupError(f"{_HOW_TO_GET_PUNKT_TAB}, or choose backend='punkt', which needs none.") from error


def _learn_punkt(texts: Iterable[str]):
    from nltk.tokenize.punkt import PunktSentenceTokenizer, PunktTrainer

    trainer = PunktTrainer()
    seen = 0
    for text in texts:
        trainer.train(text, finalize=False)
        seen += len(text)
        if seen >= _PUNKT_TRAINING_CHARACTERS:
            break
    trainer.finalize_training()
    return PunktSentenceTokenizer(trainer.get_params())
