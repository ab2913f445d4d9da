"""One trial of each kind: a run or a registration is killed, stopped, damaged or disturbed.

A trial has a folder of its own, `whole` (the workdir of the same run left in peace) and a random generator. It returns
what it found by name: 1 where that is so, 0 where not.
"""

import json
import os
import random
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from experiments.reliability.runs import (
    NUM_STEPS,
    compared_in_child,
    end_of,
    guarded,
    kill_at_random,
    kill_in_write,
    start,
    train_small,
    wait_for_lines,
)

SECONDS = "seconds.json"  # how long `whole` took
Found = dict[str, int | float]


def killed(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """SIGKILL, half of the times inside a checkpoint write; the same command then goes on."""
    pid, inside = start(lambda: train_small(folder / "run"), folder / "log"), False
    if drawn.random() < 0.5:
        inside = kill_in_write(pid, folder / "run" / "checkpoints", drawn)
    else:
        kill_at_random(pid, json.loads((whole / SECONDS).read_text()), drawn)
        end_of(pid)
    return {"inside a write": inside, "bit-equal": _goes_on(folder, whole)}


def stopped(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """SIGTERM, SIGINT or SIGHUP: the run saves, ends with 75 and goes on."""
    pid, number = start(lambda: train_small(folder / "run"), folder / "log"), drawn.randint(1, 15)
    wait_for_lines(pid, folder / "run", number)
    begun = time.monotonic()
    os.kill(pid, drawn.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))  # also one that has just ended
    status = end_of(pid)
    seconds = time.monotonic() - begun
    return {"ended with 75": status == 75, "bit-equal": _goes_on(folder, whole), "longest seconds": round(seconds, 2)}


def damaged(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """One bit of one file of a checkpoint is flipped: what is restored is whole, or the damage is named."""
    checkpoints = whole / "checkpoints"
    file = drawn.choice([path for path in sorted(checkpoints.rglob("*")) if path.is_file() and path.stat().st_size])
    step = file.relative_to(checkpoints).parts[0]
    shutil.copytree(checkpoints / step, folder / step)
    copy = folder / file.relative_to(checkpoints)
    content = bytearray(copy.read_bytes())
    content[drawn.randrange(len(content))] ^= 1 << drawn.randrange(8)
    copy.write_bytes(content)
    status = end_of(start(lambda: _restored_as(folder / step, checkpoints / step), folder / "log"))
    return {"noticed": status == 5, "the same arrays": status == 0, "noticed or the same": status in (0, 5)}


def _restored_as(folder: Path, whole: Path) -> None:
    """Ends with 0 where a checkpoint is restored as it was, with 5 where its damage is noticed, else with 6."""
    import jax
    import numpy as np

    from air_jax.workdir import checkpoint

    def read(folder: Path) -> dict:
        checkpoint._read_scores(folder)
        return {name: checkpoint._read_item(folder, name) for name in ("params", "opt_state")}

    try:
        found = read(folder.absolute())
    except Exception:
        sys.exit(5)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(read(whole.absolute())), strict=True)
    sys.exit(0 if all(np.array_equal(a, b) for a, b in pairs) else 6)


def two_runs(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """Two runs start together in one workdir: one is refused, the other ends as if it had been alone."""
    pids = [start(lambda: train_small(folder / "run"), folder / "log")]
    time.sleep(drawn.uniform(0, 0.2))
    pids.append(start(lambda: train_small(folder / "run"), folder / "log"))
    refused = sorted(map(end_of, pids)) == [0, 2]
    return {"one refused": refused, "bit-equal": compared_in_child(folder / "run", whole, folder / "log")}


def two_registrations(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """Two registrations of different images start together in one folder: the files are of one of them."""
    import numpy as np

    from air_jax import io

    del whole
    image = np.random.default_rng(0).random((24, 24, 12)).astype(np.float32)
    for index in range(3):
        io.write_image(folder / f"{index}.nii.gz", np.roll(image, index, axis=0), np.eye(4))
    pids = []
    for moving in (1, 2):
        pids.append(start(lambda moving=moving: _register(folder, moving), folder / "log"))
        time.sleep(drawn.uniform(0, 0.1))
    ends = [end_of(pid) for pid in pids]
    scores = json.loads((folder / "out" / "scores.json").read_text())
    one = sorted(os.listdir(folder / "out")) == sorted([*scores["files"], "scores.json"])
    winner = f"{1 + ends.index(0)}.nii.gz" if 0 in ends else "none"
    return {"one refused": sorted(ends) == [0, 2], "one result": one and winner in json.dumps(scores)}


def _register(folder: Path, moving: int) -> None:
    from air_jax.file_registration.options import Options
    from air_jax.file_registration.run import register_files
    from air_jax.runtime import startup

    startup.use_compilation_cache()
    options = Options(folder / "0.nii.gz", folder / f"{moving}.nii.gz", folder / "out", refine_steps=6)
    guarded(lambda: register_files(options))


def stdout_closed(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """Standard output is a pipe whose reader has gone: the run goes on to its end."""
    del drawn

    def train() -> None:
        reading, writing = os.pipe()
        os.dup2(writing, 1)
        os.close(reading)
        train_small(folder / "run")

    status = end_of(start(train, folder / "log"))
    return {"bit-equal": status == 0 and compared_in_child(folder / "run", whole, folder / "log")}


def full_disk(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """Files may not grow beyond a random size, as on a full disk: one line, and afterwards the run goes on."""
    largest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    size = drawn.randint(100, largest)

    def train() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        from air_jax.runtime import startup

        startup.use_compilation_cache()
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        train_small(folder / "run")

    # The log is an ordinary file also, and may be cut off; so status and traceback are read from a pipe.
    status, text = _said(train, folder / "said")
    return {"one line": status == 0 or _is_one_line(status, text), "bit-equal": _goes_on(folder, whole)}


def read_only(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """The workdir turns read-only during training: one line, and the run goes on when it may write again."""
    run, number = folder / "run", drawn.randint(1, 15)
    run.mkdir()
    nobody = 65534 if os.geteuid() == 0 else None  # for root, nothing is read-only
    if nobody is not None:
        os.chown(run, nobody, nobody)

    def train() -> None:
        if nobody is not None:
            os.setuid(nobody)
        train_small(run)

    def close(pid: int) -> None:
        wait_for_lines(pid, run, number)
        for path in (run / "checkpoints", run):
            if path.exists():
                path.chmod(0o555)

    status, text = _said(train, folder / "said", meanwhile=close)
    for path in (run, run / "checkpoints"):
        if path.exists():
            path.chmod(0o755)
    return {"one line": _is_one_line(status, text), "bit-equal": _goes_on(folder, whole)}


def one_of_two_killed(folder: Path, whole: Path, drawn: random.Random) -> Found:
    """SIGKILL for one of two processes of a run: the other ends with one line; the same two commands go on."""
    del whole  # two processes add gradients in another order than one
    run = folder / "run"

    def together() -> list[int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return [
            start(lambda index=index: train_small(run, f"127.0.0.1:{port}", index), folder / f"log_{index}")
            for index in range(2)
        ]

    pids, killed = together(), drawn.randrange(2)
    wait_for_lines(pids[0], run, drawn.randint(1, 15))
    os.kill(pids[killed], signal.SIGKILL)
    begun = time.monotonic()
    end_of(pids[killed])
    status = end_of(pids[1 - killed])
    seconds = time.monotonic() - begun
    text = (folder / f"log_{1 - killed}").read_text()
    own = [line for line in text.splitlines() if line.startswith("air_jax: ")]
    one_line = status == 1 and len(own) == 1 and "Traceback" not in text and "Fatal" not in text
    (folder / "log").write_text(text)
    ends = [end_of(pid) for pid in together()]
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    training = [step for step in range(2, NUM_STEPS + 1, 2)]
    complete = ends == [0, 0] and sorted(set(steps)) == training and steps == sorted(steps)
    return {
        "first killed": killed == 0,
        "one line": one_line,
        "went on": complete,
        "longest seconds": round(seconds, 2),
    }


def _goes_on(folder: Path, whole: Path) -> bool:
    """Whether the same command ends well now, with the same log and checkpoint as the run left in peace."""
    status = end_of(start(lambda: train_small(folder / "run"), folder / "log"))
    return status == 0 and compared_in_child(folder / "run", whole, folder / "log")


def _said(work: Callable[[], None], log: Path, meanwhile: Callable[[int], None] = lambda pid: None) -> tuple[int, str]:
    """Returns the exit status of a child, and what it wrote to stderr, which also goes into a file."""
    reading, writing = os.pipe()

    def child() -> None:
        os.dup2(writing, 2)
        work()

    pid = start(child, Path(os.devnull))
    os.close(writing)
    meanwhile(pid)
    status = end_of(pid)
    with os.fdopen(reading) as file:
        text = file.read(100_000)
    log.write_text(f"status {status}\n{text}")
    return status, text


def _is_one_line(status: int, text: str) -> bool:
    own = [line for line in text.splitlines() if line.startswith("air_jax: ")]
    return status == 2 and len(own) == 1 and "Traceback" not in text


TRIALS = {
    "killed": (killed, 100),
    "stopped": (stopped, 30),
    "damaged": (damaged, 500),
    "two runs": (two_runs, 20),
    "two registrations": (two_registrations, 20),
    "stdout closed": (stdout_closed, 20),
    "full disk": (full_disk, 20),
    "read-only": (read_only, 20),
    "one of two killed": (one_of_two_killed, 10),
}
