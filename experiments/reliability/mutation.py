"""Changes one operator or number of transforms, losses and metrics at a time, and counts the changes that tests notice.

  python -m experiments.reliability.mutation --number=60 --output=mutation.json

Mutants are drawn with a seed from all arithmetic, comparisons, conditions and numbers outside of messages. Each runs
the tests of its module in a forked child, the quick ones first. The same command goes on where it ended.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 240
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
    "transforms/intensity": "transforms/test_intensity.py",
    "transforms/inversion": "transforms/test_inverse.py",
    "transforms/jacobian": "transforms/test_jacobian.py metrics/test_folding_scores.py",
    "transforms/spaces": "transforms/test_spaces.py",
    "transforms/sampling/gather_scatter": "transforms/test_gather_scatter.py transforms/test_sampling_derivative.py",
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


def is_noticed(module: str, number: int) -> bool:
    """Runs the tests of a mutant's module: the quick ones, then the slow ones."""
    return any(_tests_end(module, number, marker) != 0 for marker in ("not slow", "slow"))


def _tests_end(module: str, number: int, marker: str) -> int:
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            signal.alarm(SECONDS)
            if number >= 0:
                sys.meta_path.insert(0, _Importer(module, mutated(module, number)[0]))
            import pytest

            tests = [str(ROOT / "tests" / name) for name in TESTS[module].split()]
            status = int(pytest.main(["-x", "-q", "-m", marker, "-p", "no:cacheprovider", *tests]))
            status = 0 if status == pytest.ExitCode.NO_TESTS_COLLECTED else status
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Tries the drawn mutants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no mutant starts")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "mutation.json")
    options = parser.parse_args()
    begun = time.monotonic()
    for name in ("pytest", "SimpleITK", "nibabel", "scipy.ndimage", "scipy.stats", "matplotlib.pyplot"):
        importlib.import_module(name)  # but not JAX, whose settings the tests make, and nothing of air_jax
    every = [(module, number) for module in TESTS for number in range(num_mutants(module))]
    drawn = random.Random(options.seed).sample(every, min(options.number, len(every)))
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    for module, number in drawn:
        name = f"{module} {number}"
        if name in found:
            continue
        if time.monotonic() - begun > 60 * options.minutes:
            break
        what = mutated(module, number)[1]
        found[name] = {"what": what, "noticed": is_noticed(module, number)}
        print(name, what, "noticed" if found[name]["noticed"] else "SURVIVED", flush=True)
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    noticed = sum(each["noticed"] for each in found.values())
    print(f"{noticed} of {len(found)} mutants noticed; {len(every)} there are")


if __name__ == "__main__":
    main()
