"""The geometry of a pair: the affine between two grids and the sizes of their voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax

from air_jax.checks import check_arrays, check_instance, check_integer, check_spacing
from air_jax.errors import OptionError

Sizes = tuple[float, ...]


# Equality by identity: the elements of two matrices have no single truth value.
@partial(jax.tree_util.register_dataclass, data_fields=("matrix",), meta_fields=("voxel_size", "moving_voxel_size"))
@dataclass(frozen=True, eq=False)
class Geometry:
    """The affine from fixed to moving voxels, and the sizes of both images' voxels.

    A JAX pytree: the matrix is data, the sizes are static.

    Attributes:
      matrix: `[B, N, N + 1]`, affine from fixed to moving voxels. Default: the identity.
      voxel_size: `[N]`, lengths of the fixed image's voxels, above 0, in any unit. Default: 1 along each axis.
      moving_voxel_size: `[N]`, lengths of the moving image's voxels in the same unit. Default: `voxel_size`.

    Raises:
      OptionError: a voxel size that is not a finite number above 0.

    Examples:
      >>> down = air_jax.optimize.Geometry(matrix=jnp.array([[[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]))
      >>> fixed, still = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0), jnp.zeros((1, 8, 8, 2))
      >>> moving, objective = jnp.roll(fixed, 1, axis=1), air_jax.losses.make_objective("mse")
      >>> air_jax.optimize.objective_value(objective, fixed, moving, still, geometry=down).tolist()
      [0.0]
    """

    matrix: jax.Array | None = None
    voxel_size: Sequence[float] | None = None
    moving_voxel_size: Sequence[float] | None = None

    def __post_init__(self):
        for name in ("voxel_size", "moving_voxel_size"):
            value = getattr(self, name)
            if value is not None:
                check_spacing(name, value)
                object.__setattr__(self, name, tuple(map(float, value)))  # a tuple, so that it can be hashed

    def sizes(self, num_axes: int) -> tuple[Sizes, Sizes]:
        """Returns both voxel sizes, with their defaults.

        Args:
          num_axes: N, 2 or 3.

        Returns:
          `[N]` of the fixed image, and `[N]` of the moving image.

        Raises:
          OptionError: N is no integer of at least 1, or the number of voxel sizes is not N.
        """
        check_integer("num_axes", num_axes, 1)
        for name in ("voxel_size", "moving_voxel_size"):
            value = getattr(self, name)
            if value is not None and len(value) != num_axes:
                raise OptionError(name, value, f"must have {num_axes} lengths, one an axis")
        voxel_size = tuple(self.voxel_size or (1.0,) * num_axes)
        return voxel_size, tuple(self.moving_voxel_size or voxel_size)


def check_geometry(function: str, geometry: Geometry) -> None:
    """Checks a geometry and its matrix. The class does not: JAX also puts placeholders into pytrees.

    Args:
      function: name of the calling function, for the message.
      geometry: the geometry.

    Raises:
      OptionError: it is no `Geometry`.
      TypeError, ValueError: its matrix is no array of numbers.
    """
    check_instance("geometry", geometry, Geometry, "a Geometry")
    if geometry.matrix is not None:
        check_arrays(function, "fiu", **{"geometry.matrix": geometry.matrix})
