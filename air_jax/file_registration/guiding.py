"""Options that guide a registration: smoothness, regions, axes, landmarks and several contrasts; and their checks."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from air_jax.checks import is_number
from air_jax.errors import UserError
from air_jax.losses import REGULARIZERS
from air_jax.transforms.filters import LARGEST_SIGMA

_NUMBERS = ("smoothness", "update_sigma", "total_sigma", "guide_weight", "guide_tolerance")
MOST_SMOOTHNESS = 1000
_MOST = {"smoothness": MOST_SMOOTHNESS, "update_sigma": LARGEST_SIGMA, "total_sigma": LARGEST_SIGMA}
# Options that only the optimised deformation uses.
_OF_DEFORMATION = ("smoothness", "update_sigma", "total_sigma", *REGULARIZERS, "rigid_region", "keep_volume")
IMAGES, LANDMARKS = "images", "landmarks"
GREY, CHANNELS = "grey", "channels"


@dataclass(frozen=True)
class Guiding:
    """Options that guide a registration. None stands for the default.

    Attributes:
      smoothness: factor of both standard deviations of a dense field; 1 by default, larger is smoother.
      update_sigma, total_sigma: the standard deviations themselves, see `air_jax.optimize.DenseField`.
      regularizers: `((name, weight), ...)`, names of `air_jax.losses.REGULARIZERS`.
      restrict: `"1,1,0"`: whether points may move along x, y and z of the fixed image.
      rigid_region: file of a segmentation of the fixed image; each label is a body that moves rigidly.
      keep_volume: file of a mask of the fixed image in which volumes are kept.
      guide_landmarks: file of landmarks of the moving image that guide the registration.
      fixed_guide_landmarks: file of the same landmarks in the fixed image.
      guide_weight: their weight, see `air_jax.optimize.Guidance`. 0: they do not guide, but `affine_from` uses them.
      guide_tolerance: distance in mm, for pictures in pixels, that costs nothing.
      affine_from: "images", or "landmarks": the affine is fitted to the guide landmarks.
      fixed_contrasts, moving_contrasts: files of further contrasts of both subjects, in the same order.
      contrast_weights: `"1,0.5"`: the weight of each contrast, the first one included.
      colour: "grey", or "channels": each colour is compared by itself.
    """

    smoothness: float | None = None
    update_sigma: float | None = None
    total_sigma: float | None = None
    regularizers: tuple[tuple[str, float], ...] = ()
    restrict: str | None = None
    rigid_region: Path | None = None
    keep_volume: Path | None = None
    guide_landmarks: Path | None = None
    fixed_guide_landmarks: Path | None = None
    guide_weight: float | None = None
    guide_tolerance: float | None = None
    affine_from: str | None = None
    fixed_contrasts: tuple[Path, ...] = ()
    moving_contrasts: tuple[Path, ...] = ()
    contrast_weights: str | None = None
    colour: str | None = None

    @property
    def files_read(self) -> list[Path]:
        """The files that are read."""
        files = (self.rigid_region, self.keep_volume, self.guide_landmarks, self.fixed_guide_landmarks)
        return [path for path in (*files, *self.fixed_contrasts, *self.moving_contrasts) if path is not None]

    def given(self) -> dict[str, Any]:
        """The options as scores.json records them."""
        values: dict[str, Any] = dataclasses.asdict(self) | dict.fromkeys(REGULARIZERS)
        del values["regularizers"]
        values |= dict(self.regularizers)
        for name in ("fixed_contrasts", "moving_contrasts"):
            values[name] = ", ".join(map(str, values[name])) or None
        return values


def check_guiding(guiding: Guiding, *, workdir: Path | None, refine_steps: int | None, stop_after: str | None) -> None:
    """Checks all guiding options that can be checked without reading a file.

    Args:
      guiding: the options.
      workdir, refine_steps, stop_after: other options that they must fit.

    Raises:
      UserError: one line that names the flag.
    """
    for name in (*_NUMBERS, *REGULARIZERS):
        value, most = _option(guiding, name), _MOST.get(name)
        if value is not None and (not is_number(value) or value < 0):
            raise UserError(f"--{name}={value}: must be a finite number, 0 or more")
        if value is not None and most is not None and value > most:
            raise UserError(f"--{name}={value}: must be at most {most:,}")
    for name, choices in (("affine_from", (IMAGES, LANDMARKS)), ("colour", (GREY, CHANNELS))):
        value = getattr(guiding, name)
        if value is not None and value not in choices:
            raise UserError(f"--{name}={value}: must be one of {', '.join(choices)}")
    for name in ("update_sigma", "total_sigma"):
        if guiding.smoothness is not None and getattr(guiding, name) is not None:
            raise UserError(f"--smoothness sets --{name} also; leave one of the two out")
    for name in _OF_DEFORMATION:
        if _option(guiding, name) is None:
            continue
        if stop_after is not None:
            raise UserError(f"--{name} is of the deformation, before which --stop_after=affine stops; leave it out")
        if refine_steps == 0 or (workdir is not None and refine_steps is None):
            raise UserError(f"--{name} is of the optimised deformation; give --refine_steps above 0")
    if guiding.restrict is not None:
        restricted(guiding.restrict)
    _check_landmarks(guiding)
    _check_contrasts(guiding)
    if workdir is not None and guiding.colour == CHANNELS:
        raise UserError(f"--colour={CHANNELS}: the model of --workdir compares grey images; leave one of the two out")
    if workdir is not None and guiding.fixed_contrasts:
        raise UserError("--workdir: its model takes one contrast; give --fixed and --moving once")


def _option(guiding: Guiding, name: str) -> Any:
    """The value of an option or of a regularizer's weight, None where it is not given."""
    return dict(guiding.regularizers).get(name) if name in REGULARIZERS else getattr(guiding, name)


def restricted(text: str) -> tuple[float, ...]:
    """Parses `--restrict`: one 0 or 1 for each of x, y and z.

    Raises:
      UserError: one line: other values, or no axis is free.
    """
    words = text.split(",")
    if len(words) not in (2, 3) or not all(word.strip() in ("0", "1") for word in words):
        raise UserError(f"--restrict={text}: must be 1 (may move) or 0 for each of x, y[, z], as in 1,1,0")
    if not any(word.strip() == "1" for word in words):
        raise UserError(f"--restrict={text}: leaves no axis along which anything may move")
    return tuple(map(float, words))


def contrast_weights(guiding: Guiding) -> list[float]:
    """Returns the weight of each contrast, the first one included; 1 by default.

    Raises:
      UserError: one line: no numbers, negative, not finite or all 0, or another number of them than of contrasts.
    """
    count, text = 1 + len(guiding.fixed_contrasts), guiding.contrast_weights
    if text is None:
        return [1.0] * count
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError:
        weights = []
    if not weights or "_" in text:  # Python reads 1_0 as 10
        raise UserError(f"--contrast_weights={text}: must be numbers, as in 1,0.5")
    if len(weights) != count:
        raise UserError(f"--contrast_weights={text}: has {len(weights)} weight(s) for {count} contrast(s)")
    if not all(is_number(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UserError(f"--contrast_weights={text}: must be finite, 0 or more, and not all 0")
    return weights


def _check_landmarks(guiding: Guiding) -> None:
    files = guiding.guide_landmarks, guiding.fixed_guide_landmarks
    if (files[0] is None) != (files[1] is None):
        raise UserError("--guide_landmarks and --fixed_guide_landmarks are the same points in both images; give both")
    if files[0] is None:
        for name in ("guide_weight", "guide_tolerance"):
            if getattr(guiding, name) is not None:
                raise UserError(f"--{name} needs --guide_landmarks and --fixed_guide_landmarks")
        if guiding.affine_from == LANDMARKS:
            raise UserError(f"--affine_from={LANDMARKS} needs --guide_landmarks and --fixed_guide_landmarks")
    if guiding.guide_weight == 0 and guiding.affine_from != LANDMARKS:
        raise UserError("--guide_weight=0: the landmarks would guide nothing; leave --guide_landmarks out")


def _check_contrasts(guiding: Guiding) -> None:
    counts = 1 + len(guiding.fixed_contrasts), 1 + len(guiding.moving_contrasts)
    if counts[0] != counts[1]:
        raise UserError(
            f"--fixed names {counts[0]} image(s) and --moving {counts[1]}; "
            "give the same contrasts of both, in the same order"
        )
    contrast_weights(guiding)
