"""Image sets of TensorFlow Datasets (TFDS), as array_record files; only preparing a set needs TensorFlow."""

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from air_jax.data.dataset import Images
from air_jax.data.decoded import decoded
from air_jax.data.source import Source
from air_jax.errors import UserError, first_line

ADVICE = (
    "To use a copy prepared elsewhere (file_format array_record), set TFDS_DATA_DIR to its folder; "
    "--config=configs/digits.py needs no download."
)


def load(name: str, *, cache: bool = True) -> Source:
    """Loads all images of a TFDS data set: its `train` split, then its `test` split, each in the order of the set.

    The first time, TFDS downloads and prepares the set, for which TensorFlow must be installed. `TFDS_DATA_DIR` is the
    folder of prepared sets (default: `~/tensorflow_datasets`).

    Args:
      name: name of the set in TFDS, such as `mnist` or `fashion_mnist`.
      cache: whether the decoded images are kept for the next start, see `air_jax.data.decoded`. Default: yes.

    Returns:
      Images `[n, H, W, C]` uint8, and their classes where the set has an integer feature `label`.

    Raises:
      UserError: there is no such set, its images differ in size, or it is not prepared and cannot be downloaded.
    """
    builder = _prepared_builder(name)
    shape = _image_shape(builder)
    splits = [split for split in ("train", "test") if split in builder.info.splits]
    if not splits:
        raise UserError(
            f"dataset.name={name!r}: has splits {', '.join(builder.info.splits)}, but neither train nor test"
        )
    if not cache:
        return Source(_read(builder, splits, shape))
    return Source(decoded(name, Path(builder.data_path), lambda: _read(builder, splits, shape)))


def _read(builder: Any, splits: Sequence[str], shape: tuple[int, ...]) -> Images:
    """Reads and decodes all images of some splits."""
    label = dict(builder.info.features.items()).get("label")
    has_classes = label is not None and label.shape == () and np.issubdtype(label.np_dtype, np.integer)
    images, classes = [], []
    for split in splits:
        source = builder.as_data_source(split=split)
        print(f"data: reading {len(source):,} images of {builder.name}/{split} from {builder.data_path}", flush=True)
        records = source.__getitems__(range(len(source)))
        images.append(np.stack([record["image"] for record in records]).reshape(-1, *shape))
        if has_classes:
            classes.append(np.asarray([record["label"] for record in records], np.int32))
    return Images(np.concatenate(images), classes=np.concatenate(classes) if has_classes else None)


def _prepared_builder(name: str) -> Any:
    """Returns the TFDS builder of a set; downloads and prepares the set where that has not been done."""
    import tensorflow_datasets as tfds  # takes 1.5 s, and only this source needs it

    try:
        builder = tfds.builder(name, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(f"dataset.name={name!r}: TensorFlow Datasets has no such set. {ADVICE}") from error
    # A version or a part that the set does not have; or it was prepared in another format, such as TFDS's default.
    except Exception as error:
        raise UserError(
            f"dataset.name={name!r}: there is no such version or part, or the prepared copy cannot be read as "
            f"array_record ({first_line(error, length=200)}); set TFDS_DATA_DIR to a folder where a copy can be "
            f"prepared. {ADVICE}"
        ) from error
    if builder.is_prepared():
        return builder
    tried = f"dataset.name={name!r}: looked for a prepared copy in {builder.data_path}"
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{tried} and found none; preparing it needs TensorFlow (pip install -r requirements.txt). {ADVICE}"
        )
    print(
        f"data: no {name} in {builder.data_path}; downloading and preparing it (gives up after some minutes)",
        flush=True,
    )
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # otherwise one line for each retry
    try:
        builder.download_and_prepare()
    except Exception as error:  # network, disk, licence or checksum: the user can do the same about each
        raise UserError(
            f"{tried} and found none; downloading it failed ({first_line(error, length=200)}). {ADVICE}"
        ) from error
    return builder


def _image_shape(builder: Any) -> tuple[int, ...]:
    """Returns the shape `(H, W, C)` of every image of a set."""
    feature = dict(builder.info.features.items()).get("image")
    shape = () if feature is None else tuple(feature.shape)
    if feature is None or len(shape) != 3 or None in shape or feature.np_dtype != np.uint8:
        raise UserError(
            f"dataset.name={builder.name!r}: its images have shape {shape or 'none'}; "
            "only sets of uint8 images [H, W, C] of one size can be used"
        )
    return shape
