"""The segmenter alone, and the classes that it gives the pyramid's steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.ndimage import correlate1d

from air_jax import warp
from air_jax.losses import segmentation_loss
from air_jax.models import PyramidAiR
from air_jax.models.segmenter import Segmenter, _neighbours
from air_jax.registration import Refinement, Registration
from air_jax.transforms import jacobian_determinant, with_edges

RNG = np.random.default_rng(0)


def adam(loss, params, num_steps):
    """`params` after steps of Adam."""
    optimizer = optax.adam(1e-2)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda params: jax.lax.scan(step, (params, optimizer.init(params)), length=num_steps)[0][0])
    return run(params)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_neighbours_make_a_convolution(axis):
    x, weights = RNG.random((2, 4, 5, 6, 1)), RNG.random(3)
    expected = correlate1d(x[..., 0], weights, axis=axis, mode="constant")
    np.testing.assert_allclose(_neighbours(jnp.asarray(x), axis) @ weights, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(13, 22), (9, 12, 10)])
def test_it_classifies_every_voxel(shape):
    segmenter = Segmenter(3, features=(4, 8))
    image = jnp.asarray(RNG.random((2, *shape, 1)), jnp.float32)
    variables = jax.jit(segmenter.init)(jax.random.key(0), image)
    logits = jax.jit(segmenter.apply)(variables, image)
    assert logits.shape == (2, *shape, 3)
    assert logits.dtype == jnp.float32
    # No image sees another of its batch.
    np.testing.assert_allclose(segmenter.apply(variables, image[1:]), logits[1:], atol=1e-5)


def test_it_learns_classes_of_single_voxels():
    """Detail below its patches of two voxels: which of noise's voxels are bright."""
    segmenter = Segmenter(2, features=(16, 16))
    image = jnp.asarray(RNG.random((4, 16, 16, 1)), jnp.float32)
    labels = (image[..., 0] > 0.5).astype(jnp.int32)
    params = jax.jit(segmenter.init)(jax.random.key(0), image)
    params = adam(lambda params: jnp.mean(segmentation_loss(segmenter.apply(params, image), labels, (1,))), params, 150)
    assert jnp.mean(jnp.argmax(segmenter.apply(params, image), axis=-1) == labels) > 0.9


@pytest.fixture(scope="module")
def squares():
    """A pair `[1, 24, 26, 1]` that forces of intensities hardly tell from a flat one: squares 2 pixels apart."""
    fixed, moving = np.zeros((2, 1, 24, 26, 1), np.float32)
    fixed[:, 10:18, 8:18] = moving[:, 8:16, 8:18] = 0.004
    return jnp.asarray(fixed), jnp.asarray(moving)


def pyramid(num_classes, **options):
    return PyramidAiR(
        stride=(4, 4),
        patch_size=(12, 4),
        spacing=(4, 2),
        num_steps=(4, 4),
        downsampling=(2, 1),
        width=16,
        forces=True,
        num_classes=num_classes,
        **options,
    )


@pytest.fixture(scope="module")
def params(squares):
    """Of a pyramid whose segmenter has learned the squares, and nothing else."""
    model = pyramid(2)
    labels = [(image[..., 0] > 0).astype(jnp.int32) for image in squares]

    def loss(params):
        logits = model.apply({"params": params}, *squares)[1]["logits"]
        return sum(jnp.mean(segmentation_loss(*both, (1,))) for both in zip(logits, labels, strict=True))

    return adam(loss, jax.jit(model.init)(jax.random.key(0), *squares)["params"], 60)


def overlap(squares, displacement):
    fixed, moving = squares
    return float(jnp.mean((fixed > 0) == (warp(moving, displacement, order=0) > 0)))


def test_steps_follow_classes(squares, params):
    displacement, out = jax.jit(pyramid(2).apply)({"params": params}, *squares)
    missed, misses = (1 - overlap(squares, field) for field in (0 * displacement, displacement))
    assert misses < 0.3 * missed
    assert [logits.shape for logits in out["logits"]] == [(1, 24, 26, 2)] * 2
    for image, logits in zip(squares, out["logits"], strict=True):
        np.testing.assert_allclose(pyramid(2).segment(params, image), jax.nn.softmax(logits), atol=1e-5)


