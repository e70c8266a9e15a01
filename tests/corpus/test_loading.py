"""`load_corpus`: every kind of source gives its documents, every wrong one an error that names what is wrong."""

import csv
import gzip
import io
import json
import os
import re

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from keras_pretrain import load_corpus
from keras_pretrain.corpus.loading import find_source, source_folders

DOCUMENTS = ['첫 문서, 첫 줄.\n둘째 줄에는 "따옴표"가 있다.', "둘째 문서는\t탭을 품는다.", "A third one."]
ROWS = [{"id": i, "text": text} for i, text in enumerate(DOCUMENTS)]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


def as_table(delimiter):
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["id", "text"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return table.getvalue()


FILES = {
    "blocks.txt": "\n" + "\n\n \t\n".join(DOCUMENTS) + "\n",
    "table.csv": as_table(","),
    "table.tsv": as_table("\t"),
    "list.json": json.dumps(ROWS, indent=2),
    "lines.json": LINES,
    "lines.jsonl": LINES.replace("\n", "\n\n") + "\n",
}


def write(path, content, encoding="utf-8"):
    content = content.encode(encoding) if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def documents_of(source, **options):
    corpus = load_corpus(source, validation_fraction=0, **options)
    assert corpus.column_names == {"train": ["text"]}
    return list(corpus["train"]["text"])


@pytest.mark.parametrize(
    ("ending", "encoding"), [("", "utf-8"), (".gz", "utf-8"), ("", "utf-8-sig")], ids=["plain", "gz", "byte-order mark"]
)
@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file_gives_its_documents(tmp_path, name, ending, encoding):
    options = {"dialect": "excel-tab"} if name == "table.tsv" else {}  # its texts have tabs and line breaks in quotes
    assert documents_of(write(tmp_path / (name + ending), FILES[name], encoding), **options) == DOCUMENTS


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_parquet_gives_its_documents(tmp_path, kind):
    pq.write_table(pa.table({"id": [0, 1, 2], "text": pa.array(DOCUMENTS, kind)}), tmp_path / "table.parquet")
    assert documents_of(tmp_path / "table.parquet") == DOCUMENTS


@pytest.mark.parametrize(
    ("sample_by", "documents"),
    [("line", ["하나", "둘", "셋"]), ("paragraph", ["하나\n둘", "셋"])],
    ids=["line", "block"],
)
def test_a_document_is_a_line_or_a_block(tmp_path, sample_by, documents):
    assert documents_of(write(tmp_path / "a.txt", "하나\r\n둘\r\n\r\n셋\r\n"), sample_by=sample_by) == documents


def test_another_column_becomes_text(tmp_path):
    path = write(tmp_path / "posts.csv", 'text,body\nwrong,right\nwrong,"also\nright"\n')
    assert documents_of(path, text_column="body") == ["right", "also\nright"]


@pytest.mark.parametrize(
    ("pattern", "documents"),
    [("", ["하나", "둘", "셋", "넷"]), ("**/*.*", ["하나", "둘", "셋", "넷"]), ("a*/*", ["하나", "둘"])],
)
def test_a_folder_and_a_glob_give_the_files_in_order(tmp_path, pattern, documents):
    write(tmp_path / "b" / "deep" / "second.txt.gz", "셋\n\n넷")
    write(tmp_path / "a" / "first.jsonl", '{"text": "하나"}\n{"text": "둘"}')
    assert documents_of(str(tmp_path / pattern)) == documents


def test_a_folder_may_hold_other_files(tmp_path):
    write(tmp_path / "LICENSE", "not a document")
    write(tmp_path / "notes.md", "not a document")
    write(tmp_path / "one.TXT", "a document")
    assert documents_of(tmp_path) == ["a document"]


def test_a_dataset_loses_its_other_columns():
    assert documents_of(Dataset.from_list(ROWS)) == DOCUMENTS


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_a_split_of_the_source_stays(held_out):
    source = DatasetDict({"train": Dataset.from_list(ROWS), held_out: Dataset.from_dict({"text": ["held out"]})})
    corpus = load_corpus(source, validation_fraction=0.5)
    assert {name: list(split["text"]) for name, split in corpus.items()} == {
        "train": DOCUMENTS,
        "validation": ["held out"],
    }


def test_a_dataset_dict_without_validation_is_split():
    corpus = load_corpus(DatasetDict(train=Dataset.from_list(ROWS)), validation_fraction=0.34)
    assert sorted([*corpus["train"]["text"], *corpus["validation"]["text"]]) == sorted(DOCUMENTS)
    assert len(corpus["validation"]) == 1


def test_a_name_on_the_hub_is_loaded_from_there(monkeypatch):
    on_the_hub = {"someone/documents": DatasetDict(train=Dataset.from_list(ROWS))}
    monkeypatch.setattr(datasets, "load_dataset", on_the_hub.__getitem__)
    assert documents_of("someone/documents") == DOCUMENTS


def test_the_seed_decides_the_split():
    source = Dataset.from_dict({"text": [f"문서 {i}" for i in range(40)]})
    first, again, other = (load_corpus(source, validation_fraction=0.25, seed=seed) for seed in (1, 1, 2))
    train, validation = set(first["train"]["text"]), set(first["validation"]["text"])
    assert 4 <= len(validation) <= 18
    assert not train & validation
    assert train | validation == set(source["text"])
    assert first["train"].to_list() == again["train"].to_list()
    assert first["validation"].to_list() == again["validation"].to_list()
    assert validation != set(other["validation"]["text"])


def test_a_changed_file_gives_what_is_in_it_now(tmp_path):
    path = write(tmp_path / "a.txt", "old")
    assert documents_of(path) == ["old"]
    stamp = path.stat().st_mtime_ns
    os.utime(write(path, "new"), ns=(stamp, stamp + 1))
    assert documents_of(path) == ["new"]


def test_rows_without_text_are_skipped_and_counted(tmp_path, package_log):
    values = ["하나", "", " \n", None, 3, ["둘"], "셋"]
    lines = [json.dumps({"text": value}) for value in values] + ['{"other": "넷"}']
    path = write(tmp_path / "rows.jsonl", "\n".join(lines))
    assert documents_of(path) == ["하나", "셋"]
    [message] = package_log.messages
    assert re.search(rf"^{re.escape(f'{path} (train)')}.*\b6 of 8 .*\b2 empty, 4 missing", message)
    assert "bad" not in message.removeprefix(str(path))


@pytest.mark.parametrize("names", [["a.csv"], ["a.csv", "b.csv", "c.csv"]], ids=len)
def test_bad_rows_are_skipped_and_counted_in_each_call(tmp_path, package_log, names):
    """Also in the second one, which reads the cache of `datasets` and not the file."""
    for name in names:
        write(tmp_path / name, f"id,text\n1,{name} 하나\n2\n3,\n4,넷,5\n6,{name} 여섯\n")
    for _ in range(2):
        package_log.clear()
        documents = documents_of(tmp_path, on_bad_rows="skip")
        assert documents == [f"{name} {text}" for name in names for text in ("하나", "여섯")]
        [message] = package_log.messages
        n = len(names)
        first = rf"{re.escape(str(tmp_path / 'a.csv'))}, line 3, .*\b1 field\b"
        assert re.search(rf"\b{3 * n} of {5 * n} .*\b{n} empty, 0 missing.*\b{2 * n} bad.*{first}", message)
    with pytest.raises(ValueError, match=r"a\.csv, line 3, has 1 field.*first of 2 bad rows"):
        load_corpus(tmp_path)


def test_a_corpus_of_bad_rows_is_empty(tmp_path):
    path = write(tmp_path / "a.csv", "id,text\n1\n2\n")
    with pytest.raises(ValueError, match=r"corpus is empty.*\b2 rows .*\b2 bad .*a\.csv, line 2"):
        load_corpus(path, on_bad_rows="skip")


def test_another_option_reads_the_file_again(tmp_path):
    path = write(tmp_path / "a.csv", 'text;id\n"가;나";1\n', "cp949")
    assert documents_of(path, encoding="cp949", dialect=";") == ["가;나"]
    assert documents_of(path, encoding="cp949", dialect={"delimiter": ";", "quoting": csv.QUOTE_ALL}) == ["가;나"]
    with pytest.raises(ValueError, match="line 2, has 3 fields"):
        load_corpus(path, encoding="cp949", dialect={"delimiter": ";", "quoting": csv.QUOTE_NONE})
    with pytest.raises(ValueError, match="line 2, is not UTF-8"):
        load_corpus(path, dialect=";")


def test_a_folder_is_read_through_links_and_without_hidden_files(tmp_path, package_log):
    write(tmp_path / "outside" / "b.txt", "밖")
    folder = tmp_path / "corpus"
    write(folder / "deep" / "a.txt", "안")
    for name in (".hidden.txt", ".git/c.txt", ".git/deep/d.txt", "README.md", "deep/.e.txt"):
        write(folder / name, "not a document")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "again").symlink_to(folder / "deep")
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "deep" / "above").symlink_to(tmp_path)
    (folder / ".root").symlink_to("/")
    (folder / "gone.txt").symlink_to(tmp_path / "gone.txt")
    assert documents_of(folder) == ["안", "밖"]
    [message] = package_log.messages
    assert re.search(rf"^{re.escape(str(folder))}: 6 .*skipped.* {re.escape(str(folder / '.git'))}\)\.$", message)
    assert source_folders(folder) == [folder, folder / "deep", folder / "linked"]
    for name in ("again", "deep/above", "gone.txt"):  # with two ways upwards, glob itself finds each file in 2**40 ways
        (folder / name).unlink()
    assert documents_of(str(folder / "**" / "*.txt")) == ["안", "밖"]


