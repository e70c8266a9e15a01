"""Callbacks that show the model's predictions for one sentence at a fixed interval of steps."""

import importlib.util
import itertools
import logging
import os
import re
import sys
from pathlib import Path
from typing import IO, cast

import numpy as np
import tensorflow as tf
import tf_keras
from transformers import PreTrainedTokenizerBase

from keras_pretrain.features.batching import batches_behind
from keras_pretrain.features.masking import IGNORED
from keras_pretrain.features.packing import unpack
from keras_pretrain.folders import OwnedFolder

logger = logging.getLogger(__name__)

_MARKED = re.compile("«[^»]*»")
_NO_SPACE_BEFORE = set(".,!?:;%)]}…”’")
_NO_SPACE_AFTER = set("([{“‘")


class _Preview(tf_keras.callbacks.Callback):
    """Prints `render()` at a fixed interval of steps, for the same row of one batch."""

    def __init__(
        self,
        batches: tf.data.Dataset | tuple | dict,
        tokenizer: PreTrainedTokenizerBase,
        every_steps: int = 100,
        max_tokens: int = 40,
        log_dir: str | os.PathLike[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__()
        if every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, not {every_steps}.")
        if log_dir is not None:
            require_tensorboard()
        batch, unglued = _first_batch(batches)
        inputs, labels = batch
        inputs = self._prepared(inputs, labels)
        self.log_dir = log_dir
        self.tokenizer = tokenizer
        self.every_steps = every_steps
        self.max_tokens = max_tokens
        row = _choose_row(np.asarray(inputs["input_ids"]), np.asarray(inputs["token_type_ids"]), tokenizer, max_tokens)
        self._inputs = {name: tf.convert_to_tensor(value[row : row + 1]) for name, value in inputs.items()}
        self._labels = np.asarray(labels["labels"][row]) if "labels" in labels else None
        self._unglued = np.asarray(unglued["input_ids"][row])
        self._shown_at = 0  # the step of the last preview
        self._writer: tf.summary.SummaryWriter | None = None
        self.path = None if path is None else Path(path).expanduser()
        self._overwrite = overwrite
        self._kept: list[tuple[int, str]] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._shown_at = int(tf_keras.backend.get_value(self.model.optimizer.iterations))
        if self.path is not None:
            self._folder = OwnedFolder(self.path.parent, "previews", overwrite=self._overwrite)
            self._folder.require_replaceable([self.path.name])
            self._kept = [(step, text) for step, text in read_previews(self.path) if step <= self._shown_at]

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        step = int(
            tf_keras.backend.get_value(self.model.optimizer.iterations)
        )  # not `batch`, because one call may cover several steps (steps_per_execution)
        if step // self.every_steps > self._shown_at // self.every_steps:
            self._shown_at = step
            text = self.render()
            print(f"\nstep {step}\n{in_colour(text) if has_colour(sys.stdout) else text}", flush=True)
            if self.log_dir is not None:
                self._write(self.log_dir, text, step)
            if self.path is not None:
                self._keep(self.path, text, step)

    def render(self) -> str:
        raise NotImplementedError

    def _prepared(self, inputs: dict, labels: dict) -> dict:
        raise NotImplementedError

    def _write(self, log_dir: str | os.PathLike[str], text: str, step: int) -> None:
        """Write a text for TensorBoard, which reads Markdown: an indent of four spaces preserves lines and columns."""
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(os.path.join(log_dir, "preview"))
        with self._writer.as_default():
            tf.summary.text("preview", "\n".join(f"    {line}" for line in text.split("\n")), step=step)
        self._writer.flush()

    def _keep(self, path: Path, text: str, step: int) -> None:
        self._kept.append((step, text))
        try:
            self._folder.write_text(path.name, "".join(f"step {step}\n{text}\n\n" for step, text in self._kept))
        except OSError as error:  # training continues; the file of the next preview has this one, too
            logger.warning("The preview of step %d could not be written: %s", step, error)

    def _shown(self) -> np.ndarray:
        """The positions to show."""
        ids, types = (self._inputs[name][0].numpy() for name in ("input_ids", "token_type_ids"))
        return _first_sentence(ids, types, self.tokenizer)[: self.max_tokens]

    def _tokens(self, ids: np.ndarray) -> list[str]:
        return self.tokenizer.convert_ids_to_tokens(ids.tolist())


class FillMaskPreview(_Preview):
    """Shows one sentence with its `[MASK]`s, and the tokens that the model predicts for them, at a fixed interval of
    steps.

    The sentence is always the same, so the progress is visible:

        step 200
          masked  파일 시스템은 [MASK] 장치에 파일을 저장한다.
          filled  파일 시스템은 «저장» 장치에 파일을 저장한다.
          actual  파일 시스템은 «기억» 장치에 파일을 저장한다.

    Args:
      batches: a `tf.data.Dataset` from `to_tf_dataset`, or one of its batches; a sentence of its first batch is shown.
      tokenizer: the tokenizer of the batches.
      every_steps: number of batches between two previews.
      max_tokens: a longer sentence is chosen only if there is no shorter one, and is truncated.
      log_dir: TensorBoard's folder; if given, TensorBoard also shows the lines as text.
      path: a text file for the lines of all previews, including those from before a run was resumed.
      overwrite: replace a file that this callback did not write, or that has changed since.

    Raises:
      ValueError: the batches are not masked; or at the start of `fit`, the model has no fill-mask head.
      FileExistsError: at the start of `fit`, if there is such a file at `path` and `overwrite` is off.
      ImportError: `log_dir` is given, but the package tensorboard is not installed.
    """

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if hasattr(self.model, "replace_tokens"):
            raise ValueError("FillMaskPreview is for BERT. For ELECTRA, use ReplacedTokensPreview.")
        super().on_train_begin(logs)

    def _prepared(self, inputs: dict, labels: dict) -> dict:
        if "labels" not in labels:
            raise ValueError(
                "FillMaskPreview needs masked batches with 'labels', and these have none: their features have the "
                'objective "rtd", or are not from build_features. For ELECTRA, use ReplacedTokensPreview.'
            )
        return inputs

    def render(self) -> str:
        """The three lines for the current model."""
        logits = self.model(self._inputs, training=False).prediction_logits
        shown = self._shown()
        predicted = tf.argmax(logits[0], axis=-1).numpy()[shown]
        ids = self._inputs["input_ids"][0].numpy()[shown]
        labels = cast(np.ndarray, self._labels)[shown]  # never None: `_prepared` has checked that there are labels
        is_mask = ids == self.tokenizer.mask_token_id
        unglued = self._unglued[shown]
        filled = self._tokens(np.where(is_mask, predicted, unglued))
        actual = self._tokens(np.where(labels != IGNORED, labels, unglued))
        # Show a mask inside a word as a continuation, ##[MASK].
        masked = [
            ("##" if word.startswith("##") else "") + token if hidden else token
            for token, word, hidden in zip(self._tokens(unglued), actual, is_mask, strict=True)
        ]
        lines = {
            "masked": _join_wordpieces(masked),
            "filled": _join_wordpieces(filled, _mark(is_mask)),
            "actual": _join_wordpieces(actual, _mark(is_mask)),
        }
        return "\n".join(f"  {name}  {line}" for name, line in lines.items())


class ReplacedTokensPreview(_Preview):
    """Shows at a fixed interval of steps how ELECTRA's generator fills one sentence, and how the discriminator judges
    the result.

    The sentence, its gaps and the draws are always the same. An exclamation mark and the predicted probability of
    "replaced" show where the discriminator is wrong:

        step 200
          actual  파일 시스템은 «기억» 장치에 «파일을» 저장한다.
          filled  파일 시스템은 «저장» 장치에 «문서를» 저장한다.
          judged  파일 시스템은 «저장 91%» 장치에 «문서를 12%!» 저장한다.
          1 of 2 replaced tokens found, no false alarm

    Args:
      batches: a `tf.data.Dataset` from `to_tf_dataset`, or one of its batches. If they are masked, the original tokens
        are restored, as in `ElectraPretrainer`.
      tokenizer, every_steps, max_tokens, log_dir, path, overwrite: as for `FillMaskPreview`.

    Raises:
      ValueError: at the start of `fit`, if the model is not an `ElectraPretrainer`.
      FileExistsError: as for `FillMaskPreview`.
      ImportError: `log_dir` is given, but the package tensorboard is not installed.
    """

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if not hasattr(self.model, "replace_tokens"):
            raise ValueError(
                f"ReplacedTokensPreview needs an ElectraPretrainer, and the model is a {type(self.model).__name__}. "
                "For BERT, use FillMaskPreview."
            )
        super().on_train_begin(logs)

    def _prepared(self, inputs: dict, labels: dict) -> dict:
        if "labels" not in labels:
            return inputs
        ids, originals = np.asarray(inputs["input_ids"]), np.asarray(labels["labels"])
        return {**inputs, "input_ids": np.where(originals != IGNORED, originals, ids)}

    def render(self) -> str:
        """The four lines for the current model."""
        shown = self._shown()
        replaced = {name: value[0].numpy()[shown] for name, value in self.model.replace_tokens(self._inputs).items()}
        is_replaced, probability = replaced["is_replaced"], replaced["probability"]
        marks = [_verdict(*each) for each in zip(is_replaced, probability, strict=True)]
        found = int(np.sum(is_replaced & (probability > 0.5)))
        false_alarms = int(np.sum(~is_replaced & (probability > 0.5)))
        lines = {
            "actual": _join_wordpieces(self._tokens(self._inputs["input_ids"][0].numpy()[shown]), _mark(is_replaced)),
            "filled": _join_wordpieces(self._tokens(replaced["sampled_ids"]), _mark(is_replaced)),
            "judged": _join_wordpieces(self._tokens(replaced["sampled_ids"]), marks),
        }
        alarms = "1 false alarm" if false_alarms == 1 else f"{false_alarms or 'no'} false alarms"
        summary = f"  {found} of {is_replaced.sum()} replaced tokens found, {alarms}"
        return "\n".join([*(f"  {name}  {line}" for name, line in lines.items()), summary])


def has_colour(stream: IO[str]) -> bool:
    """Whether a stream is a terminal with colours; `NO_COLOR` (no-color.org) turns them off."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def in_colour(text: str) -> str:
    """Colour a preview. Gaps are yellow. Text in «» is green if the model is right, else red. On the line `judged`, an
    exclamation mark shows that the model is wrong. On other lines, the model is right if the line `actual` has the same
    text."""
    lines = text.split("\n")
    actual = next((_MARKED.findall(line) for line in lines if line.startswith("  actual")), [])

    def paint(line: str) -> str:
        if line.startswith("  actual"):
            return line
        number = itertools.count()

        def colour(found: re.Match[str]) -> str:
            is_right = not found[0].endswith("!»")
            if line.startswith("  filled"):
                place = next(number)
                is_right = actual[place : place + 1] == [found[0]]
            return f"\033[{32 if is_right else 31}m{found[0]}\033[0m"

        return _MARKED.sub(colour, line).replace("[MASK]", "\033[33m[MASK]\033[0m")

    return "\n".join(map(paint, lines))


def read_previews(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """Read the step and the lines of each preview in a file. The list is empty if there is no such file, or it contains
    something else."""
    try:
        blocks = Path(path).read_text(encoding="utf-8").split("\n\n")
        found = [block.partition("\n") for block in blocks if block.startswith("step ")]
        return [(int(first.removeprefix("step ")), lines) for first, _, lines in found]
    except (FileNotFoundError, ValueError):  # a file without previews: `on_train_begin` allows it only with `overwrite`
        return []


def require_tensorboard() -> None:
    """Raise an error now if tensorboard is missing; TensorFlow would raise it only at the first text.

    Raises:
      ImportError: the package tensorboard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "tensorboard is not installed, and TensorFlow cannot write for TensorBoard without it: "
            'pip install "keras_pretrain[tensorboard]".'
        )


def _first_batch(batches: tf.data.Dataset | tuple | dict) -> tuple[tuple[dict, dict], dict]:
    """Return `(inputs, labels)` of the first batch, with one example per row, and the inputs of the same batch without
    gluing (`glue_prob=0`), if the dataset comes from `to_tf_dataset`."""
    behind = batches_behind(batches)[0] if isinstance(batches, tf.data.Dataset) else None
    if behind is not None:
        found = [behind.batch(0), behind.with_glue(0.0).batch(0)]
    else:
        found = 2 * [next(iter(batches)) if isinstance(batches, tf.data.Dataset) else batches]
    parts = [each if isinstance(each, tuple) else (each, {}) for each in found]
    first, unglued = (unpack(*each) if "packed_ids" in each[0] else each for each in parts)
    return first, unglued[0]


def _choose_row(
    input_ids: np.ndarray, token_type_ids: np.ndarray, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> int:
    """Choose the row with the longest first segment that has a mask and at most `max_tokens` tokens. If there is none,
    the mask is more important than the length."""

    def rank(row: int) -> tuple[bool, bool, bool, int]:
        shown = _first_sentence(input_ids[row], token_type_ids[row], tokenizer)
        masks = np.sum(input_ids[row][shown] == tokenizer.mask_token_id)  # no labels if the model masks
        is_short = len(shown) <= max_tokens
        return (len(shown) > 0, masks > 0, is_short, len(shown) if is_short else -len(shown))

    return max(range(len(input_ids)), key=rank)


def _first_sentence(
    input_ids: np.ndarray, token_type_ids: np.ndarray, tokenizer: PreTrainedTokenizerBase
) -> np.ndarray:
    """The positions of the first segment (A), without `[CLS]`, `[SEP]` and padding."""
    around = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    return np.flatnonzero((token_type_ids == 0) & ~np.isin(input_ids, around))


def _mark(chosen: np.ndarray) -> list:
    return [("«", "»") if is_chosen else None for is_chosen in chosen]


def _verdict(is_replaced: bool, probability: float) -> tuple[str, str] | None:
    """The text before and after a token that was replaced or is judged to be replaced; `None` for other tokens."""
    wrong = "" if is_replaced == (probability > 0.5) else "!"
    if is_replaced:
        return "«", f" {probability:.0%}{wrong}»"
    return ("!", f" {probability:.0%}!") if wrong else None


def _join_wordpieces(tokens: list[str], marks: list | None = None) -> str:
    """Join wordpieces to readable text. `marks` has for each piece the text to put before and after it, or `None`."""
    text, glue = "", True
    for token, mark in zip(tokens, marks or [None] * len(tokens), strict=True):
        continues = token.startswith("##") and len(token) > 2
        piece = token[2:] if continues else token
        space = "" if glue or continues or piece in _NO_SPACE_BEFORE else " "
        before, after = mark or ("", "")
        text += f"{space}{before}{piece}{after}"
        glue = piece in _NO_SPACE_AFTER
    return text
