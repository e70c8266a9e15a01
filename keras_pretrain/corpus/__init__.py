"""Text in, sentences out. Nothing here imports TensorFlow."""
