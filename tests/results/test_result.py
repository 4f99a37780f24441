"""Every attribute and method of `FitResult`."""

import dataclasses
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, fit, least_squares_batch
from tests.decays import P0, SIGMA, TRUTH, B, T, Y, decay, decay_np, scipy_fits

PER_FIT = ("cost", "status", "nfev", "njev", "nit", "optimality", "dof", "agreed")
BAD = 7  # in C order of the batch (3, 4): [1, 3]
IMAGE = Y.reshape(3, 4, -1).copy()
IMAGE[1, 3, 5] = np.nan
NAMED = {"a": 1.0, "k": 1.0}


@pytest.fixture(scope="module")
def result():
    """A (3, 4) batch in which one fit has failed."""
    return fit(decay, T, IMAGE, P0)


@pytest.fixture(scope="module")
def named():
    return fit(decay, T, IMAGE, NAMED)


@pytest.fixture(scope="module")
def cut():
    """Fits of which some have not ended."""
    return fit(decay, T, Y, P0, max_nfev=6)


def assert_same_fits(one, other):
    for name in ("x", *PER_FIT):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        assert getattr(one, name).dtype == getattr(other, name).dtype


# --- reading ----------------------------------------------------------------------


def test_attributes(result):
    assert result.shape == (3, 4)
    assert len(result) == 3
    for name in PER_FIT:
        assert isinstance(getattr(result, name), np.ndarray)
        assert getattr(result, name).shape == (3, 4)
    for name in ("status", "nfev", "njev", "nit", "dof", "agreed"):
        assert getattr(result, name).dtype.kind == "i"
    assert result.x.shape == result.params.shape == result.stderr.shape == (3, 4, 2)
    np.testing.assert_array_equal(result.params, result.x)
    assert result.cov.shape == (3, 4, 2, 2)
    assert result.residuals.shape == result.predict().shape == (3, 4, T.size)
    good = result.success
    np.testing.assert_array_equal(np.flatnonzero(~good), [BAD])
    np.testing.assert_array_equal(result.failed, ~good)
    assert np.all(result.nfev[good] > result.nit[good])
    assert np.all(result.njev <= result.nfev)
    assert np.all(result.agreed[good] == 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.cost = 0


def test_cost_optimality_and_residuals_belong_together(result):
    good = result.success
    f = decay_np(T, *np.moveaxis(result.x, -1, 0)[..., None]) - IMAGE
    np.testing.assert_allclose(result.residuals[good], f[good], atol=1e-14)
    np.testing.assert_allclose(result.cost[good], 0.5 * np.sum(f**2, axis=-1)[good], rtol=1e-12)
    e = np.exp(-result.x[..., 1:] * T)
    gradient = np.abs([np.sum(e * f, axis=-1), np.sum(result.x[..., :1] * T * e * f, axis=-1)])
    np.testing.assert_allclose(result.optimality[good], gradient.max(axis=0)[good], atol=1e-12)
    assert np.isnan(result.cost[~good]).all()


def test_params_are_as_p0_was(named, result):
    assert set(named.params) == set(named.stderr) == {"a", "k"}
    for j, name in enumerate(("a", "k")):
        np.testing.assert_array_equal(named.params[name], result.x[..., j])
        np.testing.assert_allclose(named.stderr[name], result.stderr[..., j], rtol=1e-12)
    one = named[0, 0]
    assert one.params["k"].shape == one.stderr["k"].shape == ()
    assert one.params["k"] == result.x[0, 0, 1]
    swapped = fit(lambda t, k, a: decay(t, a, k), T, Y, NAMED)
    columns = swapped.to_dict()
    np.testing.assert_allclose(columns["a"], swapped.params["a"])
    np.testing.assert_allclose(columns["k"], swapped.params["k"])
    assert np.abs(columns["a"] / TRUTH[:, 0] - 1).max() < 0.2


def test_message(result):
    assert result.message((0, 0)).startswith(("The relative", "Both"))
    assert "have a NaN" in result.message((1, 3))
    assert "have a NaN" in result[1, 3].message()
    assert result.message((1, 3)) == result[1].message(3)
    with pytest.raises(IndexError, match=r"its index in the batch \(3, 4\)"):
        result.message(1)


def test_counts(result):
    counts = result.counts()
    assert sum(counts.values()) == B
    assert counts[Status.NONFINITE_DATA] == 1
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert all(isinstance(code, Status) for code in counts)


def test_repr_is_a_summary(result):
    text = repr(result)
    assert "3 x 4 fits, 11 converged, 1 did not" in text
    assert "1 NONFINITE_DATA: " in text
    row = next(line for line in text.splitlines() if line.split()[0] == "k").split()
    expected = np.quantile(result.x[result.success][:, 1], [0.05, 0.5, 0.95])
    np.testing.assert_allclose([float(v) for v in row[1:]], expected, rtol=1e-4)
    assert len(text) < 1000
    assert "k" in repr(result[0, 0])
    assert repr(result[1, 3]).startswith("FitResult: 1 fit, failed\nNONFINITE_DATA: ")


class Cells(HTMLParser):
    """The text of each cell, and the tags that were left open."""

    def __init__(self, html):
        super().__init__()
        self.cells, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_html_is_a_summary(result):
    html = Cells(result._repr_html_())
    assert html.open == []
    assert "NONFINITE_DATA" in html.cells
    assert "k" in html.cells
    assert any("have a NaN" in cell for cell in html.cells)


def test_html_escapes_names():
    p0 = {"<b>&": 1.0, "k": 1.0}
    result = fit(lambda t, **p: decay(t, p["<b>&"], p["k"]), T, Y, p0)
    html = result._repr_html_()
    assert "<b>&" not in html
    assert "<b>&" in "".join(Cells(html).cells)


# --- parts -------------------------------------------------------------------------

INDICES = {
    "int": 1,
    "negative": -1,
    "pair": (2, 1),
    "slice": slice(1, None),
    "backwards": slice(None, None, -1),
    "column": (slice(None), 2),
    "ellipsis": (Ellipsis, 0),
    "places": [2, 0],
    "repeated": [0, 0, 2],
    "mask": np.arange(B).reshape(3, 4) % 3 == 0,
    "rows": np.array([True, False, True]),
    "nothing": np.zeros((3, 4), bool),
}


@pytest.mark.parametrize("kind", INDICES)
def test_a_part_is_the_part_of_everything(result, kind):
    index = INDICES[kind]
    part = result[index]
    assert part.shape == result.status[index].shape
    places = (*index, slice(None)) if isinstance(index, tuple) else index
    np.testing.assert_array_equal(part.x, result.x[places])
    for name in PER_FIT:
        np.testing.assert_array_equal(getattr(part, name), getattr(result, name)[index])
    matrices = (*index, slice(None), slice(None)) if isinstance(index, tuple) else index
    np.testing.assert_allclose(part.cov, result.cov[matrices], rtol=1e-9)
    np.testing.assert_allclose(part.stderr, result.stderr[places], rtol=1e-9)
    np.testing.assert_allclose(part.residuals, result.residuals[places], atol=1e-14)
    np.testing.assert_allclose(part.predict(), result.predict()[places], atol=1e-14)
    np.testing.assert_allclose(part.predict(T[:3]), result.predict(T[:3])[places], atol=1e-14)
    assert sum(part.counts().values()) == part.status.size


def test_parts_of_parts(result):
    np.testing.assert_array_equal(result[1:][0][2].x, result.x[1, 2])
    np.testing.assert_allclose(result[1:, ::2][1, 1].cov, result.cov[2, 2], rtol=1e-9)
    np.testing.assert_allclose(result[1:, ::2][1].residuals, result.residuals[2, ::2], atol=1e-14)


def test_iteration_and_length(result):
    rows = list(result)
    assert len(rows) == len(result) == 3
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(row.x, result.x[i])
    assert [one.shape for one in rows[0]] == [()] * 4


def test_one_fit_can_not_be_indexed(result):
    with pytest.raises(IndexError, match="one fit"):
        result[0, 0][0]
    with pytest.raises(TypeError):
        len(result[0, 0])
    with pytest.raises(IndexError):
        result[3]


def test_parts_of_ragged_results():
    lengths = [20, 9, 12, 17]
    xs, ys = [T[:k] for k in lengths], [y[:k] for y, k in zip(Y, lengths, strict=False)]
    result = fit(decay, xs, ys, P0)
    part = result[[3, 1]]
    np.testing.assert_allclose(part.cov, result.cov[[3, 1]], rtol=1e-9)
    assert [f.shape for f in part.residuals] == [(17,), (9,)]
    np.testing.assert_allclose(part.predict()[1], decay_np(xs[1], *result.x[1]), rtol=1e-12)
    one = result[2]
    assert one.residuals.shape == one.predict().shape == (12,)
    np.testing.assert_allclose(one.residuals, decay_np(xs[2], *one.x) - ys[2], atol=1e-14)


# --- uncertainty --------------------------------------------------------------------


def test_cov_is_scipys_in_both_meanings_of_sigma(result):
    good = result.success
    _, pcov = scipy_fits(T, IMAGE[good])
    np.testing.assert_allclose(result.cov[good], pcov, rtol=1e-4)
    tight = {"ftol": 1e-12, "xtol": 1e-12}
    for absolute in (False, True):
        ours = fit(decay, T, Y, P0, sigma=SIGMA, absolute_sigma=absolute, **tight)
        _, pcov = scipy_fits(T, Y, sigma=SIGMA, absolute_sigma=absolute)
        np.testing.assert_allclose(ours.cov, pcov, rtol=1e-6)
        np.testing.assert_allclose(
            ours.stderr, np.sqrt(np.diagonal(pcov, axis1=1, axis2=2)), rtol=1e-6
        )


def test_cov_is_infinite_without_degrees_of_freedom():
    def steps(t, a, b):  # parameters that have nothing to do with each other
        return jnp.where(t > 1.0, a, b)

    exact = fit(steps, T[[0, -1]], Y[:, [0, -1]], P0)
    assert np.all(exact.dof == 0)
    assert np.all(exact.cov == np.inf)
    assert np.all(exact.stderr == np.inf)


def test_predict_elsewhere(result, named):
    at = np.linspace(0.0, 9.0, 7)
    expected = decay_np(at, *np.moveaxis(result.x, -1, 0)[..., None])
    np.testing.assert_allclose(result.predict(at), expected, rtol=1e-12)
    np.testing.assert_allclose(named.predict(at), expected, rtol=1e-12)
    np.testing.assert_allclose(result.predict([0, 1])[..., 0], result.x[..., 0], rtol=1e-12)
    for improper in ("a", [[0.0], [0.0, 1.0]]):
        with pytest.raises((TypeError, ValueError), match="x must be an array"):
            result.predict(improper)


def test_predict_with_a_pytree_for_x():
    result = fit(lambda x, a, k: decay(x["t"], a, k), {"t": T}, Y, P0)
    expected = decay_np(np.arange(3.0), *result.x.T[..., None])
    np.testing.assert_allclose(result.predict({"t": [0.0, 1.0, 2.0]}), expected, rtol=1e-12)


# --- refit --------------------------------------------------------------------------


def test_refit_goes_on_where_fits_failed(cut, result):
    assert cut.failed.any()
    assert cut.success.any()
    again = cut.refit(max_nfev=100)
    assert again.success.all()
    good = cut.success
    np.testing.assert_array_equal(again.x[good], cut.x[good])
    np.testing.assert_array_equal(again.nfev[good], cut.nfev[good])
    assert np.all(again.cost[~good] <= cut.cost[~good])
    flat = result.x.reshape(B, 2)
    others = np.arange(B) != BAD
    np.testing.assert_allclose(again.x[others], flat[others], rtol=1e-6)
    assert again.refit() is again
    np.testing.assert_allclose(again.residuals, again.predict() - Y, atol=1e-14)


@pytest.mark.parametrize("p0", [P0, lambda t, y: P0], ids=["array", "guess"])
def test_refit_begins_where_the_fits_ended(p0):
    result = fit(decay, T, Y, p0, max_nfev=4)
    moved = result.failed
    assert moved.sum() > 8  # a block of the shape that is compiled already
    again, expected = result.refit(max_nfev=4), fit(decay, T, Y, result.x, max_nfev=4)
    np.testing.assert_array_equal(again.x[moved], expected.x[moved])
    assert np.any(again.cost[moved] < result.cost[moved])


def test_refit_never_makes_a_fit_worse(result):
    flat = fit(decay, T, Y, P0)
    bad = flat.refit(where=np.ones(B, bool), p0=(-5.0, -3.0), max_nfev=1)
    assert_same_fits(bad, flat)
    cut = fit(decay, T, Y, TRUTH, max_nfev=2)
    worse = cut.refit(p0=(-5.0, -3.0), max_nfev=2)
    assert np.all(worse.cost <= cut.cost)
    assert np.all(worse.success | ~cut.success)


def test_refit_some_from_other_starts(result, named):
    where = np.zeros((3, 4), bool)
    where[2, 1] = True
    p0 = np.ones((3, 4, 2))
    p0[2, 1] = TRUTH[9]
    again = result.refit(where=where, p0=p0, ftol=1e-13, xtol=1e-13)
    assert again.cost[2, 1] <= result.cost[2, 1]
    np.testing.assert_array_equal(again.x[~where], result.x[~where])
    other = named.refit(where=where, p0={"a": p0[..., 0], "k": 1.0})
    np.testing.assert_allclose(other.x, named.x, rtol=1e-6)
    guess = result.refit(where=where, p0=lambda t, y: (y[0], 1.0))
    np.testing.assert_allclose(guess.x, result.x, rtol=1e-6)


def test_refit_of_everything_else():
    starts = np.tile([[1.1, 0.9]], (B, 1, 1))
    many = fit(decay, T, Y, P0, starts=starts, max_nfev=3)
    assert many.refit(max_nfev=100).success.all()
    assert many[2].refit(where=True, max_nfev=100).success
    part = fit(decay, T, IMAGE, P0, max_nfev=5)[1:]
    done = part.refit(max_nfev=100)
    np.testing.assert_array_equal(np.flatnonzero(done.failed), [BAD - 4])
    assert done.shape == (2, 4)


def test_refit_with_a_pytree():
    x0 = {"p": np.ones(2)}
    result = least_squares_batch(lambda p, y: decay(T, *p["p"]) - y, x0, Y, max_nfev=5)
    again = result.refit(p0=x0, max_nfev=100)
    assert again.success.all()
    assert again.params["p"].shape == (B, 2)


def test_refit_knows_its_settings(result):
    for where in (np.ones((3, 4), bool), np.zeros((3, 4), bool)):
        with pytest.raises(TypeError, match=r"maxfev.*max_nfev"):
            result.refit(where=where, maxfev=10)
    with pytest.raises(ValueError, match="ftol"):
        result.refit(ftol=-1.0)
    with pytest.raises(ValueError, match="polish must be 'auto', 'float64' or None"):
        result.refit(polish="float32")
    with pytest.raises(ValueError, match="p0"):
        result.refit(p0=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="where"):
        result.refit(where=np.ones(5, bool))
