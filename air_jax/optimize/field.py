"""The interface of a parametrisation of the displacement."""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import optax

from air_jax.checks import require

Shape = tuple[int, ...]

# Of Adam: keeps the root of a second moment of 0 differentiable, and is too small to change a step.
ROOT_OF_ZERO = 1e-30


@runtime_checkable
class Field(Protocol):
    """The interface of a field. Fields are hashable: `refine` compiles once for equal fields.

    Attributes:
      steps_per_round: number of optimiser steps before the result is composed and the parameters restart at zero.
      levels: one entry for each level, from coarse to fine.
      factors: for each level, the factor by which its voxels are larger than the image's.

    Examples:
      >>> field: air_jax.optimize.Field = air_jax.optimize.BSplineField(levels=((2, 4), (1, 4)))
      >>> field.factors, field.shape((8, 8), 0)
      ((2, 1), (2, 2))
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]  # a field is a dataclass
    steps_per_round: ClassVar[int]

    @property
    def levels(self) -> tuple[Any, ...]: ...

    @property
    def factors(self) -> tuple[int, ...]: ...

    def shape(self, shape: Shape, level: int) -> Shape:
        """Returns the spatial shape of the parameters.

        Args:
          shape: `S` of the level's grid.
          level: index of the level.
        """
        ...

    def optimizer(self, voxel_size: Sequence[float]) -> optax.GradientTransformation:
        """Returns the optimiser of the parameters.

        Args:
          voxel_size: `[N]`, lengths of the level's voxels.
        """
        ...

    def trial(self, displacement: jax.Array, parameters: jax.Array, level: int) -> jax.Array:
        """Returns the displacement that is differentiated with respect to the parameters.

        Args:
          displacement: `[B, *S, N]` in voxels of the level, the start of the round.
          parameters: `[B, *shape, N]`, see `shape`; 0 at the start of the round.
          level: index of the level.

        Returns:
          `[B, *S, N]`.
        """
        ...

    def accept(
        self, displacement: jax.Array, parameters: jax.Array, level: int, voxel_size: Sequence[float], length: jax.Array
    ) -> jax.Array:
        """Returns the displacement after a round.

        Args:
          displacement: `[B, *S, N]` in voxels of the level, the start of the round.
          parameters: `[B, *shape, N]` at the end of the round.
          level: index of the level.
          voxel_size: `[N]`, lengths of the level's voxels.
          length: `[B, 1, ...]` in [0, 1], factor of the optimiser's updates in this round; 0 for converged pairs.

        Returns:
          `[B, *S, N]`.
        """
        ...


def check_parametrisation(field: Any) -> None:
    """Raises `OptionError` unless an object has what a `Field` has, and can be hashed."""
    known = isinstance(field, Field) and isinstance(field, Hashable) and not isinstance(field, type)
    require(known, "field", field, "must be an object such as DenseField()")
