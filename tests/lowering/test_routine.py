"""Fits on the host by machine code: each step, the reduction to a triangle, and whole fits."""

import ctypes

import jax
import numpy as np
import pytest

from jaxlsq import curve_fit, leastsq
from jaxlsq.lowering.engine import using
from jaxlsq.lowering.reduction import reduction_text
from jaxlsq.lowering.target import compile_text, host
from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.minimize import Terms
from jaxlsq.numerics.state import Options
from jaxlsq.single.steps import reduced, steps_from

RNG = np.random.default_rng(3)


# --- the reduction ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reduction():
    """``reduction(A) -> R``, or None where it can't."""
    target = host()
    kinds = [ctypes.c_int64] * 2 + [ctypes.c_void_p] * 2
    code = compile_text(reduction_text(target), target)
    call = code.function("reduction", *kinds, result=ctypes.c_int64)

    def run(matrix):
        m, n = matrix.shape
        width = target.width(np.float64)
        work = np.zeros((n, -(-max(m, n) // width) * width))
        work[:, :m], out = matrix.T, np.zeros((n, n))
        return out if call(n, work.shape[1], work.ctypes.data, out.ctypes.data) else None

    return run


@pytest.mark.parametrize("shape", [(1, 1), (2, 4), (4, 4), (7, 3), (50, 4), (1000, 9), (9001, 3)])
def test_the_triangle_is_lapacks_but_for_signs(reduction, shape):
    scales = 10.0 ** RNG.integers(-30, 30, size=shape[1])
    matrix = RNG.normal(size=shape) * scales
    got, expected = reduction(matrix), reduced(matrix[:, :-1], matrix[:, -1])
    assert np.array_equal(got, np.triu(got))
    np.testing.assert_allclose(
        np.abs(got) / scales, np.abs(expected) / scales, rtol=1e-13, atol=1e-14 * shape[0] ** 0.5
    )


def test_columns_of_zero_and_columns_that_depend_on_others(reduction):
    column = RNG.normal(size=20)
    got = reduction(np.stack([column, np.zeros(20), 2.0 * column, column + 1.0], axis=1))
    assert got[1, 1] == 0.0
    assert abs(got[2, 2]) < 1e-14
    np.testing.assert_allclose(np.abs(got[0, :3]), np.linalg.norm(column) * np.array([1, 0, 2]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200, 1e-150])
def test_what_it_cannot_do_it_says(reduction, value):
    matrix = np.ones((20, 3))
    matrix[:, 1] = 0.0
    matrix[13, 1] = value
    assert reduction(matrix) is None


# --- the steps ----------------------------------------------------------------------------


@pytest.mark.long_but("1-False", "5-True")
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_each_step_is_that_of_xla(n, bounded):
    """A fit of random numbers, whose trials are accepted and rejected."""
    rng = np.random.default_rng(n)
    options = Options(1e-12, 1e-12, 0.0, np.int32(100), 10.0, np.zeros(n), 0.0)
    terms = Terms(Bounds(np.full(n, -0.2), np.full(n, 5.0)), 0.0) if bounded else None
    x0 = rng.uniform(0.0, 1.0, n)
    with using("xla"):
        xla = steps_from(x0, options, terms)
    lanes = steps_from(x0, options, terms)
    assert type(xla) is not type(lanes)
    norm, accepted = 3.0, []
    for turn in range(12):
        jac, f = rng.normal(size=(20, n)), rng.normal(size=20)
        for steps in (xla, lanes):
            steps.judge(norm)
            if steps.accepted:
                steps.take_in(jac, f, 1)
            steps.propose()
        accepted.append(lanes.accepted)
        leaves = zip(*map(jax.tree.leaves, (xla.state, lanes.state)), strict=True)
        for expected, got in leaves:
            if np.asarray(got).size == n * n and n > 1:  # R, whose rows may have other signs
                got, expected = np.abs(got), np.abs(expected)
            np.testing.assert_allclose(np.abs(got), np.abs(expected), rtol=1e-9, atol=1e-12)
        norm *= 1.0 if turn % 3 else 0.7
    assert any(accepted)
    assert not all(accepted)


# --- whole fits ---------------------------------------------------------------------------

T = np.linspace(0.0, 4.0, 40)


def sigmoids(p):
    """Some steps, in NumPy."""
    return sum(a / (1.0 + np.exp(-(T - b) * 9.0)) for a, b in zip(p[::2], p[1::2], strict=True))


@pytest.mark.long_but("2-point-2", "3-point-2")
@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("jac", ["2-point", "3-point"])
def test_a_fit_is_that_of_xla(n, jac):
    truth = np.stack([np.linspace(1.0, 2.0, n // 2), np.linspace(0.5, 3.5, n // 2)], axis=1).ravel()
    y = sigmoids(truth) + 0.01 * RNG.normal(size=T.size)
    start = truth * (1.0 + 0.1 * RNG.uniform(-1.0, 1.0, n))

    def fitted():
        x, _, info, _, status = leastsq(
            lambda p: sigmoids(p) - y, start, Dfun=jac, full_output=True
        )
        return x, info["nfev"], status

    x, nfev, status = fitted()
    with using("xla"):
        expected, its_nfev, its_status = fitted()
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    assert (nfev, status) == (its_nfev, its_status)


def test_machine_code_is_made_once_for_a_number_of_parameters(compiles):
    jax.clear_caches()

    def model(t, a, b, c):
        return a * np.exp(-b * t) + c

    y = model(T, 2.0, 1.0, 0.3) + 0.01 * np.cos(9.0 * T)
    curve_fit(model, T, y, p0=[1.0, 1.5, 0.0])
    before = compiles()
    curve_fit(lambda t, a, b, c: a * np.cos(b * t) + c, T[:30], y[:30], p0=[1.0, 0.4, 0.0])
    assert compiles() == before
