"""The pages that people read: links, sizes, commands, config keys and code."""

import configparser
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from helpers import REPOSITORY, THOROUGH, site_hooks

import air_jax
from air_jax import io
from air_jax.file_registration.run import Options, register_files
from air_jax.losses import make_objective
from air_jax.models import MODELS, SEGMENTERS
from air_jax.optimize import DenseField
from air_jax.runtime import command_line
from air_jax.training import watch
from air_jax.workdir.defaults import default_config

README, DOCS = REPOSITORY / "README.md", sorted((REPOSITORY / "docs").glob("*.md"))
GUIDES = [README, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md", *DOCS]
PAGES = [*GUIDES, *sorted((REPOSITORY / "experiments").rglob("*.md"))]
# `run` and `file` begin a story, `continue` goes on with it. `run given X` runs it where X is, see `GIVEN`.
# `run thorough` is for one that takes more than three seconds.
MARK = r"(?:<!-- (run(?: thorough)?(?: given \w+)?|continue|file \S+) -->\n)"
FENCE = re.compile(rf"^{MARK}?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Flags that make a story's training short.
SHORTER = {"train": ["--config.num_train_steps=2", "--config.log_every=1", "--config.eval_every=2"]}


def name_of(path):
    return str(path.relative_to(REPOSITORY))


def prose_of(path):
    """The page without its fences of code."""
    return FENCE.sub("", path.read_text())


def fences(language):
    """The fences of code in this language: page, the mark before it, code."""
    return [
        (path, match[1], match[3])
        for path in PAGES
        for match in FENCE.finditer(path.read_text())
        if match[2] == language
    ]


def anchors_of(path):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s]+)\)", prose_of(path))
    for link in [link for link in links if not link.startswith(("http://", "https://"))]:
        target, _, anchor = link.partition("#")
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), link
        assert not anchor or anchor in anchors_of(linked), link


def test_the_repository_has_one_address():
    """The address is `url` of setup.cfg. Without it no page leads to a placeholder; with it all name the same."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    address = setup["metadata"].get("url", "").removeprefix("https://github.com/")
    pages = [*PAGES, REPOSITORY / "CITATION.cff", *sorted((REPOSITORY / "experiments" / "notebooks").glob("*.ipynb"))]
    mention = r"(?:github(?:\.com)?/|REPOSITORY = \W*)([\w-]+/air_jax)\b"
    found = {name_of(path): set(re.findall(mention, path.read_text())) for path in pages}
    named = {name: mentions for name, mentions in found.items() if mentions}
    if address:
        needed = {name for name in found if name in ("README.md", "CITATION.cff") or name.endswith(".ipynb")}
        assert needed <= set(named)
        assert {name: mentions for name, mentions in named.items() if mentions != {address}} == {}
    else:
        assert named == {}


def test_version_changelog_and_citation_agree():
    released = re.findall(r"^## (\d+\.\d+\.\d+)\b", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    (cited,) = re.findall(r"^version: (\S+)$", (REPOSITORY / "CITATION.cff").read_text(), re.MULTILINE)
    assert released[0] == cited == air_jax.__version__


def test_the_site_shows_every_public_name_and_every_page():
    site = site_hooks()
    navigation = (REPOSITORY / "mkdocs.yml").read_text()
    for room in site.ROOMS:
        name = f"air_jax.{room}".rstrip(".")
        names = set(importlib.import_module(name).__all__) - {*site.ROOMS, "__version__"}
        assert names == set(re.findall(rf"^::: {name}\.(\w+)$", site.api_page(name), re.MULTILINE))
        assert f"api/{room or 'index'}.md" in navigation
    for path in DOCS:
        assert path.name == "package.md" or f" {path.name}\n" in navigation, f"mkdocs.yml: nav lacks {path.name}"


def test_the_readme_is_short():
    assert len(README.read_text().split()) <= 900


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_paragraphs_have_at_most_five_lines(path):
    for paragraph in re.split(r"\n\s*\n", prose_of(path)):
        lines = [line for line in paragraph.splitlines() if not line.startswith(("|", "!["))]
        items = re.split(r"^ *(?:-|\d+\.) ", "\n".join(lines), flags=re.MULTILINE)
        assert all(len(item.strip().splitlines()) <= 5 for item in items), paragraph


@pytest.mark.parametrize("path", GUIDES, ids=name_of)
def test_table_cells_have_at_most_twelve_words(path):
    for row in [line for line in prose_of(path).splitlines() if line.startswith("|")]:
        assert all(len(cell.split()) <= 12 for cell in re.split(r"(?<!\\)\|", row)), row


def test_every_config_key_exists():
    known = set()

    def collect(section, prefix=""):
        for key, value in section.items():
            known.add(prefix + key)
            if hasattr(value, "items"):
                collect(value, f"{prefix}{key}.")

    for model in MODELS | SEGMENTERS:
        collect(default_config(model))
    sections = {key for key in known if "." not in key}
    for path in PAGES:
        if path.name in ("CHANGELOG.md", "CONTRIBUTING.md", "notebook.md"):  # keys of older versions and of examples
            continue
        text = path.read_text()
        named = re.findall(r"--config\.([a-z_.]+)", text)
        quoted = re.findall(r"`([a-z]+\.[a-z_]+)(?:=[^`]*)?`", text)
        named += [
            key for key in quoted if key.split(".")[0] in sections and not key.endswith((".json", ".safetensors"))
        ]
        assert set(named) <= known, f"{name_of(path)}: {set(named) - known}"


@pytest.mark.parametrize(("path", "_", "code"), fences("sh"), ids=lambda value: getattr(value, "name", ""))
def test_commands_name_modules_and_configs_that_exist(path, _, code):
    del path
    for module in re.findall(r"python -m (\S+)", code):
        assert importlib.util.find_spec(module), module
    for config in re.findall(r"--config=(\S+\.py)", code):
        assert "$" in config or "/" not in config or (REPOSITORY / config).exists(), config  # a file of the page


@pytest.mark.parametrize("path", [REPOSITORY / "docs/paper.md", REPOSITORY / "docs/architecture.md"], ids=name_of)
def test_files_of_the_code_exist(path):
    named = re.findall(r"`([\w/]+(?:\.py|/))`", path.read_text())
    assert named
    for file in named:
        assert (REPOSITORY / file).exists() or (REPOSITORY / "air_jax" / file).exists(), file


def test_python_compiles():
    found = fences("python")
    assert len(found) > 5
    for path, _, code in found:
        compile(code, name_of(path), "exec")


def test_every_block_of_python_runs():
    assert [f"{name_of(path)}: {code.splitlines()[0]}" for path, mark, code in fences("python") if not mark] == []


def stories():
    """The stories: page, mark of the first block, name of what is given or None, and blocks `[(language, code)]`."""
    found = []
    for path in PAGES:
        for mark, language, code in [match.groups() for match in FENCE.finditer(path.read_text()) if match[1]]:
            if mark != "continue":
                found.append((path, mark, mark.partition(" given ")[2] or None, []))
            found[-1][3].append((mark.removeprefix("file ") if mark.startswith("file ") else language, code))
    return found


def pair(shape):
    """A box, and the same moved by one voxel along the first axis, float32 in [0, 1]."""
    image = np.zeros(shape, np.float32)
    image[tuple(slice(size // 4, size // 4 + size // 2) for size in shape)] = 1
    return {"fixed": image, "moving": np.roll(image, 1, axis=0)}


def given_run(request):
    """Two arrays, and a finished run of the paper's model."""
    Path("runs").mkdir()
    Path("runs/mnist").symlink_to(request.getfixturevalue("finished_run"))
    return pair((28, 28))


def given_arrays(request):
    """Two 2-D arrays."""
    del request
    return pair((32, 32))


def given_files(request):
    """A volume and a field."""
    del request
    io.write_image("image.nii.gz", pair((6, 7, 8))["fixed"], np.eye(4))
    io.write_field("warp.nii.gz", np.zeros((6, 7, 8, 3), np.float32), np.eye(4))
    return {}


def given_result(request):
    """The folder of a registration of two volumes, the volumes, a segmentation and points."""
    del request
    volumes = pair((16, 18, 20))
    for name, array in volumes.items():
        io.write_image(f"{name}.nii.gz", array, np.diag([2.0, 1.0, 1.5, 1.0]))
    io.write_segmentation("labels.nii.gz", volumes["moving"].astype(np.uint8), np.diag([2.0, 1.0, 1.5, 1.0]))
    steps = {"affine": "translation", "refine_steps": 4}
    register_files(Options(Path("fixed.nii.gz"), Path("moving.nii.gz"), Path("registered"), **steps))
    return {}


def given_ants(request):
    """What `given_result` makes, where ANTs is."""
    pytest.importorskip("ants")
    return given_result(request)


def given_model(request):
    """The folder of a saved model that is not trained, and two arrays."""
    del request
    model, image = air_jax.AiR(patch_size=4), np.zeros((1, 8, 8, 1), np.float32)
    params = jax.jit(model.init)(jax.random.key(0), image, image)["params"]
    settings = (8, 8, 1), 0, make_objective("mse"), DenseField()
    air_jax.Registration(model, params, *settings).save_pretrained("saved", name="untrained", data="None.")
    return pair((8, 8))


def given_wandb(request):
    """A package that only has the names of Weights & Biases."""
    request.getfixturevalue("monkeypatch").setitem(sys.modules, "wandb", mock.MagicMock())
    request.getfixturevalue("monkeypatch").setattr(watch, "WATCHES", dict(watch.WATCHES))
    return {}


GIVEN = {name.removeprefix("given_"): value for name, value in list(globals().items()) if name.startswith("given_")}


def cost(mark, blocks):
    """Marks of a story: one with commands trains and compiles as users do."""
    thorough = "thorough" in mark or any(language == "sh" for language, _ in blocks)
    return THOROUGH if thorough else (pytest.mark.slow,)


@pytest.mark.parametrize(
    ("path", "given", "blocks"),
    [pytest.param(path, *rest, marks=cost(mark, rest[1]), id=name_of(path)) for path, mark, *rest in stories()],
)
def test_marked_code_runs(path, given, blocks, tmp_path, monkeypatch, request):
    """Runs a story in one folder and one namespace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    namespace = {} if given is None else GIVEN[given](request)
    for language, code in blocks:
        if language == "python":
            exec(compile(code, name_of(path), "exec"), namespace)
            continue
        if language != "sh":  # the name of a file
            (tmp_path / language).write_text(code)
            continue
        for line in code.replace("\\\n", " ").splitlines():
            program, command, *flags = shlex.split(line, comments=True)
            assert program == "air-jax", line
            module = f"air_jax.{command_line.COMMANDS[command]}"
            subprocess.run([sys.executable, "-m", module, *flags, *SHORTER.get(command, ())], check=True)
