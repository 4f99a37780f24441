"""Arguments of `least_squares` that JAX does not take as they are, and batches of no problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import curve_fit, fit, least_squares, leastsq

T = np.linspace(0.0, 2.0, 12)
Y = 2.0 * np.exp(-T)


def residual(p, t, y):
    return p[0] * jnp.exp(-p[1] * t) - y


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f4", np.longdouble, ">i4"])
def test_types_that_jax_does_not_have(dtype):
    """The other order of bytes, as in FITS files, and long doubles."""
    x0 = np.array([1, 1], dtype)
    for args in [(T.astype(dtype), Y.astype(dtype))] if np.dtype(dtype).kind == "f" else [(T, Y)]:
        found = least_squares(residual, x0, args=args)
        np.testing.assert_allclose(found.x, [2.0, 1.0], rtol=1e-4)
        named = least_squares(residual, x0, kwargs=dict(zip("ty", args, strict=True)))
        np.testing.assert_allclose(named.x, [2.0, 1.0], rtol=1e-4)
        np.testing.assert_allclose(leastsq(residual, x0, args=args)[0], [2.0, 1.0], rtol=1e-6)


def test_arguments_keep_their_order():
    seen = []

    def fun(p, parts):
        seen.append(list(parts))
        return residual(p, parts["t"], parts["a"])

    least_squares(fun, jnp.ones(2), args=({"t": jnp.array(T), "a": jnp.array(Y)},))
    assert seen[0] == ["t", "a"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"args": 2.0}, r"args must be a tuple, got 2\.0; write args=\(2\.0,\)\."),
        ({"kwargs": [1.0]}, r"kwargs must be a dict of arguments by name, got \[1\.0\]\."),
    ],
)
def test_arguments_of_another_kind(given, words):
    with pytest.raises(TypeError, match=words):
        least_squares(lambda p, s=1.0: s * p - 1.0, jnp.ones(2), **given)


def test_starts_that_are_no_numbers():
    with pytest.raises(TypeError, match="x0 must be real numbers, got dtype object"):
        least_squares(lambda p: p, np.array([1.0, None]))
    with pytest.raises(ValueError, match="x0 has 1 masked elements of 2"):
        least_squares(lambda p: p, np.ma.array([1.0, 2.0], mask=[True, False]))


def solution(y, bounds=None):
    return least_squares(lambda p: residual(p, T, y), jnp.ones(2), bounds=bounds)


@pytest.mark.parametrize("bounds", [None, (0.0, 5.0)], ids=["free", "bounds"])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_no_problems(wrap, bounds):
    """As `vmap` of anything else: arrays with nothing in them."""
    nothing = jnp.zeros((0, T.size))
    found = wrap(jax.vmap(lambda y: solution(y, bounds)))(nothing)
    one = solution(jnp.asarray(Y), bounds)
    for empty, full in zip(jax.tree.leaves(found), jax.tree.leaves(one), strict=True):
        assert (empty.shape, empty.dtype) == ((0, *full.shape), full.dtype)
    assert wrap(jax.vmap(jax.vmap(lambda y: solution(y).x)))(jnp.zeros((3, 0, 12))).shape == (
        3,
        0,
        2,
    )
    assert wrap(jax.vmap(jax.jacrev(lambda y: solution(y).x)))(nothing).shape == (0, 2, 12)


@pytest.mark.parametrize("number", [2, np.int32(2), np.array(2), True])
def test_integers_beside_what_is_differentiated(number, x64):
    t = jnp.linspace(0.0, 3.0, 12)

    def rate(y, number):
        args = ({"number": number, "y": y},)
        return least_squares(
            lambda p, d: p[0] * jnp.exp(-p[1] * t) * d["number"] - d["y"], jnp.ones(2), args=args
        ).x[1]

    y = 3.0 * jnp.exp(-0.7 * t)
    expected = jax.grad(lambda y: rate(y, 1.0 * number))(y)
    found = [jax.jacfwd(rate)(y, number), jax.jit(jax.grad(rate))(y, number)]
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-6)


@jax.custom_vjp
def reverse_only(x):
    return jnp.exp(x)


reverse_only.defvjp(lambda x: (reverse_only(x), x), lambda x, g: (jnp.exp(x) * g,))
DOORS = {
    "least_squares": lambda **how: (
        least_squares(lambda p: p[0] * reverse_only(-p[1] * T) - Y, jnp.ones(2), **how).x
    ),
    "nested": lambda **how: (
        least_squares(
            lambda p: p[0] * jax.jit(lambda u: reverse_only(u) + 0)(-p[1] * T) - Y,
            jnp.ones(2),
            **how,
        ).x
    ),
    "fit": lambda **how: fit(lambda x, a, k: a * reverse_only(-k * x), T, Y, [1.0, 1.0], **how).x,
    "leastsq": lambda **how: leastsq(
        lambda p: p[0] * reverse_only(-p[1] * T) - Y, [1.0, 1.0], **how
    )[0],
    "curve_fit": lambda **how: curve_fit(
        lambda x, a, k: a * reverse_only(-k * x), T, Y, [1.0, 1.0], **how
    )[0],
}


@pytest.mark.parametrize("name", DOORS)
def test_derivatives_that_are_in_reverse_only(name):
    how = {}
    if name in ("least_squares", "nested", "fit"):  # the others take differences then
        how = {"jac": "jacrev"}
        with pytest.raises(TypeError, match="custom_vjp, which has no derivative in forward mode"):
            DOORS[name]()
    np.testing.assert_allclose(DOORS[name](**how), [2.0, 1.0], rtol=1e-4)
