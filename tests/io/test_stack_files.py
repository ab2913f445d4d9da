"""Stacks of images for training: written stacks are read back, faulty ones are refused."""

import numpy as np
import pytest
from helpers import refused

from air_jax import UserError, io

RNG = np.random.default_rng(0)


def test_a_written_stack_is_read_back(tmp_path):
    path = tmp_path / "stack.npz"
    image = RNG.random((3, 4, 5, 6)).astype(np.float32)
    label = (image > 0.5).astype(np.int32)
    split = ["train", "validation", "test"]
    io.write_stack(path, image, label=label, spacing=[1.0, 2.0, 3.0], split=split, ids=[7, 8, 9])
    stack = io.read_stack(path)
    np.testing.assert_array_equal(stack.image, image)
    np.testing.assert_array_equal(stack.label, label)
    np.testing.assert_array_equal(stack.spacing, [[1, 2, 3]] * 3)
    assert stack.split.tolist() == ["train", "validation", "test"]
    assert stack.ids.tolist() == ["7", "8", "9"]
    assert stack.num_axes == 3

    io.write_stack(path, image, label=[0, 1, 2], spacing=np.ones((3, 2)))  # colours: [n, H, W, C]
    stack = io.read_stack(path)
    assert stack.num_axes == 2
    assert stack.split is stack.ids is None
    io.write_stack(path, image[0])
    assert io.read_stack(path).num_axes == 2
    assert [file.name for file in tmp_path.iterdir()] == ["stack.npz"]


@pytest.mark.parametrize("byteorder", "<>")
def test_arrays_of_either_byte_order_come_out_native(tmp_path, byteorder):
    path, rng = tmp_path / "stack.npz", np.random.default_rng(0)
    image, label = rng.normal(size=(3, 4, 5)), rng.integers(0, 2**40, (3, 4, 5))
    spacing, ids = np.array([1.0, 2.0]), np.array(["a", "b", "c"])
    arrays = {"image": image, "label": label, "spacing": spacing, "ids": ids}
    np.savez(path, **{key: array.astype(array.dtype.newbyteorder(byteorder)) for key, array in arrays.items()})
    stack = io.read_stack(path)
    for array, expected in ((stack.image, image), (stack.label, label), (stack.ids, ids), (stack.spacing[0], spacing)):
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"image": np.zeros((3, 4))}, r"image has shape \(3, 4\)"),
        ({"image": np.zeros((3, 4, 5, 6, 1))}, "spacing"),
        ({"label": np.zeros((3, 4, 5))}, "label is float64"),
        ({"label": np.zeros((3, 4, 6), np.int32)}, "label is int32"),
        ({"spacing": np.ones((2, 2))}, "spacing has shape"),
        ({"split": np.array(["train"] * 2)}, "one for each image"),
        ({"split": np.array(["train", "train", "training"])}, "'training'"),
        ({"ids": np.zeros((3, 1))}, "ids has shape"),
        ({"ids": np.array([{}, 1, 2], object)}, "damaged, or not a NumPy file"),
    ],
)
def test_a_faulty_stack_is_refused_in_one_line(tmp_path, change, match):
    path = tmp_path / "stack.npz"
    np.savez(path, **({"image": np.zeros((3, 4, 5))} | change))
    refused(path, match, io.read_stack)


def test_a_stack_of_another_ending_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.npz"):
        io.write_stack(tmp_path / "stack.npy", np.zeros((3, 4, 5)))
