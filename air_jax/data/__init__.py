"""Data sets and pair sampling. A new source is one file and one line in `SOURCES`."""

from air_jax.data.dataset import Dataset, Images, split
from air_jax.errors import UserError

__all__ = ["SOURCES", "Dataset", "Images", "load_dataset", "split"]


def _load_digits() -> Images:
    from air_jax.data import digits  # scikit-learn is needed by this source alone

    return digits.load()


# Sources of our own; any other name is looked up in TensorFlow Datasets.
SOURCES = {"digits": _load_digits}


def load_dataset(name: str, train_fraction: float, num_validation: int, cache: bool = True) -> Dataset:
    """Loads and splits a data set, by the config's `dataset` section.

    Args:
      name: a key of `SOURCES`, or the name of a TFDS image set.
      train_fraction, num_validation: see `split`.
      cache: see `air_jax.data.tfds_images.load`; sources of our own keep nothing.

    Raises:
      UserError: the set cannot be had or cannot be split so.
    """
    if name in SOURCES:
        images = SOURCES[name]()
    else:
        from air_jax.data import tfds_images  # imports tensorflow_datasets

        images = tfds_images.load(name, cache=cache)
    try:
        return split(images, train_fraction, num_validation)
    except ValueError as error:
        raise UserError(f"dataset.name={name!r}: {error}") from error
