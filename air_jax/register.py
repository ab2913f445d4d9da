"""Registers two files: `python -m air_jax.register --fixed=F --moving=M --output_dir=O [--workdir=W]`.

Files are NIfTI, PNG, JPEG, TIFF or NumPy's. Without `--workdir` nothing trained is needed: the pair is aligned by an
affine map and a deformation is optimised on it. With one, its network gives the deformation.
"""

from pathlib import Path

from absl import flags

from air_jax.runtime import command_line

_FILES = {
    "fixed": "Image that stays.",
    "moving": "Image that is deformed onto the fixed one.",
    "output_dir": "Folder for warped image, fields, scores and report.",
    "workdir": "Folder of a trained run whose network is used. Default: none, optimisation alone.",
    "labels": "Segmentation of the moving image, which is warped as well.",
    "fixed_labels": "Segmentation of the fixed image: Dice and HD95 of each label.",
    "landmarks": "CSV file of the moving image's landmarks (x, y[, z]; mm in LPS, for pictures pixels).",
    "fixed_landmarks": "CSV file of the same landmarks in the fixed image: target registration errors.",
}
_WORDS = {
    "similarity": "What the deformation is optimised for: mse, ncc, lncc, squared_lncc, mi or mind_ssc. "
    "Default: lncc, or the trained run's objective.",
    "affine": "What comes before the deformation: none, translation, rigid, similarity or affine. "
    "Default: affine, or none with --workdir.",
    "field": "What is optimised: dense, control_grid or velocity. Default: dense.",
    "normalization": "How intensities are brought to [0, 1]: percentile, foreground, ct or range. Default: percentile.",
}
FILES = {name: flags.DEFINE_string(name, None, text) for name, text in _FILES.items()}
WORDS = {name: flags.DEFINE_string(name, None, text) for name, text in _WORDS.items()}
REFINE_STEPS = flags.DEFINE_integer(
    "refine_steps", None, "Steps of optimisation on this pair at most. Default: 180, or 0 with --workdir."
)


def main() -> None:
    from air_jax.file_registration.run import (  # after the flags, so that a mistake is told at once
        Options,
        register_files,
    )
    from air_jax.runtime import startup

    startup.use_compilation_cache()
    paths = {name: Path(flag.value) for name, flag in FILES.items() if flag.value is not None}
    words = {name: flag.value for name, flag in WORDS.items()}
    register_files(Options(**paths, **words, refine_steps=REFINE_STEPS.value), compile_ahead=True)


if __name__ == "__main__":
    command_line.run(main, "fixed", "moving", "output_dir")
