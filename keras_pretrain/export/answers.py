"""`fill_gaps`: what a checkpoint or a SavedModel puts into the gaps of a text."""

import os
from pathlib import Path

import tensorflow as tf
from transformers import pipeline

from keras_pretrain.evaluation import load_masked_lm


def fill_gaps(model: str | os.PathLike, texts: list[str], top_k: int = 5) -> list[list[list[tuple[str, float]]]]:
    """Ask a model what belongs in the gaps of texts.

    Args:
      model: the folder or Hub name of a checkpoint (of an ELECTRA, its generator answers), or the folder of a
        SavedModel.
      texts: each with one `[MASK]` or several.
      top_k: answers; a SavedModel has at most those that it was made for.

    Returns:
      For each text, for each gap, `(token, probability)`, the best first.

    Raises:
      ValueError: a text without `[MASK]`, or a model that cannot fill gaps.
    """
    for text in texts:
        if "[MASK]" not in text:
            raise ValueError(f"There is no [MASK] in {text!r}. Write [MASK] where the gap is.")
    is_saved_model = (Path(model) / "saved_model.pb").exists()
    return _ask_saved_model(model, texts, top_k) if is_saved_model else _ask_checkpoint(model, texts, top_k)


def _ask_checkpoint(model, texts: list[str], top_k: int) -> list:
    network, tokenizer = load_masked_lm(model)
    fill_mask = pipeline("fill-mask", model=network, tokenizer=tokenizer, framework="tf", top_k=top_k)

    def gaps(text):
        answers = fill_mask(text)
        return [answers] if isinstance(answers[0], dict) else answers  # one gap is not in a list of its own

    return [
        [[(tokenizer.convert_ids_to_tokens(each["token"]), each["score"]) for each in gap] for gap in gaps(text)]
        for text in texts
    ]


def _ask_saved_model(folder, texts: list[str], top_k: int) -> list:
    import tensorflow_text  # noqa: F401  its operations are part of the graph

    signatures = tf.saved_model.load(str(folder)).signatures
    if "fill_mask" not in signatures:
        raise ValueError(f"{folder} is a SavedModel that fills no gaps; it has {', '.join(signatures)}.")
    answers = signatures["fill_mask"](text=tf.constant(texts))
    tokens, scores = answers["tokens"].numpy(), answers["scores"].numpy()
    return [
        [
            [(token.decode(), float(score)) for token, score in zip(*gap, strict=True)][:top_k]
            for gap in zip(tokens[row], scores[row], strict=True)
            if gap[0][0]  # others of the batch may have more gaps
        ]
        for row in range(len(texts))
    ]
