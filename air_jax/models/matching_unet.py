"""Matching of U-Net features: attention is the registration, on features with a wide view of the images."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import require
from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.inputs import check_pair, crop, pad_to_multiple
from air_jax.models.layers.level_state import on_grid
from air_jax.models.layers.matching_step import Vote, match_and_vote
from air_jax.models.layers.options import (
    require_dtype,
    require_not_negative,
    require_positive_integer,
    require_positive_integers,
    require_same_length,
)
from air_jax.models.layers.patch_unet import PATCH_SIZE, patch_unet, smallest_multiple
from air_jax.models.layers.patches import unpatchify
from air_jax.transforms import bspline, compose, smooth, warp


class MatchingUNet(nn.Module):
    """Matches the features of a U-Net by attention, coarse to fine, and takes the displacement from the matches.

    One U-Net reads each image by itself, once. Linear layers make tokens of its decoder's features: by default one for
    every 8, 4 and 2 voxels along each axis, and one for every voxel. On each of these grids, a step warps the moving
    tokens by the displacement so far, and matches each fixed token with the moving tokens in the window around it, as
    `MatchingAiR` does: a softmax of squared distances, the mean offset, a vote of the neighbours, a one-to-one
    B-spline. No layer regresses displacements. The U-Net learns only which places are alike.

    `MatchingAiR` matches patches, and warps the image. The features of a U-Net contain more of the surroundings, so
    segmentations can teach them which places belong to the same structure. They do not move with the image exactly,
    because of pooling and the border.

    Attributes:
      features: features of the U-Net's levels, fine to coarse. The first level has patches of 2 voxels; the resolution
        halves from level to level.
      num_steps: matching steps on each grid, coarse to fine. The last grid is that of the voxels, the one before has a
        token for every 2 voxels along each axis, and so on; at most one grid more than `features` has levels. The
        steps of a grid share their weights.
      radius: largest offset in a window along every axis, in tokens, for each grid.
      width: matched features of a token for each grid, multiples of `num_heads`. Most time is spent on the last grid,
        which has the most tokens.
      num_heads: heads, each with its share of the features, its temperature and its bias.
      vote_sigma: standard deviation, in tokens, of the Gaussian over the neighbours that vote.
      total_sigma: standard deviation, in tokens, of the Gaussian that smooths the whole displacement after each step.
      dtype: dtype of the U-Net, float32 or bfloat16. Parameters, matches and displacement are float32.

    Raises:
      OptionError: an option has a value that it cannot take, or options do not fit together.

    Examples:
      >>> model = air_jax.models.MatchingUNet(features=(4,), num_steps=(1, 1), radius=(1, 1), width=(4, 4))
      >>> image = jnp.zeros((1, 8, 8, 1))
      >>> (displacement, out), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image, image)
      >>> displacement.shape, out["attention"][0].shape
      ((1, 8, 8, 2), (1, 4, 4, 1, 9))
    """

    features: Sequence[int] = (24, 64, 128, 128)
    num_steps: Sequence[int] = (2, 2, 2, 2)
    radius: Sequence[int] = (1, 1, 1, 1)
    width: Sequence[int] = (32, 32, 16, 8)
    num_heads: int = 1
    vote_sigma: float = 0.5
    total_sigma: float = 0.25
    dtype: Any = jnp.float32

    def __post_init__(self):
        grids = dict(num_steps=self.num_steps, radius=self.radius, width=self.width)
        require_positive_integers(features=self.features, **grids)
        require_positive_integer(num_heads=self.num_heads)
        most = len(self.features) + 1
        require(
            len(self.num_steps) <= most,
            "num_steps",
            self.num_steps,
            f"must be at most {most} integers, one more than features",
        )
        require_same_length("num_steps", len(self.num_steps), radius=self.radius, width=self.width)
        whole = all(width % self.num_heads == 0 for width in self.width)
        require(whole, "width", self.width, f"must be multiples of num_heads ({self.num_heads})")
        require_not_negative(vote_sigma=self.vote_sigma, total_sigma=self.total_sigma)
        require_dtype(self.dtype)
        super().__post_init__()

    @model_on_any_mesh
    @nn.compact
    def __call__(
        self, fixed: jax.Array, moving: jax.Array, *, deterministic: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Predicts a displacement.

        Args:
          fixed: `[B, *S, C]` in [0, 1], 2-D or 3-D, any size.
          moving: the same shape.
          deterministic: has no effect; every model takes it.

        Returns:
          The pull-back displacement `[B, *S, N]`, float32, in voxels.
          `out` with, for each grid, from its last step:
          `displacements`, the displacement `[B, *S, N]` after it.
          `attention`, weights `[B, *G, heads, K]` of the K offsets of each fixed token's window; the offsets are
          `air_jax.models.layers.matching.window_offsets(radius, N)`, in tokens.
          `confidence`, `[B, *G, heads]` in (0, 1), the weight of each token and head in the vote.
          The images are padded at their ends to multiples of `2 ** len(features)` voxels, and `G` covers the padding.

        Raises:
          ValueError: the images' shapes differ or are not 2-D or 3-D.
        """
        num_axes, shape = check_pair("MatchingUNet", fixed, moving, deterministic), fixed.shape[1:-1]
        multiple = (smallest_multiple(self.features),) * num_axes
        images = pad_to_multiple(jnp.concatenate([fixed, moving]), multiple)
        displacement: jax.Array | None = None
        out: dict[str, list[jax.Array]] = dict(displacements=[], attention=[], confidence=[])
        for index, tokens in enumerate(self._tokens(images)):
            vote = None
            fixed_tokens, moving_tokens = jnp.split(tokens, 2)
            empty = jnp.zeros((*fixed_tokens.shape[:-1], num_axes), jnp.float32)
            displacement = empty if displacement is None else on_grid(displacement, empty.shape[1:-1])
            step = _TokenStep(self.num_heads, self.radius[index], self.vote_sigma, name=f"level_{index}")
            for _ in range(self.num_steps[index]):
                # Gradients do not pass through the places of samples, as in RAFT (Teed & Deng 2020, section 3.3).
                warped = warp(moving_tokens, jax.lax.stop_gradient(displacement), mode="nearest")
                vote = step(fixed_tokens, warped)
                displacement = smooth(compose(displacement, vote.displacement), self.total_sigma)
            assert vote is not None
            whole = crop(on_grid(displacement, images.shape[1:-1]), shape)
            for name, value in zip(out, (whole, vote.match.weights, vote.confidence), strict=True):
                out[name].append(value)
        return out["displacements"][-1], out

    def _tokens(self, images: jax.Array) -> list[jax.Array]:
        """Returns the tokens `[B, *G, width]` of each grid, coarse to fine."""
        num_axes = images.ndim - 2
        levels = patch_unet(images, self.features, self.dtype)
        levels.append(levels[-1])  # a patch's tokens of voxels are made of its features
        grids: list[jax.Array] = []
        for index, (width, features) in enumerate(zip(self.width, levels[-len(self.width) :], strict=True)):
            of_voxels = index == len(self.width) - 1
            size = width * PATCH_SIZE**num_axes if of_voxels else width
            tokens = nn.Dense(size, dtype=jnp.float32, name=f"projection_{index}")(features)
            tokens = unpatchify(tokens, (PATCH_SIZE,) * num_axes) if of_voxels else tokens
            # Distances are means over a head's features, so that the first temperature fits any width.
            grids.append(tokens / np.sqrt(width / self.num_heads))
        return grids


class _TokenStep(nn.Module):
    """One matching step on a grid of tokens, which are its voxels."""

    num_heads: int
    radius: int
    vote_sigma: float

    @nn.compact
    def __call__(self, fixed: jax.Array, warped: jax.Array) -> Vote:
        control, match, confidence = match_and_vote(
            self, fixed, warped, num_heads=self.num_heads, radius=self.radius, vote_sigma=self.vote_sigma
        )
        return Vote(bspline(control, (1,) * (fixed.ndim - 2), fixed.shape[1:-1]), match, confidence)
