"""The command `keras-pretrain VERB`. No code outside this package depends on the flags.

cyclopts makes the arguments, their help and their checks from the signatures and docstrings of the records and
functions. Unlike tools that resemble argparse, it writes flags with hyphens, answers `--help` in a tenth of a second,
and reports an error in one line.
"""

from keras_pretrain.commands.application import main, parse

__all__ = ["main", "parse"]
