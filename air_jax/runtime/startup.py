"""What a run spends before its first step, item by item, and the compilation cache that shortens it the next time."""

import contextlib
import hashlib
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from air_jax.runtime.files import cache_folder


def use_compilation_cache() -> Path:
    """Lets JAX keep what it compiles from one process to the next; returns the folder.

    That is `JAX_COMPILATION_CACHE_DIR` where it is set, otherwise `air_jax` in the user's cache folder
    (`XDG_CACHE_HOME`, or `~/.cache`), apart for each kind of processor, since homes are shared between machines. A
    folder that cannot be written costs a warning of JAX's, no more.
    """
    folder = jax.config.jax_compilation_cache_dir
    if not folder:
        folder = cache_folder() / "xla" / _processor()
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # A run compiles a few dozen small programs besides the large one; together they cost as much.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return Path(folder)


def _processor() -> str:
    """A name for this kind of processor: programs compiled for another's instructions would crash here."""
    description = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        description = "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return f"{platform.machine()}-{hashlib.sha256(description.encode()).hexdigest()[:8]}"


class CompileClock:
    """Adds up the time that JAX spends tracing, lowering and compiling, and counts programs and cache hits."""

    def __init__(self):
        self.programs, self.from_cache = 0, 0
        self._spans: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._on_duration)
        jax.monitoring.register_event_listener(self._on_event)

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return sum(end - start for start, end in self._spans)

    def _on_duration(self, event: str, seconds: float, **_) -> None:
        # Other threads compile beside this one, and do not hold it up.
        if not event.startswith("/jax/core/compile/") or threading.current_thread() is not threading.main_thread():
            return
        self.programs += event.endswith("/backend_compile_duration")
        end = time.perf_counter()
        # What is traced inside another function reports first, and must not count twice.
        while self._spans and self._spans[-1][0] >= end - seconds:
            self._spans.pop()
        self._spans.append((end - seconds, end))

    def _on_event(self, event: str, **_) -> None:
        self.from_cache += event == "/jax/compilation_cache/cache_hits"


_clock = CompileClock()  # one for the process: JAX has no way to remove a listener


class StartUp:
    """Times the items of a run's start, each without the compilation in it, which is an item of its own."""

    def __init__(self, imports: float | None = None):
        """`imports` is the time they took, in seconds, where the caller knows it."""
        self._seconds = {} if imports is None else {"imports": imports}
        self._compiled = _clock.seconds, _clock.programs, _clock.from_cache

    @contextlib.contextmanager
    def item(self, name: str) -> Iterator[None]:
        """Times what is inside as the item `name`."""
        start, compiled = time.perf_counter(), _clock.seconds
        yield
        seconds = time.perf_counter() - start - (_clock.seconds - compiled)
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def line(self) -> str:
        """The items and their sum, as a line of text."""
        seconds, programs, from_cache = self._compiled
        items = self._seconds | {"compile": _clock.seconds - seconds}
        listed = ", ".join(f"{name} {value:.1f} s" for name, value in items.items())
        return (
            f"start-up: {sum(items.values()):.1f} s: {listed} "
            f"({_clock.from_cache - from_cache} of {_clock.programs - programs} programs from the cache)"
        )
