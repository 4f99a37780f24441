"""Joint regions of two parameters beside closed forms and lmfit, and the plots of profiles."""

from contextlib import nullcontext

import jax.numpy as jnp
import lmfit
import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats

from jaxlsq import Interrupted, fit
from jaxlsq.batch import held as held_fits
from jaxlsq.results import contour
from tests.decays import P0, SIGMA, T, Y, decay
from tests.results.test_intervals import HYPERBOLA_X, HYPERBOLA_Y, hyperbola

mpl.use("Agg")
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def parabola(t, a, b, c):
    return a + b * t + c * t**2


def test_of_a_linear_model_they_are_ellipses():
    result = fit(parabola, T, Y[0], (1.0, 1.0, 1.0))
    found = result.contour("a", "c", levels=[0.5, 0.95], size=(9, 7))
    assert found.names == ("a", "c")
    assert found.rise.shape == found.level.shape == (7, 9)
    both = np.ix_([0, 2], [0, 2])
    inverse = np.linalg.inv(result.cov[both] / result.redchi)
    a, c = np.meshgrid(found.a - result.x[0], found.b - result.x[2])
    d = np.stack([a, c], axis=-1)
    rise = np.einsum("...i,ij,...j->...", d, inverse, d)
    np.testing.assert_allclose(found.rise, rise, rtol=1e-7, atol=1e-10 * rise.max())
    level = stats.f.cdf(rise / 2 / result.redchi, 2, T.size - 3)
    np.testing.assert_allclose(found.level, level, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        found.limits, 2 * result.redchi * stats.f.ppf([0.5, 0.95], 2, T.size - 3), rtol=1e-9
    )
    # The grid reaches a little beyond the largest region, whose box is known.
    half = np.sqrt(found.limits[1] * result.cov[2, 2] / result.redchi)
    assert half < found.b[-1] - result.x[2] < 1.3 * half
    head, first, second = repr(found).splitlines()
    assert head.startswith("Contour of a and c, 9 x 7 places, around ")
    assert first.split()[:3] == ["50", "%", "a"]
    inner = found.b[(found.rise <= found.limits[1]).any(axis=1)]
    assert second.endswith(f"c {inner.min():.5g} to {inner.max():.5g}")


def test_a_known_sigma():
    result = fit(parabola, T, Y[0], (1.0, 1.0, 1.0), sigma=SIGMA[0], absolute_sigma=True)
    found = result.contour(0, 1, size=5)
    np.testing.assert_allclose(found.level, stats.chi2.cdf(found.rise, 2), rtol=1e-10)


def test_lmfits_grid():
    result = fit(hyperbola, HYPERBOLA_X, HYPERBOLA_Y, (0.2, 1.0))
    found = result.contour("a", "b", size=7)

    def residual(p):
        return 1 / (p["a"] * HYPERBOLA_X) + p["b"] - HYPERBOLA_Y

    minimizer = lmfit.Minimizer(residual, lmfit.create_params(a=0.1, b=1))
    out = minimizer.minimize(method="leastsq")
    limits = [(axis[-1], axis[0]) for axis in (found.a, found.b)]
    a, b, chi2 = lmfit.conf_interval2d(minimizer, out, "a", "b", 7, 7, limits, chi2_out=True)
    np.testing.assert_allclose(found.a, a, rtol=1e-12)
    np.testing.assert_allclose(found.b, b, rtol=1e-12)
    np.testing.assert_allclose(found.rise, chi2 - result.chi2, rtol=1e-8)


def test_others_follow():
    """With a third parameter, each point is the least of fits from everywhere."""
    t, rng = np.linspace(0, 4, 50), np.random.default_rng(3)
    y = 2.5 * np.exp(-1.1 * t) + 0.3 + 0.2 * rng.normal(size=50)
    result = fit(lambda t, a, k, c: a * jnp.exp(-k * t) + c, t, y, (1.0, 1.0, 0.0))
    found = result.contour("k", "c", levels=[0.95], size=11)
    e = np.exp(-found.a[:, None] * t)
    left = y - found.b[:, None]
    a = np.einsum("kt,ct->ck", e, left) / np.sum(e * e, axis=1)
    chi2 = np.sum((a[..., None] * e - left[:, None]) ** 2, axis=-1)
    np.testing.assert_allclose(found.rise, chi2 - result.chi2, atol=1e-9 * result.chi2)


