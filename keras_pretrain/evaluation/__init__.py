"""Measures how well masked language models fill gaps: masked tokens, or words that are the same for every tokenizer."""

from keras_pretrain.evaluation.hidden_words import evaluate_hidden_words
from keras_pretrain.evaluation.mlm import compare_mlm, evaluate_mlm, load_masked_lm

__all__ = ["compare_mlm", "evaluate_hidden_words", "evaluate_mlm", "load_masked_lm"]
