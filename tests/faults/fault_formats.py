"""Files of image formats with a header that lies, and tables of points as other programs and hands write them."""

import gzip
import struct
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
import tifffile
from PIL import Image

SHAPE = (12, 10, 9)
RAS = np.diag([-1.5, -1.5, 2.0, 1.0])
# Bytes of a NIfTI header: offset, format of struct, values.
HEADERS = {
    "dim_eight": (40, "<h", (8,)), "dim_none": (40, "<h", (0,)), "type_unknown": (70, "<h", (999,)),
    "type_zero": (70, "<h", (0,)), "type_text": (70, "<h", (1,)), "offset_nan": (108, "<f", (float("nan"),)),
    "offset_negative": (108, "<f", (-400.0,)), "offset_huge": (108, "<f", (1e30,)),
    "slope_nan": (112, "<2f", (float("nan"), 3.0)), "slope_infinite": (112, "<2f", (float("inf"), 0.0)),
    "slope_huge": (112, "<2f", (3e38, 0.0)), "inter_nan": (112, "<2f", (2.0, float("nan"))),
    "pixdim_nan": (80, "<f", (float("nan"),)), "pixdim_zero": (80, "<3f", (0.0, 0.0, 0.0)),
    "quaternion_nan": (256, "<3f", (float("nan"),) * 3), "quaternion_large": (256, "<3f", (5.0, 5.0, 5.0)),
    "magic": (344, "<4s", (b"nope",)), "magic_pair": (344, "<4s", (b"ni1\0",)), "size": (0, "<i", (999,)),
    "dim_large": (42, "<3h", (32767, 32767, 32767)), "origin_nan": (292, "<f", (float("nan"),)),
}  # fmt: skip
POINTS = {
    "wide_digits": "x,y,z\n\uff11,2,3\n4,5,6\n",
    "decimal_comma": 'x,y,z\n"1,5",2,3\n4,5,6\n',
    "semicolon_comma": "x;y;z\n1,5;2;3\n4;5;6\n",
    "hexadecimal": "x,y,z\n0x10,2,3\n4,5,6\n",
    "two_x": "x,x,y\n1,2,3\n4,5,6\n",
    "no_header": "1,2,3\n4,5,6\n",
    "only_text": "hello\n",
    "blank_cell": "x,y,z\n1,,3\n4,5,6\n",
    "null": "x,y,z\n1,\0,3\n4,5,6\n",
    "open_quote": 'x,y,z\n"1,2,3\n4,5,6\n',
    "far": "x,y,z\n1e30,2,3\n4,5,6\n",
    "infinity": "x,y,z\ninfinity,2,3\n4,5,6\n",
    "wide_table": ",".join(f"c{i}" for i in range(5000)) + "\n" + ",".join(["1"] * 5000) + "\n",
    "huge_number": "x,y,z\n" + "9" * 5000 + ",2,3\n4,5,6\n",
}


def make_formats(folder: Path, rng: np.random.Generator) -> None:
    """Makes all of them."""
    image = rng.random(SHAPE).astype(np.float32)
    _headers(folder, image)
    _arrays(folder, image)
    _itk(folder, image)
    _pictures(folder, rng)
    for name, text in POINTS.items():
        (folder / f"points_{name}.csv").write_text(text, encoding="utf-8")
    (folder / "points_utf16.csv").write_bytes("x,y,z\n1,2,3\n4,5,6\n".encode("utf-16"))


