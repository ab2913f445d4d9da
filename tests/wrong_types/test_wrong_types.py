"""Arguments of a wrong type: every public function, each of its arguments, and a dozen wrong values.

Each of them must end in an error of one line that names the argument and comes from our own files.
"""

import functools
import importlib
import inspect
import re
import traceback
from pathlib import Path

import jax
import pytest
from array_rows import of_losses, of_metrics, of_transforms
from file_rows import of_data, of_io, of_visualize
from registration_rows import of_models, of_optimize, of_registration
from wrong_type_rows import WITHOUT, WRONG

import air_jax

ROOMS = ("transforms", "losses", "metrics", "optimize", "models", "registration", "io", "data", "visualize")
PACKAGE = str(Path(air_jax.__file__).parent)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong_types")
    rows = of_transforms() | of_losses() | of_metrics() | of_optimize() | of_models() | of_visualize()
    return rows | of_registration(folder) | of_io(folder) | of_data(folder)


def public_names():
    for room in ("air_jax", *(f"air_jax.{room}" for room in ROOMS)):
        module = importlib.import_module(room)
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and getattr(value, "__module__", "").startswith("air_jax"):
                yield name


def test_every_public_name_has_a_row(table):
    assert set(public_names()) == set(WITHOUT) | {name for name in table if "." not in name}


def bound(row):
    """The arguments of a row's valid call by name, and those that can be replaced."""
    signature = inspect.signature(row.function)
    given = signature.bind(*row.arguments, **row.keywords)
    named = dict(given.arguments)
    names = [each.name for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    for each in signature.parameters.values():
        if each.kind is each.VAR_KEYWORD:
            further = named.pop(each.name, {})
            named |= further
            names += further
    flax = hasattr(row.function, "apply")
    return named, [name for name in names if not (flax and name in ("parent", "name")) and name != "module"]


def allowed(row, name):
    """The names of the wrong values that an argument may have."""
    parameter = inspect.signature(row.function).parameters.get(name)
    default = None if parameter is None else parameter.default
    free = set(row.allows.get(name, "").split())
    free |= {"none"} if parameter is not None and default is None else set()
    return free | ({"true"} if isinstance(default, bool) else set())


def offence(row, arguments, name):
    """What is wrong with the end of a call with a wrong value of an argument; None where nothing is."""
    try:
        row.function(**arguments)
    except (air_jax.UserError, ValueError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not last.filename.startswith(PACKAGE):
            return f"{type(error).__name__} from {last.filename}: {str(error)[:90]!r}"
        if len(str(error).splitlines()) != 1:
            return f"more than one line: {str(error)[:90]!r}"
        # Of a text that is no name or no file, the text itself will do.
        word = arguments[name] if arguments[name] is WRONG["word"] else name
        named = re.search(rf"(?<!\w)({name}|{word})(?!\w)", str(error)) is not None
        return None if named else f"does not name it: {str(error)[:120]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:90]!r}"
    return "accepted"


NAMES = sorted({*public_names()} - set(WITHOUT))


def test_wrong_values_end_in_one_line_that_names_the_argument(table):
    report, count = [], 0
    for function, row in table.items():
        named, names = bound(row)
        call = functools.partial(row.function, **named)
        jax.eval_shape(call) if row.traced else call()
        for name in names:
            for kind in WRONG.keys() - allowed(row, name):
                count += 1
                found = offence(row, {**named, name: WRONG[kind]}, name)
                if found:
                    report.append(f"{function} {name}={kind}: {found}")
    assert not report, f"{len(report)} of {count}\n" + "\n".join(sorted(report))
