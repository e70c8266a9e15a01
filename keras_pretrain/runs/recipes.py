"""Recipes: files of settings in the package, each with the results (`results.yaml`) and curves (CSV) of a run."""

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

_RESULTS = "results.yaml"


def recipe_names() -> list[str]:
    """The names that `keras-pretrain VERB --config` takes."""
    return sorted(file.stem for file in _folder().glob("*.yaml") if file.name != _RESULTS)


def recipe_file(name: str) -> Path:
    """The YAML file of a recipe.

    Raises:
      ValueError: there is no recipe of that name.
    """
    if name not in recipe_names():
        raise ValueError(f"There is no recipe {name!r}. The recipes are: {', '.join(recipe_names())}.")
    return _folder() / f"{name}.yaml"


def curves_file(name: str, part: str = "") -> Path | None:
    """The CSV file with the curves of a recipe, or of one of its phases (`part`); `None` if there is none."""
    file = _folder() / f"{name}{part}.csv"
    return file if file.is_file() else None


def recipe_results(name: str) -> dict[str, Any]:
    """The results of a recipe: `data`, `documents` (their number), `machine`, `seconds`, memory and metrics."""
    return yaml.safe_load((_folder() / _RESULTS).read_text(encoding="utf-8"))[name]


def _folder() -> Path:
    return Path(str(resources.files("keras_pretrain"))) / "recipes"
