"""Forces of demons, damping and expansion in NumPy and SciPy, in float64, for one image without a batch axis."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

WINDOW_SIGMA, MIN_CONTRAST, MIN_NORM = 1.0, 0.02, 0.01
DAMPING_RANGE, DAMPING_SIGMA, DENSITY_SIGMA, MAX_DENSITY = 0.5, 1.0, 0.7, 20.0


def blurred(image, sigma):
    """Smooths `[*S]` or `[*S, F]` along its first `S` axes, as many as `sigma` has numbers."""
    radius = [int(np.ceil(3 * s)) for s in sigma]
    axes = tuple(range(len(sigma)))
    return gaussian_filter(np.float64(image), sigma, mode="nearest", radius=radius, axes=axes)


def smoothed(image, sigma):
    """Smooths `[*S, F]` by the same Gaussian along every spatial axis."""
    return blurred(image, (sigma,) * (image.ndim - 1)) if sigma else np.float64(image)


def smooth_images(rng, shape, channels=1, count=2):
    """Smooth random images `[count, 1, *S, C]` in [0, 1]."""
    images = smoothed_noise(rng, (count, channels, *shape))
    images = (images - images.min()) / np.ptp(images)
    return np.float32(np.moveaxis(images, 1, -1)[:, None])


def smoothed_noise(rng, shape):
    return np.stack([[gaussian_filter(channel, 1.5) for channel in image] for image in rng.random(shape)])


def normalized(image):
    """Local normalisation of `[*S, C]`."""
    image = np.float64(image) - np.float64(image).mean(axis=tuple(range(image.ndim - 1)))
    mean = smoothed(image, WINDOW_SIGMA)
    variance = smoothed(image**2, WINDOW_SIGMA) - mean**2
    return (image - mean) / np.sqrt(np.maximum(variance, MIN_CONTRAST**2))


def forces(wanted, fixed, warped, sigma):
    """Demons' forces `[*S, N]` with the smoothings `sigma` and `2 * sigma`, of values `[*S, C]`."""
    num_axes = fixed.ndim - 1
    slopes = (np.stack(np.gradient(image, axis=tuple(range(num_axes))), axis=-1) for image in (fixed, warped))
    slope = sum(slopes) / 2  # [*S, C, N]
    norm = (slope**2).sum((-2, -1)) + (wanted**2).sum(-1) + MIN_NORM
    force = (wanted[..., None] * slope).sum(-2) / norm[..., None]
    assert np.linalg.norm(force, axis=-1).max() <= 0.5
    narrow = smoothed(force, sigma)
    return [narrow, smoothed(narrow, np.sqrt(3) * sigma)]


def dice_slope(fixed, warped):
    """Derivative of each class's soft Dice by its warped probabilities `[*S, K]`, times half of the classes' sums."""
    axes = tuple(range(fixed.ndim - 1))
    total = (fixed + warped).sum(axes)
    dice = 2 * (fixed * warped).sum(axes) / total
    return (2 * fixed / total - dice / total) * total / 2


def determinant(displacement):
    """Jacobian determinants `[*S]` of `[*S, N]`; voxels of the border take those of their inner neighbours."""
    num_axes = displacement.shape[-1]
    slopes = np.stack([np.gradient(displacement[..., axis]) for axis in range(num_axes)])  # [N, N, *S]
    determinants = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(num_axes))
    return np.pad(determinants[(slice(1, -1),) * num_axes], 1, mode="edge")


def damping(displacement, min_jacobian):
    """Damping factors `[*S, 1]` of the class forces."""
    factor = np.clip((determinant(displacement) - min_jacobian) / DAMPING_RANGE, 0, 1)
    return smoothed(factor[..., None], DAMPING_SIGMA)


def expansion(displacement, min_jacobian):
    """Expansion `[*S, N]`: minus the gradient of the smoothed logarithm of the density."""
    ratio = determinant(displacement) / (min_jacobian + DAMPING_RANGE)
    density = np.maximum(0, -np.log(np.maximum(ratio, 1 / MAX_DENSITY)))
    return -np.stack(np.gradient(smoothed(density[..., None], DENSITY_SIGMA)[..., 0]), axis=-1)


def warped_by(image, displacement, mode):
    """Samples `[*S, C]` linearly at the grid plus a displacement `[*S, N]`."""
    coordinates = np.moveaxis(np.moveaxis(np.indices(image.shape[:-1]), 0, -1) + displacement, -1, 0)
    channels = np.moveaxis(np.float64(image), -1, 0)
    return np.stack([map_coordinates(c, coordinates, order=1, mode=mode) for c in channels], axis=-1)


def with_edges(image):
    """Appends the gradient magnitude of `[*S, C]`, smoothed by 0.7 voxels, times 2."""
    slopes = np.gradient(smoothed(image, 0.7), axis=tuple(range(image.ndim - 1)))
    return np.concatenate([image, 2 * np.sqrt(sum(slope**2 for slope in slopes) + 1e-6)], axis=-1)


def demons(fixed, moving, classes, *, num_steps, force_gain, force_sigma, total_sigma, edges, min_jacobian, expand):
    """Demons steps at full resolution, of images `[*S, C]` and class probabilities (two of `[*S, K]`, or None)."""
    displacement = np.zeros((*fixed.shape[:-1], fixed.ndim - 1))
    fixed, moving = (with_edges(image) if edges else image for image in (fixed, moving))
    for _ in range(num_steps):
        f, w = normalized(fixed), normalized(warped_by(moving, displacement, "grid-constant"))
        step = force_gain[0] * sum(forces(f - w, f, w, force_sigma))
        if classes:
            # Sampled outside the image, a class has probability 0.
            f, w = np.float64(classes[0][..., 1:]), warped_by(classes[1][..., 1:], displacement, "grid-constant")
            pull = sum(forces(dice_slope(f, w), f, w, force_sigma))
            step = step + force_gain[1] * damping(displacement, min_jacobian) * pull
        if expand:
            step = step + expand * expansion(displacement, min_jacobian)
        displacement = smoothed(step + warped_by(displacement, step, "nearest"), total_sigma)
    return displacement
