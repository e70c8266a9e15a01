"""Measures how well masked language models fill gaps, by loss, perplexity and accuracy. Models with the same tokenizer
are measured at the same positions."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tensorflow as tf
import tf_keras
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TFBertForMaskedLM, TFElectraForMaskedLM

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.features.batching import Arrays, Batches
from keras_pretrain.features.building import build_features
from keras_pretrain.features.masking import IGNORED
from keras_pretrain.models.encoder import encode
from keras_pretrain.models.loading import DOWNLOAD, Download, find_checkpoint
from keras_pretrain.models.objectives import crossentropy_of_each
from keras_pretrain.models.precision import precision_of_products
from keras_pretrain.models.pretraining import require_fit, unpack_batch
from keras_pretrain.models.products import computing_in
from keras_pretrain.tokenization import choose_text_cleaning

if TYPE_CHECKING:
    from typing_extensions import Unpack  # Python 3.10 does not have it

logger = logging.getLogger(__name__)

_CLASSES = {"bert": TFBertForMaskedLM, "electra": TFElectraForMaskedLM}


def evaluate_mlm(
    model: str | os.PathLike[str] | tf_keras.Model,
    sentences: Dataset,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    block_size: int = 128,
    line_by_line: bool = False,
    batch_size: int = 32,
    mask_prob: float = 0.15,
    seed: int = 42,
    cleaning: str | None = None,
    precision: str = "float32",
    **download: "Unpack[Download]",
) -> dict[str, float]:
    """Mask a corpus and let a model fill the gaps.

    The masked positions, and the tokens that replace them, depend only on the corpus, its cleaning, the tokenizer,
    `block_size`, `line_by_line`, `batch_size`, `mask_prob` and `seed`. Two models with the same tokenizer are therefore
    asked exactly the same questions.

    If the tokenizers differ, `mlm_loss`, `perplexity` and `mlm_accuracy` cannot be compared, because a vocabulary of
    long words has fewer and harder gaps. `loss_per_character` can be compared with care: it is the total loss of all
    gaps, divided by the number of hidden characters. It still favours a tokenizer with smaller pieces, because more of
    a word stays visible when one piece is masked, and one that lower-cases.

    Args:
      model: a folder or a name on the Hub (BERT, or an ELECTRA generator; from a checkpoint of an `ElectraPretrainer`,
        the generator is loaded), or a model object with an MLM head, together with its `tokenizer`.
      sentences: a dataset with column `sentences` (list[str]), as `prepare_sentences` returns it, or `text` (str); one
        document per row. Except with `line_by_line`, the result does not depend on how the documents were split into
        sentences.
      tokenizer: the tokenizer. Default: the checkpoint's.
      block_size: the maximum number of tokens of an example.
      line_by_line: each sentence of `sentences`, or line of `text`, is an example of its own, as in `build_features`.
      batch_size: rows of a batch; a row holds as many examples as fit.
      mask_prob: share of the ordinary tokens that are predicted.
      seed: the seed for examples and masks.
      cleaning: how to clean the text, as in `clean_text`. Default: the cleaning of the pretraining text, if it is
        recorded with the tokenizer, else `"none"`. Text that is already clean does not change.
      precision: precision of matrix products, as for `compile`; the model's head keeps its own precision.
      **download: `subfolder`, `revision`, `token`, `cache_dir` and `local_files_only` of a checkpoint on the Hub, as
        for `models.loading.find_checkpoint`.

    Returns:
      `mlm_loss` (in nats per masked token), `perplexity` (e to the power of `mlm_loss`; `inf` if that is too large for
      a float; both are `inf` or `nan` for a model that diverged), `mlm_accuracy`, `loss_per_character` (nats),
      `masked_tokens` and `unknown_share` (the share of tokens that are `[UNK]`; these are never masked).

      If there are gaps before the rest of a word, such as «[MASK]이», also the metrics of these gaps: `pipeline_loss`
      and `pipeline_accuracy`, with the rest shown as pipelines show it (`features.masking.GluedRests`);
      `continuation_loss` and `continuation_accuracy`, with the rest as a `##` piece; and `glued_gaps`, the number of
      these gaps.

    Raises:
      FileNotFoundError: there is no such checkpoint, or its weights or tokenizer are missing.
      ValueError: a model of another architecture or without an MLM head, a damaged checkpoint, a tokenizer that does
        not fit, an unknown cleaning, or no text.
      ModuleNotFoundError: weights that only torch can read, and torch (the extra `torch`) is missing.
    """
    model, tokenizer = load_model(model, tokenizer, download)
    require_fit(model.config, tokenizer, block_size)
    documents = whole_documents(sentences, choose_text_cleaning(tokenizer, cleaning), keep_lines=line_by_line)
    building: dict[str, Any] = {"block_size": block_size, "line_by_line": line_by_line, "seed": seed}
    features = build_features(documents, tokenizer, objective="mlm", short_seq_prob=0, **building)
    masking = {"mask_prob": mask_prob, "glue_prob": 0.0}
    plain = Batches(features, tokenizer, batch_size, masking, seed, False, block_size, packed=True)
    glued = plain.with_glue(1.0)
    precision = precision_of_products(precision)

    @tf.function(jit_compile=True, autograph=False)
    def forward(*batch: dict[str, np.ndarray]) -> tuple[tf.Tensor, tf.Tensor]:
        with computing_in(precision, opaque_true=tf.reduce_min(batch[0]["packed_ids"]) >= 0):
            unpacked = unpack_batch(batch)
            return crossentropy_of_each(gap_logits(model, unpacked), unpacked["labels"])

    lengths = _characters(tokenizer)
    totals, characters = {name: np.zeros(3) for name in ("", "pipeline_", "continuation_")}, 0
    masked, masked_glued = (cast("Iterator[tuple[Arrays, Arrays]]", each.epoch()) for each in (plain, glued))
    for (inputs, labels), (shown, _) in zip(masked, masked_glued, strict=True):
        is_gap = labels["labels"] != IGNORED
        characters += int(lengths[labels["labels"][is_gap]].sum())
        is_glued = is_gap & _next_differs(inputs, shown)
        found = forward(inputs, labels)
        _add_up(totals[""], found, is_gap)
        if is_glued.any():
            _add_up(totals["continuation_"], found, is_glued)
            _add_up(totals["pipeline_"], forward(shown, labels), is_glued)
    loss, correct, count = totals[""].tolist()
    if count == 0:
        raise ValueError("No token of the corpus can be masked: it holds nothing but [UNK] for this tokenizer.")
    ids = np.concatenate([np.asarray(row) for row in features["input_ids"][:]])
    figures = {
        "mlm_loss": loss / count,
        "perplexity": _perplexity(loss / count),
        "mlm_accuracy": correct / count,
        "loss_per_character": loss / characters,
        "masked_tokens": int(count),
        "unknown_share": float(np.mean(ids == tokenizer.unk_token_id)),
    }
    for kind in ("pipeline_", "continuation_"):
        loss, correct, count = totals[kind].tolist()
        if count:
            figures |= {f"{kind}loss": loss / count, f"{kind}accuracy": correct / count, "glued_gaps": int(count)}
    return figures


def _next_differs(inputs: dict, others: dict) -> np.ndarray:
    """Whether two packed batches differ in the token after each of the `masked_positions`, bool."""
    differs = np.pad(inputs["packed_ids"] != others["packed_ids"], ((0, 0), (0, 1)))
    return np.take_along_axis(differs, np.maximum(inputs["masked_positions"], 0) + 1, axis=1)


def _add_up(totals: np.ndarray, found: tuple[tf.Tensor, tf.Tensor], chosen: np.ndarray) -> None:
    losses, hits = (np.reshape(values, chosen.shape)[chosen] for values in found)
    totals += [losses.sum(dtype=np.float64), hits.sum(), chosen.sum()]


def compare_mlm(
    models: Mapping[str, str | os.PathLike[str]], sentences: Dataset, *, cleaning: str | None = None, **settings: Any
) -> dict[str, dict[str, float]]:
    """Call `evaluate_mlm` for several checkpoints, at the same positions if they have the same tokenizer and cleaning.

    Args:
      models: maps a name that you choose to a checkpoint's folder or Hub name.
      sentences, cleaning, **settings: as for `evaluate_mlm`.

    Returns:
      For each name, the metrics of `evaluate_mlm`. If the tokenizers or their recorded cleanings differ, the masked
      positions differ, too; the log then says so.

    Raises:
      FileNotFoundError, ValueError, ModuleNotFoundError: as `evaluate_mlm`. A missing checkpoint or tokenizer is
        reported before any model is evaluated.
    """
    download = {key: settings[key] for key in DOWNLOAD if key in settings}
    tokenizers = [find_checkpoint(model, generator=True, **download).tokenizer() for model in models.values()]
    figures = {name: evaluate_mlm(model, sentences, cleaning=cleaning, **settings) for name, model in models.items()}
    vocabularies = [tokenizer.get_vocab() for tokenizer in tokenizers]
    if any(vocabulary != vocabularies[0] for vocabulary in vocabularies):
        logger.warning("The tokenizers differ: compare loss_per_character, not mlm_loss or mlm_accuracy.")
    cleanings = {name: choose_text_cleaning(each, cleaning) for name, each in zip(models, tokenizers, strict=True)}
    if len(set(cleanings.values())) > 1:
        logger.warning(
            "The text was cleaned differently for each model (%s): set cleaning to compare them on the same text.",
            ", ".join(f"{name}: {each}" for name, each in cleanings.items()),
        )
    return figures


def whole_documents(corpus: Dataset, cleaning: str, *, keep_lines: bool = False) -> Dataset:
    """Clean each document and make it one sentence, so that the masked blocks do not depend on a sentence splitter.

    Args:
      keep_lines: each sentence (of a text: each line) stays a sentence of its own.
    """
    column = "sentences" if "sentences" in corpus.column_names else "text"
    if column not in corpus.column_names:
        raise ValueError(f"The corpus needs a column 'sentences' or 'text'; its columns are {corpus.column_names}.")
    rows = (row for batch in corpus.select_columns([column]).iter(1000) for row in batch[column])
    documents = (row.splitlines() if column == "text" else row for row in rows)
    cleaned = (filter(None, (clean_text(part, cleaning) for part in document)) for document in documents)
    return Dataset.from_dict({"sentences": [[*parts] if keep_lines else [" ".join(parts)] for parts in cleaned]})


def _perplexity(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:  # a loss above 709
        return math.inf


def gap_logits(model: tf_keras.Model, batch: dict) -> tf.Tensor:
    """Compute the logits of the model's MLM head, only at the gaps, (rows, gaps, vocabulary).

    Args:
      batch: as for `models.encoder.encode`, with `masked_positions`, (rows, gaps) int32, negative or 0 where a row has
        fewer gaps.
    """
    positions = tf.maximum(batch["masked_positions"], 0)
    hidden = encode(getattr(model, model.base_model_prefix), batch, positions)
    if model.base_model_prefix == "electra":
        return model.generator_lm_head(model.generator_predictions(hidden))
    return model.mlm(sequence_output=hidden)


def _characters(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The number of characters that each token represents, (vocabulary,) int64."""
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    return np.array([len(token) - 2 if token.startswith("##") and len(token) > 2 else len(token) for token in tokens])


