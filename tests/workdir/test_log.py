"""The log of a run: a last line that a kill has cut is dropped, any other foreign line is named."""

import json

import pytest

from air_jax import UserError
from air_jax.workdir import log

LINES = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}]
TEXT = "".join(json.dumps(line) + "\n" for line in LINES)


def test_lines_are_read_as_they_were_appended(tmp_path):
    assert log.read(tmp_path) == []
    for line in LINES:
        log.append(tmp_path, line)
    assert log.read(tmp_path) == LINES
    log.drop_after(tmp_path, 2)
    assert log.read(tmp_path) == LINES[:1]


@pytest.mark.parametrize("size", range(len(TEXT)))
def test_a_log_that_is_cut_anywhere_keeps_its_whole_lines(tmp_path, size):
    (tmp_path / log.FILE_NAME).write_text(TEXT[:size])
    whole = TEXT[:size].count("\n") + TEXT[:size].endswith("}")  # a newline alone may be missing
    assert log.read(tmp_path) == LINES[:whole]


@pytest.mark.parametrize("foreign", [b"\xff", b"[1]", b"7", b"{}", b'{"step": "2"}', b'{"step": null}', b"\0\0", b"{"])
@pytest.mark.parametrize("before", [True, False])
def test_a_foreign_line_is_named(tmp_path, foreign, before):
    text = TEXT.encode()
    (tmp_path / log.FILE_NAME).write_bytes(foreign + b"\n" + text if before else text + foreign + b"\n")
    with pytest.raises(UserError, match=f"metrics.jsonl: line {1 if before else 3} is no line of a run's log"):
        log.check(tmp_path)