def _headers(folder: Path, image: np.ndarray) -> None:
    nifti = nibabel.Nifti1Image(image, RAS)
    nifti.set_qform(RAS, 1)
    nifti.set_sform(RAS, 1)
    whole = nifti.to_bytes()
    for name, (offset, form, values) in HEADERS.items():
        content = bytearray(whole)
        if name.startswith(("quaternion", "pixdim")):
            struct.pack_into("<h", content, 254, 0)  # without an sform, the qform and pixdim count
        if name == "pixdim_zero":
            struct.pack_into("<h", content, 252, 0)
        struct.pack_into(form, content, offset, *values)
        (folder / f"nifti_{name}.nii").write_bytes(content)
    packed = gzip.compress(whole)
    (folder / "nifti_more.nii.gz").write_bytes(packed + b"more that is no gzip")
    (folder / "nifti_checksum.nii.gz").write_bytes(packed[:-8] + bytes(4) + packed[-4:])
    (folder / "nifti_twice.nii.gz").write_bytes(gzip.compress(packed))
    (folder / "nifti_short.nii").write_bytes(whole[:-1])
    bomb = bytearray(whole[:352])
    struct.pack_into("<4h", bomb, 40, 3, 30000, 30000, 30)
    (folder / "nifti_bomb.nii.gz").write_bytes(gzip.compress(bytes(bomb) + bytes(60_000_000), 9))
    second = nibabel.Nifti2Image(image, RAS).to_bytes()
    content = bytearray(second)
    struct.pack_into("<4q", content, 16, 3, 2**40, 2**40, 2**40)
    (folder / "nifti_second.nii").write_bytes(content)
    labels = (image > 0.5).astype(np.float64)
    labels[0, 0, 0] = 2.0**60
    nibabel.save(nibabel.Nifti1Image(labels, RAS), folder / "labels_beyond.nii")
    nibabel.save(nibabel.Nifti1Image(image + 1j, RAS), folder / "labels_complex.nii")
    nibabel.save(nibabel.Nifti1Image(image[:2], RAS), folder / "two_slices.nii")
    nibabel.save(nibabel.Nifti1Image(255 * (image > 0.5).astype(np.uint8), RAS), folder / "mask_255.nii")


def _arrays(folder: Path, image: np.ndarray) -> None:
    arrays = {
        "text": np.array(["a", "b"]), "times": np.zeros(SHAPE, "datetime64[s]"), "number": np.array(3.0),
        "line": np.ones(9), "five": np.ones((2, 2, 2, 2, 2)), "record": np.zeros(SHAPE, [("a", "f4")]),
        "none": np.ones((0, 4, 4)), "complex": image + 1j, "infinite": np.full(SHAPE, np.inf),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"array_{name}.npy", array)
    np.save(folder / "array_object.npy", np.array([{}], object), allow_pickle=True)
    np.savez(folder / "array_affine_nan.npz", image=image, affine=np.full((4, 4), np.nan))
    np.savez(folder / "array_affine_text.npz", image=image, affine=np.array("mine"))
    np.savez(folder / "array_affine_flat.npz", image=image, affine=np.diag([1.0, 1, 0, 1]))
    np.savez(folder / "array_spacing_nan.npz", image=image, spacing=[1, np.nan, 1])
    np.savez(folder / "array_spacing_text.npz", image=image, spacing=np.array(["a", "b", "c"]))
    np.savez(folder / "array_spacing_huge.npz", image=image, spacing=[1e300, 1, 1])
    with zipfile.ZipFile(folder / "array_text_in_zip.npz", "w") as file:
        file.writestr("image.npy", "not an array")
    with zipfile.ZipFile(folder / "array_empty_zip.npz", "w"):
        pass
    whole = (folder / "array_line.npy").read_bytes()
    for name, shape in {"negative": b"(-9,)", "true": b"(True,)", "huge": b"(9999999999999999999,)"}.items():
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': " + shape + b", }"
        header = header.ljust(117) + b"\n"
        (folder / f"array_shape_{name}.npy").write_bytes(whole[:8] + struct.pack("<H", 118) + header + whole[128:])


