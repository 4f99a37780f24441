"""Every stopping rule on both sides of its inequality, and the order among them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.numerics.convergence import (
    after_factorization,
    after_trial,
    reduction_test,
    step_test,
)
from jaxlsq.numerics.state import Options
from jaxlsq.status import Status

TOL = 2.0**-10
EPS = 2.0**-52
ABOVE = np.nextafter(TOL, 1)


def status(
    *,
    actual=0.5,
    predicted=0.5,
    ratio=1.0,
    bound=1.0,
    xnorm=1.0,
    gnorm=0.5,
    nfev=3,
    tol=0.0,
    xtol=0.0,
    max_nfev=100,
    dtype=jnp.float64,
):
    """`after_trial` where, by default, nothing holds; `tol` is ftol."""
    actual, predicted, ratio, bound, xnorm, gnorm, ftol, xtol, zero = (
        jnp.asarray(v, dtype) for v in (actual, predicted, ratio, bound, xnorm, gnorm, tol, xtol, 0)
    )
    options = Options(ftol, xtol, zero, jnp.int32(max_nfev), zero, zero, zero)
    result = after_trial(
        (actual, predicted, ratio), (bound, xnorm), gnorm, jnp.int32(nfev), options
    )
    assert result.dtype == jnp.int32
    return Status(int(result))


FTOL = {"actual": TOL, "predicted": TOL, "ratio": 1.0, "tol": TOL}
XTOL = {"bound": TOL, "xtol": TOL}
LIMIT = {"nfev": 100}
TINY_REDUCTION = {"actual": EPS, "predicted": EPS}
TINY_STEP = {"bound": EPS}
TINY_GRADIENT = {"gnorm": EPS}


@pytest.mark.parametrize(
    ("actual", "predicted", "ratio", "holds"),
    [
        (TOL, TOL, 2.0, True),
        (-TOL, TOL, -1.0, True),
        (0.0, 0.0, 0.0, True),
        (ABOVE, TOL, 2.0, False),
        (-ABOVE, TOL, -1.0, False),
        (TOL, ABOVE, 1.0, False),
        (TOL, TOL, np.nextafter(2.0, 3.0), False),
        (np.nan, TOL, 1.0, False),
    ],
)
def test_reduction_test(x64, actual, predicted, ratio, holds):
    assert bool(reduction_test(actual, predicted, ratio, TOL)) is holds


@pytest.mark.parametrize(
    ("bound", "xnorm", "holds"),
    [(TOL, 1.0, True), (ABOVE, 1.0, False), (4 * TOL, 4.0, True), (4 * ABOVE, 4.0, False)],
)
def test_step_test(x64, bound, xnorm, holds):
    assert step_test(bound, xnorm, TOL) == holds


@pytest.mark.parametrize(
    ("gnorm", "gtol", "expected"),
    [
        (TOL, TOL, Status.GTOL),
        (ABOVE, TOL, Status.RUNNING),
        (0.0, 0.0, Status.GTOL),
        (1e-300, 0.0, Status.RUNNING),
        (np.nan, 1.0, Status.RUNNING),
    ],
)
def test_exit_4_after_a_factorization(x64, gnorm, gtol, expected):
    result = after_factorization(jnp.float64(gnorm), gtol)
    assert result.dtype == jnp.int32
    assert result == expected


def test_nothing_holds(x64):
    assert status() is Status.RUNNING


def test_exit_1_at_ftol(x64):
    assert status(**FTOL) is Status.FTOL


@pytest.mark.parametrize(
    "change", [{"actual": ABOVE}, {"predicted": ABOVE}, {"ratio": np.nextafter(2.0, 3.0)}]
)
def test_no_exit_1_above_ftol(x64, change):
    assert status(**FTOL | change) is Status.RUNNING


def test_exit_2_at_xtol_but_not_above(x64):
    assert status(**XTOL) is Status.XTOL
    assert status(**XTOL | {"bound": ABOVE}) is Status.RUNNING
    assert status(**XTOL | {"xnorm": np.nextafter(1.0, 0.0)}) is Status.RUNNING


def test_exit_3_where_both_hold(x64):
    assert status(**FTOL, **XTOL) is Status.FTOL_AND_XTOL


def test_exit_5_at_the_limit_but_not_below(x64):
    assert status(nfev=100) is Status.MAX_NFEV
    assert status(nfev=101) is Status.MAX_NFEV
    assert status(nfev=99) is Status.RUNNING


@pytest.mark.parametrize(
    "change",
    [
        {"actual": EPS * (1 + EPS)},
        {"predicted": EPS * (1 + EPS)},
        {"ratio": np.nextafter(2.0, 3.0)},
    ],
)
def test_exit_6_at_machine_precision_but_not_above(x64, change):
    assert status(**TINY_REDUCTION) is Status.FTOL_TOO_SMALL
    assert status(**TINY_REDUCTION | change) is Status.RUNNING


def test_exit_7_at_machine_precision_but_not_above(x64):
    assert status(bound=EPS) is Status.XTOL_TOO_SMALL
    assert status(bound=EPS * (1 + EPS)) is Status.RUNNING


def test_exit_8_at_machine_precision_but_not_above(x64):
    assert status(gnorm=EPS) is Status.GTOL_TOO_SMALL
    assert status(gnorm=EPS * (1 + EPS)) is Status.RUNNING


@pytest.mark.long
def test_machine_precision_is_that_of_the_type():
    assert status(gnorm=2.0**-23, dtype=jnp.float32) is Status.GTOL_TOO_SMALL
    assert status(gnorm=2.0**-22, dtype=jnp.float32) is Status.RUNNING


def test_8_before_7_before_6_before_5(x64):
    assert status(**LIMIT, **TINY_REDUCTION) is Status.FTOL_TOO_SMALL
    assert status(**LIMIT, **TINY_REDUCTION, **TINY_STEP) is Status.XTOL_TOO_SMALL
    every = LIMIT | TINY_REDUCTION | TINY_STEP | TINY_GRADIENT
    assert status(**every) is Status.GTOL_TOO_SMALL


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(FTOL, Status.FTOL), (XTOL, Status.XTOL), (FTOL | XTOL, Status.FTOL_AND_XTOL)],
)
def test_tolerances_before_limits(x64, rule, expected):
    limits = LIMIT | TINY_GRADIENT
    if "bound" not in rule:
        limits |= TINY_STEP
    if "actual" not in rule:
        limits |= TINY_REDUCTION
    assert status(**limits | rule) is expected
