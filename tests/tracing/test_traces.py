"""The user's function is traced once in a call of any door, and its derivatives come from that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import clear_cache, curve_fit, fit, least_squares, least_squares_batch, leastsq

T = np.linspace(0.0, 4.0, 40)
Y = np.stack([2.0 * np.exp(-k * T) for k in (0.5, 0.9, 1.4)])
START = np.ones(2)


class Counted:
    """A function of the user's, and how often it was called with traced parameters."""

    def __init__(self, function, number=0):
        self.function, self.number, self.traces = function, number, 0

    def __call__(self, *args):
        leaves = jax.tree.leaves(args[self.number])
        self.traces += any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        return self.function(*args)


def decay(p, y):
    return p[0] * jnp.exp(-p[1] * T) - y


def rows(p, y):
    return jnp.stack([jnp.exp(-p[1] * T), -T * p[0] * jnp.exp(-p[1] * T)], axis=1)


def softplus(p, y):
    return jax.nn.softplus(p[0] * jnp.exp(-p[1] * T)) - jnp.log1p(jnp.exp(y))


def convolved(p, y):
    kernel = np.ones(5) / 5
    return jnp.convolve(p[0] * jnp.exp(-p[1] * T), kernel, mode="same") - jnp.convolve(
        y, kernel, mode="same"
    )


def model(x, a, k):
    return a * jnp.exp(-k * x)


def solved(fun, y, **options):
    return least_squares(fun, jnp.ones(2), args=(y,), **options).x


BY_RESIDUAL = {
    "leastsq": lambda f: leastsq(f, START, args=(Y[0],))[0],
    "leastsq, 2-point": lambda f: leastsq(f, START, args=(Y[0],), Dfun="2-point")[0],
    "least_squares_batch": lambda f: least_squares_batch(f, START, Y).x[0],
    "least_squares": lambda f: solved(f, Y[0]),
    "bounds": lambda f: solved(f, Y[0], jac="3-point", bounds=(0, 5)),
    "loss": lambda f: solved(f, Y[0], loss="huber"),
    "history": lambda f: solved(f, Y[0], return_history=3),
    "vmap": lambda f: jax.vmap(lambda y: solved(f, y))(Y)[0],
    "jit": lambda f: jax.jit(lambda y: solved(f, y))(Y[0]),
    "value_and_grad": lambda f: jax.value_and_grad(lambda y: solved(f, y)[0])(jnp.array(Y[0]))[0],
    "jac": lambda f: solved(f, Y[0], jac=rows),
}
BY_MODEL = {
    "curve_fit": lambda f: curve_fit(f, T, Y[0], START)[0],
    "curve_fit, bounds": lambda f: curve_fit(f, T, Y[0], START, bounds=(0, 5))[0],
    "fit": lambda f: fit(f, T, Y, START).x[0],
    "fit, loss": lambda f: fit(f, T, Y, START, bounds=(0, 5), loss="huber").x[0],
    "guess": lambda f: fit(f, T, Y, lambda x, y: jnp.stack([y[0], 1.0])).x[0],
}


@pytest.mark.long_but("leastsq", "least_squares_batch", "least_squares", "loss", "vmap", "jit")
@pytest.mark.parametrize("name", BY_RESIDUAL)
def test_a_residual_is_traced_once(name):
    clear_cache()
    function = Counted(decay)
    x = BY_RESIDUAL[name](function)
    assert function.traces == 1
    np.testing.assert_allclose(np.ravel(x)[0], 2.0, rtol=1e-3)
    BY_RESIDUAL[name](function)
    assert function.traces == 2


@pytest.mark.long_but("curve_fit", "fit", "fit, loss", "guess")
@pytest.mark.parametrize("name", BY_MODEL)
def test_a_model_is_traced_once(name):
    clear_cache()  # or it may have been traced before
    function = Counted(model, 1)
    x = BY_MODEL[name](function)
    assert function.traces == 1
    np.testing.assert_allclose(x[0], 2.0, rtol=1e-3)


@pytest.mark.long_but("softplus")
@pytest.mark.parametrize("fun", [softplus, convolved])
def test_functions_with_own_rules_and_convolutions_too(fun):
    function = Counted(fun)
    x = solved(function, Y[0])
    assert function.traces == 1
    np.testing.assert_allclose(x, [2.0, 0.5], rtol=1e-3)


def test_a_jacobian_is_traced_once():
    jac = Counted(rows)
    solved(decay, Y[0], jac=jac)
    assert jac.traces == 1


def test_outside_of_jit_it_is_one_program(compiles):
    """Of another closure too: derivatives and `vmap` are a few programs, compiled once."""

    def gradient(fun, y):
        return jax.grad(lambda y: solved(fun, y)[1])(y)

    def fresh():
        return lambda p, y: p[0] * jnp.exp(-p[1] * T) - y

    y = jnp.asarray(Y, jnp.float32)
    first = gradient(fresh(), y[0]), jax.vmap(lambda y: solved(fresh(), y))(y)
    before = compiles()
    again = gradient(fresh(), y[0]), jax.vmap(lambda y: solved(fresh(), y))(y)
    assert compiles() == before
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_what_is_closed_over_is_not_remembered():
    """A later closure of the same structure answers for its own data, and for its gradient."""

    def of(scale):
        return jax.grad(lambda s: solved(lambda p, y: decay(p, s * y), jnp.asarray(Y[0]))[0])(scale)

    np.testing.assert_allclose(of(1.0), 2.0, rtol=1e-3)
    np.testing.assert_allclose(of(3.0), 2.0, rtol=1e-3)
    twice = solved(lambda p, y: decay(p, 2.0 * y), jnp.asarray(Y[0]))
    np.testing.assert_allclose(twice[0], 4.0, rtol=1e-3)
