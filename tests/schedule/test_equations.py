"""Which columns of the Jacobian are the same for all lanes, and sums with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit
from jaxlsq.schedule.equations import Equations
from tests.decays import B, T, Y, noise
from tests.problems.lanes import lane_of

M = T.size


def line(a, k, b, c, y):
    """Decay on a line: the columns of b and c do not vary."""
    t = jnp.asarray(T, y.dtype)
    return a * jnp.exp(-k * t) + b * t + c - y


def equations(residual, data=None):
    data = jax.ShapeDtypeStruct((M,), np.float64) if data is None else data
    return Equations.of(lane_of(residual), 4, np.float64, data)


def test_columns_that_do_not_vary_are_found(x64):
    found = equations(line)
    assert [column is None for column in found.steady] == [True, True, False, False]
    np.testing.assert_array_equal(found.steady[2], T)
    np.testing.assert_array_equal(found.steady[3], np.ones(M))


@pytest.mark.parametrize(
    "weighted",
    [
        lambda a, k, b, c, d: line(a, k, b, c, d["y"]) / d["sigma"],
        lambda a, k, b, c, d: jnp.where(d["sigma"] > 1.0, line(a, k, b, c, d["y"]), 0.0),
        lambda a, k, b, c, d: line(a, k, b**2, c * d["sigma"], d["y"]),
    ],
)
def test_columns_that_depend_on_a_lanes_data_or_parameters_vary(x64, weighted):
    one = jax.ShapeDtypeStruct((M,), np.float64)
    assert equations(weighted, {"y": one, "sigma": one}).steady == (None,) * 4


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("unit", [1.0, 2.0**40])
def test_fits_of_a_line_are_numpys(dtype, unit):
    """All columns are steady; in float32 the squares of t would leave the range."""
    unit = unit if dtype == np.float64 else unit**1.6
    t, y = (T * unit).astype(dtype), (Y + 3.0).astype(dtype)
    result = fit(lambda t, b, c: b * t + c, t, y, np.array([1.0 / unit, 1.0]))
    assert result.success.all()
    slope, offset = np.polynomial.polynomial.polyfit(T, Y.T + 3.0, 1)[::-1]
    tight = 1e-9 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(result.x[:, 0] * unit, slope, rtol=tight)
    np.testing.assert_allclose(result.x[:, 1], offset, rtol=tight)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_the_unknown_size_of_an_offset_is_found_in_float32(size):
    """Its start is zero, which says nothing of it."""
    y = Y + 0.3
    exact = fit(lambda t, a, k, c: a * jnp.exp(-k * t) + c, T, y, [1.0, 1.0, 0.0])
    y = (size * y).astype(np.float32)
    result = fit(lambda t, a, k, c: a * jnp.exp(-k * t) + c, T, y, [size, 1.0, 0.0])
    assert result.success.all()
    np.testing.assert_allclose(result.x / [size, 1.0, size], exact.x, rtol=3e-3)


def test_a_lane_is_what_it_is_without_steady_columns():
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.5, 2.0, (4, B, 1))
    y = truth[0] * np.exp(-truth[1] * T) + truth[2] * T + truth[3] + noise((B, M))

    def model(t, a, k, b, c):
        return a * jnp.exp(-k * t) + b * t + c

    def varying(t, a, k, b, c):
        return a * jnp.exp(-k * t) + b * t + c + 0.0 * (b * c) ** 2

    p0 = [1.0, 1.0, 1.0, 1.0]
    result, same = fit(model, T, y, p0), fit(varying, T, y, p0)
    assert len(set(result.nfev.tolist())) > 1
    np.testing.assert_allclose(result.x, same.x, rtol=1e-6)
    np.testing.assert_allclose(result.cost, same.cost, rtol=1e-11)
