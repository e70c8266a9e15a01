"""`build_features`: makes examples from sentences, with special tokens and without padding, for batching and
masking."""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict
from transformers import PreTrainedTokenizerBase

from keras_pretrain.features.blocks import divide, draw_blocks
from keras_pretrain.features.next_sentence import SentencePairs, check_pairable, pair_sentences
from keras_pretrain.features.segments import pack_segments, separate_sentences
from keras_pretrain.features.tokenizing import TokenizedCorpus, tokenize_sentences
from keras_pretrain.settings import attach, settings_of
from keras_pretrain.tokenization import keep_cleaning

logger = logging.getLogger(__name__)

OBJECTIVES = ("mlm+nsp", "mlm", "rtd")
# Matches a full stop or a similar mark (and closing quotation marks) if more text follows; or a line break.
_SENTENCE_END = re.compile(r"[.!?。！？…][\"'”’)\]]*\s+\S|\n")
_EXAMPLES_AT_ONCE = 10_000  # examples per call of `_join_rows`; its indices take ten times the memory of its result


def build_features(
    sentences: Dataset | DatasetDict,
    tokenizer: PreTrainedTokenizerBase,
    *,
    objective: str = "mlm+nsp",
    block_size: int = 128,
    line_by_line: bool = False,
    short_seq_prob: float = 0.1,
    dupe_factor: int = 1,
    seed: int = 42,
) -> Dataset | DatasetDict:
    """Turn sentences into examples.

    Args:
      sentences: a dataset with column `sentences` (list[str]), one document per row, as `prepare_sentences` returns it.
      tokenizer: a fast tokenizer with `[CLS]`, `[SEP]`, `[PAD]` and `[MASK]`.
      objective: `"mlm+nsp"`: pairs `[CLS] A [SEP] B [SEP]` (see `features.next_sentence.pair_sentences` for the rule,
        and for documents with a single sentence); `"mlm"` or `"rtd"`: single segments `[CLS] A [SEP]` packed from the
        sentences of one document, or with `line_by_line` from one line.
      block_size: the maximum number of tokens of an example, with special tokens.
      line_by_line: each line of the text (with another `backend` than `"lines"`: each sentence) is an example of its
        own, and a line that is too long is divided. It is for documents whose lines are texts of their own, such as
        reviews, comments or messages. Not for pairs. Nothing is drawn at random, so `short_seq_prob`, `dupe_factor` and
        `seed` have no effect.
      short_seq_prob: the probability that an example gets a random target length, from 2 tokens to the maximum.
      dupe_factor: number of passes over the corpus, each with other random choices (BERT's code: 10).
        If training sees the same pairs in each epoch, it memorizes their labels; about one pass per epoch is enough. In
        a `DatasetDict`, this applies only to `train`.
      seed: the same sentences and seed give the same examples.

    If the sentences record their cleaning and the tokenizer records none, this function records it with the tokenizer.

    Returns:
      `input_ids` (list[int32]), `token_type_ids` (list[int8]: 0 for `[CLS] A [SEP]`, 1 for `B [SEP]`) and, for pairs,
      `next_sentence_label` (int32: 0 = B follows A, 1 = B is random). The log reports the number of examples, the
      balance of the labels, and the parts of the corpus that were left out.

    Raises:
      ValueError: an unknown objective, `line_by_line` with `"mlm+nsp"`, a block size that is too small, or larger than
        the tokenizer's `model_max_length`, no column `sentences`, no text, or a corpus that gives no pairs.
    """
    check_settings(tokenizer, objective, block_size, line_by_line, short_seq_prob, dupe_factor)
    for part in sentences.values() if isinstance(sentences, dict) else (sentences,):
        keep_cleaning(tokenizer, settings_of(part).get("cleaning"))
    dupe_factor = 1 if line_by_line else dupe_factor  # more passes would only repeat the examples
    settings = (tokenizer, objective, block_size, line_by_line, short_seq_prob, seed)
    if isinstance(sentences, dict):
        return DatasetDict(
            {
                name: _build(part, *settings, dupe_factor if name == "train" else 1, f"{name}: ")
                for name, part in sentences.items()
            }
        )
    return _build(sentences, *settings, dupe_factor, "")


