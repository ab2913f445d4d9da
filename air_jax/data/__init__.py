"""Data sets and pairs of images. A new source is one file and one line in `SOURCES`."""

import dataclasses
import importlib

import numpy as np

from air_jax.checks import LARGEST_LABEL, check_choice, check_flag, check_text, require
from air_jax.data import folder_images, stack_images
from air_jax.data.dataset import Dataset, Images, label_ids_of, split
from air_jax.data.pairing import pair_up
from air_jax.data.source import Source
from air_jax.errors import UserError
from air_jax.transforms.intensity import WINDOWS, normalize

__all__ = ["SOURCES", "Dataset", "Images", "Source", "label_ids_of", "load_dataset", "split"]

SOURCES = {
    "digits": "air_jax.data.digits",
    "shapes": "air_jax.data.shapes",
    "shapes_3d": "air_jax.data.shapes_3d",
}
"""Modules by the data set's name; each has a function `load() -> Source`.

A module is imported when it is asked for, because it may need a library that no other source needs. Any other name is a
folder, a stack or a TFDS set.

Examples:
  >>> sorted(air_jax.data.SOURCES)
  ['digits', 'shapes', 'shapes_3d']
"""


def load_dataset(
    name: str,
    *,
    train_fraction: float,
    num_validation: int,
    cache: bool = True,
    normalization: str = "range",
    labels: str | None = None,
    pairs: str = "all",
    atlas: str | None = None,
) -> Dataset:
    """Loads, normalises, pairs and splits a data set; the arguments are the config's `dataset` section.

    Args:
      name: a key of `SOURCES`, the path of a folder of images (`air_jax.data.folder_images`), the path of a stack
        (`.npz`, `air_jax.io.arrays`), or the name of a TFDS image set (`air_jax.data.tfds_images`).
      train_fraction: share of the images or pairs for training and validation, in (0, 1); see `split`. Not used for a
        source that is divided already.
      num_validation: number of images or pairs for validation; see `split`.
      cache: whether the decoded images of a TFDS set are kept for the next start. Default: yes.
      normalization: a key of `air_jax.transforms.intensity.WINDOWS`, applied to each image by itself.
      labels: folder of the segmentations of a folder of images. Default: none.
      pairs: "all", "atlas", "frames" or the path of a list; see `air_jax.data.pairing.pair_up`.
      atlas: name of the atlas, with `pairs="atlas"`. Default: the first image.

    Returns:
      The three parts, with images `[n, *S, C]`: float32 in [0, 1], or uint8 or uint16 over the whole range of the type.

    Raises:
      OptionError: an argument has a value that it cannot take.
      UserError: the set is not available, or it cannot be normalised, paired or split as asked.

    Examples:
      >>> dataset = air_jax.data.load_dataset("digits", train_fraction=0.8, num_validation=100)
      >>> dataset.test.images.shape, dataset.test.images.dtype
      ((360, 28, 28, 1), dtype('uint8'))
    """
    require(isinstance(name, str) and name != "", "name", name, "must be the name of a data set, or a path")
    check_flag("cache", cache)
    check_choice("normalization", normalization, WINDOWS)
    require(isinstance(pairs, str) and pairs != "", "pairs", pairs, "must be all, atlas, frames or the path of a list")
    check_text(**{key: text for key, text in dict(labels=labels, atlas=atlas).items() if text is not None})
    is_folder = name not in SOURCES and folder_images.is_folder(name)
    if labels is not None and not is_folder:
        raise UserError(f"dataset.labels={labels!r}: only a folder of images has a folder of labels; {name!r} is none")
    if is_folder:
        source = folder_images.load(name, segmentations=labels, normalization=normalization, grid=atlas)
    elif name in SOURCES:
        source = importlib.import_module(SOURCES[name]).load()
    elif name.lower().endswith(".npz"):
        source = stack_images.load(name, frames=pairs == "frames")
    else:
        from air_jax.data import tfds_images  # imports tensorflow_datasets

        source = tfds_images.load(name, cache=cache)
    images, pair_parts = pair_up(source, pairs, atlas=atlas)
    if images.segmentations is not None and images.segmentations.min() < 0:
        raise UserError(f"dataset.name={name!r}: has negative labels; label ids count from 0, the background")
    if images.segmentations is not None and images.segmentations.max() > LARGEST_LABEL:
        raise UserError(f"dataset.name={name!r}: has labels above {LARGEST_LABEL}; map them to smaller numbers")
    try:
        if not is_folder:  # a folder's images are normalised before they are resampled
            images = dataclasses.replace(images, images=_normalized(images.images, normalization))
        return split(
            images,
            train_fraction=train_fraction,
            num_validation=num_validation,
            parts=source.parts,
            pair_parts=pair_parts,
        )
    except ValueError as error:
        raise UserError(f"dataset.name={name!r}: {error}") from error


def _normalized(images: np.ndarray, window: str) -> np.ndarray:
    """Normalises images `[n, *S, C]` one by one."""
    if window == "range" and images.dtype in (np.uint8, np.uint16):
        return images  # `unit_pair` scales them on the device, where integers take less memory than floats
    normalized = np.empty(images.shape, np.float32)
    for i, image in enumerate(images):
        try:
            normalized[i] = normalize(image, window)
        except ValueError as error:
            raise ValueError(f"with dataset.normalization={window!r}, image {i} {error}") from error
    return normalized
