"""Classical tools that register one pair at a time: SyN of ANTs, diffeomorphic demons of SimpleITK.

`pip install SimpleITK antspyx`. Images go in as `[*S]`, and displacements come out as everywhere in air_jax: `[*S, N]`,
pull-back, in voxels, array-index order.
"""

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from air_jax.transforms import warp

# The best of few settings tried on training pairs. Cardiac: the first 8 or 12 patients, who move little
# (Dice before 0.79; of the first 30 it is 0.68); hippocampus: 4 to 6 pairs; brains: 1 pair.
# CC on volumes has what suited mean squares; of six other settings on 5 pairs of the hippocampus the best, (60, 60, 40)
# iterations, had 0.004 more Dice in 1.7 times the time.
SETTINGS = {
    "cardiac": {
        "SyN, mean squares": {
            "metric": "meansquares",
            "iterations": (100, 100, 50),
            "grad_step": 0.5,
            "flow_sigma": 1.0,
            "total_sigma": 0.0,
            "histogram_matching": False,
        },
        "SyN, cross-correlation": {
            "metric": "CC",
            "radius": 2,
            "iterations": (100, 100, 50),
            "grad_step": 0.5,
            "flow_sigma": 1.0,
            "total_sigma": 0.0,
            "histogram_matching": False,
        },
        "diffeomorphic demons": {
            "iterations": (100, 100, 100),
            "sigma": 1.5,
            "update_sigma": 0.0,
            "step_length": 0.5,
            "histogram_matching": False,
        },
    },
    "hippocampus": {
        "SyN, mean squares": {
            "metric": "meansquares",
            "iterations": (60, 40, 20),
            "grad_step": 0.5,
            "flow_sigma": 2.0,
            "total_sigma": 0.0,
            "histogram_matching": True,
        },
        "SyN, cross-correlation": {
            "metric": "CC",
            "radius": 2,
            "iterations": (60, 40, 20),
            "grad_step": 0.5,
            "flow_sigma": 2.0,
            "total_sigma": 0.0,
            "histogram_matching": True,
        },
        "diffeomorphic demons": {
            "iterations": (60, 60, 60),
            "sigma": 0.7,
            "update_sigma": 0.0,
            "step_length": 0.5,
            "histogram_matching": True,
        },
    },
    "brains": {
        "SyN, mean squares": {
            "metric": "meansquares",
            "iterations": (60, 40, 20),
            "grad_step": 0.5,
            "flow_sigma": 2.0,
            "total_sigma": 0.0,
            "histogram_matching": True,
        },
        "SyN, cross-correlation": {
            "metric": "CC",
            "radius": 2,
            "iterations": (60, 40, 20),
            "grad_step": 0.5,
            "flow_sigma": 2.0,
            "total_sigma": 0.0,
            "histogram_matching": True,
        },
        "diffeomorphic demons": {
            "iterations": (60, 60, 60),
            "sigma": 0.7,
            "update_sigma": 0.0,
            "step_length": 0.5,
            "histogram_matching": True,
        },
    },
}


class Registered(NamedTuple):
    """What a tool made of one pair.

    Attributes:
      displacement: `[*S, N]`.
      moving: `[*S]`, the moving image as the tool had it, after histogram matching.
      warped: `[*S]`, that image as the tool itself warped it.
    """

    displacement: np.ndarray
    moving: np.ndarray
    warped: np.ndarray


