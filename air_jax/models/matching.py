"""AiR by matching: attention is the registration, coarse to fine, with the moving image warped between the steps."""

from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.any_mesh import model_on_any_mesh
from air_jax.models.layers.inputs import check_pair, params_of
from air_jax.models.layers.level_state import Channels, make_level, on_grid
from air_jax.models.layers.matching_step import MatchingOptions, MatchingStep, TokenFeatures
from air_jax.transforms import compose, smooth
from air_jax.transforms.filters import shrink
from air_jax.transforms.shapes import check_field


class MatchingAiR(nn.Module):
    """Predicts the displacement of a patch as the attention-weighted mean offset of the moving patches that it matches.

    Each step compares learned features of the fixed patches with those of the warped moving image's patches in a window
    around each. A softmax of the squared distances, with a learned temperature and a learned bias for each offset,
    gives the attention of each head, and the mean offset. All heads and neighbours vote on the step, weighted by a
    learned confidence. The steps are small, one-to-one B-splines, and are composed. There are no positions, no
    regression of displacements and no convolutions. Works in 2-D and 3-D and for any size.

    Matching moves with the image: if the moving image is translated by whole patches within the window, the mean offset
    changes by as many patches, up to the learned bias. GMFlow (Xu et al. 2022, section 3.2) matches all positions, CARL
    (Greer et al. 2025) is equivariant in this way; here windows and levels keep the cost linear in the image's size.

    Attributes:
      downsampling: size of each level's voxels in voxels of the image, one number for each level, coarse to fine. The
        options below count voxels of the level.
      stride: voxels between patches along every axis, for each level.
      patch_size: patch size in voxels for each level, an odd multiple of `stride`. Larger patches overlap.
      num_steps: number of steps for each level. The steps of a level share their weights.
      radius: largest offset in a window along every axis, in patches, for each level.
      width: number of features of a patch, a multiple of `num_heads`.
      num_heads: heads, each with its share of the features, its temperature and its bias.
      feed_forward: hidden width of the feature network.
      edge_tensor: whether patches are those of `edge_tensor` of the images, which is the same for an image and its
        negative, instead of those of the images. For images of different contrasts.
      vote_sigma: standard deviation, in patches, of the Gaussian over the neighbours that vote.
      total_sigma: standard deviation, in voxels of the level, of the Gaussian that smooths the whole displacement after
        each step.

    Raises:
      OptionError: an option has a value that it cannot take, or options do not fit together.

    Examples:
      >>> options = dict(downsampling=(1,), stride=(2,), patch_size=(6,), num_steps=(1,), radius=(1,))
      >>> model, image = air_jax.models.MatchingAiR(**options), jnp.zeros((1, 8, 8, 1))
      >>> (displacement, out), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image, image)
      >>> displacement.shape, out["attention"][0].shape
      ((1, 8, 8, 2), (1, 4, 4, 2, 9))
    """

    downsampling: Sequence[int] = (4, 2, 1)
    stride: Sequence[int] = (2, 2, 4)
    patch_size: Sequence[int] = (6, 6, 12)
    num_steps: Sequence[int] = (3, 3, 3)
    radius: Sequence[int] = (2, 2, 2)
    width: int = 32
    num_heads: int = 2
    feed_forward: int = 32
    edge_tensor: bool = False
    vote_sigma: float = 1.0
    total_sigma: float = 0.5

    def __post_init__(self):
        MatchingOptions.of(self)
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
          deterministic: has no effect; every model takes it.

        Returns:
          The pull-back displacement `[B, *S, N]`, float32, in voxels.
          `out` with, for each level, from its last step:
          `displacements`, the displacement `[B, *S, N]` after it.
          `attention`, weights `[B, *G, heads, K]` of the K offsets of each fixed patch's window; the offsets are
          `air_jax.models.layers.matching.window_offsets(radius, N)`, in patches.
          `confidence`, `[B, *G, heads]` in (0, 1), the weight of each patch and head in the vote.
          `read`, the warped moving image `[B, *S', C]` on the level's grid, whose patches were matched.

        Raises:
          ValueError: the images' shapes differ or are not 2-D or 3-D.
        """
        num_axes = check_pair("MatchingAiR", fixed, moving, deterministic)
        options, shape = MatchingOptions.of(self), fixed.shape[1:-1]
        displacement = jnp.zeros((*fixed.shape[:-1], num_axes), jnp.float32)
        out: dict[str, list[jax.Array]] = dict(displacements=[], attention=[], confidence=[], read=[])
        for index, (num_steps, factor) in enumerate(zip(self.num_steps, self.downsampling, strict=True)):
            level, displacement = make_level(Channels(fixed), Channels(moving), displacement, factor)
            step = MatchingStep(options, index, name=f"level_{index}")
            fixed_tokens, vote, warped = step.features(level.fixed.image), None, None
            for _ in range(num_steps):
                # Gradients do not pass through the inputs of a step, as in RAFT (Teed & Deng 2020, section 3.3).
                warped = level.state(jax.lax.stop_gradient(displacement)).warped.image
                vote = step(fixed_tokens, warped)
                displacement = smooth(compose(displacement, vote.displacement), self.total_sigma)
            assert vote is not None
            assert warped is not None
            values = on_grid(displacement, shape), vote.match.weights, vote.confidence, warped
            for name, value in zip(out, values, strict=True):
                out[name].append(value)
        return out["displacements"][-1], out

    @nn.nowrap
    def features(self, params: Any, image: jax.Array) -> jax.Array:
        """Computes the features of one image that the last level matches.

        Args:
          params: parameters of the model.
          image: `[B, *S, C]` in [0, 1].

        Returns:
          `[B, *G, width]`, one vector for every `downsampling[-1] * stride[-1]` voxels along each axis.

        Raises:
          TypeError, ValueError: the image is no array, or the parameters are not those of the model.
        """
        check_field("features", image, "image")
        options, last = MatchingOptions.of(self), len(self.downsampling) - 1
        image = shrink(image, tuple(-(-size // self.downsampling[last]) for size in image.shape[1:-1]))
        of_features = params_of(params_of(params, f"level_{last}"), "features")
        features = TokenFeatures.of(options, last).apply({"params": of_features}, image)
        return cast(jax.Array, features)

    @nn.nowrap
    def feature_patches(self) -> tuple[int, int]:
        """Returns the distance and the side, in voxels, of the patches that `features` describes."""
        return self.downsampling[-1] * self.stride[-1], self.downsampling[-1] * self.patch_size[-1]