def choose_objective(documents: Dataset) -> str:
    """Return `"mlm"` if most documents have a single sentence, because these make no pairs for next-sentence
    prediction; else `"mlm+nsp"`. The log reports the choice of `"mlm"`.

    A document counts as a single sentence if it has one line and no full stop, question mark or exclamation mark
    inside. No sentence splitter is used.

    Args:
      documents: a dataset with column `text` (str), one document per row.
    """
    texts = [text for batch in documents.select_columns(["text"]).iter(1000) for text in batch["text"] if text.strip()]
    single = sum(not _SENTENCE_END.search(text.strip()) for text in texts)
    if 2 * single <= len(texts):
        return "mlm+nsp"
    logger.info(
        "%d of %d documents have only one sentence: objective mlm, without next-sentence prediction.",
        single, len(texts),
    )  # fmt: skip
    return "mlm"


def recorded_settings(features: Dataset, objective: str | None = None, block_size: int | None = None) -> dict:
    """Return the `objective` and the `block_size` for which examples were built, as a dictionary.

    Args:
      features: from `build_features` or `load_prepared`, or a dataset with the same columns.
      objective, block_size: the values that the user gave. They are needed if the examples were selected from, mapped
        or saved, because these operations lose the recorded settings.

    Raises:
      ValueError: the given objective is not that of the examples; or no objective is given or recorded. (Pairs are
        recognised without a record, but examples for `"mlm"` and `"rtd"` look alike.)
    """
    recorded = settings_of(features)
    known = recorded.get("objective") or ("mlm+nsp" if "next_sentence_label" in features.column_names else None)
    if objective is not None and objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}.")
    if None not in (objective, known) and objective != known:
        raise ValueError(f"The examples were built for the objective {known!r}, not {objective!r}.")
    if known is None and objective is None:
        raise ValueError(
            "The objective of the examples is unknown: a dataset loses it when it is selected from, mapped or saved. "
            "Pass objective='mlm' or objective='rtd' (ELECTRA)."
        )
    return {"objective": objective or known, "block_size": block_size or recorded.get("block_size")}


def _build(
    sentences: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    block_size: int,
    line_by_line: bool,
    short_seq_prob: float,
    seed: int,
    dupe_factor: int,
    name: str,
) -> Dataset:
    if "sentences" not in sentences.column_names:
        hint = " prepare_sentences makes it from 'text'." if "text" in sentences.column_names else ""
        columns = ", ".join(sentences.column_names)
        raise ValueError(f"{name}build_features needs a column 'sentences'; the columns are {columns}.{hint}")
    corpus = tokenize_sentences(sentences, tokenizer)
    if len(corpus.ids) == 0:
        raise ValueError(f"{name}the corpus is empty: {len(sentences)} documents and no token in any of them.")
    if objective == "mlm+nsp":
        try:
            check_pairable(corpus.num_documents, bool(np.any(np.diff(corpus.document_starts) > 1)))
        except ValueError as error:
            raise ValueError(f"{name}{error}") from None
    starts = corpus.sentence_starts[corpus.document_starts]
    blocks = [block[0][1:] for block in divide([starts], len(corpus.ids))]  # `[1:]`: there is only one part
    tables, figures = [], []
    for number, block in enumerate(blocks):
        drawn = draw_blocks(number, len(blocks), seed) if objective == "mlm+nsp" else []
        parts = [corpus.part(*each) for each in [block, *(blocks[other] for other in drawn if other != number)]]
        settings = (objective, block_size, short_seq_prob, seed, dupe_factor, line_by_line)
        columns, counts = build_block(number, parts, number in drawn, tokenizer, *settings)
        tables.append(pa.table(columns))
        figures.append(counts)
    total = add_figures(figures) | {"empty_documents": corpus.empty_documents}
    report_examples(name, objective, block_size, total)
    return attach(Dataset(pa.concat_tables(tables)), objective=objective, block_size=block_size)


