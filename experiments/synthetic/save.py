"""Saves the model trained on shapes into the package, with the scores of results.json on its card.

python -m experiments.synthetic.save --model=runs/shapes --output_dir=air_jax/pretrained/shapes-2d
"""

import argparse
import dataclasses
import json
from pathlib import Path

import air_jax
from experiments.synthetic.run import table

RESULTS = Path(__file__).with_name("results.json")
# Smaller images get a margin of zeros, which a model of any size does not need.
SMALLEST = (16, 16, 1)
DATA = """No measured image. The label maps, deformations and contrasts are drawn by `air_jax.data.shapes`, as
`configs/shapes.py` says: `python -m air_jax.main --config=configs/shapes.py`, seed 0. `air-jax samples --config=shapes
--output=sheet.png` draws them."""
LIMITS = """- 2-D images of one channel, roughly aligned: the training deformations move by a few voxels.
- Structures of about 4 to 20 voxels. Enlarge images with thinner ones, as the scores of MNIST show.
- Images of one contrast are registered more closely by optimisation with local correlation; see the rows "from zero".
- Other contrasts are not always registered: try `mi` and `mind_ssc` also.
- Not for clinical use."""


SCORES = """Means over 1,000 test pairs of MNIST and 20 patients of ACDC, none of which trained the model.
Each moving image as it is, inverted, and with remapped grey values.

```sh
python -m experiments.synthetic.run --data=FOLDER --model=shapes-2d --output_dir=o
```

"""


def is_on_card(method: str) -> bool:
    """Whether a row is not one of the controls."""
    return method.startswith(("before", "from zero", "shapes, trained"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="workdir of the run")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the saved model")
    arguments = parser.parse_args()
    registration = air_jax.load(arguments.model)
    # Files have grey values of any range; in training each image has the range [0, 1].
    registration = dataclasses.replace(registration, image_shape=SMALLEST, normalization="percentile")
    registration.save_pretrained(
        arguments.output_dir,
        name=arguments.output_dir.name,
        data=DATA,
        license="apache-2.0",
        scores=SCORES + table(json.loads(RESULTS.read_text()), is_on_card),
        limits=LIMITS,
    )


if __name__ == "__main__":
    main()
