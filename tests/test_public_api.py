"""The public interface: names, docstrings, keyword-only options, and imports in one process."""

import ast
import doctest
import importlib
import inspect
import re
import subprocess
import sys
import textwrap

import griffe
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, site_hooks

import air_jax
from air_jax import io, optimize

ROOMS = ("air_jax", *(f"air_jax.{room}" for room in ("losses", "metrics", "transforms", "optimize", "models", "io")))
# Parameters with a default that are no options, and those of `warp`, which users rely on.
POSITIONAL = {
    ("Registration.refine", "displacement"),
    ("compile_refine", "displacement"),
    ("refine", "displacement"),
    ("warp", "mode"),
    ("warp", "order"),
    ("without_model", "channels"),
}
HEAVY = (
    "tensorflow",
    "tensorflow_datasets",
    "orbax",
    "ml_collections",
    "matplotlib",
    "nibabel",
    "PIL",
    "SimpleITK",
    "scipy.ndimage",
    "tifffile",
)


def public_functions(room):
    """Functions of a room's `__all__` and public methods of its classes, by name."""
    module = importlib.import_module(room)
    found = {}
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) and value.__module__.startswith("air_jax"):
            for method, function in vars(value).items():
                inherited = method in vars(optimize.Field) and value is not optimize.Field
                if inspect.isfunction(function) and not method.startswith("_") and not inherited:
                    found[f"{name}.{method}"] = function
        elif inspect.isfunction(inspect.unwrap(value)):  # a jitted function is a wrapper
            found[name] = inspect.unwrap(value)
    return found


