"""The story of a run: data, model, steps, checkpoints, scores, figures.

How a run is resumed:
1. the state is (step, parameters, optimiser's state), and the batch of a step is a function of (seed, step);
2. a checkpoint is written at every validation, with its scores;
3. the same command restores the newest readable checkpoint and drops the log lines written after it;
4. so a run that was killed takes the same steps, in the same dispatches, as one that was not.

Where several processes train together, each takes its share of every batch; the first one reads and writes the workdir.
"""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from air_jax.data import Dataset, Images, label_ids_of, load_dataset
from air_jax.errors import UserError
from air_jax.registration import load as load_registration
from air_jax.runtime.files import replace_text
from air_jax.runtime.parallel import (
    AXIS_NAME,
    all_devices,
    check_agreement,
    from_first_process,
    is_first_process,
    replicate,
    say,
)
from air_jax.runtime.startup import StartUp
from air_jax.training import feed, loop, scoring, summary
from air_jax.training import figures as run_figures
from air_jax.training.optimizer import make_optimizer
from air_jax.training.scoring import Scorer
from air_jax.training.steps import TrainState, init_state, make_train_steps
from air_jax.workdir import config as configs
from air_jax.workdir import log as run_log
from air_jax.workdir.checkpoint import Checkpoints


def train(
    config: ConfigDict, workdir: str | Path, *, dataset: Dataset | None = None, start: StartUp | None = None
) -> dict[str, Any]:
    """Trains, validates, scores and draws, as the config says; resumes when `workdir` holds a run of the same config.

    Args:
      config: see `configs/mnist.py` for every key.
      workdir: folder of the run; afterwards it holds `config.json`, `metrics.jsonl`, `checkpoints/`, `eval.json` and
        `figures/`.
      dataset: the data set, where it is at hand, normalised; loaded as `config.dataset` says otherwise.
      start: times the start, where the caller has begun to.

    Returns:
      The final scores, as in `eval.json`; nothing in processes other than the first.

    Raises:
      UserError: the config, the workdir or the data will not do, or the loss stopped being finite.
    """
    workdir = Path(workdir).expanduser()
    start = start or StartUp()

    # ---- Config and data ---------------------------------------------------------------------------------------------
    configs.check(config)
    check_agreement(config.to_json_best_effort(), "the config")
    with start.item("devices"):
        devices = all_devices()
    if config.batch_size % len(devices):
        raise UserError(f"--config.batch_size={config.batch_size}: must be a multiple of the {len(devices)} devices")
    configs.check_same_run(config, workdir)
    say(f"devices: {len(devices)} x {devices[0].device_kind}, {config.batch_size // len(devices)} pairs a step each")
    with start.item("data"):
        dataset = dataset or load_dataset(**config.dataset)
    configs.check_same_images(dataset.image_shape, workdir)
    from_first_process(lambda: _make_workdir(workdir))
    say(
        f"data: {config.dataset.name}, images {list(dataset.image_shape)}: {len(dataset.train):,} for training, "
        f"{len(dataset.validation):,} for validation, {len(dataset.test):,} for testing"
    )

    # ---- Model and optimiser -----------------------------------------------------------------------------------------
    model = configs.build_model(config)
    num_segmenter_steps = configs.segmenter_steps(config)
    optimizer = make_optimizer(
        config.learning_rate,
        config.schedule,
        config.warmup_steps,
        config.num_train_steps,
        config.clip_norm,
        num_segmenter_steps=num_segmenter_steps,
    )
    with start.item("model"):
        state = init_state(model, optimizer, config.seed, dataset.image_shape)
        say(summary.table(model, state.params, dataset.image_shape))
    terms = configs.training_terms(config, dataset.train)
    # Only what the steps read goes to the devices.
    segmentations = dataset.train.segmentations if terms.labels else None
    images = dataclasses.replace(dataset.train, labels=None, segmentations=segmentations)
    streaming = not feed.fits(images, devices) if config.streaming is None else config.streaming
    train_steps = make_train_steps(
        model,
        optimizer,
        configs.objective(config),
        seed=config.seed,
        batch_size=config.batch_size,
        num_devices=len(devices),
        axis_name=AXIS_NAME,
        terms=terms,
        num_segmenter_steps=num_segmenter_steps,
        augmentation=configs.augmentation(config),
        deformation=configs.deformation(config),
        streaming=streaming,
    )

    # ---- Training ----------------------------------------------------------------------------------------------------
    with Checkpoints(workdir / "checkpoints") if is_first_process() else contextlib.nullcontext() as checkpoints:
        with start.item("checkpoint"):
            state = from_first_process(lambda: _resume(state, checkpoints, config, workdir), like=state)
        if is_first_process():
            configs.write(config, dataset.image_shape, workdir)
        at_most = feed.steps_per_dispatch(model, devices)
        if streaming:
            say("the training images stay on the host; each step's are streamed to the devices")
            run = feed.streamed(
                train_steps,
                images,
                devices,
                list(loop.dispatches(int(state.step), config.num_train_steps, config.log_every)),
                seed=config.seed,
                batch_size=config.batch_size,
                at_most=at_most,
            )
        else:
            run = feed.resident(train_steps, images, devices, at_most=at_most)
        loop.train_loop(
            replicate(state, devices),
            run,
            _scorer(model, config, dataset.validation),
            checkpoints,
            dataset.validation,
            config,
            workdir,
            start,
        )

    # ---- Scores and figures, of the best checkpoint ------------------------------------------------------------------
    return evaluate(workdir, dataset=dataset) if is_first_process() else {}


