"""AiR as in the paper (Wang & Delingette 2021, sections 2.1 and 3.1), on MNIST. Every key of a config stands here.

  python -m air_jax.main --config=configs/mnist.py

`--config.model.head=dense` takes the other reading of the deformation head, `--config.model.patch_size=4` the other
reading of i, `--config.dataset.name=fashion_mnist` another data set.

Expected, in 80 seconds on two CPU cores: Dice 0.663 on random test pairs (0.343 before), MSE 0.0500, folding 6.1 %; the
dense head, 12,500 steps: 0.838, 0.0191, 43 %. More in experiments/README.md.
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_train_steps = 16_000
    config.batch_size = 128  # pairs a step, over all devices
    config.learning_rate = 1e-3  # of Adam (section 3.1)
    config.schedule = "constant"  # or "cosine": down to 1 % at the last step
    config.warmup_steps = 0  # steps over which the learning rate rises from 0
    config.clip_norm = 0.0  # larger gradients are scaled down to this norm; 0 clips none
    config.num_segmenter_steps = 0  # more: the first steps train a segmenter alone, the others all but it; -1: all do
    config.log_every = 200  # steps in one dispatch, and between lines of metrics.jsonl
    config.eval_every = 1_000  # steps between validations, each with a checkpoint

    config.compilation_cache = True  # the second start of a config compiles little; in the user's cache folder
    # Whether each step's images come from the host. Default: only when they would fill half of a device's memory.
    config.streaming = config_dict.placeholder(bool)

    config.dataset = ml_collections.ConfigDict()
    # "digits", any TFDS set of equal-sized uint8 images, or one's own: a folder of images, or path/stack.npz
    config.dataset.name = "mnist"
    config.dataset.normalization = "range"  # of uint8, uint16 or [0, 1]; or "percentile", "foreground", "ct"
    config.dataset.cache = True  # keeps decoded images in the user's cache folder, for the next start
    config.dataset.train_fraction = 0.8  # the rest is the test part (section 3.1)
    config.dataset.num_validation = 2_000  # last images of the training part, which choose the checkpoint
    config.dataset.labels = config_dict.placeholder(str)  # of a folder of images: the folder with their segmentations
    config.dataset.pairs = "all"  # any image to any other; "atlas", "frames" of a stack, or the path of a list (CSV)
    config.dataset.atlas = config_dict.placeholder(str)  # with "atlas": the fixed image's name; default: the first

    config.augmentation = ml_collections.ConfigDict()  # both images of a pair are moved alike
    config.augmentation.flip = False  # each axis, half of the time
    config.augmentation.rotation = 0.0  # degrees at most, in each plane
    config.augmentation.scale = 0.0  # change of size at most: 0.1 is from 90 % to 110 %
    config.augmentation.translation = 0.0  # pixels at most, along each axis
    config.augmentation.elastic = 0.0  # pixels that a random smooth deformation moves them on average, beside that
    config.augmentation.elastic_spacing = 16  # pixels between its control points; larger is smoother

    config.deformation = ml_collections.ConfigDict()
    config.deformation.amplitude = 0.0  # pixels; more: each image is registered to itself, artificially deformed
    config.deformation.spacing = 7  # pixels between control points of the artificial deformation; larger is smoother

    config.model = ml_collections.ConfigDict()
    config.model.name = "air"
    config.model.head = "control_grid"  # or "dense", "bspline"
    config.model.integration_steps = 0  # more: the head predicts a velocity, integrated by scaling and squaring
    config.model.patch_size = 7  # pixels: i = 4 as 4 x 4 patches of a 28 x 28 image
    config.model.width = 16  # projection dimension (section 3.1)
    config.model.num_heads = 4
    config.model.head_size = config_dict.placeholder(int)  # default: width / num_heads
    config.model.encoder_depth = 1  # N
    config.model.decoder_depth = 1  # N
    config.model.recursive = False  # one set of weights applied N times
    config.model.feed_forward = 64  # not in the paper; the authors' code used 2048
    config.model.dropout = 0.0
    config.model.flash_attention = False  # True: for many tokens; never holds all weights in memory
    config.model.remat = False  # True: less memory, more time
    config.model.dtype = "float32"  # of the Transformer; or "bfloat16"

    config.loss = ml_collections.ConfigDict()
    config.loss.similarity = "mse"  # or "ncc", "lncc", "squared_lncc"; for other modalities "mi", "mind_ssc"
    config.loss.window = 0  # pixels, odd; of "lncc" and "squared_lncc". 0: their own, 9
    config.loss.edges = False  # True: the images' edges count as a channel of their own
    config.loss.mse = 0.0  # weight of the mean squared difference beside another similarity
    config.loss.diffusion = 0.0  # weight of the diffusion regularizer; the paper has none
    config.loss.folding = 0.0  # weight of the folding penalty
    config.loss.bending = 0.0  # weight of the bending energy
    config.loss.soft_dice = 0.0  # weight of the overlap of segmentations
    config.loss.segmentation = 0.0  # weight of the model's own segmentations (model.num_classes), in training alone
    config.loss.inverse_consistency = 0.0  # weight; both directions are predicted then, in training alone
    config.loss.gradient_inverse_consistency = 0.0  # the same of its gradient (GradICON)

    config.refine = ml_collections.ConfigDict()
    config.refine.field = "control_grid"  # what refinement moves: also "velocity", or "dense" for larger images
    config.refine.update_sigma = 3.0  # of "dense": pixels over which its updates are smoothed
    config.refine.total_sigma = 0.5  # and over which the whole field is, after each
    config.refine.overlap = 1.0  # weight of the overlap of classes that the model finds by itself, if it does
    config.refine.num_steps = 0  # more: test pairs are scored after so many steps of refinement, too

    config.eval = ml_collections.ConfigDict()
    config.eval.num_pairs = 1_000  # in each list of pairs
    config.eval.pairs_seed = (
        0  # apart from the training seed, so that runs with other seeds are scored on the same pairs
    )
    config.eval.batch_size = 250
    return config.lock()
