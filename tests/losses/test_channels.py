"""The weighted mean of a similarity over channels."""

import numpy as np
import pytest

from air_jax.errors import OptionError
from air_jax.losses import ChannelMean, make_objective


@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 3)])
def test_the_mean_is_that_of_the_channels(shape):
    rng = np.random.default_rng(0)
    fixed, warped = rng.random((2, 2, *shape, 3), np.float32)
    weights = rng.random((2, *shape), np.float32)
    square = ((fixed - warped) ** 2 * weights[..., None]).sum(axis=tuple(range(1, len(shape) + 1)))
    square /= weights.reshape(2, -1).sum(axis=1, keepdims=True)
    expected = (2 * square[:, 0] + 0.5 * square[:, 2]) / 2.5
    loss = ChannelMean("mse", (2, 0, 0.5))(fixed, warped, weights=weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_an_objective_of_equal_means_is_equal():
    one, same, other = (make_objective(ChannelMean("nmi", weights)) for weights in ([1, 2], (1.0, 2.0), (2, 1)))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other


@pytest.mark.parametrize(
    ("similarity", "weights", "message"),
    [
        ("nope", (1,), "must be one of mse"),
        ("mse", (1, -1), "must be finite and not negative"),
        ("mse", (1, float("nan")), "must be finite and not negative"),
        ("mse", (0, 0), "must not all be 0"),
        ("mse", (), "must be finite and not negative"),
    ],
)
def test_wrong_weights_are_refused(similarity, weights, message):
    with pytest.raises(OptionError, match=message):
        ChannelMean(similarity, weights)


def test_another_number_of_channels_is_refused():
    image = np.zeros((1, 4, 4, 3), np.float32)
    with pytest.raises(ValueError, match="images have 3 channels and channel_weights 2"):
        ChannelMean("mse", (1, 1))(image, image)
