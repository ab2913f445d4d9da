"""A set of equal-sized images, which of them make pairs, and how it is split."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Images:
    """Images and what is known of them; a JAX tree, so that all of it goes to the devices at once.

    Attributes:
      images: `[n, *S, C]`, uint8 or uint16 over the whole range, or float32 in [0, 1].
      labels: `[n]` int, the class of each image; None where the source has none.
      segmentations: `[n, *S]` int, the labels of each image's voxels; None where the source has none.
      pairs: `[k, 2]` int, which images make pairs, fixed first; None where any image pairs with any other.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    segmentations: np.ndarray | None = None
    pairs: np.ndarray | None = None

    def __getitem__(self, index: slice | np.ndarray) -> "Images":
        """The images at `index`, each once, and those pairs of which it has both."""
        chosen = np.arange(len(self))[index]
        pairs = self.pairs
        if pairs is not None:
            place = np.full(len(self), -1)
            place[chosen] = np.arange(len(chosen))
            pairs = place[pairs]
            pairs = pairs[(pairs >= 0).all(axis=1)]
        return Images(
            self.images[index],
            None if self.labels is None else self.labels[index],
            None if self.segmentations is None else self.segmentations[index],
            pairs,
        )

    def __len__(self) -> int:
        return len(self.images)


def label_ids_of(images: Images) -> tuple[int, ...]:
    """The labels in the segmentations, without 0, the background; none where there are no segmentations."""
    if images.segmentations is None:
        return ()
    found = set().union(*(np.unique(segmentation).tolist() for segmentation in images.segmentations))
    return tuple(sorted(found - {0}))


class Dataset(NamedTuple):
    """The three disjoint parts of a set, each in the source's order."""

    train: Images
    validation: Images
    test: Images

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, `(*S, C)`."""
        return self.train.images.shape[1:]


def split(
    images: Images,
    train_fraction: float,
    num_validation: int,
    *,
    marks: np.ndarray | None = None,
    pair_marks: np.ndarray | None = None,
) -> Dataset:
    """Splits images, or their pairs where these are listed; each part is in the source's order, without shuffling.

    Where the source does not say which part is which, the first `train_fraction` are for training, the rest for testing
    (paper section 3.1: 80 % and 20 %), and the last `num_validation` of the former are held out of training to choose a
    checkpoint. Where it does, but has no `test` or no `validation` part, the other one is for testing, and the last
    `num_validation` of the training part are held out; so nothing is tested on what chose it.

    With listed pairs, all numbers are of pairs, and a part has the images of its pairs; an image may be in several
    parts, as an atlas is.

    Args:
      images: all of them.
      train_fraction: of the images or pairs.
      num_validation: of the images or pairs.
      marks: `[n]` of `train`, `validation` or `test`, one for each image; None where the source does not say.
      pair_marks: `[k]`, one for each pair. Default: that of its images; where these differ, the pair is left out.

    Raises:
      ValueError: a part would hold no pair.
    """
    listed = images.pairs is not None
    if listed and pair_marks is None and marks is not None:
        of_fixed, of_moving = np.asarray(marks)[images.pairs].T
        kept = of_fixed == of_moving
        images, pair_marks = dataclasses.replace(images, pairs=images.pairs[kept]), of_fixed[kept]
    marks, count = (pair_marks, len(images.pairs)) if listed else (marks, len(images))
    parts = _parts(count, marks, train_fraction, num_validation)
    kind, fewest = ("pairs", 1) if listed else ("images", 2)
    if min(map(len, parts)) < fewest:
        if marks is None:
            raise ValueError(
                f"{count} {kind} cannot be split with dataset.train_fraction={train_fraction} and "
                f"dataset.num_validation={num_validation}: each of the three parts needs at least {fewest}"
            )
        counts = ", ".join(f"{np.sum(np.asarray(marks) == mark)} {mark}" for mark in Dataset._fields)
        raise ValueError(
            f"its split has {counts}; each of the three parts needs at least {fewest} {kind}, and where test or "
            f"validation is missing, the last dataset.num_validation={num_validation} of train choose the checkpoint"
        )
    return Dataset(*(_with_pairs(images, images.pairs[part]) if listed else images[_as_slice(part)] for part in parts))


def _parts(
    count: int, marks: np.ndarray | None, train_fraction: float, num_validation: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the three parts."""
    index = np.arange(count)
    if marks is None:
        num_train = int(count * train_fraction)
        train, validation, test = index[:num_train], index[:0], index[num_train:]
    else:
        train, validation, test = (index[np.asarray(marks) == mark] for mark in Dataset._fields)
    if not (len(validation) and len(test)):
        test = test if len(test) else validation
        num_train = max(len(train) - num_validation, 0)
        train, validation = train[:num_train], train[num_train:]
    return train, validation, test


def _as_slice(index: np.ndarray) -> slice | np.ndarray:
    """Neighbours as a slice, which copies nothing and leaves a memory map one."""
    is_run = len(index) > 0 and index[-1] - index[0] == len(index) - 1
    return slice(index[0], index[-1] + 1) if is_run else index


def _with_pairs(images: Images, pairs: np.ndarray) -> Images:
    """The images of these pairs, and no other pair."""
    return dataclasses.replace(images, pairs=pairs)[np.unique(pairs)]
