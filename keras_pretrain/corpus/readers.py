"""The text of each record of a file. Only a JSON file that is one list is held in memory as a whole."""

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

KNOWN = ".txt, .csv, .tsv, .json, .jsonl, each also with .gz, or .parquet"
_KINDS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet")


def kind_of(path: Path) -> str:
    """The ending that says how to read a file, without `.gz`."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def is_known(path: Path) -> bool:
    """Whether there is a reader for this kind of file."""
    return kind_of(path) in _KINDS


def check(path: Path, column: str, holds: str = "text") -> None:
    """Refuse, before anything is read for good, a file that cannot be read to its end.

    Args:
      column: the column that is going to be read.
      holds: what it is for.

    Raises:
      ValueError: of an unknown kind, not UTF-8, not what its ending says, or without the column.
    """
    if is_known(path):
        check_bytes(path)
    check_columns(path, column, holds)


def check_bytes(path: Path) -> None:
    """Refuse a file that is not UTF-8, or not a whole gzip file, by reading all of it."""
    if kind_of(path) != ".parquet":
        _check_utf8(path)


def check_columns(path: Path, column: str, holds: str = "text") -> None:
    """Refuse a file of an unknown kind, or without the column, by a look at its beginning."""
    if not is_known(path):
        raise ValueError(f"{path} is of an unknown kind. A corpus file ends in {KNOWN}.")
    try:
        columns = _columns(path)
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error):
        check_bytes(path)  # which says what and where
        raise
    if columns is not None and column not in columns:
        raise ValueError(
            f"{path} has no column {column!r}; its columns are {', '.join(columns) or 'none'}. "
            f"Say which one holds the {holds} ({holds}_column, or --{holds}-column in the examples)."
        )


def read(path: Path, text_column: str, sample_by: str) -> Iterator:
    """What stands in the text column of each record: text, `None` where it is missing, or whatever else is there."""
    kind = kind_of(path)
    if kind == ".txt":
        yield from _read_txt(path, sample_by)
    elif kind == ".parquet":
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=[text_column]):
                yield from batch.column(0).to_pylist()
    else:
        for record in _records(path):
            yield record.get(text_column)


def records(path: Path) -> Iterator[dict]:
    """Each record of a table file with all its columns.

    Raises:
      ValueError: a `.txt` file, which has no columns, or what is not what its ending says.
    """
    if kind_of(path) == ".txt":
        raise ValueError(f"{path} has no columns: labelled examples are in {KNOWN.removeprefix('.txt, ')}.")
    if kind_of(path) == ".parquet":
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    else:
        yield from _records(path)


def _read_txt(path: Path, sample_by: str) -> Iterator[str]:
    with _open_text(path) as file:
        if sample_by == "line":
            yield from (line.rstrip("\n") for line in file if line.strip())
            return
        block = []
        for line in file:
            if line.strip():
                block.append(line.rstrip("\n"))
            elif block:
                yield "\n".join(block)
                block = []
        if block:
            yield "\n".join(block)


def _records(path: Path) -> Iterator[dict]:
    if kind_of(path) in (".csv", ".tsv"):
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a field may be a whole book
        with _open_text(path) as file:
            yield from csv.DictReader(file, delimiter="\t" if kind_of(path) == ".tsv" else ",")
    elif _is_json_list(path):
        with _open_text(path) as file:
            yield from (_as_record(record, path, f"item {i}") for i, record in enumerate(_parse_list(file, path)))
    else:
        with _open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _as_record(_parse(line, path, number), path, f"line {number}")


def _is_json_list(path: Path) -> bool:
    """Whether a JSON file is one list of records; else it holds one record a line."""
    with _open_text(path) as file:
        for line in file:
            if line.strip():
                return line.lstrip().startswith("[")
    return False


def _parse_list(file, path: Path) -> list:
    try:
        return json.load(file)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


def _parse(line: str, path: Path, number: int):
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {number}, is not JSON: {error.msg} at character {error.pos}. A .json or .jsonl file holds "
            "one object a line, or is one list of objects."
        ) from error


def _as_record(record, path: Path, where: str) -> dict:
    if not isinstance(record, dict):
        raise ValueError(f"{path}, {where}, is a {type(record).__name__}, not an object with named columns.")
    return record


def _columns(path: Path) -> list[str] | None:
    """The columns of a table file, as far as its first records show them; `None` for a kind without columns."""
    kind = kind_of(path)
    if kind == ".txt":
        return None
    if kind == ".parquet":
        try:
            return pq.read_schema(path).names
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a parquet file: {error}") from error
    if kind in (".csv", ".tsv"):
        with _open_text(path) as file:
            return next(csv.reader(file, delimiter="\t" if kind == ".tsv" else ","), [])
    names = dict.fromkeys(name for record in islice(_records(path), 1000) for name in record)
    return list(names) or None  # a file without records is found empty later


def _open_text(path: Path) -> io.TextIOBase:
    # utf-8-sig: files from Windows begin with a byte-order mark, which would end up in the first column's name.
    newline = "" if kind_of(path) in (".csv", ".tsv") else None  # a quoted field may hold line breaks
    return io.TextIOWrapper(_open_bytes(path), encoding="utf-8-sig", newline=newline)


def _open_bytes(path: Path):
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")


def _check_utf8(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = 0
    try:
        with _open_bytes(path) as file:
            while True:
                chunk = file.read(1 << 24)
                pending = len(decoder.getstate()[0])  # the first bytes of a character that the last chunk cut in two
                decoder.decode(chunk, final=not chunk)
                if not chunk:
                    return
                position += len(chunk)
    except UnicodeDecodeError as error:
        byte = position - pending + error.start
        raise ValueError(
            f"{path} is not UTF-8: byte {byte} (0x{error.object[error.start]:02x}) cannot be read. Convert it first, "
            "for example with iconv -f CP949 -t UTF-8 (or -f UTF-16, where it begins with 0xff or 0xfe)."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