def evaluate(workdir: str | Path, *, dataset: Dataset | None = None) -> dict[str, Any]:
    """Scores the best checkpoint of a run on the test part, writes `eval.json` and the figures, and prints the table.

    Args:
      workdir: the run's folder.
      dataset: the run's data set, where it is at hand, normalised; loaded as the run's config says otherwise.

    Returns:
      The scores, as in `eval.json`.

    Raises:
      UserError: the folder is not a run's workdir, or its data cannot be had.
    """
    workdir = Path(workdir).expanduser()
    registration = load_registration(workdir)
    config, _ = configs.read(workdir)
    dataset = dataset or load_dataset(**config.dataset)
    refine = None
    if num_steps := config.refine.num_steps:

        def refine(*arrays):
            return registration.refine(*arrays, num_steps=num_steps).displacement

    scorer = _scorer(registration.model, config, dataset.test, refine=refine)
    report = scoring.evaluate(scorer, registration.params, registration.step, dataset.test, config)
    replace_text(workdir / "eval.json", json.dumps(report, indent=2) + "\n")
    print(scoring.table(report), flush=True)
    run_figures.draw(registration, dataset, config, workdir)
    return report


def _scorer(model: nn.Module, config: ConfigDict, images: Images, **options: Any) -> Scorer:
    deformation = configs.deformation(config)
    labels = () if deformation else label_ids_of(images)  # the deformed image's own labels are not known
    return Scorer(model, config.eval.batch_size, deformation, config.eval.pairs_seed, labels=labels, **options)


def _make_workdir(workdir: Path) -> None:
    try:
        (workdir / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be made ({error.strerror}); choose another") from error


def _resume(state: TrainState, checkpoints: Checkpoints, config: ConfigDict, workdir: Path) -> TrainState:
    """The state to go on from: the newest readable checkpoint's, or the initial one; drops later lines from the log."""
    restored = checkpoints.restore_newest(state.params, state.opt_state)
    if restored is not None:
        step, params, opt_state = restored
        if step > config.num_train_steps:
            raise UserError(
                f"--config.num_train_steps={config.num_train_steps}: the run in {workdir} is at step {step} already; "
                "ask for more steps, or choose another --workdir"
            )
        print(f"resuming from step {step:,} of {config.num_train_steps:,} in {workdir}", flush=True)
        state = TrainState(jnp.asarray(step, jnp.int32), params, opt_state)
    run_log.drop_after(workdir, int(state.step))
    return state
