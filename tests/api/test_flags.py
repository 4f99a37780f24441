"""JAX's flags: float64 whatever they are, and left as they were."""

import json
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlsq.single.solve
from jaxlsq import curve_fit, leastsq

X = np.linspace(0.0, 4.0, 50)
TRUTH = np.array([2.5, 1.3])
Y = TRUTH[0] * np.exp(-TRUTH[1] * X)
START = np.array([1.0, 1.0])
FLAGS = ("jax_enable_x64", "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")


def numpy_model(x, a, b):
    return a * np.exp(-b * x)


def jnp_model(x, a, b):
    return a * jnp.exp(-b * x)


@pytest.fixture(autouse=True)
def empty_cache():
    """A program compiled under other flags would hide a mistake."""
    jaxlsq.clear_cache()


class UserError(Exception):
    pass


def flags():
    return {name: getattr(jax.config, name) for name in FLAGS}


def fit_both_ways(model):
    """Results of `leastsq` and `curve_fit`, flattened to arrays."""
    x, cov_x, info, _, _ = leastsq(
        lambda p: model(X, *p) - Y, START, ftol=1e-14, xtol=1e-14, full_output=True
    )
    popt, pcov = curve_fit(model, X, Y, ftol=1e-14, xtol=1e-14)
    return [x, popt], [cov_x, pcov, info["fvec"], info["fjac"], info["qtf"]]


def assert_accurate(model):
    parameters, others = fit_both_ways(model)
    for array in parameters:
        assert array.dtype == np.float64
        np.testing.assert_allclose(array, TRUTH, rtol=1e-10)
    assert {array.dtype for array in others} == {np.dtype(np.float64)}
    assert np.abs(others[2]).max() < 1e-10


@pytest.mark.parametrize("model", [numpy_model, jnp_model])
def test_float64_with_x64_off_and_left_off(model):
    assert not jax.config.jax_enable_x64
    before = flags()
    assert_accurate(model)
    assert flags() == before
    assert jnp.asarray(1.5 * np.ones(2)).dtype == np.float32


@pytest.mark.long_but("True-jnp_model", "False-numpy_model")
@pytest.mark.parametrize("model", [numpy_model, jnp_model])
@pytest.mark.parametrize("enabled", [True, False])
def test_surrounding_x64_context_is_left_alone(model, enabled):
    with jax.enable_x64(enabled):
        assert_accurate(model)
        assert jax.config.jax_enable_x64 is enabled
        assert jnp.zeros(2).dtype == (np.float64 if enabled else np.float32)
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("model", [numpy_model, jnp_model])
def test_results_are_the_same_with_and_without_x64(model):
    off = fit_both_ways(model)
    with jax.enable_x64(True):
        on = fit_both_ways(model)
    for one, other in zip(off[0] + off[1], on[0] + on[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("enabled", [True, False])
def test_flags_are_left_alone_by_an_exception_of_the_user(xp, enabled):
    def raising(p):
        xp.exp(p)
        raise UserError

    with jax.enable_x64(enabled):
        before = flags()
        with pytest.raises(UserError):
            leastsq(raising, START)
        with pytest.raises(UserError):
            curve_fit(lambda x, a: raising(a), X, Y)
        assert flags() == before
        assert jax.config.jax_enable_x64 is enabled


def test_flags_are_left_alone_by_an_exception_in_the_middle_of_a_fit():
    calls = []

    def raising(p):
        calls.append(np.exp(p))  # not with a tracer
        if len(calls) == 5:
            raise UserError
        return numpy_model(X, *p) - Y

    before = flags()
    with pytest.raises(UserError):
        leastsq(raising, START)
    assert flags() == before


def test_flags_are_left_alone_by_our_own_exceptions():
    before = flags()
    for arguments in ((lambda p: None, START), (lambda p: jnp.ones(1) * p[0], START)):
        with pytest.raises(TypeError):
            leastsq(*arguments)
        assert flags() == before


def test_user_function_sees_float64():
    seen = []

    def func(p):
        seen.append(p.dtype)
        return jnp_model(X, *p) - Y

    leastsq(func, START)
    leastsq(lambda p: func(np.asarray(p)), START)
    assert set(seen) == {np.dtype(np.float64)}
    assert len(seen) > 5


@pytest.mark.long_but("None-jnp_model", "2-point-numpy_model", "3-point-numpy_model")
@pytest.mark.parametrize("model", [numpy_model, jnp_model])
@pytest.mark.parametrize("method", [None, "2-point", "3-point"])
def test_strict_promotion_of_types_and_ranks(strict, model, method):
    before = flags()
    parameters = leastsq(lambda p: model(X, *p) - Y, START, Dfun=method, xtol=1e-14)[0]
    np.testing.assert_allclose(parameters, TRUTH, rtol=1e-10)
    assert flags() == before


@pytest.mark.long_but("None-numpy_model", "sigma3-jnp_model", "sigma3-numpy_model")
@pytest.mark.parametrize("model", [numpy_model, jnp_model])
@pytest.mark.parametrize("sigma", [None, 0.1, np.full(50, 0.1), np.eye(50)])
def test_strict_promotion_in_curve_fit(strict, model, sigma):
    popt, pcov = curve_fit(model, X, Y, sigma=sigma, xtol=1e-14)
    np.testing.assert_allclose(popt, TRUTH, rtol=1e-10)
    assert pcov.dtype == np.float64


@pytest.mark.long_but("of all pairs")
@pytest.mark.parametrize(
    "sigma",
    [None, np.full(50, 0.1), np.eye(50)],
    ids=["none", "of each", "of all pairs"],
)
def test_strict_promotion_with_given_jacobians(sigma, strict):
    def rows(x, a, b):
        e = jnp.exp(-b * x)
        return jnp.stack([e, -a * x * e], axis=1)

    popt, _ = curve_fit(jnp_model, X, Y, sigma=sigma, jac=rows, xtol=1e-14)
    np.testing.assert_allclose(popt, TRUTH, rtol=1e-10)


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_changes_neither_jax_config_nor_environment():
    changed = run(
        """
        import json, os
        import jax
        before, environment = dict(jax.config.values), dict(os.environ)
        import jaxlsq
        after = dict(jax.config.values)
        print(json.dumps([
            sorted(k for k in before | after if before.get(k) != after.get(k)),
            dict(os.environ) == environment,
            len(before) > 20,
        ]))
        """
    )
    assert changed == [[], True, True]


def test_fit_changes_neither_jax_config_nor_environment():
    changed = run(
        """
        import json, os
        import jax, numpy as np
        before, environment = dict(jax.config.values), dict(os.environ)
        import jaxlsq
        x, ier = jaxlsq.leastsq(lambda p: p * p - 2.0, 1.0)
        after = dict(jax.config.values)
        print(json.dumps([
            sorted(k for k in before | after if before.get(k) != after.get(k)),
            dict(os.environ) == environment,
            abs(x[0] - 2**0.5) < 1e-10,
        ], default=bool))
        """
    )
    assert changed == [[], True, True]