def sections(docstring):
    """Google-style sections of a docstring: `{"Args": text, ...}`, the text before them under ""."""
    parts = re.split(r"^(Args|Returns|Raises|Attributes|References?|Yields|Examples):$", docstring, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def offences(name, function):
    """Rules that the docstring or the signature of a function breaks."""
    docstring = inspect.getdoc(function)
    if not docstring:
        return ["no docstring"]
    found, parts = [], sections(docstring)
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    described = parts.get("Args", "")
    for parameter in parameters:
        if not re.search(rf"^\s*[\w*, ]*(?<!\w){parameter.name}(?!\w)[\w*, ]*:", described, flags=re.MULTILINE):
            found.append(f"Args lacks {parameter.name}")
        optional = parameter.default is not parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY
        if optional and (name, parameter.name) not in POSITIONAL:
            found.append(f"{parameter.name} has a default and is not keyword-only")
    returns = "Returns" in parts or docstring.startswith("Returns")
    if parameters and signature.return_annotation not in (None, "None") and not returns:
        found.append("no Returns")
    arrays = [each.name for each in parameters if re.search(r"\bArray\b|ndarray", str(each.annotation))]
    if arrays and not re.search(r"`\[|`\(|any shape|of one shape", described):
        found.append(f"no shape of {', '.join(arrays)}")
    if raises(function) and "Raises" not in parts:
        found.append(f"raises {', '.join(raises(function))} without Raises")
    return found


def raises(function):
    """Names of the errors for users that a function raises itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    return sorted(names & {"ValueError", "TypeError", "OptionError", "UserError"})


@pytest.mark.parametrize("room", ROOMS)
def test_functions_are_documented_and_their_options_keyword_only(room):
    report = [f"{name}: {offence}" for name, f in public_functions(room).items() for offence in offences(name, f)]
    assert not report, f"{room}\n" + "\n".join(report)


def test_rules_find_offences():
    def bad(image: "np.ndarray", order=1):
        """Does something.

        Args:
          image: of any kind.
        """
        if order > 1:
            raise ValueError("order")
        return image

    assert offences("bad", bad) == [
        "Args lacks order",
        "order has a default and is not keyword-only",
        "no Returns",
        "no shape of image",
        "raises ValueError without Raises",
    ]


def annotations(value):
    """Annotations of a class itself, without those of its bases."""
    own = inspect.get_annotations(value)
    return {name: kind for name, kind in own.items() if name not in ("parent", "name")}


@pytest.mark.parametrize("room", ROOMS)
def test_classes_describe_their_fields(room):
    module, report = importlib.import_module(room), []
    for name in module.__all__:
        value = getattr(module, name)
        if not inspect.isclass(value) or not value.__module__.startswith("air_jax"):
            continue
        docstring = inspect.getdoc(value) or ""
        if not vars(value).get("__doc__") or not docstring.split("\n")[0]:
            report.append(f"{name}: no docstring")
        fields = [each for each, kind in annotations(value).items() if "ClassVar" not in str(kind)]
        report += [
            f"{name}: Attributes lacks {each}"
            for each in fields
            if not each.startswith("_") and not re.search(rf"(?<!\w){each}(?!\w)", docstring)
        ]
    assert not report, f"{room}\n" + "\n".join(report)


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_resolve(room):
    module = importlib.import_module(room)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.slow
def test_every_public_name_has_an_example_that_runs(tmp_path, monkeypatch):
    """Runs the examples as the site shows them, in one folder; data has its docstring below its assignment."""
    monkeypatch.chdir(tmp_path)
    site, package, report = site_hooks(), griffe.load("air_jax", search_paths=[REPOSITORY]), []
    examples = {}
    for room in site.ROOMS:
        for name in site.public_names(f"air_jax.{room}".rstrip(".")):
            found = package[f"{room}.{name}".lstrip(".")]
            found = found.final_target if found.is_alias else found
            examples[found.path] = found.docstring.value if found.docstring else ""
    assert len(examples) > 100
    for name, docstring in examples.items():
        names = {"air_jax": air_jax, "jax": jax, "jnp": jnp, "np": np}
        example = doctest.DocTestParser().get_doctest(docstring, names, name, None, None)
        if not any(step.want for step in example.examples):
            report.append(f"{name}: no example with a result")
        doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "\n".join(report)


def in_new_process(program):
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


@pytest.mark.slow
def test_everything_is_reachable_after_a_light_import():
    program = f"""
import sys
import air_jax
for room in {[room.partition(".")[2] for room in ROOMS[1:]]}:
    getattr(air_jax, room).__all__
print(*[name for name in air_jax.__all__ if not hasattr(air_jax, name)])
print(*(set({HEAVY}) & set(sys.modules)))
air_jax.visualize.registration_figure, air_jax.data.load_dataset
"""
    assert in_new_process(program) == []


@pytest.mark.slow
def test_importing_every_module_does_not_rebind_public_names():
    program = f"""
import importlib, pkgutil
import air_jax
rooms = [importlib.import_module(room) for room in {ROOMS}]
before = [{{name: getattr(room, name) for name in room.__all__}} for room in rooms]
for module in pkgutil.walk_packages(air_jax.__path__, "air_jax."):
    importlib.import_module(module.name)
for room, names in zip(rooms, before):
    print(*[f"{{room.__name__}}.{{name}}" for name, value in names.items() if getattr(room, name) is not value])
"""
    assert in_new_process(program) == []
    assert all(callable(getattr(air_jax, name)) for name in ("load", "register_images", "warp", "without_model"))


def test_functions_show_their_parameters():
    assert [*inspect.signature(air_jax.warp).parameters] == ["image", "displacement", "order", "mode"]
    assert [*inspect.signature(air_jax.losses.lncc_loss).parameters] == ["fixed", "warped", "window", "weights"]
    assert (REPOSITORY / "air_jax" / "py.typed").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("main", "ml_collections", "train"),
        ("evaluate", "ml_collections", "train"),
        ("apply", "nibabel", "files"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(command, missing, extra, tmp_path):
    path = tmp_path / "a.nii.gz"
    io.write_field(path, np.zeros((4, 4, 4, 3), np.float32), np.eye(4))
    flags = dict(
        main=["--config=configs/digits.py"],
        evaluate=["--workdir=nowhere"],
        apply=[f"--transform={path}", f"--input={path}", f"--output={tmp_path / 'b.nii.gz'}"],
    )[command]
    program = f"""
import sys
sys.modules[{missing!r}] = None
sys.argv = ["air-jax", *{flags}]
import air_jax.{command}
air_jax.{command}.run()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2, done.stderr[-2000:]
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert extra in done.stderr
