"""A trained model, or none, in the hands of its user: load it, register images with it."""

from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from air_jax.errors import UserError
from air_jax.losses import Objective, Similarity, make_objective
from air_jax.optimize import TOTAL_SIGMA, UPDATE_SIGMA, refine
from air_jax.transforms import warp, with_edges
from air_jax.transforms.intensity import to_unit_range

FOLDING_WEIGHT = 5.0  # of the penalty in refinement, where the training had none
STEPS_FROM_ZERO = 180


class Result(NamedTuple):
    """What registering gives; leading axes are those of the images given.

    Attributes:
      displacement: pull-back field `[*S, N]` or `[B, *S, N]`, float32, in voxels, array-index order.
      warped: the moving image sampled at `grid + displacement`, shape of the moving image, float32 in [0, 1].
      out: the model's intermediates, such as attention weights, always with their batch axis.
    """

    displacement: jax.Array
    warped: jax.Array
    out: dict[str, Any]


class Refinement(NamedTuple):
    """How pairs are refined.

    Attributes:
      field: what is optimised, a key of `air_jax.optimize.FIELDS`.
      update_sigma, total_sigma: how smooth a `dense` field and its updates are, see `air_jax.optimize.refine`.
      edges: whether the images' edges count as a channel of their own, see `air_jax.transforms.with_edges`.
      overlap: weight of the overlap of the classes that the model finds in both images; 0 where it has none.
    """

    field: str = "control_grid"
    update_sigma: float = UPDATE_SIGMA
    total_sigma: float = TOTAL_SIGMA
    edges: bool = False
    overlap: float = 0.0


class Registration:
    """A model with its parameters.

    Attributes:
      model: the Flax module.
      params: its parameters.
      image_shape: `(*S, C)` of the images it was trained on; other sizes `S` are allowed where the model allows them.
        The model sees smaller images with a black margin, at the size that it has learned to expect.
      step: the training step that the parameters are from.
      objective: what `register(..., refine_steps=n)` minimises, see `air_jax.losses.make_objective`: that of the
        training, with a penalty on folding where the training had none and the field could fold.
      normalization: how the images that it was trained on were brought to [0, 1], a key of
        `air_jax.transforms.intensity.WINDOWS`. `register` leaves it to its caller, who has
        `air_jax.transforms.intensity.normalize` for it.
      refinement: how pairs are refined.
      refine_steps: steps of refinement where `register` is not told.
    """

    def __init__(
        self,
        model: nn.Module,
        params: Any,
        image_shape: tuple[int, ...],
        step: int,
        objective: Objective | None = None,
        normalization: str = "range",
        refinement: Refinement = Refinement(),
        refine_steps: int = 0,
    ):
        self.model = model
        self.params = jax.device_put(params)
        self.image_shape = image_shape
        self.step = step
        self.objective = objective or make_objective("mse", folding=FOLDING_WEIGHT)
        self.normalization = normalization
        self.refinement = refinement
        self.refine_steps = refine_steps
        self._register = jax.jit(self._register_batch)
        self._segment = jax.jit(self._segment_batch)

    def register(
        self, fixed: np.ndarray | jax.Array, moving: np.ndarray | jax.Array, *, refine_steps: int | None = None
    ) -> Result:
        """Registers `moving` to `fixed`, one pair or a batch of pairs.

        Args:
          fixed: `[*S]`, `[B, *S]` or `[B, *S, C]`, uint8 or uint16 over the whole range, or floats in [0, 1]; where
            `normalization` is not "range", what `air_jax.transforms.intensity.normalize` gives. How many axes `S` has
            is known from the model.
          moving: the same shape.
          refine_steps: steps of optimisation on these very pairs, from the network's displacement on (from zero
            without a network), see `air_jax.optimize.refine`; `out` stays what the network gave. Default: the
            attribute of that name.

        Raises:
          ValueError: shapes or values that do not fit.
        """
        fixed, moving = jnp.asarray(fixed), jnp.asarray(moving)
        if fixed.shape != moving.shape:
            raise ValueError(
                f"fixed has shape {fixed.shape} and moving {moving.shape}; resample one onto the other first"
            )
        refine_steps = self.refine_steps if refine_steps is None else refine_steps
        if refine_steps < 0:
            raise ValueError(f"refine_steps is {refine_steps}; it must not be negative")
        batches = [_to_batch(image, name, self.image_shape) for image, name in ((fixed, "fixed"), (moving, "moving"))]
        displacement, warped, out = self._register(self.params, *batches)
        if refine_steps:
            displacement = self.refine(*batches, displacement, num_steps=refine_steps)
            warped = warp(batches[1], displacement)
        if fixed.ndim == len(self.image_shape) - 1:
            displacement = displacement[0]
        return Result(displacement, warped.reshape(moving.shape), out)

    def refine(self, fixed: jax.Array, moving: jax.Array, displacement: jax.Array, *, num_steps: int) -> jax.Array:
        """Continues from a displacement by optimisation on the pairs themselves, see `air_jax.optimize.refine`.

        Args:
          fixed, moving: `[B, *S, C]` in [0, 1].
          displacement: `[B, *S, N]`.
          num_steps: of optimisation.

        Returns:
          `[B, *S, N]`.
        """
        field, update_sigma, total_sigma, *_ = self.refinement
        return refine(
            self.comparing(self.objective),
            self.compared(fixed),
            self.compared(moving),
            displacement,
            num_steps=num_steps,
            field=field,
            update_sigma=update_sigma,
            total_sigma=total_sigma,
        )

    def compared(self, image: jax.Array) -> jax.Array:
        """What refinement compares of images `[B, *S, C]` in [0, 1].

        Further channels than their own are those of edges and of the model's classes, where `refinement` has them.
        """
        channels = with_edges(image) if self.refinement.edges else image
        if self.refinement.overlap:
            classes = self._segment(self.params, image)
            channels = jnp.concatenate([channels, classes[..., 1:]], axis=-1)  # without the background
        return channels

    def comparing(self, objective: Objective) -> Objective:
        """What refinement minimises, given what counts for the images alone: that, and the overlap of classes."""
        if not self.refinement.overlap:
            return objective
        return objective.with_overlap(self.refinement.overlap, self.model.num_classes - 1)

    def _register_batch(self, params, fixed, moving):
        (framed_fixed, inside), (framed_moving, _) = (_framed(image, self.image_shape) for image in (fixed, moving))
        displacement, out = self.model.apply({"params": params}, framed_fixed, framed_moving)
        displacement = displacement[inside]
        return displacement, warp(moving, displacement), out

    def _segment_batch(self, params, image):
        framed, inside = _framed(image, self.image_shape)
        return self.model.segment(params, framed)[inside]


