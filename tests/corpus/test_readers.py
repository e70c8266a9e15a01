"""Readers: each row of a file is a record, counted as skipped, or refused with its place."""

import csv
import gzip
import io
import json
import pickle
import re
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_pretrain import load_corpus
from keras_pretrain.corpus import readers
from keras_pretrain.corpus.readers import BadRows, ReadingOptions
from keras_pretrain.finetuning import load_examples

SKIP = {"on_bad_rows": "skip"}
RANDOM = settings(
    deadline=None,
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def write(path, content, encoding="utf-8"):
    content = content.encode(encoding) if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(path, column="text", **options):
    """What stands in the column, and what was skipped."""
    options, bad_rows = ReadingOptions(**options), BadRows()
    readers.check_columns(path, column, options)
    return list(readers.read(path, column, options, bad_rows)), bad_rows


def refusal(path, column="text", **options):
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        read(path, column, **options)
    return str(error.value)


def skipped(path, column="text", **options):
    """What stands in the column of the good rows; then how many rows are bad, and the first one's unit and number."""
    values, bad_rows = read(path, column, **SKIP, **options)
    where, place, _ = bad_rows.first.split(", ", 2)
    assert where == str(path)
    return values, bad_rows.count, place


# Options and counts


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("sample_by", "page", "'paragraph' or 'line'"),
        ("on_bad_rows", "ignore", "'error' or 'skip'"),
        ("encoding", "klingon", "'cp949'"),
        ("encoding", "base64", "'cp949'"),
        ("encoding", None, "'cp949'"),
        ("dialect", "excle", "'excel-tab'"),
        ("dialect", "\n", "line break"),
        ("dialect", "", "one character"),
        ("dialect", 5, "one character"),
        ("dialect", {"delim": ";"}, "delim"),
        ("dialect", {"delimiter": ";;"}, "1-character"),
        ("dialect", {"quoting": csv.QUOTE_NONNUMERIC}, "QUOTE_NONE"),
    ],
)
def test_an_option_that_is_not_allowed_is_named(name, value, allowed):
    with pytest.raises(ValueError, match=f"{name} must be .*not {re.escape(repr(value))}") as error:
        ReadingOptions(**{name: value})
    assert allowed in str(error.value)


def test_options_and_counts_go_to_other_processes():
    options = ReadingOptions("line", "cp949", {"delimiter": ";"}, "skip")
    assert pickle.loads(pickle.dumps(options)) == options
    bad_rows = BadRows()
    assert (bad_rows.count, str(bad_rows)) == (0, "")
    bad_rows.add("b.csv, line 7, is wrong", "x" * 100)
    bad_rows.add("b.csv, line 9, is wrong")
    assert pickle.loads(pickle.dumps(bad_rows)) == bad_rows
    assert (bad_rows.count, str(bad_rows)) == (2, f"b.csv, line 7, is wrong: '{'x' * 60}…'")


def test_the_limit_of_a_field_is_never_lowered(tmp_path):
    path = write(tmp_path / "a.csv", "text\na\n")
    before = csv.field_size_limit(2**40)
    try:
        read(path)
        assert csv.field_size_limit() == 2**40
        csv.field_size_limit(10)
        assert read(write(path, "text\n" + "a" * 200_000))[0] == ["a" * 200_000]
    finally:
        csv.field_size_limit(max(before, 2**31 - 1))


