"""Read the text of each record in a file. A row that cannot be read causes an error that names its place, or is counted
as skipped.

Files are read row by row, except a JSON file that is a single list: it is loaded into memory.
"""

import codecs
import csv
import gzip
import io
import json
import logging
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

logger = logging.getLogger(__name__)

KNOWN = ".txt, .csv, .tsv, .json, .jsonl, each also with .gz, or .parquet"
_TABLES, _JSON = (".csv", ".tsv"), (".json", ".jsonl")
_ENCODING = "encoding=... (such as 'cp949')"
_REMEDIES = {".txt": f", or give {_ENCODING}"}
_REMEDIES |= dict.fromkeys(_TABLES, f", or give {_ENCODING} or dialect=... (such as 'excel-tab' or ';')")
_REMEDIES |= dict.fromkeys(_JSON, f", or give {_ENCODING}. A JSON file is one object a line, or one list of objects")
_ESCAPED = re.compile("[\udc80-\udcff]")  # a byte that could not be decoded, in the form of errors="surrogateescape"
_SURROGATES = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"\s*[+-]?\d+([.]\d+)?\s*")
_FIELD_LIMIT = 2**31 - 1  # characters; a field may be a whole book
_SAMPLE = 1000  # the number of records read to find the columns and their types
_SHOWN = 60  # characters of a bad row that an error shows


