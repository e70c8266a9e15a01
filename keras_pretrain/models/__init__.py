"""What is trained: 🤗 models with a training step of their own."""

from keras_pretrain.models.bert import BertPretrainer

__all__ = ["BertPretrainer"]
