"""Fine-tuning lowers the loss of the pairs, and leaves the given registration as it is."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import air_jax
from air_jax.losses import make_objective
from air_jax.optimize import DenseField
from air_jax.training.fine_tuning import fine_tune


class Shift(nn.Module):
    @nn.compact
    def __call__(self, fixed, moving, *, deterministic=True):
        shift = self.param("shift", nn.initializers.zeros, (2,))
        return jnp.broadcast_to(shift, (*fixed.shape[:-1], 2)), {}


def test_a_shift_is_learned():
    image = np.clip(4 - np.hypot(*(np.mgrid[:16, :16] - 8)), 0, 1).astype(np.float32)
    fixed = np.stack([image] * 3)
    moving = np.roll(fixed, 1, axis=1)
    params = {"shift": jnp.zeros(2)}
    start = air_jax.Registration(Shift(), params, (16, 16, 1), 0, make_objective("mse"), DenseField())
    tuned, losses = fine_tune(start, fixed, moving, num_steps=60, learning_rate=0.05, batch_size=2)
    np.testing.assert_allclose(tuned.params["shift"], [1, 0], atol=0.1)
    assert len(losses) == 60
    assert losses[-1] < 0.1 * losses[0]
    assert not np.any(start.params["shift"])
    with pytest.raises(ValueError, match="give equal"):
        fine_tune(start, fixed[0], moving[0])
    with pytest.raises(air_jax.OptionError, match="num_steps"):
        fine_tune(start, fixed, moving, num_steps=0)
