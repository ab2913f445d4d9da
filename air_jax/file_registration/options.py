"""Options of the registration of two files, their checks, and the registration that they choose."""

from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

from air_jax.checks import check_integer, check_number
from air_jax.errors import OptionError, UserError, naming_flag
from air_jax.file_registration.guiding import Guiding, check_guiding
from air_jax.io.access import library
from air_jax.losses import SIMILARITIES, Similarity, make_objective
from air_jax.optimize import AFFINES, FIELDS, DenseField, shares
from air_jax.registration import (
    STEPS_FROM_ZERO,
    Registration,
    feature_similarity,
    load,
    pretrained_folder,
    without_model,
)
from air_jax.transforms.intensity import WINDOWS

NO_AFFINE = "none"
MAX_SIZE = 1024  # pixels along the longer side of a picture that is registered
SMALLEST_MAX_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options that are the same for all pairs of a batch. None stands for the default.

    Attributes:
      workdir: folder of a trained run or saved model, which predicts the displacement. Default: no model.
      pretrained: name of a pretrained model, whose folder becomes `workdir`.
      similarity: key of `air_jax.losses.SIMILARITIES`. Default: "lncc", or the objective of the trained run.
      features: name or folder of a pretrained model by whose features the images are compared, instead of `similarity`.
      affine: "none" or a key of `air_jax.optimize.AFFINES`. Default: "affine", or "none" with `workdir`.
      field: key of `air_jax.optimize.FIELDS`. Default: "dense", or the field of the trained run.
      refine_steps: largest number of steps of instance optimisation, 0 or more. Default: 120, or 0 with `workdir`.
      normalization: key of `air_jax.transforms.intensity.WINDOWS`. Default: "percentile", or that of the trained run.
      stop_after: "affine": nothing is deformed.
      fast: whether the finest level of the deformation is left out, with its share of the steps.
      background: value of the warped image outside of the moving image. Default: see
        `air_jax.file_registration.field_of_view.background_of`.
      max_size: pixels along the longer side at which pictures are registered; larger ones are reduced, and the warped
        picture has full size. Default: 1024; with `workdir`, any size.
      guiding: smoothness, regions, axes, landmarks and further contrasts.
    """

    workdir: Path | None = None
    pretrained: str | None = None
    similarity: str | None = None
    features: str | None = None
    affine: str | None = None
    field: str | None = None
    refine_steps: int | None = None
    normalization: str | None = None
    stop_after: str | None = None
    fast: bool | None = None
    background: float | None = None
    max_size: int | None = None
    guiding: Guiding = Guiding()

    def __post_init__(self):
        """Takes the folder of the pretrained model.

        Raises:
          UserError: there is no such model, or `workdir` is another one.
        """
        if self.pretrained is None:
            return
        folder = pretrained_folder(self.pretrained)
        if self.workdir not in (None, folder):
            raise UserError("--workdir and --pretrained each name a model; leave one of the two out")
        object.__setattr__(self, "workdir", folder)


@dataclass(frozen=True)
class Options(Settings):
    """Options of the registration of two files: the flags of `air_jax.register`. None stands for the default.

    Attributes:
      fixed: file of the image that stays.
      moving: file of the image that is deformed.
      output_dir: folder of the results.
      labels: file of the moving segmentation.
      fixed_labels: file of the fixed segmentation.
      landmarks: file of the moving image's landmarks.
      fixed_landmarks: file of the same landmarks in the fixed image.
      initial: transform that the registration starts from, see `air_jax.io.transform`. Where it has a field, the
        affine is not registered unless `affine` is given.
      fixed_mask: file of a mask of the fixed image: where it is 0, the image does not count.
      moving_mask: file of a mask of the moving image.
    """

    fixed: Path
    moving: Path
    output_dir: Path
    _: KW_ONLY
    labels: Path | None = None
    fixed_labels: Path | None = None
    landmarks: Path | None = None
    fixed_landmarks: Path | None = None
    initial: Path | None = None
    fixed_mask: Path | None = None
    moving_mask: Path | None = None

    @property
    def files_read(self) -> list[Path]:
        """The files that are read."""
        files = (self.fixed, self.moving, self.labels, self.fixed_labels, self.landmarks, self.fixed_landmarks)
        files += (self.fixed_mask, self.moving_mask, self.initial, *self.guiding.files_read)
        return [path for path in files if path is not None]


def check_options(options: Options) -> None:
    """Checks all options that can be checked without reading a file.

    Raises:
      UserError: one line that names the flag.
    """
    for name, choices in (
        ("similarity", SIMILARITIES),
        ("affine", (NO_AFFINE, *AFFINES)),
        ("field", FIELDS),
        ("normalization", WINDOWS),
        ("stop_after", ("affine",)),
    ):
        value = getattr(options, name)
        if value is not None and value not in choices:
            raise UserError(f"--{name}={value}: must be one of {', '.join(choices)}")
    for name in ("similarity", "features"):
        if options.workdir is not None and not options.refine_steps and getattr(options, name) is not None:
            raise UserError(f"--{name}={getattr(options, name)}: nothing is optimised; give --refine_steps also")
    if options.similarity is not None and options.features is not None:
        raise UserError("--similarity and --features each choose what is compared; leave one of the two out")
    if options.fixed_labels is not None and options.labels is None:
        raise UserError("--fixed_labels needs --labels, the moving image's segmentation")
    if options.fixed_landmarks is not None and options.landmarks is None:
        raise UserError("--fixed_landmarks needs --landmarks, the same points in the moving image")
    if options.stop_after is not None:
        for name in ("workdir", "refine_steps", "field", "fast", "similarity", "features"):
            if getattr(options, name) is not None:
                flag = "pretrained" if name == "workdir" and options.pretrained is not None else name
                raise UserError(f"--{flag} is of the deformation, before which --stop_after=affine stops; leave it out")
    with naming_flag():
        if options.refine_steps is not None:
            check_integer("refine_steps", options.refine_steps, 0)
        if options.max_size is not None:
            check_integer("max_size", options.max_size, SMALLEST_MAX_SIZE)
        if options.background is not None:
            check_number("background", options.background)
    check_guiding(
        options.guiding, workdir=options.workdir, refine_steps=options.refine_steps, stop_after=options.stop_after
    )
    if options.workdir is not None and options.fast:
        raise UserError("--fast is of the optimisation without a model; with --workdir or --pretrained leave it out")
    for name in ("normalization", "field"):
        if options.workdir is not None and getattr(options, name) is not None:
            raise UserError(f"--{name} is the trained run's own with --workdir or --pretrained; leave it out")
    if options.output_dir.exists() and not options.output_dir.is_dir():
        raise UserError(f"--output_dir={options.output_dir}: is a file; give a folder")
    library("nibabel", options.output_dir / "displacement.nii.gz")  # needed at the end; checked before the computation


def choose_registration(options: Options, num_axes: int) -> tuple[Registration, str]:
    """Loads the trained registration, or makes one without a model, and sets what the options change.

    It is the only place that distinguishes the two; the same calls register files with either.

    Args:
      options: checked options.
      num_axes: N of the images, 2 or 3.

    Returns:
      The registration, whose `refine_steps` are those to run; and the kind of affine, "none" or a key of
      `air_jax.optimize.AFFINES`.

    Raises:
      UserError: the workdir cannot be loaded, or its model takes other images.
    """
    similarity = _similarity(options, num_axes)
    if options.workdir is None:
        registration = without_model(
            num_axes,
            similarity=similarity or "lncc",
            field=FIELDS[options.field or "dense"](),
            refine_steps=_steps_from_zero(options),
            normalization=options.normalization or "percentile",
        )
        if options.fast:
            registration = _without_finest_level(registration)
        return _smoothed(registration, options.guiding), options.affine or "affine"
    registration = load(options.workdir)
    _check_axes(str(options.workdir), registration, options.fixed, num_axes)
    objective = make_objective(similarity) if similarity else registration.objective
    registration = replace(registration, objective=objective, refine_steps=options.refine_steps or 0)
    return _smoothed(registration, options.guiding), options.affine or NO_AFFINE


def _similarity(options: Options, num_axes: int) -> str | Similarity | None:
    """The similarity that the options choose, if they do."""
    if options.features is None:
        return options.similarity
    source = f"--features={options.features}"
    folder = Path(options.features)
    registration = load(folder if options.features and folder.is_dir() else pretrained_folder(options.features))
    _check_axes(source, registration, options.fixed, num_axes)
    try:
        return feature_similarity(registration)
    except OptionError as error:
        raise UserError(f"{source}: {error.what}") from error


def _check_axes(source: str, registration: Registration, fixed: Path, num_axes: int) -> None:
    axes, channels = len(registration.image_shape) - 1, registration.image_shape[-1]
    if axes != num_axes or channels != 1:
        raise UserError(
            f"{source}: its model takes {axes} axes and {channels} channel(s); "
            f"{fixed} has {num_axes} axes, registered as one grey channel"
        )


def _steps_from_zero(options: Options) -> int:
    if options.stop_after is not None:
        return 0
    return STEPS_FROM_ZERO if options.refine_steps is None else options.refine_steps


def _without_finest_level(registration: Registration) -> Registration:
    levels, steps = registration.field.levels, registration.refine_steps
    field = replace(registration.field, levels=levels[:-1])
    return replace(registration, field=field, refine_steps=sum(shares(steps, len(levels))[:-1]))


def _smoothed(registration: Registration, guiding: Guiding) -> Registration:
    """Sets the smoothness of the field and the weights of the regularizers that the options give."""
    field, objective = registration.field, registration.objective
    given = {name: getattr(guiding, name) for name in ("smoothness", "update_sigma", "total_sigma")}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not isinstance(field, DenseField):
        raise UserError(f"--{next(iter(given))} is of the dense field; the others have their control points")
    if isinstance(field, DenseField) and given:
        smoothness = given.pop("smoothness", None)
        field = field.scaled(smoothness) if smoothness is not None else replace(field, **given)
    if guiding.regularizers:
        objective = replace(objective, weights=tuple((dict(objective.weights) | dict(guiding.regularizers)).items()))
    return replace(registration, field=field, objective=objective)
