"""Sentences in, batches out. Only `batching` imports TensorFlow, and only when it makes a dataset."""
