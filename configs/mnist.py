"""AiR as in the paper (Wang & Delingette 2021, sections 2.1 and 3.1), on MNIST.

  python -m air_jax.main --config=configs/mnist.py

`air_jax/workdir/defaults.py` shows every key with its default; the defaults are this config.
`--config.model.head=dense` takes the other reading of the deformation head, `--config.model.patch_size=4` the other
reading of i, `--config.dataset.name=fashion_mnist` another data set.

Expected, in 80 seconds on two CPU cores: Dice 0.663 on random test pairs (0.343 before), MSE 0.0500, folding 6.1 %. The
dense head, 12,500 steps: 0.838, 0.0191, 43 %. Other runs: experiments/paper_mnist, and docs/results.md
with 12,000 steps.
"""

from ml_collections import ConfigDict

from air_jax.workdir.defaults import default_config


def get_config() -> ConfigDict:
    return default_config("air").lock()
