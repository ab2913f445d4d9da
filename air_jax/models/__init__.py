"""Registration models: Flax modules with `__call__(fixed, moving, *, deterministic=True) -> (displacement, out)`."""

from air_jax.models.air import AiR
from air_jax.models.dlir import DLIR
from air_jax.models.pyramid import PyramidAiR
from air_jax.models.unet import UNet

MODELS = {"air": AiR, "pyramid_air": PyramidAiR, "dlir": DLIR, "unet": UNet}

__all__ = ["DLIR", "MODELS", "AiR", "PyramidAiR", "UNet"]