@pytest.mark.parametrize("has_features", [True, False])
def test_a_stream_is_read(package_log, has_features):
    def rows():
        yield from ({"id": i, "text": text} for i, text in enumerate([*DOCUMENTS, None, "\ud83d 반쪽"]))

    columns = {"id": datasets.Value("int64"), "text": datasets.Value("string")}
    features = datasets.Features(columns) if has_features else None
    stream = datasets.IterableDataset.from_generator(rows, features=features)
    documents = [*DOCUMENTS, "\ufffd 반쪽"]
    assert documents_of(stream) == documents
    assert re.search(r"\b1 of 5 .*\b0 empty, 1 missing", package_log.text)
    corpus = load_corpus(datasets.IterableDatasetDict(train=stream, test=stream))
    assert [corpus[name]["text"][:] for name in ("train", "validation")] == [documents] * 2
    assert load_corpus({"train": stream, "test": Dataset.from_list(ROWS)})["validation"]["text"][:] == DOCUMENTS
    with pytest.raises(ValueError, match=r"no column 'body'.*id, text"):
        load_corpus(stream, text_column="body")
    with pytest.raises(ValueError, match=r"'id' of IterableDataset.*\bint64, not text|no text in any"):
        load_corpus(stream, text_column="id")
    with pytest.raises(ValueError, match=r"corpus is empty: .* IterableDataset"):
        load_corpus(stream.take(0))


