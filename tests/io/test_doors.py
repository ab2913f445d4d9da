"""What is refused at the door: pipes and devices, and headers that declare more than a file or the memory can hold."""

import gzip
import os
import struct
import warnings
import zipfile
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from helpers import refused
from PIL import Image

from air_jax import UserError, io
from air_jax.io import memory
from air_jax.io.image import SUFFIXES, WRITTEN
from air_jax.io.transform import read_transform, write_affine

READERS = [
    *[(io.read_image, suffix) for suffix in SUFFIXES],
    (io.read_field, ".nii"),
    (io.read_stack, ".npz"),
    *[(io.read_landmarks, suffix) for suffix in (".csv", ".fcsv", ".mrk.json")],
]


@pytest.mark.parametrize(("read", "suffix"), READERS)
def test_pipes_and_devices_are_refused_at_once(tmp_path, read, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"folder{suffix}").mkdir()
    refused(tmp_path / f"pipe{suffix}", "is a pipe or a device", read)
    refused(tmp_path / f"device{suffix}", "is a pipe or a device", read)
    refused(tmp_path / f"folder{suffix}", "is a folder", read)


def test_a_folder_with_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path, "contains the pipe")


def test_nothing_is_written_to_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    with pytest.raises(UserError, match="is a pipe or a device"):
        io.write_image(tmp_path / "pipe.nii", np.zeros((4, 5, 6)), np.eye(4))


def huge_nifti(path, compressed):
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 352
    content = header.binaryblock + b"\0" * 1000
    path.write_bytes(gzip.compress(content) if compressed else content)


def huge_mgh(path, compressed):
    content = struct.pack(">7i", 1, 30000, 30000, 30000, 1, 3, 0).ljust(284, b"\0") + b"\0" * 1000
    path.write_bytes(gzip.compress(content) if compressed else content)


def huge_npy():
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (30000, 30000, 30000), }\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 1000


def huge_npz(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("image.npy", huge_npy())


def huge_nrrd(path, encoding="raw"):
    lines = ["NRRD0004", "type: float", "dimension: 3", "sizes: 30000 30000 30000", f"encoding: {encoding}"]
    path.write_bytes("\n".join([*lines, "endian: little", "", ""]).encode() + b"\0" * 1000)


def huge_metaimage(path):
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "CompressedData = False"]
    lines += ["DimSize = 30000 30000 30000", "ElementType = MET_FLOAT", "ElementDataFile = LOCAL", ""]
    path.write_bytes("\n".join(lines).encode() + b"\0" * 1000)


def huge_png(path):
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 13000, 13000, 8, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def huge_tiff(path):
    tifffile.imwrite(path, np.zeros((5, 7), np.float64), photometric="minisblack")
    content = path.read_bytes()
    for tag, size in ((256, 7), (257, 5), (278, 5)):  # width, height, rows of a strip
        for kind, code in ((3, "<H"), (4, "<I")):
            old = struct.pack("<HHI", tag, kind, 1) + struct.pack(code, size).ljust(4, b"\0")
            content = content.replace(old, struct.pack("<HHII", tag, 4, 1, 30000))
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".nii", lambda path: huge_nifti(path, False)),
        (".nii.gz", lambda path: huge_nifti(path, True)),
        (".mgh", lambda path: huge_mgh(path, False)),
        (".mgz", lambda path: huge_mgh(path, True)),
        (".npy", lambda path: path.write_bytes(huge_npy())),
        (".npz", huge_npz),
        (".nrrd", huge_nrrd),
        (".mha", huge_metaimage),
        (".png", huge_png),
        (".tif", huge_tiff),
    ],
)
def test_a_header_that_declares_more_than_the_file_can_hold_is_refused(tmp_path, suffix, write):
    write(tmp_path / f"image{suffix}")
    sizes = r"\(its header declares [0-9.]+ (MB|GB|TB), it can hold [0-9.]+ (bytes|kB|MB)\)"
    refused(tmp_path / f"image{suffix}", rf"damaged, or not a complete file {sizes}")


