"""Doors of the host under jit, vmap and grad: a sentence that names `least_squares`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import curve_fit, fit, least_squares_batch, leastsq

T = np.linspace(0.1, 4.0, 30)
Y = np.exp(-T)


def model(t, a, k):
    return a * jnp.exp(-k * t)


DOORS = {
    "start of leastsq": lambda x, y: leastsq(lambda p: model(T, *p) - Y, x)[0],
    "closure of leastsq": lambda x, y: leastsq(lambda p: model(T, *p) - y, [1.0, 1.0])[0],
    "args of leastsq": lambda x, y: leastsq(lambda p, y: model(T, *p) - y, [1.0, 1.0], (y,))[0],
    "ydata of curve_fit": lambda x, y: curve_fit(model, T, y, [1.0, 1.0])[0],
    "p0 of curve_fit": lambda x, y: curve_fit(model, T, Y, x, bounds=(0, 9))[0],
    "ydata of fit": lambda x, y: fit(model, T, y[None], [1.0, 1.0]).x,
    "closure of fit": lambda x, y: (
        fit(lambda t, a, k: model(t, a, k) + y[0], T, Y[None], [1.0, 1.0]).x
    ),
    "p0 of fit": lambda x, y: fit(model, T, Y[None], x).x,
    "data of least_squares_batch": lambda x, y: (
        least_squares_batch(lambda p, d: model(T, *p) - d, [1.0, 1.0], y[None]).x
    ),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("transform", [jax.jit, lambda f: jax.jacfwd(f, argnums=(0, 1))])
def test_traced_values(door, transform):
    with pytest.raises(TypeError, match="least_squares there"):
        transform(door)(jnp.ones(2), jnp.asarray(Y))


def test_a_fit_inside_of_a_fit_goes_on():
    def outer(q):
        inner = leastsq(lambda p: model(T, *p) - q[0] * Y, [1.0, 0.9])[0]
        return np.array([inner[0] - 2.0, inner[1] - 1.0])

    np.testing.assert_allclose(leastsq(outer, [1.5])[0], [2], rtol=1e-5)
