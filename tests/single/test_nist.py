"""NIST's 27 regression problems from both starts, against the certified results."""

import numpy as np
import pytest
from scipy.optimize import leastsq as scipy_leastsq

from jaxlsq import leastsq
from jaxlsq.datasets import NIST_NAMES, load_nist
from jaxlsq.demo.nist_table import KNOWN_MISSES, agreed_digits, fit_problem

# Of two to nine parameters.
SHORT = ("BoxBOD", "DanWood", "MGH10", "Thurber")


@pytest.mark.long_but(*SHORT)
@pytest.mark.parametrize("name", NIST_NAMES)
def test_digits_agreed_with_the_certified_values(name):
    problem = load_nist(name)
    for start in (0, 1):
        row = fit_problem(problem, start)
        assert row.passed or (name, start) in KNOWN_MISSES, (row.digits, row.error_digits)


def test_misses_are_misses():
    """A known miss that is met one day leaves the list."""
    for name, start in KNOWN_MISSES:
        assert not fit_problem(load_nist(name), start).passed


@pytest.mark.long_but(*SHORT)
@pytest.mark.parametrize("name", NIST_NAMES)
def test_cov_x_equals_scipys(name):
    problem = load_nist(name)

    def residual(params, x, y):
        return problem.model(x, *params) - y

    def on_host(params, x, y):
        return np.asarray(residual(params, x, y), np.float64)

    options = {"full_output": True, "ftol": 1e-14, "xtol": 1e-14, "maxfev": 5000}
    data = (problem.x, problem.y)
    ours = leastsq(residual, problem.params, args=data, **options)
    import jax

    with jax.enable_x64(True):
        jac = jax.jit(jax.jacfwd(residual))
        theirs = scipy_leastsq(
            on_host, problem.params, data, Dfun=lambda *a: np.asarray(jac(*a)), **options
        )
    # Both stop where rounding stops them, a step of 1e-8 or so apart; the covariance of the
    # worst conditioned problem, Lanczos1, has a condition number of 1e11.
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-6)


def test_agreed_digits():
    assert agreed_digits([1.0 + 1e-6], np.array([1.0])) == pytest.approx(6.0, abs=1e-6)
    assert agreed_digits([1.0], np.array([1.0])) == 11.0
    assert agreed_digits([np.nan], np.array([1.0])) == 0.0
