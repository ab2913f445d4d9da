"""Registration of images: with a trained model, with instance optimisation, or with both."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from air_jax.checks import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_path,
    check_shape,
    check_text,
    require,
)
from air_jax.errors import OptionError
from air_jax.losses import Objective
from air_jax.optimize import Constraints, Field, Geometry, Guidance, Solution, refine
from air_jax.optimize.field import check_parametrisation
from air_jax.optimize.visibility import check_objective
from air_jax.registration.batches import Array, pair_batches, to_batch, with_margin
from air_jax.registration.model_card import ModelCard
from air_jax.registration.model_folder import write_model
from air_jax.registration.result import Result, make_result
from air_jax.runtime.any_mesh import on_any_mesh
from air_jax.transforms import with_edges
from air_jax.transforms.intensity import WINDOWS
from air_jax.transforms.shapes import check_fields


# Equality by identity: the elements of parameters have no single truth value.
@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "objective"),
    meta_fields=(
        "model", "image_shape", "step", "field", "edges", "overlap_weight", "normalization", "refine_steps"
    ),
)  # fmt: skip
@dataclasses.dataclass(frozen=True, eq=False)
class Registration:
    """A model, its parameters, and the settings of instance optimisation. Without training, the model is the identity.

    A JAX pytree: `params` and the arrays of `objective` are data, the rest is static. Programs are compiled once for
    equal static parts.

    Attributes:
      model: Flax module, `(fixed, moving) -> (displacement, out)`.
      params: parameters of the model.
      image_shape: `(*S, C)` of the training images. Images of other sizes `S` are allowed where the model allows them;
        smaller images get a margin of zeros up to this size.
      step: training step of the parameters.
      objective: minimised by refinement, see `air_jax.losses.make_objective`.
      field: parametrisation of refinement, such as `air_jax.optimize.DenseField()`.
      edges: whether refinement also compares the images' edges, see `air_jax.transforms.with_edges`.
      overlap_weight: weight in refinement of the overlap of the classes that the model's segmenter predicts, at least
        0. Values above 0 need a model with a segmenter.
      normalization: map of intensities to [0, 1], a key of `air_jax.transforms.intensity.WINDOWS`.
      refine_steps: default number of steps of instance optimisation in `register` and `refine`, at least 0.

    Raises:
      OptionError: a setting has a value that it cannot take.

    Examples:
      >>> registration = air_jax.without_model(num_axes=2, similarity="mse", refine_steps=4)
      >>> fixed = np.zeros((8, 8), np.float32)
      >>> fixed[2:6, 2:6] = 1
      >>> registration.register(fixed, np.roll(fixed, 1, axis=0)).displacement.shape
      (8, 8, 2)
    """

    model: nn.Module
    params: Any = dataclasses.field(repr=False)
    image_shape: tuple[int, ...]
    step: int
    objective: Objective
    field: Field
    edges: bool = False
    overlap_weight: float = 0.0
    normalization: str = "range"
    refine_steps: int = 0

    def __post_init__(self):
        # The parameters are not checked: JAX also puts placeholders into pytrees.
        is_module = hasattr(self.model, "apply") and not isinstance(self.model, type)
        require(is_module, "model", self.model, "must be a Flax module, such as AiR()")
        check_shape("image_shape", self.image_shape)
        if len(self.image_shape) not in (3, 4):
            raise OptionError("image_shape", self.image_shape, "must be (H, W, C) or (D, H, W, C)")
        object.__setattr__(self, "image_shape", tuple(self.image_shape))  # a tuple, so that it can be hashed
        check_integer("step", self.step, 0)
        check_integer("refine_steps", self.refine_steps, 0)
        check_choice("normalization", self.normalization, WINDOWS)
        check_number("overlap_weight", self.overlap_weight, low=0)
        check_flag("edges", self.edges)
        check_parametrisation(self.field)
        if self.overlap_weight and getattr(self.model, "segmenter", None) is None:
            raise OptionError("overlap_weight", self.overlap_weight, "needs a model with a segmenter; set it to 0")

    @on_any_mesh
    def register(
        self, fixed: Array, moving: Array, *, normalized: bool = False, refine_steps: int | None = None
    ) -> Result:
        """Registers `moving` to `fixed`, one pair or a batch of pairs. Inside `jit`, values are not checked.

        Args:
          fixed: `[*S]`, `[B, *S]` or `[B, *S, C]` with finite values. The number of axes of `S` is the model's.
          moving: the same shape.
          normalized: False: the images are raw, `normalize` is applied. True: they are normalised, floats in [0, 1] or
            uint8 or uint16 over their whole range.
          refine_steps: steps of instance optimisation from the model's displacement on, at least 0. Default: the
            attribute of that name.

        Returns:
          The displacement, the warped image and the model's intermediates.

        Raises:
          ValueError: shapes, dtypes or values that do not fit.
          OptionError: a negative number of steps.
        """
        refine_steps = self.refine_steps if refine_steps is None else refine_steps
        check_integer("refine_steps", refine_steps, 0)
        check_flag("normalized", normalized)
        window = "range" if normalized else self.normalization
        images = pair_batches(fixed, moving, self.image_shape, window)
        displacement, out = self.predict(*images)
        if refine_steps:
            displacement = self.refine(*images, displacement, num_steps=refine_steps).displacement
        return make_result(displacement, images[1], out, np.shape(moving))

    @on_any_mesh
    def predict(self, fixed: jax.Array, moving: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        """Predicts displacements with the model only.

        Args:
          fixed: `[B, *S, C]` in [0, 1], normalised.
          moving: the same shape.

        Returns:
          The displacement `[B, *S, N]` in voxels, and the model's intermediates.
        """
        check_fields("predict", fixed=fixed, moving=moving)
        return _predict(self.model, self.image_shape, self.params, fixed, moving)

    @on_any_mesh
    def refine(
        self,
        fixed: jax.Array,
        moving: jax.Array,
        displacement: jax.Array | None = None,
        *,
        num_steps: int | None = None,
        objective: Objective | None = None,
        field: Field | None = None,
        geometry: Geometry = Geometry(),
        tolerance: float = 0.0,
        weights: jax.Array | None = None,
        moving_weights: jax.Array | None = None,
        constraints: Constraints = Constraints(),
        guidance: Guidance | None = None,
    ) -> Solution:
        """Refines displacements by instance optimisation, see `air_jax.optimize.refine`.

        Args:
          fixed: `[B, *S, C]` in [0, 1], normalised.
          moving: the same shape; with `geometry.matrix`, `[B, *V, C]` on its own grid.
          displacement: `[B, *S, N]` in voxels, the start. Default: zero.
          num_steps: largest number of steps. Default: `refine_steps`.
          objective: terms of the images and of the displacement; the overlap of classes is added. Default: the
            attribute of that name.
          field: parametrisation. Default: the attribute of that name.
          geometry: affine that follows the displacement, and voxel sizes.
          tolerance: relative decrease of the loss in 10 steps below which a pair has converged, at least 0.
          weights: `[B, *S]` in [0, 1], the share by which a voxel of the fixed image counts, see
            `air_jax.optimize.refine`. Default: all count alike.
          moving_weights: the same of the moving image. Default: also its surround counts.
          constraints: axes and regions that must not move or deform.
          guidance: landmarks that pull the map. Default: none.

        Returns:
          The displacement, loss, number of steps and convergence of each pair.

        Raises:
          OptionError: a setting has a value that it cannot take.
          ValueError: shapes that do not fit.
        """
        check_fields("refine", fixed=fixed, moving=moving)
        return refine(
            self.comparing(self.objective if objective is None else objective),
            self.compared(fixed),
            self.compared(moving),
            displacement,
            num_steps=self.refine_steps if num_steps is None else num_steps,
            field=self.field if field is None else field,
            geometry=geometry,
            tolerance=tolerance,
            weights=weights,
            moving_weights=moving_weights,
            constraints=constraints,
            guidance=guidance,
        )

    @on_any_mesh
    def normalize(self, image: Array) -> jax.Array:
        """Normalises raw images as `register` does, each by its own intensities.

        Args:
          image: `[*S]`, `[B, *S]` or `[B, *S, C]` with finite values.

        Returns:
          float32 in [0, 1], the same shape.

        Raises:
          ValueError: a shape, dtype or values that do not fit.
        """
        return to_batch(image, "image", self.image_shape, self.normalization).reshape(np.shape(image))

    @on_any_mesh
    def compared(self, image: jax.Array) -> jax.Array:
        """Returns the channels that refinement compares.

        Args:
          image: `[B, *S, C]` in [0, 1], normalised.

        Returns:
          `[B, *S, C + E + K - 1]`: the image; its edges, with `edges`; the probabilities of its classes without the
          background, with `overlap_weight`.
        """
        check_fields("compared", image=image)
        channels = with_edges(image) if self.edges else image
        if self.overlap_weight:
            classes = _segment(self.model, self.image_shape, self.params, image)
            channels = jnp.concatenate([channels, classes[..., 1:]], axis=-1)
        return channels

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        name: str = "",
        data: str = "",
        license: str = "",
        scores: str = "",
        limits: str = "",
    ) -> None:
        """Writes the model as a folder that `air_jax.load` reads: weights, settings, and a model card.

        The folder needs neither the run nor the extra 'train'. The loaded model computes the same displacements to the
        last bit. An older model in the folder is replaced.

        Args:
          folder: path; made where there is none.
          name: title of the card. Default: the model's kind.
          data: images that trained the model, for the card, in Markdown.
          license: identifier of the licence of the weights, such as "apache-2.0".
          scores: measured scores with their command, in Markdown.
          limits: images for which the model is not meant, in Markdown.

        Raises:
          OptionError: the model is none of air_jax, or its objective or field cannot be written.
          UserError: the folder holds something else, or cannot be written.
        """
        check_path(folder=folder)
        check_text(name=name, data=data, license=license, scores=scores, limits=limits)
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        write_model(Path(folder), settings, settings.pop("params"), ModelCard(name, data, license, scores, limits))

    def comparing(self, objective: Objective) -> Objective:
        """Returns the objective of `compared` images: `objective`, and the overlap of their classes.

        Args:
          objective: terms of the images without their classes, and of the displacement.

        Returns:
          `objective` itself without `overlap_weight`.
        """
        check_objective(objective)
        if not self.overlap_weight:
            return objective
        return objective.with_overlap(self.overlap_weight, self.model.segmenter.num_classes - 1)


@partial(jax.jit, static_argnums=(0, 1))
def _predict(model, image_shape, params, fixed, moving):
    (fixed, inside), (moving, _) = (with_margin(image, image_shape) for image in (fixed, moving))
    displacement, out = model.apply({"params": params}, fixed, moving)
    return displacement[inside], out


@partial(jax.jit, static_argnums=(0, 1))
def _segment(model, image_shape, params, image):
    image, inside = with_margin(image, image_shape)
    return model.segment(params, image)[inside]
