"""Files → the text of each record. What cannot be read is an error with its place, or is counted.

Every file is read once. Only a JSON file that is one list is held in memory as a whole.
"""

import codecs
import csv
import gzip
import io
import json
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

logger = logging.getLogger(__name__)

KNOWN = ".txt, .csv, .tsv, .json, .jsonl, each also with .gz, or .parquet"
_KINDS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet")
_TABLES = (".csv", ".tsv")
_QUOTINGS = {csv.QUOTE_MINIMAL: "QUOTE_MINIMAL", csv.QUOTE_ALL: "QUOTE_ALL", csv.QUOTE_NONE: "QUOTE_NONE"}
_ESCAPED = re.compile("[\udc80-\udcff]")  # a byte that could not be decoded, as errors="surrogateescape" keeps it
_SURROGATES = re.compile("[\ud800-\udfff]")
_FIELD_LIMIT = 2**31 - 1  # characters; a field may be a whole book
_SAMPLED_ROWS = 10_000  # of a table, which show what its columns hold
_SHOWN = 60  # characters of a bad row


@dataclass(frozen=True)
class ReadingOptions:
    """How files are read.

    Attributes:
      sample_by: what a document is in a `.txt` file: `"paragraph"`, a block between blank lines, or `"line"`.
      encoding: of text files; a byte-order mark is dropped. Parquet files have none.
      dialect: how `.csv` and `.tsv` files are written. `None`: by the ending, `.csv` with commas and quotation marks,
        `.tsv` with tabs and without quoting. Else a name registered with Python's `csv` (`"excel"`, `"excel-tab"`,
        `"unix"`), one character, the delimiter of a file that is quoted as in `"excel"`, or a dict of `csv`'s format
        parameters, such as `{"delimiter": ";", "quotechar": "'"}`.
      on_bad_rows: `"error"`, or `"skip"` to leave out and count the rows that cannot be read.

    Raises:
      ValueError: an option has a value that is not allowed.
    """

    sample_by: str = "paragraph"
    encoding: str = "utf-8"
    dialect: str | dict | None = None
    on_bad_rows: str = "error"

    def __post_init__(self):
        if self.sample_by not in ("paragraph", "line"):
            raise ValueError(f"sample_by must be 'paragraph' or 'line', not {self.sample_by!r}.")
        if self.on_bad_rows not in ("error", "skip"):
            raise ValueError(f"on_bad_rows must be 'error' or 'skip', not {self.on_bad_rows!r}.")
        _check_encoding(self.encoding)
        _check_dialect(self.dialect)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
      path: its file.
      number: of its first line that is wrong, from 1; of an item of a JSON list, from 0.
      reason: what is wrong, as the rest of a sentence.
      beginning: the first characters of the line.
      unit: what the number counts: `"line"`, `"item"` or (of parquet) `"row"`.
    """

    path: str
    number: int
    reason: str
    beginning: str
    unit: str = "line"

    def __str__(self) -> str:
        shown = f": {self.beginning!r}" if self.beginning else ""
        return f"{self.path}, {self.unit} {self.number}, {self.reason}{shown}"


class BadRows:
    """How many rows could not be read, and the first of them.

    Attributes:
      count: how many.
      first: the first one; `None` where there is none.
    """

    def __init__(self):
        self.count = 0
        self.first: BadRow | None = None

    def add(self, path, number: int, reason: str, content: str = "", unit: str = "line") -> None:
        """Count a row; arguments as the attributes of `BadRow`, with the whole content or any beginning of it."""
        self.count += 1
        if self.first is None:
            self.first = BadRow(str(path), number, reason, _shorten(content), unit)

    def merge(self, other: "BadRows") -> None:
        """Add what another one has counted, of rows that come after those counted here."""
        self.count += other.count
        self.first = self.first or other.first

    def __str__(self) -> str:
        return "" if self.first is None else str(self.first)


def kind_of(path: Path) -> str:
    """The ending that says how to read a file, without `.gz`."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def is_known(path: Path) -> bool:
    """Whether there is a reader for this kind of file."""
    return kind_of(path) in _KINDS


