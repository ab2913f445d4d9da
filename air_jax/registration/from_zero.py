"""Registration without training: instance optimisation from zero displacement."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import (
    as_array,
    check_choice,
    check_flag,
    check_instance,
    check_integer,
    check_spacing,
    is_integer,
    is_sequence,
    require,
)
from air_jax.errors import OptionError
from air_jax.losses import SIMILARITIES, ChannelMean, Similarity, make_objective
from air_jax.losses.similarity import check_similarity, takes_weights
from air_jax.optimize import AFFINES, Constraints, DenseField, Field, Geometry, Guidance, fit_landmarks, register_affine
from air_jax.optimize.field import check_parametrisation
from air_jax.optimize.geometry import Sizes
from air_jax.optimize.guidance import check_points
from air_jax.registration.batches import Array, guess_num_axes, pair_batches
from air_jax.registration.registration import Registration
from air_jax.registration.result import Result, make_result
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import apply_affine, identity_grid

STEPS_FROM_ZERO = 120
"""Largest number of steps of instance optimisation without a model, by default.

Examples:
  >>> air_jax.without_model(num_axes=2).refine_steps == air_jax.registration.STEPS_FROM_ZERO
  True
"""

# Of the affine. Mutual information without the quotient grows with the background that the compared region contains.
AFFINE_SIMILARITY = "nmi"


class Identity(nn.Module):
    """The model without parameters that predicts zero displacement."""

    def __call__(
        self, fixed: jax.Array, moving: jax.Array, *, deterministic: bool = True
    ) -> tuple[jax.Array, dict[str, Any]]:
        del moving, deterministic
        return jnp.zeros((*fixed.shape[:-1], fixed.ndim - 2)), {}


def without_model(
    num_axes: int,
    channels: int = 1,
    *,
    similarity: str | Similarity = "lncc",
    window: int | None = None,
    field: Field = DenseField(),
    edges: bool = False,
    refine_steps: int = STEPS_FROM_ZERO,
    normalization: str = "range",
    **weights: float | jax.Array,
) -> Registration:
    """Makes a registration by instance optimisation from zero displacement, which needs no training.

    Args:
      num_axes: N, 2 or 3.
      channels: C of the images, at least 1.
      similarity: key of `air_jax.losses.SIMILARITIES`, or a function of `fixed` and `warped` `[B, *S, C]` that returns
        `[B]`.
      window: side of the windows of local correlation, in voxels, odd. Default: the similarity's own.
      field: parametrisation, see `air_jax.optimize`. A `BSplineField` should come with a weight of folding, such as 5.
      edges: whether the images' edges are also compared.
      refine_steps: default number of steps, at least 0.
      normalization: key of `air_jax.transforms.intensity.WINDOWS`.
      **weights: weights of further similarities and of regularizers, see `air_jax.losses.make_objective`.

    Returns:
      A registration with the identity as its model.

    Raises:
      OptionError: an option has a value that it cannot take.

    Examples:
      >>> registration = air_jax.without_model(num_axes=3, similarity="lncc")
      >>> registration.refine_steps, registration.normalization
      (120, 'range')
    """
    _check_num_axes(num_axes)
    check_integer("channels", channels, 1)
    objective = make_objective(similarity, window=window, **weights)
    return Registration(
        Identity(),
        {},
        (1,) * num_axes + (channels,),
        0,
        objective,
        field,
        edges=edges,
        normalization=normalization,
        refine_steps=refine_steps,
    )


@on_any_mesh
def register_images(
    fixed: Array,
    moving: Array,
    *,
    num_axes: int | None = None,
    similarity: str | Similarity = "lncc",
    affine: str | None = None,
    turned: bool = False,
    field: Field = DenseField(),
    refine_steps: int = STEPS_FROM_ZERO,
    normalization: str = "percentile",
    spacing: Sequence[float] | None = None,
    smoothness: float | None = None,
    regularizers: Mapping[str, float] | None = None,
    constraints: Constraints = Constraints(),
    guidance: Guidance | None = None,
    affine_from: str = "images",
    channel_weights: Sequence[float] | None = None,
) -> Result:
    """Registers raw images without a trained model: an affine where wanted, then instance optimisation.

    It also runs inside `jit` and `vmap`; values are then not checked.

    Args:
      fixed: `[*S]`, `[B, *S]` or `[B, *S, C]` with finite values.
      moving: the same shape.
      num_axes: N, 2 or 3. Default: the length of `spacing`; without it, 2 for arrays of 2 axes, 3 for arrays of 3 or 5.
      similarity: key of `air_jax.losses.SIMILARITIES`, or a function of `fixed` and `warped` `[B, *S, C]` that returns
        `[B]`.
      affine: free parameters of an affine before the deformation, a key of `air_jax.optimize.AFFINES`: "translation",
        "rigid", "similarity" or "affine". Voxels that it moves out of the moving image do not count. Default: no
        affine, and all voxels count.
      turned: whether the moving image may be turned by any angle, see `air_jax.optimize.register_affine`. The affine is
        then slower.
      field: parametrisation of the deformation, see `air_jax.optimize`.
      refine_steps: number of steps of the deformation; 0 for the affine only.
      normalization: key of `air_jax.transforms.intensity.WINDOWS`.
      spacing: `[N]`, lengths of the voxels of both images. Default: 1 along each axis.
      smoothness: factor of both standard deviations of a `DenseField`, 0 or more; larger is smoother. Default: 1.
      regularizers: weight of each regularizer, by its key in `air_jax.losses.REGULARIZERS`. Default: none.
      constraints: axes and regions that must not move or deform, see `air_jax.optimize.Constraints`.
      guidance: landmarks that pull the map, see `air_jax.optimize.Guidance`. Default: none.
      affine_from: "images"; or "landmarks": the affine is fitted to the landmarks of `guidance` by least squares.
      channel_weights: `[C]`, weights of the channels of `[B, *S, C]`, which are then normalised and compared each by
        itself, such as contrasts of one subject. Default: all channels are normalised and compared together.

    Returns:
      The displacement of affine and deformation together, and the moving image warped by it in one interpolation.

    Raises:
      OptionError: an option has a value that it cannot take.
      ValueError: shapes, dtypes or values that do not fit.

    Examples:
      >>> fixed = np.zeros((8, 8), np.float32)
      >>> fixed[2:6, 2:6] = 1
      >>> moving = np.roll(fixed, 1, axis=0)
      >>> warped = air_jax.register_images(fixed, moving, similarity="mse", refine_steps=4).warped
      >>> float(np.mean((fixed - moving) ** 2)), float(np.mean((fixed - warped) ** 2)) < 0.01
      (0.125, True)
    """
    if not isinstance(fixed, jax.Array):
        fixed = as_array("register_images", "fixed", fixed)
    if not isinstance(moving, jax.Array):
        moving = as_array("register_images", "moving", moving)
    check_similarity(similarity)
    check_parametrisation(field)
    if affine is not None:
        check_choice("affine", affine, AFFINES)
    if regularizers is not None:
        check_instance("regularizers", regularizers, Mapping, "a mapping of names to weights")
    if guidance is not None:
        check_points("register_images", guidance)
    check_instance("constraints", constraints, Constraints, "Constraints")
    if spacing is not None:
        check_spacing("spacing", spacing)
    check_integer("refine_steps", refine_steps, 0)
    if num_axes is None and spacing is not None:
        num_axes = len(spacing)
    num_axes = guess_num_axes(np.shape(fixed)) if num_axes is None else num_axes
    _check_num_axes(num_axes)
    check_choice("affine_from", affine_from, ("images", "landmarks"))
    if affine_from == "landmarks" and (guidance is None or affine is None):
        raise OptionError("affine_from", affine_from, "needs guidance, the landmarks, and affine, the free parameters")
    check_flag("turned", turned)
    if turned and (affine is None or affine_from == "landmarks"):
        raise OptionError("turned", turned, "needs affine, the free parameters, and images that it is registered from")
    channels = np.shape(fixed)[-1] if np.ndim(fixed) == num_axes + 2 else 1
    if smoothness is not None:
        field = _scaled(field, smoothness)
    takes = isinstance(similarity, str) or takes_weights(similarity)
    affine_similarity = SIMILARITIES[AFFINE_SIMILARITY]
    if channel_weights is not None:
        require(is_sequence(channel_weights), "channel_weights", channel_weights, "must be numbers, one a channel")
        if len(channel_weights) != channels:
            raise OptionError("channel_weights", channel_weights, f"must have {channels} weight(s), one a channel")
        if np.ndim(fixed) != num_axes + 2:
            raise OptionError("channel_weights", channel_weights, "needs images with channels, [B, *S, C]")
        similarity, affine_similarity = (
            ChannelMean(each, tuple(channel_weights)) for each in (similarity, AFFINE_SIMILARITY)
        )
    registration = without_model(num_axes, channels, similarity=similarity, field=field, normalization=normalization)
    if regularizers:
        objective = dataclasses.replace(registration.objective, weights=tuple(regularizers.items()))
        registration = dataclasses.replace(registration, objective=objective)
    if channel_weights is None:
        images = pair_batches(fixed, moving, registration.image_shape, normalization)
    else:
        one = (*registration.image_shape[:-1], 1)
        pairs = [
            pair_batches(fixed[..., index : index + 1], moving[..., index : index + 1], one, normalization)
            for index in range(channels)
        ]
        images = tuple(jnp.concatenate(each, axis=-1) for each in zip(*pairs, strict=True))
    geometry = Geometry(voxel_size=spacing)
    moving_weights = None
    if affine is not None:
        seen = jnp.ones(images[1].shape[:-1])
        if affine_from == "landmarks":
            matrix = _from_landmarks(guidance, affine, geometry.sizes(num_axes)[0], constraints)
        else:
            matrix = register_affine(
                affine_similarity,
                *images,
                kind=affine,
                turned=turned,
                geometry=geometry,
                moving_weights=seen,
                constraints=constraints,
                guidance=guidance,
            )
        geometry = dataclasses.replace(geometry, matrix=matrix)
        if takes:
            moving_weights = seen
    displacement = registration.refine(
        *images,
        num_steps=refine_steps,
        geometry=geometry,
        moving_weights=moving_weights,
        constraints=constraints,
        guidance=guidance,
    ).displacement
    if geometry.matrix is not None:
        points = identity_grid(displacement.shape[1:-1])[None] + displacement
        # The difference from the identity is small and exact.
        displacement += apply_affine(geometry.matrix - jnp.eye(num_axes, num_axes + 1)[None], points)
    return make_result(displacement, images[1], {}, np.shape(moving))


def _check_num_axes(num_axes: int) -> None:
    require(is_integer(num_axes) and num_axes in (2, 3), "num_axes", num_axes, "must be 2 or 3")


def _scaled(field: Field, smoothness: float) -> Field:
    if not isinstance(field, DenseField):
        raise OptionError("smoothness", smoothness, "is of a DenseField; other fields have their control points")
    return field.scaled(smoothness)


def _from_landmarks(guidance: Guidance | None, kind: str, size: Sizes, constraints: Constraints) -> jax.Array:
    """Fits affines `[B, N, N + 1]` in voxels to the landmarks, whose distances are in lengths."""
    assert guidance is not None
    lengths, matrices = np.array(size), []
    for fixed, moving in zip(np.asarray(guidance.fixed), np.asarray(guidance.moving), strict=True):
        matrix = fit_landmarks(fixed * lengths, moving * lengths, kind=kind, restrict=constraints.restrict)
        scaled = matrix * np.append(lengths, 1.0) / lengths[:, None]
        matrices.append(scaled)
    return jnp.asarray(np.stack(matrices), jnp.float32)
