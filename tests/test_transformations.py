"""Every public function of arrays under JAX's transformations: a table of functions, and one program for each column.

What a cell means:

- `jit`, `vmap`: two copies under `vmap` inside `jit` have the values of a direct call.
- `jvp`, `grad`, `checkpoint`: the derivative along a direction is the same forward and in reverse, the reverse one
  through `jax.checkpoint`. (The tests of each function compare derivatives with finite differences.)
- `shard_map`: the batch split by hand has the values of the whole batch.
- `Explicit`: arrays split along the batch or along an axis of the images have the same values. Inside the functions the
  axes of the mesh are `Auto`, so this cell covers both kinds of axes.
- `export`: one artefact for cpu, cuda and tpu, with a symbolic batch and, unless the row says otherwise, symbolic
  sizes.

Rows marked `HEAVY` take seconds to compile. They are traced in the cells `Explicit` and `export` and not run, because
JAX refuses while tracing; the other cells are tests of these functions in their own files.
"""

import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import air_jax
from air_jax import losses, metrics, models, optimize, transforms

SIZE, BATCH, DEVICES = 8, 4, 4


class Row(NamedTuple):
    """A function, the kinds of its arguments, and the columns that it cannot have.

    Kinds: f and m images, u and v displacements, s and t segmentations, w weights, p points, a affines.
    """

    function: object
    arguments: str
    without: frozenset = frozenset()


def row(function, arguments, *without):
    return Row(function, arguments, frozenset(without))


def model(name, **options):
    """The displacement of a model whose head is not 0, and its parameters as constants."""
    module = models.MODELS[name](**options)
    image = jnp.zeros((1, SIZE, SIZE, 1))
    params = jax.eval_shape(module.init, jax.random.key(0), image, image)
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: (0.1 * generator.normal(size=leaf.shape)).astype(np.float32), params)
    return lambda fixed, moving: module.apply(params, fixed, moving)[0]


def weighted(loss):
    return lambda fixed, warped, weights: loss(fixed, warped, weights=weights)


def guidance(batch):
    points = jnp.asarray([[2.0, 3.0], [5.0, 1.5]])
    fixed, moving = (jnp.broadcast_to(each, (batch, 2, 2)) for each in (points, points + 0.7))
    return optimize.Guidance(fixed, moving)


def segmenter():
    module = models.Segmenter(num_classes=2, features=(4,))
    params = module.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 1)))
    return lambda image: module.apply(params, image)


ATTENTION = dict(stride=(4,), patch_size=(4,), spacing=(4,), num_steps=(1,), width=8, feed_forward=8, downsampling=(1,))
MATCHING = dict(stride=(2,), patch_size=(2,), num_steps=(1,), radius=(1,), width=4, feed_forward=4, downsampling=(1,))


def features():
    """The similarity of a model's features, with its parameters as constants."""
    module, image = models.MatchingAiR(**MATCHING), jnp.zeros((1, SIZE, SIZE, 1))
    params = jax.eval_shape(module.init, jax.random.key(0), image, image)["params"]
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: (0.1 * generator.normal(size=leaf.shape)).astype(np.float32), params)
    made = air_jax.Registration(module, params, (SIZE, SIZE, 1), 0, OBJECTIVE, DENSE)
    return air_jax.feature_similarity(made)


OBJECTIVE = losses.make_objective("mse", diffusion=0.1)
DENSE = optimize.DenseField(levels=(1,), update_sigma=1.0)
LABELS = (1, 2)
NO_GRADIENT = "grad"  # of integers, or 0
HEAVY = "heavy"  # see above
NO_BATCH = "batch"  # the first axis is not that of pairs
FIXED_SIZE = "sizes"  # the sizes decide which program is made

