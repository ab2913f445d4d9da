"""Affine registration, the step before a deformation."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

from air_jax.checks import check_choice, check_flag, require
from air_jax.losses.similarity import Similarity, from_tree, to_tree, weights_option
from air_jax.optimize.affine_parameters import AFFINES, Freedom, Parameters, free_gradient, to_matrix
from air_jax.optimize.affine_starts import STARTS, best_start, best_starts, starts, turns
from air_jax.optimize.constraints import Constraints, check_constraints
from air_jax.optimize.field import ROOT_OF_ZERO
from air_jax.optimize.geometry import Geometry, Sizes, check_geometry
from air_jax.optimize.guidance import Guidance, affine_cost, check_guidance
from air_jax.optimize.levels import level_matrix, level_shape
from air_jax.optimize.visibility import Images, check_images, filled, shrink_images
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import apply_affine, compose_affine, identity_grid, sample

# For each level, the factor by which its voxels are larger, and the learning rate of Adam. A parameter of 1 moves the
# edge of the image by half the image.
LEVELS = ((8, 0.02), (4, 0.01), (2, 0.005))
NUM_STEPS = 60  # of Adam, on each level
# Fixed images of at most this many voxels are compared at full resolution on the last level, for so many steps: at half
# of it, the size of a brain with voxels of 4 mm is wrong by 1 %.
FULL_RESOLUTION, NUM_FULL_STEPS = 2**18, 30
MOST_STARTS = 15  # that are optimised for each pair
# The share of the smaller image that both images should show, and the loss that a missing share of 1 adds. It exceeds
# the largest mutual information of 32 bins, log(32): a few voxels that agree by chance are never better.
LEAST_COVERAGE = 0.5
COVERAGE_WEIGHT = 10.0


@on_any_mesh
def register_affine(
    similarity: Similarity,
    fixed: jax.Array,
    moving: jax.Array,
    *,
    kind: str = "affine",
    geometry: Geometry = Geometry(),
    turned: bool = False,
    weights: jax.Array | None = None,
    moving_weights: jax.Array | None = None,
    constraints: Constraints = Constraints(),
    guidance: Guidance | None = None,
) -> jax.Array:
    """Registers by an affine map, from coarse to fine.

    The coarsest level optimises several starts together and keeps the best for each pair: `geometry.matrix` itself,
    with the middles of what counts in the images aligned, and with their centres of mass aligned. Rotations and
    stretches are about the centre of the fixed image. Differentiable in the images and in the arrays of a similarity
    that is a pytree, such as `jax.tree_util.Partial(function, parameters)`: the derivative is that of all steps.

    With `moving_weights` `m` and `weights` `w`, the images are compared over what both show: with the weights
    `w(p) m(matrix(p))`, 0 outside of the moving image. Let the coverage be their sum, divided by that of the image that
    shows less. Below `LEAST_COVERAGE` the loss grows by `COVERAGE_WEIGHT` times what is missing. The derivative is that
    of the samples at constant weights: otherwise it also moves voxels that fit badly out of view. A pair keeps
    `geometry.matrix` where the result is no better by this loss on the last level.

    Args:
      similarity: function of `fixed` and `warped` `[B, *S, C]` that returns `[B]`; lower is better. With weights it
        needs a keyword `weights` `[B, *S]`.
      fixed: `[B, *S, C]` in [0, 1].
      moving: `[B, *V, C]` in [0, 1].
      kind: the free parameters, a key of `AFFINES`: "translation", "rigid", "similarity" or "affine".
      geometry: the start, `matrix` from fixed to moving voxels, and the voxel sizes. Default of the matrix: the
        identity in lengths, `diag(voxel_size / moving_voxel_size)`.
      turned: whether the moving image may be turned by any angle, if the kind rotates: the coarsest level also starts
        from 15 turns of a picture, or 59 of a volume, as far as their loss is low. A volume is turned if the loss on
        this level is lower than without a turn by 10 %: its header says where it lies, and a ball stays as it is.
      weights: `[B, *S]` in [0, 1], the share by which a voxel of the fixed image counts. Default: all count alike.
      moving_weights: `[B, *V]`, the same of the moving image; its surround then does not count. Default: the moving
        image continues outside with its values at the border.
      constraints: of these only `restrict` concerns an affine: `geometry.matrix` is then followed by no movement along
        the axes that are not free. Regions are left to `refine`.
      guidance: landmarks, whose mean cost is added to the similarity. Default: none.

    Returns:
      `[B, N, N + 1]`, from fixed to moving voxels: `warped(p) = moving(matrix(p))`.

    Raises:
      OptionError: an unknown kind, voxel sizes or axes that do not fit, or a similarity that does not take weights.
      ValueError: shapes that do not fit; values that count and are NaN or infinite; landmarks that do not fit.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> moving = jnp.roll(fixed, 1, axis=1)
      >>> matrix = air_jax.optimize.register_affine(air_jax.losses.mse_loss, fixed, moving, kind="translation")
      >>> round(float(matrix[0, 0, 2]), 1)
      1.0
    """
    check_choice("kind", kind, AFFINES)
    require(callable(similarity), "similarity", similarity, "must be a function, such as one of SIMILARITIES")
    check_flag("turned", turned)
    check_geometry("register_affine", geometry)
    images = Images(fixed, moving, weights, moving_weights)
    check_images("register_affine", images, geometry.matrix)
    num_axes, matrix = fixed.ndim - 2, geometry.matrix
    voxel_size, moving_voxel_size = geometry.sizes(num_axes)
    shape = (fixed.shape[0], num_axes, num_axes + 1)
    if matrix is None:
        scale = jnp.asarray(voxel_size, jnp.float32) / jnp.asarray(moving_voxel_size, jnp.float32)
        matrix = jnp.broadcast_to(jnp.concatenate([jnp.diag(scale), jnp.zeros((num_axes, 1))], axis=1), shape)
    check_constraints("register_affine", fixed, constraints)
    check_guidance("register_affine", fixed, guidance)
    free = constraints.free(num_axes)
    rotations = turns(num_axes) if turned and AFFINES[kind].rotation and all(free) else turns(num_axes)[:1]
    sizes = voxel_size, moving_voxel_size
    return _register(to_tree(similarity), images, matrix, guidance, AFFINES[kind], sizes, rotations, free)


@partial(jax.jit, static_argnames=("freedom", "sizes", "rotations", "free"))
def _register(similarity, images, matrix, guidance, freedom, sizes, rotations, free):
    similarity, images = from_tree(similarity), filled(images)
    shape, voxel_size, copies = images.fixed.shape[1:-1], sizes[0], STARTS * len(rotations)
    level = partial(_level_loss, similarity, images, matrix, guidance, sizes, free)
    parameters = starts(images, matrix, voxel_size, rotations)
    # Volumes have headers: the starts without a turn are preferred. Pictures are laid down by hand.
    preferred = STARTS if len(shape) == 3 else 0
    if copies > MOST_STARTS:
        values = _one_by_one(level(LEVELS[0][0], STARTS), parameters, matrix.shape[0])
        parameters = best_starts(parameters, values, MOST_STARTS, preferred)
        copies = MOST_STARTS
    for number, (factor, learning_rate) in enumerate(LEVELS):
        at_full = number == len(LEVELS) - 1 and math.prod(shape) <= FULL_RESOLUTION
        loss = level(1 if at_full else factor, copies)
        num_steps = NUM_FULL_STEPS if at_full else NUM_STEPS
        parameters, lowest = _descend(loss, parameters, freedom, learning_rate, num_steps)
        if copies > 1:
            parameters, copies = best_start(parameters, lowest.reshape(-1, copies), preferred), 1
    result = compose_affine(matrix, to_matrix(parameters, shape, voxel_size, free))
    if images.moving_weights is None:
        return result
    better = lowest < loss(jax.tree.map(jnp.zeros_like, parameters))
    return jnp.where(better[:, None, None], result, matrix)


def _one_by_one(loss: Callable[[Parameters], jax.Array], parameters: Parameters, batch: int) -> jax.Array:
    """Losses `[B, starts]` of many starts, those of one rotation after the other: together they need much memory."""
    split = jax.tree.map(lambda array: array.reshape(batch, -1, STARTS, *array.shape[1:]), parameters)
    split = jax.tree.map(lambda array: jnp.moveaxis(array, 1, 0), split)  # [rotations, B, STARTS, ...]
    values = lax.map(lambda each: loss(jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), each)), split)
    values = jnp.moveaxis(values.reshape(-1, batch, STARTS), 0, 1)
    return lax.stop_gradient(values.reshape(batch, -1))


def _level_loss(
    similarity: Similarity,
    images: Images,
    matrix: jax.Array,
    guidance: Guidance | None,
    sizes: tuple[Sizes, Sizes],
    free: Sequence[float],
    factor: float,
    copies: int,
) -> Callable[[Parameters], jax.Array]:
    """Loss of parameters on the grids of one level, for a number of starts a pair."""
    (voxel_size, moving_voxel_size), length = sizes, factor * min(sizes[0])
    shape, moving_shape = images.fixed.shape[1:-1], images.moving.shape[1:-1]
    coarse = level_shape(shape, length, voxel_size)
    coarse_moving = level_shape(moving_shape, length, moving_voxel_size)
    repeat = partial(jnp.repeat, repeats=copies, axis=0)
    small = jax.tree.map(repeat, shrink_images(images, coarse, coarse_moving))
    start, guides = repeat(matrix), jax.tree.map(repeat, guidance)

    def loss(parameters):
        total = compose_affine(start, to_matrix(parameters, shape, voxel_size, free))
        value = _loss(similarity, small, level_matrix(total, shape, moving_shape, coarse, coarse_moving))
        return value if guides is None else value + affine_cost(guides, total, sizes)

    return loss


def _loss(similarity: Similarity, images: Images, matrix: jax.Array) -> jax.Array:
    """Loss `[B]` of images aligned by a matrix, with the penalty on low coverage."""
    points = identity_grid(images.fixed.shape[1:-1])[None]
    points = apply_affine(matrix, jnp.broadcast_to(points, (matrix.shape[0], *points.shape[1:])))
    warped = sample(images.moving, points, mode="nearest")
    weights = images.weights
    if images.moving_weights is None:
        return similarity(images.fixed, warped, **weights_option(similarity, weights))
    seen = sample(images.moving_weights, points)
    seen = seen if weights is None else weights * seen
    axes = tuple(range(1, seen.ndim))
    # A voxel of the moving image is as large as this many voxels of the fixed one.
    volume = 1 / jnp.maximum(jnp.abs(jnp.linalg.det(matrix[..., :-1])), 1e-6)
    of_fixed = math.prod(seen.shape[1:]) if weights is None else jnp.sum(weights, axis=axes)
    smaller = jnp.minimum(of_fixed, volume * jnp.sum(images.moving_weights, axis=axes))
    coverage = jnp.sum(seen, axis=axes) / jnp.maximum(lax.stop_gradient(smaller), 1e-6)
    value = similarity(images.fixed, warped, **weights_option(similarity, lax.stop_gradient(seen)))
    return value + COVERAGE_WEIGHT * jax.nn.relu(LEAST_COVERAGE - coverage)


def _descend(
    loss: Callable[[Parameters], jax.Array],
    parameters: Parameters,
    freedom: Freedom,
    learning_rate: float,
    num_steps: int,
) -> tuple[Parameters, jax.Array]:
    """Optimises by Adam with a learning rate that falls to zero; returns the best parameters and their loss `[B]`."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps), eps_root=ROOT_OF_ZERO)

    def value(parameters):
        values = loss(parameters)
        return jnp.sum(values), values

    # In reverse mode a step is computed again, instead of kept in memory with its images.
    @jax.checkpoint
    def step(carry, _):
        parameters, state, best, lowest = carry
        (_, values), gradient = jax.value_and_grad(value, has_aux=True)(parameters)
        better = values < lowest
        best = jax.tree.map(
            lambda new, old: jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old), parameters, best
        )
        updates, state = optimizer.update(free_gradient(gradient, freedom), state)
        return (optax.apply_updates(parameters, updates), state, best, jnp.minimum(values, lowest)), None

    lowest = jnp.full_like(parameters.translation[:, 0], jnp.inf)
    carry = parameters, optimizer.init(parameters), parameters, lowest
    (_, _, best, lowest), _ = jax.lax.scan(step, carry, length=num_steps)
    return best, lowest
