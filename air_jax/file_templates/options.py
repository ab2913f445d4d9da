"""Options of the building of a template, and their checks."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from air_jax.checks import check_integer
from air_jax.errors import UserError, naming_flag
from air_jax.file_registration.guiding import MOST_SMOOTHNESS
from air_jax.io.access import library
from air_jax.losses import SIMILARITIES
from air_jax.optimize import AFFINES
from air_jax.runtime.files import real_path
from air_jax.transforms.intensity import WINDOWS

CENTRES, HEADERS = "centres", "headers"
MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Options:
    """Options of the building of a template: the flags of `air_jax.template`.

    Attributes:
      images: folder of the images, one file a subject.
      output_dir: folder of the results.
      labels: folder of the segmentations, files of the same names up to the ending.
      reference: image whose grid the template gets.
      start: "centres" aligns the images' centres of mass first, "headers" leaves them where their files place them.
      affine: free parameters of the affine maps, a key of `air_jax.optimize.AFFINES`.
      affine_rounds: rounds of affine registration, 0 or more.
      rounds: rounds of deformable registration, 0 or more.
      refine_steps: largest number of steps of each deformable registration, at least 1.
      similarity: of the deformation, a key of `air_jax.losses.SIMILARITIES`.
      smoothness: factor of both standard deviations of the dense field.
      normalization: key of `air_jax.transforms.intensity.WINDOWS`.
      warped: whether each image is also written on the template's grid.
    """

    images: Path
    output_dir: Path
    _: KW_ONLY
    labels: Path | None = None
    reference: Path | None = None
    start: str = CENTRES
    affine: str = "affine"
    affine_rounds: int = 2
    rounds: int = 4
    refine_steps: int = 60
    similarity: str = "lncc"
    smoothness: float = 1.0
    normalization: str = "percentile"
    warped: bool = False


def check_options(options: Options) -> None:
    """Checks all options that can be checked without reading a file.

    Raises:
      UserError: one line that names the flag.
    """
    choices = {"start": (CENTRES, HEADERS), "affine": AFFINES, "similarity": SIMILARITIES, "normalization": WINDOWS}
    for name, known in choices.items():
        value = getattr(options, name)
        if value not in known:
            raise UserError(f"--{name}={value}: must be one of {', '.join(known)}")
    with naming_flag():
        check_integer("affine_rounds", options.affine_rounds, 0, MOST_ROUNDS)
        check_integer("rounds", options.rounds, 0, MOST_ROUNDS)
        check_integer("refine_steps", options.refine_steps, 1)
    if not options.affine_rounds + options.rounds:
        raise UserError("--affine_rounds=0 and --rounds=0: nothing is registered; give at least one round")
    if not 0 <= options.smoothness <= MOST_SMOOTHNESS:
        raise UserError(f"--smoothness={options.smoothness}: must be a number from 0 to {MOST_SMOOTHNESS:,}")
    for name in ("images", "labels"):
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            state = "is a file" if folder.exists() else "not found"
            raise UserError(f"--{name}={folder}: {state}; give a folder with one file a subject")
    if options.output_dir.exists() and not options.output_dir.is_dir():
        raise UserError(f"--output_dir={options.output_dir}: is a file; give a folder")
    if real_path(options.output_dir) in (real_path(options.images), options.labels and real_path(options.labels)):
        raise UserError(f"--output_dir={options.output_dir}: its images are read; give another folder")
    for needed in ("nibabel", "SimpleITK"):  # needed at the end; checked before the computation
        library(needed, options.output_dir)
