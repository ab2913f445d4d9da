"""The experiments on derivatives and sweeps: what they print, against finite differences and single runs."""

import jax
import numpy as np
import pytest

from experiments.learned_similarity import run as learned
from experiments.regularization_sweep import run as sweep


@pytest.mark.slow
@pytest.mark.thorough  # the derivatives themselves are checked in optimize/
def test_the_similarity_is_learned_and_its_derivative_is_that_of_differences():
    history = learned.learn()
    assert history[-1][1] < 0.3 * history[0][1]
    pairs, error = learned.pairs(), jax.jit(learned.error)
    step = 0.05
    slope = (error(np.float32(0.2 + step), *pairs) - error(np.float32(0.2 - step), *pairs)) / (2 * step)
    # The error jumps a little where a start of the affine changes places with another.
    np.testing.assert_allclose(jax.jit(jax.grad(learned.error))(np.float32(0.2), *pairs), slope, rtol=0.2)


@pytest.mark.slow
def test_the_sweep_has_the_scores_of_single_runs():
    images = sweep.pairs(2)
    found = sweep.together(*images, 3)
    expected = jax.jit(lambda *images: sweep.scores(float(sweep.WEIGHTS[7]), *images, 3))(*images)
    for name in expected:
        np.testing.assert_allclose(found[name][7], expected[name], atol=1e-3)
    assert found["dice"].shape == (10,)
