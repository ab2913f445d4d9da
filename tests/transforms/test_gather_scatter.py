"""The maps gather and scatter of interpolation, in both implementations, against sums in NumPy."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import THOROUGH
from jax.interpreters import mlir
from jax.test_util import check_grads

from air_jax import warp
from air_jax.transforms import compose
from air_jax.transforms.sampling import gather_scatter, gather_scatter_gpu, interpolation
from air_jax.transforms.sampling.cells import MODES

IMPLEMENTATIONS = [gather_scatter, gather_scatter_gpu]
NUMPY_PADS = {"nearest": "edge", "mirror": "reflect", "reflect": "symmetric", "wrap": "wrap", "constant": "constant"}
MARGIN = 4


def inputs(shape, points_shape, channels):
    """Volumes, displacements of points up to 3 voxels outside, and values at the points."""
    rng = np.random.default_rng(0)
    volumes = rng.random((2, *shape, channels), dtype=np.float32)
    grid = np.stack(np.meshgrid(*map(np.arange, points_shape), indexing="ij"), axis=-1)
    coordinates = rng.uniform(-3, np.array(shape) + 2, (2, *points_shape, len(shape)))
    return volumes, (coordinates - grid).astype(np.float32), rng.random((2, *points_shape, channels), dtype=np.float32)


def matrices(displacement, shape, axes, mode):
    """`S_A` of each image as a matrix `[points, voxels]`, for `A = axes`, corner by corner."""
    numbers = np.arange(np.prod(shape)).reshape(shape)
    pad = {"constant_values": -1} if mode == "constant" else {}
    padded = np.pad(numbers, MARGIN, mode=NUMPY_PADS[mode], **pad)  # the voxel that stands for each index
    result = np.zeros((len(displacement), displacement[0, ..., 0].size, numbers.size))
    for image, field in enumerate(displacement):
        for row, point in enumerate(np.ndindex(field.shape[:-1])):
            place = np.float32(point) + field[point]
            lower = np.floor(place).astype(int)
            for corner in itertools.product((0, 1), repeat=len(shape)):
                voxel = padded[tuple(lower + corner + MARGIN)]
                factors = [
                    (1 if upper else -1) if axis in axes else (f if upper else 1 - f)
                    for axis, (upper, f) in enumerate(zip(corner, place - lower, strict=True))
                ]
                if voxel >= 0:
                    result[image, row, voxel] += np.prod(factors)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda module: module.__name__.split(".")[-1])
@pytest.mark.parametrize(
    ("shape", "points_shape", "channels", "sets", "mode"),
    [
        *(((5, 6), (5, 6), 1, ((), (0,), (1,)), mode) for mode in MODES),
        # The modes are of each axis by itself.
        *(
            pytest.param(
                *((4, 5, 6), (2, 3, 3), 3, ((), (2,), (0, 2)), mode),
                marks=() if mode in ("constant", "mirror") else THOROUGH,
            )
            for mode in MODES
        ),
    ],
)
def test_both_maps_are_the_sums_over_corners(shape, points_shape, channels, sets, mode, implementation):
    volumes, displacement, values = inputs(shape, points_shape, channels)
    maps = [matrices(displacement, shape, axes, mode) for axes in sets]
    options = {"axis_sets": sets, "mode": mode, "relative": True}
    found = jax.jit(partial(implementation.gather, **options))(volumes, displacement)
    for ours, matrix in zip(found, maps, strict=True):
        expected = matrix @ volumes.reshape(2, -1, channels)
        np.testing.assert_allclose(ours, expected.reshape(values.shape), atol=1e-5)
    given = [(1 + number) * values for number in range(len(sets))]
    ours = jax.jit(partial(implementation.scatter, **options, shape=shape))(given, displacement)
    expected = sum(np.swapaxes(m, 1, 2) @ v.reshape(2, -1, channels) for m, v in zip(maps, given, strict=True))
    np.testing.assert_allclose(ours, expected.reshape(volumes.shape), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=lambda module: module.__name__.split(".")[-1])
def test_coordinates_give_the_same_as_displacements(implementation):
    """Points on a grid that is much longer than the volumes, as coordinates."""
    volumes, displacement, values = inputs((5, 6), (40, 3), 3)
    grid = np.stack(np.indices((40, 3)), axis=-1)
    coordinates = (grid + displacement).astype(np.float32)
    options = {"axis_sets": ((), (1,)), "mode": "constant"}
    for points, relative in ((displacement, True), (coordinates, False)):
        given = options | {"relative": relative}
        found = jax.jit(partial(implementation.gather, **given))(volumes, points)
        back = jax.jit(partial(implementation.scatter, **given, shape=(5, 6)))([values] * 2, points)
        if relative:
            expected = found, back
    for ours, other in zip(found, expected[0], strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-4)
    np.testing.assert_allclose(back, expected[1], atol=1e-3)


@pytest.fixture
def on(monkeypatch):
    """Lowers programs for this CPU as for a GPU, and records calls of the implementation for GPUs."""
    taken = []
    module = interpolation
    implementations = {
        "cpu": {module.gather_p: module._gather_on_cpu, module.scatter_p: module._scatter_on_cpu},
        "gpu": {module.gather_p: module._gather_on_gpu, module.scatter_p: module._scatter_on_gpu},
    }

    def counted(name, real):
        return lambda *given, **named: taken.append(name) or real(*given, **named)

    for name in ("gather", "scatter"):
        monkeypatch.setattr(gather_scatter_gpu, name, counted(name, getattr(gather_scatter_gpu, name)))

    def use(device):
        jax.clear_caches()  # programs compiled for one device must not serve the other
        for primitive, function in implementations[device].items():
            rule = mlir.lower_fun(function, multiple_results=primitive.multiple_results)
            mlir.register_lowering(primitive, rule, platform="cpu")
        return taken

    yield use
    use("cpu")


OF_CHANNELS = [(1, {"scatter"}), (2, {"gather", "scatter"}), (7, set())]


def squares_on_a_gpu(channels):
    rng = np.random.default_rng(1)
    image = rng.random((1, 8, 9, channels), np.float32)
    displacement = (rng.integers(-2, 2, (1, 8, 9, 2)) + rng.uniform(0.3, 0.7, (1, 8, 9, 2))).astype(np.float32)
    return lambda *arguments: warp(*arguments, mode="nearest") ** 2, (image, displacement)


@pytest.mark.parametrize(("channels", "expected"), OF_CHANNELS)
def test_implementations_that_a_gpu_takes(channels, expected, on):
    taken = on("gpu")
    function, arguments = squares_on_a_gpu(channels)
    jax.jit(jax.grad(lambda *given: function(*given).sum(), (0, 1))).lower(*arguments)
    assert set(taken) == expected


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(("channels", "expected"), OF_CHANNELS)
def test_derivatives_on_a_gpu(channels, expected, on):
    """Finite differences to second order; first order is also compared with that of the other implementation."""
    taken = on("gpu")
    function, arguments = squares_on_a_gpu(channels)
    check_grads(jax.jit(function), arguments, order=2, modes=("fwd", "rev"), eps=5e-3, atol=2e-2, rtol=2e-2)
    assert set(taken) == expected


@pytest.mark.slow
def test_both_implementations_differentiate_compositions_alike(on):
    """Displacements with three components, as in the steps of a network, by both implementations."""
    rng = np.random.default_rng(2)
    first, second = jnp.asarray(rng.uniform(-1.5, 1.5, (2, 2, 4, 5, 6, 3)), jnp.float32)

    def gradients():
        return jax.jit(jax.grad(lambda *fields: jnp.sum(compose(*fields) ** 2), (0, 1)))(first, second)

    taken = on("cpu")
    expected = gradients()
    assert not taken
    on("gpu")
    for ours, other in zip(gradients(), expected, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-4)
    assert set(taken) == {"gather", "scatter"}


@pytest.mark.slow
def test_undefined_coordinates_stay_in_their_image_and_bfloat16_is_kept(on):
    """With an axis of length 1, by the implementation for GPUs."""
    taken = on("gpu")
    volumes, displacement, _ = inputs((1, 5, 6), (1, 5, 6), 3)

    gradients = jax.jit(jax.grad(lambda *arguments: warp(*arguments).astype(jnp.float32).sum(), (0, 1)))
    expected = gradients(volumes, displacement)
    assert all(np.abs(array).max() > 0.1 for array in expected)
    for bad in (np.nan, np.inf, -3e9):
        spoiled = displacement.copy()
        spoiled[0] = bad
        for found, array in zip(gradients(volumes, spoiled), expected, strict=True):
            np.testing.assert_allclose(found[1], array[1], atol=1e-6)
    half = gradients(volumes.astype(jnp.bfloat16), displacement)
    assert (half[0].dtype, half[1].dtype) == (jnp.bfloat16, jnp.float32)
    for found, array in zip(half, expected, strict=True):
        np.testing.assert_allclose(np.asarray(found, np.float32), array, atol=0.06)
    assert set(taken) == {"gather", "scatter"}


def test_sizes_beyond_int32_use_the_general_implementation():
    suits = interpolation._suits_single_loop
    assert suits((1, 9, 9, 4), (1, 9, 9, 2))
    assert not suits((1, 9, 9, 5), (1, 9, 9, 2))
    assert not suits((1, 2**15, 2**15, 2), (1, 9, 9, 2))
    assert not suits((2, 400, 400, 400, 3), (2, 400, 400, 400, 3))  # times eight corners
