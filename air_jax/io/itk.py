"""Images that ITK reads and writes: NRRD, MetaImage, DICOM series, and 16-bit colours of pictures.

Arrays are in index order (i, j, k), as those of NIfTI files. Warnings of ITK are not printed.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.errors import UserError
from air_jax.io.access import library, reading, writing
from air_jax.io.compressed import check_deflated
from air_jax.io.memory import check_declared
from air_jax.io.space import check_affine, direction_of, spacing_of, without_third_axis
from air_jax.io.volume import Volume, plain

_READERS = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_KINDS = {"NrrdImageIO": "an NRRD image (.nrrd, .nhdr)", "MetaImageIO": "a MetaImage (.mha, .mhd)"}
_DICOM = "a folder with one DICOM series"
_MAX_DISTANCE = 0.1  # of a slice from its place in the grid, in slices
_MAX_LISTED = 5
_MAX_HEADER = 10_000  # bytes


def read_itk(path: Path, suffix: str, convert: Callable[[np.ndarray], np.ndarray] = plain) -> Volume:
    """Reads a 2-D or 3-D image of one channel. As in NIfTI, a single slice is a 2-D image.

    Args:
      path: the file.
      suffix: `.nrrd`, `.nhdr`, `.mha` or `.mhd`.
      convert: applied to the voxels.

    Returns:
      The array in index order (i, j, k), and its affine.

    Raises:
      UserError: one line that names the file: it cannot be read, or has colours, vectors or a time axis.
    """
    image_io = _READERS[suffix]
    with reading(path, _KINDS[image_io]), _silent(path) as sitk:
        data = _data_of(path)
        reader = sitk.ImageFileReader()
        reader.SetFileName(path)
        reader.SetImageIO(image_io)
        reader.ReadImageInformation()
        shape = reader.GetSize()
        if reader.GetNumberOfComponents() != 1:
            raise UserError(f"{path}: has {reader.GetNumberOfComponents()} channels; give an image of one channel")
        if len(shape) < 2 or max(shape[3:], default=1) > 1:
            raise UserError(f"{path}: has shape {shape}; give one 2-D or 3-D image, without time axis or vectors")
        declared = math.prod(shape) * _bytes_per_voxel(sitk, reader)
        data.check(declared)
        reader.SetExtractSize([*shape[:3], *[0] * len(shape[3:])])
        image = reader.Execute()
        return _volume(path, image, sitk.GetArrayViewFromImage(image), convert)


def check_field_file(path: Path) -> None:
    """Checks that the voxels of an NRRD or a MetaImage that has vectors are there and, where compressed, whole.

    Raises:
      UserError: its data file is missing, or no regular file, or there are several.
      ValueError: it is damaged.
    """
    with _silent(path) as sitk:
        reader = sitk.ImageFileReader()
        data = _data_of(path)
        reader.SetFileName(path)
        reader.ReadImageInformation()
        data.check(math.prod(reader.GetSize()) * _bytes_per_voxel(sitk, reader))


def read_dicom(folder: Path, convert: Callable[[np.ndarray], np.ndarray] = plain) -> Volume:
    """Reads the DICOM series of a folder as a 3-D image, in the units that its rescale slope gives.

    Args:
      folder: a folder with the files of one series.
      convert: applied to the voxels.

    Returns:
      The array in index order (i, j, k), and its affine.

    Raises:
      UserError: one line that names the folder: it has no series or several, slices are missing, or it has colours.
    """
    with reading(folder, _DICOM, is_folder=True), _silent(folder) as sitk:
        if pipe := next((entry for entry in folder.iterdir() if entry.is_fifo()), None):
            raise UserError(f"{folder}: contains the pipe {pipe.name}; give {_DICOM}")
        ids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if not ids:
            raise UserError(f"{folder}: is a folder without DICOM files; give an image file, or {_DICOM}")
        if len(ids) > 1:
            more = f" and {len(ids) - _MAX_LISTED} more" if len(ids) > _MAX_LISTED else ""
            raise UserError(
                f"{folder}: has {len(ids)} DICOM series ({', '.join(ids[:_MAX_LISTED])}{more}); give {_DICOM}"
            )
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), ids[0])
        first = sitk.ImageFileReader()
        first.SetFileName(names[0])
        first.ReadImageInformation()
        check_declared(folder, len(names) * math.prod(first.GetSize()) * _bytes_per_voxel(sitk, first))
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        image = reader.Execute()
        if image.GetNumberOfComponentsPerPixel() != 1:
            raise UserError(f"{folder}: has colours; give a series of one channel")
        if _distance_from_grid(sitk, names, image) > _MAX_DISTANCE:
            raise UserError(
                f"{folder}: its slices are unevenly spaced or tilted, or some are missing; complete or resample it"
            )
        return _volume(folder, image, sitk.GetArrayViewFromImage(image), convert)


def write_itk(path: Path, array: np.ndarray, affine: np.ndarray, suffix: str) -> None:
    """Writes a compressed NRRD or MetaImage of one channel.

    Args:
      path: the file; an existing one is replaced.
      array: `[*S]` in index order (i, j, k). Integers keep their type, floats are stored as float32.
      affine: `[N+1, N+1]`, array indices to mm in LPS.
      suffix: `.nrrd` or `.mha`.

    Raises:
      UserError: the affine is sheared, or the file cannot be written.
    """
    check_affine(path, affine)
    with writing(path, suffix) as partial, _silent(path) as sitk:
        image = sitk.GetImageFromArray(np.ascontiguousarray(plain(array).T))
        image.SetSpacing(spacing_of(affine).tolist())
        image.SetOrigin(affine[:-1, -1].tolist())
        image.SetDirection(direction_of(affine).ravel().tolist())
        sitk.WriteImage(image, partial, useCompression=True)


def read_pixels(path: Path, image_io: str) -> np.ndarray:
    """Reads a picture with one of ITK's own readers.

    Args:
      path: the file.
      image_io: name of the reader, such as `PNGImageIO`.

    Returns:
      `[H, W]`, or `[H, W, C]`, in the file's type.

    Raises:
      OSError: ITK cannot read the file.
    """
    with _silent(path) as sitk:
        return sitk.GetArrayFromImage(sitk.ReadImage(path, imageIO=image_io))


def write_colours(path: Path, pixels: np.ndarray) -> None:
    """Writes colours `[H, W, 3]` in the format of the name's ending.

    Raises:
      OSError: the file cannot be written.
    """
    with _silent(path) as sitk:
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), path)


@contextmanager
def _silent(path: Path) -> Iterator[Any]:
    """Yields the module SimpleITK, which the file needs, and prints none of ITK's warnings meanwhile.

    Raises:
      UserError: SimpleITK is not installed.
      OSError: ITK raised an exception; the last line of its message, without the addresses of objects.
    """
    sitk = library("SimpleITK", path)
    were_shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield sitk
    except RuntimeError as error:
        raise OSError(re.sub(r"\(0x[0-9a-f]+\)", "", str(error).strip().splitlines()[-1])) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(were_shown)


def _volume(path: Path, image: Any, view: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> Volume:
    """Returns SimpleITK's image, whose array is `view`, as a volume."""
    if view.dtype.kind not in "iuf":
        raise UserError(f"{path}: has voxels of type {view.dtype}; give an image of one channel")
    num_axes = image.GetDimension()
    affine = np.eye(num_axes + 1)
    affine[:-1, :-1] = np.reshape(image.GetDirection(), (num_axes, num_axes)) * image.GetSpacing()
    affine[:-1, -1] = image.GetOrigin()
    array = view.T
    if array.shape[2:] == (1,):
        array, affine = array[..., 0], without_third_axis(affine)
    check_affine(path, affine)
    return Volume(convert(array), affine)


