"""Scores matching attention beside its controls: untrained, images ignored, from zero at several regularities.

  python -m experiments.matching.run --data=FOLDER --output_dir=experiments/matching \
      --run cardiac=runs/cardiac_matching_labels --run hippocampus=runs/hippocampus_matching_labels

`FOLDER`, sets and scores are those of `experiments.compare_real.run`. "Images ignored": every temperature is 0, so that
the attention is the softmax of the learned bias. From zero, `total_sigma` sets the regularity: compare rows of like
`SD log J`. `--part=training` scores the training subjects on which a run chooses its checkpoint; settings are chosen
there. `--rows=TEXT` scores the methods whose names contain it. Each row goes into `<output_dir>/results.json`, beside
those of other runs.
"""

import argparse
import dataclasses
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import air_jax
from air_jax import Registration
from air_jax.data.pairs import random_pairs
from air_jax.metrics import hd95
from air_jax.models import MatchingUNet
from air_jax.training.steps import init_params
from air_jax.transforms import jacobian_determinant, warp
from air_jax.transforms.intensity import normalize
from experiments.compare_real.classical import machine
from experiments.compare_real.run import FROM_ZERO, OURS, SETS, Pairs, in_batches, scores, unregistered
from experiments.register_real.run import from_zero
from experiments.tables import score_table

SIGMAS = (0.35, 0.5, 0.7, 1.0)  # voxels, of the whole field from zero; 0.5 is the setting of compare_real
HALF = 0.5  # of the volume
SMOOTHER = (1.0, 0.5)  # vote_sigma and total_sigma
COLUMNS = {  # of the table, and their formats
    "dice": ("Dice", ".4f"),
    "hd95": ("HD95, voxels", ".2f"),
    "any_corner_folding_percent": ("any corner %", ".4f"),
    "sd_log_jacobian": ("SD log J", ".3f"),
    "halved_percent": ("below 0.5, %", ".1f"),
    "compressed_percent": ("below 0.3, %", ".1f"),
    "seconds_per_pair": ("seconds a pair", ".3g"),
}


def training_part(data: Path, name: str) -> Pairs:
    """The last training subjects, which train no weights: 6 cardiac patients, or 40 random pairs of 10 hippocampi."""
    folder, count = {
        "cardiac": ("acdc_ed_es/acdc_2d_mid_128", 6),
        "hippocampus": ("hippocampus_msd/hippocampus_48x64x48", 10),
    }[name]
    with np.load(data / f"{folder}.npz") as arrays:
        chosen = np.flatnonzero(arrays["split"] == "train")[-count:]
        image, label = arrays["image"][chosen] / np.float32(255), arrays["label"][chosen]
    if name == "cardiac":
        return Pairs(image[:, 0], image[:, 1], label[:, 0], label[:, 1])
    image = np.stack([normalize(one, "foreground") for one in image])
    fixed, moving = random_pairs(0, count, 40).T
    return Pairs(image[fixed], image[moving], label[fixed], label[moving])


def untrained(registration: Registration, seed: int) -> Registration:
    """The same model with the parameters that a run of this seed starts from."""
    params = init_params(registration.model, seed, registration.image_shape, 2)
    return dataclasses.replace(registration, params=params)


