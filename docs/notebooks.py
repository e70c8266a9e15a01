"""Make the notebooks of the first two tutorials from their pages: python docs/notebooks.py"""

import json
import re
from pathlib import Path

DOCS = Path(__file__).parent
REPOSITORY = "OWNER/REPOSITORY"  # on GitHub, where Colab finds the notebooks
PAGES = [
    DOCS / folder / f"{name}.md" for folder in ("tutorials", "ko/tutorials") for name in ("first-model", "own-corpus")
]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
_INSTALLING = f'%pip install -q "keras_pretrain[korean,plots] @ git+https://github.com/{REPOSITORY}"'


def path_of(page: Path) -> Path:
    """`tutorials/first-model.md` → `notebooks/first-model.ipynb`, beside it."""
    return page.parents[1] / "notebooks" / f"{page.stem}.ipynb"


def notebook(page: Path) -> str:
    """The page as a notebook: prose, code, and commands as lines for the shell."""
    place = path_of(page).relative_to(DOCS.parent).as_posix()
    badge = "[![Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    cells = [("markdown", f"{badge}(https://colab.research.google.com/github/{REPOSITORY}/blob/main/{place})")]
    cells.append(("code", _INSTALLING))
    text = re.sub(
        r"^.*\.ipynb\).*\n\n", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE
    )  # the page's link here
    prose_and_blocks = _BLOCK.split(text)
    for number in range(0, len(prose_and_blocks), 3):
        prose = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", prose_and_blocks[number]).strip()  # pages are not beside it
        cells.append(("markdown", prose))
        language, block = prose_and_blocks[number + 1 : number + 3] or ("", "")
        is_shell = not language and block.startswith("keras-pretrain ")
        cells.append(("code", re.sub(r"^(?=\S)", "!", block, flags=re.MULTILINE) if is_shell else block))
    return json.dumps(
        {
            "cells": [_cell(number, *cell) for number, cell in enumerate(cell for cell in cells if cell[1])],
            "metadata": {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=1,
        ensure_ascii=False,
    )


def _cell(number: int, kind: str, source: str) -> dict:
    cell = {
        "cell_type": kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": source.strip().splitlines(keepends=True),
    }
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


if __name__ == "__main__":
    for page in PAGES:
        path_of(page).parent.mkdir(exist_ok=True)
        path_of(page).write_text(notebook(page) + "\n", encoding="utf-8")