ROWS = {
    # models
    "AiR": row(model("air", patch_size=4), "fm"),
    "PyramidAiR": row(model("pyramid_air", **ATTENTION), "fm", FIXED_SIZE, HEAVY),
    "MatchingAiR": row(model("matching_air", **MATCHING), "fm", FIXED_SIZE, HEAVY),
    "MatchingUNet": row(
        model("matching_unet", features=(4,), num_steps=(1, 1), radius=(1, 1), width=(4, 2)), "fm", FIXED_SIZE, HEAVY
    ),
    "DLIR": row(model("dlir", width=4), "fm", FIXED_SIZE, HEAVY),
    "UNet": row(model("unet", encoder=(4,), decoder=(4,), final=(4,)), "fm", FIXED_SIZE, HEAVY),
    "UnrolledDemons": row(model("unrolled_demons", downsampling=(1,), num_steps=(1,)), "fm", FIXED_SIZE, HEAVY),
    "GatedDemons": row(model("gated_demons", **ATTENTION), "fm", FIXED_SIZE, HEAVY),
    "Segmenter": row(segmenter(), "f", FIXED_SIZE, HEAVY),
    # losses
    **{
        f"{name}_loss": row(weighted(losses.SIMILARITIES[name]), "fmw")
        for name in ("mse", "ncc", "lncc", "squared_lncc")
    },
    **{f"{name}_loss": row(weighted(losses.SIMILARITIES[name]), "fmw", FIXED_SIZE) for name in ("mi", "nmi")},
    "mind_ssc_loss": row(losses.mind_ssc_loss, "fm", FIXED_SIZE),
    "diffusion_loss": row(losses.diffusion_loss, "u"),
    "bending_loss": row(losses.bending_loss, "u"),
    "volume_loss": row(losses.volume_loss, "u"),
    "folding_loss": row(losses.folding_loss, "u"),
    "inverse_consistency_loss": row(losses.inverse_consistency_loss, "uv"),
    "gradient_inverse_consistency_loss": row(losses.gradient_inverse_consistency_loss, "uv", FIXED_SIZE),
    "dice_loss": row(losses.dice_loss, "fm"),
    "pooled_dice_loss": row(weighted(losses.pooled_dice_loss), "fmw"),
    "feature_similarity": row(weighted(features()), "fmw", FIXED_SIZE),
    "one_hot": row(lambda s: losses.one_hot(s, LABELS), "s", NO_GRADIENT),
    "segmentation_loss": row(lambda u, s: losses.segmentation_loss(u, s, LABELS[:1]), "us"),
    "Objective": row(lambda f, m, u: OBJECTIVE(f, m, u)[0], "fmu"),
    # metrics
    **{name: row(getattr(metrics, name), "u") for name in ("ndv_percent", "sd_log_jacobian", "displacement_scores")},
    "sd_log_jacobian_learn2reg": row(metrics.sd_log_jacobian_learn2reg, "u"),
    "folding_percent": row(metrics.folding_percent, "u", NO_GRADIENT),
    "any_corner_folding_percent": row(metrics.any_corner_folding_percent, "u", NO_GRADIENT),
    "compressed_percent": row(lambda u, w: metrics.compressed_percent(u, w > 0.3), "uw", NO_GRADIENT),
    "mse": row(metrics.mse, "fm"),
    "mask_dice": row(metrics.mask_dice, "fm", NO_GRADIENT),
    "image_scores": row(metrics.image_scores, "fm"),
    "endpoint_errors": row(lambda u, v, f: metrics.endpoint_errors(u, v, f, threshold=0.1), "uvf"),
    "label_dice": row(lambda s, t: metrics.label_dice(s, t, LABELS), "st", NO_GRADIENT),
    "label_mean": row(metrics.label_mean, "w"),
    "tre": row(lambda u, p: metrics.tre(u[0], p, p + 1, (1.0, 2.0)), "up", NO_BATCH),
    # transforms
    "warp": row(air_jax.warp, "mu"),
    "sample": row(lambda m, u: transforms.sample(m, u + 3, mode="nearest"), "mu"),
    "compose": row(transforms.compose, "uv"),
    "exponential": row(lambda u: transforms.exponential(u, integration_steps=2), "u"),
    "inverse": row(lambda u: transforms.inverse(u, num_iterations=2), "u"),
    "resize": row(lambda u: transforms.resize(u, (4, 4)), "u"),
    "transform_points": row(lambda u, p: transforms.transform_points(u[0], p), "up", NO_BATCH),
    "smooth": row(lambda u: transforms.smooth(u, 1.0), "u", FIXED_SIZE),
    "shrink": row(lambda f: transforms.shrink(f, (4, 4)), "f"),
    "with_edges": row(transforms.with_edges, "f", FIXED_SIZE),
    "bspline": row(lambda u: transforms.bspline(u, (2, 2), (2 * SIZE, 2 * SIZE)), "u", FIXED_SIZE),
    "apply_affine": row(transforms.apply_affine, "au"),
    "compose_affine": row(lambda a: transforms.compose_affine(a, a), "a"),
    "invert_affine": row(transforms.invert_affine, "a"),
    **{name: row(getattr(transforms, name), "u") for name in ("jacobian_determinant", "corner_jacobian_determinant")},
    **{
        name: row(lambda u, name=name: jnp.moveaxis(getattr(transforms, name)(u), 0, 1), "u")
        for name in ("cell_jacobian_determinants", "simplex_jacobian_determinants")
    },
    # optimisation and registration
    "refine": row(
        lambda f, m: optimize.refine(OBJECTIVE, f, m, num_steps=2, field=DENSE).displacement, "fm", FIXED_SIZE
    ),
    "register_affine": row(
        lambda f, m: optimize.register_affine(losses.mse_loss, f, m, kind="translation"),
        "fm",
        NO_GRADIENT,
        FIXED_SIZE,
        HEAVY,
    ),
    "align_frames": row(
        lambda f, m: optimize.align_frames(f[0, ..., 0], m[..., 0]), "fm", NO_GRADIENT, NO_BATCH, FIXED_SIZE, HEAVY
    ),
    "guide_loss": row(lambda u: optimize.guide_loss(guidance(u.shape[0]), u), "u"),
    "affine_guide_loss": row(lambda a: optimize.affine_guide_loss(guidance(a.shape[0]), optimize.Geometry(a)), "a"),
    "satisfy": row(
        lambda u, w: optimize.satisfy(optimize.Constraints(rigid_regions=(w > 0.5)[..., None]), u),
        "uw",
        NO_GRADIENT,
        FIXED_SIZE,
        HEAVY,
    ),
    "objective_value": row(lambda f, m, u: optimize.objective_value(OBJECTIVE, f, m, u), "fmu"),
    "fill": row(optimize.fill, "fw", FIXED_SIZE),
    "register_images": row(
        lambda f, m: (
            air_jax.register_images(
                f, m, num_axes=2, similarity="mse", field=DENSE, refine_steps=2, normalization="percentile"
            ).displacement
        ),
        "fm",
        NO_GRADIENT,
        FIXED_SIZE,
        HEAVY,
    ),
}
# Public functions that no transformation applies to: of shapes, of files, of NumPy arrays, or that make other objects.
OF_NO_ARRAYS = {
    *("between_grids", "control_shape", "identity_grid", "make_objective", "shares", "without_model"),
    *("compile_refine", "fit_landmarks", "hd95", "label_hd95", "load", "load_pretrained"),
}

