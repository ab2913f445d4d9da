"""The config of a run: every key with its default, which is AiR as in the paper on MNIST.

A file in `configs/` calls `default_config(model)` and changes the keys in which it differs. `air_jax.load` fills keys
that an older run lacks from here.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict, config_dict

from air_jax.losses import REGULARIZERS
from air_jax.models import MODELS, SEGMENTERS
from air_jax.workdir.model_section import SEGMENTER

# An `ml_collections.ConfigDict`, whose attributes a type checker cannot know.
Config = Any
# Types of options whose default is None, or that have none.
_OPTIONAL = {"head_size": int, "relative_radius": int, "downsampling": tuple, "num_classes": int}


def default_config(model: str = "air") -> Config:
    """Returns every key of a run with its default.

    Args:
      model: key of `air_jax.models.MODELS` or `SEGMENTERS`. The section `model` holds the options of that module.

    Returns:
      An unlocked `ConfigDict`. A segmenter's run has no sections `deformation`, `loss` and `refine`.

    Raises:
      KeyError: `model` is unknown.
    """
    config: Config = ConfigDict()
    config.seed = 0
    config.num_train_steps = 16_000  # 0 trains nothing: the model is scored as it is initialised
    config.batch_size = 128  # pairs per step, over all devices
    config.learning_rate = 1e-3  # highest rate of Adam (paper section 3.1)
    config.schedule = "constant"  # or "cosine": falls to 1 % at the last step
    config.warmup_steps = 0  # steps over which the learning rate rises from 0
    config.clip_norm = 0.0  # larger gradients are scaled down to this norm; 0 clips none
    config.log_every = 200  # steps per dispatch and per line of metrics.jsonl
    config.eval_every = 1_000  # steps between validations, each with a checkpoint
    config.watch = "none"  # or "tensorboard", or a key that the config file adds to air_jax.training.watch.WATCHES
    config.compilation_cache = True  # keeps compiled programs in the user's cache folder
    # True streams each step's images from the host. Default: only where they would fill half of a device's memory.
    config.streaming = config_dict.placeholder(bool)
    config.sharded_jit = False  # True: one program that XLA partitions over the devices, see docs/devices.md

    config.dataset = ConfigDict()
    # "digits", a TFDS set of equal-sized uint8 images, a folder of images, or the path of a stack (.npz)
    config.dataset.name = "mnist"
    config.dataset.normalization = "range"  # to [0, 1]: "range", "percentile", "foreground" or "ct"
    config.dataset.cache = True  # keeps decoded TFDS images in the user's cache folder
    config.dataset.train_fraction = 0.8  # the rest is the test part (paper section 3.1)
    config.dataset.num_validation = 2_000  # last images of the training part; they choose the checkpoint
    config.dataset.labels = config_dict.placeholder(str)  # folder with the segmentations of a folder of images
    config.dataset.pairs = "all"  # or "atlas", "frames" of a stack, or the path of a list (CSV)
    config.dataset.atlas = config_dict.placeholder(str)  # name of the fixed image with "atlas"; default: the first

    config.augmentation = ConfigDict()  # the same random map for both images of a pair
    config.augmentation.flip = False  # mirrors each axis with probability 1/2
    config.augmentation.rotation = 0.0  # largest angle in each plane, in degrees
    config.augmentation.scale = 0.0  # largest relative change of size
    config.augmentation.translation = 0.0  # largest shift along each axis, in voxels
    config.augmentation.elastic = 0.0  # root mean square of a smooth random displacement, in voxels
    config.augmentation.elastic_spacing = 16  # voxels between its control points

    config.eval = ConfigDict()
    config.eval.num_pairs = 1_000  # pairs in each list
    config.eval.pairs_seed = 0  # independent of the training seed
    config.eval.batch_size = 250

    config.model = _model_section(model)
    if model in SEGMENTERS:
        return config

    config.deformation = ConfigDict()  # registers each image to itself, artificially deformed
    config.deformation.amplitude = 0.0  # root mean square of the velocity, in voxels; 0 for none
    config.deformation.spacing = 7  # voxels between control points; larger is smoother

    config.synthesis = ConfigDict()  # trains on random deformations and contrasts of the segmentations
    config.synthesis.velocity = 0.0  # largest root mean square of the velocities, in voxels; 0 trains on the images
    config.synthesis.spacings = (8, 16, 32)  # voxels between control points of the velocities
    config.synthesis.noise = 0.05  # largest standard deviation of a label's grey values, which are in [0, 1]
    config.synthesis.black = 0.2  # probability of a black background
    config.synthesis.blur = 1.0  # largest standard deviation of the Gaussian blur, in voxels
    config.synthesis.bias = 0.3  # largest root mean square of the bias field's logarithm
    config.synthesis.gamma = 0.25  # standard deviation of the exponent's logarithm

    config.loss = ConfigDict()
    config.loss.similarity = "mse"  # or "ncc", "lncc", "squared_lncc"; for other modalities "mi", "nmi", "mind_ssc"
    config.loss.train_similarity = True  # False: only refinement uses the similarity, training the other terms
    config.loss.window = 0  # side of the windows of "lncc" and "squared_lncc" in voxels, odd; 0: their own, 9
    config.loss.edges = False  # compares the images' edges as a further channel
    config.loss.mse = 0.0  # weight of the mean squared difference beside another similarity
    for name in REGULARIZERS:
        config.loss[name] = 0.0  # weights of the regularizers
    config.loss.soft_dice = 0.0  # weight of the overlap of segmentations, in training only
    config.loss.endpoint = 0.0  # weight of the distance from the true displacement, in training on synthesised pairs
    config.loss.inverse_consistency = 0.0  # weight, in training only; predicts both directions
    config.loss.gradient_inverse_consistency = 0.0  # weight of its gradient (GradICON)

    config.refine = ConfigDict()  # instance optimisation after the network
    config.refine.num_steps = 0  # steps with which test pairs are scored as well
    config.refine.field = "control_grid"  # or "velocity", or "dense" for larger images
    config.refine.update_sigma = 3.0  # "dense": Gaussian smoothing of each update, in voxels
    config.refine.total_sigma = 0.5  # "dense": Gaussian smoothing of the whole field after each update, in voxels
    config.refine.overlap = 1.0  # weight of the overlap of the segmenter's classes, for models with a segmenter
    return config


def _model_section(name: str) -> Config:
    """The options of a module as config keys, with the module's own defaults."""
    section: Config = ConfigDict({"name": name})
    for field in dataclasses.fields((MODELS | SEGMENTERS)[name]):
        if field.name in ("parent", "name"):  # linen's own
            continue
        if field.name == SEGMENTER:
            section[SEGMENTER] = ""
        elif field.name == "dtype":
            section.dtype = "float32"  # or "bfloat16"
        elif field.name in _OPTIONAL:
            section[field.name] = config_dict.placeholder(_OPTIONAL[field.name])
            section[field.name] = None if field.default is dataclasses.MISSING else field.default
        else:
            section[field.name] = field.default
    return section
