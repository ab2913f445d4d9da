"""Export of a registration: a StableHLO program that JAX runs without air_jax, and its metadata."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from air_jax._version import __version__
from air_jax.checks import check_integer, check_shape, require
from air_jax.errors import OptionError, UserError, first_line
from air_jax.registration.registration import Registration
from air_jax.runtime.files import replace_text, replacing
from air_jax.transforms import warp

PROGRAM, METADATA = "registration.stablehlo", "registration.json"
PLATFORMS = ("cpu", "cuda", "tpu")
FORMAT_VERSION = 1


def export_registration(
    registration: Registration, folder: str | Path, *, size: Sequence[int] | None = None, refine_steps: int = 0
) -> dict[str, Any]:
    """Writes the registration as a program of `jax.export` for CPU, CUDA and TPU, with any batch size.

    The program takes the normalised fixed and moving image `[B, *S, C]`, float32 in [0, 1], and returns the
    displacement `[B, *S, N]` in voxels and the warped image `[B, *S, C]`. It contains the parameters.

    Args:
      registration: the registration.
      folder: folder of `registration.stablehlo` and `registration.json`; made where there is none.
      size: `S`, the sizes of the images. Default: those of the training images.
      refine_steps: steps of instance optimisation after the model, at least 0.

    Returns:
      The metadata, as in `registration.json`.

    Raises:
      OptionError: an option has a value that it cannot take.
      UserError: the library `flatbuffers` is missing, or the folder cannot be written.
    """
    *trained, channels = registration.image_shape
    size = tuple(trained) if size is None else tuple(size)
    check_shape("size", size, len(trained))
    check_integer("refine_steps", refine_steps, 0)
    if importlib.util.find_spec("flatbuffers") is None:  # `jax.export` writes with it
        raise UserError("export needs flatbuffers; install air_jax with its extra 'export'")

    def program(fixed: jax.Array, moving: jax.Array) -> tuple[jax.Array, jax.Array]:
        displacement, _ = registration.predict(fixed, moving)
        if refine_steps:
            displacement = registration.refine(fixed, moving, displacement, num_steps=refine_steps).displacement
        return displacement, warp(moving, displacement)

    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *size, channels), jnp.float32)
    try:
        artefact = export.export(jax.jit(program), platforms=PLATFORMS)(images, images)
    except (ValueError, OverflowError) as error:  # a model that takes other sizes only, or sizes that no array has
        raise OptionError("size", size, f"the model cannot take it ({first_line(error)})") from error
    content = artefact.serialize()
    metadata = _metadata(registration, size, refine_steps) | {
        "bytes": len(content),
        "calling_convention_version": artefact.calling_convention_version,
    }
    folder = Path(folder)
    require(not folder.exists() or folder.is_dir(), "output_dir", str(folder), "is a file; give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / PROGRAM) as file:
            file.write(content)
        replace_text(folder / METADATA, json.dumps(metadata, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    return metadata


def _metadata(registration: Registration, size: tuple[int, ...], refine_steps: int) -> dict[str, Any]:
    images = {"shape": ["b", *size, registration.image_shape[-1]], "dtype": "float32", "range": [0, 1]}
    displacement = {"shape": ["b", *size, len(size)], "dtype": "float32", "unit": "voxels", "axes": "array index"}
    return {
        "format_version": FORMAT_VERSION,
        "program": PROGRAM,
        "platforms": list(PLATFORMS),
        "inputs": {"fixed": images, "moving": images},
        "outputs": {"displacement": displacement, "warped": images},
        "convention": "warped(p) = moving(p + displacement(p))",
        "normalization": registration.normalization,
        "model": type(registration.model).__name__,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(registration.params)),
        "step": registration.step,
        "refine_steps": refine_steps,
        "air_jax_version": __version__,
        "jax_version": jax.__version__,
    }
