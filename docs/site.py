"""Hooks of MkDocs: the pages outside of docs/, code that pages link to, and the API.

A page's links are those of the repository, so that they work on GitHub. Here they become links of the site: a page,
picture or file outside of docs/ that some page links to is added, code as a page that shows it.
"""

import ast
import configparser
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("", "registration", "losses", "metrics", "transforms", "optimize", "models", "io", "data", "visualize")
LANGUAGES = {".py": "python", ".cfg": "ini", ".yml": "yaml", ".cff": "yaml", "": "text", ".txt": "text"}
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
ITEM = re.compile(r"^( *)(?:[-*]|\d+\.) ")

_sources = {}  # page of the site: its file in the repository


def on_config(config):
    """Takes the repository's address from setup.cfg, where there is one."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    config.repo_url = setup["metadata"].get("url") or None
    config.edit_uri = ""
    return config


def on_files(files, config):
    """Adds the API, and everything outside of docs/ to which a page leads, page by page."""
    for room in ROOMS:
        name = f"air_jax.{room}".rstrip(".")
        files.append(File.generated(config, _api_page(name), content=api_page(name)))
    new = [file.src_uri for file in files.documentation_pages() if (REPOSITORY / "docs" / file.src_uri).exists()]
    _sources.update({uri: f"docs/{uri}" for uri in new})
    pages = [REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "experiments").rglob("*.md"))]
    new += [_add(files, config, path.relative_to(REPOSITORY).as_posix()) for path in pages]
    while new:
        source = _sources[new.pop()]
        if source.endswith(".md"):
            targets = {_target(source, link) for link in LINK.findall(FENCE.sub("", (REPOSITORY / source).read_text()))}
            new += [uri for target in sorted(targets - {None}) if (uri := _add(files, config, target))]
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes the page's links those of the site, and its lists those of Python-Markdown."""
    source = _sources.get(page.file.src_uri)
    if source is None or not source.endswith(".md"):
        return markdown
    return outside_fences(lambda text: _lists(LINK.sub(lambda link: _site_link(source, link[1]), text)), markdown)


def api_page(name):
    """Returns the page of a room: its public names, in the order of its imports."""
    members = "".join(f"::: {name}.{member}\n\n" for member in public_names(name))
    names = "Examples use `import air_jax, jax`, `import jax.numpy as jnp` and `import numpy as np`.\n\n"
    options = "{members: [], show_root_heading: false, show_root_toc_entry: false, show_source: false}"
    return f"# {name}\n\n::: {name}\n    options: {options}\n\n{names}{members}"


def public_names(name):
    """Returns the names of `__all__` of a package, in the order in which its modules import them."""
    tree = ast.parse((REPOSITORY / name.replace(".", "/") / "__init__.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    order = [alias.asname or alias.name for node in imports for alias in node.names]
    (names,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"]
    names = ast.literal_eval(names)
    rooms = {room for room in ROOMS if name == "air_jax"} | {"__version__"}
    return sorted(set(names) - rooms, key=lambda name: (order.index(name) if name in order else len(order), name))


def outside_fences(change, markdown):
    """Applies a change to the text of a page between its fences of code."""
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def _api_page(name):
    return "api/index.md" if name == "air_jax" else f"api/{name.split('.')[1]}.md"


def _target(source, link):
    """The file of the repository to which a page's link leads; None for another page's address or an anchor."""
    path = link.partition("#")[0]
    if not path or re.match(r"\w+:", path):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    return f"{target}/README.md" if (REPOSITORY / target).is_dir() else target


def _site_uri(target):
    """The place of a file of the repository in the site's sources."""
    if target == "README.md":
        return "index.md"
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"code/{target}.md" if Path(target).suffix in LANGUAGES else target


def _site_link(source, link):
    target = _target(source, link)
    if target is None:
        return link
    here = {place: uri for uri, place in _sources.items()}[source]
    _, hash, anchor = link.partition("#")
    return posixpath.relpath(_site_uri(target), posixpath.dirname(here) or ".") + hash + anchor


def _add(files, config, target):
    """Adds a file of the repository to the site; returns its place there, None where it is there already."""
    uri = _site_uri(target)
    path = REPOSITORY / target
    if files.get_file_from_path(uri) or not (path.exists() or path.name == "README.md"):
        return None
    if not path.exists():  # a folder without a page: its files
        inside = [file.relative_to(REPOSITORY).as_posix() for file in sorted(path.parent.iterdir()) if file.is_file()]
        links = [(Path(file).name, posixpath.relpath(_site_uri(file), posixpath.dirname(target))) for file in inside]
        text = f"# {path.parent.name}\n\n" + "".join(f"- [{name}]({link})\n" for name, link in links)
        for file in inside:
            _add(files, config, file)
        files.append(File.generated(config, uri, content=text))
        return None
    if uri.startswith("code/"):
        text = f"# {target}\n\n````{LANGUAGES[path.suffix]}\n{path.read_text()}````\n"
        files.append(File.generated(config, uri, content=text))
    else:
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    _sources[uri] = target
    return uri


def _lists(text):
    """Python-Markdown's lists: an empty line before the first item, four spaces for each level."""
    lines = []
    for line in text.split("\n"):
        item = ITEM.match(line)
        before = lines[-1] if lines else ""
        if item and not item[1] and before.strip() and not ITEM.match(before) and not before.startswith("  "):
            lines.append("")
        lines.append(re.sub("^ +", lambda spaces: " " * 4 * -(-len(spaces[0]) // 3), line) if item else line)
    return "\n".join(lines)
