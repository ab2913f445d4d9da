"""The losses of training, put together from parts that have references of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.data.pairs import Pair
from air_jax.losses import inverse_consistency_loss, make_objective, segmentation_loss
from air_jax.training.pair_loss import TrainingTerms, pair_loss, segmenter_loss
from air_jax.transforms import warp, with_edges

OBJECTIVE = make_objective("mse", diffusion=0.5)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.random((2, 3, 8, 9, 1), np.float32))
    segmentations = jnp.asarray(rng.integers(0, 3, (2, 3, 8, 9)))
    return Pair(*images, *segmentations)


def register(fixed, moving, deterministic):
    """A displacement that depends on both images, and on their order."""
    assert not deterministic
    return jnp.concatenate([fixed - 0.5 * moving, fixed * moving], axis=-1), {}


def loss_of(pair, **terms):
    return pair_loss(register, pair, objective=OBJECTIVE, terms=TrainingTerms(**terms))


def displacement_of(pair):
    return register(pair.fixed, pair.moving, deterministic=False)[0]


def test_without_terms_it_is_the_objective(pair):
    displacement = displacement_of(pair)
    expected = OBJECTIVE(pair.fixed, warp(pair.moving, displacement), displacement)
    jax.tree.map(np.testing.assert_array_equal, loss_of(pair), expected)


def test_overlap_of_segmentations(pair):
    loss, parts = loss_of(pair, soft_dice=0.3, label_ids=(2,))
    np.testing.assert_allclose(loss, loss_of(pair)[0] + 0.3 * parts["soft_dice"], rtol=1e-6)
    # By hand: linear warping of label id 2 only.
    fixed = np.asarray(pair.fixed_segmentation == 2, np.float64)
    moved = np.asarray(warp((pair.moving_segmentation == 2).astype(jnp.float32), displacement_of(pair)))
    dice = 2 * (fixed * moved).sum((1, 2)) / (fixed.sum((1, 2)) + moved.sum((1, 2)))
    np.testing.assert_allclose(parts["soft_dice"], 1 - dice, rtol=1e-4)


def test_distance_from_the_true_displacement(pair):
    truth = np.random.default_rng(1).standard_normal((3, 8, 9, 2)).astype(np.float32)
    loss, parts = loss_of(pair._replace(displacement=truth), endpoint=0.3)
    distance = np.sqrt(((np.asarray(displacement_of(pair)) - truth) ** 2).sum(-1) + 0.01)
    np.testing.assert_allclose(parts["endpoint"], distance.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(loss, loss_of(pair)[0] + 0.3 * parts["endpoint"], rtol=1e-6)


def test_consistency_takes_both_directions(pair):
    terms = {"consistencies": (("inverse_consistency", 0.7),)}
    loss, parts = loss_of(pair, **terms)
    one, other = (loss_of(way)[0] for way in (pair, pair.swapped()))
    consistency = inverse_consistency_loss(displacement_of(pair), displacement_of(pair.swapped()))
    np.testing.assert_allclose(parts["inverse_consistency"], consistency, rtol=1e-6)
    np.testing.assert_allclose(loss, 0.5 * (one + other) + 0.7 * consistency, rtol=1e-6)
    np.testing.assert_allclose(loss, loss_of(pair.swapped(), **terms)[0], rtol=1e-5)


def test_the_true_displacement_is_that_of_the_first_direction(pair):
    truth = jnp.ones((3, 8, 9, 2))
    known = pair._replace(displacement=truth)
    loss, parts = loss_of(known, endpoint=0.3, consistencies=(("inverse_consistency", 0.5),))
    both, _ = loss_of(pair, consistencies=(("inverse_consistency", 0.5),))
    np.testing.assert_allclose(parts["endpoint"], loss_of(known, endpoint=0.3)[1]["endpoint"], rtol=1e-6)
    np.testing.assert_allclose(loss, both + 0.3 * parts["endpoint"], rtol=1e-6)


def test_edges_are_warped_with_the_image(pair):
    displacement = displacement_of(pair)
    fixed, moving = with_edges(pair.fixed), with_edges(pair.moving)
    expected, _ = OBJECTIVE(fixed, warp(moving, displacement), displacement)
    loss, _ = loss_of(pair, edges=True)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert np.all(loss != loss_of(pair)[0])


def test_a_segmenter_learns_from_both_images(pair):
    def logits(image):
        return jnp.concatenate([image, 2 * image, -image], axis=-1)

    loss, parts = segmenter_loss(logits, pair, label_ids=(1, 2))
    both = (pair.fixed, pair.fixed_segmentation), (pair.moving, pair.moving_segmentation)
    expected = np.mean([segmentation_loss(logits(image), known, (1, 2)) for image, known in both], axis=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_array_equal(loss, parts["segmentation"])
