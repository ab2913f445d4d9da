"""A set of equal-sized images and how it is split."""

import dataclasses
from typing import NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Images:
    """Images and their labels.

    Attributes:
      images: `[n, *S, C]`, uint8 or uint16 over the whole range, or float32 in [0, 1].
      labels: `[n]` int, the class of each image; None where the source has none.
    """

    images: np.ndarray
    labels: np.ndarray | None

    def __getitem__(self, index: slice | np.ndarray) -> "Images":
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


def split_as_marked(images: Images, marks: np.ndarray, num_validation: int) -> Dataset:
    """Splits as the source says, each part in the source's order.

    Where there is no `test` or no `validation` part, the other one is for testing, and the last `num_validation` images
    of the training part are held out of training to choose a checkpoint. So nothing is tested on what chose it.

    Args:
      images: all images.
      marks: `[n]` of `train`, `validation` or `test`.
      num_validation: see above; unused where all three parts are there.

    Raises:
      ValueError: a part would hold fewer than the two images that make a pair.
    """
    train, validation, test = (images[marks == mark] for mark in ("train", "validation", "test"))
    if not (len(validation) and len(test)):
        test = test if len(test) else validation
        num_train = max(len(train) - num_validation, 0)
        train, validation = train[:num_train], train[num_train:]
    parts = Dataset(train, validation, test)
    if min(map(len, parts)) < 2:
        counts = ", ".join(f"{(marks == mark).sum()} {mark}" for mark in ("train", "validation", "test"))
        raise ValueError(
            f"its split has {counts}; each of the three parts needs at least 2 images, and where test or validation is "
            f"missing, the last dataset.num_validation={num_validation} of train choose the checkpoint"
        )
    return parts
