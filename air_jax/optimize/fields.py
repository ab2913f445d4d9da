"""Parametrisations of the displacement that refinement optimises: dense, B-spline, velocity.

A field describes a small displacement that is composed with the displacement reached so far. A new field is a frozen
dataclass with the methods of `Field` and a line in `FIELDS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import optax

from air_jax.checks import MOST_SQUARINGS, check_integer, check_number, is_number, require
from air_jax.errors import OptionError
from air_jax.optimize.field import ROOT_OF_ZERO, Shape
from air_jax.transforms import bspline, compose, control_shape, exponential, smooth
from air_jax.transforms.filters import LARGEST_SIGMA


@dataclass(frozen=True)
class DenseField:
    """One displacement a voxel, updated by smoothed steepest descent.

    A trial adds the update to the displacement. At zero, that has the derivative of a composition and costs less.

    Attributes:
      update_sigma: standard deviation, in voxels of the level, of the Gaussian that smooths each update. Smaller values
        follow finer detail.
      total_sigma: standard deviation, in voxels of the level, of the Gaussian that smooths the whole displacement after
        each update. Smaller values allow rougher displacements.
      levels: factor by which the voxels of each level are larger than the image's, powers of 2 from coarse to fine.

    Raises:
      OptionError: a standard deviation that is negative, not finite or above 10,000, or levels that are not powers
        of 2.

    Examples:
      >>> air_jax.optimize.DenseField().scaled(2)
      DenseField(update_sigma=6.0, total_sigma=1.0, levels=(4, 2, 1))
    """

    update_sigma: float = 3.0
    total_sigma: float = 0.5
    levels: tuple[int, ...] = (4, 2, 1)

    steps_per_round: ClassVar[int] = 1

    def __post_init__(self):
        for name in ("update_sigma", "total_sigma"):
            _set_number(self, name, zero=True)
            largest = getattr(self, name) <= LARGEST_SIGMA
            require(largest, name, getattr(self, name), f"must be at most {LARGEST_SIGMA:,}")
        _check_factors(self.levels, self.levels)
        object.__setattr__(self, "levels", tuple(map(int, self.levels)))

    @property
    def factors(self) -> tuple[int, ...]:
        return self.levels

    def scaled(self, smoothness: float) -> Self:
        """Returns a field whose two standard deviations are larger by a factor.

        Args:
          smoothness: the factor, 0 or more.

        Raises:
          OptionError: a factor that is negative or not finite.
        """
        check_number("smoothness", smoothness, low=0)
        return replace(self, update_sigma=smoothness * self.update_sigma, total_sigma=smoothness * self.total_sigma)

    def shape(self, shape: Shape, level: int) -> Shape:
        del level
        return shape

    def optimizer(self, voxel_size: Sequence[float]) -> optax.GradientTransformation:
        return smoothed_descent(voxel_size, self.update_sigma)

    def trial(self, displacement: jax.Array, parameters: jax.Array, level: int) -> jax.Array:
        del level
        return displacement + parameters

    def accept(
        self, displacement: jax.Array, parameters: jax.Array, level: int, voxel_size: Sequence[float], length: jax.Array
    ) -> jax.Array:
        del level
        composed = compose(displacement, parameters)
        sigma = tuple(self.total_sigma * min(voxel_size) / size for size in voxel_size)
        # Shorter steps are smoothed less, so that steps of any length have the same fixed point.
        return composed + length * (smooth(composed, sigma) - composed)


@dataclass(frozen=True)
class _ControlPointField(ABC):
    """The common part of the fields of control points. `_increment` turns a spline into a displacement."""

    levels: tuple[tuple[int, int], ...]
    learning_rate: float = 0.1

    steps_per_round: ClassVar[int] = 10

    def __post_init__(self):
        _set_number(self, "learning_rate", zero=False)
        try:
            levels = tuple((factor, spacing) for factor, spacing in self.levels)
        except (TypeError, ValueError) as error:
            raise OptionError("levels", self.levels, "must be pairs (factor, spacing)") from error
        _check_factors(self.levels, [factor for factor, _ in levels])
        if not all(_is_positive_int(spacing) for _, spacing in levels):
            raise OptionError("levels", self.levels, "the spacing of control points must be a whole number above 0")
        object.__setattr__(self, "levels", tuple((int(factor), int(spacing)) for factor, spacing in levels))

    @property
    def factors(self) -> tuple[int, ...]:
        return tuple(factor for factor, _ in self.levels)

    def shape(self, shape: Shape, level: int) -> Shape:
        return control_shape(shape, self._spacing(shape, level))

    def optimizer(self, voxel_size: Sequence[float]) -> optax.GradientTransformation:
        del voxel_size
        return optax.adam(self.learning_rate, eps_root=ROOT_OF_ZERO)

    def trial(self, displacement: jax.Array, parameters: jax.Array, level: int) -> jax.Array:
        shape = displacement.shape[1:-1]
        return compose(displacement, self._increment(bspline(parameters, self._spacing(shape, level), shape)))

    def accept(
        self, displacement: jax.Array, parameters: jax.Array, level: int, voxel_size: Sequence[float], length: jax.Array
    ) -> jax.Array:
        del voxel_size, length
        return self.trial(displacement, parameters, level)

    def _spacing(self, shape: Shape, level: int) -> tuple[int, ...]:
        return (self.levels[level][1],) * len(shape)

    @abstractmethod
    def _increment(self, spline: jax.Array) -> jax.Array:
        """Returns the small displacement `[B, *S, N]` of a spline of control values."""


@dataclass(frozen=True)
class BSplineField(_ControlPointField):
    """Displacements that are cubic B-splines of control points, optimised by Adam.

    At full resolution on all levels: for small images with a few large deformations. The objective should hold a
    penalty on folding.

    Attributes:
      levels: `(factor, spacing)` of each level, from coarse to fine: the factor by which its voxels are larger than the
        image's, a power of 2, and the spacing of the control points in these voxels.
      learning_rate: of Adam, in voxels of the level.

    Raises:
      OptionError: wrong levels, or a learning rate that is not finite and above 0.

    Examples:
      >>> field = air_jax.optimize.BSplineField(levels=((2, 4), (1, 4)))
      >>> field.shape((16, 16), 1)
      (4, 4)
    """

    levels: tuple[tuple[int, int], ...] = ((1, 4), (1, 2), (1, 1))

    def _increment(self, spline: jax.Array) -> jax.Array:
        return spline


@dataclass(frozen=True)
class VelocityField(_ControlPointField):
    """Exponentials of stationary velocities that are cubic B-splines of control points, optimised by Adam.

    Each round composes the displacement with a diffeomorphism.

    Attributes:
      levels: as of `BSplineField`.
      learning_rate: of Adam, in voxels of the level.
      integration_steps: number of squarings, see `air_jax.transforms.exponential`.

    Raises:
      OptionError: as `BSplineField`, or a negative number of steps.

    Examples:
      >>> field = air_jax.optimize.VelocityField(levels=((1, 4),))
      >>> velocity = jnp.full((1, 2, 2, 2), 0.5)
      >>> field.trial(jnp.zeros((1, 8, 8, 2)), velocity, 0)[0, 0, 0].tolist()
      [0.5, 0.5]
    """

    levels: tuple[tuple[int, int], ...] = ((4, 4), (2, 4), (1, 4), (1, 2))
    integration_steps: int = 4

    def __post_init__(self):
        super().__post_init__()
        check_integer("integration_steps", self.integration_steps, 0, MOST_SQUARINGS)

    def _increment(self, spline: jax.Array) -> jax.Array:
        return exponential(spline, integration_steps=self.integration_steps)


FIELDS = {"dense": DenseField, "control_grid": BSplineField, "velocity": VelocityField}
"""Fields by their names in the config and in commands.

