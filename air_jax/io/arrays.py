"""NumPy files: one image, or a stack of images for training. Pickled objects are never read.

Array axes are `[row, column]` or `[z, y, x]`: physical x is the *last* array axis, unless `affine` says otherwise.

One image is a `.npy` array `[*S]`, whose spacing is 1, or a `.npz` with

- `image`: `[*S]`, or `[*S, C]` if `spacing` or `affine` gives N,
- `spacing` (optional): `[N]`, mm, in the order of the array's axes,
- `affine` (optional): `[N+1, N+1]`, array indices to mm in LPS; it takes precedence over `spacing`.

A stack is a `.npz` with n images of one size. Other keys are ignored:

- `image`: `[n, *S]`, or `[n, *S, C]` if `spacing` gives N. Without `spacing`, all axes after the first are spatial.
- `label` (optional): integers, `[n, *S]` (segmentations) or `[n]` (classes),
- `spacing` (optional): `[N]` or `[n, N]`, mm, in the order of the array's axes,
- `split` (optional): `[n]`, each `train`, `validation` or `test`,
- `ids` (optional): `[n]`, the images' names.

A stack of frames has two images of each subject: `image` `[n, 2, *S]` and `label` `[n, 2, *S]`. The other keys are as
above, one value per subject. The shape does not show that a file is a stack of frames, so the reader must be told.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from air_jax.checks import as_array, check_flag, check_path
from air_jax.errors import UserError
from air_jax.io.access import naming, reading, writing
from air_jax.io.memory import DEFLATE, check_declared
from air_jax.io.space import check_affine, reversed_affine, spacing_of
from air_jax.io.volume import Volume, check_finite, plain

SPLITS = ("train", "validation", "test")
_KIND = "a NumPy file (.npy, .npz)"


class Stack(NamedTuple):
    """Images of one size. See the module's docstring for the file format.

    Attributes:
      image: `[n, *S]` or `[n, *S, C]`, as stored, in the machine's byte order.
      label: `[n, *S]` or `[n]` integers, or None.
      spacing: `[n, N]` float64, mm, or None where it is unknown.
      split: `[n]` strings, or None.
      ids: `[n]` strings, or None.

    Examples:
      >>> images = np.zeros((5, 8, 8), np.uint8)
      >>> air_jax.io.write_stack("stack.npz", images, label=np.arange(5))
      >>> stack = air_jax.io.read_stack("stack.npz")
      >>> stack.image.shape, stack.label.tolist(), stack.spacing
      ((5, 8, 8), [0, 1, 2, 3, 4], None)
    """

    image: np.ndarray
    label: np.ndarray | None = None
    spacing: np.ndarray | None = None
    split: np.ndarray | None = None
    ids: np.ndarray | None = None

    @property
    def num_axes(self) -> int:
        """N, the number of spatial axes."""
        return self.image.ndim - 1 if self.spacing is None else self.spacing.shape[-1]


def read_array(path: Path, convert: Callable[[np.ndarray], np.ndarray] = plain) -> Volume:
    """Reads one image from `.npy` or `.npz`. See the module's docstring for the file format.

    Args:
      path: the file.
      convert: applied to the array.

    Returns:
      The converted array and its affine.

    Raises:
      UserError: one line that names the file and its fault.
    """
    arrays = _load(path, ("image", "spacing", "affine"))
    array = _numbers(path, "image", arrays["image"])
    if "affine" in arrays:
        affine = _numbers(path, "affine", arrays["affine"]).astype(np.float64)
        if affine.shape not in ((3, 3), (4, 4)) or (affine[-1] != [0] * (len(affine) - 1) + [1]).any():
            raise UserError(f"{path}: affine must be [N+1, N+1] with last row 0 ... 0 1, N = 2 or 3")
    else:
        affine = reversed_affine(_spacing(path, arrays.get("spacing", np.ones(array.ndim)), ((2,), (3,))))
    check_affine(path, affine)
    num_axes = len(affine) - 1
    if array.ndim not in (num_axes, num_axes + 1):
        raise UserError(f"{path}: image has shape {array.shape}; with {num_axes} axes it must be [*S] or [*S, C]")
    return Volume(convert(array), affine)


def write_array(path: Path, array: np.ndarray, affine: np.ndarray, suffix: str) -> None:
    """Writes one image. `.npy` stores only the array, `.npz` also `spacing` and `affine`.

    Args:
      path: the file; an existing one is replaced.
      array: `[*S]` or `[*S, C]`. Integers keep their type, floats are stored as float32.
      affine: `[N+1, N+1]`, array indices to mm in LPS.
      suffix: `.npy` or `.npz`.

    Raises:
      UserError: the file cannot be written.
    """
    array = plain(array)
    with writing(path, suffix) as partial:
        if suffix == ".npy":
            np.save(partial, array, allow_pickle=False)
        else:
            np.savez_compressed(partial, allow_pickle=False, image=array, spacing=spacing_of(affine), affine=affine)


def read_stack(path: str | Path, *, frames: bool = False) -> Stack:
    """Reads a stack of images. See the module's docstring for the file format.

    Args:
      path: the `.npz` file.
      frames: whether the file is a stack of frames. The two frames of a subject then follow each other among the
        `2 n` images. Both have the subject's `split`; their names are the subject's with `/0` and `/1`.

    Returns:
      The arrays of the file, checked; None for those that it lacks.

    Raises:
      UserError: one line that names the file and the wrong key.

    Examples:
      >>> air_jax.io.write_stack("pairs.npz", np.zeros((5, 2, 8, 8), np.uint8))
      >>> air_jax.io.read_stack("pairs.npz", frames=True).image.shape
      (10, 8, 8)
    """
    check_path(path=path)
    check_flag("frames", frames)
    path = Path(path)
    arrays = _load(path, Stack._fields)
    return _checked_stack(path, **(_with_frames_apart(path, arrays) if frames else arrays))


def _with_frames_apart(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns the arrays of a stack of frames, `[n, 2, ...]`, into those of a stack of images, `[2 n, ...]`."""
    n = len(arrays["image"]) if arrays["image"].ndim else 0
    apart = {}
    for key, values in arrays.items():
        if key in ("image", "label"):
            if values.shape[:2] != (n, 2):
                raise UserError(f"{path}: {key} has shape {values.shape}; with two frames of each subject, [n, 2, *S]")
            apart[key] = values.reshape(2 * n, *values.shape[2:])
        elif key == "spacing" and values.ndim == 1:
            apart[key] = values
        else:
            apart[key] = np.repeat(values, 2, axis=0) if values.ndim else values
    if "ids" in apart and apart["ids"].ndim:
        apart["ids"] = np.array([f"{name}/{i % 2}" for i, name in enumerate(apart["ids"])])
    return apart


