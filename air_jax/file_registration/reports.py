"""The reports of a registration of two files: a picture, and a page to move through."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from air_jax.file_registration.grids import cut
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.outputs import cut_jacobian
from air_jax.file_registration.scores import Scores
from air_jax.io.access import writing
from air_jax.io.image import ARRAYS, PICTURES, suffix_of
from air_jax.runtime.files import replace_text
from air_jax.transforms.spaces import sample_moving

PICTURE, PAGE = "report.png", "report.html"


def draw_reports(
    inputs: Inputs, displacement: jax.Array, scores: Scores, seconds: Mapping[str, float], folder: Path
) -> None:
    """Draws `report.png` and `report.html` into an existing folder, see `air_jax.visualize`.

    Args:
      inputs: the files' content.
      displacement: the whole displacement `[*S, N]` of the fixed grid, in its voxels.
      scores: what scores.json says.
      seconds: time of each step so far.
      folder: the output folder.
    """
    from air_jax.visualize import report_figure, report_page  # imports matplotlib, which takes half a second

    moved = (
        sample_moving(inputs.moving_image[0], field, inputs.voxel_to_voxel)
        for field in (jnp.zeros_like(displacement), displacement)
    )
    shape = inputs.fixed.volume.shape
    fixed, before, after = (cut(image, shape)[..., 0] for image in (inputs.fixed_image[0], *moved))
    images = fixed, before, after
    shared: dict[str, Any] = {
        "spacing": inputs.fixed.volume.spacing.tolist(),
        "title": f"{inputs.moving.path.name} registered to {inputs.fixed.path.name}",
        "is_picture": inputs.are_pictures,
        "affine": inputs.fixed.volume.affine if _knows_the_body(inputs) else None,
        "scores": {side: scores[side] for side in ("before", "after")},
    }
    facts = {
        "Affine": _affine(scores["affine"], inputs.unit),
        "Options": {name: value for name, value in scores["options"].items() if value is not None},
        "Seconds": {name: f"{value:.1f}" for name, value in seconds.items()} | {"version": scores["version"]},
    }
    page = report_page(
        *images,
        cut_jacobian(inputs, displacement),
        **shared,
        facts=facts,
        warnings=[f"doubtful: {doubt}" for doubt in scores["doubts"]],
    )
    replace_text(folder / PAGE, page)
    figure = report_figure(*images, cut(displacement, shape), **shared)
    with writing(folder / PICTURE, ".png") as partial:
        figure.savefig(partial, dpi=150)


def _knows_the_body(inputs: Inputs) -> bool:
    """Whether the fixed file says which way its axes run through the body."""
    return inputs.fixed.volume.num_axes == 3 and suffix_of(inputs.fixed.path) not in (*ARRAYS, *PICTURES)


def _affine(report: Mapping[str, Any], unit: str) -> dict[str, str]:
    """Returns the parts of the affine as texts."""
    numbers = {
        "rotation (degrees)": report["rotation_degrees"],
        f"translation ({unit})": report["translation"],
        "scales": report["scales"],
        "shears": report["shears"],
    }
    texts = {name: ", ".join(f"{value:.4g}" for value in values) for name, values in numbers.items()}
    return texts | ({"mirrored": "yes"} if report["mirrored"] else {})
