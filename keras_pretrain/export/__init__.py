"""Writes trained models in formats that other tools read."""

from keras_pretrain.export.checkpoint import save_checkpoint
from keras_pretrain.export.hub import push_to_hub
from keras_pretrain.export.saved_model import export_saved_model

__all__ = ["export_saved_model", "push_to_hub", "save_checkpoint"]
