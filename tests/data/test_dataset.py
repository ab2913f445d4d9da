"""A data set's parts and its loading by name."""

import numpy as np
import pytest

from air_jax.data import SOURCES, Images, label_ids_of, load_dataset, split
from air_jax.errors import UserError
from air_jax.transforms.intensity import normalize


def numbered(n):
    return Images(np.arange(n, dtype=np.uint8)[:, None, None, None], classes=np.arange(n) % 10)


def test_split_keeps_the_order_and_validates_with_the_last_training_images():
    train, validation, test = split(numbered(100), train_fraction=0.8, num_validation=5)
    np.testing.assert_array_equal(train.images.ravel(), np.arange(75))
    np.testing.assert_array_equal(validation.images.ravel(), np.arange(75, 80))
    np.testing.assert_array_equal(test.images.ravel(), np.arange(80, 100))
    np.testing.assert_array_equal(test.classes, np.arange(80, 100) % 10)


@pytest.mark.parametrize(("n", "num_validation"), [(10, 7), (10, 9), (3, 0)])
def test_split_refuses_a_part_without_pairs(n, num_validation):
    with pytest.raises(ValueError, match="each of the three parts needs at least 2"):
        split(numbered(n), train_fraction=0.8, num_validation=num_validation)


def test_label_ids_are_sorted_and_without_background():
    assert label_ids_of(Images(np.zeros((2, 1, 2, 1)), segmentations=np.array([[[7, 0]], [[2, 7]]]))) == (2, 7)
    assert label_ids_of(numbered(3)) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentations": np.zeros((3, 5, 6), int)}, r"segmentations has shape \(3, 5, 6\)"),
        ({"segmentations": np.zeros((4, 5, 7), int)}, r"segmentations has shape \(4, 5, 7\)"),
        ({"segmentations": np.zeros((4, 5, 6))}, "segmentations has dtype float64; give integers"),
        ({"classes": np.zeros(5, int)}, r"classes has shape \(5,\)"),
        ({"pairs": np.zeros((2, 3), int)}, r"pairs has shape \(2, 3\)"),
        ({"pairs": np.array([[0, 4]])}, "pairs has indices 0 to 4; give 0 to 3"),
        ({"pairs": np.array([[-1, 2]])}, "pairs has indices -1 to 2; give 0 to 3"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=f"Images: {message}"):
        Images(np.zeros((4, 5, 6, 1), np.float32), **change)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    dataset = load_dataset("digits", train_fraction=0.8, num_validation=200)
    images = np.concatenate([part.images for part in dataset])
    assert dataset.image_shape == (28, 28, 1)
    assert images.dtype == np.uint8
    assert [len(part) for part in dataset] == [1237, 200, 360]
    np.testing.assert_array_equal(np.concatenate([part.classes for part in dataset]), load_digits().target)
    # Upsampling keeps each image's mean grey level, except for losses at the border and by rounding.
    np.testing.assert_allclose(
        images.mean(axis=(1, 2, 3)) / 255, load_digits().images.mean(axis=(1, 2)) / 16, atol=0.01
    )
    scaled = load_dataset("digits", train_fraction=0.8, num_validation=200, normalization="percentile")
    np.testing.assert_array_equal(scaled.test.images[3], normalize(dataset.test.images[3], "percentile"))


def test_a_new_source_is_one_file_and_one_line(tmp_path, monkeypatch):
    (tmp_path / "one_file.py").write_text(
        "import numpy as np\n"
        "from air_jax.data import Images, Source\n"
        "def load():\n"
        "    return Source(Images(np.full((10, 4, 5, 1), 51, np.uint8)), names=np.arange(10).astype(str))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(SOURCES, "new", "one_file")
    dataset = load_dataset("new", train_fraction=0.5, num_validation=2, pairs="atlas", atlas="7")
    assert dataset.image_shape == (4, 5, 1)
    assert dataset.test.images[0, 0, 0, 0] == 51
    assert [len(part.pairs) for part in dataset] == [2, 2, 5]


def test_an_unknown_set_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"no_such_set.*no such set.*configs/digits\.py") as error:
        load_dataset("no_such_set", train_fraction=0.8, num_validation=2000)
    assert "\n" not in str(error.value)
