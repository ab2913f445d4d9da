"""The flags of `register` and `batch` that set how a pair is registered, and the settings that they make."""

from typing import Any

from absl import flags

from air_jax.runtime.command_line import path_of

_FILES = {"workdir": "Folder of a trained run or saved model, which predicts the deformation. Default: no model."}
_WORDS = {
    "pretrained": "Name of a pretrained model that predicts the deformation, instead of --workdir.",
    "similarity": "Similarity that the deformation maximises: mse, ncc, lncc, squared_lncc, mi, nmi or mind_ssc. "
    "Default: lncc, or the objective of the trained run.",
    "features": "Name or folder of a pretrained model, such as shapes-2d, by whose features images are compared, of "
    "different contrasts also. Instead of --similarity.",
    "affine": "Affine: none, translation, rigid, similarity or affine. Default: affine, or none with --workdir.",
    "field": "Deformation that is optimised: dense, control_grid or velocity. Default: dense, or that of the run.",
    "stop_after": "affine: register the affine only.",
    "normalization": "Map to [0, 1]: percentile, foreground, ct or range. Default: percentile, or that of the run.",
}
_INTEGERS = {
    "max_size": "Pixels along the longer side of pictures as registered. Default: 1024, or any size with --workdir.",
    "refine_steps": "Largest number of optimisation steps for a pair. Default: 120, or 0 with --workdir.",
}
_FLOATS = {"background": "Value of the warped image outside of the moving image. Default: 0, air or white, see docs."}
_SWITCHES = {
    "fast": "Leaves out the finest level of the deformation: large volumes in half the time, a little less accurate."
}


def define_flags() -> None:
    """Defines the flags."""
    for define, texts in (
        (flags.DEFINE_string, _FILES | _WORDS),
        (flags.DEFINE_integer, _INTEGERS),
        (flags.DEFINE_float, _FLOATS),
        (flags.DEFINE_bool, _SWITCHES),
    ):
        for name, text in texts.items():
            define(name, None, text)


def settings(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of `air_jax.file_registration.options.Settings`, without those that guide.

    Args:
      given: value of each flag by name.
    """
    files = {name: path_of(name, given[name]) for name in _FILES if given[name] is not None}
    return files | {name: given[name] for name in (*_WORDS, *_INTEGERS, *_FLOATS, *_SWITCHES)}