@dataclass(frozen=True)
class ReadingOptions:
    """How to read files; the attributes are arguments of `load_corpus`.

    Raises:
      ValueError: an option has a value that is not allowed.
    """

    sample_by: str = "paragraph"
    encoding: str = "utf-8"
    dialect: str | dict | None = None
    on_bad_rows: str = "error"

    def __post_init__(self) -> None:
        for name, allowed in (("sample_by", ("paragraph", "line")), ("on_bad_rows", ("error", "skip"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be {allowed[0]!r} or {allowed[1]!r}, not {getattr(self, name)!r}.")
        try:
            io.TextIOWrapper(io.BytesIO(), encoding=self.encoding or "")  # also refuses binary codecs
        except (LookupError, ValueError, TypeError) as error:
            raise ValueError(
                f"encoding must be one that Python knows, such as 'utf-8' or 'cp949', not {self.encoding!r}."
            ) from error
        try:
            _csv_dialect(".csv", self.dialect)
        except (TypeError, ValueError, csv.Error) as error:
            raise ValueError(
                f"dialect must be None, one of csv's dialects ({', '.join(map(repr, csv.list_dialects()))}), one "
                "character (the delimiter), or a dict of csv's format parameters, such as {'delimiter': ';'}, "
                f"not {self.dialect!r}: {error}."
            ) from error


@dataclass
class BadRows:
    """Counts the rows that could not be read, and keeps the place, the error and the beginning of the first one."""

    count: int = 0
    first: str = ""

    def add(self, message: str, content: str = "") -> None:
        """Count a row; for the first one, keep its place, the error, and its content or beginning."""
        self.count += 1
        self.first = self.first or message + (f": {_shorten(content)!r}" if content else "")

    def __str__(self) -> str:
        return self.first


def is_known(path: Path) -> bool:
    """Whether there is a reader for this kind of file."""
    return _kind(path) in _READERS


def check_columns(path: Path, column: str, options: ReadingOptions, holds: str = "text") -> None:
    """Raise an error if a file is of an unknown kind or does not have exactly one such column; reads only its
    beginning.

    `holds` is the content of the column: `"text"`, `"pair"`, `"label"` or `"group"`.
    """
    kind = _kind(path)
    if not is_known(path):
        raise ValueError(f"{path} has an unknown file type. The name of a corpus file ends in {KNOWN}.")
    if kind == ".parquet":
        with _parquet_file(path) as file:
            _find_columns(path, file.schema_arrow.names, [column], holds)
    elif kind in _TABLES:
        next(_read_table(path, [column], options, BadRows(), holds), None)
    elif kind in _JSON:
        objects = islice(_json_objects(path, options, BadRows()), _SAMPLE)
        names = list(dict.fromkeys(name for _, record in objects for name in record))
        if names:  # a file without records is reported as empty later
            _find_columns(path, names, [column], holds)


def read(path: Path, column: str, options: ReadingOptions, bad_rows: BadRows) -> Iterator:
    """Yield the value of one column, of any type, for each record; for a `.txt` file, yield each document. See
    `records`."""
    for _, values in records(path, (column,), options, bad_rows):
        yield values[0]


def records(path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    """Yield the place of each record, such as `"line 17"`, and the values of its columns.

    A `.txt` file has a single column, which may have any name. With `on_bad_rows="skip"`, `bad_rows` counts the rows
    that are left out.

    Raises:
      ValueError: the file is damaged, is not in the format of its name, or lacks a column. With `on_bad_rows="error"`,
        also rows that cannot be read; this is raised after the whole file was read, and the message has the place of
        the first one.
    """
    kind, found = _kind(path), bad_rows if options.on_bad_rows == "skip" else BadRows()
    if kind == ".txt" and len(columns) > 1:
        raise ValueError(f"{path} has no columns. Give labelled examples as {KNOWN.removeprefix('.txt, ')}.")
    yield from _READERS[kind](path, columns, options, found)
    if options.on_bad_rows == "error" and found.count:
        which = "only bad row" if found.count == 1 else f"first of {found.count} bad rows"
        raise ValueError(
            f"{found}. It is the {which} of the file. Correct it, or skip and count such rows with "
            f"on_bad_rows='skip'{_REMEDIES.get(kind, '')}."
        )


def _kind(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _read_txt(path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    document: list[str] = []
    first = 0
    for number, line in enumerate(chain(_lines(path, options.encoding), [""]), start=1):
        is_blank = not line.strip()
        if not is_blank:
            first = first if document else number
            document.append(line.rstrip("\n"))
        if document and (is_blank or options.sample_by == "line"):
            i, wrong = _find_bad_byte(document, options.encoding)
            if wrong:
                bad_rows.add(f"{path}, line {first + i}, {wrong}", document[i])
            else:
                yield f"line {first}", ("\n".join(document),)
            document = []


def _read_parquet(path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    number = 0
    with _parquet_file(path) as file:
        _find_columns(path, file.schema_arrow.names, columns)
        for batch in file.iter_batches(columns=list(dict.fromkeys(columns))):
            for scalars in zip(*map(batch.column, columns), strict=True):
                number += 1
                try:
                    values = [scalar.as_py() for scalar in scalars]
                except UnicodeDecodeError:  # parquet files may hold any bytes as text
                    bad_rows.add(f"{path}, row {number}, is not UTF-8")
                else:
                    yield f"row {number}", values


@contextmanager
def _parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet: {error}. Write it again.") from error


def _read_json(path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    for place, record in _json_objects(path, options, bad_rows):
        yield place, [record.get(column) for column in columns]


def _json_objects(path: Path, options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple[str, dict]]:
    """Yield the place and content of each object, from a file with one object per line or with a list of objects."""
    lines, is_list = _lines(path, options.encoding), None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        is_list = is_list is None and line.lstrip().startswith("[")
        whole = [line, *lines] if is_list else [line]
        value, i, wrong = _parse_json(whole, options.encoding)
        if is_list and wrong:
            raise ValueError(
                f"{path}, line {number + i}, {wrong}: {_shorten(whole[i])!r}. A JSON list is read only as a "
                f"whole: its rows cannot be skipped. Correct it, or give {_ENCODING}."
            )
        for index, item in enumerate(value if is_list else [value]):
            place = f"item {index}" if is_list else f"line {number}"
            reason = wrong or ("" if isinstance(item, dict) else f"is a {type(item).__name__}, not an object")
            if reason:
                bad_rows.add(f"{path}, {place}, {reason}", json.dumps(item, ensure_ascii=False) if is_list else line)
            else:
                yield place, item


def _parse_json(lines: list[str], encoding: str) -> tuple:
    """Return the value; or, for invalid JSON, `None`, the index of the line that is wrong, and the reason."""
    i, wrong = _find_bad_byte(lines, encoding)
    if wrong:
        return None, i, wrong
    try:
        return json.loads("".join(lines).rstrip()), 0, ""
    except json.JSONDecodeError as error:
        return None, error.lineno - 1, f"is not JSON: {error.msg} at character {error.colno - 1}"
    except (ValueError, RecursionError) as error:  # thousands of digits or brackets
        return None, 0, f"cannot be read as JSON: {error}"


def _read_table(
    path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows, holds: str = "text"
) -> Iterator[tuple]:
    rows = _table_rows(path, options)
    number, line, header, wrong = next(rows, (0, "", [], ""))
    if wrong:
        raise ValueError(
            f"{path}, line {number}, the header, {wrong}: {_shorten(line)!r}. Correct it, or give {_ENCODING} or "
            "dialect=..., which say how the file is written."
        )
    if not header:
        return
    places = _find_columns(path, header, columns, holds, line, _csv_dialect(_kind(path), options.dialect))
    keeps_quotes, quoted = _kind(path) == ".tsv" and options.dialect is None, 0
    for number, line, row, wrong in rows:
        if wrong:
            bad_rows.add(f"{path}, line {number}, {wrong}", line)
            continue
        values = [row[place] for place in places]
        if keeps_quotes and '"' in line:
            quoted += any(value[:1] == '"' == value[-1:] and len(value) > 1 for value in values)
        yield f"line {number}", values
    if quoted:
        logger.info(
            "%s: %d rows have a field that begins and ends with a quotation mark. A .tsv file is read without quoting, "
            "so these marks are kept as a part of the text; dialect='excel-tab' reads them as quotes.", path, quoted,
        )  # fmt: skip


def _table_rows(path: Path, options: ReadingOptions) -> Iterator[tuple[int, str, list[str], str]]:
    """Yield `(line number, line, fields, error)` for each row that is not blank, the header first."""
    lines, dialect = _lines(path, options.encoding, newline=""), _csv_dialect(_kind(path), options.dialect)
    taken: list[str] = []  # the lines of the current row
    waiting: list[str] = []  # lines to read again, in reverse order
    seen: list[list[str]] | None = [] if options.dialect is None and dialect.quoting != csv.QUOTE_NONE else None
    number = width = again = 0

    def take() -> Iterator[str]:
        while line := waiting.pop() if waiting else next(lines, ""):
            taken.append(line)
            yield line

    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_LIMIT))  # it is global, so never lower it
    reader = csv.reader(take(), dialect)
    while True:
        number += len(taken)
        taken.clear()
        try:
            row, wrong = next(reader, None), ""
        except csv.Error as error:
            row, wrong = [], f"has a quotation mark that is never closed, or breaks the rules of quoting ({error})"
        if row is None:
            return
        if not wrong and not "".join(taken).strip(" \r\n"):
            continue
        if width and not wrong:
            wrong = _objection(row, taken, width, seen, dialect.delimiter)
        width = width or len(row)
        if wrong:  # after its first line, the lines of a wrong row may be rows of their own
            again += len(taken) - 1
            if again > 1_000_000 + 20 * number:  # else the time would grow with the square of the length
                raise ValueError(
                    f"{path}, line {number + 1}: too many quotation marks are never closed. Read the file without "
                    'quoting, for example with dialect={"delimiter": ",", "quoting": csv.QUOTE_NONE}.'
                )
            waiting.extend(reversed(taken[1:]))
            del taken[1:]
            reader = csv.reader(take(), dialect)
        i, undecoded = _find_bad_byte(taken, options.encoding)
        yield number + 1 + i, taken[i], row, undecoded or wrong


def _objection(row: list[str], lines: list[str], width: int, seen: list[list[str]] | None, delimiter: str) -> str:
    """Describe the error in the row that was read from these lines; empty if there is none.

    `seen` holds the earlier rows if no dialect was given; with a dialect, it is `None`.
    """
    if len(row) != width:
        return f"has {len(row)} field{'s' * (len(row) != 1)}, but the header has {width}"
    if seen is None or width == 1:
        return ""
    if len(lines) == 1:
        if len(seen) < _SAMPLE:
            seen.append(row)
        return ""
    inside = [[field.strip().strip('"') for field in line.split(delimiter)] for line in lines]
    if any(len(fields) != width for fields in inside):
        return ""
    # Each line has as many fields as the header. The lines count as rows if one of their columns looks like the same
    # column of the rows so far: it has only numbers, or only values of a small set.
    are_rows = width > 2 and not seen
    for before, here in zip(zip(*seen, strict=True), zip(*inside, strict=True), strict=False):
        are_rows |= all(map(_NUMBER.fullmatch, chain(here, before)))
        are_rows |= len(seen) >= 20 >= len(set(before)) and set(here) <= set(before)
    reason = f"has an unclosed quotation mark that seems to have swallowed more rows ({len(lines) - 1})"
    return f"{reason}; if this is one field on purpose, dialect='excel' reads it" if are_rows else ""


def _csv_dialect(kind: str, dialect: str | dict | None) -> csv.Dialect:
    """The dialect of `csv` that the option `dialect` names; without the option, the default for the kind of file."""
    if dialect is None:
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == ".tsv" else "excel"
    if isinstance(dialect, str):
        dialect = {"delimiter": dialect} if len(dialect) == 1 else {"dialect": dialect}
    found = csv.reader([], **{"strict": True, **dialect}).dialect
    is_known = found.quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE)
    if not is_known or found.delimiter in ("\r", "\n", found.quotechar):
        raise ValueError(
            "the delimiter must not be a line break or the quotechar, and quoting must be QUOTE_MINIMAL, QUOTE_ALL or "
            "QUOTE_NONE"
        )
    return found  # type: ignore[return-value]  # typeshed uses a Dialect without a public name


def _find_columns(
    path: Path,
    names: list[str],
    columns: Sequence[str],
    holds: str = "text",
    line: str = "",
    dialect: csv.Dialect | None = None,
) -> list[int]:
    """The indices of the columns; raises a `ValueError` for a column that is missing or not unique. A table has a
    header and a dialect."""
    for column in columns:
        found, all_names = names.count(column), ", ".join(names)
        if found > 1:
            raise ValueError(f"{path} has {found} columns named {column!r}; its columns are {all_names}. Rename them.")
        if not found:
            hint = _dialect_hint(line, names, column, dialect) or f"Say which one holds the {holds} ({holds}_column)."
            raise ValueError(f"{path} has no column {column!r}; its columns are {all_names or 'none'}. {hint}")
    return [names.index(column) for column in columns]


def _dialect_hint(line: str, names: list[str], column: str, dialect: csv.Dialect | None) -> str:
    """Suggest the dialect that the header seems to have, for an error about a missing column; empty if that is the
    given dialect."""
    for delimiter, name in ((";", ";"), ("\t", "excel-tab"), ("|", "|"), (",", "excel")):
        fields = [field.strip().strip('"') for field in line.split(delimiter)]
        fits = len(fields) > 1 and (column in fields or len(names) == 1)
        if fits and dialect and (delimiter != dialect.delimiter or dialect.quoting == csv.QUOTE_NONE):
            return f"The header seems to be separated by {delimiter!r}: dialect={name!r} reads it."
    return ""


def _lines(path: Path, encoding: str, newline: str | None = None) -> Iterator[str]:
    """The lines of a text file, or of one compressed by gzip.

    If possible, bytes that the encoding does not allow become surrogates, so that the other lines can be read.
    """
    number, opener = 0, gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rt", encoding=encoding, errors="surrogateescape", newline=newline) as file:
            mark = file.buffer.peek(2)[:2]  # type: ignore[attr-defined]  # missing in typeshed
            if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and codecs.lookup(encoding).name.startswith("utf-8"):
                raise ValueError(f"{path}, line 1, is not UTF-8 but seems to be UTF-16: give encoding='utf-16'.")
            for number, line in enumerate(file, start=1):
                yield line.removeprefix("\ufeff") if number == 1 else line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is not a complete gzip file: it is damaged after line {number} ({error}). Copy or download it "
            "again. If it is not compressed, remove .gz from its name."
        ) from error
    except UnicodeError as error:  # encodings such as UTF-16, in which bad bytes cannot become surrogates
        raise ValueError(
            f"{path}, after line {number}, is not {encoding.upper()}: {error}. Write it again, or give {_ENCODING}."
        ) from error


def _find_bad_byte(lines: Sequence[str], encoding: str) -> tuple[int, str]:
    """The index of the first line with a byte that could not be decoded, and that byte; `(0, "")` if there is none."""
    try:
        "".join(lines).encode()  # takes a tenth of the time of a search with a regular expression
    except UnicodeEncodeError:
        for i, line in enumerate(lines):
            if found := _ESCAPED.search(line):
                byte = ord(found[0]) - 0xDC00
                return i, f"is not {encoding.upper()}: byte 0x{byte:02x} at character {found.start() + 1}"
    return 0, ""


def replace_surrogates(text: object) -> str | None:
    """Replace single surrogates (half of an emoji), which JSON can contain (\\ud83d) but Arrow refuses. Returns `None`
    for a value that is not text."""
    return _SURROGATES.sub("\ufffd", text) if isinstance(text, str) else None


def _shorten(content: str) -> str:
    line = _SURROGATES.sub("\ufffd", content[: _SHOWN + 1].rstrip("\r\n"))
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


_READERS = {".txt": _read_txt, ".parquet": _read_parquet}
_READERS |= dict.fromkeys(_TABLES, _read_table) | dict.fromkeys(_JSON, _read_json)
