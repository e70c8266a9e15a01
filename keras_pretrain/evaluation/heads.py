"""Measures two pretraining heads: ELECTRA's discriminator head, which finds replaced tokens, and BERT's NSP head, which
recognizes next sentences."""

import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras
from datasets import Dataset
from transformers import (
    PreTrainedTokenizerBase,
    TFBertForPreTraining,
    TFElectraForMaskedLM,
    TFElectraForPreTraining,
)

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.evaluation.mlm import whole_documents
from keras_pretrain.features.batching import to_tf_dataset
from keras_pretrain.features.building import build_features
from keras_pretrain.models.electra import ElectraPretrainer
from keras_pretrain.models.encoder import encode
from keras_pretrain.models.judgements import Judgements
from keras_pretrain.models.loading import Checkpoint, Download, find_checkpoint, find_electra
from keras_pretrain.models.precision import precision_of_products
from keras_pretrain.models.pretraining import require_fit
from keras_pretrain.models.products import computing_in
from keras_pretrain.tokenization import choose_text_cleaning

if TYPE_CHECKING:
    from typing_extensions import Unpack  # Python 3.10 does not have it

_SMALLEST_LENGTH = 32  # tokens; batches have this length or twice as many, four times as many, and so on
# Parts of the names of each head's weights, in checkpoints of PyTorch and of TensorFlow.
_NSP_HEAD = ("pooler", "seq_relationship")
_DISCRIMINATOR_HEAD = ("discriminator_predictions",)
_GENERATOR_HEAD = ("generator_predictions", "generator_lm_head")


class MissingHead(ValueError):
    """A checkpoint has no weights of the head to evaluate, or weights that were never trained."""


def evaluate_replaced_tokens(
    model: str | os.PathLike[str] | ElectraPretrainer,
    texts: Dataset,
    *,
    block_size: int = 128,
    batch_size: int = 32,
    mask_prob: float = 0.15,
    seed: int = 42,
    cleaning: str | None = None,
    precision: str = "float32",
    **download: "Unpack[Download]",
) -> dict[str, float]:
    """Measure how well an ELECTRA's discriminator finds the tokens that its own generator replaced.

    As in pretraining, a share `mask_prob` of the tokens is chosen, 85% of these become `[MASK]`, and the generator
    fills all chosen positions with tokens drawn from its distribution, at a temperature of 1. The discriminator judges
    every token. The chosen positions depend only on the corpus, its cleaning, the tokenizer, `block_size`,
    `batch_size`, `mask_prob` and `seed`.

    A better generator draws tokens that are harder to find. So compare the metrics only of models whose generators are
    about equally strong; `sampled_original` shows how strong a generator is.

    Args:
      model: a folder or a name on the Hub that has the discriminator and, in `generator/`, the generator, as
        `save_checkpoint` writes them; or an `ElectraPretrainer`, which stays as it is (it need not be compiled).
      texts: a dataset with column `sentences` (list[str]) or `text` (str), one document per row. The result does not
        depend on how the documents were split into sentences.
      block_size: the maximum number of tokens of an example.
      batch_size: rows of a batch; a row holds as many examples as fit.
      mask_prob: share of the ordinary tokens that the generator predicts.
      seed: the seed for examples, masks and the generator's draws.
      cleaning: how to clean the text, as in `clean_text`. Default: the cleaning of the pretraining text, if it is
        recorded with the tokenizer, else `"none"`. Text that is already clean does not change.
      precision: precision of matrix products, as for `compile`.
      **download: `subfolder`, `revision`, `token`, `cache_dir` and `local_files_only` of a checkpoint on the Hub, as
        for `models.loading.find_checkpoint`.

    Returns:
      `disc_auc`, the probability that the discriminator's logit of "replaced" is higher for a random replaced token
      than for a random original one (logits that differ by less than 1/32 count as equal; 0.5 is chance);
      `replaced_accuracy` and `original_accuracy`, the shares of the replaced and of the original tokens that are judged
      right; `sampled_original`, the share of the chosen tokens for which the generator drew the original;
      `replaced_tokens` and `original_tokens`, the numbers of both kinds (special tokens count as original ones, padding
      does not count). A token that the generator replaced with itself counts as original. The first four are `nan` for
      a model that diverged. If no token is replaced, `disc_auc` and `replaced_accuracy` are `nan`.

    Raises:
      FileNotFoundError: there is no such checkpoint, or its weights or tokenizer are missing.
      ValueError: a model of another architecture, without a generator or without one of the two heads, a damaged
        checkpoint, a tokenizer that does not fit, a setting outside its range, an unknown cleaning, or no text.
      ModuleNotFoundError: weights that only torch can read, and torch (the extra `torch`) is missing.
    """
    generator, discriminator, tokenizer = _load_pair(model, download)
    # A new pretrainer with the same networks, so that a given model keeps its optimizer and settings.
    pair = ElectraPretrainer(
        generator, discriminator, tokenizer, mask_prob=mask_prob, glue_prob=0.0, tie_embeddings=False, seed=seed
    )
    pair.require_fit(tokenizer, block_size)
    documents = whole_documents(texts, choose_text_cleaning(tokenizer, cleaning))
    features = build_features(documents, tokenizer, objective="rtd", block_size=block_size, short_seq_prob=0, seed=seed)
    masking: dict[str, Any] = {"mask_prob": mask_prob, "seed": seed}
    batches = to_tf_dataset(features, tokenizer, batch_size=batch_size, training=False, packed=True, **masking)
    pair.compile(precision=precision)
    found = pair.evaluate(batches, verbose=0, return_dict=True)
    (judgements,) = (each for each in pair.metrics if isinstance(each, Judgements))
    original, replaced = judgements.histogram.numpy().sum(axis=1, dtype=np.float64).astype(int).tolist()
    if not math.isfinite(found["loss"]):
        found = dict.fromkeys(found, math.nan)
    if not replaced:
        found |= {"disc_auc": math.nan, "replaced_accuracy": math.nan}
    names = ("disc_auc", "replaced_accuracy", "original_accuracy", "sampled_original")
    counts = {"replaced_tokens": replaced, "original_tokens": original}
    return {name: float(found[name]) for name in names} | counts


