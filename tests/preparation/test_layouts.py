"""Wherever source, output and other files lie: every byte of the user's is there afterwards."""

import os
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_pretrain as kp
from keras_pretrain.folders import LOCK, MANIFEST, UNFINISHED, OwnedFolder
from keras_pretrain.preparation.overlap import would_match

TEXT = "\n\n".join(
    f"Number {i} sees a house. It is old and red. Number {i} finds {'one big tree' if i % 2 else 'the river'}."
    for i in range(8)
)
SETTINGS = {
    "language": "en",
    "backend": "punkt",
    "cleaning": "none",
    "vocab_size": 120,
    "block_size": 16,
    "num_proc": 1,
}
REFUSALS = (ValueError, FileExistsError, FileNotFoundError)

FOLDERS = ("", "data", "data/train", "data/tokenizer", "data/sentences", "data/deep/train", "other", "train")
NAMES = ("corpus.txt", "more.txt", "notes.md", "report.json", "vocab.txt", "lengths.png", "tokenizer.json", "x.arrow")
files = st.dictionaries(
    st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES)), st.sampled_from([TEXT, TEXT[:200], "mine"]), max_size=5
)
links = st.dictionaries(st.sampled_from(("link", "data/link", "data/validation")), st.sampled_from(FOLDERS), max_size=2)
SOURCES = ("{}/corpus.txt", "{}", "{}/*.txt", "{}/**/*.txt", "{}/**", "{}/*/*")


@st.composite
def layouts(draw):
    """User's files and links, a source that has at least one text, an output, and what happens between two calls."""
    tree = draw(files)
    home = draw(st.sampled_from(FOLDERS))
    tree[home, "corpus.txt"] = TEXT
    where = [*FOLDERS, *draw(links)]
    return {
        "files": tree,
        "links": draw(links),
        "source": draw(st.sampled_from(SOURCES)).format(home or "."),
        "output": draw(st.sampled_from([*where, "data/new", "new", "data/deep/train/new", "link/new"])),
        "added": draw(files),
        "block_size": draw(st.sampled_from([16, 24])),
    }


def snapshot(root: Path) -> dict:
    """Every file with its bytes and every link with its target, but for what the package says is its own."""
    found = {}
    for folder, folders, names in os.walk(root):
        for name in [*names, *folders]:
            path = Path(folder) / name
            if path.is_symlink():
                found[path] = os.readlink(path)
            elif path.is_file():
                found[path] = path.read_bytes()
    return found


def write(root: Path, tree: dict, replace=True) -> None:
    for (folder, name), text in tree.items():
        path = root / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if replace or not os.path.lexists(path):
            path.write_text(text)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(layout=layouts())
def test_every_byte_of_the_users_is_there_afterwards(tmp_path_factory, layout):
    root = tmp_path_factory.mktemp("layout")
    write(root, layout["files"])
    for name, target in layout["links"].items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(root / name):
            (root / name).symlink_to(root / target)
    users = snapshot(root)
    is_prepared = prepare(root, layout["source"], layout["output"])
    assert_kept(users, root)
    output = (root / layout["output"]).resolve()
    if is_prepared:
        assert len(kp.load_prepared(output).features["train"])
        # Nothing that was written is read by the second call, which would find other documents.
        before = kp.load_prepared(output).report["documents"]
    write(root, layout["added"], replace=False)
    users |= {path: content for path, content in snapshot(root).items() if path not in users and not ours(path, output)}
    if prepare(root, layout["source"], layout["output"], block_size=layout["block_size"]) and is_prepared:
        added = any(Path(folder, name).suffix == ".txt" for folder, name in layout["added"])
        assert added or kp.load_prepared(output).report["documents"] == before
    assert_kept(users, root)


def prepare(root: Path, source: str, output: str, **changed) -> bool:
    """Whether it was prepared; else it was refused."""
    try:
        kp.prepare_corpus(str(root / source), root / output, **(SETTINGS | changed))
    except REFUSALS:
        return False
    return True


def ours(path: Path, output: Path) -> bool:
    if path.name in (MANIFEST, LOCK) or UNFINISHED in str(path):
        return True
    real = path.resolve()
    return real.is_relative_to(output) and OwnedFolder(output, "test").owns(str(real.relative_to(output)))


