"""Images of one size, the pairs among them, and their division into a training, a validation and a test part."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from air_jax.checks import as_array, check_instance, check_integer, is_number


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Images:
    """Images of one size with their classes, segmentations and pairs; a JAX pytree.

    Attributes:
      images: `[n, *S, C]`: float32 in [0, 1], or uint8 or uint16 over the whole range of the type.
      classes: `[n]` integers, the class of each image, or None.
      segmentations: `[n, *S]` integers from 0, the background, or None.
      pairs: `[k, 2]` indices of the images that make pairs, fixed first. None: any image with any other.

    Raises:
      ValueError: NumPy arrays do not fit each other, or a pair has no such image.

    Examples:
      >>> images = air_jax.data.Images(np.zeros((5, 8, 8, 1), np.uint8), classes=np.arange(5))
      >>> images.images.shape, images.classes.tolist()
      ((5, 8, 8, 1), [0, 1, 2, 3, 4])
    """

    images: np.ndarray
    classes: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    segmentations: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    pairs: np.ndarray | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        # JAX also makes this object with other leaves.
        fields = (field.name for field in dataclasses.fields(self))
        arrays = {name: array for name in fields if isinstance(array := getattr(self, name), np.ndarray)}
        if "images" not in arrays:
            return
        shape = arrays.pop("images").shape
        fits = {"classes": shape[:1], "segmentations": shape[:-1]}
        for name, array in arrays.items():
            expected = fits.get(name, (*array.shape[:1], 2))
            if array.shape != expected:
                raise ValueError(f"Images: {name} has shape {array.shape}, images {shape}; give {expected}")
            if array.dtype.kind not in "iu":
                raise ValueError(f"Images: {name} has dtype {array.dtype}; give integers")
        pairs = arrays.get("pairs")
        if pairs is not None and pairs.size and (pairs.min() < 0 or pairs.max() >= len(self)):
            raise ValueError(f"Images: pairs has indices {pairs.min()} to {pairs.max()}; give 0 to {len(self) - 1}")

    def __getitem__(self, index: slice | np.ndarray) -> "Images":
        """Returns the images at `index`, each at most once, and the pairs whose two images are among them."""
        chosen = np.arange(len(self))[index]
        pairs = self.pairs
        if pairs is not None:
            place = np.full(len(self), -1)
            place[chosen] = np.arange(len(chosen))
            pairs = place[pairs]
            pairs = pairs[(pairs >= 0).all(axis=1)]
        return Images(
            self.images[index],
            classes=None if self.classes is None else self.classes[index],
            segmentations=None if self.segmentations is None else self.segmentations[index],
            pairs=pairs,
        )

    def __len__(self) -> int:
        return len(self.images)


def label_ids_of(images: Images) -> tuple[int, ...]:
    """Returns the label ids in the segmentations, sorted, without 0, the background; empty without segmentations.

    Args:
      images: images, with segmentations or without.

    Raises:
      OptionError: they are no `Images`.

    Examples:
      >>> segmentations = np.zeros((5, 8, 8), int)
      >>> segmentations[:, 2:6, 2:6] = 3
      >>> images = air_jax.data.Images(np.zeros((5, 8, 8, 1), np.uint8), segmentations=segmentations)
      >>> air_jax.data.label_ids_of(images)
      (3,)
    """
    check_instance("images", images, Images, "Images")
    if images.segmentations is None:
        return ()
    found = set().union(*(np.unique(segmentation).tolist() for segmentation in images.segmentations))
    return tuple(sorted(found - {0}))


class Dataset(NamedTuple):
    """The training, validation and test part of a data set, each in the source's order.

    Examples:
      >>> dataset = air_jax.data.load_dataset("digits", train_fraction=0.8, num_validation=100)
      >>> len(dataset.train.images), len(dataset.validation.images), len(dataset.test.images)
      (1337, 100, 360)
    """

    train: Images
    validation: Images
    test: Images

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, `(*S, C)`."""
        return self.train.images.shape[1:]


PARTS = Dataset._fields


