"""The building of a template, step by step: read, rounds, vote, write, draw."""

import dataclasses
import json
import time
from typing import Any

import jax
import numpy as np

from air_jax import io
from air_jax._version import __version__
from air_jax.file_registration.folder import SCORES, begin, output_folder
from air_jax.file_templates import state as states
from air_jax.file_templates.group import Group, files_in, read_group
from air_jax.file_templates.maps import mean_logarithm
from air_jax.file_templates.options import Options, check_options
from air_jax.file_templates.outputs import draw_report, output_names, write_template, write_transforms, write_warped
from air_jax.file_templates.rounds import State, affine_round, deformable_round, start
from air_jax.file_templates.voting import pair_dice, vote, warped_labels
from air_jax.runtime.files import replace_text


def build_template(options: Options) -> dict[str, Any]:
    """Builds the template of a group and writes the results into `options.output_dir`.

    After each round the state is kept in the output folder; the same command goes on from there.

    Args:
      options: folder of the images, output folder and settings.

    Returns:
      The content of `scores.json`.

    Raises:
      UserError: one line that names the file or the flag.
    """
    begun = time.perf_counter()
    check_options(options)
    group = read_group(options)
    task = states.task_of(options, group)
    if (scores := states.finished(options.output_dir, task)) is not None:
        print(f"{options.output_dir}: is finished; nothing is done", flush=True)
        return scores
    names = output_names(options, group)
    print(f"{len(group.names)} images, template of {' x '.join(map(str, group.grid.shape))} voxels", flush=True)
    with output_folder(options.output_dir, names, _files_read(options)):
        first, state = _rounds(options, group, task)
        begin(options.output_dir)
        write_template(group, state, options.output_dir)
        write_transforms(group, state, options.output_dir)
        if options.warped:
            write_warped(group, state, options.output_dir)
        scores = _scores(options, group, first, state)
        draw_report(group, state, options.output_dir)
        scores |= {"task": task, "seconds": round(time.perf_counter() - begun, 3), "files": names}
        replace_text(options.output_dir / SCORES, json.dumps(scores, indent=2) + "\n")
        (options.output_dir / states.STATE).unlink(missing_ok=True)
    return scores


def _files_read(options: Options) -> list:
    files = list(files_in(options.images, "images").values())
    files += [] if options.labels is None else list(files_in(options.labels, "labels").values())
    return files if options.reference is None else [*files, options.reference]


def _rounds(options: Options, group: Group, task: str) -> tuple[State, State]:
    """Runs the rounds that are left; returns the state before any round and the last one."""
    first = start(group)
    state = states.load(options.output_dir, task)
    if state is not None:
        print(f"going on after round {len(state.history) - 1}", flush=True)
    state = first if state is None else state
    for number in range(len(state.history), options.affine_rounds + options.rounds + 1):
        if number <= options.affine_rounds:
            state = affine_round(group, options, state, number)
        else:
            state = deformable_round(group, options, state, number - options.affine_rounds)
        states.save(options.output_dir, task, state)
        print(f"  {_described(state.history[-1])}", flush=True)
    return first, state


def _described(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in row.items() if name != "kind")


def _scores(options: Options, group: Group, first: State, state: State) -> dict[str, Any]:
    """Measures the result; votes and writes the label map where segmentations are given."""
    affines = state.affines.copy()
    affines[..., -1] -= group.place
    scores: dict[str, Any] = {
        "subjects": list(group.names),
        "unit": "pixels" if group.are_pictures else "mm",
        "rounds": state.history,
        "mean_affine_error": float(np.abs(mean_logarithm(affines)).max()),
    }
    if options.labels is not None:
        ids, before = warped_labels(group, first.affines, first.fields)
        _, after = warped_labels(group, state.affines, state.fields)
        dtype = np.result_type(*(subject.segmentation for subject in group.subjects))
        # NumPy makes floats of uint64 and signed types.
        voted = np.array(ids, dtype if dtype.kind in "iu" else np.int64)[vote(after)]
        io.write_segmentation(options.output_dir / "template_labels.nii.gz", voted, group.grid.affine)
        scores["dice_of_pairs"] = {"before": pair_dice(before, len(ids)), "after": pair_dice(after, len(ids))}
        for name, value in scores["dice_of_pairs"].items():
            if value is not None:
                print(f"Dice of pairs {name}: {value['mean']:.4f} (sd {value['sd']:.4f})", flush=True)
    given = dataclasses.asdict(options)
    return scores | {
        "options": {name: None if value is None else str(value) for name, value in given.items()},
        "version": f"air_jax {__version__}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }
