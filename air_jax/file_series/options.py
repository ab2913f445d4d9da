"""Options of the correction of motion, and their checks."""

import re
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from air_jax.errors import UserError
from air_jax.optimize import AFFINES

MEAN = "mean"
INTERPOLATIONS = ("linear", "cubic")


@dataclass(frozen=True)
class Options:
    """Options of the correction of motion: the flags of `air_jax.motion`.

    Attributes:
      input: the series.
      output_dir: folder of the results.
      reference: "mean", "first", "middle", the number of a frame from 0, or the path of an image on the same grid.
      kind: free parameters of each frame's map, a key of `air_jax.optimize.AFFINES`.
      mask: image that is above 0 where the reference counts.
      interpolation: of the corrected series, "cubic" or "linear".
      affines: whether each frame's map is written as a file of ITK.
    """

    input: Path
    output_dir: Path
    _: KW_ONLY
    reference: str = MEAN
    kind: str = "rigid"
    mask: Path | None = None
    interpolation: str = "cubic"
    affines: bool = False

    @property
    def reference_file(self) -> Path | None:
        """The file that `reference` names, None where it names a frame or the mean."""
        named = self.reference in (MEAN, "first", "middle") or _is_number(self.reference)
        return None if named else Path(self.reference)

    @property
    def files_read(self) -> list[Path]:
        """All files that are read."""
        return [path for path in (self.input, self.reference_file, self.mask) if path is not None]

    def frame(self, num_frames: int) -> int:
        """Returns the number of the frame that is the first reference.

        Raises:
          UserError: the series has no such frame.
        """
        if not _is_number(self.reference):
            return 0 if self.reference == "first" else num_frames // 2
        number = int(self.reference)
        if not 0 <= number < num_frames:
            raise UserError(f"--reference={self.reference}: {self.input} has the frames 0 to {num_frames - 1}")
        return number


def _is_number(text: str) -> bool:
    return re.fullmatch("-?[0-9]+", text) is not None


def check_options(options: Options) -> None:
    """Checks all options that can be checked without reading a file.

    Raises:
      UserError: one line that names the flag.
    """
    if options.kind not in AFFINES:
        raise UserError(f"--kind={options.kind}: must be one of {', '.join(AFFINES)}")
    if options.interpolation not in INTERPOLATIONS:
        raise UserError(f"--interpolation={options.interpolation}: must be one of {', '.join(INTERPOLATIONS)}")
    reference = options.reference_file
    if reference is not None and not reference.exists():
        raise UserError(f"--reference={reference}: not found; give mean, first, middle, a frame's number or an image")
