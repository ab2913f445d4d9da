"""Pairing of images, and the parts that the pairs are in."""

import numpy as np
import pytest

from air_jax.data import Images, load_dataset, split
from air_jax.data.pairing import pair_up
from air_jax.data.source import Source
from air_jax.errors import UserError
from air_jax.io import write_stack

N = 6


def numbered(**known):
    return Images(np.arange(N, dtype=np.uint8)[:, None, None, None], **known)


def named(parts=None):
    return Source(numbered(), np.array([f"s{i}" for i in range(N)]), parts)


def in_numbers(part):
    """Returns a part's pairs, by the numbers of the images."""
    return [tuple(pair) for pair in part.images[:, 0, 0, 0][part.pairs].tolist()]


@pytest.fixture
def listed(tmp_path):
    def write(text):
        (tmp_path / "pairs.csv").write_text(text)
        return str(tmp_path / "pairs.csv")

    return write


def test_an_index_keeps_the_pairs_whose_two_images_it_selects():
    images = numbered(pairs=np.array([[0, 3], [3, 5], [5, 0], [1, 2]]), segmentations=np.arange(N)[:, None, None])
    part = images[np.array([5, 3, 1])]
    assert in_numbers(part) == [(3, 5)]
    np.testing.assert_array_equal(part.pairs, [[1, 0]])
    np.testing.assert_array_equal(part.segmentations.ravel(), [5, 3, 1])


def test_listed_pairs_are_split_as_pairs():
    dataset = split(numbered(pairs=np.array([[0, 1], [2, 3], [0, 4], [5, 0]])), train_fraction=0.75, num_validation=1)
    assert [in_numbers(part) for part in dataset] == [[(0, 1), (2, 3)], [(0, 4)], [(5, 0)]]
    assert [len(part) for part in dataset] == [4, 2, 2]


def test_pairs_whose_images_are_in_different_parts_are_left_out():
    parts = np.array(["train", "train", "train", "test", "test", "train"])
    pairs = np.array([[0, 1], [1, 3], [3, 4], [2, 5]])
    dataset = split(numbered(pairs=pairs), train_fraction=0.5, num_validation=1, parts=parts)
    assert [in_numbers(part) for part in dataset] == [[(0, 1)], [(2, 5)], [(3, 4)]]


@pytest.mark.parametrize("pairs", [np.array([[0, 1], [1, 0]]), np.zeros((0, 2), int)])
def test_a_split_without_a_pair_is_refused(pairs):
    with pytest.raises(ValueError, match=r"pairs cannot be split .* each of the three parts needs at least 1"):
        split(numbered(pairs=pairs), train_fraction=0.5, num_validation=1)


def test_an_atlas_is_the_fixed_image_of_every_pair_in_every_part():
    images, parts = pair_up(named(), "atlas", atlas="s2")
    dataset = split(images, train_fraction=0.6, num_validation=1, pair_parts=parts)
    assert [in_numbers(part) for part in dataset] == [[(2, 0), (2, 1)], [(2, 3)], [(2, 4), (2, 5)]]
    assert in_numbers(pair_up(named(), "atlas")[0])[0] == (0, 1)
    _, parts = pair_up(named(np.array(list("abcdef"))), "atlas", atlas="s2")
    assert parts.tolist() == list("abdef")


def test_a_list_names_pairs_and_their_parts(listed):
    images, parts = pair_up(named(), listed("fixed,moving,split\ns4,s1,test\ns0,s5,train\n"))
    assert in_numbers(images) == [(4, 1), (0, 5)]
    assert parts.tolist() == ["test", "train"]
    assert pair_up(named(), listed("moving,fixed\ns4,s1\n"))[1] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\ns0,s1\n", "must begin with a line 'fixed,moving'"),
        ("fixed,moving\n", "must begin with a line 'fixed,moving'"),
        ("fixed,moving\ns0,s1\ns0,s9\n", r"names 's9', which no images have"),
        ("fixed,moving\ns0,s0\n", r"line 2: must name two images"),
        ("fixed,moving,split\ns0,s1,train\ns0,s2,val\n", r"line 3: split is 'val'"),
        ("fixed,moving,split\ns0,s1,train\ns0,s2\n", r"line 3: split is None"),
    ],
)
def test_mistakes_in_a_list_are_reported_in_one_line(listed, text, message):
    with pytest.raises(UserError, match=message) as error:
        pair_up(named(), listed(text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("pairs", "atlas", "message"),
    [
        ("every", None, "'every': not found; give all, atlas, frames or the path of a list"),
        ("frames", None, "needs a stack of frames"),
        ("atlas", "x", r"dataset\.atlas: names 'x', which no images have"),
    ],
)
def test_unknown_pairings_are_reported_in_one_line(pairs, atlas, message):
    with pytest.raises(UserError, match=message):
        pair_up(named(), pairs, atlas=atlas)
    with pytest.raises(UserError, match="have no names"):
        pair_up(Source(numbered()), "atlas", atlas="s1")


def test_frames_of_a_stack_are_pairs(tmp_path):
    """Image 2 i is the first frame of subject i, 2 i + 1 the second."""
    image = np.arange(2 * N, dtype=np.uint8).reshape(N, 2, 1, 1) * np.ones((4, 5), np.uint8)
    parts = np.array(["test", "train", "train", "train", "validation", "train"])
    np.savez(tmp_path / "frames.npz", image=image, label=image, split=parts, ids=np.arange(N).astype(str))
    dataset = load_dataset(str(tmp_path / "frames.npz"), train_fraction=0.5, num_validation=1, pairs="frames")
    assert dataset.image_shape == (4, 5, 1)
    assert [in_numbers(part) for part in dataset] == [[(2, 3), (4, 5), (6, 7), (10, 11)], [(8, 9)], [(0, 1)]]
    np.testing.assert_array_equal(dataset.train.segmentations, dataset.train.images[..., 0])
    write_stack(tmp_path / "plain.npz", np.zeros((N, 3, 4, 5), np.uint8))
    with pytest.raises(UserError, match=r"image has shape \(6, 3, 4, 5\); with two frames of each subject"):
        load_dataset(str(tmp_path / "plain.npz"), train_fraction=0.5, num_validation=1, pairs="frames")