def check_columns(path: Path, column: str, options: ReadingOptions, holds: str = "text") -> None:
    """Refuse a file that is of an unknown kind or has not the column, by a look at its beginning.

    Args:
      column: the column that is going to be read.
      holds: what it is for: `"text"`, `"pair"`, `"label"` or `"group"`.

    Raises:
      ValueError: an unknown kind; a file that is not what its ending says; no such column (with those there are, and
        the delimiter that the header seems to have), or two of that name.
    """
    if not is_known(path):
        raise ValueError(f"{path} is of an unknown kind. A corpus file ends in {KNOWN}.")
    kind = kind_of(path)
    if kind == ".txt":
        with _Lines(path, options.encoding):
            pass
    elif kind == ".parquet":
        _find_columns(path, _parquet_names(path), [column], holds=holds)
    elif kind in _TABLES:
        with _Lines(path, options.encoding, newline="") as lines:
            reader = _csv_reader(path, lines, options.dialect)
            header = _read_header(path, reader, lines)
            if header:
                _find_columns(path, header, [column], lines.taken[0], reader.dialect, holds)
    else:
        names = _json_names(path, options)
        if names:  # a file without records is found empty later
            _find_columns(path, names, [column], holds=holds)


def read(path: Path, column: str, options: ReadingOptions, bad_rows: BadRows) -> Iterator:
    """What stands in one column of each record; for a `.txt` file, each document.

    Args:
      column: of the text; `.txt` files have none and ignore it.
      bad_rows: with `on_bad_rows="skip"`, counts the rows that are left out.

    Returns:
      An iterator over text, `None` where it is missing, or whatever else JSON and parquet files hold there.

    Raises:
      ValueError: a file that is damaged, or not what its ending says, or without the column. With
        `on_bad_rows="error"`, after all of the file was read: rows that cannot be read, with the first one's place.
    """
    for _, _, values in _rows(path, (column,), options, bad_rows):
        yield values[0]


def records(path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows) -> Iterator[dict]:
    """The columns that are asked for, of each record of a table file.

    Returns:
      An iterator over dicts with these columns; `None` stands for what is missing.

    Raises:
      ValueError: as `read`; and a `.txt` file, which has no columns.
    """
    for _, record in placed_records(path, columns, options, bad_rows):
        yield record


def placed_records(
    path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows
) -> Iterator[tuple[str, dict]]:
    """As `records`, each record after its place in the file, such as `"line 17"`."""
    if kind_of(path) == ".txt":
        raise ValueError(f"{path} has no columns: labelled examples are in {KNOWN.removeprefix('.txt, ')}.")
    columns = tuple(dict.fromkeys(columns))
    for unit, number, values in _rows(path, columns, options, bad_rows):
        yield f"{unit} {number}", dict(zip(columns, values, strict=True))


