"""Reads documents, cleans them and splits them into sentences. Nothing here imports TensorFlow."""
