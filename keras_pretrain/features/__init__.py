"""Sentences in, batches out. Only `batching` imports TensorFlow, and only when a dataset is made."""