def write_stack(
    path: str | Path,
    image: ArrayLike,
    *,
    label: ArrayLike | None = None,
    spacing: ArrayLike | None = None,
    split: ArrayLike | None = None,
    ids: ArrayLike | None = None,
) -> None:
    """Writes a compressed stack of images. See the module's docstring for the file format.

    Args:
      path: the file; its name ends in .npz.
      image: `[n, *S]`, or `[n, *S, C]` if `spacing` is given.
      label: `[n, *S]` or `[n]` integers.
      spacing: `[N]` or `[n, N]`, mm.
      split: `[n]`, each `train`, `validation` or `test`.
      ids: `[n]`, the images' names.

    Raises:
      UserError: an array does not fit the others, images are not finite, the name does not end in .npz, or the file
        cannot be written.

    Examples:
      >>> air_jax.io.write_stack("stack.npz", np.zeros((5, 8, 8), np.uint8), spacing=(2.0, 0.5))
      >>> air_jax.io.read_stack("stack.npz").spacing.tolist()
      [[2.0, 0.5], [2.0, 0.5], [2.0, 0.5], [2.0, 0.5], [2.0, 0.5]]
    """
    check_path(path=path)
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path}: a stack is a .npz file; choose a name that ends so")
    given = {"image": image, "label": label, "spacing": spacing, "split": split, "ids": ids}
    kinds = {"split": "UO", "ids": "UOiu"}
    arrays = {
        key: as_array("write_stack", key, value, kinds.get(key, "fiub"))
        for key, value in given.items()
        if value is not None
    }
    stack = _checked_stack(path, **arrays)
    with naming(path):
        check_finite(stack.image)
    arrays = {key: value for key, value in stack._asdict().items() if value is not None}
    with writing(path, ".npz") as partial:
        np.savez_compressed(partial, allow_pickle=False, **arrays)


