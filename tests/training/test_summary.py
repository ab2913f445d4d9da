"""What a run prints of its model: parameters and FLOPs, also where the devices do not count them."""

import jax
import jax.numpy as jnp
import numpy as np

import air_jax
from air_jax.training import summary


def test_flops_of_a_matrix_product():
    assert summary.count_flops(jnp.matmul, jnp.zeros((10, 20)), jnp.zeros((20, 30))) == 2 * 10 * 20 * 30


def test_flops_of_loops_count_as_often_as_they_run():
    def product(matrix, count):
        return jax.lax.scan(lambda found, _: (found @ matrix, None), matrix, length=count)[0]

    def nested(matrix):
        return jax.lax.scan(lambda found, _: (jax.jit(product, static_argnums=1)(found, 3), None), matrix, length=5)[0]

    matrix, once = jnp.zeros((20, 20)), 2 * 20**3
    np.testing.assert_allclose(summary.count_flops(nested, matrix), 5 * 3 * once, rtol=0.01)


def test_without_the_hosts_platform_there_are_no_flops(monkeypatch):
    model, image = air_jax.AiR(patch_size=7), jnp.zeros((1, 28, 28, 1))
    params = jax.jit(model.init)(jax.random.key(0), image, image)["params"]
    assert "MFLOP" in summary.table(model, params, (28, 28, 1))

    def refuse(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", refuse)  # as under JAX_PLATFORMS=cuda
    lines = summary.table(model, params, (28, 28, 1)).splitlines()
    assert lines[-1].split() == ["all", f"{summary.count_parameters(params):,}"]
