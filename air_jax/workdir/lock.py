"""One run at a time writes into a workdir."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from air_jax.errors import UserError
from air_jax.runtime.files import read_bytes, replace_text

_HOLDER = ".running"  # says which process writes into the workdir


@contextlib.contextmanager
def only_run(workdir: Path) -> Iterator[None]:
    """Holds a workdir as long as the block runs. The system ends the hold with the process, however it ends.

    Args:
      workdir: an existing folder.

    Raises:
      UserError: another run holds it; one line gives its process and host.
    """
    handle, holder = os.open(workdir, os.O_RDONLY), workdir / _HOLDER
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            who = _read(holder) or "another process"
            raise UserError(
                f"{workdir}: {who} is training into it; wait for its end, or choose another --workdir"
            ) from error
        if before := _read(holder):
            print(f"{workdir}: {before} did not come to its end; going on in its place", flush=True)
        try:
            replace_text(holder, f"process {os.getpid()} on {socket.gethostname()}\n")
        except OSError as error:
            raise UserError(f"--workdir={workdir}: cannot be written ({error.strerror}); choose another") from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                holder.unlink()
    finally:
        os.close(handle)


def _read(holder: Path) -> str:
    try:
        return " ".join(read_bytes(holder).decode(errors="replace").split())
    except OSError:
        return ""