def build_block(
    number: int,
    blocks: list[TokenizedCorpus],
    is_drawn: bool,
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    block_size: int,
    short_seq_prob: float,
    seed: int,
    passes: int,
    line_by_line: bool = False,
) -> tuple[dict[str, pa.ChunkedArray], dict]:
    """Build the examples of one block of a corpus.

    Args:
      number: the number of the block; the random choices depend on it and on the seed.
      blocks: the block, followed for pairs by the other blocks from which random sentences are taken.
      is_drawn: whether random sentences are also taken from the block itself.
      passes: number of passes over the block, each with other random choices.
      line_by_line: as for `build_features`.

    Returns:
      The columns of `build_features`, and counts, which `add_figures` sums over the blocks.
    """
    corpus, own = TokenizedCorpus.join(blocks), blocks[0]
    seeds = [(seed, each, number) for each in range(passes)]
    max_tokens = block_size - _num_special(objective)
    settings: dict[str, Any] = {"max_tokens": max_tokens, "short_seq_prob": short_seq_prob}
    figures = {
        "passes": passes,
        "documents": own.num_documents,
        "sentences": own.num_sentences,
        "tokens": len(own.ids),
        "unknown_tokens": int(np.count_nonzero(own.ids == tokenizer.unk_token_id)),
    }
    if objective == "mlm+nsp":
        part = {"documents": own.num_documents, "random_from": 0 if is_drawn else own.num_documents}
        pairs = SentencePairs.join([pair_sentences(corpus, **settings, **part, seed=each) for each in seeds])
        columns = _join(corpus.ids, [(pairs.a_start, pairs.a_end), (pairs.b_start, pairs.b_end)], tokenizer)
        columns["next_sentence_label"] = pa.chunked_array([pa.array(pairs.next_sentence_label, pa.int32())])
        figures["random_pairs"] = int(pairs.next_sentence_label.sum())
        figures["one_sentence_documents"] = pairs.one_sentence_documents
        figures["leftover_sentences"] = pairs.leftover_sentences
    else:
        segments = [
            separate_sentences(corpus, max_tokens=max_tokens)
            if line_by_line
            else pack_segments(corpus, **settings, seed=each)
            for each in seeds
        ]
        starts, ends = map(np.concatenate, zip(*segments, strict=True))
        columns = _join(corpus.ids, [(starts, ends)], tokenizer)
    figures["examples"] = len(columns["input_ids"])
    figures["positions"] = sum(len(chunk.values) for chunk in columns["input_ids"].chunks)
    return columns, figures


def add_figures(figures: Iterable[dict]) -> dict:
    """Sum the counts of `build_block` over several blocks; `lengths`, if present, are summed element by element."""
    total: Counter = Counter()
    lengths = []
    for each in figures:
        total.update({name: count for name, count in each.items() if name not in ("passes", "lengths")})
        lengths += [each["lengths"]] if "lengths" in each else []
        passes = each["passes"]
    summed = {"lengths": np.sum(lengths, axis=0).tolist()} if lengths else {}
    return dict(total) | {"passes": passes} | summed


def _num_special(objective: str) -> int:
    return 3 if objective == "mlm+nsp" else 2


def check_settings(
    tokenizer: PreTrainedTokenizerBase,
    objective: str,
    block_size: int,
    line_by_line: bool,
    short_seq_prob: float,
    dupe_factor: int,
) -> None:
    """Raise an error for settings with which no examples can be built."""
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}.")
    if line_by_line and objective == "mlm+nsp":
        raise ValueError(
            "line_by_line makes examples of one line, but the objective mlm+nsp needs pairs. Choose the objective mlm "
            "(BERT) or rtd (ELECTRA), or leave line_by_line out."
        )
    missing = [name for name in ("cls", "sep", "pad", "mask") if getattr(tokenizer, f"{name}_token_id", None) is None]
    if missing:
        raise ValueError(f"The tokenizer has no {', '.join(missing)} token; a BERT or ELECTRA tokenizer is needed.")
    smallest = _num_special(objective) + 2
    if block_size < smallest:
        raise ValueError(f"block_size must be at least {smallest}, not {block_size}.")
    if block_size > tokenizer.model_max_length:
        raise ValueError(
            f"block_size {block_size} is more than the tokenizer's model_max_length, {tokenizer.model_max_length}."
        )
    if not 0 <= short_seq_prob <= 1:
        raise ValueError(f"short_seq_prob is a probability, from 0 to 1, not {short_seq_prob}.")
    if dupe_factor < 1:
        raise ValueError(f"dupe_factor must be at least 1, not {dupe_factor}.")


