"""TensorFlow's import without its start-up notes, which would bury what a command says."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# What TensorFlow 2.21 writes to standard error past TF_CPP_MIN_LOG_LEVEL: that messages come before its logging is set
# up, and then lines that begin with a level, a date and a place.
_NOTE = re.compile(
    r"^(WARNING: All log messages before absl|[IW]\d{4} |\d{4}-\d\d-\d\d .*: [IW] |To enable the following instr)"
)


def import_tensorflow() -> None:
    """Import TensorFlow; only what it writes to standard error besides its start-up notes is shown."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors are raised; what is logged is that there is no GPU
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
