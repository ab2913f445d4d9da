"""What a user can ask of the registration of two files, and which of it cannot be."""

from pathlib import Path
from typing import NamedTuple

from air_jax.errors import UserError
from air_jax.io.access import library
from air_jax.losses import SIMILARITIES
from air_jax.optimize import AFFINES, FIELDS
from air_jax.transforms.intensity import WINDOWS

NO_AFFINE = "none"


class Options(NamedTuple):
    """What the user asks for; see the flags of `air_jax.register`. None stands for the default."""

    fixed: Path
    moving: Path
    output_dir: Path
    workdir: Path | None = None
    labels: Path | None = None
    fixed_labels: Path | None = None
    landmarks: Path | None = None
    fixed_landmarks: Path | None = None
    similarity: str | None = None
    affine: str | None = None
    field: str | None = None
    refine_steps: int | None = None
    normalization: str | None = None


def check_options(options: Options) -> None:
    """Raises `UserError` with one line that names the flag when these cannot be."""
    for name, choices in (
        ("similarity", SIMILARITIES),
        ("affine", (NO_AFFINE, *AFFINES)),
        ("field", FIELDS),
        ("normalization", WINDOWS),
    ):
        value = getattr(options, name)
        if value is not None and value not in choices:
            raise UserError(f"--{name}={value}: must be one of {', '.join(choices)}")
    if options.workdir is not None and not options.refine_steps and options.similarity is not None:
        raise UserError(f"--similarity={options.similarity}: nothing is optimised; give --refine_steps as well")
    if options.fixed_labels is not None and options.labels is None:
        raise UserError("--fixed_labels needs --labels, the moving image's segmentation")
    if options.fixed_landmarks is not None and options.landmarks is None:
        raise UserError("--fixed_landmarks needs --landmarks, the same points in the moving image")
    if options.refine_steps is not None and options.refine_steps < 0:
        raise UserError(f"--refine_steps={options.refine_steps}: must not be negative")
    for name in ("normalization", "field"):
        if options.workdir is not None and getattr(options, name) is not None:
            raise UserError(f"--{name} is the trained run's own with --workdir; leave it out")
    if options.output_dir.exists() and not options.output_dir.is_dir():
        raise UserError(f"--output_dir={options.output_dir}: is a file; give a folder")
    library("nibabel", options.output_dir / "displacement.nii.gz")  # now, and not when all is computed
