"""Where each voxel is pulled: demons' forces of intensities and of classes, and what keeps them from compressing."""

import jax
import jax.numpy as jnp

from air_jax.transforms import jacobian_determinant, smooth

WINDOW_SIGMA = 1.0  # of the Gaussian windows that images are normalised in, in voxels
CONTRAST_FLOOR = 0.02  # windows with less contrast, in images of [0, 1], are taken for flat
FLATNESS = 0.01  # voxels without slope and difference have no force
SMOOTHINGS = (1.0, 2.0)  # of forces, in multiples of their `sigma`
FADING = 0.5  # of its volume: over which what is compressed follows its classes less and less
DENSITY_SIGMA = 0.7  # of the smoothing of what is compressed, in voxels
DENSEST = 20.0  # density from which on, and where the field folds, voxels push no harder


def normalize_locally(image: jax.Array) -> jax.Array:
    """An image whose brightness and contrast are the same everywhere: `[B, *S, C]` in [0, 1] to `[B, *S, C]`.

    Each voxel minus the mean of the Gaussian window around it, over the window's standard deviation (as in the local
    correlation of Cachier & Pennec 2000).
    """
    # Centred first, because the mean square minus the squared mean loses the digits that the two have in common.
    image = image - jnp.mean(image, axis=tuple(range(1, image.ndim - 1)), keepdims=True)
    mean, mean_square = jnp.split(
        smooth(jnp.concatenate([image, jnp.square(image)], axis=-1), WINDOW_SIGMA), 2, axis=-1
    )
    variance = mean_square - jnp.square(mean)
    return (image - mean) * jax.lax.rsqrt(jnp.maximum(variance, CONTRAST_FLOOR**2))


def forces(fixed: jax.Array, warped: jax.Array, sigma: float = 1.0) -> list[jax.Array]:
    """Small displacements, voxel by voxel, that bring the values of `warped` closer to those of `fixed`.

    Thirion's (1998, equation 4), with the mean of both images' slopes, which takes fewer steps (the symmetric forces of
    Vercauteren et al. 2009); they compose with the displacement so far, and a voxel moves by half a voxel at most.
    Several channels count together.

    Args:
      fixed, warped: `[B, *S, C]`, of a contrast of about 1: see `normalize_locally`.
      sigma: of the Gaussian that they are smoothed by at least, in voxels.

    Returns:
      `[B, *S, N]`, in voxels, for each of `SMOOTHINGS`: smoothed by so many times `sigma`.
    """
    return _pulls(fixed - warped, fixed, warped, sigma)


def overlap_forces(fixed: jax.Array, warped: jax.Array, sigma: float = 1.0) -> list[jax.Array]:
    """As `forces`, but towards a larger overlap of classes.

    Where soft Dice rises with the warped probability of a class, it is wanted: where the fixed one is above half of the
    Dice that there is (the derivative of `2 sum(f w) / (sum f + sum w)` by `w`). So what is uncertain in the one image
    comes to lie within what is likely in the other, where equal probabilities would let it stay at its rim. Where
    probabilities have slopes inside a structure, this compresses its inside: see `leeway`.

    Args:
      fixed, warped: `[B, *S, C]` probabilities, without those of the background.
      sigma: as of `forces`.
    """
    axes = tuple(range(1, fixed.ndim - 1))
    overlap, total = (jnp.sum(values, axis=axes, keepdims=True) for values in (fixed * warped, fixed + warped))
    return _pulls(fixed - overlap / jnp.maximum(total, 1.0), fixed, warped, sigma)


def leeway(displacement: jax.Array, least_volume: float) -> jax.Array:
    """How far each voxel may follow its classes: not at all where the displacement leaves `least_volume` of its volume
    or less, wholly where it leaves `FADING` more.

    Without it, overlap is gained by sampling all of an uncertain structure from the certain middle of the other. It is
    a brake and no bound: a step may overshoot, and what is compressed less is compressed in more places.

    Args:
      displacement: `[B, *S, N]` in voxels.
      least_volume: a Jacobian determinant. Above `1 - FADING`, voxels whose volume is kept are held back as well.

    Returns:
      `[B, *S, 1]` in [0, 1], smoothed by a voxel.
    """
    volume = _volume(displacement)
    return smooth(jnp.clip((volume - least_volume) / FADING, 0.0, 1.0), 1.0)


def volume_forces(displacement: jax.Array, least_volume: float) -> jax.Array:
    """Displacements, voxel by voxel, that let compressed regions expand into their surroundings.

    Minus the gradient of the logarithm of the density, `(least_volume + FADING) / J`, where that is above 1, smoothed
    slightly. Composed with the displacement, it makes the density spread as heat does; more than 1 of it overshoots, 2
    are unstable. Where `leeway` stops what would compress further, this frees what is compressed. Around folds it
    reaches 1.3 voxels, and a whole one of it may fold rough fields further.

    Args:
      displacement: `[B, *S, N]` in voxels.
      least_volume: as of `leeway`: the density is counted from where that starts to hold back.

    Returns:
      `[B, *S, N]` in voxels.
    """
    ratio = _volume(displacement) / (least_volume + FADING)
    density = jnp.maximum(-jnp.log(jnp.maximum(ratio, 1 / DENSEST)), 0.0)
    slopes = jnp.gradient(smooth(density, DENSITY_SIGMA)[..., 0], axis=tuple(range(1, displacement.ndim - 1)))
    return -jnp.stack(slopes, axis=-1)


def _volume(displacement: jax.Array) -> jax.Array:
    """The Jacobian determinant at every voxel, `[B, *S, N]` to `[B, *S, 1]`; at borders, that of the neighbour inside.

    1 where an axis is too short for a derivative (3 voxels).
    """
    if min(displacement.shape[1:-1]) < 3:
        return jnp.ones((*displacement.shape[:-1], 1))
    inside = jacobian_determinant(displacement)
    return jnp.pad(inside, [(0, 0)] + [(1, 1)] * (inside.ndim - 1), mode="edge")[..., None]


def _pulls(wanted: jax.Array, fixed: jax.Array, warped: jax.Array, sigma: float) -> list[jax.Array]:
    """Demons' forces that let the values of `warped` rise where `wanted` is positive, with each of `SMOOTHINGS`."""
    slopes = jnp.gradient(0.5 * (fixed + warped), axis=tuple(range(1, fixed.ndim - 1)))
    size = sum(jnp.sum(jnp.square(values), axis=-1, keepdims=True) for values in (wanted, *slopes)) + FLATNESS
    pull = [jnp.sum(wanted * slope, axis=-1, keepdims=True) for slope in slopes]
    force = jnp.concatenate(pull, axis=-1) / size
    smoothed, reached = [], 0.0
    for multiple in SMOOTHINGS:  # Gaussians add up in their squares
        force, reached = smooth(force, sigma * (multiple**2 - reached**2) ** 0.5), multiple
        smoothed.append(force)
    return smoothed
