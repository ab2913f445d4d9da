"""The registration of two files, step by step: read, align, deform, score, write, draw."""

import dataclasses
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import jax
import jax.numpy as jnp

from air_jax._version import __version__
from air_jax.errors import UserError
from air_jax.file_registration.affine_parts import affine_report, described
from air_jax.file_registration.doubt import doubts
from air_jax.file_registration.folder import SCORES, begin, output_folder
from air_jax.file_registration.guided import described_guides, guides_report
from air_jax.file_registration.inputs import Inputs
from air_jax.file_registration.options import NO_AFFINE, Options, check_options
from air_jax.file_registration.outputs import Maps, output_names, write_images, write_transforms
from air_jax.file_registration.pair import Pair, read_pair
from air_jax.file_registration.reports import draw_reports
from air_jax.file_registration.scores import Scores, pair_scores, table
from air_jax.file_registration.solve import solve
from air_jax.runtime.files import replace_text


class Clock:
    """Measures the seconds of each step, and prints them where wanted."""

    def __init__(self, *, prints: bool = True, before: Mapping[str, float] = MappingProxyType({})):
        """Starts. `before`: seconds of steps that have ended, with their sum as "all"."""
        self._prints, self._before = prints, before
        self._start = self._last = time.perf_counter()
        self.seconds: dict[str, float] = dict(before)

    def done(self, name: str) -> None:
        """Ends the step `name`, which began at the end of the step before."""
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self.seconds["all"] = round(self._before.get("all", 0) + now - self._start, 3)
        if self._prints:
            print(f"{now - self._start:7.1f} s  {name} ({now - self._last:.1f} s)", flush=True)
        self._last = now


def register_files(options: Options, *, compile_ahead: bool = False) -> Scores:
    """Registers two files and writes the results into `options.output_dir`.

    Args:
      options: input files, output folder and settings.
      compile_ahead: whether other threads compile the programs of the later steps during the affine registration. It
        needs JAX's persistent cache, see `air_jax.runtime.startup.use_compilation_cache`.

    Returns:
      The content of `scores.json`: `before`, `after`, `affine`, `guides`, `options`, `version`, `doubtful`, `doubts`,
      `seconds` and `files`.

    Raises:
      UserError: one line that names the file or the flag.
    """
    clock = Clock()
    check_options(options)
    pair = read_pair(options)
    clock.done("read")
    with output_folder(options.output_dir, output_names(pair.inputs), options.files_read):
        (maps,) = solve([pair], clock.done, compile_ahead=compile_ahead)
        if isinstance(maps, UserError):
            raise maps
        scores = finish(pair, maps, clock)
    print(table(scores["before"], scores["after"]), flush=True)
    unit = pair.inputs.unit
    if pair.affine != NO_AFFINE:
        print(described(scores["affine"], unit), flush=True)
    for line in described_guides(scores["guides"], unit):
        print(line, flush=True)
    return scores


def finish(pair: Pair, maps: Maps, clock: Clock) -> Scores:
    """Writes the results of a pair into its output folder, which is held: transforms, scores, images, the reports.

    Args:
      pair: the pair.
      maps: its maps.
      clock: is told each step.

    Returns:
      The content of `scores.json`, see `register_files`.

    Raises:
      UserError: a file cannot be written.
    """
    inputs, folder = pair.inputs, pair.options.output_dir
    begin(folder)
    with ThreadPoolExecutor(2) as threads:  # compressing takes longer than the scores, and holds no lock of Python
        written = [threads.submit(write, inputs, maps, folder) for write in (write_transforms, write_images)]
        scores = _before_and_after(pair.options, inputs, maps)
        scores |= doubts(pair, maps.matrix, scores["after"])
        for task in written:
            task.result()
    clock.done("inverse, scores and files")
    draw_reports(inputs, maps.whole, scores, clock.seconds, folder)
    clock.done("report")
    scores |= {"seconds": clock.seconds, "files": output_names(inputs)}
    replace_text(folder / SCORES, json.dumps(scores, indent=2) + "\n")
    return scores


def written_options(options: Options) -> dict[str, str | None]:
    """Returns the options as `scores.json` holds them."""
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    given |= given.pop("guiding").given()
    return {name: None if value is None else str(value) for name, value in given.items()}


def _before_and_after(options: Options, inputs: Inputs, maps: Maps) -> Scores:
    return {
        "before": pair_scores(inputs, jnp.zeros_like(maps.whole), jnp.zeros_like(maps.inverse)),
        "after": pair_scores(inputs, maps.whole, maps.inverse),
        "affine": affine_report(inputs, maps.matrix),
        "guides": guides_report(inputs, maps.whole),
        "options": written_options(options),
        "version": f"air_jax {__version__}, jax {jax.__version__}, {jax.devices()[0].device_kind}",
    }
