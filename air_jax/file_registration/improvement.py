"""Whether a step of a registration improves its own criterion, measured over what both images show."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.file_registration.grids import relative_sizes
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.scores import overlap
from air_jax.losses import Objective
from air_jax.optimize import Geometry, fill, objective_value

# Of what the pair shows after a step, the share that it must show before it also. Below, they are not comparable: the
# headers may place the images side by side.
LEAST_COMMON = 0.1

Alignment = tuple[jax.Array, np.ndarray]  # displacement `[*S, N]`, and the matrix `[N, N + 1]` that follows it
Guide = Callable[..., jax.Array]


def geometry_of(inputs: Inputs, *matrices: np.ndarray) -> Geometry:
    """Returns the geometry of a pair, or of several pairs with its voxel sizes.

    Args:
      inputs: the files' content.
      *matrices: `[N, N + 1]` from fixed to moving voxels, one a pair.
    """
    sizes = inputs.fixed.volume.spacing.tolist(), inputs.moving.volume.spacing.tolist()
    if not inputs.guides.are_local:  # their tolerance is in mm; else only the proportions matter
        sizes = relative_sizes(*sizes)
    return Geometry(jnp.asarray(np.stack(matrices), jnp.float32), *sizes)


def improves(
    name: str,
    objective: Objective,
    images: tuple[jax.Array, jax.Array],
    inputs: Inputs,
    before: Alignment,
    after: Alignment,
    *,
    guide: Guide | None = None,
) -> bool:
    """Compares two alignments where both show the moving image, and prints when the second is no better.

    Args:
      name: of the step, for the message.
      objective: the criterion; lower is better.
      images: the fixed and the moving image that it compares, `[1, *S, C]` and `[1, *V, C]`.
      inputs: the files' content.
      before, after: the alignments.
      guide: function of a displacement `[1, *S, N]` and a keyword `geometry` that returns what landmarks add,
        `[1]`, to be added to the criterion. Default: nothing.

    Returns:
      Whether the second is better, or the first shows too little to tell.
    """
    seen_after = overlap(inputs, *after)
    common = overlap(inputs, *before) * seen_after
    if float(common.sum()) < LEAST_COMMON * float(seen_after.sum()):
        return True
    fixed, moving = images
    moving = fill(moving, inputs.moving_weights)
    losses = []
    for displacement, matrix in (before, after):
        geometry = geometry_of(inputs, matrix)
        value = objective_value(objective, fixed, moving, displacement[None], geometry=geometry, weights=common)
        added = 0.0 if guide is None else float(guide(displacement[None], geometry=geometry)[0])
        losses.append(float(value[0]) + added)
    if losses[1] < losses[0]:
        return True
    values = f"{losses[0]:.4g} before, {losses[1]:.4g} after"
    print(f"the {name} does not improve its criterion ({values}): dropped", flush=True)
    return False
