"""Alignment of many frames of one object to a reference, by Gauss-Newton steps on their squared differences.

Frames of a time series differ by small motions and a change of brightness. Then each step solves a small linear system
whose matrix depends on the reference alone (inverse compositional alignment, Baker & Matthews 2004, section 3.2), and
a few steps reach a hundredth of a voxel. `register_affine` is for images that differ more.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm

from air_jax.checks import check_arrays, check_choice, check_finite, check_flag
from air_jax.losses.windows import check_weights
from air_jax.optimize.affine import AFFINES
from air_jax.optimize.geometry import Geometry, Sizes, check_geometry
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import apply_affine, compose_affine, identity_grid, invert_affine, sample, smooth

# Distance of the voxels that count, in voxels; standard deviation of the smoothing, in the shortest side of a voxel;
# steps. Without smoothing, linear interpolation would blur frames by the fraction of a voxel that they moved.
LEVELS = ((4, 3.0, 12), (2, 1.5, 8), (1, 1.0, 8))
LEAST_SIZE = 12  # of the longest axis of a level, in its voxels
LEAST_COVERAGE = 0.5  # share of what the start sees that the result must see
DAMPING = 1e-6  # of the linear system, relative to its largest diagonal entry


@on_any_mesh
def align_frames(
    reference: jax.Array,
    frames: jax.Array,
    *,
    kind: str = "rigid",
    geometry: Geometry = Geometry(),
    weights: jax.Array | None = None,
    from_coarse: bool = True,
) -> jax.Array:
    """Aligns each frame to the reference, from coarse to fine.

    Minimises `sum_x w(x) s(x) (frame(matrix x) - (1 + g) reference(x))^2` over the map and the brightness `g`; `s` is
    0 where the frame shows nothing. The map is about the centre of the grid. A frame that this does not bring closer to
    the reference, by the mean of the squared differences, keeps its start.

    Args:
      reference: `[*S]`, 2-D or 3-D, any range of values.
      frames: `[B, *S]` in the same unit.
      kind: the free parameters, a key of `AFFINES`: "translation", "rigid", "similarity" or "affine".
      geometry: the start, `matrix` `[B, N, N+1]` from voxels of the reference to those of each frame, and the sizes of
        the voxels, which all frames share.
      weights: `[*S]` in [0, 1], how much each voxel of the reference counts. Default: all count alike.
      from_coarse: False leaves the coarse levels out, for a start that is less than a voxel away.

    Returns:
      `[B, N, N+1]`: `frame(matrix(x))` shows what `reference(x)` shows.

    Raises:
      OptionError: `kind` is unknown, or the sizes of the voxels do not fit.
      ValueError: shapes do not fit each other, or values are not finite.

    Examples:
      >>> rows, columns = np.mgrid[:16, :16]
      >>> reference = np.float32(np.exp(-((rows - 7) ** 2 + (columns - 8) ** 2) / 18))
      >>> frames = np.float32(np.exp(-((rows - 8) ** 2 + (columns - 8) ** 2) / 18))[None]
      >>> matrices = air_jax.optimize.align_frames(reference, frames, kind="translation", from_coarse=False)
      >>> round(float(matrices[0, 0, 2]), 1)
      1.0
    """
    check_choice("kind", kind, AFFINES)
    check_arrays("align_frames", "fiub", reference=reference, frames=frames)
    check_flag("from_coarse", from_coarse)
    check_geometry("align_frames", geometry)
    if weights is not None:
        check_arrays("align_frames", "fiub", weights=weights)
    check_finite("align_frames", reference=reference, frames=frames, weights=weights)
    num_axes, expected = reference.ndim, (len(frames), reference.ndim, reference.ndim + 1)
    if num_axes not in (2, 3) or frames.shape[1:] != reference.shape or min(reference.shape) < 2:
        raise ValueError(
            f"align_frames: reference has shape {reference.shape}, frames {frames.shape}; they must be [*S] and "
            "[B, *S], 2-D or 3-D, with at least 2 voxels along each axis"
        )
    if weights is not None:
        check_weights("align_frames", reference[None, ..., None], weights[None])
    matrix = geometry.matrix
    if matrix is None:
        matrix = jnp.broadcast_to(jnp.eye(num_axes, num_axes + 1), expected)
    if matrix.shape != expected:
        raise ValueError(f"align_frames: geometry.matrix has shape {matrix.shape}; it must be {expected}")
    voxel_size, _ = geometry.sizes(num_axes)
    weights = jnp.ones_like(reference) if weights is None else weights
    return _align(reference, frames, weights, matrix, kind, voxel_size, LEVELS if from_coarse else LEVELS[-1:])


@partial(jax.jit, static_argnames=("kind", "voxel_size", "levels"))
def _align(reference, frames, weights, matrix, kind, voxel_size, levels):
    start = matrix
    for stride, sigma, num_steps in levels:
        if stride > 1 and max(reference.shape) < LEAST_SIZE * stride:
            continue
        sigmas = [sigma * min(voxel_size) / size for size in voxel_size]
        blurred = smooth(reference[None, ..., None], sigmas)[0, ..., 0]
        align = _level(blurred, weights, _generators(kind, len(voxel_size)), voxel_size, stride, num_steps)
        matrix = jax.lax.map(partial(_align_smoothed, align, sigmas), (frames, matrix, start))
    return matrix


def _align_smoothed(align, sigmas, arguments):
    frame, matrix, start = arguments
    return align(smooth(frame[None, ..., None], sigmas), matrix, start)


def _generators(kind: str, num_axes: int) -> np.ndarray:
    """Returns a basis `[K, N, N+1]` of the small maps of a kind, in lengths."""
    freedom, basis = AFFINES[kind], []
    for first, second in combinations(range(num_axes), 2) if freedom.rotation else ():
        turn = np.zeros((num_axes, num_axes + 1))
        turn[first, second], turn[second, first] = -1, 1
        basis.append(turn)
    if freedom.stretch:
        for first in range(num_axes):
            for second in range(first, num_axes):
                stretch = np.zeros((num_axes, num_axes + 1))
                stretch[first, second] = stretch[second, first] = 1
                basis.append(stretch)
    elif freedom.scale:
        basis.append(np.eye(num_axes, num_axes + 1))
    for axis in range(num_axes):
        shift = np.zeros((num_axes, num_axes + 1))
        shift[axis, -1] = 1
        basis.append(shift)
    return np.stack(basis).astype(np.float32)


def _level(
    reference: jax.Array, weights: jax.Array, generators: np.ndarray, voxel_size: Sizes, stride: int, num_steps: int
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Returns the function that improves the matrix `[N, N+1]` of a smoothed frame `[1, *S, 1]`, or keeps its start."""
    shape, num_axes = reference.shape, reference.ndim
    # Where an axis is short, its voxels all count.
    strides = [stride if size >= 8 * stride else 1 for size in shape]
    taken = tuple(slice((size - 1) % step // 2, None, step) for size, step in zip(shape, strides, strict=True))
    points = identity_grid(shape)[taken].reshape(-1, num_axes)
    values, counts = (array[taken].reshape(-1) for array in (reference, weights))
    sizes = jnp.asarray(voxel_size, jnp.float32)
    centre = (jnp.asarray(shape, jnp.float32) - 1) / 2
    # Lengths in units of the image's half, so that rotations and translations have like derivatives.
    unit = 0.5 * max(number * size for number, size in zip(shape, voxel_size, strict=True))
    places = (points - centre[None]) * sizes[None] / unit
    gradients = [jnp.gradient(reference, axis=axis) for axis in range(num_axes)]
    slopes = [
        jnp.asarray(gradient)[taken].reshape(-1) * unit / size
        for gradient, size in zip(gradients, voxel_size, strict=True)
    ]
    # What each generator does to the reference at each point: [P, K].
    homogeneous = jnp.concatenate([places, jnp.ones((len(places), 1))], axis=1)
    descent = jnp.einsum("knm,pm,np->pk", generators, homogeneous, jnp.stack(slopes), precision="highest")
    descent = jnp.concatenate([descent, values[:, None]], axis=1)  # the last column is the brightness
    to_places = jnp.concatenate([jnp.diag(sizes / unit), (-centre * sizes / unit)[:, None]], axis=1)[None]
    to_voxels = invert_affine(to_places)

    def compare(frame, matrix):
        """Returns the weight and the difference of each point, `[P]` each."""
        at = apply_affine(matrix[None], points[None])[0]
        inside = jnp.all((at >= 0) & (at <= jnp.asarray(shape, jnp.float32)[None] - 1), axis=-1)
        grid = at.reshape(1, -1, *(1,) * (num_axes - 1), num_axes)
        return counts * inside, sample(frame, grid, mode="nearest").reshape(-1) - values

    def solve(weight, difference, columns):
        weighted = weight[:, None] * columns
        system = jnp.matmul(weighted.T, columns, precision="highest")
        system += DAMPING * (jnp.max(jnp.diag(system)) + 1e-20) * jnp.eye(len(system))
        return jnp.linalg.solve(system, jnp.matmul(weighted.T, difference, precision="highest"))

    def step(frame, matrix):
        solution = solve(*compare(frame, matrix), descent)
        small = _small_map(-solution[:-1], generators, to_places)
        return compose_affine(compose_affine(matrix[None], to_voxels), small)[0]

    def mismatch(frame, matrix):
        """Returns the mean squared difference after the brightness, and the weight of what both show."""
        weight, difference = compare(frame, matrix)
        difference -= descent[:, -1] * solve(weight, difference, descent[:, -1:])
        seen = jnp.sum(weight)
        return jnp.sum(weight * difference**2) / jnp.maximum(seen, 1e-6), seen

    def align(frame, matrix, start):
        found = jax.lax.fori_loop(0, num_steps, lambda _, value: step(frame, value), matrix)
        (after, seen), (before, seen_before) = mismatch(frame, found), mismatch(frame, start)
        better = (after <= before) & (seen >= LEAST_COVERAGE * seen_before)
        return jnp.where(better, found, start)

    return align


def _small_map(parameters: jax.Array, generators: np.ndarray, to_places: jax.Array) -> jax.Array:
    """Returns the map `[1, N, N+1]` of some parameters, from voxels to places: exact rotations, by the exponential."""
    num_axes = generators.shape[1]
    sum_of_generators = jnp.tensordot(parameters, jnp.asarray(generators), axes=1)
    exponent = jnp.zeros((num_axes + 1, num_axes + 1)).at[:num_axes].set(sum_of_generators)
    return compose_affine(expm(exponent)[None, :num_axes], to_places)
