"""A stack in a .npz file as a data set, and runs on it."""

import json

import jax
import numpy as np
import pytest

import air_jax
from air_jax.data import load_dataset
from air_jax.io import write_stack
from air_jax.training.run import train
from air_jax.transforms.intensity import normalize
from air_jax.workdir.recipe import build_model

N = 20


def blobs(shape, n=N):
    """Returns images of one bright blob each, in arbitrary units: `[n, *S]` float32."""
    centres = np.random.default_rng(0).uniform(0.3, 0.7, (n, len(shape))) * shape
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance = np.square(grid - centres.reshape(n, *[1] * len(shape), len(shape))).sum(axis=-1)
    return (1000 * np.exp(-distance / 8) - 50).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes a stack and returns its path as a string."""

    def write(image, **arrays):
        write_stack(tmp_path / "stack.npz", image, **arrays)
        return str(tmp_path / "stack.npz")

    return write


def numbered(n=N):
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 4, 5))


def load(path, **options):
    return load_dataset(path, train_fraction=0.8, num_validation=4, **options)


def numbers(part):
    return part.images[:, 0, 0, 0].tolist()


def small(config, name):
    """Returns the config for a stack."""
    config.dataset.name, config.dataset.normalization, config.dataset.num_validation = name, "percentile", 4
    config.num_train_steps, config.log_every, config.eval_every = 2, 2, 2
    config.eval.num_pairs = config.eval.batch_size = 4
    return config


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_stay_integers_and_are_split_as_the_config_says(write, dtype):
    dataset = load(write(numbered().astype(dtype)))
    assert dataset.image_shape == (4, 5, 1)
    assert [numbers(part) for part in dataset] == [[*range(12)], [*range(12, 16)], [*range(16, 20)]]
    assert all(part.images.dtype == dtype and part.classes is None for part in dataset)


def test_spacing_tells_channels_from_axes(write):
    image = np.zeros((N, 4, 5, 6), np.uint8)
    assert load(write(image)).image_shape == (4, 5, 6, 1)
    assert load(write(image, spacing=np.ones(2))).image_shape == (4, 5, 6)
    assert load(write(image[..., None], spacing=np.ones(3))).image_shape == (4, 5, 6, 1)


def test_labels_of_images_are_classes_and_labels_of_voxels_segmentations(write):
    classes = np.arange(N) % 3
    dataset = load(write(numbered(), label=classes))
    np.testing.assert_array_equal(np.concatenate([part.classes for part in dataset]), classes)
    segmented = load(write(numbered(), label=numbered() > 5))
    assert segmented.train.classes is None
    np.testing.assert_array_equal(segmented.test.segmentations, np.ones((4, 4, 5)))
    assert segmented.test.segmentations.dtype == np.uint8


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # All three parts: the numbers of the config do not count.
        (["test", "train", "train", "validation"] * 2, [[1, 2, 5, 6], [3, 7], [0, 4]]),
        # Without `test` or `validation`, the other one is for testing.
        (["validation"] * 2 + ["train"] * 6, [[2, 3, 4, 5], [6, 7], [0, 1]]),
        (["train"] * 6 + ["test"] * 2, [[0, 1, 2, 3], [4, 5], [6, 7]]),
    ],
)
def test_the_split_of_the_stack_is_kept(write, parts, expected):
    path = write(numbered(8), split=np.array(parts), label=np.arange(8))
    dataset = load_dataset(path, train_fraction=0.5, num_validation=2)
    assert [numbers(part) for part in dataset] == expected
    assert [part.classes.tolist() for part in dataset] == expected


@pytest.mark.parametrize("window", ["percentile", "ct"])
def test_every_part_is_normalised_image_by_image(write, window):
    images = blobs((6, 7)) * np.linspace(0.1, 3, N, dtype=np.float32)[:, None, None]
    dataset = load(write(images), normalization=window)
    loaded = np.concatenate([part.images for part in dataset])
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded[..., 0], [normalize(image, window) for image in images])


@pytest.mark.slow
def test_a_run_on_a_stack(write, digits_config, tmp_path):
    images = blobs((12, 14))
    config = small(digits_config, write(images))
    report = train(config, tmp_path / "run")
    assert report["checkpoint_step"] == 2
    # Test images are normalised as training images are: the blob is in the foreground, the rest is not.
    assert 0 < report["random_pairs"]["before"]["mse"] < 1
    assert 0 < report["random_pairs"]["before"]["dice"] < 1
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    assert content["dataset"]["normalization"] == "percentile"
    registration = air_jax.load(tmp_path / "run")
    assert registration.normalization == "percentile"
    assert registration.image_shape == (12, 14, 1)
    assert registration.register(*images[:2]).displacement.shape == (12, 14, 2)
    config.dataset.normalization = "range"
    with pytest.raises(air_jax.UserError, match=r"dataset\.normalization \('percentile' there, 'range' now\)"):
        train(config, tmp_path / "run")


@pytest.mark.slow
def test_volumes_fit_a_model_of_the_same_config(write, digits_config):
    config = small(digits_config, write(blobs((8, 8, 6))))
    dataset = load_dataset(**config.dataset)
    assert dataset.image_shape == (8, 8, 6, 1)
    fixed, moving = dataset.train.images[:2], dataset.train.images[2:4]
    initialise = jax.jit(build_model(config.model).init_with_output)
    (displacement, _), _ = initialise(jax.random.key(0), fixed, moving)
    assert displacement.shape == (2, 8, 8, 6, 3)


@pytest.mark.slow
def test_artificial_pairs_are_scored_by_masks_and_endpoint_errors(write, digits_config, tmp_path):
    """The segmentation of an artificially deformed image is not known."""
    images = blobs((12, 14))
    config = small(digits_config, write(images, label=(images > 100).astype(np.uint8)))
    config.deformation.amplitude = 0.05
    scores = train(config, tmp_path / "run")["random_pairs"]
    assert scores["before"]["dice"] > 0.9  # a small deformation
    assert not {"dice_1"} & scores["before"].keys()
    # Before registration the error is the length of the true displacement: two components of 0.05 voxels.
    assert 0.03 < scores["before"]["endpoint_error"] < 0.12
    assert scores["after"]["endpoint_error"] > 0
    written = json.loads((tmp_path / "run" / "eval.json").read_text())["random_pairs"]["after"]
    assert written["foreground_endpoint_error"] > 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, r"stack\.npz: not found"),
        ({"images": np.zeros((N, 4, 5))}, r"stack\.npz: has no array named image \(it has images\)"),
        ({"image": np.zeros((N, 4))}, r"stack\.npz: image has shape \(20, 4\); it must be"),
        ({"image": np.zeros((4, 4, 5))}, r"stack\.npz': 4 images cannot be split with dataset\.train_fraction=0\.8"),
        ({"image": np.zeros((N, 4, 5)), "split": ["train"] * N}, r"its split has 20 train, 0 validation, 0 test"),
        ({"image": np.zeros((N, 4, 5)), "split": ["val"] * N}, r"stack\.npz: split has 'val'"),
        ({"image": blobs((4, 5))}, r"dataset\.normalization='range', image 0 has values from .*use \"percentile\""),
        ({"image": np.zeros((N, 4, 5), np.int16)}, r"image 0 has dtype int16, whose range tells nothing"),
    ],
)
def test_mistakes_are_reported_in_one_line(tmp_path, arrays, message):
    if arrays is not None:
        np.savez(tmp_path / "stack.npz", **arrays)
    with pytest.raises(air_jax.UserError, match=message) as error:
        load(str(tmp_path / "stack.npz"))
    assert "\n" not in str(error.value)
