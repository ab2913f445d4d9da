"""The flags of `register` and `batch` that guide, each with an example, and the options that they make."""

from typing import Any

from absl import flags

from air_jax.file_registration.guiding import Guiding
from air_jax.losses import REGULARIZERS
from air_jax.runtime.command_line import path_of

REGIONS = {
    "rigid_region": "Segmentation of the fixed image: each label is a body that may move but not deform, such as a "
    "bone. Example: --rigid_region=vertebrae.nii.gz",
    "keep_volume": "Mask of the fixed image in which volumes are kept: the Jacobian determinant is 1. "
    "Example: --keep_volume=tumour.nii.gz",
}
_LANDMARKS = {
    "guide_landmarks": "Landmarks of the moving image that guide the registration. "
    "Example: --guide_landmarks=moving.csv --fixed_guide_landmarks=fixed.csv",
    "fixed_guide_landmarks": "The same landmarks in the fixed image.",
}
_WORDS = {
    "restrict": "Axes of the fixed image along which anything may move: 1 or 0 for x, y[, z]. "
    "Example: --restrict=1,1,0 for no movement along z.",
    "affine_from": "images; or landmarks: the affine that --affine names is fitted to the guide landmarks. "
    "Default: images. Example: --affine=rigid --affine_from=landmarks",
    "contrast_weights": "Weights of several contrasts, given by repeated --fixed and --moving (batch: columns). "
    "Example: --fixed=t1.nii.gz --fixed=t2.nii.gz --moving=b_t1.nii.gz --moving=b_t2.nii.gz --contrast_weights=1,0.5",
    "colour": "grey; or channels: red, green and blue are compared each by itself. Default: grey. "
    "Example: --colour=channels",
}
_NUMBERS = {
    "smoothness": "Smoothness of the deformation: 0.5 follows details, 2 is smoother. Default: 1. "
    "Example: --smoothness=2",
    "update_sigma": "Gaussian that smooths each update, in voxels of a level. Default: 3. Example: --update_sigma=2",
    "total_sigma": "Gaussian that smooths the displacement, in voxels of a level. Default: 0.5. "
    "Example: --total_sigma=1",
    "guide_weight": "How strongly guide landmarks pull, compared with the images. Default: 0.1. "
    "Example: --guide_weight=1",
    "guide_tolerance": "Distance of guide landmarks in mm (pictures: pixels) that costs nothing. Default: 0. "
    "Example: --guide_tolerance=1.5",
}


def define_flags(*, of_one_pair: bool = True) -> None:
    """Defines the flags.

    Args:
      of_one_pair: whether landmarks are also flags; the pairs of a batch have them in a table.
    """
    for name, text in (REGIONS | (_LANDMARKS if of_one_pair else {}) | _WORDS).items():
        flags.DEFINE_string(name, None, text)
    for name, text in _NUMBERS.items():
        flags.DEFINE_float(name, None, text)
    for name, regularizer in REGULARIZERS.items():
        meaning = (regularizer.__doc__ or "").splitlines()[0].rstrip(".")
        flags.DEFINE_float(name, None, f"Weight of a regularizer: {meaning}. Default: 0. Example: --{name}=0.1")


def guiding_options(given: dict[str, Any], contrasts: dict[str, list[str]]) -> Guiding:
    """Makes the options from the values of the flags.

    Args:
      given: value of each flag by name.
      contrasts: the files of `fixed` and `moving`; the first one of each is not a further contrast. Of a batch: none.
    """
    names = [name for name in (*REGIONS, *_LANDMARKS) if given.get(name) is not None]
    files = {name: path_of(name, given[name]) for name in names}
    further = {
        f"{name}_contrasts": tuple(path_of(name, path) for path in paths[1:]) for name, paths in contrasts.items()
    }
    weights = tuple((name, given[name]) for name in REGULARIZERS if given[name] is not None)
    return Guiding(**files, **further, regularizers=weights, **{name: given[name] for name in (*_WORDS, *_NUMBERS)})
