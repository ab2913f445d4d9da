"""The notebooks run from top to bottom without a download. Outside Colab their install cell does nothing."""

import ast
import json
import re

import nbclient
import nbformat
import numpy as np
import pytest
from helpers import REPOSITORY

from air_jax.io import read_image

FOLDER = REPOSITORY / "experiments" / "notebooks"


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def read(name):
    """Returns the notebook and its cell of parameters."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return notebook, parameters


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.ipynb")))
def test_a_notebook_is_valid_and_has_no_outputs(name):
    notebook, _ = read(name)
    nbformat.validate(notebook)
    assert not outputs(notebook), "clear the notebook's outputs before committing it"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", cell.source, flags=re.MULTILINE))


def execute(name, folder, source=""):
    """Runs a notebook with further lines in its cell of parameters; returns its text and its number of pictures."""
    notebook, parameters = read(name)
    parameters.source += f"\n{source}"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    printed = outputs(notebook)
    pictures = sum("image/png" in output.get("data", {}) for output in printed)
    return "".join(output.get("text", "") for output in printed if output.get("name") == "stdout"), pictures


@pytest.mark.slow
@pytest.mark.thorough  # a minute of another process each
@pytest.mark.parametrize(
    ("name", "source", "num_pictures", "improves"),
    [
        ("attention", "", 2, r"squared difference ([\d.]+), folds[\s\S]*fine-tuned: .* difference ([\d.]+)"),
        ("air_in_your_model", "", 2, r"NNX: loss ([\d.]+) at first, ([\d.]+) at last"),
        ("train_on_your_folder", "num_train_steps = 200", 3, r"squared difference ([\d.]+), fine-tuned ([\d.]+)"),
    ],
)
def test_a_notebook_runs_without_a_download(tmp_path, name, source, num_pictures, improves):
    text, pictures = execute(f"{name}.ipynb", tmp_path, source)
    assert pictures == num_pictures
    before, after = map(float, re.search(improves, text).groups())
    assert after < before, text
    assert "the same result: False" not in text


@pytest.mark.slow
@pytest.mark.thorough  # half a minute of another process
def test_the_notebook_runs_on_digits(tmp_path):
    notebook, parameters = read("air_mnist.ipynb")
    parameters.source = f'config_name = "digits"\nnum_train_steps = 100\nworkdir = "{tmp_path / "run"}"'
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(pictures) == 4  # three of the run, one of the learned template
    text = "".join(output.get("text", "") for output in outputs(notebook))
    first, last = map(float, re.search(r"template: ([\d.]+) at first, ([\d.]+) after", text).groups())
    assert last < 0.8 * first


@pytest.mark.slow
@pytest.mark.thorough  # a minute of another process
@pytest.mark.parametrize("source", ["sample 2-D", "sample 3-D"])
def test_own_images_are_registered(tmp_path, source):
    notebook, parameters = read("register_your_images.ipynb")
    assert 'source = "sample 2-D"' in parameters.source
    parameters.source += f'\nsource, folder = "{source}", "{tmp_path / "registered"}"'
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for output in outputs(notebook)]
    assert sum("image/png" in data for data in shown) == 2  # the report, and what moved along
    assert any("Moving image" in data.get("text/html", "") for data in shown)  # the page
    scores = json.loads((tmp_path / "registered" / "out" / "scores.json").read_text())
    assert scores["after"]["ncc_overlap"] > 0.97 > scores["before"]["ncc_overlap"]
    labels = {path.stem.split(".")[0]: read_image(path).array for path in (tmp_path / "registered").glob("*labels*")}
    assert set(np.unique(labels["moved_labels"])) == {0, 1, 2, 3}
