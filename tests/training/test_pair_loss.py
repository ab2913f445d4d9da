"""The loss of training pairs, put together from its parts, which have references of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.data import Images
from air_jax.data.pairs import Pair
from air_jax.errors import UserError
from air_jax.losses import inverse_consistency_loss, make_objective, segmentation_loss
from air_jax.training.pair_loss import NO_TERMS, TrainingTerms, pair_loss
from air_jax.transforms import warp, with_edges
from air_jax.workdir import config as configs
from configs import mnist_best

RNG = np.random.default_rng(0)
OBJECTIVE = make_objective("mse", diffusion=0.5)


def pair():
    images = jnp.asarray(RNG.random((2, 3, 8, 9, 1), np.float32))
    labels = jnp.asarray(RNG.integers(0, 3, (2, 3, 8, 9)))
    return Pair(*images, *labels)


def predict(fixed, moving):
    """A displacement that depends on both images, and on which is which; logits of three classes."""
    logits = tuple(jnp.concatenate([image, 2 * image, -image], axis=-1) for image in (fixed, moving))
    return jnp.concatenate([fixed - 0.5 * moving, fixed * moving], axis=-1), {"logits": logits}


def test_without_more_terms_it_is_the_objective():
    given = pair()
    displacement, _ = predict(given.fixed, given.moving)
    expected = OBJECTIVE(given.fixed, warp(given.moving, displacement), displacement)
    jax.tree.map(np.testing.assert_array_equal, pair_loss(predict, OBJECTIVE, NO_TERMS, given), expected)


def test_overlap_of_labels():
    given = pair()
    loss, parts = pair_loss(predict, OBJECTIVE, TrainingTerms(soft_dice=0.3, labels=(2,)), given)
    plain, _ = pair_loss(predict, OBJECTIVE, NO_TERMS, given)
    np.testing.assert_allclose(loss, plain + 0.3 * parts["soft_dice"], rtol=1e-6)
    # By hand: linear warping of label 2 alone.
    fixed = np.asarray(given.fixed_segmentation == 2, np.float64)
    moved = np.asarray(
        warp((given.moving_segmentation == 2).astype(jnp.float32), predict(given.fixed, given.moving)[0])
    )
    axes = (1, 2)
    dice = 2 * (fixed * moved).sum(axes) / (fixed.sum(axes) + moved.sum(axes))
    np.testing.assert_allclose(parts["soft_dice"], 1 - dice, rtol=1e-4)


def test_segmentations_of_both_images():
    given = pair()
    loss, parts = pair_loss(predict, OBJECTIVE, TrainingTerms(segmentation=0.3, labels=(1, 2)), given)
    _, out = predict(given.fixed, given.moving)
    both = zip(out["logits"], (given.fixed_segmentation, given.moving_segmentation), strict=True)
    expected = np.mean([segmentation_loss(*one, (1, 2)) for one in both], axis=0)
    np.testing.assert_allclose(parts["segmentation"], expected, rtol=1e-6)
    plain, _ = pair_loss(predict, OBJECTIVE, NO_TERMS, given)
    np.testing.assert_allclose(loss, plain + 0.3 * parts["segmentation"], rtol=1e-6)


def test_consistency_takes_both_directions():
    given = pair()
    terms = TrainingTerms(consistencies=(("inverse_consistency", 0.7),))
    loss, parts = pair_loss(predict, OBJECTIVE, terms, given)
    one, other = (pair_loss(predict, OBJECTIVE, NO_TERMS, way)[0] for way in (given, given.swapped()))
    consistency = inverse_consistency_loss(predict(given.fixed, given.moving)[0], predict(given.moving, given.fixed)[0])
    np.testing.assert_allclose(parts["inverse_consistency"], consistency, rtol=1e-6)
    np.testing.assert_allclose(loss, 0.5 * (one + other) + 0.7 * consistency, rtol=1e-6)
    swapped, _ = pair_loss(predict, OBJECTIVE, terms, given.swapped())
    np.testing.assert_allclose(loss, swapped, rtol=1e-5)


def test_configs_say_what_is_in_the_loss(digits_config):
    config = digits_config
    segmented = Images(np.zeros((2, 1, 2, 1)), segmentations=np.array([[[0, 1]], [[2, 0]]]))
    assert configs.training_terms(config, segmented) == NO_TERMS
    config.loss.update({"soft_dice": 2.0, "inverse_consistency": 0.5, "mse": 3.0, "similarity": "lncc", "window": 3})
    configs.check(config)
    terms = TrainingTerms(2.0, labels=(1, 2), consistencies=(("inverse_consistency", 0.5),))
    assert configs.training_terms(config, segmented) == terms
    with pytest.raises(UserError, match=r"loss\.soft_dice=2\.0: the set has no segmentations"):
        configs.training_terms(config, Images(segmented.images))
    images = jnp.asarray(RNG.random((2, 1, 8, 9, 1), np.float32))
    loss, parts = configs.objective(config)(*images, jnp.zeros((1, 8, 9, 2)))
    assert set(parts) == {"lncc", "mse"}  # what is for training alone is left out
    np.testing.assert_allclose(loss, parts["lncc"] + 3 * parts["mse"], rtol=1e-6)


def test_classes_are_the_labels_and_the_background():
    config = mnist_best.get_config()
    segmented = Images(np.zeros((2, 1, 2, 1)), segmentations=np.array([[[0, 1]], [[2, 0]]]))
    config.loss.segmentation = 0.5
    with pytest.raises(UserError, match=r"loss\.segmentation=0\.5: must be positive where model\.num_classes is"):
        configs.check(config)
    config.model.num_classes, config.model.forces = 4, True
    configs.check(config)
    with pytest.raises(UserError, match=r"model\.num_classes=4: the training set has 2 labels; .* 3 classes"):
        configs.training_terms(config, segmented)
    config.model.num_classes = 3
    assert configs.training_terms(config, segmented) == TrainingTerms(segmentation=0.5, labels=(1, 2))
    with pytest.raises(UserError, match=r"loss\.segmentation=0\.5: the set has no segmentations"):
        configs.training_terms(config, Images(segmented.images))
    config.loss.segmentation = 0.0
    with pytest.raises(UserError, match=r"loss\.segmentation=0\.0: must be positive"):
        configs.check(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("loss.window", 4, "must be odd and positive"),
        ("loss.window", 5, "mse has no windows"),
        ("loss.mse", 2.0, "is loss.similarity already"),
        ("loss.inverse_consistency", -1.0, "must not be negative"),
        ("augmentation.rotation", -1.0, "must not be negative"),
        ("augmentation.scale", 1.0, "must be less than 1"),
        ("refine.field", "free", "must be one of dense"),
        ("refine.num_steps", -1, "must not be negative"),
        ("dataset.name", "", "give the path of your images"),
    ],
)
def test_mistakes_are_told_in_one_line(digits_config, key, value, message):
    digits_config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        configs.check(digits_config)


def test_edges_are_warped_with_the_image():
    given = pair()
    displacement, _ = predict(given.fixed, given.moving)
    fixed, moving = with_edges(given.fixed), with_edges(given.moving)
    expected, _ = OBJECTIVE(fixed, warp(moving, displacement), displacement)
    loss, _ = pair_loss(predict, OBJECTIVE, TrainingTerms(edges=True), given)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert np.all(loss != pair_loss(predict, OBJECTIVE, NO_TERMS, given)[0])
