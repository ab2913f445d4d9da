"""What a run shows: lines or a bar on the terminal, TensorBoard's files, and a watch of the user's."""

import io
import re
import struct
import sys
import types

import numpy as np
import pytest
from helpers import REPOSITORY
from matplotlib.figure import Figure

from air_jax import UserError
from air_jax.training import watch
from air_jax.training.monitor import Monitor
from air_jax.training.recipe import StepPlan
from air_jax.workdir import log

PLAN = StepPlan(num_train_steps=100, batch_size=8, log_every=1, eval_every=2)
LINE = {"step": 2, "loss": 0.5, "pairs_per_second": 1234.0}
SCORES = {"random_pairs": {"before": {"dice": 0.25}, "after": {"dice": 0.75}}, "seconds_per_pair": 1.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Recorded:
    """A watch that keeps what it gets."""

    def __init__(self):
        self.calls = []

    def scalars(self, step, values):
        self.calls.append(("scalars", step, values))

    def figure(self, step, name, figure):
        self.calls.append(("figure", step, name))

    def finish(self, scores):
        self.calls.append(("finish", scores))


def events_of(folder):
    """The summaries of an event file: step, tag, and the value as a message."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.glob("events*")
    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])  # then its checksum, the event, and a checksum
        event = Event.FromString(data[12 : 12 + size])
        found += [(event.step, value.tag, value) for value in event.summary.value]
        data = data[16 + size :]
    return found


def test_lines_are_logged_printed_and_passed_on(tmp_path, capsys):
    recorded = Recorded()
    with Monitor(tmp_path, PLAN, lambda step: recorded, lambda params, step: {}) as monitor, monitor.running(0):
        monitor.steps(LINE, 61.0)
        monitor.validation(2, {"dice": 0.5, "mse": 0.25}, None)
        monitor.final(SCORES)
    assert capsys.readouterr().out.splitlines() == [
        "step 2/100  loss 0.50000  1,234 pairs/s  1:01 left",
        "  validation: Dice 0.5000, MSE 0.25000",
    ]
    assert log.read(tmp_path) == [LINE, {"step": 2, "validation_dice": 0.5, "validation_mse": 0.25}]
    assert recorded.calls == [
        ("scalars", 2, {"loss": 0.5, "pairs_per_second": 1234.0}),
        ("scalars", 2, {"validation_dice": 0.5, "validation_mse": 0.25}),
        ("finish", {"before/dice": 0.25, "after/dice": 0.75}),
    ]


def test_a_terminal_gets_a_bar_instead_of_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with Monitor(tmp_path, PLAN, lambda step: None, lambda params, step: {}) as monitor, monitor.running(0):
        monitor.steps(LINE, 61.0)
        monitor.validation(2, {"dice": 0.5}, None)
        shown = sys.stdout.getvalue() if isinstance(sys.stdout, Terminal) else sys.stdout.rich_proxied_file.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*\w", "", shown)
    assert "step 2/100" in plain
    assert "loss 0.50000  1,234 pairs/s  1:01 left" in plain
    assert "  validation: Dice 0.5000\n" in plain
    assert "step 2/100  loss" not in plain  # the line of a pipe


def test_figures_are_drawn_about_ten_times_and_at_the_end(tmp_path):
    recorded, drawn = Recorded(), []

    def draw(params, step):
        drawn.append((params, step))
        return {"registration": Figure()}

    with Monitor(tmp_path, PLAN, lambda step: recorded, draw) as monitor, monitor.running(0):
        for step in range(2, 101, 2):
            monitor.validation(step, {"dice": 0.0}, "params")
    assert drawn == [("params", step) for step in range(10, 101, 10)]
    assert [call[1:] for call in recorded.calls if call[0] == "figure"] == [(step, "registration") for _, step in drawn]
    assert recorded.calls[-1] == ("finish", {})  # the run stopped before its scores


def test_tensorboard_files_are_read_back(tmp_path):
    board = watch.open_watch(
        "tensorboard", types.SimpleNamespace(to_json_best_effort=lambda: '{"a": {"b": 3}}'), tmp_path, 0
    )
    board.scalars(2, {"loss": 0.5, "validation_dice": 0.25})
    figure = Figure(figsize=(0.3, 0.2), dpi=100)
    figure.add_axes((0, 0, 1, 1)).imshow(np.zeros((2, 3)))
    board.figure(4, "registration", figure)
    board.finish({"after/dice": 0.75})
    found = events_of(tmp_path / "tensorboard")
    scalars = {(step, tag): value.simple_value for step, tag, value in found if value.HasField("simple_value")}
    assert scalars == {(2, "training/loss"): 0.5, (2, "validation/dice"): 0.25}
    (image,) = [(step, tag, value.image) for step, tag, value in found if value.HasField("image")]
    assert (*image[:2], image[2].width, image[2].height) == (4, "registration", 30, 20)
    final = events_of(tmp_path / "tensorboard" / "final")
    assert {tag: value.simple_value for _, tag, value in final if value.HasField("simple_value")} == {
        "final/after/dice": 0.75
    }
    (start,) = [value for _, tag, value in final if tag == "_hparams_/session_start_info"]
    assert b"a.b" in start.metadata.plugin_data.content


def test_the_watch_of_the_documentation_receives_a_run(tmp_path, monkeypatch):
    text = (REPOSITORY / "docs" / "training.md").read_text()
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "WATCHES[" in code]
    assert code.index("class Wandb")
    assert len(code[code.index("class Wandb") :].splitlines()) <= 16
    logged, finished = [], []
    run = types.SimpleNamespace(
        log=lambda values, step: logged.append((step, values)), summary={}, finish=lambda: finished.append(1)
    )
    wandb = types.SimpleNamespace(init=lambda **given: run, Image=lambda figure: "image")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(watch, "WATCHES", dict(watch.WATCHES))
    exec(compile(code, "docs/training.md", "exec"), {})
    watch.check("wandb")
    config = types.SimpleNamespace(to_json_best_effort=lambda: "{}")
    opened = watch.open_watch("wandb", config, tmp_path, 0)
    opened.scalars(2, {"loss": 0.5})
    opened.figure(2, "registration", Figure())
    opened.finish({"after/dice": 0.75})
    assert logged == [(2, {"loss": 0.5}), (2, {"registration": "image"})]
    assert run.summary == {"after/dice": 0.75}
    assert finished


def test_an_unknown_watch_is_told_in_one_line():
    with pytest.raises(UserError, match=r"--config\.watch='wand': must be one of none, tensorboard"):
        watch.check("wand")