def _bytes_per_voxel(sitk: Any, reader: Any) -> int:
    """Returns the size of a voxel of the image whose header a reader has read."""
    components = reader.GetNumberOfComponents()
    voxel = sitk.Image([1] * min(len(reader.GetSize()), 3), reader.GetPixelID(), components)
    return voxel.GetSizeOfPixelComponent() * components


@dataclass(frozen=True)
class _Data:
    """Where the voxels of a file are.

    Attributes:
      path: the file, for messages.
      file: the file that has the voxels.
      start: its first byte of the voxels; None where that is not known.
      encoding: "raw", "deflated" or "other".
    """

    path: Path
    file: Path
    start: int | None
    encoding: str

    def check(self, declared: int) -> None:
        """Checks that the file holds as many bytes as declared, and that compressed ones are whole: ITK does not."""
        held = self.file.stat().st_size - (self.start or 0) if self.encoding == "raw" else None
        check_declared(self.path, declared, held=held)
        if self.encoding == "deflated" and self.start is not None:
            check_deflated(self.file, declared, start=self.start)


def _data_of(path: Path) -> _Data:
    """Returns where the voxels of an NRRD or a MetaImage are.

    Of the faults found here, ITK would print errors, or wait for a pipe.

    Raises:
      UserError: the data file is missing, or no regular file, or there are several.
      ValueError: the file is neither NRRD nor MetaImage, or is cut short.
    """
    with open(path, "rb") as file:
        begin = file.read(_MAX_HEADER)
    is_nrrd = begin.startswith(b"NRRD")
    # A blank line ends the header of an NRRD, the line ElementDataFile that of a MetaImage.
    end = re.search(rb"\r?\n\r?\n" if is_nrrd else rb"(?im)^ElementDataFile.*\n?", begin)
    if not is_nrrd and end is None:
        raise ValueError("it has no line ElementDataFile")
    header = begin[: end.end() if end else None].decode("latin-1")
    pairs = re.findall(r"^([^#:=\n]+?) *[:=] *(.*?)\s*$", header, flags=re.MULTILINE)
    settings = {key.casefold().replace(" ", ""): value for key, value in pairs}
    name = settings.get("datafile") if is_nrrd else settings.get("elementdatafile")
    file, start = path, len(header)
    if name is not None and name.upper() != "LOCAL":
        if name.startswith("LIST") or "%" in name:
            raise UserError(f"{path}: its voxels are in several files; save it as one file first")
        file, start = path.parent / name, 0
        if not file.is_file():
            raise UserError(f"{path}: its voxels are in {name}, which is missing or no file")
    if int(settings.get("compresseddatasize") or 0) > file.stat().st_size - start:
        raise ValueError("its compressed voxels are cut short")
    skips = any(settings.get(key, "0") not in ("0", "") for key in ("lineskip", "byteskip", "headersize"))
    key, raw = ("encoding", "raw") if is_nrrd else ("compresseddata", "false")
    encoding = {raw: "raw", "gzip": "deflated", "gz": "deflated", "true": "deflated"}
    return _Data(path, file, None if skips else start, encoding.get(settings.get(key, raw).lower(), "other"))


def _distance_from_grid(sitk: Any, names: tuple[str, ...], image: Any) -> float:
    """Returns how far a slice of a series lies from where the image has it at most, in distances between slices."""
    reader = sitk.ImageFileReader()
    differences = []
    for k, name in enumerate(names):
        reader.SetFileName(name)
        reader.ReadImageInformation()
        differences.append(np.subtract(reader.GetOrigin(), image.TransformIndexToPhysicalPoint((0, 0, k))))
    return float(np.linalg.norm(differences, axis=-1).max() / image.GetSpacing()[2])
