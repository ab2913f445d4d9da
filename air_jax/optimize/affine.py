"""Affine registration, the step before a deformation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from air_jax.errors import OptionError
from air_jax.optimize.geometry import Geometry
from air_jax.optimize.levels import level_matrix, level_shape
from air_jax.transforms import apply_affine, compose_affine, identity_grid, invert_affine, sample
from air_jax.transforms.filters import shrink

# For each level, the factor by which its voxels are larger, and the learning rate of Adam. A parameter of 1 moves the
# edge of the image by half the image.
LEVELS = ((8, 0.02), (4, 0.01), (2, 0.005))
NUM_STEPS = 60  # of Adam, on each level

Similarity = Callable[[jax.Array, jax.Array], jax.Array]


class Freedom(NamedTuple):
    """The parameters of an affine that are free, besides the translation."""

    rotation: bool
    scale: bool
    stretch: bool


AFFINES = {
    "translation": Freedom(False, False, False),
    "rigid": Freedom(True, False, False),
    "similarity": Freedom(True, True, False),
    "affine": Freedom(True, True, True),
}


class _Parameters(NamedTuple):
    """Parameters of affines, `[B, ...]` each. The identity has zeros.

    Attributes:
      translation: `[B, N]`, in half the image's length.
      rotation: `[B, N (N - 1) / 2]`, in radians.
      stretch: `[B, N, N]`; its symmetric part plus the identity is the stretch.
    """

    translation: jax.Array
    rotation: jax.Array
    stretch: jax.Array


def register_affine(
    similarity: Similarity,
    fixed: jax.Array,
    moving: jax.Array,
    *,
    kind: str = "affine",
    geometry: Geometry = Geometry(),
    angles: Sequence[float] = (0.0,),
) -> jax.Array:
    """Registers by an affine map, from coarse to fine.

    The coarsest level optimises several starts together and keeps the best for each pair: `geometry.matrix` itself,
    with the images' centres aligned, and with their centres of mass aligned. Rotations and stretches are about the
    centre of the fixed image.

    Args:
      similarity: function of `fixed` and `warped` `[B, *S, C]` that returns `[B]`; lower is better.
      fixed: `[B, *S, C]` in [0, 1].
      moving: `[B, *V, C]` in [0, 1].
      kind: the free parameters, a key of `AFFINES`: "translation", "rigid", "similarity" or "affine".
      geometry: the start, `matrix` from fixed to moving voxels, and the voxel sizes. Default of the matrix: the
        identity in lengths, `diag(voxel_size / moving_voxel_size)`.
      angles: rotations in radians that are tried as starts, in 2-D only.

    Returns:
      `[B, N, N + 1]`, from fixed to moving voxels: `warped(p) = moving(matrix(p))`.

    Raises:
      OptionError: an unknown kind, or voxel sizes that do not fit.
      ValueError: a matrix that does not fit the images.
    """
    if kind not in AFFINES:
        raise OptionError("kind", kind, f"must be one of {', '.join(AFFINES)}")
    num_axes, matrix = fixed.ndim - 2, geometry.matrix
    voxel_size, moving_voxel_size = geometry.sizes(num_axes)
    shape = (len(fixed), num_axes, num_axes + 1)
    if matrix is None:
        scale = jnp.asarray(voxel_size, jnp.float32) / jnp.asarray(moving_voxel_size, jnp.float32)
        matrix = jnp.broadcast_to(jnp.concatenate([jnp.diag(scale), jnp.zeros((num_axes, 1))], axis=1), shape)
    if matrix.shape != shape:
        raise ValueError(f"register_affine: geometry.matrix has shape {matrix.shape}; it must be {shape}")
    angles = tuple(map(float, angles)) if num_axes == 2 else (0.0,)
    return _register(similarity, fixed, moving, matrix, AFFINES[kind], (voxel_size, moving_voxel_size), angles)


@partial(jax.jit, static_argnames=("similarity", "freedom", "sizes", "angles"))
def _register(similarity, fixed, moving, matrix, freedom, sizes, angles):
    shape, moving_shape = fixed.shape[1:-1], moving.shape[1:-1]
    voxel_size, moving_voxel_size = sizes
    starts = _starts(fixed, moving, matrix, voxel_size, angles)
    num_starts = len(starts.translation) // len(fixed)
    parameters = starts

    for level, (factor, learning_rate) in enumerate(LEVELS):
        length = factor * min(voxel_size)
        coarse = level_shape(shape, length, voxel_size)
        coarse_moving = level_shape(moving_shape, length, moving_voxel_size)
        copies = num_starts if level == 0 else 1
        images = [
            jnp.repeat(shrink(image, size), copies, axis=0)
            for image, size in ((fixed, coarse), (moving, coarse_moving))
        ]
        start = jnp.repeat(matrix, copies, axis=0)

        def loss(parameters, images=images, start=start, coarse=coarse, coarse_moving=coarse_moving):
            total = compose_affine(start, _to_matrix(parameters, shape, voxel_size))
            total = level_matrix(total, shape, moving_shape, coarse, coarse_moving)
            points = apply_affine(
                total, jnp.broadcast_to(identity_grid(coarse)[None], (len(total), *coarse, len(coarse)))
            )
            return similarity(images[0], sample(images[1], points, mode="nearest"))

        parameters, lowest = _descend(loss, parameters, freedom, learning_rate)
        if level == 0:
            best = jnp.argmin(lowest.reshape(-1, num_starts), axis=1) + jnp.arange(len(fixed)) * num_starts
            parameters = jax.tree.map(lambda array, best=best: array[best], parameters)
    return compose_affine(matrix, _to_matrix(parameters, shape, voxel_size))


def _descend(
    loss: Callable[[_Parameters], jax.Array],
    parameters: _Parameters,
    freedom: Freedom,
    learning_rate: float,
) -> tuple[_Parameters, jax.Array]:
    """Optimises by Adam with a learning rate that falls to zero; returns the best parameters and their loss `[B]`."""
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, NUM_STEPS))

    def value(parameters):
        values = loss(parameters)
        return jnp.sum(values), values

    def step(carry, _):
        parameters, state, best, lowest = carry
        (_, values), gradient = jax.value_and_grad(value, has_aux=True)(parameters)
        better = values < lowest
        best = jax.tree.map(
            lambda new, old: jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old), parameters, best
        )
        updates, state = optimizer.update(_free(gradient, freedom), state)
        return (optax.apply_updates(parameters, updates), state, best, jnp.minimum(values, lowest)), None

    lowest = jnp.full(len(parameters.translation), jnp.inf)
    carry = parameters, optimizer.init(parameters), parameters, lowest
    (_, _, best, lowest), _ = jax.lax.scan(step, carry, length=NUM_STEPS)
    return best, lowest


def _free(gradient: _Parameters, freedom: Freedom) -> _Parameters:
    """Sets the gradient of the parameters that are not free to zero."""
    translation, rotation, stretch = gradient
    if not freedom.rotation:
        rotation = jnp.zeros_like(rotation)
    if not freedom.stretch:
        trace = jnp.trace(stretch, axis1=1, axis2=2) * freedom.scale
        stretch = trace[:, None, None] * jnp.eye(stretch.shape[-1])[None]
    return _Parameters(translation, rotation, stretch)


def _frame(shape: Sequence[int], voxel_size: Sequence[float]) -> tuple[jax.Array, jax.Array, float]:
    """Centre of the fixed image in voxels, its voxel size, and half of its longest side in the same unit."""
    size = jnp.asarray(voxel_size, jnp.float32)
    half = max(0.5 * number * length for number, length in zip(shape, voxel_size, strict=True))
    return (jnp.asarray(shape, jnp.float32) - 1) / 2, size, half


def _to_matrix(parameters: _Parameters, shape: Sequence[int], voxel_size: Sequence[float]) -> jax.Array:
    """Affine `[B, N, N + 1]` from fixed to fixed voxels: `centre + linear (p - centre) + translation`."""
    centre, size, half = _frame(shape, voxel_size)
    translation, rotation, stretch = parameters
    symmetric = 0.5 * (stretch + jnp.swapaxes(stretch, 1, 2))
    linear = jnp.matmul(_rotation(rotation, len(shape)), jnp.eye(len(shape))[None] + symmetric)
    linear = linear * size[None, None] / size[None, :, None]  # from lengths to voxels
    offset = centre[None] + half * translation / size[None] - jnp.sum(linear * centre[None, None], axis=-1)
    return jnp.concatenate([linear, offset[..., None]], axis=-1)


def _rotation(rotation: jax.Array, num_axes: int) -> jax.Array:
    """Converts angles `[B, N (N - 1) / 2]` in radians to rotations `[B, N, N]` by Rodrigues' formula."""
    rows, columns = jnp.triu_indices(num_axes, 1)
    upper = jnp.zeros((len(rotation), num_axes, num_axes)).at[:, rows, columns].set(rotation)
    skew = upper - jnp.swapaxes(upper, 1, 2)
    # The small number keeps the square root differentiable at zero.
    angle = jnp.sqrt(jnp.sum(jnp.square(rotation), axis=-1) + 1e-12)[:, None, None]
    first, second = jnp.sinc(angle / jnp.pi), 0.5 * jnp.square(jnp.sinc(0.5 * angle / jnp.pi))
    return jnp.eye(num_axes)[None] + first * skew + second * jnp.matmul(skew, skew)


