import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import REPOSITORY

from air_jax.data import Images, load_dataset, split, tfds_images
from air_jax.data.pairs import draw_pairs, random_pairs, same_label_pairs
from air_jax.errors import UserError

TFDS_FOLDER = os.environ.get("TFDS_DATA_DIR")
needs_mnist = pytest.mark.skipif(
    not TFDS_FOLDER or not (Path(TFDS_FOLDER) / "mnist").is_dir(),
    reason="needs a prepared MNIST: set TFDS_DATA_DIR to the folder that holds mnist/",
)


def numbered(n):
    return Images(np.arange(n, dtype=np.uint8)[:, None, None, None], np.arange(n) % 10)


def test_split_keeps_the_order_and_holds_out_the_last_of_the_training_part():
    train, validation, test = split(numbered(100), train_fraction=0.8, num_validation=5)
    np.testing.assert_array_equal(train.images.ravel(), np.arange(75))
    np.testing.assert_array_equal(validation.images.ravel(), np.arange(75, 80))
    np.testing.assert_array_equal(test.images.ravel(), np.arange(80, 100))
    np.testing.assert_array_equal(test.labels, np.arange(80, 100) % 10)


@pytest.mark.parametrize(("n", "num_validation"), [(10, 7), (10, 9), (3, 0)])
def test_a_split_without_pairs_is_refused(n, num_validation):
    with pytest.raises(ValueError, match="each of the three parts needs at least 2"):
        split(numbered(n), train_fraction=0.8, num_validation=num_validation)


def test_digits_are_the_bundled_ones():
    from sklearn.datasets import load_digits

    dataset = load_dataset("digits", train_fraction=0.8, num_validation=200)
    images = np.concatenate([part.images for part in dataset])
    assert dataset.image_shape == (28, 28, 1)
    assert images.dtype == np.uint8
    assert [len(part) for part in dataset] == [1237, 200, 360]
    np.testing.assert_array_equal(np.concatenate([part.labels for part in dataset]), load_digits().target)
    # Upsampling keeps each image's mean grey level, up to what is lost at the border and by rounding.
    np.testing.assert_allclose(
        images.mean(axis=(1, 2, 3)) / 255, load_digits().images.mean(axis=(1, 2)) / 16, atol=0.01
    )


def test_drawn_pairs_are_a_function_of_the_key_and_never_an_image_with_itself():
    fixed, moving = map(np.asarray, draw_pairs(jax.random.key(0), num_images=5, num_pairs=4000))
    again = draw_pairs(jax.random.key(0), num_images=5, num_pairs=4000)
    np.testing.assert_array_equal(fixed, again[0])
    np.testing.assert_array_equal(moving, again[1])
    assert (fixed != moving).all()
    counts = np.zeros((5, 5))
    np.add.at(counts, (fixed, moving), 1)
    assert counts[~np.eye(5, dtype=bool)].min() > 130  # 20 ordered pairs, 200 of each expected


