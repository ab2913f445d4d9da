"""Large pictures: registered at a reduced size, written at full size, coordinates in the file's pixels."""

import json

import numpy as np
import pytest
import scipy.ndimage
import tifffile
from PIL import Image

from air_jax import UserError, io
from air_jax.file_registration.options import Options
from air_jax.file_registration.run import register_files
from air_jax.io import tiff
from air_jax.io.slides import TILE, full_pixels, read_reduced, write_tiled

SHAPE = (600, 530)
SHIFT = (9.0, -14.0)  # pixels by which the moving picture's content lies further down and right


def tissue(shape=SHAPE):
    """A smooth colour picture on white, as slides are."""
    rng = np.random.default_rng(0)
    dark = np.zeros((*shape, 3))
    dark[60:-60, 60:-60] = rng.random((shape[0] - 120, shape[1] - 120, 3))
    dark = scipy.ndimage.gaussian_filter(dark, (12, 12, 0))
    return 250 - 150 * dark / dark.max()


def stored(picture):
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_large_picture_is_warped_at_full_size(tmp_path, monkeypatch, suffix):
    from air_jax.file_registration import run

    monkeypatch.setattr(run, "draw_reports", lambda *_: None)
    fixed = tissue()
    moving = scipy.ndimage.shift(fixed, (*SHIFT, 0), order=3, mode="nearest")
    for name, picture in (("fixed", fixed), ("moving", moving)):
        io.write_image(tmp_path / f"{name}{suffix}", stored(picture), np.eye(3))
    points = np.array([[200.0, 150], [330, 410]])  # column, row
    io.write_landmarks(tmp_path / "fixed.csv", points)
    io.write_landmarks(tmp_path / "moving.csv", points + SHIFT[::-1])
    scores = register_files(
        Options(
            tmp_path / f"fixed{suffix}",
            tmp_path / f"moving{suffix}",
            tmp_path / "out",
            landmarks=tmp_path / "moving.csv",
            fixed_landmarks=tmp_path / "fixed.csv",
            affine="translation",
            stop_after="affine",
            max_size=150,
        )
    )
    assert scores["before"]["tre_mean_pixels"] == pytest.approx(np.hypot(*SHIFT), rel=1e-3)
    assert scores["after"]["tre_mean_pixels"] < 0.7
    np.testing.assert_allclose(np.array(scores["affine"]["matrix"])[:, 2], SHIFT[::-1], atol=0.7)
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["files"] == scores["files"]
    warped = tifffile.imread(tmp_path / "out" / "warped.tif")
    assert warped.shape == (*SHAPE, 3)
    assert warped.dtype == np.uint8
    inner = (slice(40, -40), slice(40, -40))
    before, after = (np.abs(picture[inner] - fixed[inner]).mean() for picture in (moving, warped))
    assert after < 0.1 * before
    # The displacement is on the reduced grid, in the file's pixels.
    field, affine = io.read_field(tmp_path / "out" / "displacement.nii.gz")
    assert field.shape == (150, 132, 2)
    np.testing.assert_allclose(io.to_physical(np.array([[0, 0], [1, 2]]), affine), [[1.5, 1.5], [9.5, 5.5]])


def test_blocks_are_averaged_and_their_place_is_that_of_their_pixels(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (41, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", picture)
    for name in ("a.png", "a.tif"):
        volume = read_reduced(tmp_path / name, 14)
        assert volume.full_shape == (41, 30)
        expected = np.rint(picture[:39].reshape(13, 3, 10, 3, 3).mean(axis=(1, 3)))
        np.testing.assert_array_equal(volume.array, expected)
        np.testing.assert_allclose(io.to_physical(np.array([[2, 5]]), volume.affine), [[16, 7]])
        whole = read_reduced(tmp_path / name, 41)
        assert whole.full_shape is None
        np.testing.assert_array_equal(whole.array, picture)
        np.testing.assert_array_equal(full_pixels(tmp_path / name), picture)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((70, 45, 3), {"tile": (32, 16), "photometric": "rgb"}),
        ((70, 45, 4), {"tile": (16, 32), "photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ((70, 45), {"rowsperstrip": 9}),
    ],
)
def test_compressed_pixels_are_those_of_tifffile_and_their_memory_is_given_back(tmp_path, monkeypatch, shape, options):
    given_back = []
    monkeypatch.setattr(tiff, "_RELEASED_BYTES", 2000)
    monkeypatch.setattr(tiff, "release", lambda pixels: given_back.append(pixels.shape))
    picture = np.random.default_rng(0).integers(0, 2**16, shape, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", picture, compression="zlib", metadata=None, **options)
    pixels = full_pixels(tmp_path / "a.tif")
    assert isinstance(pixels, np.memmap)
    np.testing.assert_array_equal(pixels, tifffile.imread(tmp_path / "a.tif")[..., :3] if len(shape) == 3 else picture)
    assert len(given_back) >= 2


def test_tiles_and_their_pyramid_are_those_of_the_picture(tmp_path):
    rows, columns = np.mgrid[: 2 * TILE + 300, : TILE + 80]
    picture = (rows // 7 + columns // 5).astype(np.uint16)
    write_tiled(
        tmp_path / "a.tif",
        picture.shape,
        picture.dtype,
        lambda row, column: picture[row : row + TILE, column : column + TILE],
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        levels = file.series[0].levels
        assert [level.shape for level in levels] == [picture.shape, (662, 296)]
        np.testing.assert_array_equal(levels[0].asarray(), picture)
        halved = picture[:1324, :592].reshape(662, 2, 296, 2).mean(axis=(1, 3))
        np.testing.assert_array_equal(levels[1].asarray(), np.rint(halved))
        assert file.pages[0].is_tiled
    # A level that is large enough is read in the place of the picture.
    volume = read_reduced(tmp_path / "a.tif", 331)
    assert volume.array.shape == (331, 148)
    assert volume.full_shape == picture.shape
    np.testing.assert_allclose(volume.spacing, 4)


def test_segmentations_and_masks_of_large_pictures_are_read_at_the_same_pixels(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (120, 90), dtype=np.uint8)
    labels = (np.arange(120)[:, None] * np.ones(90)).astype(np.uint8)
    for name, array in (("fixed", picture), ("moving", picture), ("labels", labels)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    subject = io.read_subject(tmp_path / "fixed.png", segmentation=tmp_path / "labels.png", max_size=40)
    np.testing.assert_array_equal(subject.segmentation[:, 0], np.arange(40) * 3 + 1)
    Image.fromarray(labels[:60]).save(tmp_path / "labels.png")
    with pytest.raises(UserError, match=r"labels\.png: has shape \(60, 90\), but its picture has \(120, 90\)"):
        io.read_subject(tmp_path / "fixed.png", segmentation=tmp_path / "labels.png", max_size=40)
