"""A set of equal-sized images and how it is split."""

import dataclasses
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Images:
    """Images and their labels.

    Attributes:
      images: `[n, *S, C]`, uint8 (or float in [0, 1]).
      labels: `[n]` int, the class of each image; None where the source has none.
    """

    images: np.ndarray
    labels: np.ndarray | None

    def __getitem__(self, index: slice) -> "Images":
        return Images(self.images[index], None if self.labels is None else self.labels[index])

    def __len__(self) -> int:
        return len(self.images)


class Dataset(NamedTuple):
    """The three disjoint parts of a set, each in the source's order."""

    train: Images
    validation: Images
    test: Images

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, `(*S, C)`."""
        return self.train.images.shape[1:]


def split(images: Images, train_fraction: float, num_validation: int) -> Dataset:
    """Splits in the source's order, without shuffling.

    The first `train_fraction` of the images are the training part, the rest is for testing (paper section 3.1: 80 % and
    20 %). The last `num_validation` images of the training part are held out of training to choose a checkpoint.

    Raises:
      ValueError: a part would hold fewer than the two images that make a pair.
    """
    num_train = int(len(images) * train_fraction)
    parts = Dataset(
        images[: num_train - num_validation], images[num_train - num_validation : num_train], images[num_train:]
    )
    if num_train < num_validation or min(map(len, parts)) < 2:
        raise ValueError(
            f"{len(images)} images cannot be split with dataset.train_fraction={train_fraction} and "
            f"dataset.num_validation={num_validation}: each of the three parts needs at least 2"
        )
    return parts
