"""`fill_gaps`: lets a checkpoint or a SavedModel fill the gaps of a text."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from transformers import PreTrainedTokenizerBase

from keras_pretrain.evaluation import load_masked_lm

logger = logging.getLogger(__name__)

_WORD_AT_START, _WORD_AT_END = re.compile(r"\w*"), re.compile(r"\w*$")


@dataclass(frozen=True)
class Answer:
    """A token that a model proposes for a gap, with its probability.

    Attributes:
      token: the token, as it is written in the vocabulary.
      probability: the probability of the token.
      word: the token, joined with the rest of the word that follows the gap: `장점이` for `장점` in «[MASK]이».
    """

    token: str
    probability: float
    word: str


def fill_gaps(
    model: str | os.PathLike[str], texts: list[str], top_k: int = 5, *, rests: str = "auto"
) -> list[list[list[Answer]]]:
    """Let a model fill the gaps of texts.

    Args:
      model: the folder or Hub name of a checkpoint (for an ELECTRA, the generator is used), or the folder of a
        SavedModel.
      texts: texts, each with one or more `[MASK]`.
      top_k: the number of answers for each gap; at most the `top_k` that a SavedModel was exported with.
      rests: how to read the rest of a word after a gap, as in «[MASK]이»: `"beginning"`, as every fill-mask pipeline
        reads it (`이`); `"continuation"`, as ordinary training shows it (`##이`); or `"auto"`, which chooses
        `"beginning"` if the checkpoint states that it was trained with `glue_prob`, and else `"continuation"`, with a
        line in the log. A SavedModel always reads the rest as a beginning.

    Returns:
      For each text, a list with one entry per gap: the list of its `Answer`s, the best first.

    Raises:
      ValueError: a text without `[MASK]`, another value of `rests`, `"continuation"` with a tokenizer that is not fast,
        or a model that cannot fill gaps.
    """
    if rests not in ("auto", "beginning", "continuation"):
        raise ValueError(f"rests must be auto, beginning or continuation, not {rests!r}.")
    for text in texts:
        if "[MASK]" not in text:
            raise ValueError(f"There is no [MASK] in {text!r}. Write [MASK] where the gap is.")
    if (Path(model) / "saved_model.pb").exists():
        if rests == "continuation":
            raise ValueError(
                "rests='continuation' needs a checkpoint: a SavedModel reads the rest of a word after a gap as the "
                "beginning of a word. Give the checkpoint, or leave rests out."
            )
        return _ask_saved_model(model, texts, top_k)
    filler = GapFiller(*load_masked_lm(model), rests)
    answers = [filler.fill(text, top_k) for text in texts]
    if filler.continuations and rests == "auto":
        logger.info(
            "In %d places, the rest of a word after a gap is read as its continuation, as in the training of the "
            "checkpoint. A fill-mask pipeline reads it as the beginning of a word; train with glue_prob for such "
            "pipelines.",
            filler.continuations,
        )
    return answers


class GapFiller:
    """A masked language model that is loaded once, for `fill_gaps` and for callers that fill one text at a time.

    Args:
      network, tokenizer: as `evaluation.load_masked_lm` returns them.
      rests: as for `fill_gaps`.

    Attributes:
      continuations: the number of word rests that were read as continuations so far.

    Raises:
      ValueError: `"continuation"` with a tokenizer that is not fast.
    """

    def __init__(self, network: tf_keras.Model, tokenizer: PreTrainedTokenizerBase, rests: str = "auto") -> None:
        if rests == "continuation" and not tokenizer.is_fast:
            raise ValueError(
                "rests='continuation' needs a fast tokenizer, and this checkpoint has none. Leave rests out."
            )
        trained_so = not getattr(network.config, "glue_prob", 0)
        self.network, self.tokenizer, self.continuations = network, tokenizer, 0
        self._as_continuation = rests == "continuation" or (rests == "auto" and trained_so)

    def fill(self, text: str, top_k: int = 5) -> list[list[Answer]]:
        """Return the `Answer`s for each gap, the best first. Gaps that truncation cuts off are left out."""
        ids, count = _encode(self.tokenizer, text, self._as_continuation)
        self.continuations += count
        places = np.flatnonzero(np.array(ids) == self.tokenizer.mask_token_id)
        probabilities = tf.nn.softmax(tf.gather(self.network(tf.constant([ids])).logits[0], places))
        values, tokens = (each.numpy() for each in tf.math.top_k(probabilities, top_k))
        names = [self.tokenizer.convert_ids_to_tokens(each.tolist()) for each in tokens]
        return _answers(text, names, values.tolist())


def _answers(text: str, names: list[list[str]], probabilities: list[list[float]]) -> list[list[Answer]]:
    """Make the `Answer`s for each gap of a text."""
    found, parts = [], text.split("[MASK]")
    for number, (tokens, scores) in enumerate(zip(names, probabilities, strict=True)):
        before, after = _word(_WORD_AT_END.search(parts[number])), _word(_WORD_AT_START.match(parts[number + 1]))
        gap = []
        for token, score in zip(tokens, scores, strict=True):
            start = before if token.startswith("##") else ""
            gap.append(Answer(token, score, f"{start}{token.removeprefix('##')}{after}"))
        found.append(gap)
    return found


def _word(found: re.Match[str] | None) -> str:
    return found[0] if found else ""


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, as_continuation: bool) -> tuple[list[int], int]:
    """Return the ids, and the number of rests that were turned into continuations."""
    if not as_continuation or not tokenizer.is_fast:
        return tokenizer(text, truncation=True)["input_ids"], 0
    encoding = tokenizer(text, truncation=True, return_offsets_mapping=True)
    ids, offsets, words = encoding["input_ids"], encoding["offset_mapping"], encoding.word_ids()
    result, count, place = [], 0, 0
    while place < len(ids):
        result.append(ids[place])
        is_gap = ids[place] == tokenizer.mask_token_id
        place += 1
        if not is_gap or place >= len(ids) or words[place] is None or offsets[place][0] != offsets[place - 1][1]:
            continue
        end = place
        while end < len(ids) and words[end] == words[place]:
            end += 1
        pieces = _continuation(tokenizer, text[offsets[place][0] : offsets[end - 1][1]])
        if pieces:
            result += pieces
            place, count = end, count + 1
    return (result, count) if len(result) <= max(len(ids), tokenizer.model_max_length) else (ids, 0)


def _continuation(tokenizer: PreTrainedTokenizerBase, rest: str) -> list[int]:
    """Return the ids of the `##` pieces of the rest of a word, by longest match first. Empty if the text does not
    continue a word, or if the vocabulary lacks such pieces."""
    backend, vocabulary, pieces = tokenizer.backend_tokenizer, tokenizer.get_vocab(), []
    if backend.normalizer is not None:
        rest = backend.normalizer.normalize_str(rest)
    # Punctuation, and characters that are words of their own, do not continue a word.
    if backend.pre_tokenizer is not None and len(backend.pre_tokenizer.pre_tokenize_str(f"x{rest}")) != 1:
        return []
    while rest:
        end = next((end for end in range(len(rest), 0, -1) if f"##{rest[:end]}" in vocabulary), 0)
        if not end:
            return []
        pieces.append(vocabulary[f"##{rest[:end]}"])
        rest = rest[end:]
    return pieces


def _ask_saved_model(folder: str | os.PathLike[str], texts: list[str], top_k: int) -> list:
    import tensorflow_text  # noqa: F401  its operations are part of the graph

    signatures = tf.saved_model.load(str(folder)).signatures
    if "fill_mask" not in signatures:
        raise ValueError(f"{folder} is a SavedModel that cannot fill gaps: its signatures are {', '.join(signatures)}.")
    answers = signatures["fill_mask"](text=tf.constant(texts))
    names, scores = answers["tokens"].numpy(), answers["scores"].numpy()
    found = []
    for row, text in enumerate(texts):
        gaps = [number for number, gap in enumerate(names[row]) if gap[0]]  # "" fills up texts with fewer gaps
        tokens = [[token.decode() for token in names[row][number][:top_k]] for number in gaps]
        found.append(_answers(text, tokens, [scores[row][number][:top_k].tolist() for number in gaps]))
    return found
