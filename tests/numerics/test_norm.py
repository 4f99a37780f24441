"""The Euclidean norm at the ends of the range, and powers of two to scale by."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.numerics.norm import norm2, power_of_two

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [1e-60, 1.0, 1e60])
def test_normal_values_take_the_plain_formula_to_the_last_bit(x64, size):
    v = size * RNG.standard_normal((5, 37))
    for xp in (np, jnp):
        plain = xp.sqrt(xp.sum(xp.square(xp.asarray(v)), axis=-1))
        np.testing.assert_array_equal(norm2(xp.asarray(v), xp=xp), plain)
    np.testing.assert_allclose(norm2(jnp.asarray(v)), np.linalg.norm(v, axis=1), rtol=1e-14)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axis(x64, xp, axis):
    v = RNG.standard_normal((4, 6))
    np.testing.assert_allclose(
        norm2(xp.asarray(v), axis, xp), np.linalg.norm(v, axis=axis), rtol=1e-14
    )


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_float64_squares_outside_the_range(x64, xp, size):
    value = norm2(xp.asarray([3 * size, -4 * size, 0.0]), xp=xp)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, 5 * size, rtol=1e-15)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_float32_squares_outside_the_range(xp, size):
    value = norm2(xp.asarray([3 * size, -4 * size, 0.0], np.float32), xp=xp)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, 5 * size, rtol=1e-6)


def test_rows_of_very_different_size_have_their_own_unit(x64):
    v = jnp.asarray([[3e200, 4e200], [3.0, 4.0], [3e-200, 4e-200], [0.0, 0.0]])
    np.testing.assert_allclose(norm2(v), [5e200, 5.0, 5e-200, 0.0], rtol=1e-15)


@pytest.mark.parametrize("xp", [np, jnp])
def test_zero_vector_has_norm_zero(x64, xp):
    assert norm2(xp.zeros(3), xp=xp) == 0.0


@pytest.mark.parametrize("xp", [np, jnp])
def test_nan_gives_nan(x64, xp):
    assert np.isnan(norm2(xp.asarray([1.0, np.nan, 3.0]), xp=xp))


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_inf_gives_inf(x64, xp, sign):
    assert norm2(xp.asarray([1.0, sign * np.inf, 3.0]), xp=xp) == np.inf


def test_power_of_two_is_a_power_of_two_in_the_half_open_interval(x64):
    v = np.concatenate(
        [2.0 ** RNG.uniform(-1000, 1000, 200), [1.0, 2.0, 0.5, 3.0, 1 - 2**-53, 1 + 2**-52]]
    )
    power = np.asarray(power_of_two(jnp.asarray(v)))
    assert np.all(np.frexp(power)[0] == 0.5)
    assert np.all((v < power) & (power <= 2 * v))


def test_dividing_by_power_of_two_is_exact(x64):
    v = RNG.uniform(1e-5, 1e5, 100)
    power = np.asarray(power_of_two(jnp.asarray(v)))
    scaled = v / power
    assert np.all((scaled >= 0.5) & (scaled < 1.0))
    np.testing.assert_array_equal(scaled * power, v)


def test_power_of_two_of_float32_stays_float32():
    power = power_of_two(jnp.asarray([3e-30, 5.0, 3e30], jnp.float32))
    assert power.dtype == jnp.float32
    assert np.all(np.frexp(np.asarray(power))[0] == 0.5)


@pytest.mark.parametrize("v", [0.0, np.inf, np.nan])
def test_power_of_two_is_one_where_there_is_none(x64, v):
    assert power_of_two(jnp.asarray(v)) == 1.0
