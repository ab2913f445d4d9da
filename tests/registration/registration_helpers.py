"""Images that several test files of this folder register."""

import numpy as np


def images(*shape):
    return np.random.default_rng(0).random((2, *shape), dtype=np.float32)


def blobs(shape, *centres, width=2.2):
    grid = np.stack(np.indices(shape), axis=-1)
    return [np.exp(-((grid - np.asarray(c)) ** 2).sum(axis=-1) / (2 * width**2)).astype(np.float32) for c in centres]
