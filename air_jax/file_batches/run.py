"""The registration of many pairs of files: list, skip, read, register in batches, write, summarise."""

import contextlib
import dataclasses
import io
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.errors import UserError
from air_jax.file_batches.groups import Batch, Groups
from air_jax.file_batches.options import BatchOptions, list_pairs
from air_jax.file_batches.summary import Row, check_summary, draw_pages, thumbnails, write_table
from air_jax.file_registration.folder import SCORES, output_folder
from air_jax.file_registration.grids import extend
from air_jax.file_registration.guided import described_guides
from air_jax.file_registration.options import Options
from air_jax.file_registration.outputs import Maps, output_names
from air_jax.file_registration.pair import Pair, read_pair
from air_jax.file_registration.run import Clock, finish, written_options
from air_jax.file_registration.solve import solve
from air_jax.io.field import read_field
from air_jax.io.image import read_image
from air_jax.io.transform import FIELD
from air_jax.registration import load
from air_jax.registration.model_folder import CONFIG, WEIGHTS
from air_jax.runtime.files import read_json

CHUNK_VOXELS, CHUNK_PAIRS = 2**26, 64  # that are read before they are grouped
# Voxels of a batch, of both images. A CPU is no faster with several pairs of volumes than with one after the other.
CPU_VOXELS, ACCELERATOR_VOXELS = 2**17, 2**26

# What may be wrong with one pair: its files, its folder, or its size (JAX reports a full memory as a RuntimeError).
FAULTS_OF_A_PAIR = (UserError, OSError, MemoryError, RuntimeError)
_LONGEST_MESSAGE = 300

Pictures = dict[str, list[np.ndarray]]


def register_batch(options: BatchOptions) -> dict[str, Row]:
    """Registers many pairs. Finished ones are skipped, and a pair that fails does not stop the others.

    Args:
      options: the pairs, the output folder and the settings.

    Returns:
      The rows of `summary.csv` by name of the pair.

    Raises:
      UserError: before any work, one line that names the flag or the line of the table; at the end, the number of pairs
        that failed.
    """
    every = list_pairs(options)
    check_summary(options.output_dir)
    rows = {name: Row(pair.fixed, pair.moving) for name, pair in every.items()}
    for name, pair in every.items():
        if (scores := finished_scores(pair)) is not None:
            rows[name] = rows[name]._replace(status="done", scores=scores)
    open_pairs = {name: pair for name, pair in every.items() if rows[name].status == "open"}
    if open_pairs:
        _check_shared_files(options)
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir={options.output_dir}: cannot be made ({error.strerror})") from error
    if not os.access(options.output_dir, os.W_OK | os.X_OK):
        raise UserError(f"--output_dir={options.output_dir}: cannot be written; choose another")
    for name, pair in list(open_pairs.items()):
        if missing := [path for path in pair.files_read if not os.path.exists(path)]:
            _fail(rows, name, UserError(f"{missing[0]}: not found"))
            del open_pairs[name]
    if skipped := sum(row.status == "done" for row in rows.values()):
        print(f"{skipped} of {len(rows)} pairs are finished", flush=True)

    pictures: Pictures = {}
    most = CPU_VOXELS if jax.default_backend() == "cpu" else ACCELERATOR_VOXELS
    progress, groups = _Progress(len(open_pairs)), Groups(most)
    for chunk in _chunks(open_pairs, rows, progress):
        for batch in groups.batches(chunk):
            for name, scores in _register(batch, chunk, rows, pictures):
                if scores is not None:
                    rows[name] = rows[name]._replace(status="done", scores=scores)
                progress.done(name, scores)
                write_table(rows, options.output_dir)
    write_table(rows, options.output_dir)
    _draw(every, rows, pictures, options.output_dir)
    if failed := sum(row.status == "failed" for row in rows.values()):
        raise UserError(f"{failed} of {len(rows)} pairs failed; {options.output_dir / 'summary.csv'} says why")
    return rows


def _check_shared_files(options: BatchOptions) -> None:
    """Reads what all pairs share: what is wrong there is a mistake in a flag, not in each pair.

    Raises:
      UserError: the model, the reference or its mask cannot be read.
    """
    if options.workdir is not None:
        load(options.workdir)
    for path in (options.reference, options.fixed_mask):
        if path is not None:
            read_image(path)


