"""Forces of demons between two images and between their class probabilities (Thirion 1998; Vercauteren et al. 2009)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp

from air_jax.checks import is_number, require
from air_jax.models.layers.expansion_step import class_force_damping, expansion_displacement, gradients
from air_jax.models.layers.level_state import Channels, LevelState
from air_jax.models.layers.options import require_flags, require_not_negative
from air_jax.transforms import compose, smooth, with_edges

WINDOW_SIGMA = 1.0  # voxels, of the Gaussian windows in which images are normalised
MIN_CONTRAST = 0.02  # standard deviation, in images of [0, 1]; windows with less contrast count as flat
MIN_NORM = 0.01  # added to the squared norm of differences and slopes, so that flat voxels have no force
SIGMA_MULTIPLES = (1.0, 2.0)  # each force is smoothed with these multiples of `force_sigma`
MAX_EXPANSION = 2.0  # an expansion of this factor is unstable


@dataclass(frozen=True)
class DemonsOptions:
    """Options of the demons steps, as `UnrolledDemons` and `GatedDemons` document them.

    Raises:
      OptionError: an option has a value that it cannot take.
    """

    force_sigma: float
    total_sigma: float
    edges: bool
    min_jacobian: float
    expansion: float

    def __post_init__(self):
        require_not_negative(force_sigma=self.force_sigma, total_sigma=self.total_sigma)
        require_flags(edges=self.edges)
        require_not_negative(min_jacobian=self.min_jacobian, expansion=self.expansion)
        require(
            self.expansion < MAX_EXPANSION, "expansion", self.expansion, "must be less than 2, where it is unstable"
        )

    @classmethod
    def of(cls, model: Any) -> "DemonsOptions":
        """The options of a model that has attributes of these names."""
        return cls(**{field.name: getattr(model, field.name) for field in fields(cls)})


def require_gain(option: str, gain: Sequence[float]) -> None:
    """Raises `OptionError` unless `gain` is a pair of finite numbers that are not negative."""
    pair = isinstance(gain, (tuple, list)) and len(gain) == 2
    require(pair, option, gain, "must be two numbers: for intensities and for classes")
    valid = all(is_number(number) and number >= 0 for number in gain)
    require(valid, option, gain, "must not be negative, and must be finite")


def force_channels(image: jax.Array, probabilities: jax.Array | None, *, edges: bool) -> Channels:
    """Collects the channels that exert forces.

    Args:
      image: `[B, *S, C]` in [0, 1].
      probabilities: `[B, *S, K]` of classes, the background first; None without a segmenter.
      edges: whether the image's edges exert forces.
    """
    edge_channels = with_edges(image)[..., image.shape[-1] :] if edges else None
    return Channels(image, edge_channels, None if probabilities is None else probabilities[..., 1:])


def demons_forces(state: LevelState, options: DemonsOptions) -> list[list[jax.Array]]:
    """Computes the forces of intensities and, where there are class probabilities, of classes.

    Returns:
      For each of the two kinds, forces `[B, *S, N]` in voxels with each of `SIGMA_MULTIPLES`.
    """
    fixed, warped = (normalize_locally(channels.intensities) for channels in (state.fixed, state.warped))
    forces = [intensity_forces(fixed, warped, options.force_sigma)]
    if state.fixed.classes is not None and state.warped.classes is not None:
        damping = class_force_damping(state.displacement, options.min_jacobian)
        undamped = class_forces(state.fixed.classes, state.warped.classes, options.force_sigma)
        forces.append([damping * force for force in undamped])
    return forces


def total_force(forces: list[list[jax.Array]], gain: Sequence[float], gates: jax.Array | None = None) -> jax.Array:
    """Sums the forces, each multiplied by the gain of its kind and by its gate.

    Args:
      forces: `[B, *S, N]` in voxels, see `demons_forces`.
      gain: one factor for each kind of force; factors of missing kinds are ignored.
      gates: `[B, *S, G]`, one channel for each force. None: no gates.

    Returns:
      `[B, *S, N]` in voxels.
    """
    factors = [factor for factor, kind in zip(gain, forces, strict=False) for _ in kind]
    if gates is not None:
        each = jnp.split(gates, len(factors), axis=-1)
        factors = [factor * gate for factor, gate in zip(factors, each, strict=True)]
    flat = [force for kind in forces for force in kind]
    total = jnp.zeros_like(flat[0])
    for factor, force in zip(factors, flat, strict=True):
        total = total + factor * force
    return total


def apply_step(state: LevelState, step: jax.Array, options: DemonsOptions) -> jax.Array:
    """Composes the displacement with a step and its expansion, and smooths the result by `total_sigma`.

    Args:
      state: the state that the step was computed from.
      step: `[B, *S, N]` in voxels.
      options: options of the step.

    Returns:
      The displacement `[B, *S, N]` after the step.
    """
    if options.expansion:
        expansion = expansion_displacement(state.displacement, options.min_jacobian)
        step = step + options.expansion * jax.lax.stop_gradient(expansion)
    return smooth(compose(state.displacement, step), options.total_sigma)


def normalize_locally(image: jax.Array) -> jax.Array:
    """Normalises brightness and contrast within Gaussian windows: `[B, *S, C]` in [0, 1] to `[B, *S, C]`.

    Subtracts the window's mean from each voxel and divides by the window's standard deviation, as in the local
    correlation of Cachier & Pennec (2000).
    """
    # Centred first, because the mean square minus the squared mean loses the digits that the two have in common.
    image = image - jnp.mean(image, axis=tuple(range(1, image.ndim - 1)), keepdims=True)
    mean, mean_square = jnp.split(
        smooth(jnp.concatenate([image, jnp.square(image)], axis=-1), WINDOW_SIGMA), 2, axis=-1
    )
    variance = mean_square - jnp.square(mean)
    return (image - mean) * jax.lax.rsqrt(jnp.maximum(variance, MIN_CONTRAST**2))


def intensity_forces(fixed: jax.Array, warped: jax.Array, sigma: float) -> list[jax.Array]:
    """Computes small displacements that bring the values of `warped` closer to those of `fixed`.

    Equation 4 of Thirion (1998), with the mean of both images' gradients (the symmetric forces of Vercauteren et al.
    2009), which needs fewer steps. Each force is at most half a voxel long. The channels are summed.

    Args:
      fixed, warped: `[B, *S, C]` with a contrast of about 1, see `normalize_locally`.
      sigma: standard deviation, in voxels, of the narrower Gaussian that smooths the forces.

    Returns:
      `[B, *S, N]` in voxels for each of `SIGMA_MULTIPLES`.
    """
    return _forces(fixed - warped, fixed, warped, sigma)


def class_forces(fixed: jax.Array, warped: jax.Array, sigma: float) -> list[jax.Array]:
    """Computes small displacements that increase the overlap of classes.

    The derivative of the soft Dice `2 sum(f w) / (sum f + sum w)` by the warped probability `w` is positive where the
    fixed probability `f` is above half of the Dice. The forces raise `w` there and lower it elsewhere. So structures
    that are uncertain in one image move inside those that are likely in the other, also where the probabilities are
    equal. Probabilities that vary inside a structure compress it: see `class_force_damping`.

    Args:
      fixed, warped: `[B, *S, K - 1]` probabilities, without those of the background.
      sigma: standard deviation, in voxels, of the narrower Gaussian that smooths the forces.

    Returns:
      `[B, *S, N]` in voxels for each of `SIGMA_MULTIPLES`.
    """
    axes = tuple(range(1, fixed.ndim - 1))
    overlap, total = (jnp.sum(values, axis=axes, keepdims=True) for values in (fixed * warped, fixed + warped))
    return _forces(fixed - overlap / jnp.maximum(total, 1.0), fixed, warped, sigma)


def _forces(wanted: jax.Array, fixed: jax.Array, warped: jax.Array, sigma: float) -> list[jax.Array]:
    """Demons' forces that raise the values of `warped` where `wanted` is positive, with each of `SIGMA_MULTIPLES`."""
    slopes = gradients(0.5 * (fixed + warped))
    norm = sum(jnp.sum(jnp.square(values), axis=-1, keepdims=True) for values in (wanted, *slopes)) + MIN_NORM
    force = jnp.concatenate([jnp.sum(wanted * slope, axis=-1, keepdims=True) for slope in slopes], axis=-1) / norm
    smoothed, reached = [], 0.0
    for multiple in SIGMA_MULTIPLES:  # variances of Gaussians add up
        force, reached = smooth(force, sigma * (multiple**2 - reached**2) ** 0.5), multiple
        smoothed.append(force)
    return smoothed
