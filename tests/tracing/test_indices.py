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
    lambda p: jax.lax.fori_loop(0, 3, lambda i, s: s + p[i], 0.0 * p[0]) - p[0] - p[1],
]


# Of a fit alone the plain ones.
SHORT = [f"by_fit-<lambda>{k}" for k in range(len(GOOD))] + [
    f"by_leastsq-<lambda>{k}" for k in (0, 3)
]


@pytest.mark.long_but(*SHORT)
@pytest.mark.parametrize("good", GOOD)
@pytest.mark.parametrize("door", [by_leastsq, by_fit])
def test_indices_in_range(door, good):
    x = door(lambda p: p[0] * jnp.exp(-p[1] * T) + good(p))
    np.testing.assert_allclose(x, [2.5, 1.3, 0.2], rtol=1e-6)


# --- of the data ------------------------------------------------------------------------

XS = np.stack([np.ones(30), T])
SETS = np.stack([np.stack([Y, T]), np.stack([2 * Y, T])])


def read(index):
    """A model of two variables, of which it reads another one."""
    return lambda x, a, b: a * x[0] + b * x[index]


OPTIONS = [
    *({}, {"jac": "2-point"}, {"jac": "jacrev"}, {"loss": "huber"}, {"bounds": (-9.0, 9.0)}),
    *({"linear": ["a"]}, {"shared": ["b"]}, {"starts": 2}, {"xsigma": 0.1}),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_index_past_the_variables_of_x(options):
    with pytest.raises(IndexError, match="reads index 2 along axis 0 of an array of shape"):
        fit(read(2), XS, np.stack([Y, Y]), [1.0, 1.0], **options)


@pytest.mark.parametrize(
    "fitted",
    [
        lambda: fit(read(-3), XS, Y, [1.0, 1.0]),
        lambda: fit(lambda x, a, b: a * T + b * jnp.arange(1.0, 3.0)[2], XS, Y, [1.0, 1.0]),
        lambda: fit(lambda x, a, b: a * x[0] + b * x[1, 30], XS, Y, [1.0, 1.0]),
        lambda: fit(lambda x, a, b: a * x[0] + b * x[np.array([0, 2])][1], XS, Y, [1.0, 1.0]),
        lambda: fit(read(2), [XS[:, :9], XS], [Y[:9], Y], [1.0, 1.0]),
        lambda: curve_fit(read(2), jnp.asarray(XS), Y, [1.0, 1.0]),
        lambda: least_squares_batch(lambda p, d: p[0] * d[1] + p[1] - d[2], [1.0, 1.0], SETS),
        lambda: jax.vmap(
            lambda d: least_squares(lambda p: p[0] * d[1] + p[1] - d[2], jnp.ones(2)).x
        )(SETS),
        lambda: jax.jit(
            lambda d: least_squares(lambda p: p[0] * d[1] + p[1] - d[2], jnp.ones(2)).x
        )(SETS[0]),
    ],
)
def test_an_index_past_the_data(fitted):
    with pytest.raises(IndexError, match=r"index (-3|2|30) (along|is out of bounds)"):
        fitted()


def test_what_a_caller_asks_to_be_clipped_is():
    def clipped(x, a, b):
        return a * x[0] + b * jnp.take(x, 2, axis=0, mode="clip")

    found, expected = (fit(f, XS, Y, [1.0, 1.0]).x for f in (clipped, read(1)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
