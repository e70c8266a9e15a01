"""Splits a document into sentences: with kiwi or kss for Korean, nltk's Punkt for English, or by rules or lines for
both."""

import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from keras_pretrain.system import installed_version, require_packages

if TYPE_CHECKING:
    from kiwipiepy import Kiwi
    from nltk.tokenize.punkt import PunktParameters

logger = logging.getLogger(__name__)

BACKENDS = {
    "ko": ("kiwi", "mecab", "pecab", "punct", "fast", "rules", "lines"),  # the first one is the default
    "en": ("punkt", "punkt_tab", "rules", "lines"),
}
_MECAB = ("python-mecab-ko", "python-mecab-ko-dic")
_PACKAGES = {  # the packages that each backend needs
    "punkt": ("nltk",),
    "punkt_tab": ("nltk",),
    "kiwi": ("kiwipiepy", "kiwipiepy_model"),
    "mecab": ("kss", *_MECAB),
    "pecab": ("kss", "pecab"),
    "punct": ("kss",),
    "fast": ("kss",),
}
_WITH_KSS = ("mecab", "pecab", "punct", "fast")
# The end of a sentence: full stops and the like, then closing marks, then white space, unless a lower-case letter
# follows.
_END = re.compile(r"""(?<![.!?…。！？])[.!?…。！？]+["'”’»」』)\]]*\s+(?![a-z\s])""")
# Words after which a full stop does not end a sentence: an initial, and some abbreviations.
_NO_END = re.compile(r"(?<![^\s(])([A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|No|vs|cf|e\.g|i\.e|al|Fig|Jr|Sr|approx)$")
_LONGEST_NO_END = 8
_NUMBER = re.compile(r"\s*\d{1,3}$")  # the number of a list item, which would be a sentence on its own
# Punkt learns a domain's abbreviations from half a million words; more text only takes longer.
_PUNKT_TRAINING_CHARACTERS = 3_000_000
# Written sentences have 20 to 200 characters on average; a text of fewer than 2,000 characters may be a single long
# sentence.
_JUDGED_CHARACTERS, _UNSPLIT_CHARACTERS = 2_000, 500


def split_sentences(text: str, language: str = "ko", backend: str | None = None) -> list[str]:
    """Split one document into sentences. A line break always ends a sentence.

    Args:
      text: a document, with line breaks between paragraphs.
      language: `"ko"` or `"en"` (nltk's Punkt; Kiss and Strunk, 2006).
      backend: for Korean `"kiwi"` (kiwipiepy, the default: 80,000 to 110,000 characters per second), or kss with
        `"mecab"` (25,000 to 45,000), `"pecab"` (3,000), `"punct"` (55,000) or `"fast"` (85,000); the last two need
        full stops. kiwi and mecab were compared by hand in 200 places where they differ. In manuals, they were right
        about equally often (45 and 48 of 93). In reviews, kiwi was right more often (57 and 34 of 91): there it makes
        more false cuts, but misses fewer sentence ends. For English `"punkt"` (the default), which learns abbreviations
        from the text itself, or `"punkt_tab"`, nltk's trained model, which has to be downloaded. For both languages
        `"lines"` (each line is a sentence) and `"rules"`, which needs no other package. With `"rules"`, a sentence ends
        with a full stop, a question mark or the like, but not after an initial, a few abbreviations, or a number that
        would be the whole sentence. The default does not depend on the installed libraries. The result of kss can
        depend on the documents that the process split before: when 1,985 manuals were split in another order, 2 of them
        were split differently. The other backends give the same sentences in any order.

    Returns:
      The sentences, in order, stripped and without empty ones.

    Raises:
      ValueError: an unknown language or backend.
      LookupError: the backend is `"punkt_tab"`, and its model is not installed.
      ModuleNotFoundError: the backend's library is not installed; the message names it and the extra that has it.

    >>> split_sentences("데이터를 모은다. 그리고 모델을 배우게 한다.", backend="fast")
    ['데이터를 모은다.', '그리고 모델을 배우게 한다.']
    """
    backend = choose_backend(language, backend)
    return make_splitter(backend, [text])(text)


def choose_backend(language: str, backend: str | None = None, objective: str = "mlm+nsp") -> str:
    """The given backend, or the default of the language; `"lines"` for objectives other than `"mlm+nsp"`."""
    if language not in BACKENDS:
        raise ValueError(f"Sentences can be split in 'ko' and 'en', not in {language!r}.")
    if backend is None:
        backend = BACKENDS[language][0] if objective == "mlm+nsp" else "lines"
    if backend not in BACKENDS[language]:
        raise ValueError(f"Backend {backend!r} is not for {language!r}; choose one of {', '.join(BACKENDS[language])}.")
    others = "'rules'" if language == "en" or backend == "kiwi" else "'kiwi' or 'rules'"
    extra = "english" if language == "en" else "korean"
    instead = f"Without it, choose the backend {others}."
    if backend == "mecab" and sys.version_info >= (3, 13) and installed_version(_MECAB[0]) is None:
        raise ModuleNotFoundError(
            f"The backend 'mecab' needs {_MECAB[0]}, which cannot be installed here: it has no wheel for Python 3.13. "
            f"{instead}",
            name=_MECAB[0],
        )
    require_packages(f"the backend {backend!r}", _PACKAGES.get(backend, ()), extra, instead)
    return backend


