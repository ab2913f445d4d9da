"""Changes one operator or number of transforms, losses and metrics at a time, and counts the changes that tests notice.

  python -m experiments.reliability.mutation --number=60 --output=mutation.json

Mutants are drawn with a seed from all arithmetic, comparisons, conditions and numbers outside of messages. Each runs
the tests of its module in a forked child, the quick ones first, until one fails. A mutant that needs more than
`SECONDS` of processor time is noticed, and counted also as `time`. The same command goes on where it ended.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 180
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
TESTS = {
    "transforms/affine": "transforms/test_affine_maps.py",
    "transforms/bsplines": "transforms/test_bsplines.py",
    "transforms/displacement": "transforms/test_displacement.py transforms/test_affine_maps.py",
    "transforms/filters": "transforms/test_filters.py",
    "transforms/grid": "transforms/test_displacement.py",
    "transforms/intensity": "transforms/test_intensity.py",
    "transforms/inversion": "transforms/test_inverse.py",
    "transforms/jacobian": "transforms/test_jacobian.py metrics/test_folding_scores.py",
    "transforms/shapes": "losses/test_similarities.py metrics/test_image_scores.py metrics/test_folding_scores.py",
    "transforms/spaces": "transforms/test_spaces.py",
    "transforms/sampling/cells": "transforms/test_gather_scatter.py transforms/test_sampler.py",
    "transforms/sampling/gather_scatter": "transforms/test_gather_scatter.py transforms/test_sampling_derivative.py",
    "transforms/sampling/gather_scatter_gpu": "transforms/test_gather_scatter.py",
    "transforms/sampling/interpolation": "transforms/test_sampler.py transforms/test_sampling_derivative.py",
    "transforms/sampling/nearest": "transforms/test_sampler.py",
    "losses/channels": "losses/test_channels.py",
    "losses/consistency": "losses/test_consistency.py",
    "losses/correlation": "losses/test_similarities.py losses/test_weights.py",
    "losses/information": "losses/test_similarities.py losses/test_weights.py",
    "losses/mind": "losses/test_similarities.py losses/test_weights.py",
    "losses/objective": "losses/test_objective.py losses/test_weights.py",
    "losses/overlap": "losses/test_overlap.py losses/test_weights.py",
    "losses/regularization": "losses/test_regularization.py",
    "losses/similarity": "losses/test_similarities.py losses/test_weights.py",
    "losses/windows": "losses/test_similarities.py losses/test_weights.py",
    "metrics/folding": "metrics/test_folding_scores.py",
    "metrics/images": "metrics/test_image_scores.py",
    "metrics/landmarks": "metrics/test_segmentation_scores.py",
    "metrics/segmentations": "metrics/test_segmentation_scores.py",
    "metrics/surfaces": "metrics/test_segmentation_scores.py",
}


class _Mutator(ast.NodeTransformer):
    """Counts the places that can be changed, and changes the one of a number."""

    def __init__(self, chosen: int = -1):
        self.chosen, self.count, self.what = chosen, 0, ""

    def _here(self, node: ast.AST) -> bool:
        self.count += 1
        return self.count - 1 == self.chosen

    def _swap(self, node, old: ast.AST):
        if type(old) in SWAPS and self._here(node):
            self.what = f"line {node.lineno}: {type(old).__name__} becomes {SWAPS[type(old)].__name__}"
            return SWAPS[type(old)]()
        return old

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        node.op = self._swap(node, node.op)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        node.op = self._swap(node, node.op)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        node.ops[0] = self._swap(node, node.ops[0])
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, (int, float)) and not isinstance(node.value, bool) and self._here(node):
            self.what = f"line {node.lineno}: {node.value} becomes {node.value + 1}"
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, (ast.Not, ast.USub)) and self._here(node):
            self.what = f"line {node.lineno}: {type(node.op).__name__} is left out"
            return node.operand
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node


def num_mutants(module: str) -> int:
    """Returns the number of mutants of a module, such as "losses/mind"."""
    counter = _Mutator()
    counter.visit(_tree(module))
    return counter.count


def mutated(module: str, number: int) -> tuple[ast.Module, str]:
    """Returns a mutant's code, and what was changed."""
    mutator = _Mutator(number)
    tree = mutator.visit(copy.deepcopy(_tree(module)))
    return ast.fix_missing_locations(tree), mutator.what


def _tree(module: str) -> ast.Module:
    return ast.parse((ROOT / "air_jax" / f"{module}.py").read_text(encoding="utf-8"))


class _Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed code."""

    def __init__(self, module: str, tree: ast.Module):
        self.name = "air_jax." + module.replace("/", ".")
        self.path = str(ROOT / "air_jax" / f"{module}.py")
        self.tree = tree

    def find_spec(self, fullname, path, target=None):
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def create_module(self, spec):
        return None

    def exec_module(self, module) -> None:
        exec(compile(self.tree, self.path, "exec"), module.__dict__)


class _QuickFirst:
    """Pytest's plugin that runs quick tests first, and those of the real compiler last."""

    @staticmethod
    def pytest_collection_modifyitems(items) -> None:
        items.sort(key=lambda item: [item.get_closest_marker(name) is not None for name in ("real_compiler", "slow")])


def tried(module: str, number: int) -> str:
    """Runs the tests of a mutant's module; of the module as it is where `number` is -1.

    Returns:
      "survived", "noticed" or "time".
    """
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
            for name in [name for name in sys.modules if name.partition(".")[0] in ("air_jax", "conftest", "helpers")]:
                del sys.modules[name]
            if number >= 0:
                sys.meta_path.insert(0, _Importer(module, mutated(module, number)[0]))
            import pytest

            tests = [str(ROOT / "tests" / name) for name in TESTS[module].split()]
            options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
            status = int(pytest.main([*options, *tests], plugins=[_QuickFirst()]))
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return "survived" if status == 0 else "time" if status == -signal.SIGXCPU else "noticed"


def main() -> None:
    """Tries the drawn mutants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no mutant starts")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "mutation.json")
    options = parser.parse_args()
    begun = time.monotonic()
    sys.path.insert(0, str(ROOT / "tests"))
    # The first one makes the settings of the tests; no backend of JAX starts.
    for name in (
        "conftest",
        "flax.linen",
        "optax",
        "SimpleITK",
        "nibabel",
        "scipy.ndimage",
        "scipy.stats",
        "matplotlib",
    ):
        importlib.import_module(name)
    every = [(module, number) for module in TESTS for number in range(num_mutants(module))]
    drawn = random.Random(options.seed).sample(every, min(options.number, len(every)))
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    passing = {name.partition(" ")[0] for name in found}
    for module, number in drawn:
        name = f"{module} {number}"
        if name in found:
            continue
        if time.monotonic() - begun > 60 * options.minutes:
            break
        if module not in passing and tried(module, -1) != "survived":
            sys.exit(f"{module}: its tests fail without a mutant: {TESTS[module]}")
        passing.add(module)
        what = mutated(module, number)[1]
        found[name] = {"what": what, "found": tried(module, number)}
        print(name, what, found[name]["found"], flush=True)
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    noticed = sum(each["found"] != "survived" for each in found.values())
    print(f"{noticed} of {len(found)} mutants noticed; {len(every)} there are")


if __name__ == "__main__":
    main()