def test_a_field_and_a_stack_pass_the_same_door(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((3000, 3000, 3000, 1, 3))
    header.set_data_dtype(np.float32)
    header["vox_offset"], header["intent_code"] = 352, 1007
    (tmp_path / "field.nii").write_bytes(header.binaryblock + b"\0" * 1000)
    refused(tmp_path / "field.nii", "declares 324 GB", io.read_field)
    huge_npz(tmp_path / "stack.npz")
    refused(tmp_path / "stack.npz", "declares 108 TB", io.read_stack)


def test_compressions_without_a_limit_are_compared_with_the_memory(tmp_path):
    huge_nrrd(tmp_path / "image.nrrd", "bzip2")
    refused(tmp_path / "image.nrrd", r"needs 216 TB of memory, [0-9.]+ GB are available")


@pytest.mark.parametrize("suffix", WRITTEN)
def test_an_image_that_needs_more_than_the_memory_is_refused(tmp_path, suffix, monkeypatch):
    io.write_image(tmp_path / f"image{suffix}", np.zeros((40, 50), np.uint8), np.eye(3))
    monkeypatch.setattr(memory, "available_memory", lambda: 3999)
    refused(tmp_path / f"image{suffix}", "needs 4 kB of memory, 3.999 kB are available; make the image smaller")
    monkeypatch.setattr(memory, "available_memory", lambda: 4000)
    io.read_image(tmp_path / f"image{suffix}")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    io.read_image(tmp_path / f"image{suffix}")


def test_the_available_memory_is_known_on_linux(monkeypatch, tmp_path):
    available = memory.available_memory()
    if available is None:
        pytest.skip("this system has no /proc/meminfo")
    assert 1e6 < available < 1e15
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert memory.available_memory() == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory() > 3000


def test_a_large_picture_is_read_without_a_warning(tmp_path, monkeypatch, capfd):
    Image.new("L", (30, 20), 7).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(io.read_image(tmp_path / "large.png").array, np.full((20, 30), 7))
    assert not caught
    assert capfd.readouterr() == ("", "")


def test_whole_files_of_itk_pass_the_door(tmp_path):
    for suffix in (".nrrd", ".mha", ".nhdr", ".mhd"):
        for is_compressed in (False, True):
            image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5)))
            SimpleITK.WriteImage(image, tmp_path / f"image{suffix}", is_compressed)
            assert io.read_image(tmp_path / f"image{suffix}").shape == (5, 4, 3)


def test_a_link_planted_at_the_name_of_a_temporary_file_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("private")
    for name in ("image.nii.partial.nii", "image.nii.partial"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    io.write_image(tmp_path / "image.nii", np.ones((4, 5, 6), np.float32), np.eye(4))
    assert (tmp_path / "victim").read_text() == "private"
    np.testing.assert_array_equal(io.read_image(tmp_path / "image.nii").array, np.ones((4, 5, 6)))


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz", ".npz", ".nrrd", ".mha"])
def test_a_flipped_bit_in_compressed_voxels_is_noticed(tmp_path, suffix):
    rng = np.random.default_rng(0)
    image = rng.random((12, 10, 9), dtype=np.float32)
    io.write_image(tmp_path / f"image{suffix}", image, np.eye(4))
    content = (tmp_path / f"image{suffix}").read_bytes()
    np.testing.assert_array_equal(io.read_image(tmp_path / f"image{suffix}").array, image)
    for _ in range(20):
        damaged = bytearray(content)
        damaged[rng.integers(len(content) // 4, len(content) - 200)] ^= 1 << rng.integers(8)
        (tmp_path / f"damaged{suffix}").write_bytes(damaged)
        refused(tmp_path / f"damaged{suffix}", "damaged")


def test_compressed_voxels_in_several_parts_and_with_padding_are_read(tmp_path):
    image = np.random.default_rng(0).random((12, 10, 9), dtype=np.float32)
    io.write_image(tmp_path / "image.nii", image, np.eye(4))
    content = (tmp_path / "image.nii").read_bytes()
    parts = gzip.compress(content[:1000]) + gzip.compress(content[1000:])
    for name, stored in {"parts": parts, "padded": parts + bytes(512)}.items():
        (tmp_path / f"{name}.nii.gz").write_bytes(stored)
        np.testing.assert_array_equal(io.read_image(tmp_path / f"{name}.nii.gz").array, image)
    (tmp_path / "more.nii.gz").write_bytes(parts + b"something else")
    refused(tmp_path / "more.nii.gz", "followed by something else")


def test_damaged_fields_of_itk_and_voxels_in_several_files_are_refused(tmp_path):
    field = SimpleITK.GetImageFromArray(np.random.default_rng(0).random((5, 6, 7, 3)), isVector=True)
    SimpleITK.WriteImage(field, str(tmp_path / "field.mha"), useCompression=True)
    assert read_transform(tmp_path / "field.mha")[0][0].displacement.shape == (7, 6, 5, 3)
    content = bytearray((tmp_path / "field.mha").read_bytes())
    content[-300] ^= 4
    (tmp_path / "damaged.mha").write_bytes(content)
    refused(tmp_path / "damaged.mha", "its compressed voxels are damaged", read_transform)
    header = "ObjectType = Image\nNDims = 3\nElementType = MET_FLOAT\nDimSize = 4 4 4\nElementDataFile = LIST\n"
    (tmp_path / "list.mhd").write_text(header)
    refused(tmp_path / "list.mhd", "its voxels are in several files")


def test_a_file_with_several_transforms_is_refused(tmp_path, capfd):
    write_affine(tmp_path / "one.tfm", np.eye(4)[:-1])
    (tmp_path / "two.tfm").write_text(2 * (tmp_path / "one.tfm").read_text())
    refused(tmp_path / "two.tfm", "has several transforms", read_transform)
    assert capfd.readouterr().err == ""
