"""The notebook runs from top to bottom on digits. Outside Colab its install cell does nothing."""

import re

import nbclient
import nbformat
import pytest
from helpers import REPOSITORY

pytestmark = pytest.mark.slow

PATH = REPOSITORY / "experiments" / "notebooks" / "air_mnist.ipynb"


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_the_notebook_runs_on_digits(tmp_path):
    notebook = nbformat.read(PATH, as_version=4)
    assert not outputs(notebook), "clear the notebook's outputs before committing it"
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert 'config_name = "mnist"' in parameters.source
    parameters.source = f'config_name = "digits"\nnum_train_steps = 100\nworkdir = "{tmp_path / "run"}"'
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) == 4  # three of the run, one of the learned template
    text = "".join(output.get("text", "") for output in outputs(notebook))
    first, last = map(float, re.search(r"template: ([\d.]+) at first, ([\d.]+) after", text).groups())
    assert last < 0.8 * first
