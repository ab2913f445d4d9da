"""A pair of files that has been read: what its registration needs, on the grids that it is registered on."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

from air_jax.file_registration.grids import on_grids
from air_jax.file_registration.guided import check_affine, with_channels
from air_jax.file_registration.inputs import Inputs, prepare, read_subjects
from air_jax.file_registration.options import NO_AFFINE, Options, choose_registration
from air_jax.file_registration.scores import check_overlap
from air_jax.file_registration.start import Start, read_start
from air_jax.registration import Registration


@dataclass(frozen=True)
class Pair:
    """A pair of files.

    Attributes:
      options: its options.
      registration: how it is deformed.
      affine: "none" or a key of `air_jax.optimize.AFFINES`.
      inputs: the files' content.
      start: where the registration starts.
      name: begins the lines that are printed about it. "": no beginning. None: they are not printed.
    """

    options: Options
    registration: Registration
    affine: str
    inputs: Inputs
    start: Start
    name: str | None = ""

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Prints what the block prints with the name of the pair."""
        with speaking_of(self.name):
            yield


@contextlib.contextmanager
def speaking_of(name: str | None) -> Iterator[None]:
    """Prints what the block prints with a name, see `Pair`."""
    if name == "":
        yield
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        for line in said.getvalue().splitlines() if name else ():
            print(f"{name}: {line}", flush=True)


def read_pair(options: Options, *, name: str = "", chosen: tuple[Registration, str] | None = None) -> Pair:
    """Reads and checks a pair.

    Args:
      options: checked options.
      name: of the pair, see `Pair`.
      chosen: the registration and the kind of affine, where another pair of the same options has chosen them.

    Returns:
      The pair, padded to its grids where that changes no loss: see `_may_be_padded`.

    Raises:
      UserError: one line that names the file or the flag.
    """
    with speaking_of(name):
        fixed, moving = read_subjects(options)
        registration, affine = chosen or choose_registration(options, fixed.volume.num_axes)
        inputs = prepare(registration, fixed, moving, options)
        registration = with_channels(registration, inputs)
        start = read_start(options, inputs)
        if start.deformation is not None and options.affine is None:
            affine = NO_AFFINE
        check_affine(options, affine)
        if _may_be_padded(options, registration, inputs):
            inputs = on_grids(inputs)
        if affine == NO_AFFINE:
            check_overlap(inputs, start.matrix)
    return Pair(options, registration, affine, inputs, start, name)


def _may_be_padded(options: Options, registration: Registration, inputs: Inputs) -> bool:
    """Whether nothing but the weighted similarity depends on the grid.

    A model takes the sizes that it was trained on. Regions lie on the file's grid. Landmarks and regularizers are means
    over the grid, which padding would make smaller.
    """
    regularized = any(weight != 0 for _, weight in registration.objective.weights)
    return options.workdir is None and not regularized and not inputs.guides.are_local
