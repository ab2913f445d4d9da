"""GradICON's derivative: exact, through `jax.jvp`, against the forward differences that others take.

  python -m experiments.consistency.derivatives --output_dir=experiments/consistency

Random smooth fields and their inverses, off by a tenth; 20 pairs of 128 x 128 and one of 48 x 64 x 48. A call is value
and gradient of both fields, jit-compiled; contenders take turns, the time is the median. Two errors, each the largest
among pairs (values) or fields (gradients, as the length of the difference over the length):

  rounding       against the same formula in float64
  off the exact  against the exact derivative in float64 (values: by NumPy, corner by corner)

Steps are in voxels: 0.001, and 0.001 of the image's longest side (the ICON package's `delta`). Where a step crosses the
side of a cell, it divides a jump of the slope by a small number, whatever the precision: few points, large gradients.
That is what differences are off by, far more than by rounding; the exact derivative leaves the jumps out.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from scipy.ndimage import gaussian_filter

from air_jax.losses import gradient_inverse_consistency_loss
from air_jax.transforms import identity_grid, inverse, sample

SHAPES = {"2-D, 20 x 128 x 128": (20, 128, 128), "3-D, 1 x 48 x 64 x 48": (1, 48, 64, 48)}


def gradient_inverse_consistency_differences(
    forward: jax.Array, backward: jax.Array, *, step: float = 1e-3
) -> jax.Array:
    """`gradient_inverse_consistency_loss` by forward differences at the same points: what it is compared with.

    It evaluates the composed map N + 1 times, and where the step is small float32 leaves few digits of the difference:
    coordinates around 100 are rounded to 4e-6, which is 0.4 % of a step of 0.001. A larger step reaches over the sides
    of cells, where the slope changes.

    Args:
      forward, backward: `[B, *S, N]` in voxel units.
      step: in voxels.

    Returns:
      `[B]`.
    """
    first, second = jnp.concatenate([forward, backward]), jnp.concatenate([backward, forward])
    batch, *shape, num_axes = first.shape
    cells = [size - 1 for size in shape]
    points = jnp.broadcast_to(identity_grid(cells)[None] + 0.5, (batch, *cells, num_axes))

    def residual(points):
        moved = sample(first, points, mode="nearest")
        return moved + sample(second, points + moved, mode="nearest")

    start = residual(points)
    total = 0.0
    for axis in range(num_axes):
        slope = (residual(points.at[..., axis].add(step)) - start) / step
        total += jnp.sum(jnp.square(slope), axis=-1)
    return jnp.mean(total.reshape(2, -1, *cells), axis=(0, *range(2, num_axes + 2)))


# ---- References in float64 -------------------------------------------------------------------------------------------


def slopes(field: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation of `[*S, N]` at `[*T, N]` and its Jacobian, `[*T, N]` and `[*T, N, N]`, corner by corner."""
    num_axes = points.shape[-1]
    lower = np.floor(points).astype(int)
    fractions = points - lower
    value, jacobian = 0.0, np.zeros((*points.shape, num_axes))
    for corner in np.ndindex(*(2,) * num_axes):
        index = np.clip(lower + corner, 0, np.array(field.shape[:-1]) - 1)
        voxel = field[tuple(np.moveaxis(index, -1, 0))]
        weights = np.where(corner, fractions, 1 - fractions)
        value = value + np.prod(weights, axis=-1)[..., None] * voxel
        for axis in range(num_axes):
            others = np.prod(np.delete(weights, axis, axis=-1), axis=-1)
            jacobian[..., axis] += (2 * corner[axis] - 1) * others[..., None] * voxel
    return value, jacobian