def _itk(folder: Path, image: np.ndarray) -> None:
    start = "NRRD0004\ntype: float\ndimension: 3\n"
    for name, text in {
        "detached": start + "sizes: 4 4 4\nencoding: raw\nendian: little\ndata file: /dev/zero\n\n",
        "detached_text": start + "sizes: 4 4 4\nencoding: raw\nendian: little\ndata file: points.csv\n\n",
        "spacing_zero": start + "sizes: 4 4 4\nspacings: 0 1 1\nencoding: raw\nendian: little\n\n" + 256 * "a",
        "spacing_nan": start + "sizes: 4 4 4\nspacings: nan 1 1\nencoding: raw\nendian: little\n\n" + 256 * "a",
        "sizes_zero": start + "sizes: 0 4 4\nencoding: raw\nendian: little\n\n",
        "sizes_negative": start + "sizes: -4 4 4\nencoding: raw\nendian: little\n\n" + 256 * "a",
        "type": start.replace("float", "quaternion") + "sizes: 4 4 4\nencoding: raw\n\n" + 256 * "a",
        "encoding": start + "sizes: 4 4 4\nencoding: secret\nendian: little\n\n" + 256 * "a",
        "dimension": start.replace("3", "99") + "sizes: 4 4 4\nencoding: raw\n\n" + 256 * "a",
        "gzip": start + "sizes: 4 4 4\nencoding: gzip\nendian: little\n\n" + 256 * "a",
    }.items():
        (folder / f"nrrd_{name}.nrrd").write_text(text)
    start = "ObjectType = Image\nNDims = 3\nElementType = MET_FLOAT\n"
    for name, text in {
        "device": start + "DimSize = 4 4 4\nElementDataFile = /dev/zero\n",
        "list": start + "DimSize = 4 4 4\nElementDataFile = LIST\n",
        "lost": start + "DimSize = 4 4 4\nElementDataFile = no_such.raw\n",
        "spacing": start + "DimSize = 4 4 4\nElementSpacing = 0 0 0\nElementDataFile = LOCAL\n" + 256 * "a",
        "size": start + "DimSize = -4 4 4\nElementDataFile = LOCAL\n" + 256 * "a",
        "huge": start + "DimSize = 30000 30000 3000\nElementDataFile = LOCAL\n" + 256 * "a",
        "type": start.replace("FLOAT", "MINE") + "DimSize = 4 4 4\nElementDataFile = LOCAL\n" + 256 * "a",
    }.items():
        (folder / f"meta_{name}.mha").write_text(text)
    (folder / "meta_device.mhd").write_text(start + "DimSize = 4 4 4\nElementDataFile = /dev/zero\n")
    (folder / "meta_lost.mhd").write_text(start + "DimSize = 4 4 4\nElementDataFile = no_such.raw\n")
    flat = SimpleITK.AffineTransform(2)
    SimpleITK.WriteTransform(flat, folder / "affine_flat.tfm")
    text = (folder / "affine.tfm").read_text()
    (folder / "affine_far.tfm").write_text(text.replace("Parameters: 1 ", "Parameters: 1e30 ", 1))
    (folder / "affine_short.tfm").write_text(text.replace("Parameters: 1 0 0 0 1", "Parameters: 1 0 0", 1))
    (folder / "affine_centre.tfm").write_text(text.replace("FixedParameters: 0 0 0", "FixedParameters: nan 0 0"))
    (folder / "affine_twice.tfm").write_text(text + text)
    (folder / "affine_matrix.mat").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    (folder / "affine_binary.mat").write_bytes(bytes(range(256)) * 8)


def _pictures(folder: Path, rng: np.random.Generator) -> None:
    grey = rng.integers(0, 255, (20, 24), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "first.png")
    Image.fromarray(grey[::-1]).save(folder / "second.png")
    Image.fromarray(np.full((20, 24), 7, np.uint8)).save(folder / "picture_constant.png")
    Image.fromarray(grey[:1]).save(folder / "picture_thin.png")
    Image.fromarray(grey[:1, :1]).save(folder / "picture_one.png")
    whole = bytearray((folder / "first.png").read_bytes())
    struct.pack_into(">2I", whole, 16, 100_000, 100_000)
    (folder / "picture_bomb.png").write_bytes(whole)
    struct.pack_into(">2I", whole, 16, 0, 0)
    (folder / "picture_zero.png").write_bytes(whole)
    Image.fromarray(grey).save(folder / "picture.gif")
    tifffile.imwrite(folder / "tiff_nan.tif", np.full((20, 24), np.nan, np.float32))
    tifffile.imwrite(folder / "tiff_complex.tif", grey.astype(np.complex64))
    tifffile.imwrite(folder / "tiff_pages.tif", np.stack(3 * [grey]), photometric="minisblack")
    content = bytearray((folder / "tiff_nan.tif").read_bytes())
    (folder / "tiff_cut.tif").write_bytes(content[: len(content) // 2])
    struct.pack_into("<I", content, 4, 2**31)
    (folder / "tiff_directory.tif").write_bytes(content)
    (folder / "tiff_text.tif").write_text("not a picture\n" * 40)