def evaluate_next_sentences(
    model: str | os.PathLike[str] | tf_keras.Model,
    sentences: Dataset,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    block_size: int = 128,
    batch_size: int = 32,
    seed: int = 42,
    cleaning: str | None = None,
    precision: str = "float32",
    **download: "Unpack[Download]",
) -> dict[str, float]:
    """Measure how well a BERT's NSP head tells whether B follows A, and which of two neighbouring sentences is first.

    The pairs are made as for pretraining (`features.next_sentence.pair_sentences`): in half of them B follows A, in the
    others B is from another document. For the order, each pair in which B follows A is also shown as (B, A). The head
    is right if it gives "B follows A" a higher probability for (A, B) than for (B, A).

    A head that was trained on next sentences alone tells topics apart rather than order, so its `order_accuracy` is
    close to chance, 0.5 (ALBERT; Lan et al., 2020).

    The pairs depend only on the corpus, its cleaning, the tokenizer, `block_size` and `seed`. Models with different
    tokenizers get different pairs, so compare their metrics with care.

    Args:
      model: a folder or a name on the Hub (a `BertForPreTraining` or `BertForNextSentencePrediction`), or a model
        object with an NSP head, together with its `tokenizer`.
      sentences: a dataset with column `sentences` (list[str]), as `prepare_sentences` returns it; one document per row.
        Documents with a single sentence make no pairs; their sentences only serve as a random B.
      tokenizer: the tokenizer. Default: the checkpoint's.
      block_size: the maximum number of tokens of a pair.
      batch_size: the number of pairs in a batch.
      seed: the seed for the pairs.
      cleaning: how to clean each sentence, as in `clean_text`. Default: the cleaning of the pretraining text, if it is
        recorded with the tokenizer, else `"none"`. Text that is already clean does not change.
      precision: precision of matrix products, as for `compile`; the pooler and the head keep their own precision.
      **download: `subfolder`, `revision`, `token`, `cache_dir` and `local_files_only` of a checkpoint on the Hub, as
        for `models.loading.find_checkpoint`.

    Returns:
      `nsp_accuracy`, the share of all pairs whose label has the higher logit; `order_accuracy`, the share of correct
      orders among the pairs in which B follows A; `nsp_pairs` and `order_pairs`, the numbers of pairs for these two
      shares. In both, a tie counts as wrong. Both shares are `nan` for a model that diverged, and `order_accuracy` is
      `nan` if B follows A in no pair.

    Raises:
      FileNotFoundError: there is no such checkpoint, or its weights or tokenizer are missing.
      ValueError: a model of another architecture or without an NSP head; a checkpoint whose NSP head was never trained
        (all its biases are 0, as in a run with `objective="mlm"`; load the model to evaluate it anyway); a damaged
        checkpoint, a tokenizer that does not fit, a setting outside its range, an unknown cleaning, no column
        `sentences`, or documents from which no pair can be made.
      ModuleNotFoundError: weights that only torch can read, and torch (the extra `torch`) is missing.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    model, tokenizer = _load_with_nsp(model, tokenizer, download)
    require_fit(model.config, tokenizer, block_size)
    documents = _clean_sentences(sentences, choose_text_cleaning(tokenizer, cleaning))
    settings: dict[str, Any] = {"block_size": block_size, "short_seq_prob": 0, "seed": seed}
    features = build_features(documents, tokenizer, objective="mlm+nsp", **settings)
    columns = (features[name][:] for name in ("input_ids", "token_type_ids"))
    pairs = [(np.array(ids), np.array(types)) for ids, types in zip(*columns, strict=True)]
    follows = np.array(features["next_sentence_label"][:]) == 0
    swapped = [_swap(*pair) for pair, is_true in zip(pairs, follows, strict=True) if is_true]
    margins = _margins(model, pairs + swapped, tokenizer.pad_token_id, batch_size, block_size, precision)
    margins, of_swapped = margins[: len(pairs)], margins[len(pairs) :]
    hits, in_order = np.where(follows, margins > 0, margins < 0), margins[follows] > of_swapped
    is_finite = bool(np.isfinite(margins).all() and np.isfinite(of_swapped).all())
    return {
        "nsp_accuracy": float(hits.mean()) if is_finite else math.nan,
        "order_accuracy": float(in_order.mean()) if is_finite and swapped else math.nan,
        "nsp_pairs": len(pairs),
        "order_pairs": len(swapped),
    }


def require_pairs(documents: Iterable[Sequence[str]]) -> None:
    """Raise an error if no pair can be made of documents.

    Args:
      documents: the sentences of each document.

    Raises:
      ValueError: fewer than two documents have text, or all have a single sentence.
    """
    counts = [len(document) for document in documents if len(document)]
    if len(counts) < 2 or max(counts) < 2:
        raise ValueError(
            f"No pair of sentences can be made: {len(counts)} documents have text, and the longest of them has "
            f"{max(counts, default=0)} sentences. Give at least two documents, one of them with two sentences or more."
        )


def _margins(
    model: tf_keras.Model,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    pad_token_id: int,
    batch_size: int,
    block_size: int,
    precision: str,
) -> np.ndarray:
    """The logit of "B follows A" minus the logit of "B is random", (pairs,) float64.

    Args:
      pairs: `(input_ids, token_type_ids)` of each pair.
    """
    precision = precision_of_products(precision)

    @tf.function(jit_compile=True, autograph=False)
    def forward(batch: dict[str, np.ndarray]) -> tf.Tensor:
        with computing_in(precision, opaque_true=tf.reduce_min(batch["input_ids"]) >= 0):
            first = encode(model.bert, batch, tf.zeros_like(batch["input_ids"][:, :1]))  # last layer: only [CLS]
            return tf.cast(model.nsp(model.bert.pooler(first)), tf.float32)

    lengths = np.array([len(ids) for ids, _ in pairs])
    order = np.argsort(lengths, kind="stable")  # so that the pairs of a batch have similar lengths
    margins = np.zeros(len(pairs))
    for start in range(0, len(pairs), batch_size):
        chosen = order[start : start + batch_size]
        length = _SMALLEST_LENGTH
        while length < lengths[chosen[-1]]:
            length *= 2
        batch = _batch([pairs[number] for number in chosen], batch_size, min(length, block_size), pad_token_id)
        logits = forward(batch).numpy().astype(np.float64)[: len(chosen)]
        margins[chosen] = logits[:, 0] - logits[:, 1]
    return margins


def _batch(
    pairs: list[tuple[np.ndarray, np.ndarray]], size: int, length: int, pad_token_id: int
) -> dict[str, np.ndarray]:
    """The inputs of a batch, each (size, length) int32. Rows beyond `pairs` hold only padding."""
    ids, types, mask = (np.full((size, length), filler, np.int32) for filler in (pad_token_id, 0, 0))
    for row, (of_tokens, of_types) in enumerate(pairs):
        ids[row, : len(of_tokens)], types[row, : len(of_tokens)], mask[row, : len(of_tokens)] = of_tokens, of_types, 1
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}


def _swap(ids: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[CLS] A [SEP] B [SEP]` → `[CLS] B [SEP] A [SEP]`, with its token types."""
    start, a, b = ids[:1], ids[types == 0][1:], ids[types == 1]
    return np.concatenate([start, b, a]), np.repeat([0, 1], [1 + len(b), len(a)])


