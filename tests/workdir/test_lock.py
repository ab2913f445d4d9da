"""One run at a time in a workdir."""

import multiprocessing
import os
import signal
import socket

import pytest

from air_jax import UserError
from air_jax.workdir.lock import only_run


def _hold(workdir, held, release):
    with only_run(workdir):
        held.set()
        release.wait(60)


@pytest.mark.slow
def test_a_second_run_is_refused_and_one_after_a_killed_run_goes_on(tmp_path, capsys):
    context = multiprocessing.get_context("forkserver")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(60)
    message = f"process {process.pid} on {socket.gethostname()} is training into it"
    with pytest.raises(UserError, match=message) as error, only_run(tmp_path):
        pytest.fail("the workdir was taken")
    assert "\n" not in str(error.value)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with only_run(tmp_path):
        assert f"process {process.pid} on {socket.gethostname()} did not come to its end" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    with only_run(tmp_path):
        assert not capsys.readouterr().out
