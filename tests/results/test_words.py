"""What is printed: one fit is its report, and results of `least_squares` are summaries."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import FitResult, LeastSquaresResult, Status, fit, least_squares
from jaxlsq.models import Gaussian
from tests.decays import P0, T, Y, decay


def residual(params, y):
    return decay(T, params["a"], params["k"]) - y


def solved(y, **options):
    return least_squares(lambda p: residual(p, y), {"a": 1.0, "k": 1.0}, **options)


# --- FitResult -----------------------------------------------------------------------


def test_one_fit_prints_its_report():
    for one in (fit(decay, T, Y[0], P0), fit(decay, T, Y[:1], P0)):
        head, *lines = repr(one).splitlines()
        assert head == "FitResult: 1 fit, converged"
        assert "\n".join(lines) == one.report(() if not one.shape else 0)
        assert one._repr_html_().endswith(one.report(() if not one.shape else 0).tables)
    assert "5 %" not in repr(one)
    assert "5 %" in repr(fit(decay, T, Y[:2], P0))


def test_one_fit_prints_whatever_became_of_its_data():
    y = np.tile(Y[0], (1, 20000))  # more than is copied
    t = np.tile(T, 20000)
    one = fit(decay, t, y, P0)
    y[:] = 0.0
    with pytest.raises(RuntimeError, match="ydata has changed"):
        one.report(0)
    assert f"{one.x[0, 0]:.6g}" in repr(one)
    assert "+-" not in repr(one)


def test_one_fit_that_failed_says_so():
    nan = np.full(T.size, np.nan)
    assert repr(fit(decay, T, nan, P0)).startswith("FitResult: 1 fit, failed\nNONFINITE_DATA")
    masked = repr(fit(decay, T, nan, P0, nan_policy="omit"))
    assert masked.startswith("FitResult: 1 fit, masked out\nMASKED_OUT")
    assert "do not determine" not in masked


def test_long_names_stay_in_their_column():
    p0 = {"the_amplitude_of_it": 1.0, "k": 1.0}
    found = fit(lambda t, the_amplitude_of_it, k: decay(t, the_amplitude_of_it, k), T, Y, p0)
    head, first, second = repr(found).splitlines()[-3:]
    values = np.quantile(found.x, 0.05, axis=0)
    assert head.index("5 %") == first.index(f"{values[0]:.5g}") == second.index(f"{values[1]:.5g}")


# --- LeastSquaresResult --------------------------------------------------------------


def test_a_solution_prints_a_summary():
    with jax.enable_x64(True):
        result = solved(Y[0])
        errors = np.sqrt(np.diagonal(result.cov))
    lines = repr(result).splitlines()
    assert lines[0].startswith("LeastSquaresResult: FTOL: The relative reduction")
    for line, name, error in zip(lines[1:3], "ak", errors, strict=True):
        assert line == f"  {name}  {float(result.x[name]):>12.6g}  +- {error:.2g}"
    assert f"cost {float(result.cost):.6g}, 18 degrees of freedom" in lines[3]
    assert lines[4] == "  fun float64[20], jac float64[20,2], grad float64[2]"
    assert len(lines) == 5


def test_a_solution_at_a_bound_and_with_history():
    shown = repr(solved(Y[0], bounds=({"a": 0.0, "k": 0.0}, {"a": 1.0, "k": 9.0})))
    assert "a             1  (at its upper bound)" in shown
    assert "history of 4 points" in repr(solved(Y[0], return_history=4))


def test_many_parameters_are_cut():
    x, zeros = np.arange(40.0), np.zeros(40)
    values = {"x": x, "cost": 0.0, "fun": zeros, "jac": np.eye(40), "grad": zeros, "nfev": 2}
    values |= {"optimality": 0.0, "active_mask": zeros.astype(int), "dof": 0, "njev": 2}
    values |= {"status": int(Status.GTOL), "success": True}
    result = LeastSquaresResult(**{name: jnp.asarray(value) for name, value in values.items()})
    assert "  p[29]" in repr(result)
    assert "  ... and 10 more parameters" in repr(result)
    assert "+- inf" in repr(result)  # as many parameters as residuals


def test_lanes_are_counted():
    y = np.stack([Y[0], Y[1], np.full(T.size, np.nan)])
    shown = repr(jax.vmap(solved)(y))
    assert shown.startswith("LeastSquaresResult: 3 fits, 2 converged, 1 did not\n")
    assert "1 NONFINITE_START: The function returned" in shown


def test_what_has_no_numbers_shows_types():
    seen = []

    def traced(y):
        seen.append(repr(solved(y)))
        return 0

    jax.jit(traced)(Y[0])
    shape = jax.eval_shape(solved, Y[0])
    assert seen == [repr(shape)]
    assert seen[0].startswith("LeastSquaresResult(x={'a': float")
    assert "status=int32," in seen[0]
    empty = jax.tree.map(lambda _: None, solved(Y[0]))
    assert "status=None" in repr(empty)
    leaves = jax.tree.map(jnp.copy, solved(Y[0]))
    leaves.cost.delete()
    assert "cost=float" in repr(leaves)


def test_a_loaded_fit_prints_the_same(tmp_path):
    one = fit(decay, T, Y[0], P0)
    one.save(tmp_path / "one.npz")
    assert repr(FitResult.load(tmp_path / "one.npz")) == repr(one)


@pytest.mark.long
def test_a_report_is_the_same_when_it_is_loaded_joined_or_in_another_process(tmp_path):
    x = np.linspace(-3.0, 3.0, 40)
    noise = 0.02 * np.random.default_rng(0).normal(size=(4, 40))
    found = fit(Gaussian(), x, 2.0 * np.exp(-(x**2) / 0.5) + noise)
    words = found.report(1)
    assert "fwhm" in words
    found.save(tmp_path / "fits.npz")
    loaded = FitResult.load(tmp_path / "fits.npz")
    assert loaded.report(1) == words
    assert loaded[1:3].report(0) == words
    assert FitResult.concat([found[:2], loaded[2:]]).report(1) == words
    assert pickle.loads(pickle.dumps(found)).report(1) == words
    values, errors = found.derived()
    pair = loaded.derived_by_name()["fwhm"]
    np.testing.assert_allclose(pair, np.stack([values["fwhm"], errors["fwhm"]], axis=-1))