def test_bounds_and_floats():
    x = fit(decay, T, Y[0], P0).x
    result = fit(decay, T, Y[0], x, bounds=((0.0, 0.0), (x[0] + 0.005, 9.0)))
    found = result.contour("a", "k", size=5)
    assert found.a[-1] == x[0] + 0.005
    assert not np.isnan(found.rise).any()
    narrow = fit(decay, T.astype(np.float32), Y[0].astype(np.float32), P0).contour("a", "k", size=5)
    wide = fit(decay, T, Y[0], P0).contour("a", "k", size=5)
    np.testing.assert_allclose(narrow.level, wide.level, atol=1e-4)


def test_a_lower_minimum_is_said():
    x = np.array([0.0, 1.0, 2.0, 2.0])
    y = np.array([1.0, 0.3, 0.1, 0.2])

    def model(x, p, c):
        return jnp.where(x == 0, p * p, jnp.where(x == 1, 0.3 * p, c))

    result = fit(model, x, y, [-1.0, 0.0])
    with pytest.warns(RuntimeWarning, match="has a lower minimum"):
        found = result.contour("p", "c", levels=[0.9], size=5)
    np.testing.assert_allclose(found.minimum, [1.0, 0.15], rtol=1e-6)


def test_improper_arguments():
    result = fit(decay, T, Y[:2], P0)
    with pytest.raises(IndexError, match="contour is of one fit"):
        result.contour("a", "k")
    one = result[0]
    for match, arguments in {
        "two parameters, got 'a' and 0": {"a": "a", "b": 0},
        "names 'amp'": {"a": "amp", "b": 0},
        "size must be": {"a": 0, "b": 1, "size": 1},
        "between 0 and 1": {"a": 0, "b": 1, "levels": [95]},
        "levels must be": {"a": 0, "b": 1, "levels": []},
    }.items():
        with pytest.raises(ValueError, match=match):
            one.contour(**arguments)
    with pytest.raises(ValueError, match="'k' is fixed"):
        fit(decay, T, Y[0], P0, fixed=["k"]).contour("a", "k")
    with pytest.raises(ValueError, match="ended at a minimum"):
        fit(decay, T, Y[0] * np.nan, P0).contour("a", "k")


def test_fits_that_share_parameters_have_none():
    one = fit(decay, T, Y[:4], P0, shared=["k"])[0]
    for ask in (lambda: one.contour("a", "k"), one.plot_profile):
        with pytest.raises(ValueError, match="is of fits apart, and these share k"):
            ask()


