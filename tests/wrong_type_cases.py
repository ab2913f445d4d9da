"""A valid call of every public function and class, for the test that replaces each argument by wrong values.

`rows(folder)` has one row for each name, `Class.method` for methods. `allows` names the wrong values that an argument
may have, such as "text" for a title; None is always allowed where it is the default, and True where the default is
True or False. Rows are traced unless they are of NumPy arrays, files or figures: a program that compiles takes long.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import air_jax
from air_jax import data, io, losses, metrics, models, optimize, registration, transforms, visualize

WRONG = {
    "list": [],
    "none": None,
    "text": "",
    "word": "word",
    "dict": {},
    "object": object(),
    "complex": 1j,
    "bytes": b"x",
    "strings": np.array(["a"]),
    "nan": float("nan"),
    "ragged": [[1], [1, 2]],
    "true": True,
}
TEXT = "text word"
ANYTHING = " ".join(WRONG)

# Public names without arguments to check.
WITHOUT = {
    "OptionError": "an exception",
    "UserError": "an exception",
    "Field": "a protocol",
    "Result": "a result, made by the package",
    "Solution": "a result, made by the package",
    "Dataset": "a result, made by the package",
    "Source": "a result, made by the package",
    "Stack": "a result, made by the package",
    "Subject": "a result, made by the package",
}


class Row(NamedTuple):
    """A function, its arguments, the wrong values that each of them may have, and whether it is traced."""

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    allows: dict[str, str]
    traced: bool


def traced(function, *arguments, allows=None, **keywords):
    return Row(function, arguments, keywords, allows or {}, True)


def direct(function, *arguments, allows=None, **keywords):
    return Row(function, arguments, keywords, allows or {}, False)


SQUARE = np.zeros((8, 8), np.float32)
SQUARE[2:6, 2:6] = 1
IMAGE = jnp.asarray(SQUARE)[None, ..., None]
STILL = jnp.zeros((1, 8, 8, 2))
WEIGHTS, MASK = jnp.ones((1, 8, 8)), jnp.ones((1, 8, 8), bool)
SEGMENTATION = jnp.asarray(SQUARE, jnp.int32)[None]
AFFINE, POINTS = jnp.eye(2, 3)[None], jnp.array([[2.0, 3.0], [5.0, 1.5], [1.0, 6.0]])
OBJECTIVE, DENSE = losses.make_objective("mse", diffusion=0.1), optimize.DenseField(levels=(1,))
LEVEL = dict(stride=(4,), patch_size=(4,), num_steps=(1,), downsampling=(1,), width=4, feed_forward=4)
MATCHING = models.MatchingAiR(**LEVEL, radius=(1,))
# JAX puts placeholders into pytrees: their leaves are checked by the functions, in the rows with a dot.
LEAF = ANYTHING


def params_of(module, *images):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *images)["params"]
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def guidance():
    return optimize.Guidance(POINTS[None], POINTS[None] + 0.5)


def of_transforms():
    field = dict(displacement=STILL)
    return {
        "apply_affine": traced(transforms.apply_affine, AFFINE, POINTS[None]),
        "between_grids": traced(transforms.between_grids, (8, 8), (4, 8)),
        "bspline": traced(transforms.bspline, jnp.zeros((1, 2, 2, 1)), (4, 4), (8, 8)),
        **{name: traced(getattr(transforms, name), **field) for name in transforms.__all__ if "determinant" in name},
        "compose": traced(transforms.compose, STILL, STILL),
        "compose_affine": traced(transforms.compose_affine, AFFINE, AFFINE),
        "control_shape": direct(transforms.control_shape, (9, 8), (4, 4)),
        "exponential": traced(transforms.exponential, STILL),
        "identity_grid": traced(transforms.identity_grid, (8, 8)),
        "inverse": traced(transforms.inverse, STILL),
        "invert_affine": traced(transforms.invert_affine, AFFINE),
        "resize": traced(transforms.resize, STILL, (4, 4)),
        "sample": traced(transforms.sample, IMAGE, STILL),
        "shrink": traced(transforms.shrink, IMAGE, (4, 4)),
        "smooth": traced(transforms.smooth, IMAGE, 1.0),
        "transform_points": traced(transforms.transform_points, STILL[0], POINTS),
        "warp": traced(transforms.warp, IMAGE, STILL),
        "with_edges": traced(transforms.with_edges, IMAGE),
    }


def of_losses():
    pair = IMAGE, IMAGE
    similarities = {f"{name}_loss": traced(losses.SIMILARITIES[name], *pair) for name in losses.SIMILARITIES}
    return similarities | {
        "ChannelMean": direct(losses.ChannelMean, "mse", (1.0,)),
        "ChannelMean.__call__": traced(losses.ChannelMean("mse", (1.0,)).__call__, *pair),
        "Objective": direct(losses.Objective, "mse", allows=dict(weights="list")),
        "Objective.__call__": traced(OBJECTIVE.__call__, *pair, STILL),
        "Objective.with_overlap": direct(OBJECTIVE.with_overlap, 0.5, 1),
        "bending_loss": traced(losses.bending_loss, STILL),
        "dice_loss": traced(losses.dice_loss, *pair),
        "diffusion_loss": traced(losses.diffusion_loss, STILL),
        "folding_loss": traced(losses.folding_loss, STILL),
        "gradient_inverse_consistency_loss": traced(losses.gradient_inverse_consistency_loss, STILL, STILL),
        "inverse_consistency_loss": traced(losses.inverse_consistency_loss, STILL, STILL),
        "make_objective": direct(losses.make_objective, "lncc", window=3, diffusion=0.1),
        "one_hot": traced(losses.one_hot, SEGMENTATION, (1,)),
        "pooled_dice_loss": traced(losses.pooled_dice_loss, *pair),
        "segmentation_loss": traced(losses.segmentation_loss, STILL, SEGMENTATION, (1,)),
    }


def of_metrics():
    masked = ("any_corner_folding_percent", "displacement_scores", "folding_percent", "ndv_percent", "sd_log_jacobian")
    mask, labels = SQUARE > 0, SQUARE.astype(int)
    return {name: traced(getattr(metrics, name), STILL, mask=MASK) for name in masked} | {
        "compressed_percent": traced(metrics.compressed_percent, STILL, MASK),
        "endpoint_errors": traced(metrics.endpoint_errors, STILL, STILL, IMAGE),
        "hd95": direct(metrics.hd95, mask, mask, (2.0, 1.0)),
        "image_scores": traced(metrics.image_scores, IMAGE, IMAGE),
        "label_dice": traced(metrics.label_dice, SEGMENTATION, SEGMENTATION, (1, 2)),
        "label_hd95": direct(metrics.label_hd95, labels, labels, (1, 2), (2.0, 1.0)),
        "label_mean": traced(metrics.label_mean, jnp.ones((2, 3))),
        "mask_dice": traced(metrics.mask_dice, IMAGE, IMAGE),
        "mse": traced(metrics.mse, IMAGE, IMAGE),
        "sd_log_jacobian_learn2reg": traced(metrics.sd_log_jacobian_learn2reg, STILL),
        "tre": traced(metrics.tre, STILL[0], POINTS, POINTS, (1.0, 2.0)),
    }


def of_optimize():
    pair = OBJECTIVE, IMAGE, IMAGE

    def with_matrix(matrix):
        return optimize.objective_value(*pair, STILL, geometry=optimize.Geometry(matrix))

    def with_guides(fixed, moving):
        return optimize.refine(*pair, num_steps=0, field=DENSE, guidance=optimize.Guidance(fixed, moving))

    def with_regions(rigid_regions, keep_volume):
        return optimize.satisfy(optimize.Constraints(rigid_regions=rigid_regions, keep_volume=keep_volume), STILL)

    def refined_with_matrix(matrix):
        return optimize.refine(*pair, num_steps=0, field=DENSE, geometry=optimize.Geometry(matrix))

    options = dict(num_steps=1, field=DENSE, weights=WEIGHTS, moving_weights=WEIGHTS, guidance=guidance())
    shape = jax.ShapeDtypeStruct(IMAGE.shape, IMAGE.dtype)
    geometry, region = optimize.Geometry(AFFINE), MASK[..., None]
    return {
        "BSplineField": direct(optimize.BSplineField),
        "Constraints": direct(optimize.Constraints, allows=dict(rigid_regions=LEAF, keep_volume=LEAF)),
        "Constraints.free": direct(optimize.Constraints((1, 0)).free, 2),
        "Constraints.regions": traced(
            with_regions, region, MASK, allows=dict(rigid_regions="none", keep_volume="none")
        ),
        "DenseField": direct(optimize.DenseField),
        "DenseField.scaled": direct(optimize.DenseField().scaled, 2),
        "Geometry": direct(optimize.Geometry, allows=dict(matrix=LEAF)),
        "Geometry.sizes": direct(optimize.Geometry(voxel_size=(1, 2)).sizes, 2),
        "Geometry.matrix": traced(with_matrix, AFFINE, allows=dict(matrix="none")),
        "Geometry.matrix of refine": traced(refined_with_matrix, AFFINE, allows=dict(matrix="none")),
        "Guidance": direct(optimize.Guidance, POINTS[None], POINTS[None], allows=dict(fixed=LEAF, moving=LEAF)),
        "Guidance.points": traced(with_guides, POINTS[None], POINTS[None]),
        "VelocityField": direct(optimize.VelocityField),
        "affine_guide_loss": traced(optimize.affine_guide_loss, guidance(), geometry),
        "align_frames": traced(optimize.align_frames, IMAGE[0, ..., 0], IMAGE[..., 0], weights=WEIGHTS[0]),
        "compile_refine": direct(optimize.compile_refine, OBJECTIVE, shape, shape, num_steps=0, field=DENSE),
        "fill": traced(optimize.fill, IMAGE, WEIGHTS, allows=dict(weights="none")),
        "fit_landmarks": direct(optimize.fit_landmarks, np.asarray(POINTS), np.asarray(POINTS)),
        "guide_loss": traced(optimize.guide_loss, guidance(), STILL),
        "objective_value": traced(optimize.objective_value, *pair, STILL, weights=WEIGHTS),
        "refine": traced(optimize.refine, *pair, STILL, **options),
        "register_affine": traced(optimize.register_affine, losses.mse_loss, IMAGE, IMAGE, kind="translation"),
        "satisfy": traced(optimize.satisfy, optimize.Constraints(rigid_regions=region), STILL),
        "shares": direct(optimize.shares, 10, 3),
    }


def of_models():
    small = {
        "AiR": models.AiR(patch_size=4, width=4),
        "DLIR": models.DLIR(num_poolings=1, width=4),
        "GatedDemons": models.GatedDemons(**LEVEL, spacing=(4,)),
        "MatchingAiR": MATCHING,
        "PyramidAiR": models.PyramidAiR(**LEVEL, spacing=(4,)),
        "UNet": models.UNet(encoder=(4,), decoder=(4,), final=(4,)),
        "UnrolledDemons": models.UnrolledDemons(downsampling=(1,), num_steps=(1,)),
    }
    optional = dict(downsampling="none", relative_radius="none")
    found = {name: direct(type(module), allows=optional) for name, module in small.items()}
    found["UnrolledDemons"] = direct(models.UnrolledDemons)
    found["MatchingAiR"] = direct(models.MatchingAiR)
    for name, module in small.items():

        def call(fixed, moving, *, deterministic=True, module=module):
            return module.init_with_output(jax.random.key(0), fixed, moving, deterministic=deterministic)[0][0]

        found[f"{name}.__call__"] = traced(call, IMAGE, IMAGE)
    segmenter = models.Segmenter(num_classes=2, features=(4,))
    segmenting = models.UnrolledDemons(downsampling=(1,), num_steps=(1,), segmenter=segmenter)
    params = {"segmenter": params_of(segmenter, IMAGE)}
    found["Segmenter"] = direct(models.Segmenter, 2)
    found["Segmenter.__call__"] = traced(lambda image: segmenter.init_with_output(jax.random.key(0), image)[0], IMAGE)
    found["UnrolledDemons.segment"] = traced(segmenting.segment, params, IMAGE)
    found["GatedDemons.segment"] = traced(
        models.GatedDemons(**LEVEL, spacing=(4,), segmenter=segmenter).segment, params, IMAGE
    )
    found["MatchingAiR.features"] = traced(MATCHING.features, params_of(MATCHING, IMAGE, IMAGE), IMAGE)
    return found


def of_registration(folder):
    made = air_jax.without_model(2, similarity="mse", field=DENSE, refine_steps=0)
    matching = registration.Registration(
        MATCHING, params_of(MATCHING, IMAGE, IMAGE), (8, 8, 1), 0, OBJECTIVE, DENSE, normalization="range"
    )
    matching.save_pretrained(folder / "saved")
    settings = models.AiR(), {}, (8, 8, 1), 0, OBJECTIVE, DENSE
    from air_jax.workdir.recipe import InferenceRecipe

    recipe = InferenceRecipe(models.AiR(), "range", OBJECTIVE, DENSE)
    register = dict(num_axes=2, similarity="mse", field=DENSE, refine_steps=0)
    texts = dict.fromkeys(("name", "data", "license", "scores", "limits"), TEXT)
    return {
        "Registration": direct(registration.Registration, *settings, allows=dict(params=LEAF, objective=LEAF)),
        "Registration.register": direct(made.register, SQUARE, SQUARE),
        "Registration.predict": traced(made.predict, IMAGE, IMAGE),
        "Registration.refine": traced(made.refine, IMAGE, IMAGE, num_steps=1, weights=WEIGHTS),
        "Registration.normalize": direct(made.normalize, SQUARE),
        "Registration.compared": traced(made.compared, IMAGE),
        "Registration.comparing": direct(made.comparing, OBJECTIVE),
        "Registration.save_pretrained": direct(
            matching.save_pretrained, folder / "other", allows=dict(folder="word", **texts)
        ),
        "feature_similarity": direct(air_jax.feature_similarity, matching),
        "from_recipe": direct(
            registration.from_recipe, recipe, {}, image_shape=(8, 8, 1), step=0, allows=dict(params=LEAF)
        ),
        "load": direct(air_jax.load, folder / "saved"),
        # An empty name is one that no model has.
        "load_pretrained": direct(air_jax.load_pretrained, "shapes-2d", allows=dict(name="text")),
        "pretrained_folder": direct(registration.pretrained_folder, "shapes-2d", allows=dict(name="text")),
        "register_images": direct(
            air_jax.register_images, SQUARE, SQUARE, **register, allows=dict(regularizers="dict")
        ),
        "without_model": direct(air_jax.without_model, 2, similarity="mse", diffusion=0.1),
    }


def of_io(folder):
    affine, points = np.eye(3), np.asarray(POINTS, np.float64)
    labels, square = SQUARE.astype(np.int16), SQUARE.astype(np.uint8)
    io.write_image(folder / "image.nii.gz", SQUARE, affine)
    io.write_segmentation(folder / "labels.nii.gz", labels, affine)
    io.write_field(folder / "field.nii.gz", np.zeros((8, 8, 2), np.float32), affine)
    io.write_landmarks(folder / "points.csv", points)
    io.write_stack(folder / "stack.npz", np.stack([square] * 4))
    volume, subject = io.Volume(SQUARE, affine), io.read_subject(folder / "image.nii.gz")
    return {
        "Volume": direct(io.Volume, SQUARE, affine),
        "check_pair": direct(io.check_pair, subject, subject),
        "count_outside": direct(io.count_outside, points, volume),
        "read_field": direct(io.read_field, folder / "field.nii.gz"),
        "read_image": direct(io.read_image, folder / "image.nii.gz"),
        "read_landmarks": direct(io.read_landmarks, folder / "points.csv"),
        "read_segmentation": direct(io.read_segmentation, folder / "labels.nii.gz"),
        "read_stack": direct(io.read_stack, folder / "stack.npz"),
        "read_subject": direct(
            io.read_subject,
            folder / "image.nii.gz",
            segmentation=folder / "labels.nii.gz",
            landmarks=folder / "points.csv",
        ),
        "to_physical": direct(io.to_physical, points, affine),
        "to_voxels": direct(io.to_voxels, points, affine),
        "write_field": direct(io.write_field, folder / "written.nii.gz", np.zeros((8, 8, 2)), affine),
        "write_image": direct(io.write_image, folder / "written.nii.gz", SQUARE, affine),
        "write_landmarks": direct(io.write_landmarks, folder / "written.csv", points, allows=dict(path="word")),
        "write_segmentation": direct(io.write_segmentation, folder / "written.nii.gz", labels, affine),
        "write_stack": direct(
            io.write_stack,
            folder / "written.npz",
            np.stack([square] * 4),
            label=np.arange(4),
            spacing=(1.0, 1.0),
            split=["train"] * 4,
            ids=list("abcd"),
        ),
    }


def of_data(folder):
    io.write_stack(folder / "images.npz", np.zeros((20, 8, 8), np.uint8))
    images = data.Images(np.zeros((20, 8, 8, 1), np.uint8), classes=np.arange(20))
    leaves = dict.fromkeys(("images", "classes", "segmentations", "pairs"), LEAF)
    return {
        "Images": direct(data.Images, images.images, allows=leaves),
        "label_ids_of": direct(data.label_ids_of, images),
        "load_dataset": direct(data.load_dataset, str(folder / "images.npz"), train_fraction=0.8, num_validation=4),
        "split": direct(data.split, images, train_fraction=0.8, num_validation=4),
    }


def of_visualize():
    image, still, labels = np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 2)), np.zeros((1, 8, 8), int)
    plane, field, title = image[0, ..., 0], still[0], dict(title=TEXT)
    scores = {"before": {"mse": 0.2}, "after": {"mse": 0.1}}
    pair, shown = (image[0], image[0]), dict(spacing=(1, 1), title="a pair", scores=scores)
    motion = ("trans_x", "trans_y", "rot"), np.zeros((5, 3)), np.zeros(4)
    return {
        "attention_figure": direct(
            visualize.attention_figure, *pair, np.full((2, 4, 4), 0.25), token_grid=(2, 2), patch_size=(4, 4)
        ),
        "curves_figure": direct(visualize.curves_figure, [{"step": 0, "loss": 0.4}], allows=dict(lines="list")),
        "matching_figure": direct(
            visualize.matching_figure,
            image[0],
            [image[0]],
            [np.full((4, 4, 2, 9), 1 / 9)],
            (3, 3),
            stride=(2,),
            patch_size=(4,),
        ),
        "morph_frames": direct(visualize.morph_frames, image, image, still, num_frames=2),
        "morph_gif": direct(visualize.morph_gif, image, image, still, num_frames=2),
        "motion_figure": direct(visualize.motion_figure, *motion, unit="pixels", title="still", allows=title),
        "registration_figure": direct(visualize.registration_figure, *[image] * 3, still, "a pair", allows=title),
        "report_figure": direct(
            visualize.report_figure, *[plane] * 3, field, **shown, allows=dict(**title, scores="dict")
        ),
        "report_page": direct(
            visualize.report_page,
            *[plane] * 3,
            plane + 1,
            **shown,
            facts={},
            allows=dict(**title, scores="dict", facts="dict", warnings="list strings"),
        ),
        "samples_figure": direct(
            visualize.samples_figure,
            image,
            image,
            labels,
            labels,
            "a pair",
            allows=dict(**title, fixed_segmentation="none", moving_segmentation="none"),
        ),
        "segmentation_figure": direct(visualize.segmentation_figure, image, labels, labels, "an image", allows=title),
        "template_figure": direct(
            visualize.template_figure,
            np.zeros((2, 8, 8)),
            np.eye(3),
            ("start", "round 1"),
            (0.5, 0.6),
            title="a template",
            is_picture=True,
            allows=title,
        ),
    }


def rows(folder: Path) -> dict[str, Row]:
    """Returns the rows of all rooms; the files that they read are in `folder`."""
    found = of_transforms() | of_losses() | of_metrics() | of_optimize() | of_models()
    return found | of_registration(folder) | of_io(folder) | of_data(folder) | of_visualize()
