"""Turns sentences into batches. TensorFlow is imported only by `input_meter`, and by `batching` when it makes a
dataset."""