def test_an_interrupt_has_the_fit(monkeypatch):
    one, calls, solve = fit(decay, T, Y[0], P0), [], held_fits.held

    def pressed(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise Interrupted(None)
        return solve(*arguments)

    monkeypatch.setattr("jaxlsq.batch.refits.held", pressed)
    with pytest.raises(Interrupted) as caught:
        one.contour("a", "k", size=9)
    assert caught.value.result is one


# --- plots ------------------------------------------------------------------------


def test_plot_of_a_contour():
    one = fit(decay, T, Y[0], P0)
    ax = one.plot_contour("k", "a", size=15)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("k", "a")
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["68.27 %", "95.45 %", "99.73 %"]
    np.testing.assert_allclose(np.ravel(ax.lines[0].get_xydata()), one.x[::-1], rtol=1e-6)
    _, given = pyplot.subplots()
    assert one.plot_contour("k", "a", levels=[0.9], size=5, ax=given) is given


def lines_of(ax):
    """The lines of each level, as arrays of points."""
    drawn = next(one for one in ax.collections if isinstance(one, mpl.contour.ContourSet))
    return drawn.allsegs


def test_a_narrow_region_is_drawn_whole():
    """Two parameters that are correlated by 0.999995, whose regions are ellipses."""
    t, rng = np.linspace(100.0, 101.0, 30), np.random.default_rng(0)
    one = fit(lambda t, a, b: a + b * t, t, 1.0 + 2.0 * t + 0.1 * rng.normal(size=30), (1.0, 1.0))
    assert one.correlation[0, 1] < -0.99999
    inverse = np.linalg.inv(one.cov)
    levels = (0.5, 0.95)
    limits = 2 * stats.f.ppf(levels, 2, 28)
    for names in (0, 1), (1, 0):
        ax = one.plot_contour(*names, levels=levels)
        for lines, limit in zip(lines_of(ax), limits, strict=True):
            (line,) = lines
            np.testing.assert_allclose(line[0], line[-1], rtol=1e-12)  # closed
            d = line[:, list(names)] - one.x
            np.testing.assert_allclose(np.einsum("ki,ij,kj->k", d, inverse, d), limit, rtol=0.02)


@pytest.mark.parametrize(("seed", "whole"), [(0, True), (2, False), (4, True)])
def test_a_bent_region_is_one_line(seed, whole):
    """Of a saturation that is seen, or is not, so that the region is open."""
    rng = np.random.default_rng(seed)
    x = np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
    y = x / (1.0 + x) + 0.05 * rng.normal(size=x.size)
    one = fit(lambda x, a, b: a * x / (b + x), x, y, (1.0, 1.0), bounds=(0.0, np.inf))
    with nullcontext() if whole else pytest.warns(RuntimeWarning, match="does not close"):
        [[line]] = lines_of(one.plot_contour("a", "b", levels=[0.9]))
    assert np.allclose(line[0], line[-1], rtol=1e-12) == whole
    a, b = line.T[..., None]
    rise = np.sum((a * x / (b + x) - y) ** 2, axis=1) - one.chi2
    error = rise / one.redchi / (2 * stats.f.ppf(0.9, 2, 4)) - 1.0
    assert np.median(abs(error)) < 0.005
    assert np.max(abs(error)) < 0.12  # where the line turns between two places of the grid


def test_plot_of_profiles():
    one = fit(decay, T, Y[0], P0)
    axes = one.plot_profile()
    assert [ax.get_xlabel() for ax in axes] == ["a", "k"]
    goal = stats.t.isf(0.5 * (1 - 0.9545), T.size - 2)
    ends = one.interval(0.9545, method="profile")
    for ax, (low, high) in zip(axes, ends, strict=True):
        values, z = ax.lines[0].get_data()
        np.testing.assert_allclose(np.interp([low, high], values, z), goal, rtol=1e-3)
    _, given = pyplot.subplots()
    assert one.plot_profile("k", levels=[0.9], axes=[given])[0] is given
    fixed = fit(decay, T, Y[0], P0, fixed=["k"]).plot_profile()
    assert [ax.get_xlabel() for ax in fixed] == ["a"]


def saturation(x, top, half):
    return top * x / (half + x)


def test_a_region_that_does_not_close_says_so():
    """Data that end before the curve bends: top and half may be as large as they like."""
    x = np.linspace(0.1, 1.0, 12)
    y = saturation(x, 5.0, 4.0) + 0.1 * np.random.default_rng(0).normal(size=12)
    result = fit(saturation, x, y, (5.0, 4.0))
    profile = result.profile(0.99)
    assert np.all(profile.ends[:, 1] == 2)
    with pytest.warns(RuntimeWarning, match=r"95 % does not close: it goes on above top = \d"):
        found = result.contour("top", "half", levels=[0.95], size=21)
    assert [words.split(" =")[0] for words in found.open] == ["above top", "above half"]
    inner = found.rise <= found.limits[0]
    assert inner[:, -1].any()
    assert not inner[:, 0].any()
    assert "open above top" in repr(found)
    held = fit(saturation, x, y, (5.0, 4.0), bounds={"top": (0.0, 20.0), "half": (0.0, 20.0)})
    found = held.contour("top", "half", levels=[0.95], size=21)
    assert found.open == ()
    assert found.a[-1] == 20.0


def test_a_frame_grows_where_no_end_was_found(monkeypatch):
    """As of a search that finds none: the region of a linear model closes all the same."""
    result = fit(parabola, T, Y[0], (1.0, 1.0, 1.0))
    whole = result.contour("a", "c", levels=[0.95], size=15)
    run = contour.Search.run

    def lost(self):
        run(self)
        self.ends[:] = contour.End.NOT_FOUND
        self.minima.unit[:] /= 5.0

    monkeypatch.setattr(contour.Search, "run", lost)
    found = result.contour("a", "c", levels=[0.95], size=15)
    assert found.open == ()
    width = np.ptp(found.a) / np.ptp(whole.a)
    assert 1.0 < width < 3.1
    edges = np.concatenate([found.rise[0], found.rise[-1], found.rise[:, 0], found.rise[:, -1]])
    assert edges.min() > found.limits[0]
