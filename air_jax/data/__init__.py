"""Data sets and pair sampling. A new source is one file and one line in `SOURCES`."""

import numpy as np

from air_jax.data.dataset import Dataset, Images, split, split_as_marked
from air_jax.errors import UserError
from air_jax.preprocess import normalize

__all__ = ["SOURCES", "Dataset", "Images", "load_dataset", "split", "split_as_marked"]


def _load_digits() -> Images:
    from air_jax.data import digits  # scikit-learn is needed by this source alone

    return digits.load()


# Sources of our own; any other name is a stack's file, or is looked up in TensorFlow Datasets.
SOURCES = {"digits": _load_digits}


def load_dataset(
    name: str, train_fraction: float, num_validation: int, cache: bool = True, normalization: str = "range"
) -> Dataset:
    """Loads, normalises and splits a data set, by the config's `dataset` section.

    Args:
      name: a key of `SOURCES`, the path of a stack (`.npz`, see `air_jax.io.arrays`), or the name of a TFDS image set.
      train_fraction, num_validation: see `split`; a stack that has a `split` decides itself, see `split_as_marked`.
      cache: see `air_jax.data.tfds_images.load`; other sources keep nothing.
      normalization: see `air_jax.preprocess.normalize`; it is applied to each image by itself.

    Raises:
      UserError: the set cannot be had, or cannot be normalised or split so.
    """
    marks = None
    if name in SOURCES:
        images = SOURCES[name]()
    elif name.lower().endswith(".npz"):
        from air_jax.data import stack_images

        images, marks = stack_images.load(name)
    else:
        from air_jax.data import tfds_images  # imports tensorflow_datasets

        images = tfds_images.load(name, cache=cache)
    try:
        images = Images(_normalized(images.images, normalization), images.labels)
        if marks is not None:
            return split_as_marked(images, marks, num_validation)
        return split(images, train_fraction, num_validation)
    except ValueError as error:
        raise UserError(f"dataset.name={name!r}: {error}") from error


def _normalized(images: np.ndarray, window: str) -> np.ndarray:
    """Normalises images `[n, *S, C]` one by one."""
    if window == "range" and images.dtype in (np.uint8, np.uint16):
        return images  # the steps do it on the device, where such integers take less memory than floats
    normalized = np.empty(images.shape, np.float32)
    for i, image in enumerate(images):
        try:
            normalized[i] = normalize(image, window)
        except ValueError as error:
            raise ValueError(f"with dataset.normalization={window!r}, image {i} {error}") from error
    return normalized
