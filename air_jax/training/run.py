"""The story of a run: data, model, steps, checkpoints, scores, figures.

How a run is resumed:
1. the state is (step, parameters, optimizer's state), and the batch of a step is a function of (seed, step);
2. a checkpoint is written at every validation, with its scores;
3. the same command restores the newest readable checkpoint and drops the log lines written after it;
4. so a run that was killed takes the same steps, in the same dispatches, as one that was not.

Where several processes train together, each takes its share of every batch; only the first one reads and writes the
workdir.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from air_jax.data import Dataset, Images, load_dataset
from air_jax.errors import UserError
from air_jax.runtime.parallel import AXIS_NAME, all_devices, replicate
from air_jax.runtime.processes import check_agreement, from_first_process, is_first_process, say
from air_jax.runtime.startup import StartUp
from air_jax.training import feed, figures, scoring, summary, watch
from air_jax.training.evaluation import evaluate, task_of
from air_jax.training.loop import dispatches, train_loop
from air_jax.training.memory import check_batch
from air_jax.training.monitor import Monitor
from air_jax.training.optimizer import make_optimizer, rate_schedule
from air_jax.training.recipe import TrainingRecipe, synthesizer, training_recipe
from air_jax.training.steps import TrainState, init_params, init_state, make_train_steps
from air_jax.workdir import config as configs
from air_jax.workdir import log
from air_jax.workdir.checkpoint import Checkpoints
from air_jax.workdir.config import SavedConfig
from air_jax.workdir.defaults import Config
from air_jax.workdir.lock import only_run
from air_jax.workdir.model_section import SEGMENTER
from air_jax.workdir.recipe import inference_recipe
from air_jax.workdir.segmenter import own_segmenter, read_segmenter


def train(
    config: Config, workdir: str | Path, *, dataset: Dataset | None = None, start: StartUp | None = None
) -> dict[str, Any]:
    """Trains, validates, scores and draws, as the config says; resumes when `workdir` holds a run of the same config.

    Args:
      config: keys of `air_jax.workdir.defaults.default_config`.
      workdir: folder of the run. Afterwards it holds `config.json`, `metrics.jsonl`, `checkpoints/`, `eval.json`,
        `figures/` and `report.html`.
      dataset: the normalised data set. Default: loaded as `config.dataset` says.
      start: start-up times, where the caller has begun to take them.

    Returns:
      The final scores, as in `eval.json`; an empty dict in processes other than the first.

    Raises:
      UserError: the config, the workdir or the data cannot be used, or the loss stopped being finite.
    """
    workdir = Path(workdir).expanduser()
    start = start or StartUp()

    # ---- Config and data ---------------------------------------------------------------------------------------------
    config = configs.complete(config)
    recipe = training_recipe(config)
    with start.item("devices"):
        devices = all_devices()
    check_agreement(config.to_json_best_effort(), "the config")
    if recipe.steps.batch_size % len(devices):
        raise UserError(
            f"--config.batch_size={recipe.steps.batch_size}: must be a multiple of the {len(devices)} devices"
        )
    watch.check(recipe.watch)
    configs.check_same_run(config, workdir)
    log.check(workdir)
    saved, frozen = _with_segmenter(config, recipe, workdir)
    inference = inference_recipe(saved)
    pairs_each = recipe.steps.batch_size // len(devices)
    say(f"devices: {len(devices)} x {devices[0].device_kind}, {pairs_each} pairs a step each")
    with start.item("data"):
        dataset = dataset or load_dataset(**recipe.dataset)
    check_batch(recipe.steps.batch_size, dataset.image_shape)
    saved = dataclasses.replace(saved, image_shape=dataset.image_shape)
    configs.check_same_images(dataset.image_shape, workdir)
    say(
        f"data: {recipe.dataset['name']}, images {list(dataset.image_shape)}: {len(dataset.train):,} for training, "
        f"{len(dataset.validation):,} for validation, {len(dataset.test):,} for testing"
    )

    # ---- Model and optimizer -----------------------------------------------------------------------------------------
    task = task_of(recipe, inference, dataset, dataset.validation)
    optimizer = make_optimizer(**dataclasses.asdict(recipe.optimizer), freeze_segmenter=bool(recipe.segmenter_workdir))
    with start.item("model"):
        params = init_params(inference.model, recipe.seed, dataset.image_shape, task.num_images) | frozen
        state = init_state(params, optimizer)
        say(summary.table(inference.model, params, dataset.image_shape, task.num_images))
    from_first_process(lambda: _make_workdir(workdir))  # late: a mistake in the config leaves no folder
    images = _needed(dataset.train, recipe)
    streaming = not feed.fits(images, devices) if recipe.streaming is None else recipe.streaming
    train_steps = steps_of(
        recipe,
        inference.model,
        optimizer,
        task.loss,
        dataset.train,
        num_devices=len(devices),
        streaming=streaming,
    )

    # ---- Training ----------------------------------------------------------------------------------------------------
    scorer = scoring.Scorer(task, recipe.evaluation)
    pairs = next(iter(scoring.pair_lists(dataset.validation, recipe.evaluation).values()))
    rates = recipe.optimizer
    open_watch = partial(watch.open_watch, recipe.watch, config, workdir)
    draw = partial(figures.watched_figures, inference, task, dataset.validation, pairs, recipe)
    with Monitor(workdir, recipe.steps, open_watch, draw) as monitor:
        with _checkpoints(workdir, saved) as checkpoints:
            with start.item("checkpoint"):
                state = from_first_process(
                    lambda: _resume(state, checkpoints, recipe.steps.num_train_steps, workdir), like=state
                )
            if is_first_process():
                configs.write(saved, workdir)
            spans = dispatches(int(state.step), recipe.steps)
            at_most = feed.steps_per_dispatch(inference.model, devices)
            if streaming:
                say("the training images stay on the host; each step's are streamed to the devices")
                run = feed.streamed(
                    train_steps,
                    images,
                    devices,
                    spans,
                    seed=recipe.seed,
                    batch_size=recipe.steps.batch_size,
                    at_most=at_most,
                    sharded_jit=recipe.sharded_jit,
                )
            else:
                run = feed.resident(train_steps, images, devices, at_most=at_most, sharded_jit=recipe.sharded_jit)
            train_loop(
                replicate(state, devices),
                run,
                spans,
                lambda params: scorer.score(params, dataset.validation, pairs)["after"],
                rate_schedule(rates.learning_rate, rates.schedule, rates.warmup_steps, rates.num_train_steps),
                checkpoints,
                monitor,
                recipe.steps,
                workdir,
                start,
            )

        # ---- Scores, figures and report, of the best checkpoint ------------------------------------------------------
        report = evaluate(workdir, dataset=dataset) if is_first_process() else {}
        monitor.final(report)
    return report


def _with_segmenter(config: Config, recipe: TrainingRecipe, workdir: Path) -> tuple[SavedConfig, dict[str, Any]]:
    """What `config.json` will hold but the image shape, and the frozen parameters of the segmenter by its name.

    A run that has a checkpoint takes the segmenter from its own `config.json` and checkpoint.
    """
    if not recipe.segmenter_workdir:
        return SavedConfig(config, ()), {}
    if own := own_segmenter(workdir):
        return SavedConfig(config, (), own), {}
    segmenter, params = read_segmenter(recipe.segmenter_workdir)
    return SavedConfig(config, (), segmenter), {SEGMENTER: params}


def steps_of(
    recipe: TrainingRecipe,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Callable,
    train: Images,
    *,
    num_devices: int,
    streaming: bool = False,
) -> Callable:
    """Returns the steps of a run, see `air_jax.training.steps.make_train_steps`.

    Args:
      recipe: the run's recipe.
      model: the model that is trained.
      optimizer: its optimizer.
      loss: loss of a batch, see `air_jax.training.evaluation.task_of`.
      train: the training images.
      num_devices: devices of all processes.
      streaming: whether each step's images are passed, instead of all images.
    """
    return make_train_steps(
        model,
        optimizer,
        loss,
        seed=recipe.seed,
        batch_size=recipe.steps.batch_size,
        num_devices=num_devices,
        axis_name=AXIS_NAME,
        augmentation=recipe.augmentation,
        deformation=recipe.deformation,
        synthesize=synthesizer(recipe.synthesis, train),
        streaming=streaming,
    )


def _needed(train: Images, recipe: TrainingRecipe) -> Images:
    """The training images with only what the steps read: nothing else goes to the devices."""
    segmented = recipe.terms.soft_dice or recipe.synthesis or not recipe.registers
    return dataclasses.replace(train, classes=None, segmentations=train.segmentations if segmented else None)


def _make_workdir(workdir: Path) -> None:
    try:
        (workdir / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: cannot be made ({error.strerror}); choose another") from error


@contextlib.contextmanager
def _checkpoints(workdir: Path, saved: SavedConfig) -> Iterator[Checkpoints | None]:
    """Holds the workdir and opens its checkpoints; None in processes other than the first."""
    if not is_first_process():
        yield None
        return
    with only_run(workdir), Checkpoints(workdir / "checkpoints", identity=configs.identity(saved)) as checkpoints:
        yield checkpoints


def _resume(state: TrainState, checkpoints: Checkpoints | None, num_train_steps: int, workdir: Path) -> TrainState:
    """The state to go on from: the newest readable checkpoint's, or the initial one; drops later lines from the log."""
    assert checkpoints is not None  # the first process has them
    restored = checkpoints.restore_newest(state.params, state.opt_state)
    if restored is not None:
        step, params, opt_state = restored
        if step > num_train_steps:
            raise UserError(
                f"--config.num_train_steps={num_train_steps}: the run in {workdir} is at step {step} already; "
                "ask for more steps, or choose another --workdir"
            )
        print(f"resuming from step {step:,} of {num_train_steps:,} in {workdir}", flush=True)
        state = TrainState(jnp.asarray(step, jnp.int32), params, opt_state)
    log.drop_after(workdir, int(state.step))
    return state
