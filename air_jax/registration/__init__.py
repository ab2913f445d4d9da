"""The public object: a model with its parameters, or none, that registers images."""

from air_jax.registration.features import feature_similarity
from air_jax.registration.from_zero import STEPS_FROM_ZERO, register_images, without_model
from air_jax.registration.loading import from_recipe, load
from air_jax.registration.pretrained import load_pretrained, pretrained_folder
from air_jax.registration.registration import Registration
from air_jax.registration.result import Result

__all__ = [
    "STEPS_FROM_ZERO",
    "Registration",
    "Result",
    "feature_similarity",
    "from_recipe",
    "load",
    "load_pretrained",
    "pretrained_folder",
    "register_images",
    "without_model",
]
