"""The model card of a saved model: `README.md` with the front matter that Hugging Face reads."""

import dataclasses
import json
from typing import Any

_UNKNOWN = "Not stated."


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """Texts of a model card, in Markdown. "" for unknown.

    Attributes:
      name: title, and the name under which the model is loaded.
      data: images that trained the model.
      license: identifier of the licence of the weights, such as "apache-2.0".
      scores: measured scores, with the command that measures them.
      limits: images for which the model is not meant.
    """

    name: str = ""
    data: str = ""
    license: str = ""
    scores: str = ""
    limits: str = ""


def card_text(card: ModelCard, config: dict[str, Any]) -> str:
    """Returns the text of `README.md`.

    Args:
      card: its texts.
      config: content of `config.json`.
    """
    matter = ["library_name: air_jax", "tags:", "- image-registration", "- jax"]
    if card.license:
        matter.insert(0, f"license: {json.dumps(card.license)}")
    name = card.name or config["model"]["name"]
    axes = len(config["image_shape"]) - 1
    facts = [
        f"- Model: `{config['model']['name']}`, {config['parameters']['number']:,} parameters, {axes}-D images.",
        f"- Images: {config['image_shape'][-1]} channel(s); those smaller than "
        f"{' x '.join(map(str, config['image_shape'][:-1]))} get a margin of zeros.",
        f"- Normalisation: `{config['normalization']}`. Training step: {config['step']:,}.",
    ]
    sections = {"Data": card.data, "Licence": card.license, "Scores": card.scores, "Limits": card.limits}
    lines = ["---", *matter, "---", "", f"# {name}", "", *facts, "", "```python", "import air_jax", ""]
    lines += ["registration = air_jax.load(FOLDER)", "result = registration.register(fixed, moving)", "```"]
    for title, text in sections.items():
        lines += ["", f"## {title}", "", text.strip() or _UNKNOWN]
    return "\n".join(lines) + "\n"
