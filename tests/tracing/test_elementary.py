"""The vectorized sine and cosine: to the last unit, at any size, and only where they help."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.tracing.fast import with_fast_functions

SIN = jax.jit(with_fast_functions(lambda x: jax.lax.sin(x)))
COS = jax.jit(with_fast_functions(lambda x: jax.lax.cos(x)))
PAIRS = pytest.mark.parametrize(
    ("fast", "exact"), [(SIN, np.sin), (COS, np.cos)], ids=["sin", "cos"]
)


def arguments(scale):
    rng = np.random.default_rng(0)
    x = rng.uniform(-scale, scale, 20_000)
    x[:2000] = np.round(x[:2000] / (np.pi / 2)) * (np.pi / 2)  # where they cross zero
    return x


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no wider type to compare with")
@PAIRS
@pytest.mark.parametrize("scale", [1e-8, 1.0, 100.0, 1e5, 1.6e6])
def test_within_one_unit_in_the_last_place(x64, fast, exact, scale):
    x = arguments(scale)
    expected = exact(x.astype(np.longdouble))
    unit = np.spacing(np.abs(expected).astype(float))
    assert np.max(np.abs(np.asarray(fast(x)) - expected) / unit) < 0.9


@PAIRS
def test_large_and_special_values(x64, fast, exact):
    x = np.array([1e7, -3e15, 2.5e300, 0.0, -0.0, np.nan])
    np.testing.assert_allclose(fast(x), exact(x), rtol=1e-15)
    assert np.isnan(fast(np.array([np.inf]))[0])


@PAIRS
def test_a_large_element_changes_no_bit_of_the_others(x64, fast, exact):
    x = arguments(100.0)
    with_large = x.copy()
    with_large[7] = 1e9
    others = np.arange(x.size) != 7
    np.testing.assert_array_equal(np.asarray(fast(with_large))[others], np.asarray(fast(x))[others])


@PAIRS
@pytest.mark.parametrize("scale", [1e-8, 1.0, 100.0, 1e3, 1e5])
def test_float32(fast, exact, scale):
    x = arguments(scale).astype(np.float32)
    expected = exact(x.astype(np.float64))
    found = np.asarray(fast(x))
    assert found.dtype == np.float32
    errors = np.abs(found - expected)
    assert np.max(errors) < 1e-7
    units = errors / np.spacing(np.abs(expected).astype(np.float32))
    assert np.max(units, where=np.abs(expected) > 1e-4, initial=0.0) < 1.5


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_only_types_that_have_a_table_are_replaced(dtype):
    text = str(jax.make_jaxpr(with_fast_functions(jnp.sin))(jnp.ones(3, dtype)))
    assert ("floor" in text) == (dtype == np.float32)


def test_derivatives_and_vmap(x64):
    def both(x):
        return jax.jvp(jnp.sin, (x,), (jnp.ones_like(x),))

    value, slope = with_fast_functions(jax.vmap(both))(np.linspace(-3.0, 3.0, 11))
    np.testing.assert_allclose(value, np.sin(np.linspace(-3.0, 3.0, 11)), rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(slope, np.cos(np.linspace(-3.0, 3.0, 11)), rtol=1e-14)


LOG = jax.jit(with_fast_functions(lambda x: jax.lax.log(x)))


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no wider type to compare with")
@pytest.mark.parametrize("kind", ["all sizes", "near one", "beside one", "powers"])
def test_logarithms_are_within_one_unit_in_the_last_place(x64, kind):
    rng = np.random.default_rng(1)
    x = {
        "all sizes": np.exp(rng.uniform(-700, 700, 50_000)),
        "near one": rng.uniform(0.5, 2.0, 50_000),
        "beside one": 1 + 1e-6 * rng.normal(size=50_000),
        "powers": 2.0 ** np.arange(-1000.0, 1000.0, 0.5),
    }[kind]
    expected = np.log(x.astype(np.longdouble))
    unit = np.spacing(np.abs(expected).astype(float))
    assert np.max(np.abs(np.asarray(LOG(x)) - expected) / unit) < 0.9


def test_logarithms_of_special_values(x64):
    found = LOG(np.array([0.0, -1.0, np.inf, np.nan, 3.0]))
    np.testing.assert_allclose(found, [-np.inf, np.nan, np.inf, np.nan, np.log(3.0)], rtol=1e-15)
    assert found[4] == LOG(np.array([3.0]))[0]  # the others change no bit of it


def test_logarithms_of_float32_are_left_to_xla():
    text = str(jax.make_jaxpr(with_fast_functions(jnp.log))(jnp.ones(3, np.float32)))
    assert "bitcast" not in text


def test_logarithms_beside_one(x64):
    found = jax.jit(with_fast_functions(lambda x: jax.lax.log1p(x)))
    rng = np.random.default_rng(2)
    x = np.concatenate([np.geomspace(1e-300, 1e300, 2000), rng.uniform(-0.999, 3.0, 5000), [0.0]])
    np.testing.assert_allclose(found(x), np.log1p(x), rtol=4e-16)
    np.testing.assert_array_equal(found(np.array([-1.0, -2.0, np.nan])), [-np.inf, np.nan, np.nan])
