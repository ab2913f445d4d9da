"""Speed side by side: air_jax against PyTorch on the same machine, in the same run.

  python -m experiments.benchmark [--works train warp ...] [--contenders air_jax "torch eager" ...]

Every contender does every piece of work in a process of its own, in turns: first each once, then each again, for
`--rounds` rounds, so that a busy minute of the machine falls on all. A process calls twice to compile and warm up, then
times `repeats` calls; the figure is the median over all rounds. On a GPU a call starts several warps or forward passes,
`--in_a_row`, and waits for the last. What it prints stands in `results/`, as JSON and text. PyTorch contenders are left
out where PyTorch is not installed (`pip install torch`).
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from experiments.benchmark import machine
from experiments.benchmark.works import CALLS_IN_A_ROW, VOLUME_SHAPE, Work, works

FOLDER = Path(__file__).resolve().parent
# Of the train step.
BATCH_SIZES, MORE_BATCH_SIZES = [128], [1_024, 8_192, 32_768]
CONTENDERS = ("air_jax", "torch eager", "torch compile", "torch cuda graph")


def run_here(contender: str, name: str, work: Work | None, shape: tuple[int, ...]) -> dict:
    """Does one piece of work in this process; returns its times in seconds."""
    started = time.perf_counter()
    if name == "ceilings":
        return machine.ceilings()
    if contender == "air_jax":
        from experiments.benchmark import jax_contender

        call, cost = jax_contender.prepare(name, shape, work.in_a_row)
    else:
        from experiments.benchmark import torch_contender

        mode = contender.removeprefix("torch ")
        call, cost = torch_contender.prepare(name, shape, mode, work.in_a_row), {}
    prepared_at = time.perf_counter()
    seconds = []
    for _ in range(2 + work.repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    first, _, *steady = seconds
    compile_seconds = first - statistics.median(steady)
    return {"prepare": prepared_at - started, "compile": compile_seconds, "seconds": steady, **cost}


def run_apart(contender: str, work: str, options: list[str]) -> dict | None:
    """`run_here` in a process of its own; None, with a line that says why, when the contender cannot do it."""
    command = [sys.executable, "-m", "experiments.benchmark", *options, "--only", contender, work]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parent.parent)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{contender}, {work}: left out ({reason})", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def table(report: dict) -> str:
    """The report as a Markdown table: times of a call and their spread, against air_jax, and against the machine."""
    lines = [
        "| work | contender | ms a call (quartiles) | a second | of air_jax's time | GFLOP/s | GB/s | compile, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work in report["works"].values():
        own = work["contenders"].get("air_jax")
        for name, figures in work["contenders"].items():
            ratio = f"{figures['median'] / own['median']:.2f} x" if own else ""
            low, high = (1e3 * figures[key] for key in ("lower_quartile", "upper_quartile"))
            per_second = f"{work['count'] / figures['median']:,.4g} {work['unit']}s"
            achieved = " | ".join(
                _achieved(work[cost] / figures["median"], report["ceilings"][f"{cost}_per_second"])
                if work.get(cost)
                else ""
                for cost in ("flops", "bytes")
            )
            lines.append(
                f"| {work['title']} | {name} | {1e3 * figures['median']:,.1f} ({low:,.1f} to {high:,.1f}) "
                f"| {per_second} | {ratio} | {achieved} | {figures['compile']:.1f} |"
            )
    return "\n".join(lines)


def _achieved(rate: float, ceiling: float) -> str:
    return f"{rate / 1e9:,.1f} ({100 * rate / ceiling:.0f} %)"


def summarize(runs: list[dict]) -> dict:
    """The medians over the runs of one contender at one piece of work."""
    seconds = [value for run in runs for value in run["seconds"]]
    quartiles = statistics.quantiles(seconds, n=4)
    return {
        "median": statistics.median(seconds),
        "lower_quartile": quartiles[0],
        "upper_quartile": quartiles[2],
        "compile": statistics.median(run["compile"] for run in runs),
        "prepare": statistics.median(run["prepare"] for run in runs),
    }


def measure(name: str, work: Work, contenders: list[str], rounds: int, options: list[str]) -> dict:
    """Lets the contenders do one piece of work in turns, each in processes of its own."""
    runs = {contender: [] for contender in contenders}
    for _ in range(rounds):
        for contender in list(runs):
            run = run_apart(contender, name, options)
            if run is None:
                del runs[contender]
            else:
                runs[contender].append(run)
    counted = [run["flops"] for found in runs.values() for run in found if "flops" in run]
    return {
        "title": work.title,
        "unit": work.unit,
        "count": work.count,
        "bytes": work.bytes,
        "flops": counted[0] if counted else None,
        "contenders": {contender: summarize(found) for contender, found in runs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", default=[""], help="those whose names begin so; default: all")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--batch_sizes", type=int, nargs="+", help="of the train step; default: 128, on a GPU also more"
    )
    parser.add_argument("--volume_shape", type=int, nargs=3, default=VOLUME_SHAPE)
    parser.add_argument("--in_a_row", type=int, help=f"of warps and forward passes; default: {CALLS_IN_A_ROW} on a GPU")
    parser.add_argument("--output", type=Path, default=None, help="default: results/DATE_DEVICE.json beside this file")
    parser.add_argument("--only", nargs=2, metavar=("CONTENDER", "WORK"), help="one measurement, in this process")
    arguments = parser.parse_args()
    shape = tuple(arguments.volume_shape)
    if arguments.only:
        contender, name = arguments.only
        work = None if name == "ceilings" else works(arguments.batch_sizes or [], shape, arguments.in_a_row or 1)[name]
        print(json.dumps(run_here(contender, name, work, shape)))
        return

    contenders = list(arguments.contenders)
    if not importlib.util.find_spec("torch"):
        contenders = [name for name in contenders if not name.startswith("torch")]
        print("PyTorch is not installed: air_jax alone", flush=True)
    elif "torch cuda graph" in contenders:
        import torch

        if not torch.cuda.is_available():
            contenders.remove("torch cuda graph")

    ceilings = run_apart("air_jax", "ceilings", [])  # in a process of its own as well: JAX would keep a GPU's memory
    if ceilings is None:
        sys.exit(1)
    more = [] if ceilings["platform"] == "cpu" else MORE_BATCH_SIZES
    batch_sizes = arguments.batch_sizes or BATCH_SIZES + more
    in_a_row = arguments.in_a_row or (1 if ceilings["platform"] == "cpu" else CALLS_IN_A_ROW)
    options = ["--batch_sizes", *map(str, batch_sizes), "--volume_shape", *map(str, shape), "--in_a_row", str(in_a_row)]
    report = {"machine": machine.describe() | {"device": ceilings["device"]}, "ceilings": ceilings, "works": {}}
    for name, work in works(batch_sizes, shape, in_a_row).items():
        if name.startswith(tuple(arguments.works)):
            report["works"][name] = measure(name, work, contenders, arguments.rounds, options)
            print(*table(report).splitlines()[-len(report["works"][name]["contenders"]) :], sep="\n", flush=True)

    peak = report["ceilings"]
    text = (
        f"{json.dumps(report['machine'])}\n"
        f"ceilings: {peak['flops_per_second'] / 1e9:,.0f} GFLOP/s, {peak['bytes_per_second'] / 1e9:,.1f} GB/s\n\n"
        f"{table(report)}\n"
    )
    name = "_".join([report["machine"]["date"], *ceilings["device"].lower().split(), *filter(None, arguments.works)])
    output = arguments.output or FOLDER / "results" / f"{name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n")
    output.with_suffix(".md").write_text(text)
    print(f"\n{text}\n{output}")


if __name__ == "__main__":
    main()
