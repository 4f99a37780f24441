"""Models that are written with NumPy and SciPy, traced: the same as their namesakes of JAX."""

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np
import pytest
import scipy.special

from jaxlsq import fit, least_squares, least_squares_batch
from jaxlsq.tracing.numpy_arrays import as_numpy_would

X = np.linspace(0.1, 4.0, 30)
TRUE = np.random.default_rng(0).uniform((1.0, 0.5, 0.1), (2.0, 1.0, 0.3), (12, 3))


def models(xp, special):
    """Each with the functions of one library."""
    return {
        "exp": lambda x, a, b, c: a * xp.exp(-b * x) + c,
        "where": lambda x, a, b, c: xp.where(x > 1.0, a * xp.exp(-b * x), a * b) + c,
        "erfc": lambda x, a, b, c: a * special.erfc(b * x) + c,
        "expit": lambda x, a, b, c: a * special.expit(b * (x - 2.0)) + c,
        "power": lambda x, a, b, c: a * xp.power(x, b) + c,
        "interp": lambda x, a, b, c: a * xp.interp(x * b, X, xp.sin(X)) + c,
        "convolve": lambda x, a, b, c: xp.convolve(a * xp.exp(-b * x), np.ones(3) / 3, "same") + c,
        "piecewise": lambda x, a, b, c: (
            xp.piecewise(x, [x < 1.0, x >= 1.0], [lambda v: a * v, lambda v: a + b * (v - 1.0)]) + c
        ),
        "outer": lambda x, a, b, c: a * xp.exp(-b * xp.outer(x, np.ones(2))).sum(axis=1) + c,
        "sum of a list": lambda x, a, b, c: xp.sum(xp.stack([a * xp.exp(-b * x), c * x]), axis=0),
        "clip": lambda x, a, b, c: xp.clip(a * x, 0.0, 1.0 + b) + c,
        "matrix": lambda x, a, b, c: (
            xp.stack([xp.ones_like(x), x, x**2], axis=1) @ xp.stack([a, b, c])
        ),
        "polynomial": lambda x, a, b, c: xp.polyval(xp.stack([a, b, c]), x),
        "methods": lambda x, a, b, c: a * (x - x.mean()).reshape(-1) + b * (x**2).cumsum() + c,
        "constants": lambda x, a, b, c: np.float64(2.0) * a * x + b * np.pi * x**2 + c * np.sqrt(X),
        "reduced": lambda x, a, b, c: a * x + b * x**2 / xp.max(x) + c * xp.add.reduce(x),
    }


NUMPY, JAX = models(np, scipy.special), models(jnp, jsp)


def data(name):
    return np.stack([NUMPY[name](X, *p) for p in TRUE]) * 1.01


@pytest.mark.long_but(*[name for name in NUMPY if name != "convolve"])
@pytest.mark.parametrize("name", NUMPY)
def test_a_numpy_model_is_the_jax_model_to_the_bit(name):
    y = data(name)
    ours, expected = (fit(m[name], X, y, [1.5, 0.7, 0.2]) for m in (NUMPY, JAX))
    assert ours.engine == expected.engine
    for field in ("x", "cost", "nfev", "status"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(expected, field))
    np.testing.assert_array_equal(ours.predict(), expected.predict())
    assert ours.success.all()


def written(x, a, b, c):
    """In place, as much NumPy code is."""
    y = np.zeros_like(x)
    y[10:] += a * np.exp(-b * x[10:])
    y += c
    z = y.copy()
    z[0] = 0.0
    np.multiply(y, 1.0, out=y)
    return y + 0.0 * z


def test_what_is_written_in_place():
    y = np.stack([written(X, *p) for p in TRUE])
    result = fit(written, X, y, [1.5, 0.7, 0.2])
    np.testing.assert_allclose(result.x, TRUE, rtol=1e-6)


def test_the_users_arrays_are_not_written_to():
    def careless(x, a, b, c):
        x -= 1.0
        return a * np.exp(-b * (x + 1.0)) + c

    x, y = X.copy(), data("exp")
    result = fit(careless, x, y, [1.5, 0.7, 0.2])
    np.testing.assert_array_equal(x, X)
    np.testing.assert_allclose(result.x, fit(JAX["exp"], X, y, [1.5, 0.7, 0.2]).x, rtol=1e-6)


def residual(p, y):
    return p[0] * np.exp(-p[1] * X) + p[2] - y


def test_other_doors():
    y = data("exp")
    expected = fit(JAX["exp"], X, y, [1.5, 0.7, 0.2]).x
    batch = least_squares_batch(residual, [1.5, 0.7, 0.2], y)
    np.testing.assert_allclose(batch.x, expected, rtol=1e-7)

    def solve(y):
        return least_squares(residual, jnp.array([1.5, 0.7, 0.2]), args=(y,)).x

    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(jax.vmap(solve))(y), expected, rtol=1e-6)
        slope = jax.jacfwd(solve)(jnp.asarray(y[0]))
        change = (solve(y[0] + 1e-5) - solve(y[0] - 1e-5)) / 2e-5
        np.testing.assert_allclose(jnp.sum(slope, axis=1), change, rtol=1e-4, atol=1e-6)


def test_a_jacobian_of_numpy():
    def jac(x, a, b, c):
        e = np.exp(-b * x)
        return np.stack([e, -a * x * e, np.ones_like(x)], axis=1)

    y = data("exp")
    result = fit(NUMPY["exp"], X, y, [1.5, 0.7, 0.2], jac=jac)
    np.testing.assert_allclose(result.x, fit(JAX["exp"], X, y, [1.5, 0.7, 0.2]).x, rtol=1e-7)


def test_in_float32():
    y, start = data("exp").astype(np.float32), np.array([1.5, 0.5, 0.25], np.float32)
    how = {"xdata": X.astype(np.float32), "ydata": y, "p0": start, "polish": None}
    ours, expected = (fit(m["exp"], **how) for m in (NUMPY, JAX))
    assert ours.problem.is_narrow
    np.testing.assert_array_equal(ours.x, expected.x)


# --- what it can't do --------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda v: np.frompyfunc(lambda u: u, 1, 1)(v),
        lambda v: np.exp(v, where=np.array([True, False, True])),
        lambda v: np.add(v, 1.0, out=np.zeros(3)),
        lambda v: np.array([v[0], v[1]]),
        lambda v: v if v[0] > 0 else -v,
    ],
)
def test_what_has_no_counterpart_raises_as_without(function):
    with pytest.raises(jax.errors.JAXTypeError):
        jax.jit(lambda v: as_numpy_would(function, v))(np.ones(3))


def test_an_error_of_the_models_own_comes_through():
    def broken(v):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        jax.jit(lambda v: as_numpy_would(broken, v))(np.ones(3))

    def breaks_later(v):
        return np.exp(v).reshape(7)

    with pytest.raises(TypeError, match="reshape"):
        jax.jit(lambda v: as_numpy_would(breaks_later, v))(np.ones(3))


def test_results_of_several_arrays():
    def function(v):
        low, high = np.split(v, 2)
        return np.maximum(low, high) + np.hstack([low[:1], high[:1]])

    v = np.array([1.0, 5.0, 3.0, 2.0])
    np.testing.assert_array_equal(jax.jit(lambda v: as_numpy_would(function, v))(v), function(v))
