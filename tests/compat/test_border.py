"""Private and undocumented names of other libraries are used in `keras_pretrain.compat` alone.

Names are read from the source; nothing is imported, except to find methods that override a private one.
"""

import ast
import functools
import importlib
import inspect
from pathlib import Path

import pytest

import keras_pretrain

PACKAGE = Path(keras_pretrain.__file__).parent

# Importable without an underscore, but in no library's documentation.
UNDOCUMENTED_MODULES = (
    "datasets.config", "datasets.packaged_modules", "joblib.externals", "keras.src", "tensorflow.python",
    "tf_keras.api", "tf_keras.src", "transformers.activations_tf", "transformers.modeling_tf_outputs",
    "transformers.modeling_tf_pytorch_utils", "transformers.modeling_tf_utils", "transformers.models",
)  # fmt: skip
_LAST_PARTS = {module.split(".")[-1] for module in UNDOCUMENTED_MODULES}
UNDOCUMENTED_NAMES = ("DEFAULT_IGNORE_PATTERNS", "init_kwargs")
DOCUMENTED = ("_asdict", "_fields", "_make", "_replace")  # of a `NamedTuple`

# What stays where it is, and why. Each has a canary.
EXCEPTIONS = {
    ("models/pretraining.py", "_maybe_load_initial_counters_from_ckpt"): (
        "overrides the method that Keras' `fit` asks where to begin; it needs the state of the pretrainer's own `fit`"
    ),
}


def sources() -> dict[str, str]:
    files = (file for file in sorted(PACKAGE.rglob("*.py")) if "compat" not in file.relative_to(PACKAGE).parts)
    return {file.relative_to(PACKAGE).as_posix(): file.read_text(encoding="utf-8") for file in files}


parse = functools.cache(ast.parse)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def is_hidden(name: str) -> bool:
    return is_private(name) or name in UNDOCUMENTED_NAMES


def is_own(module: str | None) -> bool:
    return (module or "").split(".")[0] == "keras_pretrain"


def find_violations(sources: dict[str, str]) -> set[tuple[str, str]]:
    """`(file, name)` of each private or undocumented name of another library in `{file: source}`.

    `self._name`, `cls._name` and `super()._name` are ours where a class in these sources defines `_name`; of
    `super()._name`, another class.
    """
    trees = {file: parse(source) for file, source in sources.items()}
    definers = {}
    for file, tree in trees.items():
        for name, place in _definitions(tree):
            definers.setdefault(name, set()).add((file, place))
    return {(file, name) for file, tree in trees.items() for name in _foreign_names(file, tree, definers)}


def _definitions(tree: ast.AST, place: str = ""):
    """`(name, class)` of what classes define: methods, class attributes, `self._name = …` and entries of `__dict__`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, place
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, place
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr, place
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _is_dict_of_self(node.value):
            yield getattr(node.slice, "value", ""), place
        elif isinstance(node, ast.Call) and _is_dict_of_self(getattr(node.func, "value", None)):
            yield from ((keyword.arg, place) for keyword in node.keywords)  # self.__dict__.update(_name=…)
        yield from _definitions(node, node.name if isinstance(node, ast.ClassDef) else place)


def _foreign_names(file: str, tree: ast.AST, definers: dict):
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = {alias.asname or alias.name for node in imports if is_own(node.module) for alias in node.names}
    for node, place in _with_classes(tree):
        if isinstance(node, ast.ImportFrom) and not is_own(node.module):
            yield from _foreign_imports(node.module, [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _foreign_imports(alias.name, [])
        elif isinstance(node, ast.Attribute):
            is_ours = isinstance(node.value, ast.Name) and node.value.id in own
            if _is_self(node.value):
                is_ours = node.attr in definers
            elif _is_super(node.value):
                is_ours = bool(definers.get(node.attr, set()) - {(file, place)})
            if node.attr in _LAST_PARTS and ast.unparse(node) in UNDOCUMENTED_MODULES:
                yield ast.unparse(node)
            elif not is_ours and is_hidden(node.attr):
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr"):
            name = getattr(node.args[1], "value", None)
            if isinstance(name, str) and is_hidden(name) and not (_is_self(node.args[0]) and name in definers):
                yield name


def _with_classes(tree: ast.AST, place: str = ""):
    """Each node, with the name of the class around it."""
    for node in ast.iter_child_nodes(tree):
        yield node, place
        yield from _with_classes(node, node.name if isinstance(node, ast.ClassDef) else place)


def _foreign_imports(module: str, names: list[str]):
    if is_own(module):
        return
    if any(map(is_private, module.split("."))):
        yield module
    paths = [f"{path}." for path in (module, *(f"{module}.{name}" for name in names))]
    yield from (each for each in UNDOCUMENTED_MODULES if any(path.startswith(f"{each}.") for path in paths))
    yield from filter(is_hidden, names)


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _is_dict_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "__dict__" and _is_self(node.value)


def find_overrides(module) -> set[str]:
    """The private methods of a module's classes that override one of another library."""
    found = set()
    for _, kind in inspect.getmembers(module, inspect.isclass):
        ours = [each for each in kind.__mro__ if is_own(each.__module__) and ".compat." not in each.__module__]
        theirs = [each for each in kind.__mro__ if not is_own(each.__module__)]
        names = {name for each in ours for name, value in vars(each).items() if inspect.isfunction(value)}
        found |= {name for name in names if is_private(name) and any(name in vars(each) for each in theirs)}
    return found


