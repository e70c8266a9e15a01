"""Measures pretrained models on text: at masked tokens, hidden words, replaced tokens and next sentences."""

from keras_pretrain.evaluation.heads import evaluate_next_sentences, evaluate_replaced_tokens
from keras_pretrain.evaluation.hidden_words import evaluate_hidden_words
from keras_pretrain.evaluation.mlm import compare_mlm, evaluate_mlm, load_masked_lm

__all__ = [
    "compare_mlm",
    "evaluate_hidden_words",
    "evaluate_mlm",
    "evaluate_next_sentences",
    "evaluate_replaced_tokens",
    "load_masked_lm",
]
