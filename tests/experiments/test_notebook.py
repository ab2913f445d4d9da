"""The notebook runs from top to bottom on digits. Outside Colab its install cell does nothing."""

import ast
import re

import nbclient
import nbformat
import pytest
from helpers import REPOSITORY

PATH = REPOSITORY / "experiments" / "notebooks" / "air_mnist.ipynb"


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def read():
    """Returns the notebook and its cell of parameters."""
    notebook = nbformat.read(PATH, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return notebook, parameters


def test_the_notebook_is_valid_and_has_no_outputs():
    notebook, parameters = read()
    nbformat.validate(notebook)
    assert not outputs(notebook), "clear the notebook's outputs before committing it"
    assert 'config_name = "mnist"' in parameters.source
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", cell.source, flags=re.MULTILINE))


@pytest.mark.slow
@pytest.mark.thorough  # half a minute of another process
def test_the_notebook_runs_on_digits(tmp_path):
    notebook, parameters = read()
    parameters.source = f'config_name = "digits"\nnum_train_steps = 100\nworkdir = "{tmp_path / "run"}"'
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) == 4  # three of the run, one of the learned template
    text = "".join(output.get("text", "") for output in outputs(notebook))
    first, last = map(float, re.search(r"template: ([\d.]+) at first, ([\d.]+) after", text).groups())
    assert last < 0.8 * first