Examples:
  >>> sorted(air_jax.optimize.FIELDS)
  ['control_grid', 'dense', 'velocity']
"""


def smoothed_descent(
    voxel_size: Sequence[float], update_sigma: float, *, longest: float = 0.5
) -> optax.GradientTransformation:
    """Smoothed steepest descent whose longest update in each pair is `longest` of the smallest voxel length.

    Smoothing the gradient regularizes like a viscous fluid (Christensen et al. 1996, Deformable templates using large
    deformation kinematics). One step length a pair, instead of one a voxel as in Adam, leaves flat background in place.

    Args:
      voxel_size: `[N]`, in any unit.
      update_sigma: standard deviation of the Gaussian, in the smallest voxel length.
      longest: in the smallest voxel length, above 0.

    Returns:
      The optax transformation; gradients and updates are `[B, *S, N]` in voxels.
    """
    size = jnp.asarray(voxel_size, jnp.float32) / min(voxel_size)
    sigma = tuple(update_sigma * min(voxel_size) / length for length in voxel_size)

    def update(updates, state, params=None):
        del params
        sizes = size.reshape((1,) * (updates.ndim - 1) + (-1,))
        # A gradient by voxels, twice divided by their size, is a step in voxels along the gradient by lengths.
        step = smooth(updates, sigma) / jnp.square(sizes)
        squared = jnp.sum(jnp.square(step * sizes), axis=-1, keepdims=True)
        squared = jnp.max(squared, axis=tuple(range(1, updates.ndim)), keepdims=True)
        # The root of the bounded maximum: that of 0 has no derivative.
        return -longest * step / jnp.sqrt(jnp.maximum(squared, 1e-24)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _set_number(settings: Any, name: str, *, zero: bool) -> None:
    """Checks that a setting is finite and positive (or 0, with `zero`), and stores it as a float."""
    value = getattr(settings, name)
    if not is_number(value) or value < 0 or (value == 0 and not zero):
        raise OptionError(name, value, "must be finite and " + ("0 or more" if zero else "above 0"))
    object.__setattr__(settings, name, float(value))


def _check_factors(levels: Any, factors: Sequence[int]) -> None:
    if not isinstance(factors, Sequence) or not len(factors):
        raise OptionError("levels", levels, "must not be empty")
    if not all(_is_positive_int(factor) and int(factor).bit_count() == 1 for factor in factors):
        raise OptionError("levels", levels, "the factors must be powers of 2, at least 1")
    if list(factors) != sorted(factors, reverse=True):
        raise OptionError("levels", levels, "must go from coarse to fine")


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