def exact_value(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """By the chain rule, in NumPy: `(1 + dv) (1 + du) - 1`, `[B]`."""

    def squares(first, second):
        num_axes = first.shape[-1]
        cells = (np.arange(size - 1) + 0.5 for size in first.shape[:-1])
        points = np.stack(np.meshgrid(*cells, indexing="ij"), axis=-1)
        moved, du = slopes(first, points)
        _, dv = slopes(second, points + moved)
        jacobian = (np.eye(num_axes) + dv) @ (np.eye(num_axes) + du) - np.eye(num_axes)
        return np.mean(np.sum(jacobian**2, axis=(-2, -1)))

    pairs = zip(forward.astype(np.float64), backward.astype(np.float64), strict=True)
    return np.array([(squares(f, b) + squares(b, f)) / 2 for f, b in pairs])


def in_float64(forward: np.ndarray, backward: np.ndarray, step: float | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """Values `[B]` and the gradients of their sum, `[B, *S, N]` for either field, without the package's own sampler.

    By forward differences over `step` voxels; None: by `jax.jvp`.
    """

    def read(field, points):
        coordinates = list(jnp.moveaxis(points, -1, 0))
        components = jnp.moveaxis(field, -1, 0)
        return jnp.stack([map_coordinates(c, coordinates, order=1, mode="nearest") for c in components], axis=-1)

    def squares(first, second):
        cells = [jnp.arange(size - 1) + 0.5 for size in first.shape[:-1]]
        points = jnp.stack(jnp.meshgrid(*cells, indexing="ij"), axis=-1)

        def residual(points):
            moved = read(first, points)
            return moved + read(second, points + moved)

        def slope(axis):
            unit = jnp.zeros_like(points).at[..., axis].set(1)
            if step is None:
                return jax.jvp(residual, (points,), (unit,))[1]
            return (residual(points + step * unit) - residual(points)) / step

        return jnp.mean(sum(jnp.sum(slope(axis) ** 2, axis=-1) for axis in range(points.shape[-1])))

    with jax.enable_x64(True):
        compute = jax.jit(jax.value_and_grad(lambda f, b: (squares(f, b) + squares(b, f)) / 2, argnums=(0, 1)))
        pairs = zip(forward.astype(np.float64), backward.astype(np.float64), strict=True)
        found = [jax.tree.map(np.asarray, compute(*pair)) for pair in pairs]
    return np.array([value for value, _ in found]), [np.stack([pair[i] for _, pair in found]) for i in (0, 1)]


# ---- Measuring -------------------------------------------------------------------------------------------------------


def smooth_fields(shape: tuple[int, ...], seed: int) -> tuple[jax.Array, jax.Array]:
    """`[B, *S, N]`: 2 voxels in the root mean square of a component, and its inverse, off by a tenth of that."""
    batch, *spatial = shape
    noise = np.random.default_rng(seed).standard_normal((2, batch, *spatial, len(spatial)))
    smooth = gaussian_filter(noise, (0, 0, *(size / 12 for size in spatial), 0), mode="nearest")
    smooth *= 2 / np.std(smooth)
    forward, error = jnp.asarray(smooth, jnp.float32)
    return forward, inverse(forward)[0] + 0.1 * error


def errors(found: tuple, expected: tuple) -> dict[str, float]:
    """Of values and gradients, relative."""
    values, gradients = found
    off = [np.linalg.norm(f - e) / np.linalg.norm(e) for f, e in zip(gradients, expected[1], strict=True)]
    return {
        "value": float(np.max(np.abs(np.asarray(values, np.float64) - expected[0]) / expected[0])),
        "gradient": float(max(off)),
    }


def measure(shape: tuple[int, ...], seed: int, num_calls: int) -> dict:
    """Times and errors of each contender on the same fields."""
    pair = smooth_fields(shape, seed)
    fields = [np.asarray(field) for field in pair]
    exact = in_float64(*fields, step=None)
    np.testing.assert_allclose(exact[0], exact_value(*fields), rtol=1e-9)
    steps = {"exact": None} | {f"differences, {step:.3f} voxels": step for step in (1e-3, 1e-3 * max(shape[1:]))}
    compiled, rows = {}, {}
    for name, step in steps.items():

        def total(forward, backward, step=step):
            if step is None:
                values = gradient_inverse_consistency_loss(forward, backward)
            else:
                values = gradient_inverse_consistency_differences(forward, backward, step=step)
            return values.sum(), values

        start = time.perf_counter()
        compiled[name] = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True)).lower(*pair).compile()
        seconds = time.perf_counter() - start
        (_, values), gradients = compiled[name](*pair)
        found, same = (values, gradients), exact if step is None else in_float64(*fields, step=step)
        rows[name] = {
            "compile_seconds": seconds,
            "rounding": errors(found, same),
            "off_the_exact": errors(found, exact),
        }
    times = {name: [] for name in steps}
    for _ in range(num_calls):
        for name, call in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(call(*pair))
            times[name].append(1e3 * (time.perf_counter() - start))
    for name, row in rows.items():
        row["milliseconds"] = statistics.median(times[name])
        row["lower_quartile"], _, row["upper_quartile"] = statistics.quantiles(times[name], n=4)
    return {"value": float(exact[0].mean()), "contenders": rows}


def table(report: dict) -> str:
    """The report in Markdown."""
    lines = [
        "| fields | derivative | ms a call (quartiles) | of the exact one's | rounding: value, gradient | off exact |",
        "|---|---|---|---|---|---|",
    ]
    for fields, result in report["fields"].items():
        own = result["contenders"]["exact"]["milliseconds"]
        for name, row in result["contenders"].items():
            median, low, high = (row[key] for key in ("milliseconds", "lower_quartile", "upper_quartile"))
            both = (f"{row[key]['value']:.1e}, {row[key]['gradient']:.1e}" for key in ("rounding", "off_the_exact"))
            time_columns = f"{median:.1f} ({low:.1f} to {high:.1f}) | {median / own:.2f} x"
            lines.append(f"| {fields} | {name} | {time_columns} | {' | '.join(both)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_calls", type=int, default=30)
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": f"{platform.machine()}, {jax.local_device_count()} x {jax.devices()[0].device_kind}, "
        f"jax {jax.__version__}",
        "seed": arguments.seed,
        "num_calls": arguments.num_calls,
        "fields": {name: measure(shape, arguments.seed, arguments.num_calls) for name, shape in SHAPES.items()},
    }
    (arguments.output_dir / "derivatives.json").write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))


if __name__ == "__main__":
    main()