def _rows(path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    """`(unit, number, values)` of each record."""
    found = BadRows() if options.on_bad_rows == "error" else bad_rows
    kind = kind_of(path)
    if kind == ".txt":
        yield from _read_txt(path, options, found)
    elif kind == ".parquet":
        yield from _read_parquet(path, columns, found)
    elif kind in _TABLES:
        yield from _read_table(path, columns, options, found)
    else:
        yield from _read_json(path, columns, options, found)
    if options.on_bad_rows == "error" and found.count:
        raise ValueError(_refusal(found, kind))


def _refusal(bad_rows: BadRows, kind: str) -> str:
    if bad_rows.count == 1:
        message = f"{bad_rows.first}. It is the only bad row of the file."
    else:
        message = f"{bad_rows.first}. It is the first of {bad_rows.count} bad rows of the file."
    remedies = ["on_bad_rows='skip' leaves such rows out and counts them"]
    if kind != ".parquet":
        remedies.append("encoding=... (such as 'cp949') reads a file in another encoding")
    if kind in _TABLES:
        remedies.append(
            "dialect=... (such as 'excel-tab', ';' or a dict of csv's format parameters) reads another delimiter or "
            "quoting"
        )
    if kind in (".json", ".jsonl"):
        message += " A .json or .jsonl file holds one object a line, or is one list of objects."
    return f"{message} Correct the file, or choose: {'; '.join(remedies)}."


def _read_txt(path: Path, options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    with _Lines(path, options.encoding) as lines:
        for number, document in _documents(lines, options.sample_by):
            wrong = _undecodable(document)
            if wrong is None:
                yield "line", number, ("\n".join(document),)
            else:
                line = document[wrong]
                bad_rows.add(path, number + wrong, _not_decoded(line, options.encoding), line)


def _documents(lines: "_Lines", sample_by: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line, and the lines, of each document."""
    document, number = [], 0
    for line in lines:
        if line.strip():
            number = number if document else lines.number
            document.append(line.rstrip("\n"))
        if document and (sample_by == "line" or not line.strip()):
            yield number, document
            document = []
    if document:
        yield number, document


def _read_parquet(path: Path, columns: Sequence[str], bad_rows: BadRows) -> Iterator[tuple]:
    _find_columns(path, _parquet_names(path), columns)
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=list(columns)):
                lists = [_parquet_values(batch.column(batch.schema.get_field_index(column))) for column in columns]
                for values in zip(*lists, strict=True):
                    number += 1
                    if any(value is _NOT_DECODED for value in values):
                        bad_rows.add(path, number, "is not UTF-8", unit="row")
                    else:
                        yield "row", number, values
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet after row {number}: {error}. Write it again.") from error


_NOT_DECODED = object()


def _parquet_values(array: pa.Array) -> list:
    try:
        return array.to_pylist()
    except UnicodeDecodeError:  # parquet files may hold any bytes as text
        return [_parquet_value(value) for value in array]


def _parquet_value(value: pa.Scalar):
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return _NOT_DECODED


def _parquet_names(path: Path) -> list[str]:
    try:
        return pq.read_schema(path).names
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a parquet file: {error}") from error


def _read_json(path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    with _Lines(path, options.encoding) as lines:
        for unit, number, record in _json_items(path, lines, options, bad_rows):
            yield unit, number, tuple(record.get(column) for column in columns)


def _json_items(path: Path, lines: "_Lines", options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    """`(unit, number, object)` of each object."""
    is_first = True
    for line in lines:
        if not line.strip():
            continue
        if is_first and line.lstrip().startswith("["):
            yield from _json_list(path, line, lines, options, bad_rows)
            return
        is_first = False
        if _undecodable([line]) is not None:
            bad_rows.add(path, lines.number, _not_decoded(line, options.encoding), line)
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            bad_rows.add(path, lines.number, f"is not JSON: {error.msg} at character {error.pos}", line)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
            bad_rows.add(path, lines.number, f"cannot be read as JSON: {error}", line)
        else:
            if isinstance(record, dict):
                yield "line", lines.number, record
            else:
                bad_rows.add(path, lines.number, f"is a {type(record).__name__}, not an object", line)


def _json_list(path: Path, line: str, lines: "_Lines", options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    """As `_json_items`, of a file that is one list, whose first line with content is given."""
    above = lines.number - 1
    whole = [line, *lines]
    wrong = _undecodable(whole)
    if wrong is not None:
        reason = _not_decoded(whole[wrong], options.encoding)
        raise ValueError(
            f"{path}, line {above + wrong + 1}, {reason}: {_shorten(whole[wrong])!r}. encoding=... (such as 'cp949') "
            "reads a file in another encoding. A JSON list is read as a whole or not at all."
        )
    try:
        items = json.loads("\n" * above + "".join(whole))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}, is not JSON: {error}. A .json or .jsonl file holds one object a line, or is "
            "one list of objects; a list is read as a whole or not at all."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}.") from error
    for number, item in enumerate(items):
        if isinstance(item, dict):
            yield "item", number, item
        else:
            reason = f"is a {type(item).__name__}, not an object"
            bad_rows.add(path, number, reason, json.dumps(item, ensure_ascii=False), unit="item")


def _json_names(path: Path, options: ReadingOptions) -> list[str]:
    """The columns of the first 1,000 records of a JSON file; none where these cannot be read."""
    names = {}
    with _Lines(path, options.encoding) as lines:
        line = next((line for line in lines if line.strip()), "")
        if line.lstrip().startswith("["):
            beginning, size = [line], len(line)
            for line in lines:
                beginning.append(line)
                size += len(line)
                if size > 1 << 20:
                    break
            found = _first_items("".join(beginning).lstrip()[1:])
        else:
            lines.give_back([line] if line else [])
            found = (item for _, _, item in _json_items(path, lines, options, BadRows()))
        for item in islice(found, 1000):
            names.update(dict.fromkeys(item))
    return list(names)


def _first_items(text: str) -> Iterator[dict]:
    """The objects at the beginning of the inside of a list, which may be cut off anywhere."""
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,]*")
    position = 0
    while True:
        position = between.match(text, position).end()
        try:
            item, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return
        if isinstance(item, dict):
            yield item


def _read_table(path: Path, columns: Sequence[str], options: ReadingOptions, bad_rows: BadRows) -> Iterator[tuple]:
    with _Lines(path, options.encoding, newline="") as lines:
        reader = _csv_reader(path, lines, options.dialect)
        header = _read_header(path, reader, lines)
        if not header:
            return
        places = _find_columns(path, header, columns, lines.taken[0], reader.dialect)
        only = places[0] if len(places) == 1 else None
        unquoted = kind_of(path) == ".tsv" and options.dialect is None
        judge = _Judge(len(header), reader.dialect, guess=options.dialect is None)
        quoted = 0
        while True:
            lines.taken.clear()
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                reason = _explain(error, lines.taken)
            else:
                if not row or (len(row) == 1 < len(header) and not row[0].strip()):
                    continue
                reason = judge.objection(row, lines.taken)
            number = lines.number - len(lines.taken) + 1
            wrong = _undecodable(lines.taken)
            if reason is None and wrong is None:
                values = (row[only],) if only is not None else tuple(row[place] for place in places)
                if unquoted:
                    quoted += any(value[:1] == '"' == value[-1:] and len(value) > 1 for value in values)
                yield "line", number, values
                continue
            if reason is not None:  # its other lines may be rows
                lines.give_back(lines.taken[1:])
            if wrong == 0 or reason is None:
                line = lines.taken[wrong]
                bad_rows.add(path, number + wrong, _not_decoded(line, options.encoding), line)
            else:
                bad_rows.add(path, number, reason, lines.taken[0])
    if quoted:
        logger.info(
            "%s: %d rows have a field that begins and ends with a quotation mark. A .tsv file is read without quoting, "
            "so these marks are kept as a part of the text; dialect='excel-tab' reads them as quotes.", path, quoted,
        )  # fmt: skip


class _Judge:
    """What is wrong with a record of a table, besides its bytes.

    Args:
      width: fields of the header.
      dialect: of the reader.
      guess: whether a field over several lines may be an unclosed quotation mark that has swallowed rows.
    """

    def __init__(self, width: int, dialect, guess: bool):
        self._width, self._delimiter = width, dialect.delimiter
        self._guess = guess and width > 1 and dialect.quoting != csv.QUOTE_NONE
        self._rows = 0
        self._numbers = set(range(width))  # columns that hold only numbers so far
        self._values = {place: set() for place in range(width)}  # columns that have at most 20 values so far

    def objection(self, row: list[str], lines: list[str]) -> str | None:
        """What is wrong with a row that stands on these lines; `None` where nothing is."""
        if len(row) != self._width:
            return f"has {_plural(len(row), 'field')}, but the header has {self._width}"
        if not self._guess:
            return None
        if len(lines) == 1:
            if self._rows < _SAMPLED_ROWS:
                self._learn(row)
            return None
        if self._are_rows(lines):
            return (
                f"has an unclosed quotation mark that seems to have swallowed {_plural(len(lines) - 1, 'more row')} "
                "(if this is one field on purpose, dialect='excel' reads it)"
            )
        return None

    def _learn(self, row: list[str]) -> None:
        self._rows += 1
        self._numbers = {place for place in self._numbers if _is_number(row[place])}
        for place in list(self._values):
            self._values[place].add(row[place])
            if len(self._values[place]) > 20:
                del self._values[place]

    def _are_rows(self, lines: list[str]) -> bool:
        """Whether each of the lines has the header's number of fields, and looks like the rows before."""
        rows = [[field.strip().strip('"') for field in line.split(self._delimiter)] for line in lines]
        if any(len(row) != self._width for row in rows):
            return False
        if self._rows == 0:
            return self._width >= 3
        if any(all(_is_number(row[place]) for row in rows) for place in self._numbers):
            return True
        return self._rows >= 20 and any(all(row[p] in known for row in rows) for p, known in self._values.items())


def _csv_reader(path: Path, lines: "_Lines", dialect):
    if csv.field_size_limit() < _FIELD_LIMIT:  # of the whole process: never lowered
        csv.field_size_limit(_FIELD_LIMIT)
    if dialect is None and kind_of(path) == ".tsv":
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    return csv.reader(lines, **_csv_parameters("excel" if dialect is None else dialect))


def _csv_parameters(dialect: str | dict) -> dict:
    if isinstance(dialect, str):
        dialect = {"delimiter": dialect} if len(dialect) == 1 else {"dialect": dialect}
    return {"strict": True, **dialect}


def _read_header(path: Path, reader, lines: "_Lines") -> list[str]:
    """The first row that is not blank, whose lines `lines.taken` then holds; an empty list for an empty file."""
    row = []
    while not row:
        lines.taken.clear()
        try:
            row = next(reader, None)
        except csv.Error as error:
            number = lines.number - len(lines.taken) + 1
            raise ValueError(
                f"{path}, line {number}, the header, {_explain(error, lines.taken)}: {_shorten(lines.taken[0])!r}. "
                "Correct it, or say with dialect=... how the file is written."
            ) from error
        if row is None:
            return []
    wrong = _undecodable(lines.taken)
    if wrong is not None:
        number = lines.number - len(lines.taken) + 1 + wrong
        raise ValueError(
            f"{path}, line {number}, the header, {_not_decoded(lines.taken[wrong], lines.encoding)}: "
            f"{_shorten(lines.taken[wrong])!r}. Say with encoding=... (such as 'cp949') how the file is written."
        )
    return row


def _find_columns(
    path: Path, names: list[str], columns: Sequence[str], line: str = "", dialect=None, holds: str = "text"
) -> list[int]:
    """The places of the columns; refuses one that is missing or stands twice.

    Args:
      line: of a table, the line of the header.
      dialect: of a table, that of the reader.
    """
    for column in columns:
        if names.count(column) > 1:
            raise ValueError(
                f"{path} has {names.count(column)} columns named {column!r}; its columns are {', '.join(names)}. Give "
                "each column a name of its own."
            )
        if column not in names:
            hint = "" if dialect is None else _dialect_hint(line, names, column, dialect)
            raise ValueError(
                f"{path} has no column {column!r}; its columns are {', '.join(names) or 'none'}. "
                + (hint or f"Say which one holds the {holds} ({holds}_column).")
            )
    return [names.index(column) for column in columns]


def _dialect_hint(line: str, names: list[str], column: str, dialect) -> str:
    """Which delimiter a header seems to have that has not the column; empty where it seems to be the right one."""
    guesses = []
    for delimiter, name in ((";", ";"), ("\t", "excel-tab"), ("|", "|"), (",", "excel")):
        fields = [field.strip().strip('"') for field in line.split(delimiter)]
        if delimiter == dialect.delimiter:
            if dialect.quoting == csv.QUOTE_NONE and column in fields:
                return f"The header has quotation marks: dialect={name!r} reads them."
        elif len(fields) > 1 and (column in fields or len(names) == 1):
            guesses.append((column in fields, len(fields), delimiter, name))
    if not guesses:
        return ""
    _, _, delimiter, name = max(guesses)
    return f"The header looks separated by {delimiter!r}: dialect={name!r} reads it."


def _explain(error: csv.Error, lines: list[str]) -> str:
    if str(error) == "unexpected end of data":
        return "has a quotation mark that is never closed"
    if len(lines) > 1:
        return f"has an unclosed quotation mark, as {_plural(len(lines) - 1, 'line')} further down shows ({error})"
    return f"does not follow the rules of quoting ({error})"


class _Lines:
    """The lines of a text file. `csv.reader` takes them from here, and can be made to take some of them again.

    Args:
      path: a text file, or one compressed by gzip.
      encoding: bytes that it does not have become surrogates where possible, so that other lines can be read.
      newline: as of `open`.

    Attributes:
      number: of the line that was taken last, from 1.
      taken: lines taken since the caller last cleared this list; only with `newline=""`, as for tables.

    Raises:
      ValueError: when read, a damaged file, with the line it is damaged after.
    """

    def __init__(self, path: Path, encoding: str, newline: str | None = None):
        self.path, self.encoding, self.number, self.taken = path, encoding, 0, []
        self._newline, self._keep = newline, newline == ""
        self._returned, self._read, self._read_again = [], 0, 0

    def __enter__(self) -> "_Lines":
        is_gzip = self.path.name.lower().endswith(".gz")
        self._file = io.TextIOWrapper(
            gzip.open(self.path, "rb") if is_gzip else open(self.path, "rb"),
            encoding=self.encoding,
            errors="surrogateescape",
            newline=self._newline,
        )
        try:
            self._refuse_utf16()
            first = self._next_of_file()
        except StopIteration:
            pass
        except BaseException:
            self._file.close()
            raise
        else:
            self._returned.append(first.removeprefix("\ufeff"))
        return self

    def __exit__(self, *_):
        self._file.close()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._returned.pop() if self._returned else self._next_of_file()
        self.number += 1
        if self._keep:
            self.taken.append(line)
        return line

    def give_back(self, lines: Sequence[str]) -> None:
        """Have the lines that were taken last taken again."""
        self._returned.extend(reversed(lines))
        self.number -= len(lines)
        self._read_again += len(lines)
        if self._read_again > 1_000_000 + 20 * self._read:  # a time that grows with the square of the file's length
            raise ValueError(
                f"{self.path}, line {self.number}: too many quotation marks are never closed, so that the file does "
                "not seem to be quoted. A dialect without quoting reads it, such as "
                'dialect={"delimiter": ",", "quoting": csv.QUOTE_NONE}.'
            )

    def _next_of_file(self) -> str:
        try:
            line = next(self._file)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._not_gzip(error) from error
        except UnicodeError as error:  # of encodings whose bytes cannot become surrogates, such as UTF-16
            raise ValueError(
                f"{self.path}, after line {self._read}, is not {self.encoding.upper()}: {error}. Say with encoding=... "
                "(such as 'utf-8' or 'cp949') how the file is written, or write it again."
            ) from error
        self._read += 1
        return line

    def _refuse_utf16(self) -> None:
        try:
            mark = self._file.buffer.peek(2)[:2]
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._not_gzip(error) from error
        if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and codecs.lookup(self.encoding).name.startswith("utf-8"):
            raise ValueError(
                f"{self.path}, line 1, is not UTF-8: the file begins with the byte-order mark of UTF-16. "
                "encoding='utf-16' reads it."
            )

    def _not_gzip(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self.path} is not a whole gzip file: it is damaged after line {self._read} ({error}). Copy or download "
            "it again; without .gz in its name it is read as it is."
        )


def _undecodable(lines: Iterable[str]) -> int | None:
    """The first of the lines that has a byte which could not be decoded."""
    try:
        "".join(lines).encode()  # strict: a tenth of the time that the regular expression takes
    except UnicodeEncodeError:
        return next((i for i, line in enumerate(lines) if _ESCAPED.search(line)), None)
    return None


def _not_decoded(line: str, encoding: str) -> str:
    found = _ESCAPED.search(line)
    return f"is not {encoding.upper()}: byte 0x{ord(found[0]) - 0xDC00:02x} at character {found.start() + 1}"


def _shorten(content: str) -> str:
    line = _SURROGATES.sub("\ufffd", content[: _SHOWN + 1].rstrip("\r\n"))
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "…"


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}" + "s" * (count != 1)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _check_encoding(encoding) -> None:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding or "")  # also refuses codecs that are not of text
    except (LookupError, ValueError, TypeError) as error:
        raise ValueError(
            f"encoding must be one that Python knows, such as 'utf-8', 'cp949' or 'utf-16', not {encoding!r}."
        ) from error


def _check_dialect(dialect) -> None:
    allowed = (
        f"dialect must be None, one of csv's dialects ({', '.join(map(repr, csv.list_dialects()))}), one character "
        f"(the delimiter), or a dict of csv's format parameters, such as {{'delimiter': ';'}}, not {dialect!r}"
    )
    if dialect is None:
        return
    if not isinstance(dialect, (str, dict)) or dialect in ("", {}):
        raise ValueError(f"{allowed}.")
    try:
        found = csv.reader([], **_csv_parameters(dialect)).dialect
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{allowed}: {error}.") from error
    if found.delimiter in ("\r", "\n", found.quotechar):
        raise ValueError(f"{allowed}: the delimiter must be neither a line break nor the quotation mark.")
    if found.quoting not in _QUOTINGS:
        raise ValueError(f"{allowed}: its quoting must be csv.{', csv.'.join(_QUOTINGS.values())}.")