def _starts(
    fixed: jax.Array, moving: jax.Array, matrix: jax.Array, voxel_size: Sequence[float], angles: Sequence[float]
) -> _Parameters:
    """Parameters of all starts, `[B * starts, ...]`; the starts of one pair are consecutive."""
    shape, moving_shape = fixed.shape[1:-1], moving.shape[1:-1]
    num_axes, batch = len(shape), len(fixed)
    centre, size, half = _frame(shape, voxel_size)
    back = invert_affine(matrix)

    def onto(here, there):
        """Translation that maps the fixed image's point `here` `[B, N]` to the moving image's point `there`."""
        return (apply_affine(back, there) - here) * size[None] / half

    middle = jnp.broadcast_to((jnp.asarray(moving_shape, jnp.float32) - 1) / 2, (batch, num_axes))
    translations = [
        jnp.zeros((batch, num_axes)),
        onto(jnp.broadcast_to(centre, (batch, num_axes)), middle),
        onto(_centre_of_mass(fixed), _centre_of_mass(moving)),
    ]
    translation = jnp.repeat(jnp.stack(translations, axis=1), len(angles), axis=1)
    translation = translation.reshape(-1, num_axes)
    count = len(translation)
    rotation = jnp.zeros((count, num_axes * (num_axes - 1) // 2))
    if num_axes == 2:
        rotation = jnp.tile(jnp.asarray(angles), count // len(angles))[:, None]
    return _Parameters(translation, rotation, jnp.zeros((count, num_axes, num_axes)))


def _centre_of_mass(image: jax.Array) -> jax.Array:
    """Centre of mass `[B, N]` in voxels of images `[B, *S, C]`. The mass is the distance of the intensity from the mean
    of the border, so that the background may be black or white.
    """
    axes = tuple(range(1, image.ndim - 1))
    border = [jnp.mean(jnp.take(image, jnp.asarray([0, -1]), axis=axis), axis=axes, keepdims=True) for axis in axes]
    mass = jnp.sum(jnp.abs(image - sum(border) / len(border)), axis=-1, keepdims=True)
    grid = identity_grid(image.shape[1:-1])[None]
    return jnp.sum(mass * grid, axis=axes) / jnp.maximum(jnp.sum(mass, axis=axes), 1e-6)