def test_only_compat_uses_private_names():
    foreign = find_violations(sources()) - EXCEPTIONS.keys()
    assert not foreign, f"these names of other libraries belong in keras_pretrain/compat: {sorted(foreign)}"


def test_no_private_method_is_overridden_elsewhere():
    with_classes = [file for file, source in sources().items() if "\nclass " in source]
    modules = [f"keras_pretrain.{file.removesuffix('.py').replace('/', '.')}" for file in with_classes]
    found = {name for module in modules for name in find_overrides(importlib.import_module(module))}
    assert found == {name for _, name in EXCEPTIONS if name.startswith("_maybe")}


def test_each_exception_is_still_needed():
    assert find_violations(sources()) >= EXCEPTIONS.keys()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("optimizer._use_weight_decay(variable)", "_use_weight_decay"),
        ("tf.keras.Model._layers", "_layers"),
        ("def f(dataset):\n    return [each._inputs() for each in dataset]", "_inputs"),
        ("class A(B):\n    def f(self):\n        self._called_in_fit", "_called_in_fit"),
        ("class A(B):\n    def _f(self):\n        super()._f()", "_f"),
        ("getattr(model, '_train_counter', None)", "_train_counter"),
        ("hasattr(self, '_train_counter')", "_train_counter"),
        ("from tensorflow.python.eager import context", "tensorflow.python"),
        ("import tf_keras.src.callbacks", "tf_keras.src"),
        ("from keras._tf_keras import keras", "keras._tf_keras"),
        ("from nltk import _private", "_private"),
        ("def f():\n    from joblib.externals.loky import wait", "joblib.externals"),
        ("from transformers import activations_tf", "transformers.activations_tf"),
        ("folder = datasets.config.HF_DATASETS_CACHE", "datasets.config"),
        ("tokenizer.init_kwargs['cleaning']", "init_kwargs"),
        ("from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS", "DEFAULT_IGNORE_PATTERNS"),
    ],
)
def test_a_planted_violation_is_found(source, name):
    assert find_violations(sources() | {"models/planted.py": source}) - EXCEPTIONS.keys() == {
        ("models/planted.py", name)
    }


@pytest.mark.parametrize(
    "source",
    [
        "class A(B):\n    def f(self):\n        self._x = 1\n    def g(self):\n        return self._x",
        "class A(B):\n    def f(self):\n        self.__dict__['_x'] = 1\n        return self._x",
        "class A(B):\n    def f(self):\n        self.__dict__.update(_x=1)\n        return self._x",
        "class A:\n    def _f(self): ...\nclass B(A):\n    def _f(self):\n        super()._f()",
        "class A:\n    _x: int = 0\n    def f(self):\n        return self._x",
        "from keras_pretrain.training.progress import _columns\nfrom keras_pretrain.models import bert\nbert._name",
        "record._replace(name='x')",
        "type(self).__name__",
        "import keras_pretrain._version",
    ],
)
def test_own_names_are_no_violation(source):
    assert find_violations({"planted.py": source}) == set()


def test_an_override_is_found():
    class Bar(importlib.import_module("tf_keras").callbacks.ProgbarLogger):
        def _finalize_progbar(self, logs, counter): ...

    Bar.__module__ = "keras_pretrain.training.planted"
    planted = type(importlib)("keras_pretrain.training.planted")
    planted.Bar = Bar
    assert find_overrides(planted) == {"_finalize_progbar"}
