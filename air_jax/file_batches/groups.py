"""Batches of pairs that one compiled program registers."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from air_jax.file_registration.grids import relative_sizes
from air_jax.file_registration.pair import Pair


class Batch(NamedTuple):
    """Pairs that are registered together.

    Attributes:
      names: of the pairs.
      size: the number of pairs that the program registers, at least as many.
      is_first: whether the program has not been compiled yet.
    """

    names: Sequence[str]
    size: int
    is_first: bool


@dataclass
class Groups:
    """Pairs with one key, see `key_of`, are registered by one program, in batches of one size.

    Attributes:
      most_voxels: of a batch, of both images.
      sizes: the number of pairs in each batch, by key; it is chosen when the first pairs with this key come.
    """

    most_voxels: int
    sizes: dict[Hashable, int] = field(default_factory=dict)

    def batches(self, pairs: Mapping[str, Pair]) -> Iterator[Batch]:
        """Yields the batches of pairs, given by name."""
        groups: dict[Hashable, list[str]] = {}
        for name, pair in pairs.items():
            groups.setdefault(key_of(pair), []).append(name)
        for key, names in groups.items():
            inputs = pairs[names[0]].inputs
            voxels = math.prod(inputs.shape) + math.prod(inputs.moving_shape)
            is_new = key not in self.sizes
            size = self.sizes.setdefault(key, batch_size(len(names), voxels, self.most_voxels))
            for start in range(0, len(names), size):
                yield Batch(names[start : start + size], size, is_new and start == 0)


def key_of(pair: Pair) -> Hashable:
    """What pairs of one batch have in common besides their options.

    Affine and whether its starts are turned, grids, voxel sizes, contrasts, guides.
    """
    inputs = pair.inputs
    lengths = [side.volume.spacing.tolist() for side in (inputs.fixed, inputs.moving)]
    sizes = lengths if inputs.guides.are_local else relative_sizes(*lengths)  # as in `improvement.geometry_of`
    shapes, guides = (inputs.fixed_image.shape, inputs.moving_image.shape), inputs.guides.kind
    is_turned = pair.options.initial is None  # see `solve`
    return pair.affine, is_turned, shapes, tuple(map(tuple, sizes)), inputs.channel_weights, guides


def batch_size(count: int, voxels: int, most_voxels: int) -> int:
    """Returns the number of pairs in each batch, so that batches are equal and few.

    Args:
      count: number of pairs.
      voxels: of one pair, of both images.
      most_voxels: of a batch.
    """
    most = max(1, most_voxels // voxels)
    return math.ceil(count / math.ceil(count / most))
