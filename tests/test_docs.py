"""The pages that people read: links, sizes, commands, config keys and code."""

import configparser
import importlib.util
import re
import shlex
import subprocess
import sys

import pytest
from helpers import REPOSITORY, THOROUGH, site_hooks

import air_jax
from air_jax.models import MODELS, SEGMENTERS
from air_jax.runtime import command_line
from air_jax.workdir.defaults import default_config

README, DOCS = REPOSITORY / "README.md", sorted((REPOSITORY / "docs").glob("*.md"))
GUIDES = [README, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md", *DOCS]
PAGES = [*GUIDES, *sorted((REPOSITORY / "experiments").rglob("*.md"))]
FENCE = re.compile(r"^(?:<!-- (run|continue|file \S+) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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
    found = {
        name_of(path): set(re.findall(r"(?:github(?:\.com)?/|REPOSITORY = \W+)([\w-]+/air_jax)\b", path.read_text()))
        for path in pages
    }
    if address:
        assert {"README.md", "CITATION.cff"} <= {name for name, mentions in found.items() if mentions}
        assert {name: mentions for name, mentions in found.items() if mentions - {address}} == {}
    else:  # a notebook's variable is no link: it is used in Colab only, where nobody comes without the badge
        assert {name: mentions for name, mentions in found.items() if mentions and not name.endswith(".ipynb")} == {}


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


def stories():
    """The stories of each page: a fence marked `run`, and those marked `continue` after it, `[(language, code)]`."""
    found = []
    for path in PAGES:
        for mark, language, code in [match.groups() for match in FENCE.finditer(path.read_text()) if match[1]]:
            if mark != "continue":
                found.append((path, []))
            found[-1][1].append((mark.removeprefix("file ") if mark.startswith("file ") else language, code))
    return found


def cost(blocks):
    """Marks of a story: one with commands trains and compiles as users do."""
    return THOROUGH if any(language == "sh" for language, _ in blocks) else (pytest.mark.slow,)


@pytest.mark.parametrize(
    ("path", "blocks"), [pytest.param(*story, marks=cost(story[1]), id=name_of(story[0])) for story in stories()]
)
def test_marked_code_runs(path, blocks, tmp_path, monkeypatch):
    """Runs a story in one folder and one namespace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    namespace = {}
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