SHAPES = dict(f=(1,), m=(1,), u=(2,), v=(2,), s=(), t=(), w=())


def argument(kind):
    """An array of a kind, smooth and the same each time; points of displacements lie between voxels."""
    generator = np.random.default_rng(ord(kind))
    if kind == "p":
        return generator.uniform(1, SIZE - 2, (3, 2)).astype(np.float32)
    if kind == "a":
        return (np.eye(2, 3) + 0.1 * generator.normal(size=(BATCH, 2, 3))).astype(np.float32)
    shape = (BATCH, SIZE, SIZE, *SHAPES[kind])
    if kind in "st":
        return generator.integers(0, 3, shape).astype(np.int32)
    array = generator.uniform(0.2, 0.4, shape) if kind in "uv" else generator.uniform(0.1, 0.9, shape)
    return array.astype(np.float32)


def arguments(rows):
    return {name: tuple(argument(kind) for kind in each.arguments) for name, each in rows.items()}


def call(rows, given):
    """The results of all rows, as one function of all arguments: one program compiles faster than fifty."""
    return {name: each.function(*given[name]) for name, each in rows.items()}


def having(*columns):
    return {name: each for name, each in ROWS.items() if not each.without & set(columns)}


def assert_close(found, expected, tolerance=2e-4):
    for name in expected:
        for ours, other in zip(jax.tree.leaves(found[name]), jax.tree.leaves(expected[name]), strict=True):
            np.testing.assert_allclose(ours, other, atol=tolerance, rtol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def expected():
    rows = having(HEAVY)
    found = jax.jit(lambda given: call(rows, given))(arguments(rows))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    return found


def public_functions():
    for room in (air_jax, losses, metrics, models, optimize, transforms):
        for name in room.__all__:
            value = getattr(room, name)
            module = inspect.isclass(value) and hasattr(value, "apply")
            if module or (inspect.isfunction(value) and name not in OF_NO_ARRAYS):
                yield name


def test_every_public_function_has_a_row():
    assert set(public_functions()) | {"Objective"} == set(ROWS)


@pytest.mark.slow
def test_jit_and_vmap(expected):
    rows = having(HEAVY)
    twice = jax.tree.map(lambda array: np.stack([array, array[::-1]]), arguments(rows))
    found = jax.jit(jax.vmap(lambda given: call(rows, given)))(twice)
    assert_close(jax.tree.map(lambda array: array[0], found), {name: expected[name] for name in rows})


@pytest.mark.slow
@pytest.mark.real_compiler  # the fast kernels of jaxlib 0.10 give a NaN derivative
def test_grad_jvp_and_checkpoint_agree():
    rows = having(NO_GRADIENT, HEAVY)
    given = arguments(rows)
    floats, whole = (
        {name: tuple(a if (a.dtype == np.float32) == kept else None for a in arrays) for name, arrays in given.items()}
        for kept in (True, False)
    )

    def total(floats):
        both = {
            name: tuple(a if a is not None else b for a, b in zip(arrays, whole[name], strict=True))
            for name, arrays in floats.items()
        }
        leaves = {name: jax.tree.leaves(result) for name, result in call(rows, both).items()}
        return {name: sum(jnp.sum(jnp.sin(leaf)) for leaf in results) for name, results in leaves.items()}

    generator = np.random.default_rng(0)
    along = jax.tree.map(lambda a: generator.normal(size=a.shape).astype(np.float32), floats)

    def both(floats):
        slopes = jax.jvp(total, (floats,), (along,))[1]
        return slopes, jax.grad(jax.checkpoint(lambda floats: sum(total(floats).values())))(floats)

    slopes, gradient = jax.jit(both)(floats)
    for name in rows:
        products = jax.tree.map(lambda g, d: np.vdot(g, d), gradient[name], along[name])
        scale = 1 + sum(np.linalg.norm(g) for g in jax.tree.leaves(gradient[name]))
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slopes[name], atol=1e-3 * scale, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1], ids=["batch", "axis of the images"])
def test_explicit_mesh(axis, expected):
    mesh = jax.make_mesh((DEVICES,), ("d",), (AxisType.Explicit,))
    rows = having(NO_BATCH, HEAVY)

    def place(array):
        split = array.ndim > axis and array.shape[axis] % DEVICES == 0
        return jax.device_put(array, NamedSharding(mesh, P(*[None] * axis, "d") if split else P()))

    found = jax.jit(lambda given: call(rows, given))(jax.tree.map(place, arguments(rows)))
    assert_close(found, {name: expected[name] for name in rows}, 1e-3)
    assert found["warp"].sharding.spec[axis] == "d"
    heavy = {name: each for name, each in having(NO_BATCH).items() if name not in rows}
    shapes = jax.eval_shape(lambda given: call(heavy, given), jax.tree.map(place, arguments(heavy)))
    assert shapes["UNet"].shape == (BATCH, SIZE, SIZE, 2)


