"""TIFF and PNG files of every sample format: exact values, or refused by what they are."""

import struct
import zlib

import numpy as np
import pytest
import SimpleITK
import tifffile
from helpers import refused
from PIL import Image

from air_jax import io

SHAPE = (50, 61)
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def values(dtype, shape=SHAPE, seed=0):
    """Values over the whole range of a type."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def check(path, expected):
    """Checks values, type (floats become float32) and byte order."""
    expected = expected.astype(np.float32) if expected.dtype.kind == "f" else expected
    read = io.read_image(path).array
    assert read.dtype == expected.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (16, 32)},
        {"rowsperstrip": 7},
        {"compression": "zlib"},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_every_sample_format_is_exact(tmp_path, dtype, byteorder, options):
    array = values(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, photometric="minisblack", **options)
    check(tmp_path / "a.tif", array)
    if dtype in ("u2", "i4") and not options:
        np.testing.assert_array_equal(io.read_segmentation(tmp_path / "a.tif").array, array)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_predicted_values_are_exact(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", values(dtype), photometric="minisblack", compression="zlib", predictor=True)
    check(tmp_path / "a.tif", values(dtype))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_8_and_16_bits_are_exact_and_transparency_is_dropped(tmp_path, dtype, planar, channels):
    array = values(dtype, (*SHAPE, channels))
    stored = np.moveaxis(array, -1, 0) if planar == "separate" else array
    extra = ["unassalpha"] if channels == 4 else None
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, extrasamples=extra)
    check(tmp_path / "a.tif", array[..., :3])


def test_grey_with_transparency_palettes_and_bits_are_read(tmp_path):
    array = values("u2", (*SHAPE, 2))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", extrasamples=["unassalpha"])
    check(tmp_path / "a.tif", array[..., 0])
    indices, palette = values("u1"), values("u2", (3, 256), 1)
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=palette)
    check(tmp_path / "a.tif", (palette >> 8).astype(np.uint8)[:, indices].transpose(1, 2, 0))
    bits = values("u1") > 99
    tifffile.imwrite(tmp_path / "a.tif", bits, photometric="minisblack")
    check(tmp_path / "a.tif", np.uint8(255) * bits)
    Image.fromarray(bits).save(tmp_path / "a.tif", compression="group4", tiffinfo={262: 1})
    check(tmp_path / "a.tif", np.uint8(255) * bits)


def test_compressions_that_tifffile_lacks_are_read_by_pillow_or_itk(tmp_path):
    path = tmp_path / "a.tif"
    for array in (values("u1"), values("u1", (*SHAPE, 3)), values("u2"), values("f4")):
        Image.fromarray(array).save(path, compression="tiff_lzw")
        assert tifffile.TiffFile(path).pages.first.compression.name == "LZW"
        check(path, array)
    array = values("u1", (*SHAPE, 4))
    Image.fromarray(array).save(path, compression="tiff_lzw")
    check(path, array[..., :3])
    array = values("u2", (*SHAPE, 3))
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(path)
    writer.SetUseCompression(True)
    writer.SetCompressor("LZW")
    writer.Execute(SimpleITK.GetImageFromArray(array, isVector=True))
    assert tifffile.TiffFile(path).pages.first.compression.name == "LZW"
    check(path, array)
    smooth = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    Image.fromarray(np.stack([smooth] * 3, -1)).save(path, compression="jpeg", quality=95)
    np.testing.assert_allclose(io.read_image(path).array, np.stack([smooth] * 3, -1), atol=3)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f8"])
def test_a_compression_that_nothing_here_decodes_is_named(tmp_path, dtype):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values(dtype), photometric="minisblack", compression="zlib")
    file = path.read_bytes()
    tag = struct.pack("<HHI", 259, 3, 1)  # compression
    path.write_bytes(file.replace(tag + struct.pack("<H", 8), tag + struct.pack("<H", 34887)))
    refused(path, "compressed by LERC; install imagecodecs")


@pytest.mark.parametrize(
    ("array", "options", "match"),
    [
        (values("u1"), {"photometric": "miniswhite"}, "has 0 as white"),
        (values("u2"), {"photometric": "miniswhite"}, "has 0 as white"),
        (values("u1", (*SHAPE, 2)), {"photometric": "minisblack", "planarconfig": "contig"}, "2 channels"),
        (values("u1", (*SHAPE, 5)), {"photometric": "minisblack", "planarconfig": "contig"}, "5 channels"),
        (values("u1", (*SHAPE, 4)), {"photometric": "rgb", "extrasamples": ["unspecified"]}, "4 channels"),
        (values("u1", (3, *SHAPE)), {"photometric": "minisblack"}, "3 pages"),
        (values("u2", (2, *SHAPE)), {"photometric": "minisblack", "ome": True}, "2 pages"),
        (values("u2", (2, *SHAPE)), {"imagej": True}, "2 pages"),
        (values("u1", (16, *SHAPE)), {"photometric": "minisblack", "volumetric": True, "tile": (16, 16, 16)}, "plane"),
        (values("f4").astype(np.complex64), {"photometric": "minisblack"}, "real numbers"),
        (values("u2", (*SHAPE, 4)), {"photometric": "separated"}, "colours SEPARATED"),
        (values("u1", (*SHAPE, 3)), {"photometric": "cielab"}, "colours CIELAB"),
    ],
)
def test_other_contents_are_refused_by_what_they_are(tmp_path, array, options, match):
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    refused(tmp_path / "a.tif", match)


@pytest.mark.parametrize("channels", [2, 4])
def test_samples_without_a_meaning_are_refused(tmp_path, channels):
    path, array = tmp_path / "a.tif", values("u1", (*SHAPE, channels))
    photometric = "rgb" if channels == 4 else "minisblack"
    tifffile.imwrite(path, array, photometric=photometric, planarconfig="contig", extrasamples=["unassalpha"])
    check(path, array[..., :3] if channels == 4 else array[..., 0])
    extra_samples, unused, short = 338, 337, 3
    file = path.read_bytes()
    path.write_bytes(file.replace(struct.pack("<HH", extra_samples, short), struct.pack("<HH", unused, short)))
    refused(path, f"{channels} channels")


def test_nothing_is_printed_about_odd_tags(tmp_path, capfd):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values("u1"), photometric="minisblack")
    software, text, unknown = 305, 2, 99
    file = path.read_bytes()
    path.write_bytes(file.replace(struct.pack("<HH", software, text), struct.pack("<HH", software, unknown)))
    check(path, values("u1"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_cut_short_is_refused(tmp_path, keep, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values("u2"), photometric="minisblack", compression=compression, rowsperstrip=5)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    refused(path, "damaged, or not")


# PNG


def write_png(path, array, colour_type, transparency=b""):
    """Writes 16-bit samples `[H, W]` or `[H, W, C]`, which Pillow cannot."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, colour_type, 0, 0, 0))]
    parts += [(b"tRNS", transparency)] if transparency else []
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize(("shape", "colour_type"), [(SHAPE, 0), ((*SHAPE, 3), 2), ((*SHAPE, 4), 6)])
@pytest.mark.parametrize("has_transparency", [False, True])
def test_png_of_16_bits_is_exact(tmp_path, shape, colour_type, has_transparency):
    array = values("u2", shape)
    transparency = array[0, 0].astype(">u2").tobytes() if has_transparency and colour_type != 6 else b""
    write_png(tmp_path / "a.png", array, colour_type, transparency)
    check(tmp_path / "a.png", array[..., :3] if len(shape) == 3 else array)


def test_png_of_16_bit_grey_with_transparency_is_refused(tmp_path):
    write_png(tmp_path / "a.png", values("u2", (*SHAPE, 2)), 4)
    refused(tmp_path / "a.png", "16-bit grey with transparency")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_colours_of_16_bits_are_written_and_read_back(tmp_path, suffix, byteorder):
    for array in (values("u2"), values("u2", (*SHAPE, 3))):
        io.write_image(tmp_path / f"a{suffix}", array.astype(f"{byteorder}u2"), np.eye(3))
        check(tmp_path / f"a{suffix}", array)
        theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(theirs, array)
