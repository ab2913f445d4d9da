"""Unrolled demons: a fixed number of demons steps, coarse to fine, by forces of intensities and of classes."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.demons_step import (
    DemonsOptions,
    apply_step,
    demons_forces,
    force_channels,
    require_gain,
    total_force,
)
from air_jax.models.layers.inputs import check_pair
from air_jax.models.layers.level_state import make_level, on_grid
from air_jax.models.layers.options import require_positive_integers, require_same_length
from air_jax.models.segmenter import Segmenter, require_segmenter, segment, segment_pair
from air_jax.runtime.any_mesh import zeros_for


class UnrolledDemons(nn.Module):
    """Registers with a fixed number of demons steps on several levels, coarse to fine. It has no attention.

    Each step adds the forces between the locally normalised images and, with a segmenter, the forces between the
    images' class probabilities. The only parameters are those of the segmenter, `params["segmenter"]`; the displacement
    does not train them (compare DeepAtlas, Xu & Niethammer 2019). Works in 2-D and 3-D and for any size.

    Attributes:
      downsampling: size of each level's voxels in voxels of the image, one number for each level, coarse to fine.
      num_steps: number of steps for each level.
      force_gain: `(intensity, class)` factors of the forces. Each force is at most half a voxel long and is used with
        two smoothings.
      force_sigma: standard deviation, in voxels of the level, of the Gaussian that smooths the forces; a second
        Gaussian is twice as wide. Smaller values follow finer detail.
      total_sigma: standard deviation, in voxels of the level, of the Gaussian that smooths the whole displacement after
        each step. Smaller values give a rougher displacement.
      edges: whether the images' edges also exert forces, see `air_jax.transforms.with_edges`.
      min_jacobian: Jacobian determinant, at least 0, below which class forces are 0, see `class_force_damping`. Smaller
        values give more overlap where classes are uncertain, and stronger compression.
      expansion: factor in [0, 2) of `expansion_displacement`, which each step adds. Values above 1 overshoot. 0: none.
      segmenter: predicts the class probabilities of each image. None: forces of intensities only.

    Raises:
      OptionError: an option has a value that it cannot take, or options do not fit together.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 1)).at[:, 2:6, 2:6].set(1.0)
      >>> model = air_jax.models.UnrolledDemons(downsampling=(1,), num_steps=(1,))
      >>> displacement, out = model.apply({}, fixed, jnp.roll(fixed, 1, axis=1))
      >>> displacement.shape, float(displacement[0, ..., 0].mean()) > 0
      ((1, 8, 8, 2), True)
    """

    downsampling: Sequence[int] = (4, 2, 1)
    num_steps: Sequence[int] = (4, 4, 4)
    force_gain: Sequence[float] = (1.25, 2.5)
    force_sigma: float = 1.0
    total_sigma: float = 0.5
    edges: bool = False
    min_jacobian: float = 0.5
    expansion: float = 0.0
    segmenter: Segmenter | None = None

    def __post_init__(self):
        require_positive_integers(downsampling=self.downsampling, num_steps=self.num_steps)
        require_same_length("downsampling", len(self.downsampling), num_steps=self.num_steps)
        require_gain("force_gain", self.force_gain)
        DemonsOptions.of(self)
        require_segmenter(self.segmenter)
        super().__post_init__()

    @model_on_any_mesh
    @nn.compact
    def __call__(
        self, fixed: jax.Array, moving: jax.Array, *, deterministic: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Computes a displacement.

        Args:
          fixed: `[B, *S, C]` in [0, 1], 2-D or 3-D.
          moving: the same shape.
          deterministic: has no effect; every model takes it.

        Returns:
          The pull-back displacement `[B, *S, N]`, float32, in voxels.
          `out` with `displacements`, the displacement `[B, *S, N]` after each level, and, with a segmenter,
          `probabilities`, the class probabilities `[B, *S, K]` of the fixed and of the moving image.

        Raises:
          ValueError: the images' shapes differ or are not 2-D or 3-D.
        """
        num_axes = check_pair("UnrolledDemons", fixed, moving, deterministic)
        options, shape = DemonsOptions.of(self), fixed.shape[1:-1]
        probabilities = segment_pair(self.segmenter, fixed, moving)
        fixed_channels = force_channels(fixed, probabilities[0], edges=self.edges)
        moving_channels = force_channels(moving, probabilities[1], edges=self.edges)
        displacement, displacements = zeros_for((*fixed.shape[:-1], num_axes), fixed, moving).astype(jnp.float32), []
        for num_steps, factor in zip(self.num_steps, self.downsampling, strict=True):
            level, displacement = make_level(fixed_channels, moving_channels, displacement, factor)

            def step(displacement, _, level=level):  # compiled once, whatever `num_steps` is
                state = level.state(displacement)
                force = total_force(demons_forces(state, options), self.force_gain)
                return apply_step(state, force, options), None

            displacement, _ = jax.lax.scan(step, displacement, length=num_steps)
            displacements.append(on_grid(displacement, shape))
        out: dict[str, Any] = dict(displacements=displacements)
        return displacements[-1], out if self.segmenter is None else out | dict(probabilities=probabilities)

    def segment(self, params: Any, image: jax.Array) -> jax.Array:
        """Predicts the class probabilities of images.

        Args:
          params: parameters of this model, the segmenter's among them.
          image: `[B, *S, C]` in [0, 1].

        Returns:
          `[B, *S, K]` in [0, 1]; the K probabilities of a voxel sum to 1.

        Raises:
          ValueError: the model has no segmenter, or the parameters are not those of the model.
        """
        return segment(self.segmenter, params, image)