def finished_scores(options: Options) -> dict[str, Any] | None:
    """Returns the content of `scores.json` of an earlier registration of the same files and options, or None."""
    path = options.output_dir / SCORES
    try:
        scores = read_json(path)
        newest = max(file.stat().st_mtime for file in (*options.files_read, *_model_files(options)))
        if scores["options"] != written_options(options) or newest > path.stat().st_mtime:
            return None
        return scores if all((options.output_dir / name).exists() for name in scores["files"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _model_files(options: Options) -> list[Path]:
    """The files of the models that a pair's options name by their folders."""
    folders = [Path(folder) for folder in (options.workdir, options.features) if folder is not None]
    files = [folder / name for folder in folders for name in (CONFIG, WEIGHTS)]
    files += [path for folder in folders for path in (folder / "checkpoints").rglob("*")]
    return [path for path in files if path.is_file()]


class _Progress:
    """Prints a line for each pair that ends: the rate and the time left."""

    def __init__(self, total: int):
        self._total, self._ended, self._start = total, 0, time.perf_counter()

    def done(self, name: str, scores: dict[str, Any] | None = None) -> None:
        self._ended += 1
        rate = self._ended / max(time.perf_counter() - self._start, 1e-9)
        minutes, seconds = divmod(round((self._total - self._ended) / rate), 60)
        score = next((key for key in ("dice", "ncc_overlap") if scores and scores["after"].get(key) is not None), None)
        result = f"  {score} {scores['before'][score]:.3g} to {scores['after'][score]:.3g}" if scores and score else ""
        place = f"{self._ended:4} of {self._total}"
        print(f"{place}  {rate:.2f} pairs/s  {minutes}:{seconds:02} left  {name}{result}", flush=True)


def _fail(rows: dict[str, Row], name: str, error: Exception) -> None:
    message = " ".join(str(error).split())[:_LONGEST_MESSAGE] or type(error).__name__
    rows[name] = rows[name]._replace(status="failed", message=message)
    print(f"{name}: {message}", flush=True)


def _chunks(pairs: dict[str, Options], rows: dict[str, Row], progress: _Progress) -> Iterator[dict[str, Pair]]:
    """Reads pairs, some at a time."""
    chunk, voxels, chosen = {}, 0, None
    for name, options in pairs.items():
        try:
            pair = read_pair(options, name=name, chosen=chosen)
        except FAULTS_OF_A_PAIR as error:
            _fail(rows, name, error)
            progress.done(name)
            continue
        if options.workdir is not None:
            chosen = pair.registration, pair.affine  # the run is loaded once
        chunk[name] = pair
        voxels += pair.inputs.fixed_weights.size + pair.inputs.moving_weights.size
        if voxels > CHUNK_VOXELS or len(chunk) == CHUNK_PAIRS:
            yield chunk
            chunk, voxels = {}, 0
    if chunk:
        yield chunk


def _register(
    batch: Batch, chunk: dict[str, Pair], rows: dict[str, Row], pictures: Pictures
) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Registers a batch; yields the scores of each pair when it is written, None where it has failed."""
    clock = Clock(prints=False)
    pairs = [chunk[name] for name in batch.names]
    # A batch of another size would be compiled again.
    copies = [dataclasses.replace(pairs[-1], name=None)] * (batch.size - len(pairs))
    found: Sequence[Maps | Exception]
    try:
        found = solve([*pairs, *copies], clock.done, compile_ahead=batch.is_first)
    except FAULTS_OF_A_PAIR as error:
        found = [error] * len(pairs)
    shared = {step: round(seconds / len(pairs), 3) for step, seconds in clock.seconds.items()}
    for name, pair, maps in zip(batch.names, pairs, found, strict=False):
        try:
            if isinstance(maps, Exception):
                raise maps
            own = Clock(prints=False, before=shared)
            options = pair.options
            with pair.speaking(), output_folder(options.output_dir, output_names(pair.inputs), options.files_read):
                scores = finish(pair, maps, own)
                for line in described_guides(scores["guides"], pair.inputs.unit):
                    print(line)
        except FAULTS_OF_A_PAIR as error:
            _fail(rows, name, error)
            yield name, None
            continue
        pictures[name] = thumbnails(pair, maps)
        yield name, scores


def _draw(every: dict[str, Options], rows: dict[str, Row], pictures: Pictures, folder: Path) -> None:
    """Draws the pages; pairs that were finished earlier are drawn from their files."""
    chosen = None
    for name, options in every.items():
        if rows[name].status != "done" or name in pictures:
            continue
        with contextlib.suppress(*FAULTS_OF_A_PAIR), contextlib.redirect_stdout(io.StringIO()):
            pair = read_pair(options, chosen=chosen)
            if options.workdir is not None:
                chosen = pair.registration, pair.affine  # the run is loaded once
            field, _ = read_field(options.output_dir / FIELD)
            whole = jnp.asarray(extend(field, pair.inputs.shape))
            pictures[name] = thumbnails(pair, Maps(whole, pair.start.matrix, whole, whole))
    ordered = {name: pictures[name] for name in every if name in pictures}
    if ordered:
        draw_pages(ordered, folder)
