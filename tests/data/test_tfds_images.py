"""Image sets of TensorFlow Datasets: real MNIST where it is prepared, a stand-in otherwise."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from helpers import REPOSITORY

from air_jax.data import tfds_images
from air_jax.errors import UserError

TFDS_FOLDER = os.environ.get("TFDS_DATA_DIR")
needs_mnist = pytest.mark.skipif(
    not TFDS_FOLDER or not (Path(TFDS_FOLDER) / "mnist").is_dir(),
    reason="needs a prepared MNIST: set TFDS_DATA_DIR to the folder that holds mnist/",
)


def run_python(program, **environment):
    """Runs a program in a process of its own, because TFDS reads its environment once, when it is imported."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@needs_mnist
def test_mnist_is_read_without_tensorflow_and_split_as_in_the_paper():
    program = (
        "import sys; from air_jax.data import load_dataset;"
        "d = load_dataset('mnist', train_fraction=0.8, num_validation=2000);"
        "assert 'tensorflow' not in sys.modules, 'TensorFlow was imported';"
        "assert [len(p) for p in d] == [54000, 2000, 14000], [len(p) for p in d];"
        "assert d.image_shape == (28, 28, 1) and d.train.images.dtype == 'uint8';"
        "import tensorflow_datasets as tfds;"
        "t = tfds.data_source('mnist', split='test');"
        "import numpy as np;"
        "assert all((d.test.images[4000 + i] == t[i]['image']).all() for i in range(0, 10000, 997));"
        "assert d.test.classes[4000] == t[0]['label']"
    )
    result = run_python(program)
    assert result.returncode == 0, result.stderr


def test_without_tensorflow_an_unprepared_set_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fake_tfds(monkeypatch, FakeBuilder(tmp_path))
    with pytest.raises(
        UserError, match=r"found none; preparing it needs TensorFlow.*TFDS_DATA_DIR.*configs/digits\.py"
    ) as error:
        tfds_images.load("mnist")
    assert "\n" not in str(error.value)


def test_a_failed_download_is_reported_in_one_line(tmp_path, monkeypatch):
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
    images = tfds_images.load("mnist").images
    assert tfds.asked == ("mnist", "array_record")
    # The train split, then the test split; no other split.
    np.testing.assert_array_equal(images.images[:, 0, 0, 0], [0, 1, 2, 100, 101])
    np.testing.assert_array_equal(images.classes, [0, 1, 2, 0, 1])


def test_without_the_cache_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    builder = FakeBuilder(tmp_path, prepared=True)
    builder.data_path.mkdir()
    (builder.data_path / "mnist-train.array_record").write_bytes(b"records")
    fake_tfds(monkeypatch, builder)
    without = tfds_images.load("mnist", cache=False).images
    assert not (tmp_path / "cache").exists()
    kept = tfds_images.load("mnist").images
    assert (tmp_path / "cache").exists()
    np.testing.assert_array_equal(without.images, kept.images)


@pytest.mark.parametrize("shape", [(None, None, 3), (28, 28)])
def test_sets_of_images_that_differ_in_size_are_refused(tmp_path, monkeypatch, shape):
    fake_tfds(monkeypatch, FakeBuilder(tmp_path, shape=shape, prepared=True))
    with pytest.raises(UserError, match=r"only sets of uint8 images \[H, W, C\] of one size"):
        tfds_images.load("mnist")


def test_labels_that_are_not_integers_are_not_classes(tmp_path, monkeypatch):
    fake_tfds(monkeypatch, FakeBuilder(tmp_path, label_dtype=np.object_, prepared=True))
    assert tfds_images.load("mnist").images.classes is None


def test_a_set_without_the_usual_splits_is_refused(tmp_path, monkeypatch):
    fake_tfds(monkeypatch, FakeBuilder(tmp_path, splits={"all": range(3)}, prepared=True))
    with pytest.raises(UserError, match=r"has splits all, but neither train nor test"):
        tfds_images.load("mnist")


@pytest.mark.slow
@needs_mnist
def test_a_copy_in_another_format_is_distinguished_from_an_unknown_set(tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for path in (Path(TFDS_FOLDER) / "mnist" / "3.0.1").glob("*.json"):
        text = path.read_text().replace("array_record", "tfrecord").replace("ARRAY_RECORD", "TFRECORD")
        (folder / path.name).write_text(text)
    program = (
        "from air_jax.data import tfds_images; from air_jax.errors import UserError\n"
        "try: tfds_images.load('mnist')\n"
        "except UserError as error: print(error)"
    )
    result = run_python(program, TFDS_DATA_DIR=str(tmp_path))
    assert "cannot be read as array_record" in result.stdout
    assert "set TFDS_DATA_DIR to its folder" in result.stdout
    assert result.stdout.count("\n") == 1


class FakeSource(list):
    def __getitems__(self, indices):
        return [self[i] for i in indices]


class FakeBuilder:
    """A stand-in for a TFDS builder, with three small splits."""

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
