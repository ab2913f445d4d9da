"""The answers of docs/questions.md and docs/everyday.md: each names tests that check it, and these tests exist."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY

from air_jax import warp


@pytest.mark.parametrize(("name", "count"), [("questions", 10), ("everyday", 12)])
def test_every_answer_names_tests_that_exist(name, count):
    """The last column of the page's first table names them."""
    page = (REPOSITORY / "docs" / f"{name}.md").read_text()
    table = re.search(r"(?:^\|.*\n)+", page, re.MULTILINE)[0]
    rows = table.splitlines()[2:]
    assert len(rows) == count
    tests = {name for path in (REPOSITORY / "tests").rglob("test_*.py") for name in functions(path.read_text())}
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.split("|")[-2])
        assert named, row
        assert set(named) <= tests, set(named) - tests


def functions(code):
    return re.findall(r"^def (test_\w+)", code, flags=re.MULTILINE)


def test_exclusions_of_jax_stand():
    """Versions of JAX that compute wrong values stay excluded. The installed version is not one of them."""
    requirements = (REPOSITORY / "setup.cfg").read_text()
    assert 'jax>=0.10.1,!=0.10.2; python_version < "3.12"' in requirements
    assert 'jax>=0.11.2; python_version >= "3.12"' in requirements
    assert jax.__version_info__ == (0, 10, 1) or jax.__version_info__ >= (0, 11, 2)


def test_nearest_neighbour_has_no_gradient_but_one_hot_has():
    labels = jnp.asarray(np.random.default_rng(0).integers(0, 3, (1, 8, 9)))
    one_hot = jax.nn.one_hot(labels, 3)
    displacement = jnp.full((1, 8, 9, 2), 0.3)
    weights = jnp.asarray(np.random.default_rng(1).random((1, 8, 9, 3)))
    nearest, linear = (
        jax.grad(lambda u, order=order: jnp.sum(weights * warp(one_hot, u, order=order)))(displacement)
        for order in (0, 1)
    )
    assert not np.any(nearest)
    assert np.abs(linear).max() > 0.1
    np.testing.assert_array_equal(warp(labels, jnp.zeros_like(displacement), order=0), labels)
