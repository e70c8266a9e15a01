"""Imports TensorFlow without its start-up messages, which would hide the output of a command."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Matches the lines that TensorFlow 2.21 writes to standard error whatever TF_CPP_MIN_LOG_LEVEL is: a notice that its
# logging is not set up yet, and lines that begin with a level, a date and a source file.
_NOTE = re.compile(
    r"^(WARNING: All log messages before absl|[IW]\d{4} |\d{4}-\d\d-\d\d .*: [IW] |To enable the following instr)"
)


def import_tensorflow() -> None:
    """Import TensorFlow without its start-up messages; anything else that it writes to standard error is shown."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides logged errors, too; TensorFlow raises real ones
    with _notes_left_out():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def _notes_left_out() -> Iterator[None]:
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            written.seek(0)
            lines = written.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not _NOTE.match(line)))
