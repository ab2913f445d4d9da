"""The direction of imports inside the package, and the sizes of its files, as DESIGN.md section 4 fixes them."""

import ast
import configparser
import re

from helpers import REPOSITORY
from thorough_cases import THOROUGH_CASES

PACKAGE = REPOSITORY / "air_jax"

# A room is a folder, or a file at the package's root. Every module may import its own room, and those of `EVERYWHERE`.
MAY_IMPORT = {
    "errors": set(),
    "checks": set(),
    "_version": set(),
    "runtime": set(),
    "io": set(),
    "transforms": {"runtime"},
    "losses": {"transforms", "runtime"},
    "metrics": {"transforms", "runtime"},
    "models": {"transforms", "runtime"},
    "optimize": {"transforms", "losses", "runtime"},
    "data": {"io", "transforms", "runtime"},
    "visualize": {"transforms", "metrics"},
    "workdir": {"models", "losses", "optimize", "runtime"},
    "registration": {"models", "losses", "optimize", "transforms", "workdir", "runtime"},
}
LIBRARY = {"transforms", "losses", "metrics", "models", "optimize", "io", "data", "visualize", "runtime", "workdir"}
MAY_IMPORT["__init__"] = LIBRARY | {"registration"}
MAY_IMPORT["file_registration"] = LIBRARY | {"registration", "file_transforms"}
MAY_IMPORT["file_transforms"] = LIBRARY
MAY_IMPORT["file_batches"] = LIBRARY | {"registration", "file_registration"}
MAY_IMPORT["file_series"] = LIBRARY | {"registration", "file_registration"}
MAY_IMPORT["file_templates"] = LIBRARY | {"registration", "file_registration"}
MAY_IMPORT["training"] = LIBRARY | {"registration"}
COMMAND_MAY_IMPORT = LIBRARY | {"registration", "file_registration", "file_transforms", "training"}
COMMAND_MAY_IMPORT |= {"file_batches", "file_series", "file_templates"}
EVERYWHERE = {"errors", "checks", "_version"}

ONLY_FILE_THAT_SAYS = {"pmap": "runtime/parallel.py", "orbax": "workdir/checkpoint.py"}

MAX_LINES, MAX_COMMAND_LINES = 300, 90
LONGER_FILES = {}  # path: reason


def python_files():
    """Paths below the package, as `room/file.py`, with the text of each file."""
    return {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def module_of(path):
    """`air_jax.room.file` of `room/file.py`; `air_jax.room` of `room/__init__.py`."""
    return ".".join(["air_jax", *path.removesuffix(".py").removesuffix("__init__").strip("/").split("/")]).rstrip(".")


def room_of(module):
    """`room` of `air_jax.room.file`; `__init__` of `air_jax`."""
    return module.split(".")[1] if "." in module else "__init__"


def imported_modules(text, modules):
    """Modules of the package that a file imports, inside functions also; `if TYPE_CHECKING` counts."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "air_jax")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module.split(".")[0] == "air_jax":
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from (name if name in modules else node.module for name in names)


def graph():
    """The modules that each module imports."""
    files = python_files()
    modules = {module_of(path) for path in files}
    found = {module_of(path): set(imported_modules(text, modules)) for path, text in files.items()}
    return {module: targets - {module} for module, targets in found.items()}


def room_graph():
    """The other rooms that each room imports."""
    edges = {room_of(module): set() for module in graph()}
    for module, targets in graph().items():
        edges[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    return edges


def is_command(path, text):
    """A file at the root that can be run."""
    return "/" not in path and 'if __name__ == "__main__"' in text


def commands():
    return {path.removesuffix(".py") for path, text in python_files().items() if is_command(path, text)}


def cycle(edges):
    """Nodes on a circular path of a graph, in order; empty without one."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        found = next((found for target in sorted(edges[node]) if (found := visit(target))), [])
        path.pop()
        done.add(node)
        return found

    return next((found for node in sorted(edges) if (found := visit(node))), [])


def test_every_room_is_in_the_table():
    rooms = {room_of(module) for module in graph()}
    assert rooms == set(MAY_IMPORT) | commands(), "update the table with DESIGN.md section 4"


def test_every_room_imports_only_the_rooms_of_its_row():
    offenders = []
    for module, imported in graph().items():
        room = room_of(module)
        allowed = MAY_IMPORT.get(room, COMMAND_MAY_IMPORT) | EVERYWHERE | {room}
        offenders += [f"{module} imports {target}" for target in sorted(imported) if room_of(target) not in allowed]
    assert not offenders, "\n".join([f"{len(offenders)} imports in the wrong direction:", *offenders])


def test_setup_cfg_lists_every_folder_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    assert listed == {module_of(path) for path in python_files() if path.endswith("__init__.py")} | {"air_jax.configs"}


def test_rooms_of_functions_and_models_import_nothing_of_runs():
    edges = room_graph()
    for room in ("transforms", "losses", "metrics", "models"):
        reached, new = set(), {room}
        while new:
            reached |= new
            new = {target for name in new for target in edges[name]} - reached
        assert not reached & {"training", "workdir", "file_registration", "file_transforms"}, room


def test_neither_rooms_nor_modules_import_in_a_circle():
    for edges in (MAY_IMPORT, room_graph(), graph()):
        assert not (found := cycle(edges)), " -> ".join(found)


def test_a_circle_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_found_inside_functions_and_by_name_of_the_room():
    text = "import numpy\nfrom air_jax import io, warp\ndef f():\n    from air_jax.io.image import read_image"
    found = list(imported_modules(text, {"air_jax", "air_jax.io", "air_jax.io.image"}))
    assert sorted(found) == ["air_jax", "air_jax.io", "air_jax.io.image"]


def test_some_words_are_said_in_one_file_only():
    for word, only in ONLY_FILE_THAT_SAYS.items():
        files = [path for path, text in python_files().items() if re.search(rf"\b{word}\b", text)]
        assert files == [only], f"{word}: {files}"


def test_the_root_holds_commands_and_at_most_four_other_files():
    others = {path for path, text in python_files().items() if "/" not in path and not is_command(path, text)}
    assert len(others) <= 4, sorted(others)
    assert {"main", "evaluate", "register"} <= commands()


def test_files_are_short():
    offenders = []
    for path, text in python_files().items():
        limit = MAX_COMMAND_LINES if is_command(path, text) else MAX_LINES
        if (lines := len(text.splitlines())) > limit and path not in LONGER_FILES:
            offenders.append(f"{path}: {lines} lines, the limit is {limit}")
    assert not offenders, "\n".join(offenders)
    assert set(LONGER_FILES) <= set(python_files()), "a file of this list is gone"


def test_thorough_cases_are_tests():
    for path, cases in THOROUGH_CASES.items():
        text = (REPOSITORY / "tests" / path).read_text()
        for case in cases:
            assert f"def {case.split('[')[0]}" in text, f"{path} has no {case}"