def test_a_stream_that_gives_something_else_is_read_again():
    values = ["하나"]
    stream = datasets.IterableDataset.from_generator(lambda: ({"text": value} for value in values))
    first = find_source(stream, "text")["train"]
    same = find_source(stream, "text")["train"]
    values.append("둘")
    other = find_source(stream, "text")["train"]
    assert [data["text"][:] for data in (first, same, other)] == [["하나"], ["하나"], ["하나", "둘"]]
    # The fingerprint is that of the content: what was prepared from the same texts is found again.
    assert first._fingerprint == same._fingerprint != other._fingerprint


def test_nothing_is_said_where_nothing_is_skipped(package_log):
    documents_of(Dataset.from_list(ROWS))
    assert package_log.messages == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        *((name, rf"no file or folder {name} .*{{here}}\b") for name in ("no.txt", "./no", "n/o/t", "~/no")),
        ("keras-pretrain/no", r"no file or folder keras-pretrain/no .*{here}\b.*\bHub\b"),
        ("text", r"no file or folder text .*{here}\b"),  # `datasets` would read all files that are here
        ("*.txt", r"No file matches \*\.txt"),
        (".", r"folder \. .*no file\b.*\.txt, .*\.parquet"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, monkeypatch, source, message):
    write(tmp_path / "notes.md", "not a document")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=message.format(here=tmp_path)):
        load_corpus(source)


