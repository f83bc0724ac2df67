"""Notebooks: each is its script, without outputs; and they run from top to bottom."""

import json
import shutil

import pytest
from helpers.environment import ROOT, environment

NOTEBOOKS = ROOT / "notebooks"
NAMES = ("first_steps", "geometry", "any_scale")  # in the order in which they are read


def percent(notebook: dict) -> str:
    """A notebook as a script in jupytext's percent format, which has no header."""
    cells = []
    for cell in notebook["cells"]:
        source, marker = "".join(cell["source"]), "# %%"
        if cell["cell_type"] == "markdown":
            source = "\n".join(f"# {line}".rstrip() for line in source.splitlines())
            marker = "# %% [markdown]"
        cells.append(f"{marker}\n{source}\n")
    return "\n".join(cells)


def test_each_script_has_a_notebook_and_nothing_else_is_there():
    scripts = {path.stem for path in NOTEBOOKS.glob("*.py")}
    assert scripts == {*NAMES, "common"}
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_script(name):
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    script = (NOTEBOOKS / f"{name}.py").read_text()
    # Two blank lines before a function, or one: that is ruff's, not the notebook's.
    lines, wanted = (
        [line for line in text.splitlines() if line] for text in (percent(notebook), script)
    )
    assert lines == wanted, "make notebooks"
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count"), "clear its outputs"


@pytest.mark.notebooks
def test_they_run(tmp_path):
    """In a copy without runs: the first trains, the others open what it left."""
    import nbformat
    from nbclient import NotebookClient

    folder = shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    env = environment(tmp_path / "cache", JAX_DISABLE_MOST_OPTIMIZATIONS=0)  # it computes, too
    for name in NAMES:
        notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
        client = NotebookClient(
            notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}
        )
        client.execute(env=env)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        said = "".join(output.get("text", "") for output in outputs)
        assert ("training the first" in said) == (name == NAMES[0])
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        assert len(pictures) >= 5
