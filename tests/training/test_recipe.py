"""Configs parsed into recipes: values arrive where they are used, mistakes are told in one line that names the key."""

import jax.numpy as jnp
import numpy as np
import pytest

from air_jax.data import Images
from air_jax.data.augmentation import Augmentation
from air_jax.data.deformation import Deformation
from air_jax.data.synthetic.contrast import Contrast
from air_jax.data.synthetic.pairs import Synthesis
from air_jax.errors import UserError
from air_jax.losses import make_objective
from air_jax.models import PyramidAiR
from air_jax.optimize import BSplineField, DenseField
from air_jax.training.pair_loss import TrainingTerms
from air_jax.training.recipe import StepPlan, classes_of, synthesizer, training_recipe, with_label_ids
from air_jax.workdir.config import SavedConfig, complete
from air_jax.workdir.defaults import default_config
from air_jax.workdir.recipe import inference_recipe

SEGMENTED = Images(np.zeros((2, 1, 2, 1)), segmentations=np.array([[[0, 1]], [[2, 0]]]))


def parse(config):
    """Both recipes of a config, as a run parses them."""
    config = complete(config)
    return training_recipe(config), inference_recipe(SavedConfig(config, (28, 28, 1)))


def test_values_arrive_in_the_recipes():
    config = default_config("pyramid_air")
    config.loss.update({"similarity": "lncc", "window": 3, "mse": 3.0, "soft_dice": 2.0, "edges": True})
    config.loss.inverse_consistency = 0.5
    config.refine.update({"field": "dense", "update_sigma": 1.5, "num_steps": 7})
    config.augmentation.rotation = 10.0
    config.model.width = 32
    training, inference = parse(config)
    assert inference.model == PyramidAiR(width=32)
    assert inference.field == DenseField(update_sigma=1.5, total_sigma=0.5)
    assert inference.objective == training.objective == make_objective("lncc", window=3, mse=3.0)
    assert inference.edges
    assert training.terms == TrainingTerms(2.0, consistencies=(("inverse_consistency", 0.5),), edges=True)
    assert training.augmentation == Augmentation(rotation=10.0)
    assert training.deformation is None
    assert training.steps == StepPlan(16_000, 128, 200, 1_000)
    assert training.evaluation.refine_steps == 7


def test_the_terms_of_training_only_are_not_in_the_objective():
    config = default_config()
    config.loss.update({"similarity": "lncc", "window": 3, "mse": 3.0, "soft_dice": 2.0, "inverse_consistency": 0.5})
    images = jnp.asarray(np.random.default_rng(0).random((2, 1, 8, 9, 1), np.float32))
    loss, parts = training_recipe(config).objective(*images, jnp.zeros((1, 8, 9, 2)))
    assert set(parts) == {"lncc", "mse"}
    np.testing.assert_allclose(loss, parts["lncc"] + 3 * parts["mse"], rtol=1e-6)


def test_refinement_of_a_field_that_can_fold_has_a_folding_penalty():
    config = default_config()
    assert inference_recipe(SavedConfig(config, ())).objective == make_objective("mse", folding=5.0)
    assert inference_recipe(SavedConfig(config, ())).field == BSplineField()
    config.loss.folding = 6.0
    assert inference_recipe(SavedConfig(config, ())).objective == make_objective("mse", folding=6.0)
    config.loss.folding, config.refine.field = 0.0, "dense"
    assert inference_recipe(SavedConfig(config, ())).objective == make_objective("mse")


def test_artificial_deformation():
    config = default_config()
    config.deformation.amplitude = 1.5
    assert training_recipe(config).deformation == Deformation(1.5, 7)
    config.loss.soft_dice = 1.0
    with pytest.raises(UserError, match="artificially deformed images have no segmentations"):
        training_recipe(config)


def test_synthesis_of_labels():
    config = default_config()
    assert training_recipe(config).synthesis is None
    config.synthesis.update({"velocity": 3.0, "blur": 0.5})
    config.loss.update({"similarity": "mind_ssc", "train_similarity": False, "diffusion": 0.1, "endpoint": 1.0})
    recipe = training_recipe(config)
    assert recipe.synthesis == Synthesis(3.0, contrast=Contrast(blur=0.5))
    images, field = np.random.default_rng(0).random((2, 1, 8, 9, 1), np.float32), np.ones((1, 8, 9, 2), np.float32)
    np.testing.assert_array_equal(recipe.objective(*images, field)[0], 0)  # a translation, without similarity
    assert inference_recipe(SavedConfig(config, ())).objective.similarity == "mind_ssc"  # which refinement uses
    config.loss.update({"similarity": "lncc", "window": 5})  # the window is also for refinement only
    np.testing.assert_array_equal(training_recipe(config).objective(*images, field)[0], 0)
    with pytest.raises(UserError, match=r"synthesis\.velocity=3\.0: the set has no segmentations"):
        synthesizer(recipe.synthesis, Images(SEGMENTED.images))
    config.deformation.amplitude = 1.5
    with pytest.raises(UserError, match="is also a deformation"):
        training_recipe(config)


