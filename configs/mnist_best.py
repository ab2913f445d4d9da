import runpy
from pathlib import Path

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = runpy.run_path(str(Path(__file__).with_name("mnist.py")))["get_config"]()
    config.unlock()
    config.batch_size = 32
    config.num_train_steps = 20_000
    config.learning_rate = 2e-3
    config.schedule = "cosine"
    config.warmup_steps = 200
    config.log_every = 100
    config.model = ml_collections.ConfigDict()
    config.model.name = "pyramid_air"
    config.model.stride = (4, 4, 4)
    config.model.patch_size = (12, 12, 12)
    config.model.spacing = (4, 2, 1)
    config.model.num_steps = (2, 2, 2)
    config.model.width = 96
    config.model.num_heads = 4
    config.model.encoder_depth = 1
    config.model.decoder_depth = 1
    config.model.feed_forward = 192
    config.model.relative_radius = 6
    config.model.self_attention = False
    config.model.dropout = 0.0
    config.model.dtype = "float32"
    config.loss.folding = 5.0
    return config.lock()
