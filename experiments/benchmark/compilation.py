"""Time to compile the train step of a config, by its parts, and the speed of the compiled step.

  python -m experiments.benchmark.compilation [--configs mnist_best cardiac ...] [--steps 2]

Each config runs in a process of its own, on one device, on random images, without a cache of compiled programs. Times
of tracing, lowering and compiling are JAX's own records of the first dispatch. CPU seconds are those of all threads in
that dispatch; other work on the machine changes them less. The last columns are the fastest of `REPEATS` dispatches.
"""

import argparse
import collections
import json
import subprocess
import sys
import time

import jax

from experiments.benchmark import training

REPEATS = 8
# JAX's names of the parts of a compilation.
PARTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}


def measure(name: str, steps: int) -> dict[str, float]:
    """Seconds of the parts of the first dispatch, its CPU seconds, and milliseconds of a step afterwards."""
    jax.config.update("jax_enable_compilation_cache", False)
    call = training.prepare_config(name, jax.local_devices()[:1], steps_a_call=steps)
    seconds = collections.defaultdict(float)

    def record(event: str, duration: float, **_) -> None:
        # A traced function may contain others, whose time would count twice: the step's own is the longest.
        if event in PARTS:
            seconds[PARTS[event]] = max(seconds[PARTS[event]], duration)

    jax.monitoring.register_event_duration_secs_listener(record)
    start = time.process_time()
    call()
    found = dict(seconds) | {"cpu": time.process_time() - start}
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = (1e3 * min(column) / steps for column in zip(*times, strict=True))
    return found | {"step": wall, "step_cpu": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", choices=training.SHAPES, default=list(training.SHAPES))
    parser.add_argument("--steps", type=int, default=2, help="steps in one dispatch")
    parser.add_argument("--only", help="one config, in this process")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.steps)))
        return
    print("| config | trace, s | lower, s | compile, s | CPU, s | step, ms | step, CPU ms |")
    print(f"|{'---|' * 7}")
    for name in arguments.configs:
        command = [sys.executable, "-m", "experiments.benchmark.compilation", "--only", name]
        command += ["--steps", str(arguments.steps)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        parts = " | ".join(f"{found[part]:.1f}" for part in ("trace", "lower", "compile", "cpu", "step", "step_cpu"))
        print(f"| {name}.py | {parts} |", flush=True)


if __name__ == "__main__":
    main()
