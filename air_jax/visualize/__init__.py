"""Figures of training runs and of registered pairs."""

from air_jax.visualize.matching import matching_figure
from air_jax.visualize.morph import morph_frames, morph_gif
from air_jax.visualize.motion import motion_figure
from air_jax.visualize.page import report_page
from air_jax.visualize.report import report_figure
from air_jax.visualize.runs import attention_figure, curves_figure, registration_figure
from air_jax.visualize.samples import samples_figure
from air_jax.visualize.segmentations import segmentation_figure
from air_jax.visualize.template import template_figure

__all__ = [
    "attention_figure",
    "curves_figure",
    "matching_figure",
    "morph_frames",
    "morph_gif",
    "motion_figure",
    "registration_figure",
    "report_figure",
    "report_page",
    "samples_figure",
    "segmentation_figure",
    "template_figure",
]