def split(
    images: Images,
    *,
    train_fraction: float,
    num_validation: int,
    parts: np.ndarray | None = None,
    pair_parts: np.ndarray | None = None,
) -> Dataset:
    """Splits images, or their pairs where these are listed, into three parts, without shuffling.

    Without `parts`, the first `train_fraction` of the images are for training and the others for testing (paper section
    3.1: 80 % and 20 %). The last `num_validation` training images become the validation part, which chooses the
    checkpoint. With `parts` that lack `test` or `validation`, the other one becomes the test part, and the last
    `num_validation` training images the validation part: the test part never chooses the checkpoint.

    Where `images.pairs` lists pairs, all numbers count pairs. A part contains the images of its pairs. An image may be
    in several parts, as an atlas is.

    Args:
      images: all images.
      train_fraction: share of the images or pairs, in (0, 1).
      num_validation: number of images or pairs.
      parts: `[n]` strings from `PARTS`, one for each image. Default: none.
      pair_parts: `[k]` strings from `PARTS`, one for each listed pair. Default: the part of its two images; pairs whose
        images are in different parts are left out.

    Returns:
      The three parts.

    Raises:
      OptionError: `images` are no `Images`, or `num_validation` is no integer of at least 0.
      ValueError: a part would contain no pair, or `train_fraction` is not in (0, 1).

    Examples:
      >>> images = air_jax.data.Images(np.zeros((20, 8, 8, 1), np.uint8))
      >>> dataset = air_jax.data.split(images, train_fraction=0.8, num_validation=4)
      >>> len(dataset.train.images), len(dataset.validation.images), len(dataset.test.images)
      (12, 4, 4)
    """
    check_instance("images", images, Images, "Images")
    check_integer("num_validation", num_validation, 0)
    for name, given, of in (("parts", parts, images.images), ("pair_parts", pair_parts, images.pairs)):
        if given is not None:
            array, count = as_array("split", name, given, "UO"), 0 if of is None else len(of)
            if array.shape != (count,) or not np.isin(array, PARTS).all():
                raise ValueError(f"split: {name} must be [{count}], each one of {', '.join(PARTS)}")
    if not (is_number(train_fraction) and 0 < train_fraction < 1):
        raise ValueError(f"dataset.train_fraction={train_fraction}: must lie between 0 and 1")
    pairs = images.pairs
    if pairs is not None and pair_parts is None and parts is not None:
        of_fixed, of_moving = np.asarray(parts)[pairs].T
        kept = of_fixed == of_moving
        pairs, pair_parts = pairs[kept], of_fixed[kept]
    if pairs is None:
        count, kind, minimum = len(images), "images", 2
    else:
        count, kind, minimum, parts = len(pairs), "pairs", 1, pair_parts
    indices = _indices_of_parts(count, parts, train_fraction, num_validation)
    if min(map(len, indices)) < minimum:
        if parts is None:
            raise ValueError(
                f"{count} {kind} cannot be split with dataset.train_fraction={train_fraction} and "
                f"dataset.num_validation={num_validation}: each of the three parts needs at least {minimum}"
            )
        counts = ", ".join(f"{np.sum(np.asarray(parts) == part)} {part}" for part in PARTS)
        raise ValueError(
            f"its split has {counts}; each of the three parts needs at least {minimum} {kind}, and where test or "
            f"validation is missing, the last dataset.num_validation={num_validation} of train become the validation"
        )
    if pairs is None:
        return Dataset(*(images[_as_slice(part)] for part in indices))
    return Dataset(*(_only_pairs(images, pairs[part]) for part in indices))


def _indices_of_parts(
    count: int, parts: np.ndarray | None, train_fraction: float, num_validation: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index = np.arange(count)
    if parts is None:
        num_train = int(count * train_fraction)
        train, validation, test = index[:num_train], index[:0], index[num_train:]
    else:
        train, validation, test = (index[np.asarray(parts) == part] for part in PARTS)
    if not (len(validation) and len(test)):
        test = test if len(test) else validation
        num_train = max(len(train) - num_validation, 0)
        train, validation = train[:num_train], train[num_train:]
    return train, validation, test


def _as_slice(index: np.ndarray) -> slice | np.ndarray:
    """Returns consecutive indices as a slice, which copies nothing and keeps a memory map."""
    is_run = len(index) > 0 and index[-1] - index[0] == len(index) - 1
    return slice(index[0], index[-1] + 1) if is_run else index


def _only_pairs(images: Images, pairs: np.ndarray) -> Images:
    """Returns the images of these pairs, with no other pair."""
    return dataclasses.replace(images, pairs=pairs)[np.unique(pairs)]