def test_random_pairs_are_a_function_of_the_seed():
    pairs = random_pairs(3, num_images=4, num_pairs=500)
    assert pairs.shape == (500, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert set(np.unique(pairs)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(pairs, random_pairs(3, num_images=4, num_pairs=500))
    assert (pairs != random_pairs(4, num_images=4, num_pairs=500)).any()


def test_same_label_pairs_share_their_label():
    labels = np.array([0, 1, 0, 2, 1, 0])  # 2 stands alone
    pairs = same_label_pairs(0, labels, 200)
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert 3 not in pairs
    with pytest.raises(ValueError, match="no label stands on two images"):
        same_label_pairs(0, np.arange(5), 10)


@needs_mnist
def test_mnist_is_read_without_tensorflow_and_split_as_in_the_paper():
    program = (
        "import sys; from air_jax.data import load_dataset; d = load_dataset('mnist', 0.8, 2000);"
        "assert 'tensorflow' not in sys.modules, 'TensorFlow was imported';"
        "assert [len(p) for p in d] == [54000, 2000, 14000], [len(p) for p in d];"
        "assert d.image_shape == (28, 28, 1) and d.train.images.dtype == 'uint8';"
        "import tensorflow_datasets as tfds;"
        "t = tfds.data_source('mnist', split='test');"
        "import numpy as np;"
        "assert all((d.test.images[4000 + i] == t[i]['image']).all() for i in range(0, 10000, 997));"
        "assert d.test.labels[4000] == t[0]['label']"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_unknown_set_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"no_such_set.*no such set.*configs/digits\.py") as error:
        load_dataset("no_such_set", 0.8, 2000)
    assert "\n" not in str(error.value)


def test_without_tensorflow_an_unprepared_set_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fake_tfds(monkeypatch, FakeBuilder(tmp_path))
    with pytest.raises(
        UserError, match=r"found none; preparing it needs TensorFlow.*TFDS_DATA_DIR.*configs/digits\.py"
    ) as error:
        tfds_images.load("mnist")
    assert "\n" not in str(error.value)


def test_a_failed_download_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    fake_tfds(monkeypatch, FakeBuilder(tmp_path, error=ConnectionError("cannot resolve\nsecond line")))
    with pytest.raises(
        UserError, match=r"downloading it failed \(cannot resolve\).*TFDS_DATA_DIR.*configs/digits\.py"
    ) as error:
        tfds_images.load("mnist")
    assert "\n" not in str(error.value)


def test_a_download_prepares_array_records_and_is_then_read(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    tfds = fake_tfds(monkeypatch, FakeBuilder(tmp_path))
    images = tfds_images.load("mnist")
    assert tfds.asked == ("mnist", "array_record")
    # train first, then test; other splits are left out
    np.testing.assert_array_equal(images.images[:, 0, 0, 0], [0, 1, 2, 100, 101])
    np.testing.assert_array_equal(images.labels, [0, 1, 2, 0, 1])


def test_without_the_cache_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    builder = FakeBuilder(tmp_path, prepared=True)
    builder.data_path.mkdir()
    (builder.data_path / "mnist-train.array_record").write_bytes(b"records")
    fake_tfds(monkeypatch, builder)
    without = tfds_images.load("mnist", cache=False)
    assert not (tmp_path / "cache").exists()
    kept = tfds_images.load("mnist")
    assert (tmp_path / "cache").exists()
    np.testing.assert_array_equal(without.images, kept.images)


@pytest.mark.parametrize("shape", [(None, None, 3), (28, 28)])
def test_sets_of_unequal_images_are_refused(tmp_path, monkeypatch, shape):
    fake_tfds(monkeypatch, FakeBuilder(tmp_path, shape=shape, prepared=True))
    with pytest.raises(UserError, match="only sets of equal-sized uint8 images"):
        tfds_images.load("mnist")


def test_labels_that_are_no_integers_are_left_out(tmp_path, monkeypatch):
    fake_tfds(monkeypatch, FakeBuilder(tmp_path, label_dtype=np.object_, prepared=True))
    assert tfds_images.load("mnist").labels is None


def test_a_set_without_the_usual_splits_is_refused(tmp_path, monkeypatch):
    fake_tfds(monkeypatch, FakeBuilder(tmp_path, splits={"all": range(3)}, prepared=True))
    with pytest.raises(UserError, match=r"has splits all, but neither train nor test"):
        tfds_images.load("mnist")


@needs_mnist
def test_a_copy_in_another_format_is_told_apart_from_an_unknown_set(tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for path in (Path(TFDS_FOLDER) / "mnist" / "3.0.1").glob("*.json"):
        text = path.read_text().replace("array_record", "tfrecord").replace("ARRAY_RECORD", "TFRECORD")
        (folder / path.name).write_text(text)
    result = subprocess.run(  # TFDS reads the variable once, when it is imported
        [sys.executable, "-m", "air_jax.main", "--config=configs/mnist.py", f"--workdir={tmp_path / 'run'}"],
        cwd=REPOSITORY,
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "cannot be read as array_record" in result.stderr
    assert "set TFDS_DATA_DIR to another folder" in result.stderr
    assert "Traceback" not in result.stderr


class FakeSource(list):
    def __getitems__(self, indices):
        return [self[i] for i in indices]


class FakeBuilder:
    """What `tfds_images` uses of a TFDS builder, with three small splits."""

    def __init__(self, folder, *, error=None, shape=(2, 2, 1), prepared=False, label_dtype=np.int64, splits=None):
        self.name, self.data_path = "mnist", folder / "mnist"
        self._error, self._prepared = error, prepared
        image = types.SimpleNamespace(shape=shape, np_dtype=np.uint8)
        label = types.SimpleNamespace(shape=(), np_dtype=label_dtype)
        splits = splits or {"test": range(100, 102), "train": range(3), "unlabelled": range(9)}
        self.info = types.SimpleNamespace(splits=splits, features={"image": image, "label": label})

    def is_prepared(self):
        return self._prepared

    def download_and_prepare(self):
        if self._error:
            raise self._error
        self._prepared = True

    def as_data_source(self, split):
        assert self._prepared
        numbers = self.info.splits[split]
        return FakeSource({"image": np.full((2, 2, 1), n, np.uint8), "label": i} for i, n in enumerate(numbers))


def fake_tfds(monkeypatch, builder):
    tfds = types.ModuleType("tensorflow_datasets")
    tfds.core = types.SimpleNamespace(DatasetNotFoundError=ValueError)

    def make(name, file_format):
        tfds.asked = (name, file_format)
        return builder

    tfds.builder = make
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", tfds)
    return tfds
