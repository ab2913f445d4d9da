"""A valid call of every function of transforms, losses and metrics."""

import jax.numpy as jnp
from wrong_type_rows import AFFINE, IMAGE, MASK, OBJECTIVE, POINTS, SEGMENTATION, SQUARE, STILL, direct, traced

from air_jax import losses, metrics, transforms


def of_transforms():
    field = dict(displacement=STILL)
    return {
        "apply_affine": traced(transforms.apply_affine, AFFINE, POINTS[None]),
        "between_grids": traced(transforms.between_grids, (8, 8), (4, 8)),
        "bspline": traced(transforms.bspline, jnp.zeros((1, 2, 2, 1)), (4, 4), (8, 8)),
        **{name: traced(getattr(transforms, name), **field) for name in transforms.__all__ if "determinant" in name},
        "compose": traced(transforms.compose, STILL, STILL),
        "compose_affine": traced(transforms.compose_affine, AFFINE, AFFINE),
        "control_shape": direct(transforms.control_shape, (9, 8), (4, 4)),
        "exponential": traced(transforms.exponential, STILL),
        "identity_grid": traced(transforms.identity_grid, (8, 8)),
        "inverse": traced(transforms.inverse, STILL),
        "invert_affine": traced(transforms.invert_affine, AFFINE),
        "resize": traced(transforms.resize, STILL, (4, 4)),
        "sample": traced(transforms.sample, IMAGE, STILL),
        "shrink": traced(transforms.shrink, IMAGE, (4, 4)),
        "smooth": traced(transforms.smooth, IMAGE, 1.0),
        "transform_points": traced(transforms.transform_points, STILL[0], POINTS),
        "warp": traced(transforms.warp, IMAGE, STILL),
        "with_edges": traced(transforms.with_edges, IMAGE),
    }


def of_losses():
    pair = IMAGE, IMAGE
    similarities = {f"{name}_loss": traced(losses.SIMILARITIES[name], *pair) for name in losses.SIMILARITIES}
    return similarities | {
        "ChannelMean": direct(losses.ChannelMean, "mse", (1.0,)),
        "ChannelMean.__call__": traced(losses.ChannelMean("mse", (1.0,)).__call__, *pair),
        "Objective": direct(losses.Objective, "mse", allows=dict(weights="list")),
        "Objective.__call__": traced(OBJECTIVE.__call__, *pair, STILL),
        "Objective.with_overlap": direct(OBJECTIVE.with_overlap, 0.5, 1),
        "bending_loss": traced(losses.bending_loss, STILL),
        "volume_loss": traced(losses.volume_loss, STILL),
        "dice_loss": traced(losses.dice_loss, *pair),
        "diffusion_loss": traced(losses.diffusion_loss, STILL),
        "folding_loss": traced(losses.folding_loss, STILL),
        "gradient_inverse_consistency_loss": traced(losses.gradient_inverse_consistency_loss, STILL, STILL),
        "inverse_consistency_loss": traced(losses.inverse_consistency_loss, STILL, STILL),
        "make_objective": direct(losses.make_objective, "lncc", window=3, diffusion=0.1),
        "one_hot": traced(losses.one_hot, SEGMENTATION, (1,)),
        "pooled_dice_loss": traced(losses.pooled_dice_loss, *pair),
        "segmentation_loss": traced(losses.segmentation_loss, STILL, SEGMENTATION, (1,)),
    }


def of_metrics():
    masked = ("any_corner_folding_percent", "displacement_scores", "folding_percent", "ndv_percent", "sd_log_jacobian")
    mask, labels = SQUARE > 0, SQUARE.astype(int)
    return {name: traced(getattr(metrics, name), STILL, mask=MASK) for name in masked} | {
        "compressed_percent": traced(metrics.compressed_percent, STILL, MASK),
        "endpoint_errors": traced(metrics.endpoint_errors, STILL, STILL, IMAGE),
        "hd95": direct(metrics.hd95, mask, mask, (2.0, 1.0)),
        "image_scores": traced(metrics.image_scores, IMAGE, IMAGE),
        "label_dice": traced(metrics.label_dice, SEGMENTATION, SEGMENTATION, (1, 2)),
        "label_hd95": direct(metrics.label_hd95, labels, labels, (1, 2), (2.0, 1.0)),
        "label_mean": traced(metrics.label_mean, jnp.ones((2, 3))),
        "mask_dice": traced(metrics.mask_dice, IMAGE, IMAGE),
        "mse": traced(metrics.mse, IMAGE, IMAGE),
        "sd_log_jacobian_learn2reg": traced(metrics.sd_log_jacobian_learn2reg, STILL),
        "tre": traced(metrics.tre, STILL[0], POINTS, POINTS, (1.0, 2.0)),
    }