# Rows that cannot be read


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "good", "count", "place", "reason"),
    [
        ("a.csv", "text\nHello, world. Second sentence.\nb\n", ["b"], 1, "line 2", r"2 fields.*header\D*1"),
        ("a.csv", "id,text\n1,a\n\n2\n3,c,d\n4,d\n", ["a", "d"], 2, "line 4", r"1 field,.*header\D*2"),
        ("a.tsv", "id\ttext\n1\ta\n2\tb\tc\n", ["a"], 1, "line 3", r"3 fields.*header\D*2"),
        ("a.csv", 'id,text\n1,a\n2,"b" c\n3,d\n', ["a", "d"], 1, "line 3", "quoting"),
        ("a.csv", 'id,text\n1,"a\n2,b\n3,c\n', ["b", "c"], 1, "line 2", "quotation mark.*never closed"),
        ("a.csv", 'id,text\n1,"a\n2,b\n3,"c"\n', ["b", "c"], 1, "line 2", "quotation mark.*never closed"),
        ("a.csv", 'id,text\n1,"a\nb",c,e\n2,d\n', ["d"], 2, "line 2", r"4 fields.*header\D*2"),
        # Two stray quotes that make one field of three rows.
        ("a.csv", 'id,text\n0,x\n1,"a\n2,b\n3,c"\n4,d\n', ["x", "b", 'c"', "d"], 1, "line 3", "swallowed more rows"),
        ("a.csv", 'a,text,b\nx,"a,y\nx,b,y\nx,c",y\n', ["b", 'c"'], 1, "line 2", "swallowed more rows"),
        ("a.csv", b"id,text\n1,a\n2,\xff\n3,c\n", ["a", "c"], 1, "line 3", "not UTF-8.*0xff.*character 3"),
        ("a.csv", b'id,text\n1,"a\nb\xff\nc"\n2,d\n', ["d"], 1, "line 3", "not UTF-8.*0xff.*character 2"),
        ("a.tsv", b"text\n\na\n" + "나".encode("cp949"), ["a"], 1, "line 4", "not UTF-8.*0xb3"),
        ("a.csv", "id,text\r\n1,a\r\n2\r\n", ["a"], 1, "line 3", "1 field"),
        ("a.txt", b"a\n\nb\nc\xb4\nd\n\ne", ["a", "e"], 1, "line 4", "not UTF-8.*0xb4.*character 2"),
        ("a.txt", "가나".encode()[:5], [], 1, "line 1", "not UTF-8.*0xeb.*character 2"),
        (
            "a.jsonl",
            b'{"text": "a"}\n\n{"text": "\xff"}\n{"text": "b"}',
            ["a", "b"],
            1,
            "line 3",
            "not UTF-8.*0xff",
        ),
        ("a.jsonl", '{"text": "a"}\n\n{"text": "b"', ["a"], 1, "line 3", "not JSON.*character 12"),
        ("a.json", '{"text": "a"}\n["b"]\n3', ["a"], 2, "line 2", "list, not.*object"),
        ("a.json", '[{"text": "a"}, "b"]', ["a"], 1, "item 1", "str, not.*object"),
        ("a.jsonl", '{"text": "a"}\n' + "[" * 100_000, ["a"], 1, "line 2", "read as JSON"),
        ("a.jsonl", '{"text": "a"}\n{"text": ' + "1" * 5000 + "}", ["a"], 1, "line 2", "read as JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() and len(value) < 30 else "",
)
def test_a_bad_row_is_refused_with_its_place_or_skipped(tmp_path, name, ending, content, good, count, place, reason):
    path = write(tmp_path / (name + ending), content)
    assert skipped(path) == (good, count, place)
    message = refusal(path)
    assert re.search(f"{re.escape(path.name)}, {place}, .*{reason}", message, re.DOTALL)
    assert "only bad row" in message if count == 1 else f"first of {count} bad rows" in message
    assert "on_bad_rows='skip'" in message
    assert "encoding=" in message
    assert ("dialect=" in message) == (name in ("a.csv", "a.tsv"))


def test_a_refusal_shows_the_beginning_of_the_row(tmp_path):
    assert "'2;나쁜 줄'" in refusal(write(tmp_path / "a.csv", "id,text\n1,a\n2;나쁜 줄\n"))
    message = refusal(write(tmp_path / "b.csv", "id,text\n" + "긴" * 1000))
    assert "긴" * 60 + "…'" in message
    assert "긴" * 61 not in message


def test_null_bytes_do_no_harm(tmp_path):
    for name, content in (("a.csv", "id,text\n1,a\0b\n2,c\n"), ("a.txt", "a\0b\n\nc")):
        values, bad_rows = read(write(tmp_path / name, content), **SKIP)
        assert values[-1] == "c"
        assert len(values) + bad_rows.count == 2


def test_a_byte_that_is_no_text_in_parquet_is_a_bad_row(tmp_path):
    texts = pa.array([b"a", b"\xff", b"c", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"a.text": texts}), tmp_path / "a.parquet")
    assert skipped(tmp_path / "a.parquet", "a.text") == (["a", "c", None], 1, "row 2")
    assert "row 2, is not UTF-8" in refusal(tmp_path / "a.parquet", "a.text")


