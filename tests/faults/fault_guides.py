"""Files of the options that guide a registration and of the correction of motion, good and bad."""

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from PIL import Image

RAS = np.diag([-1.5, -1.5, 2.0, 1.0])  # that of the images of `fault_inputs`, as NIfTI has it
SHAPE = (12, 10, 9)


def make_guides(folder: Path, rng: np.random.Generator) -> None:
    """Makes regions, masks, landmarks, contrasts and colours for images of `SHAPE`."""
    body = np.zeros(SHAPE, np.int16)
    body[3:6, 3:6, 3:6] = 1
    elsewhere = RAS + np.array([[0, 0, 0, 500.0]] * 3 + [[0, 0, 0, 0]])

    def nifti(name: str, array: np.ndarray, matrix: np.ndarray = RAS) -> None:
        nibabel.save(nibabel.Nifti1Image(array, matrix), folder / name)

    border = np.zeros(SHAPE, np.int16)
    border[0] = 1
    nifti("body.nii", body)
    nifti("body_elsewhere.nii", body, elsewhere)
    nifti("body_border.nii", border)
    nifti("body_nan.nii", np.where(body, np.nan, 0).astype(np.float32))
    nifti("body_all_nan.nii", np.full(SHAPE, np.nan, np.float32))
    nifti("bodies_many.nii", np.arange(body.size, dtype=np.int32).reshape(SHAPE) % 40)
    nifti("mask_of_two.nii", 2 * body.astype(np.float32))
    nifti("mask_negative.nii", -body.astype(np.float32))
    nifti("mask_2d.nii", body[:, :, 4])
    points = {
        "guides": [(4, 5, 6), (9, 5, 6), (4, 9, 6), (4, 5, 12), (8, 9, 10)],
        "guides_four": [(4, 5, 6), (9, 5, 6), (4, 9, 6), (4, 5, 12)],
        "guides_line": [(4, 4, 4), (5, 5, 5), (6, 6, 6), (7, 7, 7), (8, 8, 8)],
        "guides_one": [(4, 5, 6)],
        "guides_outside": [(400, 5, 6), (900, 5, 6), (400, 9, 6), (400, 5, 12), (800, 9, 10)],
    }
    for name, rows in points.items():
        lines = ["x,y,z", *(",".join(map(str, row)) for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    colour = rng.integers(0, 255, (*SHAPE[:2], 3), dtype=np.uint8)
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(colour[..., 0]).save(folder / "grey.png")


def make_series(folder: Path, rng: np.random.Generator) -> None:
    """Makes time series of `SHAPE`, five frames each."""
    frames = rng.random((*SHAPE, 5)).astype(np.float32)

    def nifti(name: str, array: np.ndarray, matrix: np.ndarray = RAS) -> None:
        nibabel.save(nibabel.Nifti1Image(array, matrix), folder / name)

    nifti("series.nii.gz", frames)
    nifti("series_constant.nii", np.ones_like(frames))
    nifti("series_all_nan.nii", np.full_like(frames, np.nan))
    nifti("series_infinite.nii", np.where(frames > 0.999, np.inf, np.nan).astype(np.float32))
    nifti("series_one_frame.nii", frames[..., :1])
    nifti("series_complex.nii", frames.astype(np.complex64))
    nifti("series_five_axes.nii", np.stack([frames, frames], axis=-1))
    nifti("series_thin.nii", frames[:, :1])
    nifti("series_flat.nii", frames[:, :, :1])
    nifti("series_far.nii", frames, RAS + np.array([[0, 0, 0, 1e9]] * 3 + [[0, 0, 0, 0]]))
    nifti("series_tiny_voxels.nii", frames, np.diag([1e-20, 1e-20, 1e-20, 1.0]))
    lost = frames.copy()
    lost[..., 2] = np.nan
    nifti("series_lost_frame.nii", lost)
    for name, matrix in (("singular", np.diag([1.0, 0.0, 1.0, 1.0])), ("nan_affine", np.full((4, 4), np.nan))):
        header = nibabel.Nifti1Image(frames, RAS).header
        header.set_sform(RAS, code=1)
        header.set_qform(RAS, code=0)
        for row, values in zip(("srow_x", "srow_y", "srow_z"), matrix, strict=False):
            header[row] = values
        content = header.binaryblock + b"\0" * 4 + np.asarray(frames, "<f4").tobytes(order="F")
        (folder / f"series_{name}.nii").write_bytes(content)
    whole = (folder / "series.nii.gz").read_bytes()
    (folder / "series_cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "series_cut.nii").write_bytes(gzip.decompress(whole)[:9000])
    (folder / "series_text.nii.gz").write_text("not a series\n" * 40)
    header = nibabel.Nifti1Header()
    header.set_data_shape((1000, 1000, 100, 300))
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 352
    content = header.binaryblock + bytes(10_000)
    (folder / "series_huge.nii").write_bytes(content)
    (folder / "series_huge.nii.gz").write_bytes(gzip.compress(content))

    pages = rng.integers(0, 255, (5, 20, 24)).astype(np.uint8)
    tifffile.imwrite(folder / "series.tif", pages, photometric="minisblack")
    tifffile.imwrite(folder / "series_one_page.tif", pages[0], photometric="minisblack")
    tifffile.imwrite(folder / "series_constant.tif", np.full_like(pages, 7), photometric="minisblack")
    tifffile.imwrite(folder / "series_colour.tif", np.stack(3 * [pages], axis=-1), photometric="rgb")
    tifffile.imwrite(folder / "series_all_nan.tif", np.full(pages.shape, np.nan, np.float32), photometric="minisblack")
    tifffile.imwrite(folder / "series_thin.tif", pages[:, :1], photometric="minisblack")
    with tifffile.TiffWriter(folder / "series_two_sizes.tif") as file:
        for size in (20, 12):
            file.write(pages[0, :size], photometric="minisblack", contiguous=False)
    content = (folder / "series.tif").read_bytes()
    (folder / "series_cut.tif").write_bytes(content[: len(content) // 2])
    (folder / "series_text.tif").write_text("not a series\n" * 40)
    os.mkfifo(folder / "series_pipe.nii")
    os.mkfifo(folder / "series_pipe.tif")
    (folder / "series_folder.nii").mkdir()
