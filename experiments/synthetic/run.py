"""Scores a model trained on synthetic shapes on measured images that it has never seen, in three contrasts.

  python -m experiments.synthetic.run --data=FOLDER --model=runs/shapes --output_dir=experiments/synthetic

A model of pictures is scored on MNIST, that of TensorFlow Datasets, and `acdc_ed_es/acdc_2d_mid_128.npz` of `FOLDER`; a
model of volumes on its `hippocampus_msd/` and `brains_synthseg/`, see `compare_real`. The moving image is taken as it
is, inverted, and with its grey values remapped (`REMAPPED`); the fixed image and all scores are those of the images as
they are. Beside the model stand its controls, and instance optimisation from zero with air_jax's defaults, by the
package's similarities and by the model's features. `--num_pairs` takes the first pairs of each set. Rows go into
`<output_dir>/results.json`, beside those that are there.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import air_jax
from air_jax import Registration, metrics
from air_jax.data import load_dataset
from air_jax.data.pairs import random_pairs
from air_jax.transforms import resize, warp
from experiments.compare_real.classical import machine
from experiments.compare_real.run import Pairs, brains, cardiac, hippocampus, in_batches, unregistered
from experiments.matching.run import untrained, without_attention
from experiments.tables import score_table

REMAPPED = ((0.0, 0.25, 0.5, 0.75, 1.0), (0.4, 1.0, 0.1, 0.7, 0.0))  # grey values before and after, linear between
CONTRASTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda image: image,
    "inverted": lambda image: 1 - image,
    "remapped": lambda image: np.interp(image, *REMAPPED).astype(np.float32),
}
# Digits are enlarged as SynthMorph enlarges them, and the last levels take more steps. Chosen on the 2,000 images of
# MNIST that the protocol explores with.
ENLARGED = {"mnist": (2, (3, 6, 6))}
FROM_ZERO = ("lncc", "mi", "mind_ssc")
BATCH = {2: 20, 3: 2}  # by the number of axes
COLUMNS = {
    "dice": ("Dice", ".3f"),
    "folding_percent": ("folding %", ".3f"),
    "any_corner_folding_percent": ("any corner %", ".3f"),
    "sd_log_jacobian": ("SD log J", ".3f"),
    "seconds_per_pair": ("seconds a pair", ".3g"),
}


def mnist(_: Path) -> Pairs:
    """The first random test pairs of the protocol; the labels are the masks above 0.5."""
    test = load_dataset("mnist", train_fraction=0.8, num_validation=2_000).test
    fixed, moving = (test.images[index, ..., 0] / np.float32(255) for index in random_pairs(0, len(test), 1_000).T)
    return Pairs(fixed, moving, fixed > 0.5, moving > 0.5)


SETS = {2: {"mnist": mnist, "cardiac": cardiac}, 3: {"hippocampus": hippocampus, "brains": brains}}


def scores(name: str, pairs: Pairs, displacements: np.ndarray) -> dict[str, float]:
    """Means over pairs. On MNIST, Dice is that of the protocol: of the masks of the warped images."""
    labels = [int(label) for label in np.unique(pairs.fixed_labels) if label]

    @jax.jit
    def of_batch(pairs: Pairs, displacement: jax.Array) -> dict[str, jax.Array]:
        if name == "mnist":
            warped = warp(pairs.moving[..., None], displacement)
            dice = metrics.image_scores(pairs.fixed[..., None], warped)["dice"]
        else:
            warped = warp(pairs.moving_labels, displacement, order=0)
            dice = metrics.label_mean(metrics.label_dice(pairs.fixed_labels, warped, labels))
        return metrics.displacement_scores(displacement) | {"dice": dice}

    arrays = Pairs(*map(jnp.asarray, (*pairs[:2], *(labels.astype(np.int32) for labels in pairs[2:]))))
    values = of_batch(arrays, jnp.asarray(displacements))
    return {key: float(np.nanmean(value)) for key, value in values.items()}


def enlarged(registration: Registration, factor: int, num_steps: tuple[int, ...]) -> Callable:
    """The registration of images of `factor` times as many voxels along each axis, brought back to their own."""
    model = registration.model.clone(num_steps=num_steps)
    registration = dataclasses.replace(registration, model=model)

    @jax.jit
    def predict(fixed: jax.Array, moving: jax.Array) -> jax.Array:
        batch, *shape, channels = fixed.shape
        size = (batch, *(factor * side for side in shape), channels)
        larger = (jax.image.resize(image, size, "linear") for image in (fixed, moving))
        return resize(registration.predict(*larger)[0], shape)

    return predict


def methods_of(name: str, registration: Registration, seed: int) -> dict[str, tuple[Callable, dict]]:
    """Functions of the fixed and the moving images by the names of their rows, and their settings."""
    # The model takes any size; without this, images smaller than those of training would get a margin of zeros.
    num_axes = len(registration.image_shape) - 1
    registration = dataclasses.replace(registration, image_shape=(16,) * num_axes + (1,))
    rows: dict[str, tuple[Callable, dict]] = {"before": (unregistered, {})}
    models = {"untrained": untrained(registration, seed), "images ignored": without_attention(registration)}
    similarities = {name: name for name in FROM_ZERO} | {
        "features of shapes": air_jax.feature_similarity(registration),
        "features of shapes, untrained": air_jax.feature_similarity(models["untrained"]),
    }
    for similarity, loss in similarities.items():
        optimisation = air_jax.without_model(num_axes, similarity=loss)

        def register(fixed: jax.Array, moving: jax.Array, optimisation: Registration = optimisation) -> jax.Array:
            return optimisation.refine(fixed, moving).displacement

        settings = {"field": "dense", "num_steps": optimisation.refine_steps}
        rows[f"from zero, {similarity}"] = partial(in_batches, register, BATCH[num_axes]), settings
    for kind, model in (models | {"trained": registration}).items():

        def predict(fixed: jax.Array, moving: jax.Array, model: Registration = model) -> jax.Array:
            return model.predict(fixed, moving)[0]

        step = 0 if kind == "untrained" else model.step
        rows[f"shapes, {kind}"] = partial(in_batches, predict, BATCH[num_axes]), {"step": step}
        if name in ENLARGED:
            factor, num_steps = ENLARGED[name]
            settings = {"step": step, "factor": factor, "num_steps": num_steps}
            title = f"shapes, {kind}, enlarged {factor} times"
            rows[title] = partial(in_batches, enlarged(model, factor, num_steps), BATCH[num_axes]), settings
    return rows


def table(results: dict, shown: Callable[[str], bool] = lambda _: True) -> str:
    """The rows whose method is shown."""
    rows = (
        ((name, contrast, method), row)
        for name, contrasts in results.items()
        for contrast, methods in contrasts.items()
        for method, row in methods.items()
        if shown(method)
    )
    return score_table(("set", "moving image", "method"), rows, COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--model", type=Path, required=True, help="workdir of a run, or folder of a saved model")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of results.json and table.md")
    parser.add_argument("--num_pairs", type=int, default=1_000, help="most pairs of a set")
    parser.add_argument("--sets", nargs="*", help="sets that are scored; default: all of the model's number of axes")
    parser.add_argument("--methods", nargs="*", help="beginnings of the rows that are run; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the untrained parameters")
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    path = arguments.output_dir / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    registration = air_jax.load(arguments.model)
    for name, read in SETS[len(registration.image_shape) - 1].items():
        if name not in (arguments.sets or [name]):
            continue
        pairs = Pairs(*(array[: arguments.num_pairs] for array in read(arguments.data)))
        methods = methods_of(name, registration, arguments.seed)
        chosen = tuple(arguments.methods or methods)
        for contrast, change in CONTRASTS.items():
            for method, (run, settings) in methods.items():
                if not method.startswith(chosen):
                    continue
                displacements, timing = run(pairs.fixed, change(pairs.moving))
                row = scores(name, pairs, displacements) | timing | {"num_pairs": len(pairs.fixed)}
                row |= {"settings": settings, "machine": machine(), "load_average": round(os.getloadavg()[0], 1)}
                print(name, contrast, method, {key: round(row[key], 4) for key in COLUMNS if key in row}, flush=True)
                results.setdefault(name, {}).setdefault(contrast, {})[method] = row
                path.write_text(json.dumps(results, indent=1) + "\n")
    (arguments.output_dir / "table.md").write_text(table(results))


if __name__ == "__main__":
    main()
