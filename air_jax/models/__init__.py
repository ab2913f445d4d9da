"""Models: Flax modules that predict the displacement of a pair of images, or the segmentation of one image.

Those of `MODELS` have `__call__(fixed, moving, *, deterministic=True) -> (displacement, out)`. Those of `SEGMENTERS`
have `__call__(image) -> logits`.
"""

from air_jax.models.air import AiR
from air_jax.models.demons import UnrolledDemons
from air_jax.models.dlir import DLIR
from air_jax.models.gated_demons import GatedDemons
from air_jax.models.matching import MatchingAiR
from air_jax.models.matching_unet import MatchingUNet
from air_jax.models.pyramid import PyramidAiR
from air_jax.models.segmenter import Segmenter
from air_jax.models.unet import UNet

MODELS = {
    "air": AiR,
    "pyramid_air": PyramidAiR,
    "matching_air": MatchingAiR,
    "matching_unet": MatchingUNet,
    "dlir": DLIR,
    "unet": UNet,
    "unrolled_demons": UnrolledDemons,
    "gated_demons": GatedDemons,
}
"""Models of displacements by their names in the config.

Examples:
  >>> sorted(air_jax.models.MODELS)
  ['air', 'dlir', 'gated_demons', 'matching_air', 'matching_unet', 'pyramid_air', 'unet', 'unrolled_demons']
"""

SEGMENTERS = {"segmenter": Segmenter}
"""Models of segmentations by their names in the config.

Examples:
  >>> air_jax.models.SEGMENTERS["segmenter"].__name__
  'Segmenter'
"""

__all__ = [
    "DLIR",
    "MODELS",
    "SEGMENTERS",
    "AiR",
    "GatedDemons",
    "MatchingAiR",
    "MatchingUNet",
    "PyramidAiR",
    "Segmenter",
    "UNet",
    "UnrolledDemons",
]