def _join(ids: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]], tokenizer: PreTrainedTokenizerBase) -> dict:
    """Make Arrow lists of examples: `[CLS] part [SEP]`, followed by `part [SEP]` for each further part."""
    chunks = []
    for first in range(0, max(len(parts[0][0]), 1), _EXAMPLES_AT_ONCE):
        rows = slice(first, first + _EXAMPLES_AT_ONCE)
        chunks.append(_join_rows(ids, [(start[rows], end[rows]) for start, end in parts], tokenizer))
    return {
        name: pa.chunked_array(column)
        for name, column in zip(("input_ids", "token_type_ids"), zip(*chunks, strict=True), strict=True)
    }


def _join_rows(
    ids: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]], tokenizer: PreTrainedTokenizerBase
) -> tuple[pa.ListArray, pa.ListArray]:
    lengths = [end - start for start, end in parts]
    total = 1 + sum(length + 1 for length in lengths)
    offsets = np.concatenate([[0], np.cumsum(total)])
    input_ids = np.empty(offsets[-1], np.int32)
    token_type_ids = np.zeros(offsets[-1], np.int8)
    input_ids[offsets[:-1]] = tokenizer.cls_token_id
    position = offsets[:-1] + 1  # for each example, the position of its next token
    for segment, ((start, _), length) in enumerate(zip(parts, lengths, strict=True)):
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        target = np.repeat(position, length) + within
        input_ids[target] = ids[np.repeat(start, length) + within]
        token_type_ids[target] = segment
        position = position + length
        input_ids[position] = tokenizer.sep_token_id
        token_type_ids[position] = segment
        position = position + 1
    offsets = pa.array(offsets, pa.int32())
    return tuple(pa.ListArray.from_arrays(offsets, pa.array(values)) for values in (input_ids, token_type_ids))


def report_examples(name: str, objective: str, block_size: int, figures: dict[str, int]) -> None:
    """Log the results of `build_block`: counts, the balance of the labels, and the parts of the corpus that were left
    out."""
    examples = figures["examples"]
    if objective == "mlm+nsp":
        report = f"{examples:,} pairs, {figures['random_pairs'] / max(examples, 1):.1%} with a random B"
        if figures["one_sentence_documents"]:
            report += f"; {figures['one_sentence_documents']:,} documents of one sentence were used as random B only"
        if figures["leftover_sentences"]:
            report += f"; {figures['leftover_sentences']:,} last sentences of documents were not paired"
        if 2 * figures["one_sentence_documents"] > figures["documents"]:
            logger.warning(
                "%s%d of %d documents have only one sentence and make no pair. Next-sentence prediction is of little "
                "use for such a corpus; objective='mlm' trains on all of the text.",
                name, figures["one_sentence_documents"], figures["documents"],
            )  # fmt: skip
    else:
        report = f"{examples:,} segments"
    report += f", in {figures['passes']} passes" if figures["passes"] > 1 else ""
    padding = 1 - figures["positions"] / max(examples * block_size, 1)
    empty = f" ({figures['empty_documents']:,} more were empty)" if figures["empty_documents"] else ""
    logger.info(
        "%s%s, from %d documents%s, %d sentences, %d tokens; %.2f%% of the tokens [UNK], %.1f%% padding at block %d.",
        name, report, figures["documents"], empty, figures["sentences"], figures["tokens"],
        100 * figures["unknown_tokens"] / figures["tokens"], 100 * padding, block_size,
    )  # fmt: skip