def assert_kept(users: dict, root: Path) -> None:
    now = snapshot(root)
    assert {path: now.get(path) for path in users} == users


def test_the_corpus_of_an_output_around_it_is_not_deleted(tmp_path):
    """`prepare_corpus("data/train", "data")`, which deleted the corpus and all that lay beside it."""
    write(tmp_path, {("data/train", "corpus.txt"): TEXT, ("data/train", "notes.md"): "mine"})
    users = snapshot(tmp_path)
    for source in ("data/train", "data/train/*.txt", "data/train/corpus.txt"):
        with pytest.raises(ValueError, match=r"corpus\.txt could be overwritten.*/data .*Choose an output"):
            kp.prepare_corpus(str(tmp_path / source), tmp_path / "data", **SETTINGS)
    assert snapshot(tmp_path) == users


def test_nor_through_a_link(tmp_path):
    write(tmp_path, {("mine", "corpus.txt"): TEXT})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train").symlink_to(tmp_path / "mine")
    users = snapshot(tmp_path)
    with pytest.raises(ValueError, match=r"corpus\.txt could be overwritten.*/out .*Choose an output"):
        kp.prepare_corpus(tmp_path / "mine", tmp_path / "out", **SETTINGS)
    assert snapshot(tmp_path) == users


def test_a_folder_called_tokenizer_is_not_deleted(tmp_path):
    write(tmp_path, {("", "corpus.txt"): TEXT, ("out/tokenizer", "vocab.txt"): "mine"})
    with pytest.raises(FileExistsError, match=r"/out .*do not belong.*tokenizer/vocab\.txt.*folder that is empty"):
        kp.prepare_corpus(tmp_path / "corpus.txt", tmp_path / "out", **SETTINGS)
    assert (tmp_path / "out" / "tokenizer" / "vocab.txt").read_text() == "mine"


@pytest.mark.parametrize("source", ["**/*.txt", "*/*/*.txt", "out/../**/*.txt", "lin*/**/*.txt", "."])
def test_a_source_that_would_match_the_output_is_refused(tmp_path, source):
    write(tmp_path, {("in/a", "corpus.txt"): TEXT})
    (tmp_path / "link").symlink_to(tmp_path)
    users = snapshot(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=r"would match .*out/tokenizer/vocab\.txt|/out lies in the source folder"):
        kp.prepare_corpus(str(tmp_path / source), tmp_path / "out", **SETTINGS)
    assert snapshot(tmp_path) == users


def test_the_files_of_a_dataset_are_a_source_too(tmp_path):
    Dataset.from_dict({"text": TEXT.split("\n\n")}).save_to_disk(tmp_path / "out" / "train")
    users = snapshot(tmp_path)
    with pytest.raises(FileExistsError, match=r"/out .*do not belong.*folder that is empty"):
        kp.prepare_corpus(Dataset.load_from_disk(tmp_path / "out" / "train"), tmp_path / "out", **SETTINGS)
    assert snapshot(tmp_path) == users


@pytest.mark.parametrize(
    ("pattern", "target", "expected"),
    [
        ("*.txt", "out/tokenizer/vocab.txt", False),
        ("out/*/vocab.txt", "out/tokenizer/vocab.txt", True),
        ("*/*/*", "out/tokenizer/vocab.txt", True),
        ("*/*", "out/tokenizer/vocab.txt", False),
        ("**", "out/tokenizer/vocab.txt", True),
        ("**/*.txt", "out/.hidden/vocab.txt", False),
        ("**/.hidden/*.txt", "out/.hidden/vocab.txt", True),
        ("ou[a-t]/tokenizer/*", "out/tokenizer/vocab.txt", True),
        ("l/*/vocab.*", "real/tokenizer/vocab.txt", True),
        ("**/vocab.txt", "real/tokenizer/vocab.txt", True),
    ],
)
def test_what_a_glob_would_match_is_known_beforehand(tmp_path, pattern, target, expected):
    """Against `glob` itself, once the file is there."""
    import glob

    (tmp_path / "real").mkdir()
    (tmp_path / "l").symlink_to(tmp_path / "real")
    pattern, target = str(tmp_path / pattern), tmp_path / target
    assert would_match(pattern, target) is expected
    write(target.parent, {("", target.name): "x"})
    found = {os.path.realpath(path) for path in glob.glob(pattern, recursive=True)}
    assert (str(target) in found) is expected
