"""Runs in forked children, which die as processes die: by a signal, in the middle of a write, on a full disk."""

import contextlib
import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

NUM_STEPS = 40


def small_config():
    """Returns the config of digits with 40 small steps and a checkpoint after every 4."""
    from configs import digits

    config = digits.get_config()
    config.num_train_steps, config.batch_size, config.log_every, config.eval_every = NUM_STEPS, 8, 2, 4
    config.eval.num_pairs, config.eval.batch_size = 8, 8
    return config


def preload() -> None:
    """Imports what children need, so that they need not; starts no backend of JAX and no thread."""
    for name in ("main", "register", "training.run", "file_registration.run", "data.digits", "visualize"):
        importlib.import_module(f"air_jax.{name}")
    importlib.import_module("configs.digits")
    importlib.import_module("air_jax.data.digits").load()  # what it imports, another user may not be able to read


def train_small(workdir: Path, coordinator: str | None = None, index: int | None = None) -> None:
    """Trains as the command does, without the final scores and figures; with a coordinator as one of two processes."""
    from air_jax.runtime import processes, startup
    from air_jax.training import run

    run.evaluate = lambda *_, **__: {}
    startup.use_compilation_cache()

    def work() -> None:
        with processes.joined(coordinator, None if coordinator is None else 2, index, detect=False):
            run.train(small_config(), workdir)

    guarded(work)


def guarded(main: Callable[[], object]) -> None:
    """Runs a command's work as `air_jax.runtime.command_line.run` does: one line and a status for a user's mistake."""
    from air_jax.runtime import command_line, streams

    def work() -> None:
        main()

    streams.keep_streams()
    streams.ignore_closed_loops()
    try:
        command_line._guarded(work, "train")
    except SystemExit as end:
        if end.code:
            command_line._end_without_threads(end.code)
        raise


def wait_for_lines(pid: int, workdir: Path, number: int) -> None:
    """Waits until a run's log has a number of lines, or the run has ended."""
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        with contextlib.suppress(OSError):
            if (workdir / "metrics.jsonl").read_text().count("\n") >= number:
                return
        time.sleep(0.002)


def start(work: Callable[[], None], log: Path) -> int:
    """Forks a child that does some work; returns its process id. Its output goes to a file."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's, about threads: this process has started none
        pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def end_of(pid: int, seconds: float = 300.0) -> int:
    """Waits for a child; returns its exit status, the negative number of its signal, or -1000 if it hangs."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1000


def kill_at_random(pid: int, seconds: float, drawn: random.Random) -> None:
    """Kills a child after a random part of `seconds`."""
    time.sleep(drawn.uniform(0, seconds))
    os.kill(pid, signal.SIGKILL)


def kill_in_write(pid: int, checkpoints: Path, drawn: random.Random, seconds: float = 60.0) -> bool:
    """Kills a child while it writes a checkpoint, drawn at random; returns whether one was left incomplete."""
    number, seen = drawn.randint(1, NUM_STEPS // 4 - 1), set()
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        incomplete = _incomplete(checkpoints)
        seen |= incomplete
        if incomplete and len(seen) >= number:
            time.sleep(drawn.uniform(0, 0.01))
            break
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return bool(_incomplete(checkpoints))


def _incomplete(checkpoints: Path) -> set[str]:
    try:
        names = os.listdir(checkpoints)
    except OSError:
        return set()
    return {name for name in names if not (checkpoints / name / "commit_success.txt").exists()}


def content(workdir: Path) -> tuple[list[dict], dict[str, bytes]]:
    """Returns the log without its times, and the bytes of the last checkpoint's parameters and optimizer's state."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    lines = [{key: value for key, value in line.items() if "second" not in key} for line in lines]
    arrays = {}
    with ocp.StandardCheckpointer() as checkpointer:
        for name in ("params", "opt_state"):
            tree = checkpointer.restore((workdir / "checkpoints" / str(NUM_STEPS) / name).absolute())
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
                arrays[name + jax.tree_util.keystr(path)] = np.asarray(leaf).tobytes()
    return lines, arrays


def compared_in_child(workdir: Path, whole: Path, log: Path) -> bool:
    """Whether two runs have the same log and the same last checkpoint, bit for bit."""

    def compare() -> None:
        sys.exit(0 if content(workdir) == content(whole) else 7)

    return end_of(start(compare, log)) == 0