def _checked_stack(path: Path, image, label=None, spacing=None, split=None, ids=None) -> Stack:
    image = _numbers(path, "image", image)
    if not image.ndim or not len(image):
        raise UserError(f"{path}: image has shape {image.shape}; it must be [n, *S]")
    n = len(image)
    if spacing is not None:
        spacing = np.broadcast_to(_spacing(path, spacing, ((2,), (3,), (n, 2), (n, 3))), (n, np.shape(spacing)[-1]))
    stack = Stack(image, label, spacing, split, ids)
    num_axes = stack.num_axes
    if num_axes not in (2, 3) or image.ndim - num_axes not in (1, 2):
        raise UserError(
            f"{path}: image has shape {image.shape}; it must be [n, *S] with 2 or 3 axes S, "
            "or [n, *S, C] with spacing [N] beside it"
        )
    if label is not None:
        is_integer = np.issubdtype(label.dtype, np.integer) or label.dtype == bool
        if not is_integer or label.shape not in ((n,), image.shape[: num_axes + 1]):
            raise UserError(
                f"{path}: label is {label.dtype} of shape {label.shape}; "
                f"it must be integers [{n}] or {list(image.shape[: num_axes + 1])}"
            )
    for key, values in (("split", split), ("ids", ids)):
        if values is not None and values.shape != (n,):
            raise UserError(f"{path}: {key} has shape {values.shape}; it must be [{n}], one for each image")
    if split is not None and not np.isin(split, SPLITS).all():
        wrong = next(value for value in split if value not in SPLITS)
        raise UserError(f"{path}: split has {str(wrong)!r}; it must be {', '.join(SPLITS)}")
    return stack._replace(ids=None if ids is None else ids.astype(str))


def _load(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the file's arrays among `keys`. The array of a `.npy` is called `image`."""
    with reading(path, _KIND):
        # NumPy treats every file without its own first bytes as a pickle.
        with open(path, "rb") as file:
            start = file.read(6)
            if not start.startswith((b"PK", b"\x93NUMPY")):
                raise UserError(f"{path}: damaged, or not {_KIND}")
            if not start.startswith(b"PK"):
                file.seek(0)
                check_declared(path, _declared(file), held=path.stat().st_size)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"image": _native(loaded)}
        with loaded:
            if "image" not in loaded:
                raise UserError(f"{path}: has no array named image (it has {', '.join(loaded.files) or 'none'})")
            present = [key for key in keys if key in loaded]
            for key in present:
                with loaded.zip.open(f"{key}.npy") as file:
                    held = loaded.zip.getinfo(f"{key}.npy").compress_size * DEFLATE
                    check_declared(path, _declared(file), held=held)
            return {key: _native(loaded[key]) for key in present}


def _declared(file: IO[bytes]) -> int:
    """Returns the size in bytes of the array that a `.npy` file declares; the file is open at its start."""
    version = np.lib.format.read_magic(file)
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
    if read_header is None:
        raise ValueError(f"version {version} of the format holds only structured arrays")
    shape, _, dtype = read_header(file)
    return math.prod(shape) * dtype.itemsize


def _native(array: np.ndarray) -> np.ndarray:
    """Returns the array in the machine's byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _numbers(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise UserError(f"{path}: {key} is {array.dtype}; it must be real numbers")
    return array


def _spacing(path: Path, spacing: np.ndarray, shapes: tuple[tuple[int, ...], ...]) -> np.ndarray:
    spacing = _numbers(path, "spacing", spacing).astype(np.float64)
    if spacing.shape not in shapes:
        raise UserError(f"{path}: spacing has shape {spacing.shape}; it must be one of {list(map(list, shapes))}")
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise UserError(f"{path}: spacing must be positive, in mm")
    return spacing
