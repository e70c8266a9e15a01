"""The pages: links lead somewhere, both READMEs show the same code, and the site has every page and public name."""

import re
from pathlib import Path

import pytest
import yaml

import keras_pretrain as kp

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#]+)\)", prose)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def test_both_readmes_show_the_same_code():
    english, korean = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md"))
    blocks = [re.findall(r"```python\n(.+?)```", text, re.DOTALL)[0] for text in (english, korean)]
    ours, theirs = ([line.split("  #")[0] for line in block.splitlines()] for block in blocks)
    assert ours == theirs


def pages_of(navigation) -> set[str]:
    """The pages that a part of MkDocs' `nav` names."""
    if isinstance(navigation, str):
        return {navigation}
    parts = navigation.values() if isinstance(navigation, dict) else navigation
    return set().union(*map(pages_of, parts))


def test_every_page_is_in_the_navigation():
    # MkDocs has a loader of its own for tags; `nav` needs none of them.
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    made = {"changelog.md", "benchmarks.md"}  # by docs/hooks.py
    assert pages_of(yaml.safe_load(lines)) == pages | made


MODULES = ("callbacks", "evaluation", "finetuning", "prepared", "runs")


def test_every_public_name_is_in_the_reference():
    reference = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    documented = re.findall(r"^::: keras_pretrain\.(\S+)$", reference, re.MULTILINE)
    assert len(documented) == len(set(documented))
    names = [name for name in kp.__all__ if name not in MODULES]
    for module in MODULES:
        for name in getattr(kp, module).__all__:
            is_above = getattr(kp, name, None) is getattr(getattr(kp, module), name)
            names.append(name if is_above else f"{module}.{name}")
    assert set(documented) == set(names)
