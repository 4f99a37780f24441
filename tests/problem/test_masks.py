"""A mask says of each point whether it counts: in any type, and nothing between."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxlsq import fit, least_squares_batch

X = np.linspace(0.0, 4.0, 20)
COUNTS = np.random.default_rng(0).poisson(20.0 * np.exp(-X) + 3.0).astype(float)
KEPT = np.arange(X.size) != 3
BAD = np.where(KEPT, COUNTS, -500.0)
P0 = [20.0, 3.0]


def decay(x, a, c):
    return a * jnp.exp(-x) + c


def with_a_hole():
    mask = pd.Series(KEPT).astype("boolean")
    mask[4] = pd.NA
    return mask


@pytest.mark.parametrize("loss", ["linear", "poisson"])
@pytest.mark.parametrize(
    "of", [np.ndarray.tolist, np.int64, np.float32, jnp.asarray, pd.Series, lambda m: m[None] + 0]
)
def test_masks_of_any_type(of, loss):
    fewer = fit(decay, X[KEPT], COUNTS[KEPT], P0, loss=loss)
    masked = fit(decay, X, np.stack([BAD, BAD]), P0, loss=loss, mask=of(KEPT))
    assert masked.success.all()
    np.testing.assert_allclose(masked.x, np.stack([fewer.x] * 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("mask", "got"),
    [
        (0.5 * KEPT, "0.5"),
        (2 * KEPT, "2"),
        (jnp.where(KEPT, 1.0, jnp.nan), "nan"),
        (with_a_hole(), "nan"),
        ([0.25] * X.size, "0.25"),
    ],
)
@pytest.mark.parametrize(
    "door",
    [
        lambda mask: fit(decay, X, COUNTS, P0, mask=mask),
        lambda mask: fit(decay, [X, X[:9]], [COUNTS, COUNTS[:9]], P0, mask=[mask, KEPT[:9]]),
        lambda mask: fit(decay, X, COUNTS, P0).refit(mask=mask),
    ],
    ids=["fit", "lists", "refit"],
)
def test_what_is_neither_true_nor_false(door, mask, got):
    """It may be a weight, or a hole in a table, of which `bool` says true."""
    with pytest.raises(ValueError, match=rf"mask must be true .*, got {got}\. Weights go"):
        door(mask)


def test_a_mask_that_is_read_in_blocks(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        good = file.create_dataset("good", data=np.tile(KEPT.astype(np.uint8), (3, 1)))
        weights = file.create_dataset("weights", data=np.tile(np.where(KEPT, 1.0, 0.3), (3, 1)))
        y = np.tile(BAD, (3, 1))
        expected = fit(decay, X, y, P0, mask=np.asarray(good)).x
        np.testing.assert_array_equal(fit(decay, X, y, P0, mask=good).x, expected)
        with pytest.raises(ValueError, match=r"mask must be true .*, got 0\.3\. Weights go"):
            fit(decay, X, y, P0, mask=weights)


def test_a_list_of_numbers_as_data():
    """A list is a pytree; of its many leaves the message names few."""
    with pytest.raises(ValueError, match=r"\(\), \(\)\] and 56 more\. Make arrays of lists"):
        least_squares_batch(lambda p, y: p - y, [1.0], np.ones((2, 30)).tolist())
