"""AiR from coarse to fine: attention between patches, step by step, with the moving image warped between the steps."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from air_jax.models.layers.attention import PRE_NORM_KERNEL_INIT
from air_jax.models.layers.forces import SMOOTHINGS, forces, leeway, normalize_locally, overlap_forces, volume_forces
from air_jax.models.layers.inputs import check_pair, crop, pad_to_multiple
from air_jax.models.layers.patches import overlapping_patches, patchify, unpatchify
from air_jax.models.layers.positions import position_table
from air_jax.models.layers.transformer import Stack
from air_jax.models.segmenter import NAME, Segmenter
from air_jax.transforms import bspline, compose, control_shape, resize, smooth, warp, with_edges
from air_jax.transforms.filters import shrink

# A cubic B-spline displacement whose control vectors have components below this many control spacings is one-to-one
# (Choi & Lee 2000, section 4: 1 / 2.046 in 2-D and 1 / 2.479 in 3-D).
INJECTIVITY_BOUND = {2: 0.48, 3: 0.40}


class Level(nn.Module):
    """One patch size: an encoder that reads the fixed image once, a decoder that refines a displacement step by step.

    Each step warps the moving image with what is known so far, lets the decoder compare its patches with the memory of
    the fixed image, and composes the displacement with the small one-to-one B-spline displacement that it predicts.
    With `forces`, each token also says how far its neighbourhood follows what intensities, and classes, pull at.

    Attributes:
      stride: voxels between patches, along every axis.
      patch_size: patch size in voxels, an odd multiple of `stride`; patches overlap where it is larger.
      spacing: voxels between control points, a divisor of `stride`.
      num_steps: steps, all with the same weights.
      width: token width.
      encoder_depth, decoder_depth, block, remat: number of blocks and what they are made of, see `Stack`.
      forces, force_sigma, total_sigma, reach, least_volume, volume_preservation: see `PyramidAiR`.
      num_classes: how many channels of what is registered, the first, are probabilities of classes.
      channels: how many come next, those of the images themselves, which patches are read from. Forces are of all,
        those of edges, which come last, too.
    """

    stride: int
    patch_size: int
    spacing: int
    num_steps: int
    width: int
    encoder_depth: int
    decoder_depth: int
    block: dict[str, Any]
    remat: bool
    forces: bool
    force_sigma: float
    total_sigma: float
    num_classes: int
    channels: int
    reach: Sequence[float]
    least_volume: float
    volume_preservation: float

    @nn.compact
    def __call__(
        self, fixed: jax.Array, moving: jax.Array, displacement: jax.Array, *, deterministic: bool
    ) -> tuple[jax.Array, dict[str, Any]]:
        """Refines `displacement` `[B, *S, N]`; returns it and the intermediates, see `PyramidAiR`."""
        num_axes, dtype = displacement.shape[-1], self.block["dtype"]
        stride = (self.stride,) * num_axes
        embed = nn.Dense(self.width, dtype=dtype, kernel_init=PRE_NORM_KERNEL_INIT, name="patch_embedding")
        encoder = Stack(self.encoder_depth, False, self.block, self.remat, name="encoder")
        decoder = Stack(self.decoder_depth, False, self.block, self.remat, name="decoder")
        points = self.stride // self.spacing
        features = points**num_axes * num_axes
        reach = [longest for longest in self.reach[: 2 if self.num_classes else 1] for _ in SMOOTHINGS]
        num_gates = len(reach) if self.forces else 0
        # Zero, so that training starts from the identity, or from the forces alone; float32, for coordinates.
        head = nn.Dense(features + num_gates, dtype=jnp.float32, kernel_init=nn.initializers.zeros_init(), name="head")

        def own_channels(image):
            return image[..., self.num_classes : self.num_classes + self.channels]

        def embedded_patches(image):
            # Of the images alone: many classes would make patches long, and tokens feel what these pull at.
            image = pad_to_multiple(own_channels(image), stride)
            return embed(overlapping_patches(image, stride, (self.patch_size,) * num_axes))

        fixed_patches = embedded_patches(fixed)
        batch, *token_grid, _ = fixed_patches.shape
        position = position_table(self, token_grid, self.width).astype(dtype)

        def tokens(patches):
            return (patches + position).reshape(batch, -1, self.width)

        memory, encoder_out = encoder(tokens(fixed_patches), token_grid=token_grid, deterministic=deterministic)
        shape, spacing = fixed.shape[1:-1], (self.spacing,) * num_axes
        bound = INJECTIVITY_BOUND[num_axes] * self.spacing

        def splines(values, points, spacing):
            """B-splines whose control values the tokens hold, `[B, T, points**N * F]`, at every voxel `[B, *S, F]`."""
            control = unpatchify(values.reshape(batch, *token_grid, -1), (points,) * num_axes)
            # Padding to whole patches may add control points that no voxel of the image needs.
            return bspline(crop(control, control_shape(shape, spacing)), spacing, shape)

        def pulls_at(displacement, warped):
            """Forces of intensities and, apart from them, of classes: tokens follow the ones, the others or both."""
            pulls = forces(target, normalize_locally(warped[..., self.num_classes :]), self.force_sigma)
            if self.num_classes:
                classes = (image[..., 1 : self.num_classes] for image in (fixed, warped))
                room = leeway(displacement, self.least_volume)
                pulls += [room * pull for pull in overlap_forces(*classes, self.force_sigma)]
            return jax.lax.stop_gradient(pulls)

        if self.forces:
            target = normalize_locally(fixed[..., self.num_classes :])
            embed_forces = nn.Dense(self.width, use_bias=False, dtype=dtype, name="force_embedding")
        for _ in range(self.num_steps):
            read = warp(moving, displacement)
            if self.forces:
                # What a step looks at is taken as given, as in RAFT (Teed & Deng 2020, section 3.3).
                read = jax.lax.stop_gradient(read)
                pulls = pulls_at(displacement, read)
                widest = jnp.concatenate(pulls[len(SMOOTHINGS) - 1 :: len(SMOOTHINGS)], axis=-1)
                felt = patchify(pad_to_multiple(widest, stride), stride)
                patches = embedded_patches(read) + embed_forces(felt)
            else:
                patches = embedded_patches(read)
            decoded, decoder_out = decoder(tokens(patches), memory, token_grid=token_grid, deterministic=deterministic)
            predicted = head(decoded)
            step = splines(bound * jnp.tanh(predicted[..., :features] / bound), points, spacing)
            if self.forces:
                gates = jnp.split(splines(nn.sigmoid(predicted[..., features:]), 1, stride), num_gates, axis=-1)
                step += sum(longest * gate * pull for longest, gate, pull in zip(reach, gates, pulls, strict=True))
                if self.volume_preservation:
                    push = jax.lax.stop_gradient(volume_forces(displacement, self.least_volume))
                    step += self.volume_preservation * push
            displacement = compose(displacement, step)
            if self.forces:
                displacement = smooth(displacement, self.total_sigma)
        out = dict(
            encoder=encoder_out,
            decoder=decoder_out,
            read=own_channels(read),
            token_grid=tuple(token_grid),
            patch_size=stride,
        )
        return displacement, out


class PyramidAiR(nn.Module):
    """AiR with several patch sizes, from coarse to fine, and iteration: close and, all but, without folds.

    As in AiR, an encoder reads the fixed image's patches, a decoder reads the moving image's and attends to the
    encoder's memory, and a linear head turns its tokens into deformation features; there is no convolutional network.
    New are the levels, the warping between steps, the overlap of patches, the relative position bias, and that
    displacements are composed from small one-to-one B-splines instead of predicted whole. 2-D and 3-D, any size.

    With `forces`, steps are also made of what an optimiser would do next: the forces of demons between the locally
    normalised images (`air_jax.models.layers.forces`), which each token follows as far as it has learned to, and the
    field is smoothed slightly after each. The untrained network then is a demons registration with few steps. With
    `num_classes`, a small convolutional network segments each image alone, and the overlap of its classes pulls at the
    field as well.

    Attributes:
      stride, patch_size, spacing, num_steps: one number a level, coarse to fine, see `Level`.
      downsampling: how many times larger a level's voxels are than the image's, one number a level; all that the level
        does, its patches and control points included, is in these. For large images: 2 takes an eighth of the time in
        3-D. None: as large everywhere.
      width: token width.
      num_heads: heads of each attention layer.
      encoder_depth, decoder_depth: blocks of each level.
      feed_forward: hidden width of the feed-forward networks.
      relative_radius: patches at which the relative position bias stops distinguishing offsets; None for no bias.
      self_attention: False leaves only the attention between the images, of each moving patch to the fixed ones.
      dropout: dropout rate.
      forces: whether steps follow the forces between intensities, too.
      force_sigma: what forces are smoothed by, and by twice as much, in a level's voxels: each token follows the two as
        far as it learns to. Less follows finer detail.
      total_sigma: what the whole displacement is smoothed by after each step that followed forces, in a level's
        voxels. Less lets the field get rougher.
      edges: whether forces are of the images' edges as well, see `air_jax.transforms.with_edges`.
      num_classes: classes that a segmenter of each image alone tells apart, the background first, see `Segmenter`.
        Forces are of their probabilities as well, so they need `forces`; what trains the segmenter is its own loss
        (`air_jax.losses.segmentation_loss` of `out["logits"]`), as in DeepAtlas (Xu & Niethammer 2019). 0: none.
      reach: what forces of each smoothing, half a voxel at most, are multiplied by at most: those of intensities, and
        those of classes. Half of it before training.
      least_volume: classes pull less where the field leaves less than this share of the volume and a half, and not at
        all where it leaves less than this share. A lower one gains overlap where classes are uncertain, at the price of
        structures whose inside is compressed; see `air_jax.models.layers.forces.leeway`.
      volume_preservation: what `air_jax.models.layers.forces.volume_forces` are multiplied by, which each step adds:
        what is compressed to less than `least_volume` and a half expands, with classes or without. Up to about 1; 0:
        none.
      flash_attention: memory that grows with the number of tokens, not with its square, see `MultiHeadAttention`;
        `out` has no attention weights then.
      remat: less memory for more time, see `Stack`.
      dtype: dtype of the Transformers' computation. Parameters and displacement are float32.
    """

    stride: Sequence[int] = (4, 4, 4)
    patch_size: Sequence[int] = (12, 12, 12)
    spacing: Sequence[int] = (4, 2, 1)
    num_steps: Sequence[int] = (2, 3, 4)
    downsampling: Sequence[int] | None = None
    width: int = 64
    num_heads: int = 4
    encoder_depth: int = 1
    decoder_depth: int = 1
    feed_forward: int = 128
    relative_radius: int | None = 6
    self_attention: bool = False
    dropout: float = 0.0
    forces: bool = False
    force_sigma: float = 1.0
    total_sigma: float = 0.5
    edges: bool = False
    num_classes: int = 0
    reach: Sequence[float] = (2.5, 5.0)
    least_volume: float = 0.5
    volume_preservation: float = 0.0
    flash_attention: bool = False
    remat: bool = False
    dtype: Any = jnp.float32

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
          The pull-back displacement `[B, *S, N]`, float32, in voxels; and `out`: `displacements`, that
          after each level; and of the last step of the last level, `encoder` and `decoder` (attention weights
          `[B, heads, T, T]` by block and kind; the encoder has none without self-attention), `read` (the warped moving
          image, on the level's grid, whose patches the decoder read), `token_grid` (tokens along each spatial axis) and
          `patch_size` (the level's voxels between tokens). With classes, `logits`: `[B, *S, num_classes]` of the fixed
          and of the moving image.

        Raises:
          ValueError: the images' shapes differ or do not suit the model, or options do not go together.
        """
        num_axes = check_pair("PyramidAiR", fixed, moving)
        levels = list(zip(self.stride, self.patch_size, self.spacing, self.num_steps, strict=True))
        if any(stride % spacing for stride, _, spacing, _ in levels):
            raise ValueError(f"PyramidAiR: each spacing of {self.spacing} must divide its stride of {self.stride}")
        if self.num_classes and not self.forces:
            raise ValueError("PyramidAiR: num_classes needs forces, which are all that classes are there for")
        block = dict(
            num_heads=self.num_heads,
            head_size=self.width // self.num_heads,
            feed_forward=self.feed_forward,
            dropout=self.dropout,
            flash_attention=self.flash_attention,
            self_attention=self.self_attention,
            pre_norm=True,
            relative_radius=self.relative_radius,
            dtype=self.dtype,
        )
        shape, channels = fixed.shape[1:-1], fixed.shape[-1]
        segmented = {}
        if self.num_classes:
            segmented["logits"] = tuple(jnp.split(self._segmenter()(jnp.concatenate([fixed, moving])), 2))
        if self.edges:
            fixed, moving = with_edges(fixed), with_edges(moving)
        if self.num_classes:
            # The loss of the displacement does not reach the segmenter, whose classes would stop being the anatomy's.
            classes = (jax.lax.stop_gradient(nn.softmax(logits)) for logits in segmented["logits"])
            fixed, moving = (jnp.concatenate(pair, axis=-1) for pair in zip(classes, (fixed, moving), strict=True))
        displacement = jnp.zeros((*fixed.shape[:-1], num_axes), jnp.float32)
        displacements = []
        for index, (level, factor) in enumerate(zip(levels, self.downsampling or (1,) * len(levels), strict=True)):
            grid = tuple(-(-size // factor) for size in shape)
            displacement, out = Level(
                *level,
                self.width,
                self.encoder_depth,
                self.decoder_depth,
                block,
                self.remat,
                self.forces,
                self.force_sigma,
                self.total_sigma,
                self.num_classes,
                channels,
                self.reach,
                self.least_volume,
                self.volume_preservation,
                name=f"level_{index}",
            )(shrink(fixed, grid), shrink(moving, grid), _on_grid(displacement, grid), deterministic=deterministic)
            displacements.append(_on_grid(displacement, shape))
        return displacements[-1], out | segmented | dict(displacements=displacements)

    def _segmenter(self, **options: Any) -> Segmenter:
        return Segmenter(self.num_classes, dtype=self.dtype, name=NAME, **options)

    def segment(self, params: Any, image: jax.Array) -> jax.Array:
        """Probabilities of classes `[B, *S, num_classes]` of images `[B, *S, C]` in [0, 1], by the model's `params`."""
        return nn.softmax(self._segmenter(parent=None).apply({"params": params[NAME]}, image))


def _on_grid(displacement: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return displacement if displacement.shape[1:-1] == shape else resize(displacement, shape)
