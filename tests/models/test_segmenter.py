"""The segmenter, and the class probabilities that it gives to demons steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from model_helpers import compiled, random_variables
from scipy.ndimage import correlate1d, map_coordinates

from air_jax import warp
from air_jax.models import GatedDemons, Segmenter, UnrolledDemons
from air_jax.models.layers.patch_unet import _neighbours
from air_jax.transforms import jacobian_determinant


def trained(segmenter, image, classes, num_steps):
    """Parameters of a segmenter after steps of Adam on images `[B, *S, 1]` with classes `[B, *S]`."""
    optimizer = optax.adam(1e-2)
    params = jax.jit(segmenter.init)(jax.random.key(0), image)["params"]

    def loss(params):
        logits = segmenter.apply({"params": params}, image)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, classes))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), length=num_steps)[0][0])
    return run(params)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_neighbours_make_a_convolution(axis):
    rng = np.random.default_rng(0)
    x, weights = rng.random((2, 4, 5, 6, 1)), rng.random(3)
    expected = correlate1d(x[..., 0], weights, axis=axis, mode="constant")
    np.testing.assert_allclose(_neighbours(jnp.asarray(x), axis) @ weights, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(13, 22), (9, 12, 10)])
def test_every_voxel_has_logits_of_its_own_image(shape):
    segmenter = Segmenter(3, features=(4, 8))
    image = np.random.default_rng(0).random((2, *shape, 1), np.float32)
    variables = random_variables(segmenter, image)
    apply = compiled(segmenter)
    logits = apply(variables, image)
    assert logits.shape == (2, *shape, 3)
    assert logits.dtype == jnp.float32
    changed = apply(variables, image * np.float32([0, 1]).reshape(2, *(1,) * len(shape), 1))
    np.testing.assert_allclose(changed[1], logits[1], atol=1e-5)
    assert np.abs(changed[0] - logits[0]).max() > 1e-2


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters_and_logits():
    image = np.random.default_rng(0).random((1, 8, 8, 1), np.float32)
    half, whole = (Segmenter(2, features=(4, 4), dtype=dtype) for dtype in ("bfloat16", "float32"))
    variables = random_variables(half, image)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    logits = compiled(half)(variables, image)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, compiled(whole)(variables, image), atol=0.1)


@pytest.mark.slow
def test_it_learns_classes_of_single_voxels():
    """Detail below its patches of two voxels: the bright voxels of noise."""
    segmenter = Segmenter(2, features=(16, 16))
    image = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    classes = (image[..., 0] > 0.5).astype(np.int32)
    params = trained(segmenter, image, classes, 150)
    logits = compiled(segmenter)({"params": params}, image)
    assert np.mean(np.argmax(logits, axis=-1) == classes) > 0.9


@pytest.fixture(scope="module")
def squares():
    """A pair `[1, 24, 26, 1]` of squares 2 pixels apart, too faint for forces of intensities."""
    fixed, moving = np.zeros((2, 1, 24, 26, 1), np.float32)
    fixed[:, 10:18, 8:18] = moving[:, 8:16, 8:18] = 0.004
    return fixed, moving


@functools.cache
def demons(with_segmenter=True, **options):
    segmenter = Segmenter(2, features=(16, 16)) if with_segmenter else None
    return UnrolledDemons(downsampling=(2, 1), num_steps=(4, 4), segmenter=segmenter, **options)


@pytest.fixture(scope="module")
def params(squares):
    """Parameters of a model whose segmenter has learned the squares."""
    image = np.concatenate(squares)
    return {"segmenter": trained(demons().segmenter, image, (image[..., 0] > 0).astype(np.int32), 80)}


def overlap(squares, displacement):
    """The share of voxels whose nearest one in the moving image is of the same class."""
    fixed, moving = (image[0, ..., 0] > 0 for image in squares)
    points = np.moveaxis(np.asarray(displacement)[0], -1, 0) + np.indices(fixed.shape)
    return np.mean(fixed == map_coordinates(moving.astype(float), points, order=0))


@pytest.mark.slow
def test_steps_follow_classes(squares, params):
    displacement, out = compiled(demons())({"params": params}, *squares)
    missed, misses = (1 - overlap(squares, field) for field in (0 * displacement, displacement))
    assert misses < 0.3 * missed
    for image, probabilities in zip(squares, out["probabilities"], strict=True):
        assert probabilities.shape == (1, 24, 26, 2)
        np.testing.assert_allclose(jax.jit(demons().segment)(params, image), probabilities, atol=1e-5)


@pytest.mark.slow
def test_without_classes_the_faint_squares_are_missed(squares):
    displacement, out = compiled(demons(with_segmenter=False))({}, *squares)
    missed, misses = (1 - overlap(squares, field) for field in (0 * displacement, displacement))
    assert misses > 0.4 * missed
    assert "probabilities" not in out


@pytest.mark.slow
@pytest.mark.parametrize(("force_gain", "share"), [((0.0, 0.0), 0.0), ((1.25, 0.0), 0.3), ((0.0, 2.5), 1.0)])
def test_gains_of_intensities_and_of_classes(squares, params, force_gain, share):
    """Classes contribute nearly everything; `share` is that of the displacement that both give together."""
    whole, found = (
        float(jnp.linalg.norm(compiled(model)({"params": params}, *squares)[0]))
        for model in (demons(), demons(force_gain=force_gain))
    )
    assert abs(found / whole - share) <= 0.3 * (share > 0)


@pytest.mark.slow
def test_damping_and_expansion_keep_volume(params):
    """A square and one of a quarter of its area."""
    fixed, moving = np.zeros((2, 1, 24, 26, 1), np.float32)
    fixed[:, 5:19, 6:20], moving[:, 9:15, 10:16] = 0.004, 0.004
    smallest = [
        float(jnp.min(jacobian_determinant(compiled(model)({"params": params}, fixed, moving)[0])))
        for model in (demons(min_jacobian=least) for least in (0.0, 0.5, 0.8))
    ]
    assert smallest[0] < smallest[1] < smallest[2]
    assert smallest[0] < 0.35
    model = demons(min_jacobian=0.0, expansion=1.0)
    displacement = compiled(model)({"params": params}, fixed, moving)[0]
    assert float(jnp.min(jacobian_determinant(displacement))) > smallest[0] + 0.1
    square = warp(moving, displacement)[0, 5:19, 6:20] / 0.004
    assert float(square.mean()) > 0.5  # still fills more of the larger one than its quarter


@pytest.mark.slow
def test_thin_images_have_classes(params):
    thin = np.zeros((1, 2, 26, 1), np.float32)  # one voxel at the first level
    model = UnrolledDemons(downsampling=(2, 1), num_steps=(1, 1), segmenter=demons().segmenter)
    assert compiled(model)({"params": params}, thin, thin)[0].shape == (1, 2, 26, 2)


@pytest.mark.slow
def test_the_displacement_does_not_train_the_segmenter(squares, params):
    options = dict(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(1,), downsampling=(1,))
    model = GatedDemons(**options, width=8, feed_forward=8, segmenter=demons().segmenter)
    params = jax.jit(model.init)(jax.random.key(0), *squares)["params"] | params
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(model.apply({"params": p}, *squares)[0]))))(params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["segmenter"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["level_0"]))
    gradient = jax.grad(lambda p: jnp.sum(jnp.square(demons().apply({"params": p}, *squares)[0])))(params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_a_model_without_a_segmenter_cannot_segment(squares):
    with pytest.raises(ValueError, match="the model has no segmenter"):
        demons(with_segmenter=False).segment({}, squares[0])
