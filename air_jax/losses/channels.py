"""A similarity of images with several channels, such as contrasts of one subject or colours: a weighted mean."""

from dataclasses import dataclass

import jax

from air_jax.checks import check_entries, is_number
from air_jax.errors import OptionError
from air_jax.losses.similarity import SIMILARITIES, Similarity, check_similarity, weights_option
from air_jax.transforms.shapes import check_images


@dataclass(frozen=True)
class ChannelMean:
    """The weighted mean of a similarity over channels, a similarity itself. Equal and hashed by value.

    Attributes:
      similarity: a key of `SIMILARITIES`, or a function of `fixed` and `warped` `[B, *S, 1]` that returns `[B]`.
      channel_weights: one weight for each channel, at least 0; only their ratios matter.

    Raises:
      OptionError: an unknown similarity, or weights that are negative, not finite, or all 0.

    Examples:
      >>> fixed = jnp.zeros((1, 8, 8, 2))
      >>> warped = fixed.at[..., 0].set(0.5)
      >>> air_jax.losses.ChannelMean("mse", (3.0, 1.0))(fixed, warped).tolist()
      [0.1875]
    """

    similarity: str | Similarity
    channel_weights: tuple[float, ...]

    def __post_init__(self):
        check_similarity(self.similarity)
        check_entries(
            "channel_weights",
            self.channel_weights,
            None,
            lambda weight: is_number(weight) and weight >= 0,
            "finite and not negative",
        )
        weights = tuple(map(float, self.channel_weights))
        if not any(weights):
            raise OptionError("channel_weights", weights, "must not all be 0; nothing would be compared")
        object.__setattr__(self, "channel_weights", weights)

    def __call__(self, fixed: jax.Array, warped: jax.Array, *, weights: jax.Array | None = None) -> jax.Array:
        """Computes the similarity of each channel by itself, and their weighted mean.

        Args:
          fixed: `[B, *S, C]` in [0, 1], with one channel for each weight.
          warped: the same shape.
          weights: `[B, *S]` in [0, 1], the share by which a voxel counts. Default: all count alike.

        Returns:
          `[B]`. Channels of weight 0 are not compared.

        Raises:
          ValueError: the shapes do not fit each other, or the number of channels is another one.
          OptionError: with weights, a similarity that is a function without this keyword.
        """
        check_images("ChannelMean", fixed, warped)
        if fixed.shape[-1] != len(self.channel_weights):
            raise ValueError(f"images have {fixed.shape[-1]} channels and channel_weights {len(self.channel_weights)}")
        similarity = SIMILARITIES[self.similarity] if isinstance(self.similarity, str) else self.similarity
        options = weights_option(similarity, weights)
        terms = [
            weight * similarity(fixed[..., index : index + 1], warped[..., index : index + 1], **options)
            for index, weight in enumerate(self.channel_weights)
            if weight
        ]
        return sum(terms[1:], start=terms[0]) / sum(self.channel_weights)
