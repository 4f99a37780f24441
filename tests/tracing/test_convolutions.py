"""Convolutions of a data set with a kernel of its own: NumPy's values, none of XLA's grouped."""

import jax
import jax.numpy as jnp
import jax.scipy.signal
import numpy as np
import pytest
from scipy.optimize import curve_fit

from jaxlsq import fit, least_squares
from jaxlsq.tracing.fast import with_fast_functions

RNG = np.random.default_rng(0)
MODES = pytest.mark.parametrize("mode", ["full", "same", "valid"])


def text_of(function, *arguments):
    return str(jax.make_jaxpr(with_fast_functions(function))(*arguments))


@MODES
@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("sizes", [(1, 1), (7, 3), (40, 40), (33, 50), (100, 17), (20, 1)], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-13)])
def test_values_are_numpys(name, mode, sizes, dtype, tolerance):
    a, b = (RNG.normal(size=(5, size)).astype(dtype) for size in sizes)
    with jax.enable_x64(dtype == np.float64):
        function = jax.vmap(lambda a, b: getattr(jnp, name)(a, b, mode=mode))
        assert "conv_general_dilated" not in text_of(function, a, b)
        found = np.asarray(jax.jit(with_fast_functions(function))(a, b))
    wide = zip(a.astype(np.float64), b.astype(np.float64), strict=True)
    expected = [getattr(np, name)(*pair, mode) for pair in wide]
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=tolerance)


@MODES
def test_scipys_and_derivatives(x64, mode):
    a, b, moved = RNG.normal(size=(3, 4, 30))

    def along(a, b, moved):
        return jax.jvp(lambda b: jax.scipy.signal.convolve(a, jnp.sin(b), mode), (b,), (moved,))

    function = jax.vmap(along)
    assert "conv_general_dilated" not in text_of(function, a, b, moved)
    for found, expected in zip(
        with_fast_functions(function)(a, b, moved), function(a, b, moved), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_shared_operands_and_single_pairs_are_left_to_xla(x64):
    a, b = RNG.normal(size=(6, 20)), RNG.normal(size=9)
    for function in (
        jax.vmap(lambda a: jnp.convolve(a, b)),
        jax.vmap(lambda a: jnp.convolve(b, a)),
    ):
        assert "conv_general_dilated" in text_of(function, a)
        np.testing.assert_allclose(
            with_fast_functions(function)(a), [np.convolve(row, b) for row in a], atol=1e-13
        )


def test_inside_of_loops_and_branches(x64):
    a, b = RNG.uniform(0.5, 1.0, size=(2, 6, 12))

    def smoothed(a, b):
        def again(carry, _):
            return jnp.convolve(carry, b, "same") / jnp.sum(b), jnp.log(carry[0])

        carry, logs = jax.lax.scan(again, a, None, length=3)
        return jax.lax.cond(carry[0] > 0, lambda v: jnp.cos(v), lambda v: v, carry), logs

    function = jax.vmap(smoothed)
    text = text_of(function, a, b)
    assert "conv_general_dilated" not in text
    assert "bitcast_convert_type" in text  # of the logarithm
    for found, expected in zip(with_fast_functions(function)(a, b), function(a, b), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_zeros_stay_zero_and_lanes_do_not_depend_on_their_neighbours(x64):
    a, b = RNG.uniform(size=(2, 9, 50))
    a[:, :20], b[3, 5] = 0.0, np.nan
    function = jax.jit(with_fast_functions(jax.vmap(jnp.convolve)))
    whole = np.asarray(function(a, b))
    others = np.arange(9) != 3
    assert np.all(whole[others, :20] == 0.0)
    assert np.all(whole[others] >= 0.0)
    assert np.all(np.isnan(whole[3, 25:55]))
    np.testing.assert_array_equal(function(a[4:7], b[4:7]), whole[4:7])


def test_a_residual_and_its_columns_have_a_convolution_each(x64):
    t = np.linspace(0.0, 5.0, 40)

    def residual(a, k, x):
        return a * jnp.convolve(x, jnp.exp(-k * t))[:40]

    def linear(a, k, x):
        f, by_a = jax.jvp(lambda a: residual(a, k, x), (a,), (1.0,))
        _, by_k = jax.jvp(lambda k: residual(a, k, x), (k,), (1.0,))
        return f, by_a, by_k

    arguments = (np.ones(3), np.ones(3), RNG.normal(size=(3, 40)))
    assert text_of(jax.vmap(linear), *arguments).count("= scan") <= 3


T = np.linspace(0.0, 9.9, 100)


def response(x, a, k, xp=jnp):
    return a * T[1] * xp.convolve(x, xp.exp(-k * T))[: T.size]


@pytest.fixture(scope="module")
def curves():
    inputs = np.exp(-np.square(T - 2.0)) * (1 + 0.2 * RNG.random((6, 1)))
    rates = np.linspace(0.4, 2.0, 6)
    clean = [response(x, 2.0, k, np) for x, k in zip(inputs, rates, strict=True)]
    y = np.stack(clean) + 0.002 * RNG.normal(size=(6, T.size))
    expected = [
        curve_fit(lambda x, a, k: response(x, a, k, np), x, row, [1.0, 1.0])
        for x, row in zip(inputs, y, strict=True)
    ]
    return inputs, y, *map(np.stack, zip(*expected, strict=True))


def test_fit_of_responses_is_scipys(curves):
    inputs, y, x, cov = curves
    result = fit(response, inputs, y, [1.0, 1.0])
    np.testing.assert_allclose(result.x, x, rtol=1e-6)
    np.testing.assert_allclose(result.cov, cov, rtol=1e-3)
    expected = [response(row, *p, np) for row, p in zip(inputs, result.x, strict=True)]
    np.testing.assert_allclose(result.predict(), expected, rtol=1e-10)


@pytest.mark.long
def test_least_squares_of_responses_is_scipys_and_so_are_its_derivatives(x64, curves):
    inputs, y, x, _ = curves

    def fitted(inputs, row):
        return least_squares(lambda p: response(inputs, *p) - row, jnp.ones(2)).x

    solve = jax.jit(jax.vmap(fitted))
    np.testing.assert_allclose(solve(inputs, y), x, rtol=1e-6)
    change = 1e-4 * np.cos(T)
    expected = (solve(inputs + change, y) - solve(inputs - change, y)) / 2
    _, moved = jax.jvp(lambda v: solve(v, y), (jnp.asarray(inputs),), (jnp.tile(change, (6, 1)),))
    np.testing.assert_allclose(moved, expected, rtol=1e-3)
    pulled = jax.grad(lambda v: solve(v, y).sum())(jnp.asarray(inputs))
    np.testing.assert_allclose(pulled @ change, expected.sum(axis=1), rtol=1e-3)