# A quotation mark that swallows rows, and quoted fields over several lines that are meant so


def test_the_rows_that_a_stray_quotation_mark_swallowed_are_read(tmp_path):
    lines = [f"{['neg', 'pos'][i % 2]},글 {i}" for i in range(40)]
    lines[30], lines[33] = 'neg,"글 30', 'pos,글 33"'
    path = write(tmp_path / "a.csv", "\n".join(["label,text", *lines]) + "\n")
    values, count, place = skipped(path)
    assert (count, place) == (1, "line 32")
    assert values == [line.split(",")[1] for i, line in enumerate(lines) if i != 30]
    assert "dialect='excel'" in refusal(path)
    assert read(path, dialect="excel")[0][30] == "글 30\npos,글 31\nneg,글 32\npos,글 33"


def test_quoted_line_breaks_are_no_error(tmp_path):
    texts = ['첫 줄,\n둘째 "줄"', "안녕, 하세요,\n\n반갑습니다, 여러분", "a,b\nc,d\ne,f", "끝"] * 30
    for ending, newline in (("\r\n", "\r\n"), ("\n", "\n")):
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator=ending)
        writer.writerow(["id", "text", "label"])
        rows = [(i, text.replace("\n", newline), "yes" if i % 2 else "no") for i, text in enumerate(texts)]
        writer.writerows(rows)
        path = write(tmp_path / "a.csv", table.getvalue())
        assert read(path)[0] == [text for _, text, _ in rows]


def test_a_file_full_of_stray_quotation_marks_ends_in_time(tmp_path):
    path = write(tmp_path / "a.csv", "id,text\n" + 'b",",a\n' * 5_000)  # each line opens a quote to the file's end
    assert re.search(r"line \d+: too many quotation marks.*QUOTE_NONE", refusal(path, **SKIP))


def test_quotation_marks_in_tsv_are_text_and_the_log_says_so(tmp_path, package_log):
    path = write(tmp_path / "a.tsv", 'id\ttext\n1\t"가" 나\n2\t"다"\n3\t"라\n4\t""\n5\t"\n')
    assert read(path)[0] == ['"가" 나', '"다"', '"라', '""', '"']
    [message] = package_log.messages
    assert message.startswith(f"{path}: 2 rows")
    assert "dialect='excel-tab'" in message
    package_log.clear()
    quoted = write(tmp_path / "b.tsv", 'id\ttext\n1\t"가\t""나"""\n')
    assert read(quoted, dialect="excel-tab")[0] == ['가\t"나"']
    assert package_log.messages == []


# The wrong delimiter, columns, encodings and damaged files


@pytest.mark.parametrize(
    ("name", "delimiter", "dialect"),
    [
        ("a.csv", ";", ";"),
        ("a.csv", "\t", "excel-tab"),
        ("a.csv", "|", "|"),
        ("a.tsv", ",", "excel"),
        ("a.tsv", ";", ";"),
    ],
)
def test_another_delimiter_is_named_and_read(tmp_path, name, delimiter, dialect):
    content = f'id,text\n1,"가{delimiter} 나"\n'.replace(",", delimiter)
    path = write(tmp_path / name, content)
    message = refusal(path)
    assert re.search("no column 'text'.* id", message)
    assert f"dialect={dialect!r}" in message
    assert read(path, dialect=dialect)[0] == [f"가{delimiter} 나"]
    assert read(path, dialect={"delimiter": delimiter})[0] == [f"가{delimiter} 나"]
    assert f"{delimiter!r}: dialect={dialect!r}" in refusal(path, column="body")


