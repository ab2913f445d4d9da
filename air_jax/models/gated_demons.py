"""Gated demons: attention predicts B-spline displacements, and gates that scale the forces of demons."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.attention_step import AttentionOptions, AttentionStep
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
from air_jax.models.segmenter import Segmenter, require_segmenter, segment, segment_pair


class GatedDemons(nn.Module):
    """Registers with demons steps whose forces are scaled, voxel by voxel, by attention between the images.

    Each step is the sum of the B-spline displacement that `PyramidAiR` would predict and of the forces of
    `UnrolledDemons`. Each token predicts one gate for each force. Without training the gates are 0.5 and the B-spline
    is 0, so the model equals `UnrolledDemons` with `force_gain` of half of `max_force_gain`. With a segmenter,
    its parameters are `params["segmenter"]`; the displacement does not train them. Works in 2-D and 3-D, any size.

    Attributes:
      stride, patch_size, spacing, num_steps, downsampling, width, num_heads, encoder_depth: see `PyramidAiR`.
      decoder_depth, feed_forward, relative_radius, self_attention, dropout, flash_attention: see `PyramidAiR`.
      remat, dtype: see `PyramidAiR`.
      max_force_gain: `(intensity, class)` upper bounds of the learned gain. The gain is `max_force_gain *
        sigmoid(gate)`, so it starts at half.
      force_sigma, total_sigma, edges, min_jacobian, expansion, segmenter: see `UnrolledDemons`.

    Raises:
      OptionError: an option has a value that it cannot take, or options do not fit together.

    Examples:
      >>> options = dict(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(1,), downsampling=(1,))
      >>> model, image = air_jax.models.GatedDemons(**options), jnp.zeros((1, 8, 8, 1))
      >>> (displacement, out), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image, image)
      >>> displacement.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
      ((1, 8, 8, 2), 54408)
    """

    stride: Sequence[int] = (4, 4, 8)
    patch_size: Sequence[int] = (12, 12, 8)
    spacing: Sequence[int] = (4, 4, 8)
    num_steps: Sequence[int] = (4, 4, 4)
    downsampling: Sequence[int] | None = (4, 2, 1)
    width: int = 64
    num_heads: int = 4
    encoder_depth: int = 1
    decoder_depth: int = 1
    feed_forward: int = 128
    relative_radius: int | None = 4
    self_attention: bool = False
    dropout: float = 0.0
    flash_attention: bool = False
    remat: bool = False
    dtype: Any = jnp.float32
    max_force_gain: Sequence[float] = (2.5, 5.0)
    force_sigma: float = 1.0
    total_sigma: float = 0.5
    edges: bool = False
    min_jacobian: float = 0.5
    expansion: float = 0.0
    segmenter: Segmenter | None = None

    def __post_init__(self):
        AttentionOptions.of(self)
        DemonsOptions.of(self)
        require_gain("max_force_gain", self.max_force_gain)
        require_segmenter(self.segmenter)
        super().__post_init__()

    @model_on_any_mesh
    @nn.compact
    def __call__(
        self, fixed: jax.Array, moving: jax.Array, *, deterministic: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Predicts a displacement.

        Args:
          fixed: `[B, *S, C]` in [0, 1], 2-D or 3-D.
          moving: the same shape.
          deterministic: False applies dropout and needs a `dropout` random stream.

        Returns:
          The pull-back displacement `[B, *S, N]`, float32, in voxels.
          `out` with the intermediates of `PyramidAiR` and, with a segmenter, `probabilities`, the class probabilities
          `[B, *S, K]` of the fixed and of the moving image.

        Raises:
          ValueError: the images' shapes differ or are not 2-D or 3-D.
        """
        num_axes = check_pair("GatedDemons", fixed, moving, deterministic)
        attention, demons, shape = AttentionOptions.of(self), DemonsOptions.of(self), fixed.shape[1:-1]
        probabilities = segment_pair(self.segmenter, fixed, moving)
        fixed_channels = force_channels(fixed, probabilities[0], edges=self.edges)
        moving_channels = force_channels(moving, probabilities[1], edges=self.edges)
        displacement, displacements, out = jnp.zeros((*fixed.shape[:-1], num_axes), jnp.float32), [], {}
        for index, (num_steps, factor) in enumerate(zip(self.num_steps, attention.factors, strict=True)):
            level, displacement = make_level(fixed_channels, moving_channels, displacement, factor)
            attend, memory = AttentionStep(attention, index, name=f"level_{index}"), None
            for _ in range(num_steps):
                state = level.state(displacement)
                # Gradients do not pass through the inputs of a step, as in RAFT (Teed & Deng 2020, section 3.3).
                warped = jax.lax.stop_gradient(state.warped)
                forces = jax.lax.stop_gradient(demons_forces(state, demons))
                prediction = attend(state.fixed.image, warped.image, memory, forces=forces, deterministic=deterministic)
                step = prediction.displacement + total_force(forces, self.max_force_gain, prediction.gates)
                displacement = apply_step(state, step, demons)
                memory, out = prediction.memory, prediction.out
            displacements.append(on_grid(displacement, shape))
        out = out | dict(displacements=displacements)
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
