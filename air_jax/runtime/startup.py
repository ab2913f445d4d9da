"""The time before a run's first step, item by item, and the compilation cache that shortens the next start."""

import contextlib
import hashlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from air_jax.runtime.files import cache_folder


def use_compilation_cache() -> Path:
    """Makes JAX keep compiled programs from one process to the next.

    The folder is `JAX_COMPILATION_CACHE_DIR` where that is set, otherwise one in `cache_folder()` for each kind of
    processor, because machines may share a home folder. Where the latter cannot be made or read, there is no cache; JAX
    would warn of each program.

    Returns:
      The folder.
    """
    config: Any = jax.config  # older JAX has no types for its options
    folder = config.jax_compilation_cache_dir
    if not folder:
        folder = cache_folder() / "xla" / _processor()
        jax.config.update("jax_compilation_cache_dir", str(folder) if _can_be_read(folder) else None)
    # A run compiles a few dozen small programs, which together take as long as the large one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return Path(folder)


def _can_be_read(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.R_OK | os.X_OK)


def _processor() -> str:
    """Returns a name for this kind of processor: a program with instructions of another kind would crash."""
    description = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        description = "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return f"{platform.machine()}-{hashlib.sha256(description.encode()).hexdigest()[:8]}"


class CompileClock:
    """Measures the time that JAX spends tracing, lowering and compiling in the main thread.

    Attributes:
      programs: number of programs compiled, or read from the cache.
      from_cache: number of those read from the cache.
    """

    def __init__(self):
        self.programs, self.from_cache = 0, 0
        self._spans: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._on_duration)
        jax.monitoring.register_event_listener(self._on_event)

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return sum(end - start for start, end in self._spans)

    def _on_duration(self, event: str, duration_secs: float, **_) -> None:
        # Compilation in other threads does not delay the main thread.
        if not event.startswith("/jax/core/compile/") or threading.current_thread() is not threading.main_thread():
            return
        self.programs += event.endswith("/backend_compile_duration")
        end = time.perf_counter()
        # A function traced inside another one is reported first; its time must not count twice.
        while self._spans and self._spans[-1][0] >= end - duration_secs:
            self._spans.pop()
        self._spans.append((end - duration_secs, end))

    def _on_event(self, event: str, **_) -> None:
        self.from_cache += event == "/jax/compilation_cache/cache_hits"


_clock = CompileClock()  # one for the process, because JAX cannot remove a listener


class StartUp:
    """Times the items of a run's start. Compilation is an item of its own, and is not part of the others."""

    def __init__(self, *, imports: float | None = None):
        """Starts without items, or with the one that the caller has measured.

        Args:
          imports: time of the imports, in seconds. Default: not known.
        """
        self._seconds = {} if imports is None else {"imports": imports}
        self._compiled = _clock.seconds, _clock.programs, _clock.from_cache

    @contextlib.contextmanager
    def item(self, name: str) -> Iterator[None]:
        """Times the block as an item.

        Args:
          name: name of the item; blocks of one name add up.
        """
        start, compiled = time.perf_counter(), _clock.seconds
        yield
        seconds = time.perf_counter() - start - (_clock.seconds - compiled)
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def line(self) -> str:
        """Returns the items and their sum, as a line of text."""
        seconds, programs, from_cache = self._compiled
        items = self._seconds | {"compile": _clock.seconds - seconds}
        listed = ", ".join(f"{name} {value:.1f} s" for name, value in items.items())
        return (
            f"start-up: {sum(items.values()):.1f} s: {listed} "
            f"({_clock.from_cache - from_cache} of {_clock.programs - programs} programs from the cache)"
        )
