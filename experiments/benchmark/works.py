"""The pieces of work that contenders do, and their inputs, the same for all."""

import dataclasses

import numpy as np

NUM_IMAGES = 4_096
VOLUME_SHAPE = (160, 192, 224)
IMAGE_SIZE = 28
# Of warps and forward passes on a GPU, where starting one and waiting for it takes longer than the GPU works on it.
CALLS_IN_A_ROW = 20
# On a CPU, PyTorch shares out the volumes of a batch to the cores, not the voxels of one.
NUM_VOLUMES = (1, 2)
STEPS_A_CALL = 50
INFERENCE_BATCH_SIZE = 1_024


@dataclasses.dataclass(frozen=True)
class Work:
    """One piece of work.

    Attributes:
      title: what is done, for the table.
      repeats: how often it is timed in one process, after two calls that are not.
      unit: what is counted.
      count: units in one call.
      in_a_row: how often one call does it, before it waits for the results.
      bytes: what has to be read and written at the least in one call, where that is what bounds it.
    """

    title: str
    repeats: int
    unit: str
    count: int
    in_a_row: int = 1
    bytes: int | None = None


# Floats a voxel that are read and written at the least. Forward: the volume, three coordinates, the result; backward in
# addition: what is fed back, and the gradient, for which the volume or the coordinates are read again.
WARPS = {
    "forward": ("forward", 5),
    "coordinates": ("forward + gradient to coordinates", 5 + 8),
    "image": ("forward + gradient to image", 5 + 5),
}


def works(batch_sizes: list[int], volume_shape: tuple[int, ...], in_a_row: int) -> dict[str, Work]:
    """All pieces of work by name; `in_a_row` of warps and forward passes."""
    shape = "x".join(map(str, volume_shape))
    voxels = int(np.prod(volume_shape))
    trainings = {
        f"train_{size}": Work(f"train step, configs/mnist.py, batch {size}", 8, "pair", STEPS_A_CALL * size)
        for size in batch_sizes
    }
    repeated = f", {in_a_row} in a row" if in_a_row > 1 else ""
    inference = Work(
        f"inference, configs/mnist.py, batches of {INFERENCE_BATCH_SIZE}{repeated}",
        20,
        "pair",
        in_a_row * INFERENCE_BATCH_SIZE,
        in_a_row=in_a_row,
    )
    warps = {
        f"warp_{count}_{name}": Work(
            f"warp {count} x {shape}: {title}{repeated}",
            8,
            "volume",
            in_a_row * count,
            in_a_row=in_a_row,
            bytes=in_a_row * 4 * floats * voxels * count,
        )
        for count in NUM_VOLUMES
        for name, (title, floats) in WARPS.items()
    }
    return trainings | {"inference": inference} | warps


def train_images() -> np.ndarray:
    """Images `[n, 28, 28]` uint8 that look like strokes, so that no contender's data need be on this machine."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    centres = rng.uniform(8, 20, (NUM_IMAGES, 3, 2))
    distance = np.min(np.hypot(row - centres[..., 0, None, None], column - centres[..., 1, None, None]), axis=1)
    return (255 * np.clip(4 - distance, 0, 1)).astype(np.uint8)


def inference_images() -> tuple[np.ndarray, np.ndarray]:
    """A batch of fixed and one of moving images, `[B, 28, 28]` in [0, 1]."""
    images = train_images()[: 2 * INFERENCE_BATCH_SIZE].astype(np.float32) / 255
    return images[:INFERENCE_BATCH_SIZE], images[INFERENCE_BATCH_SIZE:]


def warp_inputs(count: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Volumes `[count, *S]`, smooth displacements of a few voxels `[count, *S, 3]`, and cotangents `[count, *S]`."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    phases = rng.uniform(0, 6, (count, 3))
    displacements = [3 * np.sin(0.09 * grid[..., [1, 2, 0]] + phase) * np.cos(0.07 * grid + phase) for phase in phases]
    volumes, cotangents = rng.random((2, count, *shape), dtype=np.float32)
    return volumes, np.stack(displacements).astype(np.float32), cotangents
