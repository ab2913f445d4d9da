"""Images of label maps, with random contrasts (Billot et al. 2023, SynthSeg; Hoffmann et al. 2022, SynthMorph)."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from air_jax.checks import check_number, require
from air_jax.data.synthetic.noise import smooth_noise

MEANS = (0.1, 0.9)  # range of the labels' grey values; the background's begins at 0
_BIAS_SPACING = 40  # voxels between the control points of the bias field
_LEAST_RANGE = 1e-6  # least range of an image, so that no division by 0 occurs


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Ranges of the random contrasts. 0 leaves a step out.

    Attributes:
      noise: largest standard deviation of the noise of a label's grey values, which are in [0, 1].
      black: probability that the background is 0, without noise. In [0, 1].
      blur: largest standard deviation of the Gaussian blur, in voxels.
      bias: largest root mean square of the logarithm of the bias field.
      gamma: standard deviation of the logarithm of the exponent of the last step.

    Raises:
      OptionError: a value is out of its range.
    """

    noise: float = 0.05
    black: float = 0.2
    blur: float = 1.0
    bias: float = 0.3
    gamma: float = 0.25

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_number(field.name, getattr(self, field.name), low=0)
        require(self.black <= 1, "black", self.black, "must be at most 1")


def draw_images(keys: jax.Array, labels: jax.Array, label_ids: Sequence[int], contrast: Contrast) -> jax.Array:
    """Draws images of label maps: each label has a random mean and a random noise.

    The steps, in this order: grey values, black background, blur, bias field, clipping, range to [0, 1], gamma.

    Args:
      keys: random keys `[B]`, one for each image.
      labels: `[B, *S]` integers.
      label_ids: the ids without 0, sorted. All other ids count as background.
      contrast: ranges of the steps.

    Returns:
      `[B, *S, 1]` float32 in [0, 1]. Each image is a function of its key and labels only.
    """
    ids = jnp.asarray((0, *label_ids))

    def draw(key: jax.Array, labels: jax.Array) -> jax.Array:
        index = jnp.clip(jnp.searchsorted(ids, labels), 0, len(ids) - 1)
        index = jnp.where(ids[index] == labels, index, 0)
        return _draw(key, index, len(ids), contrast)

    return jax.vmap(draw)(keys, labels)[..., None]


def _draw(key: jax.Array, index: jax.Array, num_labels: int, contrast: Contrast) -> jax.Array:
    mean_key, noise_key, black_key, blur_key, bias_key, gamma_key = jax.random.split(key, 6)
    low, high = MEANS
    lowest = jnp.where(jnp.arange(num_labels) == 0, 0.0, low)
    mean_key, deviation_key = jax.random.split(mean_key)
    means = jax.random.uniform(mean_key, (num_labels,), minval=lowest, maxval=high)
    deviations = jax.random.uniform(deviation_key, (num_labels,), maxval=contrast.noise)
    image = means[index] + deviations[index] * jax.random.normal(noise_key, index.shape)
    image = jnp.where((index == 0) & jax.random.bernoulli(black_key, contrast.black), 0, image)
    if contrast.blur:
        image = _blurred(image, jax.random.uniform(blur_key, maxval=contrast.blur), contrast.blur)
    if contrast.bias:
        strength_key, bias_key = jax.random.split(bias_key)
        strength = jax.random.uniform(strength_key, maxval=contrast.bias)
        image = image * jnp.exp(strength * smooth_noise(bias_key, index.shape, _BIAS_SPACING, 1)[..., 0])
    image = jnp.clip(image, 0, 1)
    image = (image - image.min()) / jnp.maximum(image.max() - image.min(), _LEAST_RANGE)
    exponent = jnp.exp(contrast.gamma * jax.random.normal(gamma_key))
    return jnp.power(jnp.maximum(image, _LEAST_RANGE), exponent)


def _blurred(image: jax.Array, sigma: jax.Array, largest: float) -> jax.Array:
    """Smooths `[*S]` with a Gaussian whose standard deviation is not known before; edge values continue outside."""
    radius = math.ceil(3 * largest)
    offsets = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-0.5 * jnp.square(offsets / jnp.maximum(sigma, 0.05)))
    weights = weights / weights.sum()
    for axis, size in enumerate(image.shape):
        padded = jnp.pad(image, [(radius, radius) if i == axis else (0, 0) for i in range(image.ndim)], mode="edge")
        shifted = [jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in range(2 * radius + 1)]
        image = sum((w * part for w, part in zip(weights, shifted, strict=True)), start=jnp.zeros(()))
    return image
