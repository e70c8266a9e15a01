"""The command `keras-pretrain VERB`. Nothing outside this package knows a flag.

cyclopts makes arguments, help and their checks from the signatures and docstrings of the records and functions: unlike
argparse-like tools it writes flags with hyphens, answers `--help` in a tenth of a second, and its errors are one line.
"""

from keras_pretrain.commands.application import main, parse

__all__ = ["main", "parse"]