@pytest.mark.slow
def test_shard_map(expected):
    rows = having(NO_BATCH, HEAVY)
    mesh = jax.make_mesh((DEVICES,), ("d",), (AxisType.Auto,))
    spread = jax.shard_map(lambda given: call(rows, given), mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    assert_close(jax.jit(spread)(arguments(rows)), {name: expected[name] for name in rows}, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [False, True], ids=["batch", "sizes"])
def test_export_to_all_platforms_with_symbols(sizes):
    rows = having(NO_BATCH, *([FIXED_SIZE] if sizes else []))
    batch, height, width = export.symbolic_shape("b, 4*h, 4*w", constraints=["h >= 2", "w >= 2"])
    if not sizes:
        (batch,), height, width = export.symbolic_shape("b"), SIZE, SIZE

    def shape(array):
        spatial = array.shape[1:3] == (SIZE, SIZE)
        rest = (height, width, *array.shape[3:]) if spatial else array.shape[1:]
        return jax.ShapeDtypeStruct((batch, *rest), array.dtype)

    program = jax.jit(lambda given: call(rows, given))
    artefact = export.export(program, platforms=("cpu", "cuda", "tpu"))(jax.tree.map(shape, arguments(rows)))
    assert artefact.platforms == ("cpu", "cuda", "tpu")