def _clean_sentences(corpus: Dataset, cleaning: str) -> Dataset:
    """Clean each sentence, and leave out the empty ones."""
    if "sentences" not in corpus.column_names:
        raise ValueError(
            f"The corpus needs a column 'sentences', and its columns are {corpus.column_names}. kp.prepare_sentences "
            "makes it from 'text'."
        )
    rows = (row for batch in corpus.select_columns(["sentences"]).iter(1000) for row in batch["sentences"])
    documents = [list(filter(None, (clean_text(sentence, cleaning) for sentence in row))) for row in rows]
    require_pairs(documents)
    return Dataset.from_dict({"sentences": documents})


def _load_pair(
    model: str | os.PathLike[str] | ElectraPretrainer, download: Download
) -> tuple[TFElectraForMaskedLM, TFElectraForPreTraining, PreTrainedTokenizerBase]:
    """The generator, the discriminator and their tokenizer."""
    if isinstance(model, (str, os.PathLike)):
        found, beside = find_electra(model, **download)
        generator = _load(TFElectraForMaskedLM, beside, _GENERATOR_HEAD, "generator's head")
        discriminator = _load(TFElectraForPreTraining, found, _DISCRIMINATOR_HEAD, "discriminator's head")
        return generator, discriminator, found.tokenizer()
    if not isinstance(model, ElectraPretrainer):
        raise ValueError(f"A {type(model).__name__} has no generator and discriminator: give an ElectraPretrainer.")
    _refuse_download(download)
    return model.generator, model.discriminator, model.tokenizer


