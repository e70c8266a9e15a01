"""Text in, sentences out. Nothing here imports TensorFlow."""

from keras_pretrain.corpus.cleaning import clean_text
from keras_pretrain.corpus.loading import load_corpus
from keras_pretrain.corpus.samples import load_sample
from keras_pretrain.corpus.sentences import split_sentences

__all__ = ["clean_text", "load_corpus", "load_sample", "split_sentences"]
