"""A folder of image files as a data set, resampled as by SimpleITK, and a run on it."""

import json

import numpy as np
import pytest
import SimpleITK
from helpers import oblique_affine

import air_jax
from air_jax import io
from air_jax.data import folder_images, load_dataset
from air_jax.optimize import DenseField
from air_jax.training.run import train
from air_jax.transforms.intensity import normalize

SHAPES = [(10, 12, 9), (12, 11, 10), (10, 12, 9), (11, 13, 8)]


def blob(shape, centre):
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return np.exp(-np.square(grid - np.asarray(centre)).sum(-1) / 8).astype(np.float32)


def affine_of(index, num_axes=3):
    """Returns an affine with a spacing and origin of its own, at about the same place as the others."""
    affine = oblique_affine(num_axes)
    affine[:-1, :-1] *= 1 + 0.05 * index
    affine[0, -1] += 0.3 * index
    return affine


@pytest.fixture
def folder(tmp_path):
    """Four volumes and their segmentations, and files that are no images."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i, shape in enumerate(SHAPES):
        image = blob(shape, np.array(shape) / 2 + 0.5 * i)
        io.write_image(tmp_path / "images" / f"s{i}.nii.gz", image, affine_of(i))
        io.write_image(tmp_path / "labels" / f"s{i}.nii", (image > 0.3).astype(np.uint8), affine_of(i))
    (tmp_path / "images" / "notes.txt").write_text("no image")
    (tmp_path / "images" / ".hidden.nii").write_text("no image")
    return tmp_path


def as_itk_resamples(folder, name, frame, interpolator):
    image, frame = (SimpleITK.ReadImage(folder / f"{stem}") for stem in (name, frame))
    resampled = SimpleITK.Resample(image, frame, SimpleITK.Transform(), interpolator, 0.0, image.GetPixelID())
    return SimpleITK.GetArrayFromImage(resampled).T


def inside(index, frame):
    """Selects the voxels of image `frame` between voxel centres of image `index`; ITK adds half a voxel."""
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPES[frame]), np.ones(1), indexing="ij"), axis=-1)[..., 0, :]
    points = grid @ np.linalg.solve(affine_of(index), affine_of(frame)).T
    # The outermost centres are left out: rounding decides on which side they lie.
    return ((points[..., :3] > 1e-6) & (points[..., :3] < np.array(SHAPES[index]) - 1 - 1e-6)).all(-1)


@pytest.mark.slow
@pytest.mark.parametrize("grid", [None, "s1"])
def test_images_are_on_one_grid_as_simpleitk_resamples_them(folder, grid):
    source = folder_images.load(folder / "images", segmentations=folder / "labels", grid=grid)
    assert source.names.tolist() == ["s0", "s1", "s2", "s3"]
    frame = grid or "s0"
    assert source.images.images.shape == (4, *SHAPES[int(frame[1])], 1)
    for i in range(4):
        names = f"images/s{i}.nii.gz", f"images/{frame}.nii.gz"
        seen = inside(i, int(frame[1]))
        assert seen.mean() > 0.4
        expected = as_itk_resamples(folder, *names, SimpleITK.sitkLinear)
        np.testing.assert_allclose(source.images.images[i, ..., 0][seen], expected[seen], atol=1e-4)
        expected = as_itk_resamples(folder, f"labels/s{i}.nii", names[1], SimpleITK.sitkNearestNeighbor)
        differ = (source.images.segmentations[i] != expected)[seen]
        assert differ.mean() < 0.01  # points halfway between voxels may differ


def test_each_image_is_normalised_before_it_is_resampled(folder):
    source = folder_images.load(folder / "images", normalization="percentile")
    assert source.images.segmentations is None
    expected = normalize(io.read_image(folder / "images" / "s0.nii.gz").array, "percentile")
    np.testing.assert_array_equal(source.images.images[0, ..., 0], expected)
    assert source.images.images.max() <= 1


@pytest.mark.slow
def test_a_run_on_a_folder(folder, tmp_path):
    """A list of pairs, segmentations in the loss, both directions and refinement, from `configs/volumes.py`."""
    from configs import volumes

    (tmp_path / "pairs.csv").write_text("fixed,moving,split\ns0,s1,train\ns1,s2,train\ns2,s3,validation\ns0,s3,test\n")
    config = volumes.get_config()
    config.dataset.name, config.dataset.labels = str(folder / "images"), str(folder / "labels")
    config.dataset.pairs = str(tmp_path / "pairs.csv")
    config.augmentation.translation = 1.0
    config.batch_size = 4
    config.learning_rate = 0.1
    config.num_train_steps = config.log_every = config.eval_every = 4
    config.warmup_steps = 0
    config.model.update({"stride": (4,), "patch_size": (4,), "spacing": (4,), "num_steps": (1,), "width": 8})
    config.model.update({"num_heads": 2, "feed_forward": 8, "downsampling": (2,)})
    config.loss.update({"soft_dice": 1.0, "window": 3, "edges": True})
    config.loss.gradient_inverse_consistency = 0.1
    config.refine.num_steps = 30
    report = train(config, tmp_path / "run")
    scores = report["listed_pairs"]
    assert report["num_pairs"] == 1
    assert list(scores) == ["before", "after", "refined"]
    assert 0 < scores["before"]["dice"] == scores["before"]["dice_1"] < 1
    assert scores["refined"]["mse"] < 0.7 * scores["before"]["mse"]
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    weights = {name: config.loss[name] for name in ("soft_dice", "diffusion")}
    weights |= {"lncc": 1.0, "gradient_inverse_consistency": 0.1}
    assert all(weight * line[name] > 1e-4 * line["loss"] for name, weight in weights.items())
    expected = sum(weight * line[name] for name, weight in weights.items())
    np.testing.assert_allclose(line["loss"], expected, rtol=1e-5)
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} == {"curves.png", "registration.png"}
    registration = air_jax.load(tmp_path / "run")
    assert registration.field == DenseField(update_sigma=3.0)
    assert registration.edges


def test_mistakes_are_reported_in_one_line(folder):
    def refused(match, name="images", **options):
        with pytest.raises(air_jax.UserError, match=match) as error:
            load_dataset(str(folder / name), train_fraction=0.5, num_validation=1, **options)
        assert "\n" not in str(error.value)

    (folder / "empty").mkdir()
    refused(r"dataset\.labels=.*empty'?: has no image", labels=str(folder / "empty"))
    refused(r"dataset\.labels=.*none'?: is no folder", labels=str(folder / "none"))
    refused(r"dataset\.name=.*none/?'?: there is no such folder", name="none/")
    refused(r"has no image named 's9'", pairs="atlas", atlas="s9")
    far = affine_of(0)
    far[:-1, -1] += 1000
    io.write_image(folder / "images" / "s5.nii", blob(SHAPES[0], (5, 5, 5)), far)
    refused(r"labels'?: has no segmentation for .*s5\.nii", labels=str(folder / "labels"))
    refused(r"s5\.nii: its affine places it outside of .*s0\.nii\.gz")
    io.write_image(folder / "images" / "s5.png", (255 * blob((9, 9), (4, 4))).astype(np.uint8), np.eye(3))
    refused(r"has both s5\.nii and s5\.png")
    (folder / "images" / "s5.nii").unlink()
    refused(r"s5\.png: has 2 axes, but .*s0\.nii\.gz 3")
    (folder / "pictures").mkdir()
    for size in (9, 12):
        picture = (255 * blob((size, size), (4, 4))).astype(np.uint8)
        io.write_image(folder / "pictures" / f"{size:02d}.png", picture, np.eye(3))
    refused(r"12\.png: has shape \(12, 12\), but .*09\.png \(9, 9\); .* must be of one size", name="pictures")
    with pytest.raises(air_jax.UserError, match=r"dataset\.atlas='s0': needs dataset\.pairs='atlas'"):
        load_dataset("digits", train_fraction=0.8, num_validation=200, atlas="s0")
    with pytest.raises(air_jax.UserError, match="only a folder of images has a folder of labels"):
        load_dataset("digits", train_fraction=0.8, num_validation=200, labels=str(folder / "labels"))
