"""One's own images as a data set: a stack in a .npz file."""

import json

import jax
import numpy as np
import pytest

import air_jax
from air_jax.data import load_dataset
from air_jax.io import write_stack
from air_jax.training.run import train
from air_jax.transforms.intensity import normalize
from air_jax.workdir import config as configs

N = 20


def blobs(shape, n=N):
    """Images of one bright blob each, at different places, in arbitrary units: `[n, *S]` float32."""
    centres = np.random.default_rng(0).uniform(0.3, 0.7, (n, len(shape))) * shape
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance = np.square(grid - centres.reshape(n, *[1] * len(shape), len(shape))).sum(axis=-1)
    return (1000 * np.exp(-distance / 8) - 50).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Writes a stack and gives its path as a config would hold it."""

    def write(image, **arrays):
        write_stack(tmp_path / "stack.npz", image, **arrays)
        return str(tmp_path / "stack.npz")

    return write


def numbered(n=N):
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 4, 5))


def numbers(part):
    return part.images[:, 0, 0, 0].tolist()


def small(config, name, **model):
    """The config for a stack, with a smaller model."""
    config.dataset.name, config.dataset.normalization, config.dataset.num_validation = name, "percentile", 4
    config.num_train_steps, config.log_every, config.eval_every = 2, 2, 2
    config.eval.num_pairs = config.eval.batch_size = 4
    config.model.update({"width": 8, "num_heads": 2, "feed_forward": 8, **model})
    return config


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_stay_integers_and_are_split_as_the_config_says(write, dtype):
    dataset = load_dataset(write(numbered().astype(dtype)), train_fraction=0.8, num_validation=4)
    assert dataset.image_shape == (4, 5, 1)
    assert [numbers(part) for part in dataset] == [[*range(12)], [*range(12, 16)], [*range(16, 20)]]
    assert all(part.images.dtype == dtype and part.labels is None for part in dataset)


def test_shapes_are_told_by_the_stack(write):
    image = np.zeros((N, 4, 5, 6), np.uint8)
    assert load_dataset(write(image), 0.8, 4).image_shape == (4, 5, 6, 1)
    assert load_dataset(write(image, spacing=np.ones(2)), 0.8, 4).image_shape == (4, 5, 6)
    assert load_dataset(write(image[..., None], spacing=np.ones(3)), 0.8, 4).image_shape == (4, 5, 6, 1)


def test_classes_are_labels_and_segmentations_are_not(write):
    classes = np.arange(N) % 3
    dataset = load_dataset(write(numbered(), label=classes), 0.8, 4)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in dataset]), classes)
    segmented = load_dataset(write(numbered(), label=numbered() > 5), 0.8, 4)
    assert segmented.train.labels is None
    np.testing.assert_array_equal(segmented.test.segmentations, np.ones((4, 4, 5)))
    assert segmented.test.segmentations.dtype == np.uint8


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        # All three parts, in any order of the file: the config's numbers do not matter.
        (["test", "train", "train", "validation"] * 2, [[1, 2, 5, 6], [3, 7], [0, 4]]),
        # One of them is missing: the other is for testing.
        (["validation"] * 2 + ["train"] * 6, [[2, 3, 4, 5], [6, 7], [0, 1]]),
        (["train"] * 6 + ["test"] * 2, [[0, 1, 2, 3], [4, 5], [6, 7]]),
    ],
)
def test_the_stacks_own_split_is_kept(write, marks, expected):
    path = write(numbered(8), split=np.array(marks), label=np.arange(8))
    dataset = load_dataset(path, train_fraction=0.5, num_validation=2)
    assert [numbers(part) for part in dataset] == expected
    assert [part.labels.tolist() for part in dataset] == expected


@pytest.mark.parametrize("window", ["percentile", "ct"])
def test_every_part_is_normalised_image_by_image(write, window):
    images = blobs((6, 7)) * np.linspace(0.1, 3, N, dtype=np.float32)[:, None, None]
    dataset = load_dataset(write(images), 0.8, 4, normalization=window)
    loaded = np.concatenate([part.images for part in dataset])
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded[..., 0], [normalize(image, window) for image in images])


def test_other_sources_are_normalised_too():
    plain, scaled = (load_dataset("digits", 0.8, 200, normalization=window) for window in ("range", "percentile"))
    np.testing.assert_array_equal(scaled.test.images[3], normalize(plain.test.images[3], "percentile"))


def test_a_run_on_a_stack(write, digits_config, tmp_path):
    images = blobs((12, 14))
    report = train(small(digits_config, write(images), patch_size=4), tmp_path / "run")
    assert report["checkpoint_step"] == 2
    # Validation and test see what training sees: in [0, 1], where a blob is foreground and the rest is not.
    assert 0 < report["random_pairs"]["before"]["mse"] < 1
    assert 0 < report["random_pairs"]["before"]["dice"] < 1
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    assert content["dataset"]["normalization"] == "percentile"
    registration = air_jax.load(tmp_path / "run")
    assert registration.normalization == "percentile"
    assert registration.image_shape == (12, 14, 1)
    assert registration.register(*images[:2]).displacement.shape == (12, 14, 2)


def test_volumes_fit_a_model_of_the_same_config(write, digits_config):
    config = small(digits_config, write(blobs((8, 8, 6))), patch_size=4)
    configs.check(config)
    dataset = load_dataset(**config.dataset)
    assert dataset.image_shape == (8, 8, 6, 1)
    fixed, moving = dataset.train.images[:2], dataset.train.images[2:4]
    initialise = jax.jit(configs.build_model(config).init_with_output)
    (displacement, _), _ = initialise(jax.random.key(0), fixed, moving)
    assert displacement.shape == (2, 8, 8, 6, 3)


def test_artificially_deformed_images_are_scored_by_masks(write, digits_config, tmp_path):
    """The fixed image of such a pair is the deformed moving one, so that its own labels are those of something else."""
    images = blobs((12, 14))
    config = small(digits_config, write(images, label=(images > 100).astype(np.uint8)), patch_size=4)
    config.deformation.amplitude = 0.01
    scores = train(config, tmp_path / "run")["random_pairs"]["before"]
    assert scores["dice"] > 0.9  # hardly deformed
    assert not {"dice_1"} & scores.keys()


def test_streamed_pairs_bring_their_segmentations(write, digits_config, tmp_path):
    """A listed pair, labels in the loss, several devices: streamed and resident runs are the same."""
    images = blobs((12, 14), 2 * N).reshape(N, 2, 12, 14)
    path = tmp_path / "frames.npz"
    np.savez(path, image=images, label=(images > 100).astype(np.uint8))
    config = small(digits_config, str(path), patch_size=4)
    config.dataset.pairs, config.loss.soft_dice = "frames", 1.0
    found = []
    for streaming in (False, True):
        config.streaming = streaming
        train(config, tmp_path / str(streaming))
        lines = (tmp_path / str(streaming) / "metrics.jsonl").read_text().splitlines()
        found.append({key: value for key, value in json.loads(lines[0]).items() if "second" not in key})
    assert found[0] == found[1]
    assert 0 < found[0]["soft_dice"] < 1


def test_a_run_of_another_normalisation_is_not_gone_on_with(digits_config, tmp_path):
    configs.write(digits_config, (28, 28, 1), tmp_path)
    digits_config.dataset.normalization = "percentile"
    with pytest.raises(air_jax.UserError, match=r"dataset\.normalization \('range' there, 'percentile' now\)"):
        configs.check_same_run(digits_config, tmp_path)


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
def test_mistakes_are_told_in_one_line(tmp_path, arrays, message):
    if arrays is not None:
        np.savez(tmp_path / "stack.npz", **arrays)
    with pytest.raises(air_jax.UserError, match=message) as error:
        load_dataset(str(tmp_path / "stack.npz"), train_fraction=0.8, num_validation=4)
    assert "\n" not in str(error.value)
