"""Data sets evaluated once by machine code, against NumPy and against XLA."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import fit
from jaxlsq.batch.evaluation import NormalRows, compiled_rows
from jaxlsq.batch.group import Group
from jaxlsq.batch.separable import reduced
from jaxlsq.lowering.algebra import triangle
from jaxlsq.lowering.engine import LANES, using
from jaxlsq.lowering.not_lowered import NotLowered

RNG = np.random.default_rng(0)
B, M = 37, 150  # neither of them a multiple of a register
T = np.linspace(0.0, 4.0, M)
TRUE = RNG.uniform([1.0, 0.5, 0.0], [3.0, 2.0, 0.5], (B, 3))
Y = TRUE[:, :1] * np.exp(-TRUE[:, 1:2] * T) + TRUE[:, 2:] + 0.05 * RNG.normal(size=(B, M))
SIGMA = RNG.uniform(0.5, 2.0, (B, M))
MASK = RNG.random((B, M)) > 0.1


def decay(t, a, k, c):
    return a * jnp.exp(-k * t) + c


def rows_by_numpy(x, weights):
    a, k, _ = x.T[:, :, None]
    e = np.exp(-k * T)
    f = weights * (a * e + x[:, 2:] - Y)
    jac = weights[..., None] * np.stack([e, -a * T * e, np.ones_like(e)], axis=-1)
    gram = np.einsum("bmi,bmj->bij", jac, jac)
    half = np.stack([gram[:, i, j] for i, j in triangle(3)], axis=1)
    gradient = np.einsum("bmi,bm->bi", jac, f)
    return np.concatenate([half, gradient, np.sum(f * f, axis=1)[:, None]], axis=1)


def fitted(**options):
    return fit(decay, T, Y, [1.0, 1.0, 0.0], **options)


def test_normal_equations_are_numpys():
    rows = NormalRows(fitted(sigma=SIGMA, mask=MASK).problem)
    found = rows(TRUE)
    np.testing.assert_allclose(found, rows_by_numpy(TRUE, MASK / SIGMA), rtol=1e-11, atol=1e-11)
    assert rows.engine == LANES


def test_threads_and_blocks_change_nothing(monkeypatch):
    problem = fitted().problem
    whole = NormalRows(problem)(TRUE)
    monkeypatch.setattr("jaxlsq.batch.evaluation.SHARED_WORK", 0)
    monkeypatch.setattr(Group, "block_size", lambda self, *_: 16)
    np.testing.assert_array_equal(NormalRows(problem)(TRUE), whole)


@pytest.mark.long_but("huber")
@pytest.mark.parametrize("loss", ["soft_l1", "cauchy", "huber"])
def test_losses_are_weighted_as_in_xla(loss):
    problem = fitted(loss=loss, f_scale=0.1).problem
    found = {}
    for exact in (False, True):
        found["lanes"] = NormalRows(problem, exact)(TRUE)
        with using("xla"):
            found["xla"] = NormalRows(problem, exact)(TRUE)
        np.testing.assert_allclose(found["lanes"], found["xla"], rtol=1e-9, atol=1e-9)


def test_linear_parameters_are_eliminated_as_in_xla():
    result = fitted(linear=["a", "c"])
    assert result.engine == LANES
    small = reduced(result.problem, result.problem)
    found = NormalRows(small)(TRUE[:, 1:2])
    with using("xla"):
        expected = NormalRows(small)(TRUE[:, 1:2])
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    # all parameters, and how well they are determined
    both = np.concatenate([TRUE[:, 1:2], np.ones((B, 1))], axis=1)
    rows = compiled_rows(small.groups[0][1], True)(both)
    basis = np.stack([np.exp(-TRUE[:, 1:2] * T), np.ones((B, M))], axis=-1)
    for i in range(B):
        c, *_ = np.linalg.lstsq(basis[i], Y[i], rcond=None)
        np.testing.assert_allclose(rows[i, :3], [c[0], TRUE[i, 1], c[1]], rtol=1e-11)
    assert (rows[:, 3] > 1e-6).all()
    assert (rows[:, 3] <= 1.0).all()


@pytest.mark.long
@pytest.mark.parametrize("bounded", [False, True])
def test_fits_without_linear_parameters_are_the_same_in_both_engines(bounded):
    options = {"linear": ["a", "c"]}
    if bounded:
        options["bounds"] = {"k": (0.0, 1.2)}
    one = fitted(**options)
    with using("xla"):
        other = fitted(**options)
    assert one.engine == LANES
    assert other.engine != LANES
    assert len(np.unique(one.nfev)) > 1
    np.testing.assert_array_equal(one.status, other.status)
    np.testing.assert_array_equal(one.nfev, other.nfev)
    np.testing.assert_allclose(one.x, other.x, rtol=1e-7)
    np.testing.assert_array_equal(one.active_mask, other.active_mask)


def test_what_is_not_lowered_goes_to_xla():
    def model(t, a, k, c):
        return a * jnp.cumsum(jnp.exp(-k * t)) / M + c

    result = fit(model, T, Y, [1.0, 1.0, 0.0], linear=["a", "c"])
    assert result.engine.startswith("XLA")
    with pytest.raises(NotLowered):
        compiled_rows(result.problem.groups[0][1], False)
    assert np.isfinite(NormalRows(result.problem)(result.x)).all()


def test_derivatives_that_are_not_finite_come_from_differences():
    def model(t, a, k, c):
        return a * jnp.exp(-k * t) + jnp.sqrt(c)

    problem = fit(model, T, Y, [1.0, 1.0, 0.5]).problem
    x = np.tile([1.0, 1.0, 0.0], (B, 1))  # where the root's derivative is infinite
    assert np.isfinite(NormalRows(problem)(x)).all()
