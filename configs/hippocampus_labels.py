"""Segmenter and unrolled demons on hippocampus MR, without attention (Medical Segmentation Decathlon, task 4).

  python -m air_jax.main --config=configs/hippocampus_labels.py --config.dataset.name=hippocampus_48x64x48.npz \
      --config.model.segmenter=runs/hippocampus_segmenter

Nothing is trained besides the segmenter (configs/hippocampus_segmenter.py). Registering needs no segmentations.
Expected: Dice 0.840 on 100 validation pairs in one pass (0.564 before). More in docs/results.md.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    config = default_config("unrolled_demons")
    config.num_train_steps = 0
    config.batch_size = 2
    config.dataset.name = ""  # the path of the stack
    config.dataset.normalization = "foreground"
    config.dataset.num_validation = 10
    config.model.num_steps = (4, 4, 10)
    config.model.edges = True
    config.model.force_gain = (0.3, 2.5)  # of intensities, of classes
    config.model.total_sigma = 0.35
    config.model.min_jacobian = 0.5
    config.model.expansion = 0.4
    config.loss.similarity, config.loss.window, config.loss.edges = "lncc", 5, True
    config.loss.diffusion = 0.1
    config.refine.field = "dense"  # no steps: refinement would compress the structure and gains no overlap
    config.refine.update_sigma, config.refine.total_sigma = 1.0, 0.35
    config.eval.num_pairs, config.eval.batch_size = 100, 10
    return config.lock()
