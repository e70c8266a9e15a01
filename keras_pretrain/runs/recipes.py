"""Recipes: settings inside the package that were run whole, with their figures (`figures.yaml`) and curves (CSV)."""

from importlib import resources
from pathlib import Path

import yaml

_FIGURES = "figures.yaml"


def recipe_names() -> list[str]:
    """The names that `keras-pretrain VERB --config` takes."""
    return sorted(file.stem for file in _folder().glob("*.yaml") if file.name != _FIGURES)


def recipe_file(name: str) -> Path:
    """The YAML file of a recipe.

    Raises:
      ValueError: there is no recipe of that name.
    """
    if name not in recipe_names():
        raise ValueError(f"There is no recipe {name!r}; there are {', '.join(recipe_names())}.")
    return _folder() / f"{name}.yaml"


def curves_file(name: str, part: str = "") -> Path | None:
    """The CSV file with the curves of a recipe, or of one of its phases (`part`); `None` if it has none."""
    file = _folder() / f"{name}{part}.csv"
    return file if file.is_file() else None


def recipe_figures(name: str) -> dict:
    """What a recipe gave: data, machine, times, figures, and `documents`, the number of documents of each split."""
    return (yaml.safe_load((_folder() / _FIGURES).read_text(encoding="utf-8")) or {}).get(name, {})


def _folder() -> Path:
    return Path(str(resources.files("keras_pretrain"))) / "recipes"
