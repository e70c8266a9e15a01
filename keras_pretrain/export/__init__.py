"""What was trained, handed over in forms that other tools read."""

from keras_pretrain.export.checkpoint import save_checkpoint

__all__ = ["save_checkpoint"]
