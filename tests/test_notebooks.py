"""Each notebook is what its page gives; the first one runs in a kernel, as in Jupyter."""

import importlib.util
import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_documented_code import smaller

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "notebooks.py")
notebooks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(notebooks)


@pytest.mark.parametrize("page", notebooks.PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_notebook_is_what_its_page_gives(page):
    stored = notebooks.path_of(page).read_text(encoding="utf-8")
    assert stored == notebooks.notebook(page) + "\n", "run: python docs/notebooks.py"
    nbformat.validate(json.loads(stored))


def test_a_tutorial_runs_in_a_kernel_and_its_output_is_ours(tmp_path):
    document = nbformat.read(notebooks.path_of(notebooks.PAGES[0]), as_version=4)
    cells = [cell for cell in document.cells if cell.cell_type == "code"]
    for cell in cells:
        is_elsewhere = cell.source.startswith("%pip") or "push_to_hub" in cell.source
        cell.source = "" if is_elsewhere else smaller(cell.source)
    try:
        NotebookClient(document, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    finally:
        sys.modules.pop("ipykernel", None)  # by which a notebook is recognized: the other tests do not run in one
    assert (tmp_path / "my_bert" / "model.safetensors").is_file()
    texts = {cell.source: "".join(each.get("text", "") for each in cell.outputs) for cell in cells}
    assert not any("oneDNN" in text for text in texts.values())
    (training,) = (text for source, text in texts.items() if "model.fit" in source)
    assert "2/2 [==" in training  # the bar of a terminal
    assert "val_mlm_loss" in training
    (answers,) = (text for source, text in texts.items() if "fill_mask(" in source)
    assert len([line for line in answers.splitlines() if "데이터" in line]) == 5
