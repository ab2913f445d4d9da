"""A valid call of every function and class that registers: optimisation, models, registrations."""

import jax
import numpy as np
from wrong_type_rows import AFFINE, IMAGE, LEAF, MASK, OBJECTIVE, POINTS, SQUARE, STILL, TEXT, WEIGHTS, direct, traced

import air_jax
from air_jax import losses, models, optimize, registration
from air_jax.workdir.recipe import InferenceRecipe

DENSE = optimize.DenseField(levels=(1,))
LEVEL = dict(stride=(4,), patch_size=(4,), num_steps=(1,), downsampling=(1,), width=4, feed_forward=4)
MATCHING = models.MatchingAiR(**LEVEL, radius=(1,))


def params_of(module, *images):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *images)["params"]
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def guidance():
    return optimize.Guidance(POINTS[None], POINTS[None] + 0.5)


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
        "MatchingUNet": models.MatchingUNet(features=(4,), num_steps=(1,), radius=(1,), width=(4,)),
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
