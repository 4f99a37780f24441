"""Indices past the parameters raise in every door, as NumPy's do; those in range stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import curve_fit, fit, least_squares, least_squares_batch, leastsq

T = np.linspace(0.1, 4.0, 30)
Y = 2.5 * np.exp(-1.3 * T) + 0.2


def by_leastsq(values):
    return leastsq(lambda p: values(p) - Y, [1.0, 1.0, 0.0])[0]


def by_curve_fit(values):
    return curve_fit(lambda t, *p: values(jnp.array(p)), T, Y, [1.0, 1.0, 0.0])[0]


def by_bounded_curve_fit(values):
    model = lambda t, *p: values(jnp.stack(p))  # noqa: E731
    return curve_fit(model, T, Y, [1.0, 1.0, 0.0], bounds=(-9, 9))[0]


def by_fit(values):
    return fit(lambda t, *p: values(jnp.array(p)), T, np.stack([Y, Y]), [1.0, 1.0, 0.0]).x[1]


def by_least_squares(values):
    return least_squares(lambda p: values(p) - jnp.asarray(Y, jnp.float32), jnp.ones(3)).x


def by_least_squares_in_jit(values):
    return jax.jit(lambda x: least_squares(lambda p: values(p) - Y, x).x)(jnp.ones(3))


def by_least_squares_batch(values):
    return least_squares_batch(lambda p, y: values(p) - y, [1.0, 1.0, 0.0], np.stack([Y, Y])).x[0]


DOORS = [
    *(by_leastsq, by_curve_fit, by_bounded_curve_fit, by_fit, by_least_squares),
    *(by_least_squares_in_jit, by_least_squares_batch),
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("index", [3, -4, 17])
def test_an_index_past_the_parameters(door, index):
    with pytest.raises(IndexError, match=f"parameter {index} of 3: indices are 0 to 2"):
        door(lambda p: p[0] * jnp.exp(-p[1] * T) + p[index])


@pytest.mark.parametrize("door", [by_leastsq, by_fit, by_least_squares_batch])
def test_in_a_jitted_function_and_in_a_list(door):
    for bad in (
        lambda p: p[3],
        lambda p: jnp.sum(p[np.array([0, 3])]),
        lambda p: p[np.array([2, -4])][0],
    ):
        model = jax.jit(lambda p, bad=bad: p[0] * jnp.exp(-p[1] * T) + bad(p))
        with pytest.raises(IndexError, match="of 3: indices are 0 to 2"):
            door(model)


GOOD = [
    lambda p: p[2],
    lambda p: p[-1],
    lambda p: p[1:][1],
    lambda p: p[::-1][0],
    lambda p: p[np.array([2, 0])][0],
    lambda p: p[jnp.array([-1])][0],
    lambda p: jnp.take(p, 2),
    lambda p: p[jnp.argmax(jnp.arange(3))],
    lambda p: jnp.concatenate([p, p])[5],
    lambda p: jnp.arange(5.0)[7] * 0 + p[2],
    lambda p: jax.lax.fori_loop(0, 3, lambda i, s: s + p[i], 0.0 * p[0]) - p[0] - p[1],
]


@pytest.mark.parametrize("good", GOOD)
@pytest.mark.parametrize("door", [by_leastsq, by_fit])
def test_indices_in_range(door, good):
    x = door(lambda p: p[0] * jnp.exp(-p[1] * T) + good(p))
    np.testing.assert_allclose(x, [2.5, 1.3, 0.2], rtol=1e-6)
