"""Models and functions on meshes with `Explicit` axes: training, parameters on the mesh, memory of a split volume."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from air_jax import AiR, warp
from air_jax.losses import mse_loss


@pytest.fixture
def mesh():
    return jax.make_mesh((4,), ("d",))


def images():
    return np.random.default_rng(0).random((2, 4, 8, 8, 1), dtype=np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True], ids=["arrays", "set_mesh"])
def test_a_model_is_initialised_and_trained_on_the_mesh(mesh, inside):
    """With dropout: parameters and random keys also lie on the mesh."""
    model, (fixed, moving) = AiR(patch_size=4, dropout=0.5), images()

    def loss(params, fixed, moving):
        keys = {"dropout": jax.random.key(1)}
        displacement, out = model.apply(params, fixed, moving, deterministic=False, rngs=keys)
        assert out["patch_size"] == (4, 4)
        return jnp.sum(mse_loss(fixed, warp(moving, displacement)))

    def train(fixed, moving):
        params = model.init(jax.random.key(0), fixed, moving)
        return jax.value_and_grad(loss)(params, fixed, moving)

    expected = jax.jit(train)(fixed, moving)
    with jax.set_mesh(mesh) if inside else contextlib.nullcontext():
        found = jax.jit(train)(*(jax.device_put(image, NamedSharding(mesh, P("d"))) for image in (fixed, moving)))
    for ours, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-5)


def test_sizes_of_the_result_stay_numbers_under_jit():
    model, (fixed, moving) = AiR(patch_size=4), images()
    params = model.init(jax.random.key(0), fixed, moving)
    out = jax.eval_shape(model.apply, params, fixed, moving)[1]
    assert (out["patch_size"], out["token_grid"]) == ((4, 4), (2, 2))
    assert isinstance(out["patch_size"], tuple)


def test_a_split_volume_takes_a_part_of_the_memory_of_each_device(mesh):
    """A loss of neighbours: each device holds its slab and a halo, and no device holds the volume."""
    shape = jax.ShapeDtypeStruct((1, 64, 32, 32, 1), jnp.float32, sharding=NamedSharding(mesh, P(None, "d")))
    whole = jax.ShapeDtypeStruct(shape.shape, jnp.float32)

    def loss(fixed, warped):
        return jnp.sum(mse_loss(fixed, warped, weights=jnp.abs(fixed[..., 0])))

    memory = {}
    for name, kind in (("split", shape), ("whole", whole)):
        compiled = jax.jit(jax.grad(loss, argnums=1)).lower(kind, kind).compile().memory_analysis()
        memory[name] = compiled.argument_size_in_bytes + compiled.temp_size_in_bytes + compiled.output_size_in_bytes
    assert memory["split"] < 0.3 * memory["whole"]