def test_label_ids_are_those_of_the_training_part():
    terms = TrainingTerms(soft_dice=2.0)
    assert with_label_ids(terms, SEGMENTED) == terms._replace(label_ids=(1, 2))
    assert with_label_ids(TrainingTerms(), SEGMENTED) == TrainingTerms()
    with pytest.raises(UserError, match=r"loss\.soft_dice=2\.0: the set has no segmentations"):
        with_label_ids(terms, Images(SEGMENTED.images))


def test_a_segmenter_has_a_class_for_each_label_id_and_the_background():
    assert classes_of(SEGMENTED, 3) == (1, 2)
    with pytest.raises(UserError, match=r"model\.num_classes=4: the training set has 2 label ids; .* 3 classes"):
        classes_of(SEGMENTED, 4)
    with pytest.raises(UserError, match="a segmenter needs segmentations"):
        classes_of(Images(SEGMENTED.images), 3)


MISTAKES = [
    ("air", "model.head", "spline", "must be one of"),
    ("air", "model.width", 15, "must be a multiple of num_heads"),
    ("air", "model.dropout", 1.0, "must be"),
    ("air", "model.dtype", "float16", "must be float32 or bfloat16"),
    ("air", "num_train_steps", -1, "must be an integer, at least 0"),
    ("air", "batch_size", 0, "must be an integer, at least 1"),
    ("air", "learning_rate", float("nan"), "must be a finite number"),
    ("air", "eval_every", 150, r"must be a multiple of log_every \(200\)"),
    ("air", "schedule", "linear", "must be one of constant, cosine"),
    ("air", "warmup_steps", -1, "must be an integer, at least 0"),
    ("air", "warmup_steps", 16_000, "must be less than num_train_steps"),
    ("air", "clip_norm", float("inf"), "must be a finite number"),
    ("air", "dataset.name", "", "give the path of your images"),
    ("air", "dataset.normalization", "minmax", "must be one of range, percentile, foreground, ct"),
    ("air", "dataset.train_fraction", 1.0, "must lie between 0 and 1"),
    ("air", "dataset.num_validation", 1, "must be at least 2"),
    ("air", "augmentation.rotation", -1.0, "must be finite and not negative"),
    ("air", "augmentation.scale", 1.0, "must be less than 1"),
    ("air", "augmentation.elastic", 5.0, "must be at most 4, a quarter of elastic_spacing"),
    ("air", "augmentation.elastic_spacing", 0, "must be positive"),
    ("air", "deformation.amplitude", -1.0, "must be finite and not negative"),
    ("air", "deformation.spacing", 0, "must be positive"),
    ("air", "synthesis.velocity", -1.0, "must not be negative"),
    ("air", "synthesis.spacings", (8, 1), "must be at least 2"),
    ("air", "synthesis.black", 1.5, "must be at most 1"),
    ("air", "loss.endpoint", 1.0, "needs synthesis.velocity and no augmentation"),
    ("air", "loss.similarity", "nope", "must be one of"),
    ("air", "loss.window", 4, "odd"),
    ("air", "loss.window", 5, "window"),
    ("air", "loss.mse", 2.0, "is loss.similarity already"),
    ("air", "loss.folding", -1.0, "must be a number and not negative"),
    ("air", "loss.inverse_consistency", -1.0, "must be a number and not negative"),
    ("air", "refine.field", "free", "must be one of dense"),
    ("air", "refine.num_steps", -1, "must be an integer, at least 0"),
    ("air", "refine.update_sigma", -1.0, "0 or more"),
    ("air", "refine.total_sigma", float("nan"), "must be a finite number"),
    ("air", "eval.batch_size", 0, "must be an integer, at least 1"),
    ("air", "eval.pairs_seed", -1, "must be an integer, at least 0"),
    ("pyramid_air", "model.stride", (4, 4), "stride"),
    ("pyramid_air", "model.patch_size", (12, 8, 12), "odd"),
    ("pyramid_air", "model.spacing", (3, 2, 1), "div"),
    ("pyramid_air", "model.num_steps", (2, 0, 2), "above 0|positive"),
    ("pyramid_air", "model.width", 97, "num_heads"),
    ("gated_demons", "model.max_force_gain", (2.5, -1.0), "max_force_gain"),
    ("gated_demons", "model.max_force_gain", (), "max_force_gain"),
    ("gated_demons", "model.expansion", 2.0, "2"),
    ("unrolled_demons", "model.force_sigma", -1.0, "force_sigma"),
    ("segmenter", "model.num_classes", 1, "num_classes"),
]


@pytest.mark.parametrize(("model", "key", "value", "message"), MISTAKES, ids=lambda value: str(value)[:24])
def test_mistakes_are_told_in_one_line_that_names_the_key(model, key, value, message):
    config = default_config(model)
    with config.ignore_type():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as error:
        parse(config)
    assert f"--config.{key.split('.')[0]}" in str(error.value)
    assert key.split(".")[-1] in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_key_is_told_by_its_name():
    config = default_config()
    config.nope = 1
    with pytest.raises(UserError, match=r"--config\.nope=1: there is no such key"):
        parse(config)
    config = default_config()
    config.loss.nope = 1.0
    with pytest.raises(UserError, match=r"--config\.loss\.nope=1\.0: there is no such key"):
        parse(config)


def test_a_missing_key_takes_its_default():
    config = default_config()
    del config.refine, config.clip_norm
    assert parse(config)[0].optimizer.clip_norm == 0.0
