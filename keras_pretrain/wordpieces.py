"""Adds words to a tokenizer: finds words that are frequent in a corpus, and extends the vocabulary."""

import copy
from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase

from keras_pretrain.tokenization import Texts, count_chunks, count_words, train_tokenizer

_CONTINUING = "##"


def find_new_tokens(texts: Texts, tokenizer: PreTrainedTokenizerBase, *, count: int = 1000) -> list[str]:
    """Find the most frequent wordpieces of a corpus that are missing in a vocabulary.

    A new vocabulary is trained on the corpus with the tokenizer's normalization. Those of its wordpieces that are
    missing in the tokenizer's vocabulary are ranked by their frequency in the corpus.

    Args:
      texts: as for `train_tokenizer`.
      tokenizer: a fast tokenizer with a WordPiece model.
      count: the maximum number of wordpieces.

    Returns:
      Wordpieces, the most frequent first; those inside words begin with `##`.

    Raises:
      ValueError: no text, a count below 1, or a tokenizer that is not WordPiece.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}.")
    chunks = count_chunks(texts)
    repeated = ([chunk] * times for chunk, times in sorted(chunks.items()))
    # The tokenizer already has many wordpieces of the corpus, so train a vocabulary of more than twice the old size to
    # find enough new ones.
    trained = train_tokenizer(repeated, vocab_size=2 * len(tokenizer) + 2 * count, base=tokenizer)
    known = tokenizer.get_vocab()
    frequency: Counter[str] = Counter()
    for word, times in count_words(tokenizer.backend_tokenizer, chunks).items():
        for piece in trained.backend_tokenizer.model.tokenize(word):
            if piece.value not in known:
                frequency[piece.value] += times
    return sorted(frequency, key=lambda piece: (-frequency[piece], piece))[:count]


def extend_tokenizer(tokenizer: PreTrainedTokenizerBase, new_tokens: Iterable[str]) -> PreTrainedTokenizerBase:
    """Copy a tokenizer and add wordpieces to the copy; existing ids do not change.

    New pieces are appended to the WordPiece vocabulary itself. (🤗's `add_tokens` would match them anywhere: in the
    middle of other words and before the text is normalized.)

    Args:
      tokenizer: a fast tokenizer with a WordPiece model.
      new_tokens: words, or pieces inside words with `##` before them, in normalized form. Pieces that the
        tokenizer already has, and repetitions, are skipped.

    Returns:
      A tokenizer of the same class.

    Raises:
      ValueError: the tokenizer is not WordPiece; or it would never find a new token, because the token is empty or too
        long, or the tokenizer changes it (normalisation) or splits it before it looks up wordpieces.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.model, models.WordPiece):
        raise ValueError("New tokens need a fast WordPiece tokenizer, such as BERT's or ELECTRA's.")
    known = tokenizer.get_vocab()
    fresh = [token for token in dict.fromkeys(new_tokens) if token not in known]
    for token in fresh:
        _check_token(token, backend)
    next_id = max(known.values()) + 1
    vocabulary = backend.get_vocab(with_added_tokens=False)
    vocabulary |= {token: next_id + i for i, token in enumerate(fresh)}
    extended = copy.deepcopy(tokenizer)
    old = backend.model
    extended.backend_tokenizer.model = models.WordPiece(
        vocabulary,
        unk_token=old.unk_token,
        max_input_chars_per_word=old.max_input_chars_per_word,
        continuing_subword_prefix=old.continuing_subword_prefix,
    )
    return extended


def old_pieces(token: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of the pieces into which a tokenizer splits a wordpiece (longest match first); if it cannot split
    the wordpiece, only the id of `[UNK]`.

    >>> tokenizer = train_tokenizer(["데이터를 모은다", "데이터를 쓴다"], vocab_size=60)
    >>> tokenizer.convert_ids_to_tokens(old_pieces("데이터다", tokenizer))
    ['데이', '##터', '##다']
    """
    vocabulary = tokenizer.get_vocab()
    continues = token.startswith(_CONTINUING) and len(token) > len(_CONTINUING)
    rest = token.removeprefix(_CONTINUING) if continues else token
    ids: list[int] = []
    while rest:
        prefix = _CONTINUING if continues or ids else ""
        end = next((end for end in range(len(rest), 0, -1) if prefix + rest[:end] in vocabulary), None)
        if end is None:
            return [tokenizer.unk_token_id]
        ids.append(vocabulary[prefix + rest[:end]])
        rest = rest[end:]
    return ids


def _check_token(token: str, backend: Tokenizer) -> None:
    word = token.removeprefix(_CONTINUING) if len(token) > len(_CONTINUING) else token
    if not word.strip():
        raise ValueError(f"{token!r} is no token: it is empty.")
    normalized = backend.normalizer.normalize_str(word) if backend.normalizer else word
    if normalized != word:
        raise ValueError(
            f"The tokenizer would never find the token {token!r}: it makes {normalized!r} of such text first. Add that."
        )
    parts = [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(word)] if backend.pre_tokenizer else [word]
    if parts != [word]:
        raise ValueError(
            f"The tokenizer would never find the token {token!r}: it splits such text into {parts} before it looks up "
            "wordpieces. Add those."
        )
    limit = backend.model.max_input_chars_per_word
    if len(word) > limit:
        raise ValueError(f"The token {token!r} is longer than the {limit} characters of a word that are looked at.")
