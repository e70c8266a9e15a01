"""What type checkers and editors see: the lazy names, the literals, and a package and a script without type errors."""

import ast
import importlib
import inspect
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

import keras_pretrain as kp
from keras_pretrain.corpus.cleaning import CLEANINGS
from keras_pretrain.models.loading import DOWNLOAD, Download
from keras_pretrain.models.sizes import BERT_SIZES, ELECTRA_SIZES
from keras_pretrain.preparation.folder import PreparationArguments
from keras_pretrain.runs import settings

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).parent / "typing" / "every_public_name.py"
MODULES = ("callbacks", "evaluation", "finetuning", "prepared", "runs")


def imports_for_type_checkers(module) -> dict[str, str]:
    """`{name: module}` of the imports below `if TYPE_CHECKING`."""
    blocks = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.If)]
    (block,) = (node for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING")
    found = {alias.asname: (node.module, alias.name) for node in block.body for alias in node.names}
    assert all(name == original for name, (_, original) in found.items())  # `as` the same name: it is re-exported
    return {name: module for name, (module, _) in found.items()}


def test_type_checkers_see_the_lazy_names_of_the_package():
    seen = imports_for_type_checkers(kp)
    assert seen.keys() == {*kp._MODULE_OF, *kp._MODULES}
    assert {name: seen[name] for name in kp._MODULE_OF} == kp._MODULE_OF


@pytest.mark.parametrize("name", MODULES)
def test_type_checkers_see_the_modules_that_the_package_gives(name):
    given, seen = getattr(kp, name), importlib.import_module(f"{imports_for_type_checkers(kp)[name]}.{name}")
    assert all(getattr(given, each) is getattr(seen, each) for each in given.__all__)


def test_type_checkers_see_the_lazy_names_of_runs():
    assert imports_for_type_checkers(kp.runs) == kp.runs._MODULE_OF


def test_literals_and_typed_dictionaries_follow_the_tables():
    assert get_args(settings.Cleaning) == CLEANINGS
    assert get_args(settings.BertSize) == tuple(BERT_SIZES)
    assert get_args(settings.ElectraSize) == tuple(ELECTRA_SIZES)
    assert tuple(Download.__annotations__) == DOWNLOAD
    arguments = [name for name in inspect.signature(kp.prepare_corpus).parameters if name != "dry_run"]
    assert ["source", "directory", *PreparationArguments.__annotations__] == arguments


def test_the_script_uses_every_public_name():
    assert set(MODULES) == set(kp._MODULES)
    names = [f"kp.{name}" for name in kp.__all__]
    names += [f"kp.{module}.{name}" for module in MODULES for name in getattr(kp, module).__all__]
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert [name for name in names if name not in used] == []


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy, of the extra `test`, is not installed")
def test_the_package_and_the_script_have_no_type_errors():
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
