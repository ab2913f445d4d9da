"""Data sets and pair sampling. A new source is one file and one line in `SOURCES`."""

import dataclasses

import numpy as np

from air_jax.data import folder_images
from air_jax.data.dataset import Dataset, Images, label_ids_of, split
from air_jax.data.pairing import pair_up
from air_jax.data.source import Source
from air_jax.errors import UserError
from air_jax.transforms.intensity import normalize

__all__ = ["SOURCES", "Dataset", "Images", "label_ids_of", "load_dataset", "split"]


def _load_digits() -> Images:
    from air_jax.data import digits  # scikit-learn is needed by this source alone

    return digits.load()


# Sources of our own; any other name is a folder's or a stack's, or is looked up in TensorFlow Datasets.
SOURCES = {"digits": _load_digits}


def load_dataset(
    name: str,
    train_fraction: float,
    num_validation: int,
    cache: bool = True,
    normalization: str = "range",
    labels: str | None = None,
    pairs: str = "all",
    atlas: str | None = None,
) -> Dataset:
    """Loads, normalises, pairs and splits a data set, by the config's `dataset` section.

    Args:
      name: a key of `SOURCES`; the path of a folder of images, see `air_jax.data.folder_images`, or of a stack (`.npz`,
        see `air_jax.io.arrays`); or the name of a TFDS image set.
      train_fraction, num_validation: see `split`; a stack that has a `split` decides itself.
      cache: see `air_jax.data.tfds_images.load`; other sources keep nothing.
      normalization: see `air_jax.transforms.intensity.normalize`; it is applied to each image by itself.
      labels: the folder with a folder's segmentations.
      pairs, atlas: see `air_jax.data.pairing.pair_up`.

    Raises:
      UserError: the set cannot be had, or cannot be normalised, paired or split so.
    """
    is_folder = name not in SOURCES and folder_images.is_folder(name)
    if labels is not None and not is_folder:
        raise UserError(f"dataset.labels={labels!r}: only a folder of images has another with labels, not {name!r}")
    if is_folder:
        source = folder_images.load(name, labels, normalization, grid=atlas)
    elif name in SOURCES:
        source = Source(SOURCES[name]())
    elif name.lower().endswith(".npz"):
        from air_jax.data import stack_images

        source = stack_images.load(name, frames=pairs == "frames")
    else:
        from air_jax.data import tfds_images  # imports tensorflow_datasets

        source = Source(tfds_images.load(name, cache=cache))
    images, pair_marks = pair_up(source, pairs, atlas)
    if images.segmentations is not None and images.segmentations.min() < 0:
        raise UserError(f"dataset.name={name!r}: has negative labels; segmentations count from 0, the background")
    try:
        if not is_folder:  # whose images are, before resampling
            images = dataclasses.replace(images, images=_normalized(images.images, normalization))
        return split(images, train_fraction, num_validation, marks=source.marks, pair_marks=pair_marks)
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