def make_splitter(backend: str, texts: Iterable[str] = ()) -> "LineSplitter":
    """Make a function that splits a document into sentences. It can be sent to another process.

    `"punkt"` learns from `texts`; the other backends ignore them.
    """
    if backend in ("punkt", "punkt_tab"):
        from nltk.tokenize.punkt import PunktSentenceTokenizer

        parameters = _learn_punkt(texts) if backend == "punkt" else _load_punkt_tab()
        return LineSplitter(PunktSentenceTokenizer(parameters).tokenize, parameters)
    if backend in ("lines", "rules"):
        return LineSplitter(str.splitlines if backend == "lines" else _split_by_rules)
    return LineSplitter(_split_with_kiwi if backend == "kiwi" else partial(_split_with_kss, backend))


def warn_if_unsplit(backend: str, characters: int, sentences: int) -> None:
    """Warn if a corpus of at least 2,000 characters has more than 500 characters per sentence, because it was hardly
    split.

    For example, Punkt reads a word that ends every sentence as an abbreviation. No backend finds sentences in a text
    without punctuation.
    """
    if characters < _JUDGED_CHARACTERS or characters <= _UNSPLIT_CHARACTERS * sentences:
        return
    languages = [names for names in BACKENDS.values() if backend in names]
    backends = languages[0] if len(languages) == 1 else ()
    others = " or ".join(f"backend={name!r}" for name in backends if name not in (backend, "rules", "lines"))
    logger.warning(
        "The backend %r split %s characters into %s %s, %s characters each on average: it found hardly any ends of "
        "sentences. Put line breaks between the sentences, which always end one; or try another backend%s; or train "
        'with objective="mlm", which needs no sentences.',
        backend,
        f"{characters:,}",
        f"{sentences:,}",
        "sentence" if sentences == 1 else "sentences",
        f"{characters / max(sentences, 1):,.0f}",
        f" ({others})" if others else "",
    )


def splitter_versions(backend: str) -> tuple[str, ...]:
    """The versions of the installed libraries that a backend's sentences depend on."""
    names = ("kss", *_MECAB) if backend in _WITH_KSS else _PACKAGES.get(backend, ())
    return tuple(found for name in names if (found := installed_version(name)) is not None)


class LineSplitter:
    """Splits each line of a document with a backend, which loads its libraries on the first call.

    `parameters` are Punkt's parameters, if the backend is Punkt.
    """

    def __init__(self, split: Callable[[str], Iterable[str]], parameters: "PunktParameters | None" = None) -> None:
        self.split = split
        self.parameters = parameters

    def learned(self) -> str:
        """A digest of Punkt's abbreviations, collocations and the like."""
        if self.parameters is None:
            return ""
        parameters = {name: sorted(value) for name, value in vars(self.parameters).items()}
        # Looking up a word stores it with the value 0, so these entries are left out.
        parameters["ortho_context"] = sorted(item for item in self.parameters.ortho_context.items() if item[1])
        return hashlib.blake2b(json.dumps(parameters).encode(), digest_size=8).hexdigest()

    def __call__(self, text: str) -> list[str]:
        sentences = (sentence for line in text.splitlines() if line.strip() for sentence in self.split(line))
        return [sentence for sentence in map(str.strip, sentences) if sentence]


def _split_by_rules(line: str) -> Iterator[str]:
    start = 0
    for found in _END.finditer(line):
        stop = found.start()
        is_full_stop = line[stop] == "." and line[stop + 1 : stop + 2] != "."
        is_number = stop - start < _LONGEST_NO_END and _NUMBER.match(line, start, stop)
        if is_full_stop and (is_number or _NO_END.search(line, max(start, stop - _LONGEST_NO_END), stop)):
            continue
        yield line[start : found.end()]
        start = found.end()
    yield line[start:]


def _split_with_kss(backend: str, line: str) -> list[str]:
    return _load_kss()(line, backend=backend, num_workers=1)


def _split_with_kiwi(line: str) -> Iterator[str]:
    return (sentence.text for sentence in _load_kiwi().split_into_sents(line))


@lru_cache(maxsize=1)
def _load_kss() -> Callable:
    root = logging.getLogger()
    handlers = list(root.handlers)
    import kss  # up to 20 s; calls logging.basicConfig, which would change all libraries' log lines

    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    return kss.split_sentences


@lru_cache(maxsize=1)
def _load_kiwi() -> "Kiwi":
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)  # this package's worker processes already use all processors


@lru_cache(maxsize=1)
def _load_punkt_tab() -> "PunktParameters":
    from nltk.data import find
    from nltk.tokenize.punkt import load_punkt_params

    try:
        return load_punkt_params(find("tokenizers/punkt_tab/english/"))
    except LookupError as error:
        raise LookupError(
            "nltk's English sentence model is not installed. To install it: python -m nltk.downloader punkt_tab "
            "(without a network, unpack packages/tokenizers/punkt_tab.zip of https://github.com/nltk/nltk_data into "
            "~/nltk_data/tokenizers), or choose backend='punkt', which needs none."
        ) from error


def _learn_punkt(texts: Iterable[str]) -> "PunktParameters":
    from nltk.tokenize.punkt import PunktTrainer

    trainer, seen = PunktTrainer(), 0
    for text in texts:
        trainer.train(text, finalize=False)
        seen += len(text)
        if seen >= _PUNKT_TRAINING_CHARACTERS:
            break
    trainer.finalize_training()
    return trainer.get_params()