def match_histogram(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`moving` with the grey values of `fixed`, by 15 quantiles above the mean (Nyul & Udupa 2000, as in ITK)."""
    import SimpleITK

    images = map(SimpleITK.GetImageFromArray, (moving, fixed))
    matched = SimpleITK.HistogramMatching(*images, 256, 15, True)
    return SimpleITK.GetArrayFromImage(matched).astype(np.float32)


def syn(
    fixed: np.ndarray,
    moving: np.ndarray,
    *,
    metric: str,
    iterations: tuple[int, ...],
    grad_step: float,
    flow_sigma: float,
    total_sigma: float,
    histogram_matching: bool,
    radius: int = 0,
) -> Registered:
    """SyN alone, from the identity, in levels of half the resolution each (Avants et al., Medical Image Analysis 2008).

    Args:
      fixed, moving: `[*S]`.
      metric: "meansquares" or "CC".
      iterations: of each level, coarse to fine.
      radius: of the windows of CC.
      grad_step, flow_sigma, total_sigma: see `ants.registration`.
      histogram_matching: whether the grey values are matched first.
    """
    import ants

    moving = match_histogram(moving, fixed) if histogram_matching else moving
    result = ants.registration(
        ants.from_numpy(fixed),  # its axes are the array's
        ants.from_numpy(moving),
        "SyNOnly",
        initial_transform="identity",
        syn_metric=metric,
        syn_sampling=radius,
        reg_iterations=iterations,
        grad_step=grad_step,
        flow_sigma=flow_sigma,
        total_sigma=total_sigma,
    )
    (path,) = (path for path in result["fwdtransforms"] if path.endswith("Warp.nii.gz"))
    displacement = ants.image_read(path).numpy()
    for path in {*result["fwdtransforms"], *result["invtransforms"]}:
        Path(path).unlink(missing_ok=True)
    return Registered(displacement, moving, result["warpedmovout"].numpy())


def demons(
    fixed: np.ndarray,
    moving: np.ndarray,
    *,
    iterations: tuple[int, ...],
    sigma: float,
    update_sigma: float,
    step_length: float,
    histogram_matching: bool,
) -> Registered:
    """Diffeomorphic demons in levels of half the resolution each (Vercauteren et al., NeuroImage 2009).

    Args:
      fixed, moving: `[*S]`.
      iterations: of each level, coarse to fine.
      sigma: of the smoothing of the displacement, in voxels of the level.
      update_sigma: of the smoothing of each update, in voxels of the level; 0 for none.
      step_length: the longest update, in voxels of the level.
      histogram_matching: whether the grey values are matched first.
    """
    import SimpleITK

    moving = match_histogram(moving, fixed) if histogram_matching else moving
    images = [SimpleITK.GetImageFromArray(np.ascontiguousarray(image, np.float32)) for image in (fixed, moving)]
    tool = SimpleITK.DiffeomorphicDemonsRegistrationFilter()
    tool.SetStandardDeviations(sigma)
    tool.SetMaximumUpdateStepLength(step_length)
    tool.SetSmoothUpdateField(update_sigma > 0)
    tool.SetUpdateFieldStandardDeviations(update_sigma or 1.0)
    field = None
    for level, number in enumerate(iterations):
        factor = 2 ** (len(iterations) - 1 - level)
        small = [
            SimpleITK.Shrink(SimpleITK.SmoothingRecursiveGaussian(image, 0.5 * factor), [factor] * fixed.ndim)
            if factor > 1
            else image
            for image in images
        ]
        tool.SetNumberOfIterations(number)
        if field is None:
            field = tool.Execute(*small)
        else:
            field = SimpleITK.Resample(
                field, small[0], SimpleITK.Transform(), SimpleITK.sitkLinear, 0.0, field.GetPixelID(), True
            )
            field = tool.Execute(*small, field)
    displacement = SimpleITK.GetArrayFromImage(field)[..., ::-1]  # (x, y, z) to (z, y, x), the array's axes
    transform = SimpleITK.DisplacementFieldTransform(SimpleITK.Cast(field, SimpleITK.sitkVectorFloat64))
    warped = SimpleITK.Resample(images[1], images[0], transform, SimpleITK.sitkLinear)
    return Registered(displacement.astype(np.float32), moving, SimpleITK.GetArrayFromImage(warped))


TOOLS = {"SyN, mean squares": syn, "SyN, cross-correlation": syn, "diffeomorphic demons": demons}


def one_by_one(method: str, settings: dict, fixed: np.ndarray, moving: np.ndarray) -> tuple[np.ndarray, dict]:
    """Registers one pair after the other.

    Args:
      method: a key of `TOOLS`.
      settings: those of `SETTINGS`.
      fixed, moving: `[n, *S]` in [0, 1].

    Returns:
      The displacements `[n, *S, N]`, and the seconds that the tool's calls took.

    Raises:
      RuntimeError: the tool's own warped image and ours by its displacement are not the same.
    """
    displacements, seconds, largest = [], [], 0.0
    for fixed_image, moving_image in zip(255 * fixed, 255 * moving, strict=True):
        start = time.perf_counter()
        result = TOOLS[method](fixed_image, moving_image, **settings)
        seconds.append(time.perf_counter() - start)
        displacements.append(result.displacement)
        ours = warp(jnp.asarray(result.moving)[None], jnp.asarray(result.displacement)[None])[0]
        points = np.moveaxis(np.indices(ours.shape), 0, -1) + result.displacement
        inside = np.all((points > 0.01) & (points < np.array(ours.shape) - 1.01), axis=-1)
        largest = max(largest, float(np.abs(ours - result.warped)[inside].max()) / 255)
        if largest > 1e-3:
            raise RuntimeError(f"{method}: its own warped image and ours differ by {largest:.2g} of the grey values")
    return np.stack(displacements), {
        "seconds_per_pair": float(np.mean(seconds)),
        "seconds_of_pairs": np.round(seconds, 2).tolist(),
        "largest_difference_to_its_own_warped_image": largest,
    }


def machine() -> str:
    """What the numbers depend on."""
    processor = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":")
    installed = {package.name.lower(): package.version for package in metadata.distributions()}
    versions = [f"{name} {installed[name]}" for name in ("jax", "flax", "antspyx", "simpleitk") if name in installed]
    device = f"{os.cpu_count()} cores, jax on {jax.local_device_count()} x {jax.devices()[0].device_kind}"
    return ", ".join([processor.split(":")[1].strip(), device, f"Python {platform.python_version()}", *versions])