def _load_with_nsp(
    model: str | os.PathLike[str] | tf_keras.Model, tokenizer: PreTrainedTokenizerBase | None, download: Download
) -> tuple[tf_keras.Model, PreTrainedTokenizerBase]:
    """A BERT with an NSP head, and its tokenizer."""
    if isinstance(model, (str, os.PathLike)):
        checkpoint = find_checkpoint(model, ("bert",), **download)
        network = _load(TFBertForPreTraining, checkpoint, _NSP_HEAD, "NSP head")
        # The biases start at 0, and every training step with NSP labels changes them.
        if not np.any(network.nsp.seq_relationship.bias.numpy()):
            raise MissingHead(f"{checkpoint.name} has an NSP head that was never trained: its biases are all 0.")
        return network, checkpoint.tokenizer() if tokenizer is None else tokenizer
    if not hasattr(model, "nsp"):
        raise ValueError(f"A {type(model).__name__} has no NSP head.")
    if tokenizer is None:
        raise ValueError("A model object needs its tokenizer: set tokenizer.")
    _refuse_download(download)
    return model, tokenizer


def _load(kind: Any, checkpoint: Checkpoint, head: tuple[str, ...], name: str) -> Any:
    """Load a network with all weights of a head.

    Args:
      kind: the 🤗 class.
      head: parts of the names of the head's weights.
      name: what an error calls the head.

    Raises:
      MissingHead: the checkpoint lacks weights of the head, which would have random values.
    """
    with checkpoint.readable() as folder:
        network, information = kind.from_pretrained(folder, output_loading_info=True)
    missing = [key for key in information["missing_keys"] if any(part in key for part in head)]
    if missing:
        raise MissingHead(f"{checkpoint.name} has no {name}: the checkpoint lacks {', '.join(sorted(missing))}.")
    return network


def _refuse_download(download: Download) -> None:
    if download:
        raise TypeError(f"Unknown arguments for a model object: {', '.join(download)}.")