def without_attention(registration: Registration) -> Registration:
    """The same model with temperatures of 0: the logits are the bias only."""

    def zeroed(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return jnp.full_like(leaf, -jnp.inf) if "log_temperature" in jax.tree_util.keystr(path) else leaf

    return dataclasses.replace(registration, params=jax.tree_util.tree_map_with_path(zeroed, registration.params))


def smoother(registration: Registration) -> Registration:
    """The same weights with more smoothing, for models of `MatchingUNet`: it has no parameters."""
    vote_sigma, total_sigma = SMOOTHER
    model = registration.model.clone(vote_sigma=vote_sigma, total_sigma=total_sigma)
    return dataclasses.replace(registration, model=model)


def predicted(registration: Registration, batch_size: int, *images: np.ndarray) -> tuple[np.ndarray, dict]:
    """Displacements of one pass, and their times."""
    images = tuple(np.stack([normalize(image, registration.normalization) for image in side]) for side in images)
    return in_batches(lambda *pair: registration.predict(*pair)[0], batch_size, *images)


def mean_hd95(pairs: Pairs, displacement: np.ndarray) -> float:
    """Mean over pairs and labels, in voxels. Labels that one side lacks do not count."""
    ones, distances = (1.0,) * displacement.shape[-1], []
    for field, fixed, moving in zip(displacement, pairs.fixed_labels, pairs.moving_labels, strict=True):
        warped = np.asarray(warp(moving[None].astype(np.int32), field[None], order=0))[0]
        distances += [hd95(fixed == label, warped == label, ones) for label in np.unique(fixed) if label]
    return float(np.mean([distance for distance in distances if np.isfinite(distance)]))


def halved_percent(displacement: np.ndarray, mask: np.ndarray) -> float:
    """Mean over pairs of the share of labelled voxels that keep less than half of their volume, in percent."""
    shares = []
    for field, inside in zip(displacement, mask, strict=True):
        determinant = np.asarray(jacobian_determinant(jnp.asarray(field)[None]))[0]
        interior = inside[(slice(1, -1),) * inside.ndim]
        shares.append(100 * np.mean(determinant[interior] < HALF))
    return float(np.mean(shares))


def rows_of(name: str, workdirs: list[Path], seed: int) -> dict[str, tuple[Any, dict]]:
    """The methods of one set by the names of their rows: a function of the images, and its settings."""
    ours = OURS[name]
    rows: dict[str, tuple[Any, dict]] = {"before": (unregistered, {})}
    for sigma in SIGMAS:
        options = ours.options | {"total_sigma": sigma}
        register = partial(from_zero, ours.objective, options, ours.num_steps)
        settings = {"objective": ours.words, "num_steps": ours.num_steps} | options
        rows[f"{FROM_ZERO}, total_sigma {sigma:g}"] = partial(in_batches, register, ours.batch_size), settings
    for workdir in workdirs:
        registration = air_jax.load(workdir)
        models = {
            "untrained": untrained(registration, seed),
            "trained, images ignored": without_attention(registration),
            "trained": registration,
        }
        if isinstance(registration.model, MatchingUNet):
            models |= {"trained, vote_sigma {:g}, total_sigma {:g}".format(*SMOOTHER): smoother(registration)}
        for kind, model in models.items():
            settings = {"workdir": workdir.name, "step": model.step if kind != "untrained" else 0}
            row = f"{type(registration.model).__name__}, {workdir.name}, {kind}"
            rows[row] = partial(predicted, model, ours.batch_size), settings
    return rows


def table(results: dict) -> str:
    rows = (((name, method), row) for name, methods in results.items() for method, row in methods.items())
    return score_table(("set", "method"), rows, COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of results.json and table.md")
    parser.add_argument("--run", action="append", required=True, metavar="SET=WORKDIR", help="a run; repeatable")
    parser.add_argument("--part", choices=("training", "validation"), default="validation", help="which subjects")
    parser.add_argument("--rows", default="", metavar="TEXT", help="only methods whose names contain this")
    parser.add_argument("--seed", type=int, default=0, help="of the untrained parameters")
    arguments = parser.parse_args()
    runs = [run.split("=", 1) for run in arguments.run]
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    path = arguments.output_dir / "results.json"
    for name in dict.fromkeys(name for name, _ in runs):
        pairs = training_part(arguments.data, name) if arguments.part == "training" else SETS[name](arguments.data)
        title = f"{name}, {arguments.part}"
        for method, (run, settings) in rows_of(name, [Path(w) for n, w in runs if n == name], arguments.seed).items():
            if arguments.rows not in method:
                continue
            displacement, timing = run(pairs.fixed, pairs.moving)
            row = scores(pairs, displacement) | timing | {"settings": settings, "machine": machine()}
            row["hd95"] = mean_hd95(pairs, displacement)
            row["halved_percent"] = halved_percent(displacement, pairs.fixed_labels > 0)
            row["other_load"] = f"load average {os.getloadavg()[0]:.1f}"
            print(title, method, {key: round(row[key], 4) for key in COLUMNS if key in row}, flush=True)
            results = json.loads(path.read_text()) if path.exists() else {}
            results.setdefault(title, {})[method] = row
            path.write_text(json.dumps(results, indent=1) + "\n")
    (arguments.output_dir / "table.md").write_text(table(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