def test_a_quoted_header_of_tsv_is_explained(tmp_path):
    path = write(tmp_path / "a.tsv", '"id"\t"text"\n1\t"가"\n')
    assert "dialect='excel-tab'" in refusal(path)
    assert read(path, dialect="excel-tab")[0] == ["가"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,id,text\na,1,b\n", "2 columns.*'text'.*text, id, text.*Rename"),
        ('id,"text\n1,2\n', "line 1, the header.*quotation mark.*never closed"),
        (b"\n\xff,text\n", "line 2, the header.*not UTF-8.*0xff.*character 1.*encoding="),
        ("id,body\n1,a\n", "no column 'text'.*id, body.*text_column"),
    ],
)
def test_a_header_that_cannot_be_used_is_explained(tmp_path, content, message):
    assert re.search(message, refusal(write(tmp_path / "a.csv", content), **SKIP), re.DOTALL)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.json", "a.jsonl.gz"])
def test_an_empty_file_has_no_records(tmp_path, name):
    assert read(write(tmp_path / name, ""))[0] == []


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949", "utf-16", "utf-16-le"])
def test_other_encodings_are_read(tmp_path, name, encoding):
    content = {"a.txt": "가나", "a.jsonl": '{"text": "가나"}'}.get(name, "text\n가나\n")
    path = write(tmp_path / name, content, encoding)
    assert read(path, encoding="utf-8" if encoding == "utf-8-sig" else encoding)[0] == ["가나"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_utf16_is_named(tmp_path, name):
    path = write(tmp_path / name, '{"text": "가나"}\n' * 3, "utf-16")
    assert "encoding='utf-16'" in refusal(path, **SKIP)
    assert re.search(r"after line 0, is not UTF-16", refusal(write(path, "text\na\n"), encoding="utf-16", **SKIP))
    cut = write(path, ("text\n\n" + "가\n\n" * 20_000).encode("utf-16")[:-1])
    assert re.search(r"after line \d+, is not UTF-16: .*encoding=", refusal(cut, encoding="utf-16", **SKIP))


def test_a_list_of_json_is_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    assert "a.json, line 3, is not JSON" in refusal(write(path, '\n[{"text": "x"},\n{"text": "y"]'), **SKIP)
    message = refusal(write(path, b'\n[{"text": "x"},\n{"text": "\xff"}]'), **SKIP)
    assert re.search(r"a\.json, line 3, .*not UTF-8.*0xff.*character 11", message)


def broken(how):
    lines = b"text\n" + b"".join(b"line %d %d\n" % (i, i * i * 7919) for i in range(20_000))
    whole = gzip.compress(lines)
    changed = whole[:9000] + bytes(9) + whole[9009:]
    content = {
        "cut": whole[: len(whole) // 2],
        "no end": whole[:-4],
        "no gzip": lines,
        "head": whole[:5],
        "changed": changed,
    }
    decompressor, readable = zlib.decompressobj(31), b""
    if how != "no gzip":
        try:
            readable = decompressor.decompress(content[how])
        except zlib.error:
            readable = None
    return content[how], None if readable is None else readable.count(b"\n")


@pytest.mark.parametrize("how", ["cut", "no end", "no gzip", "head", "changed"])
@pytest.mark.parametrize("name", ["a.csv.gz", "a.txt.gz"])
@pytest.mark.parametrize("on_bad_rows", ["error", "skip"])
def test_a_damaged_gzip_file_is_refused_after_its_last_line(tmp_path, how, name, on_bad_rows):
    content, lines = broken(how)
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path, sample_by="line", on_bad_rows=on_bad_rows)
    found = re.search(r"complete gzip file.* line (\d+)", message)
    # Python hands on what it has decompressed in pieces, of which the last one can be lost.
    assert lines is None or lines - 1000 <= int(found[1]) <= lines


def test_damaged_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" * 50 for i in range(10_000)]}), path, compression="none")
    whole = path.read_bytes()
    for content in (whole[:5000] + b"\xff" * 3000 + whole[8000:], whole[:-100], b"", b"PAR1"):
        path.write_bytes(content)
        assert re.search("parquet", refusal(path, **SKIP).removeprefix(str(path)))


@pytest.mark.parametrize(
    "make",
    [
        lambda text: ("a.txt", text),
        lambda text: ("a.csv", "id,text\n1," + text),
        lambda text: ("b.csv", f'id,text\n1,"{text}\n"\n'),
        lambda text: ("a.tsv", "id\ttext\n1\t" + text),
        lambda text: ("a.jsonl", json.dumps({"text": text}, ensure_ascii=False)),
        lambda text: ("a.json", json.dumps([{"text": text}])),
        lambda text: ("a.jsonl.gz", json.dumps({"text": text}, ensure_ascii=False)),
    ],
)
def test_ten_megabytes_in_a_line_are_read(tmp_path, make):
    text = "가나다 " * 1_000_000
    name, content = make(text)
    [value], _ = read(write(tmp_path / name, content))
    assert value.strip() == text.strip()


# Files as users have them: rows in = documents + skipped + refused


def both(path, text_column, label_column, rows, log, regression=False, **options):
    """Documents and examples that arrive; checks that they and the rows that the log counts are all rows."""
    log.clear()
    documents = load_corpus(path, text_column=text_column, validation_fraction=0, **options)["train"]["text"][:]
    data = load_examples(
        path, text_column=text_column, label_column=label_column, validation=0.25, regression=regression, **options
    )
    examples = [text for part in data.values() for text in part["text"]]
    assert sorted(documents) == sorted(examples)
    counts = [re.search(r"(\d+) of (\d+) rows skipped", message) for message in log.messages]
    counts = [(int(found[1]), int(found[2])) for found in counts if found]
    assert counts in ([], [(rows - len(documents), rows)] * 2)
    assert len(documents) + (counts[0][0] if counts else 0) == rows
    return documents


def test_nsmc_with_stray_quotation_marks(tmp_path, package_log):
    texts = [f"영화 {i} 재미있다" for i in range(40)]
    texts[7], texts[19], texts[25] = '"최고의 영화', '"별로"라고 하던데', '그가 "말했다'
    lines = [f"{i}\t{text}\t{i % 2}" for i, text in enumerate(texts)]
    path = write(tmp_path / "ratings.tsv", "\n".join(["id\tdocument\tlabel", *lines]) + "\n")
    assert both(path, "document", "label", 40, package_log) == texts


def test_nsmc_with_rows_that_are_cut(tmp_path, package_log):
    lines = [f"{i}\t영화 {i}\t{i % 2}" for i in range(40)]
    lines[3], lines[30] = "3\t영화", "30\t영화\t1\t1"
    path = write(tmp_path / "ratings.tsv", "\n".join(["id\tdocument\tlabel", *lines]) + "\n")
    documents = both(path, "document", "label", 40, package_log, **SKIP)
    assert documents == [f"영화 {i}" for i in range(40) if i not in (3, 30)]
    assert re.search(rf"\b2 bad .*{re.escape(str(path))}, line 5, .*\b2 fields", package_log.text)
    for load in (load_corpus, load_examples):
        with pytest.raises(ValueError, match=r"ratings\.tsv, line 5, .*first of 2 bad rows"):
            load(path, text_column="document")


def test_korsts_with_its_seven_columns(tmp_path, package_log):
    lines = ["genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2"]
    lines += [f'main-news\theadlines\t2015\t{i:04d}\t{i / 10}\t"문장 {i}\t"둘" 째 {i}' for i in range(40)]
    path = write(tmp_path / "sts-train.tsv", "\n".join(lines))
    assert both(path, "sentence1", "score", 40, package_log, regression=True) == [f'"문장 {i}' for i in range(40)]


def test_xnli_with_its_many_columns(tmp_path, package_log):
    names = "language gold_label sentence1_parse sentence2_parse sentence1 sentence2 promptID pairID genre label1 match"
    labels = ["neutral", "contradiction", "entailment"]
    lines = ["\t".join(names.split())]
    for i in range(42):
        cells = [
            "ko",
            labels[i % 3],
            "",
            "",
            f'그리고 그는 "엄마, {i}" 라고',
            f'"둘째 {i}"',
            str(i),
            str(i),
            "x",
            "a",
            "True",
        ]
        lines.append("\t".join(cells))
    path = write(tmp_path / "xnli.dev.tsv", "\n".join(lines) + "\n")
    assert both(path, "sentence1", "gold_label", 42, package_log) == [
        f'그리고 그는 "엄마, {i}" 라고' for i in range(42)
    ]
    assert both(path, "sentence2", "gold_label", 42, package_log) == [f'"둘째 {i}"' for i in range(42)]
    assert re.search(r"\b42 rows .*quotation mark.*dialect='excel-tab'", package_log.text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv_of_excel(tmp_path, package_log, encoding, delimiter):
    texts = [f'글 {i}, 첫 줄; "인용"\n\n둘째 줄' if i % 3 == 0 else f"글 {i}" for i in range(40)]
    table = io.StringIO(newline="")
    csv.writer(table, delimiter=delimiter).writerows(
        [["번호", "본문", "분류"], *([i, t, i % 2] for i, t in enumerate(texts))]
    )
    path = write(tmp_path / "excel.csv", table.getvalue(), encoding)
    options = ({"encoding": "cp949"} if encoding == "cp949" else {}) | ({"dialect": ";"} if delimiter == ";" else {})
    assert both(path, "본문", "분류", 40, package_log, **options) == texts
    if options:
        hint = "encoding=.*cp949" if encoding == "cp949" else "dialect=';'"
        for load in (load_corpus, load_examples):
            with pytest.raises(ValueError, match=rf"excel\.csv.*{hint}"):
                load(path, text_column="본문", **({"label_column": "분류"} if load is load_examples else {}))


def test_latin_1(tmp_path, package_log):
    texts = [f"café {i}" if i % 4 == 0 else f"tea {i}" for i in range(40)]
    path = write(tmp_path / "a.csv", "text,label\n" + "".join(f"{t},{i % 2}\n" for i, t in enumerate(texts)), "latin-1")
    assert both(path, "text", "label", 40, package_log, encoding="latin-1") == texts
    assert both(path, "text", "label", 40, package_log, **SKIP) == [text for text in texts if text.startswith("tea")]
    with pytest.raises(ValueError, match=r"a\.csv, line 2, .*not UTF-8.*0xe9.*10 bad rows.*encoding="):
        load_corpus(path)


# Random tables

VALUES = st.text(st.characters(codec="utf-8"), max_size=12)
LINES = st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n\0"), max_size=12)
JSON_VALUES = st.text(max_size=12) | st.none() | st.integers() | st.lists(st.booleans(), max_size=2)


def tables(values, min_size=1):
    return st.lists(st.tuples(st.integers(0, 10**6).map(str), values, st.sampled_from(["a", "b"])), min_size=min_size)


def columns_of(path, **options):
    options, bad_rows = ReadingOptions(**options), BadRows()
    names = ("id", "text", "label")
    for name in names:
        readers.check_columns(path, name, options)
    rows = [tuple(values) for _, values in readers.records(path, names, options, bad_rows)]
    assert bad_rows.count == 0
    assert [row[1] for row in rows] == list(readers.read(path, "text", options, bad_rows))
    return rows


@RANDOM
@given(tables(VALUES.filter(lambda text: "\0" not in text)), st.sampled_from(["excel", ";", {"delimiter": "|"}]))
def test_random_csv_gives_its_rows(tmp_path, rows, dialect):
    table = io.StringIO(newline="")
    parameters = (
        dialect if isinstance(dialect, dict) else {"delimiter": ","} if dialect == "excel" else {"delimiter": ";"}
    )
    csv.writer(table, **parameters).writerows([("id", "text", "label"), *rows])
    assert columns_of(write(tmp_path / "a.csv", table.getvalue()), dialect=dialect) == rows


@RANDOM
@given(st.lists(st.tuples(st.integers().map(str), st.text('가나 ,"\n\r;', max_size=12)), min_size=1))
def test_random_csv_with_line_breaks_gives_its_rows_without_a_dialect(tmp_path, rows):
    table = io.StringIO(newline="")
    csv.writer(table).writerows([("id", "text"), *rows])
    assert read(write(tmp_path / "a.csv", table.getvalue()))[0] == [text for _, text in rows]


@RANDOM
@given(tables(LINES))
def test_random_tsv_gives_its_rows(tmp_path, rows):
    content = "\n".join("\t".join(row) for row in [("id", "text", "label"), *rows])
    assert columns_of(write(tmp_path / "a.tsv", content)) == rows


@RANDOM
@given(tables(JSON_VALUES), st.sampled_from(["a.jsonl", "a.json", "list.json", "list.json.gz"]), st.booleans())
def test_random_json_gives_its_rows(tmp_path, rows, name, is_ascii):
    records = [dict(zip(("id", "text", "label"), row, strict=True)) for row in rows]
    if name.startswith("list"):
        content = json.dumps(records, indent=1, ensure_ascii=is_ascii)
    else:
        content = "\n".join(json.dumps(record, ensure_ascii=is_ascii) for record in records)
    assert columns_of(write(tmp_path / name, content)) == rows


@RANDOM
@given(tables(VALUES | st.none()))
def test_random_parquet_gives_its_rows(tmp_path, rows):
    columns = {
        name: pa.array(column, pa.string())
        for name, column in zip(("id", "text", "label"), zip(*rows, strict=True), strict=True)
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert columns_of(tmp_path / "a.parquet") == rows


DAMAGES = {
    "more": lambda row: row + b"%sx",
    "fewer": lambda row: row.rpartition(b"%s")[0],
    "byte": lambda row: row + b"\xff",
    "quote": lambda row: row.replace(b"%s", b'%s"', 1),
}


@pytest.mark.parametrize(
    ("name", "delimiter", "kinds"),
    [("a.tsv", b"\t", ["more", "fewer", "byte"]), ("a.csv", b",", ["more", "fewer", "byte", "quote"])],
)
@RANDOM
@given(data=st.data())
def test_good_rows_arrive_and_bad_rows_are_counted(tmp_path, name, delimiter, kinds, data):
    texts = data.draw(
        st.lists(st.text("가나다 .?'", min_size=1, max_size=8).map("글".__add__), min_size=1, max_size=40)
    )
    damages = [data.draw(st.sampled_from([None, None, None, *kinds])) for _ in texts]
    lines, good, bad = [b"%s".join([b"id", b"text", b"label"])], [], []
    for number, (text, damage) in enumerate(zip(texts, damages, strict=True), start=2):
        quoted = name == "a.csv" and damage is None and data.draw(st.booleans())
        text = f"{text}, 그리고" if quoted else text
        row = b"%s".join([str(number).encode(), (f'"{text}"' if quoted else text).encode(), b"ab"[number % 2 :][:1]])
        lines.append(DAMAGES[damage](row) if damage else row)
        (bad if damage else good).append(number if damage else text)
    path = write(tmp_path / name, b"\n".join(lines).replace(b"%s", delimiter) + b"\n")
    values, bad_rows = read(path, **SKIP)
    assert values == good
    assert bad_rows.count == len(bad)
    if bad:
        assert f"{path}, line {bad[0]}, " in bad_rows.first
        assert f"line {bad[0]}, " in refusal(path)


def test_a_quoted_empty_line_is_a_row_and_a_blank_line_is_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,가\n""\n   \n\n2,나\n', encoding="utf-8")
    bad = BadRows()
    assert list(readers.read(path, "text", ReadingOptions(on_bad_rows="skip"), bad)) == ["가", "나"]
    assert bad.count == 1
    assert "line 3" in str(bad)


def test_a_row_of_empty_fields_is_a_row(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\tlabel\n1\t가\ta\n\t\t\n\n", encoding="utf-8")
    assert list(readers.read(path, "text", ReadingOptions(), BadRows())) == ["가", ""]