def load_model(
    model: str | os.PathLike[str] | tf_keras.Model, tokenizer: PreTrainedTokenizerBase | None, download: Download
) -> tuple[tf_keras.Model, PreTrainedTokenizerBase]:
    """Return a masked language model and its tokenizer. `model` is the model itself, or a folder or Hub name.

    Raises:
      ValueError: a model without an MLM head, or without its tokenizer; and as `load_masked_lm`.
      FileNotFoundError: as `load_masked_lm`.
    """
    if not isinstance(model, (str, os.PathLike)):
        model = getattr(model, "generator", model)
        if not hasattr(model, "mlm") and not hasattr(model, "generator_lm_head"):
            raise ValueError(f"A {type(model).__name__} has no MLM head.")
        if tokenizer is None:
            raise ValueError("A model object needs its tokenizer: set tokenizer.")
        if download:
            raise TypeError(f"Unknown arguments for a model object: {', '.join(download)}.")
        return model, tokenizer
    return load_masked_lm(model, tokenizer, **download)


def load_masked_lm(
    name: str | os.PathLike[str], tokenizer: PreTrainedTokenizerBase | None = None, **download: "Unpack[Download]"
) -> tuple[TFBertForMaskedLM | TFElectraForMaskedLM, PreTrainedTokenizerBase]:
    """Load a masked language model and its tokenizer. For an ELECTRA, the model is the generator.

    Args:
      name: a folder or a name on the Hub.
      tokenizer: the tokenizer. Default: the checkpoint's.
      **download: as for `models.loading.find_checkpoint`.

    Raises:
      FileNotFoundError, ValueError: as `models.loading.find_checkpoint`.
    """
    checkpoint = find_checkpoint(name, tuple(_CLASSES), generator=True, **download)
    with checkpoint.readable() as folder:
        network, information = _CLASSES[checkpoint.model_type].from_pretrained(folder, output_loading_info=True)
    missing = [name for name in information["missing_keys"] if "predictions" in name or "mlm" in name]
    if missing:
        logger.warning(
            "%s has no MLM head. The head has random weights, so the metrics are meaningless.", checkpoint.name
        )
    return network, checkpoint.tokenizer() if tokenizer is None else tokenizer
