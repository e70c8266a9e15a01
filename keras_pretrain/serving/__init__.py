"""Serves the web page of `keras-pretrain serve`: a checkpoint's predictions for a text, and the progress of a run."""