@pytest.mark.parametrize(("reach", "share"), [((0.0, 0.0), 0.0), ((2.5, 0.0), 0.3), ((0.0, 5.0), 1.0)])
def test_the_reach_of_intensities_and_of_classes(squares, params, reach, share):
    """Here classes do nearly all; `share` is of the displacement that both give together."""
    whole, found = (
        float(jnp.linalg.norm(jax.jit(model.apply)({"params": params}, *squares)[0]))
        for model in (pyramid(2), pyramid(2, reach=reach))
    )
    assert abs(found / whole - share) <= 0.3 * (share > 0)


def test_classes_leave_structures_their_volume(params):
    """A square and one of a quarter of its area."""
    fixed, moving = np.zeros((2, 1, 24, 26, 1), np.float32)
    fixed[:, 5:19, 6:20], moving[:, 9:15, 10:16] = 0.004, 0.004
    smallest = [
        float(jnp.min(jacobian_determinant(jax.jit(model.apply)({"params": params}, fixed, moving)[0])))
        for model in (pyramid(2, least_volume=volume) for volume in (0.0, 0.5, 0.8))
    ]
    assert smallest[0] < smallest[1] < smallest[2]
    assert smallest[0] < 0.35
    model = pyramid(2, least_volume=0.0, volume_preservation=1.0)
    displacement = jax.jit(model.apply)({"params": params}, fixed, moving)[0]
    assert float(jnp.min(jacobian_determinant(displacement))) > smallest[0] + 0.1
    square = warp(moving, displacement)[0, 5:19, 6:20] / 0.004
    assert float(square.mean()) > 0.5  # still fills more of the larger one than its quarter


def test_patches_are_of_the_images_alone(squares):
    model = pyramid(2, edges=True)
    _, out = model.apply(jax.jit(model.init)(jax.random.key(0), *squares), *squares)
    assert out["read"].shape == (1, 24, 26, 1)  # neither classes nor edges
    np.testing.assert_allclose(jnp.max(out["read"]), 0.004, rtol=1e-3)


def test_thin_images_have_classes_too(params):
    thin = jnp.zeros((1, 4, 26, 1))  # two voxels at the first level
    assert pyramid(2).apply({"params": params}, thin, thin)[0].shape == (1, 4, 26, 2)


def test_classes_need_forces(squares):
    with pytest.raises(ValueError, match="num_classes needs forces"):
        pyramid(2).clone(forces=False).init(jax.random.key(0), *squares)


def test_without_classes_the_faint_squares_are_missed(squares):
    model = pyramid(0)
    displacement, out = jax.jit(model.apply)(jax.jit(model.init)(jax.random.key(0), *squares), *squares)
    missed, misses = (1 - overlap(squares, field) for field in (0 * displacement, displacement))
    assert misses > 0.4 * missed
    assert "logits" not in out


def test_the_displacement_does_not_train_the_segmenter(squares, params):
    model = pyramid(2)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(model.apply({"params": p}, *squares)[0]))))(params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["segmenter"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["level_1"]))


def test_refinement_compares_classes_too(squares, params):
    fixed, moving = squares
    registration = Registration(
        pyramid(2), params, (24, 26, 1), 0, refinement=Refinement("dense", edges=True, overlap=3.0)
    )
    channels = registration.compared(fixed)
    np.testing.assert_array_equal(channels[..., :2], with_edges(fixed))
    np.testing.assert_allclose(channels[..., 2:], pyramid(2).segment(params, fixed)[..., 1:], atol=1e-6)
    # What lies in the black margin of the images trained on may be left away.
    np.testing.assert_allclose(
        registration.compared(fixed[:, 2:-2, 3:-3])[..., 2:], channels[:, 2:-2, 3:-3, 2:], atol=1e-6
    )
    refined = registration.refine(fixed, moving, jnp.zeros((1, 24, 26, 2)), num_steps=60)
    assert 1 - overlap(squares, refined) < 0.3 * (1 - overlap(squares, 0 * refined))