@pytest.mark.parametrize(
    "options",
    [{"validation_fraction": value} for value in (-0.1, 1, 1.5)]
    + [{name: "x,y"} for name in ("sample_by", "encoding", "dialect", "on_bad_rows")],
)
def test_an_option_out_of_range_is_named(options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=rf"{name} must be .* not {value!r}"):
        load_corpus(Dataset.from_list(ROWS), **options)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["a.txt"], "DatasetDict, not a list"),
        ({"train": ["a"]}, "IterableDataset, not list"),
        (DatasetDict(dev=Dataset.from_list(ROWS)), r"split.*'train'.*\['dev'\]"),
        (Dataset.from_list(ROWS).rename_column("text", "body"), "no column 'text'.*id, body"),
        (Dataset.from_dict({"text": [1, 2]}), "'text' of Dataset.* int64, not text"),
        (Dataset.from_dict({"text": [["a"], ["b"]]}), r"'text' of Dataset.* ([Ll]ist|Sequence)\b.*, not text"),
        (Dataset.from_dict({"text": ["", " "]}), "corpus is empty.* Dataset .* 2 rows .*no text"),
        (Dataset.from_dict({"text": ["one"]}), "one document.*sample_by='line'.*validation_fraction=0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_source_that_cannot_be_used_is_explained(source, message):
    with pytest.raises(ValueError, match=message):
        load_corpus(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.docx", "text", r"unknown file type.*\.txt, .*\.parquet"),
        ("a.csv", "id,body\n1,x\n", "no column 'text'.*id, body"),
        ("a.tsv.gz", "id\tbody\n1\tx\n", "no column 'text'.*id, body"),
        ("a.jsonl", '{"id": 1, "body": "x"}', "no column 'text'.*id, body"),
        ("a.parquet", b"PAR0", "as parquet.*Write it again"),
        ("a.txt", "가나".encode() + b"\xb4\xd9", "line 1, .*not UTF-8.*0xb4.*character 3.*encoding="),
        ("a.txt", "가나".encode()[:5], "line 1, .*not UTF-8.*0xeb.*character 2"),
        ("a.csv.gz", b"text\n\xff", "line 2, .*not UTF-8.*0xff.*character 1"),
        ("a.txt", b"a" * (2**24 - 1) + "가".encode() + b"\xff", "not UTF-8.*0xff.*character 16777217"),
        ("a.txt", b"a" * (2**24 - 1) + b"\xeaa", "not UTF-8.*0xea.*character 16777216"),
        ("a.csv", "text\na\nb,c\n", r"line 3, .*\b2 fields.*header\D*1.*on_bad_rows='skip'"),
        ("a.csv", "id;text\n1;a\n", "no column 'text'.*dialect=';'"),
        ("a.jsonl", '{"text": "x"}\n\n{"text": "y"', "line 3, .*not JSON.*character 12"),
        ("a.json", '[{"text": "x"},', "line 1, .*not JSON.*character 15"),
        ("a.jsonl", '{"text": "x"}\n["y"]', "line 2, .*list, not.*object"),
        ("a.json", '[{"text": "x"}, "y"]', "item 1, .*str, not.*object"),
        *((name, "", "corpus is empty: .*{name}") for name in ("a.txt", "a.jsonl.gz")),
        ("a.csv", "text\n", "corpus is empty: .*{name}"),
        ("a.json", "[]", "corpus is empty: .*{name}"),
        ("a.jsonl", '{"text": ""}\n{"text": null}', "corpus is empty: .*{name} .* 2 rows .*no text"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "long",
)
def test_a_file_that_cannot_be_used_is_explained(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=f"(?s){message.format(name=re.escape(name))}") as error:
        load_corpus(write(tmp_path / name, content))
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("cut", [lambda whole: whole[:-12], lambda whole: b"no gzip" + whole], ids=["cut", "not gzip"])
def test_a_broken_gzip_file_is_explained(tmp_path, cut):
    path = write(tmp_path / "a.txt.gz", "\n\n".join(DOCUMENTS))
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path} .*complete gzip file.*download it again"):
        load_corpus(path)


@pytest.mark.parametrize("kind", ["arrow", "numpy"])
def test_the_format_of_a_dataset_makes_no_difference(kind):
    assert documents_of(Dataset.from_list(ROWS).with_format(kind)) == DOCUMENTS