def _framed(image: jax.Array, image_shape: tuple[int, ...]) -> tuple[jax.Array, tuple[slice, ...]]:
    """`[B, *S, C]` with a margin of 0, so that no axis is shorter than in `image_shape`; and where the image lies."""
    sizes = image.shape[1:-1]
    margins = [max(whole - size, 0) for whole, size in zip(image_shape[:-1], sizes, strict=True)]
    framed = jnp.pad(image, [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)])
    inside = [slice(margin // 2, margin // 2 + size) for margin, size in zip(margins, sizes, strict=True)]
    return framed, (slice(None), *inside)


def _to_batch(image: jax.Array, name: str, image_shape: tuple[int, ...]) -> jax.Array:
    """`[*S]`, `[B, *S]` or `[B, *S, C]` to `[B, *S, C]` float32 in [0, 1]."""
    num_axes, channels = len(image_shape) - 1, image_shape[-1]
    has_channels = image.ndim == num_axes + 2 and image.shape[-1] == channels
    # [*S, 1] would pass for a batch of images one voxel wide.
    lacks_channels = channels == 1 and (image.ndim == num_axes or (image.ndim == num_axes + 1 and image.shape[-1] != 1))
    if not (has_channels or lacks_channels):
        axes = ", ".join("DHW"[-num_axes:])
        allowed = f"[B, {axes}, {channels}]" + (f", [B, {axes}] or [{axes}]" if channels == 1 else "")
        raise ValueError(f"{name} has shape {image.shape}; this model takes {allowed}")
    if jnp.issubdtype(image.dtype, jnp.integer) and image.dtype not in (jnp.uint8, jnp.uint16):
        raise ValueError(
            f"{name} has dtype {image.dtype}, whose range tells nothing; give uint8, uint16, or floats in [0, 1]"
        )
    image = to_unit_range(image)
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"{name} has values from {low:g} to {high:g}; scale floats to [0, 1], or give an integer image"
        )
    if image.ndim == num_axes:
        return image[None, ..., None]
    return image[..., None] if image.ndim == num_axes + 1 else image


class _Identity(nn.Module):
    """The model that moves nothing."""

    def __call__(self, fixed: jax.Array, moving: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        del moving
        return jnp.zeros((*fixed.shape[:-1], fixed.ndim - 2)), {}


def without_model(
    num_axes: int,
    channels: int = 1,
    *,
    similarity: str | Similarity = "lncc",
    field: str = "dense",
    update_sigma: float = UPDATE_SIGMA,
    total_sigma: float = TOTAL_SIGMA,
    edges: bool = False,
    refine_steps: int = STEPS_FROM_ZERO,
    **weights: float,
) -> Registration:
    """Registration by optimisation alone, from zero: nothing trained is needed.

    Args:
      num_axes: N, 2 or 3.
      channels: C of the images.
      similarity, **weights: see `air_jax.losses.make_objective`.
      field, update_sigma, total_sigma, edges: see `Refinement`.
      refine_steps: steps of optimisation for each pair, unless `register` is told otherwise.

    Raises:
      OptionError: an unknown similarity or regularizer.
    """
    objective = make_objective(similarity, **weights)
    refinement = Refinement(field, update_sigma, total_sigma, edges)
    image_shape = (1,) * num_axes + (channels,)
    return Registration(_Identity(), {}, image_shape, 0, objective, refinement=refinement, refine_steps=refine_steps)


def load(workdir: str | Path) -> Registration:
    """Loads the best checkpoint of a finished or interrupted run; nothing but its workdir is needed.

    Raises:
      UserError: the folder is not a run's workdir, nothing in it can be read, or the extra 'train' is not installed.
    """
    try:  # here, so that `import air_jax` stays light
        from air_jax.workdir import config as configs
        from air_jax.workdir.checkpoint import restore_best_params
    except ModuleNotFoundError as error:
        raise UserError(f"air_jax.load needs {error.name}; install air_jax with its extra 'train'") from error

    workdir = Path(workdir)
    config, image_shape = configs.read(workdir)
    configs.check(config)
    step, params = restore_best_params(workdir / "checkpoints")
    changes = {}
    if config.refine.field != "dense" and not config.loss.get("folding"):
        changes["folding"] = FOLDING_WEIGHT
    return Registration(
        configs.build_model(config),
        params,
        image_shape,
        step,
        configs.objective(config, **changes),
        normalization=config.dataset.normalization,
        refinement=Refinement(
            config.refine.field,
            config.refine.update_sigma,
            config.refine.total_sigma,
            config.loss.get("edges", False),
            config.refine.overlap if config.model.get("num_classes") else 0.0,
        ),
    )
