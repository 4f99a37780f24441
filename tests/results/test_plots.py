"""Plots: what is drawn, and where."""

import subprocess
import sys
from dataclasses import replace

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas
import pytest
import xarray

from jaxlsq import fit
from jaxlsq.models import Exponential, Gaussian, Linear
from tests.decays import P0, SIGMA, T, Y, decay

mpl.use("Agg")
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def result():
    y = Y.reshape(3, 4, -1).copy()
    y[1, 3, 5] = np.nan
    return fit(decay, T, y, P0)


def labelled():
    """Decays with names and units, and what is masked out."""
    time = xarray.DataArray(T, dims="t", attrs={"long_name": "echo time", "units": "ms"})
    coords = {"t": time, "row": list("abc"), "place": ("place", [0.5, 1.0, 1.5, 2.0])}
    y = xarray.DataArray(Y.reshape(3, 4, -1).copy(), coords, ("row", "place", "t"), "signal")
    y.attrs["units"], y.place.attrs["units"] = "mV", "mm"
    y[2, 0] = np.nan
    y[2, 1, 3] = np.nan
    mask = np.ones(y.shape, bool)
    mask[2, 0] = False
    return fit(Exponential(), time, y, mask=mask)


def words_of(ax):
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_plot_of_one_fit(result):
    upper, lower = result.plot((0, 1))
    curve, data = upper.lines[0], upper.lines[1]
    np.testing.assert_allclose(curve.get_ydata()[0], result.x[0, 1, 0], rtol=1e-6)
    np.testing.assert_array_equal(data.get_ydata(), Y[1])
    np.testing.assert_array_equal(data.get_xdata(), T)
    np.testing.assert_allclose(lower.lines[1].get_ydata(), result.predict()[0, 1] - Y[1], rtol=1e-9)
    title = f"converged, reduced chi2 {result.redchi[0, 1]:.3g}"
    assert upper.get_title(loc="left") == title
    assert (lower.get_xlabel(), upper.get_ylabel()) == ("t", "data and fit")
    assert len(upper.collections) > 0  # the band


def test_plot_into_given_axes_of_a_batch_of_one(result):
    _, axes = pyplot.subplots(2, 1)
    returned = result[0, 1].plot(axes=axes)
    assert list(returned) == list(axes)
    with pytest.raises(IndexError, match=r"its index in the batch \(3, 4\)"):
        result.plot(1)


def test_plot_of_a_fit_that_failed(result):
    upper, _ = result.plot((1, 3))
    assert upper.get_title(loc="left") == "NONFINITE_DATA"
    assert upper.lines[-1].get_xdata().tolist() == [T[5]]  # the point that does not count


def test_plot_without_a_finite_point():
    upper, _ = fit(decay, T, np.full_like(Y[:2], np.nan), P0).plot(0)
    assert [text.get_text() for text in upper.texts] == ["no finite point"]


def test_plot_with_sigma_mask_and_ragged_data():
    lengths = (20, 9, 13)
    xs, ys = [T[:k] for k in lengths], [y[:k] for y, k in zip(Y, lengths, strict=False)]
    sigma = [s[:k] for s, k in zip(SIGMA, lengths, strict=False)]
    mask = [np.arange(k) != 4 for k in lengths]
    ragged = fit(decay, xs, ys, P0, sigma=sigma, mask=mask)
    upper, _ = ragged.plot(1)
    assert upper.lines[1].get_xdata().size == 8
    assert upper.containers[0].has_yerr
    spectrum = fit(lambda x, a, b: a * x["u"] + b * x["v"], {"u": T, "v": T**2}, Y, P0)
    upper, _ = spectrum.plot(0)  # no axis to draw a line along
    np.testing.assert_array_equal(upper.lines[1].get_xdata(), np.arange(20))


def test_plot_with_errors_in_x():
    sigma = np.linspace(0.01, 0.05, T.size)
    upper, _ = fit(decay, T, Y[0], P0, sigma=0.02, xsigma=sigma).plot()
    bars = [one for one in upper.collections if isinstance(one, mpl.collections.LineCollection)]
    lengths = [np.ptp(np.array(one.get_segments()), axis=1).max(axis=1) for one in bars]
    np.testing.assert_allclose(sorted(lengths, key=np.ptp), [np.full(T.size, 0.04), 2 * sigma])


def test_grids(result):
    axes = result.plot_grid("best", 4)
    titles = [ax.get_title(loc="left") for ax in axes if ax.get_visible()]
    order = np.argsort(np.where(result.success, result.redchi, np.inf).ravel())[:4]
    places = [f"[{k // 4}, {k % 4}]" for k in order]
    assert [title.split(" conv")[0] for title in titles] == places
    assert len([ax for ax in result.plot_grid() if ax.get_visible()]) == 9
    failed = [ax for ax in result.plot_failed() if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in failed] == ["[1, 3] NONFINITE_DATA"]
    assert len(result.plot_grid("random", 3)) == 3
    with pytest.raises(ValueError, match=r"which must be .*'last'"):
        result.plot_grid("last")
    table = pandas.DataFrame(Y[:3].T, columns=["one", "two", "three"])
    axes = fit(decay, T, table, P0, axis=0).plot_grid("random")
    names = [ax.get_title(loc="left").split()[0] for ax in axes]
    assert names == ["[one]", "[two]", "[three]"]


@pytest.mark.long
def test_grids_of_sums_have_one_legend():
    x, rng = np.linspace(0.0, 20.0, 101), np.random.default_rng(0)
    model = Gaussian() + Linear()
    y = np.asarray(model(x, 3.0, 6.0, 0.8, 0.02, 1.0)) + 0.05 * rng.normal(size=(3, 101))
    p0 = dict(zip(model.names, (3.0, 6.2, 0.7, 0.0, 1.0), strict=True))
    found = fit(model, x, y, p0)
    axes = found.plot_grid("best")
    assert [words_of(ax) for ax in axes] == [[], [], []]
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["gaussian", "linear"]
    _, given = pyplot.subplots(1, 2)
    axes = found.plot_grid("best", axes=given)
    assert [words_of(ax) for ax in axes] == [["gaussian", "linear"], []]
    assert words_of(found.plot(0)[0]) == ["gaussian", "linear"]
    assert words_of(fit(Gaussian(), x, y, [3.0, 6.0, 0.8]).plot(0)[0]) == []


def test_a_curve_is_smooth_on_an_axis_of_logarithms():
    dose = np.geomspace(1e-9, 1e-4, 12)
    y = 3.0 / (1.0 + 1e-7 / dose)
    one = fit(lambda x, a, log: a / (1.0 + 10.0**log / x), dose, y, [1.0, -6.0])
    upper, _ = one.plot()
    x, curve = upper.lines[0].get_xdata(), upper.lines[0].get_ydata()
    assert (x[0], x[-1]) == (pytest.approx(dose[0]), pytest.approx(dose[-1]))
    assert np.max(np.diff(np.log10(x))) < 0.02
    assert np.max(np.diff(x)) < 1e-6
    np.testing.assert_allclose(curve, 3.0 / (1.0 + 1e-7 / x), rtol=1e-5)


def test_parameters(result):
    axes = result.plot_params()
    assert axes.shape == (2, 2)
    assert axes[1, 0].get_xlabel() == "a"
    assert axes[1, 0].get_ylabel() == "k"
    assert not axes[0, 1].get_visible()
    assert sum(bar.get_height() for bar in axes[0, 0].patches) == 11
    many = fit(decay, T, np.tile(Y, (200, 1)), P0)
    assert len(many.plot_params()[1, 0].collections) == 1  # binned


def test_map(result):
    ax = result.plot_map("k")
    image = ax.images[0].get_array()
    expected = np.where(result.success, result.x[..., 1], np.nan)
    np.testing.assert_array_equal(np.ma.filled(image, np.nan), expected)
    errors = result.plot_map("k", error=True).images[0].get_array()
    np.testing.assert_allclose(np.ma.filled(errors, np.nan)[0], result.stderr[0, :, 1], rtol=1e-12)
    assert result.plot_map("nfev", ax=ax) is ax
    spread = replace(result, x=np.arange(24.0).reshape(3, 4, 2) ** 3, status=np.ones((3, 4), int))
    assert spread.plot_map("k").images[0].colorbar.extend == "neither"
    x = np.linspace(0.0, 1.0, 2000).reshape(40, 50, 1)
    x[0, 0], x[0, 1] = 90.0, 80.0
    many = replace(fit(lambda t, a: a * t, T, np.ones((40, 50, 1)) * T, [1.0]), x=x)
    assert many.plot_map("a").images[0].colorbar.extend == "max"
    with pytest.raises(ValueError, match=r"name must be one of .*'rate'"):
        result.plot_map("rate")
    with pytest.raises(ValueError, match=r"two axes, got the shape \(4,\)"):
        result[0].plot_map("k")


def test_labels_and_units():
    found = labelled()
    upper, lower = found.plot((0, 1))
    assert lower.get_xlabel() == "echo time [ms]"
    assert upper.get_ylabel() == "signal [mV]"
    ax = found.plot_map("decay")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("place [mm]", "row")
    assert ax.images[0].get_extent() == pytest.approx((0.25, 2.25, 2.5, -0.5))
    assert [ax.yaxis.get_major_formatter()(k) for k in (0, 1, 0.5)] == ["a", "b", ""]
    assert ax.images[0].colorbar.ax.get_ylabel() == "decay [ms]"
    assert found.plot_params()[1, 1].get_xlabel() == "decay [ms]"
    last = found.plot_grid("random", 2)
    assert [ax.get_xlabel() for ax in last] == ["echo time [ms]"] * 2
    assert [ax.get_ylabel() for ax in last] == ["signal [mV]", ""]


def test_failed_and_masked_out_have_colours_of_their_own():
    found = labelled()
    ax = found.plot_map("decay")
    assert words_of(ax) == ["failed (1)", "masked out (1)"]
    pixels = ax.images[1].get_array()
    assert pixels[2, 1].tolist() == pytest.approx(list(mpl.colors.to_rgba("#D55E00")))
    assert pixels[2, 0].tolist() == pytest.approx(list(mpl.colors.to_rgba("0.8")))
    assert np.all(pixels[:2, :, 3] == 0)  # nothing over those that converged
    ax = found.plot_map("status")
    counts = {code.name: count for code, count in found.counts().items()}
    assert words_of(ax) == [f"{name} ({count})" for name, count in counts.items()]
    assert not hasattr(ax.images[0].colorbar, "ax")  # a legend, not a scale
    colours = {tuple(c) for c in ax.images[0].get_array().reshape(-1, 4).tolist()}
    assert len(colours) == len(counts)


def test_no_figure_is_empty(result):
    (ax,) = result[0].plot_failed()
    assert [text.get_text() for text in ax.texts] == ["no fit failed"]
    bad = fit(decay, T, np.full((2, 2, T.size), np.nan), P0)
    for axes in (bad.plot_grid(), bad.plot_params().ravel()):
        assert [text.get_text() for ax in axes for text in ax.texts] == ["no fit converged"]
    assert words_of(bad.plot_map("k")) == ["failed (4)"]


def test_a_fixed_parameter_has_no_histogram():
    held = fit(decay, T, Y, {"a": 2.0, "k": 1.0}, fixed="a")
    axes = held.plot_params()
    assert axes.shape == (1, 1)
    assert axes[0, 0].get_xlabel() == "k"


def test_what_is_outside_of_a_histogram_is_counted():
    x = np.linspace(0.0, 1.0, 2000)[:, None].copy()
    x[:3] = 9.0
    many = replace(fit(lambda t, a: a * t, T, np.ones((2000, 1)) * T, [1.0]), x=x)
    ax = many.plot_params()[0, 0]
    assert [text.get_text() for text in ax.texts] == ["3 \u25b8"]


def test_colours_for_logarithms():
    x = np.array([[1.0, 10.0], [100.0, -1.0]])[..., None]
    held = replace(fit(lambda t, a: a * t, T, np.ones((2, 2, 1)) * T, [1.0]), x=x)
    ax = held.plot_map("a", log=True)
    assert isinstance(ax.images[0].norm, mpl.colors.LogNorm)
    assert words_of(ax) == ["not above zero (1)"]
    with pytest.raises(ValueError, match="log must be 'x', 'y', 'xy' or '', got 'z'"):
        held.plot((0, 0), log="z")


def test_axes_of_logarithms():
    dose = np.geomspace(1e-9, 1e-4, 12)
    one = fit(lambda x, a, log: a / (1 + 10.0**log / x), dose, 3 / (1 + 1e-7 / dose), [1.0, -6.0])
    assert [ax.get_xscale() for ax in one.plot()] == ["log", "log"]
    upper, lower = one.plot(log="y")
    assert (upper.get_xscale(), upper.get_yscale()) == ("linear", "log")
    assert lower.get_yscale() == "linear"  # residuals have both signs
    assert one.plot(log="")[0].get_xscale() == "linear"
    assert fit(decay, T + 0.1, Y[0], P0).plot()[0].get_xscale() == "linear"


def test_outliers_that_a_loss_tames_do_not_flatten_the_data():
    y = Y[0].copy()
    y[4], y[9] = 900.0, -500.0
    upper, lower = fit(decay, T, y, P0, loss="cauchy", f_scale=0.02).plot()
    assert np.ptp(upper.get_ylim()) < 8 * np.ptp(Y[0])
    for ax, up, down in ((upper, 4, 9), (lower, 9, 4)):
        marks = {line.get_marker(): list(line.get_xdata()) for line in ax.lines}
        assert marks["^"] == [T[up]]
        assert marks["v"] == [T[down]]
    upper, _ = fit(decay, T, y, P0).plot()  # that fit is drawn towards them, which is to be seen
    assert upper.get_ylim()[1] > 900.0


def test_neither_masked_points_nor_wide_bars_flatten_the_data():
    y, sigma, mask = Y[0].copy(), np.full(T.size, 0.02), np.ones(T.size, bool)
    y[3], mask[3] = 1e6, False
    sigma[8], sigma[9] = 1e4, np.inf
    upper, lower = fit(decay, T, y, P0, sigma=sigma, mask=mask).plot()
    assert np.ptp(upper.get_ylim()) < 1.5 * np.ptp(Y[0])
    assert np.ptp(lower.get_ylim()) < 0.5


def test_a_wide_band_does_not_flatten_the_data():
    x = np.array([0.0, 0.1, 0.2, 5.0, 5.1])
    y = np.array([1.0, 1.2, 1.1, 3.0, 3.2])
    one = fit(
        lambda x, a, b, c, d: a + b * x + c * x**2 + d * x**3,
        x,
        y,
        [1.0] * 4,
        sigma=3.0,
        absolute_sigma=True,
    )
    upper, _ = one.plot()
    assert np.max(one.band(np.linspace(0, 5, 50))) > 4.0
    assert np.ptp(upper.get_ylim()) < 3.0


def test_parts_of_a_sum_are_drawn_whole():
    x = np.linspace(-3.0, 3.0, 60)
    model = Gaussian("p_") + Linear()
    y = 3 * np.exp(-(x**2)) + 0.2 * x + 2 + 0.02 * np.random.default_rng(0).normal(size=60)
    upper, _ = fit(model, x, y, [5.0, 0.1, 0.6, 0.1, 1.9]).plot()
    assert words_of(upper) == ["p_", "linear"]
    first, second = (line for line in upper.lines if line.get_label() in ("p_", "linear"))
    assert first.get_color() != second.get_color()
    assert upper.get_ylim()[0] < 0.0 < np.min(y)


def image_of(spot, mask=None):
    u, v = np.meshgrid(np.arange(9.0), np.arange(7.0))
    y = spot({"u": u, "v": v}, 50.0, 4.0, 3.0, 5.0, np)
    return u, v, fit(spot, {"u": u.ravel(), "v": v.ravel()}, y.ravel(), [40, 4, 3, 4], mask=mask)


def spot(x, a, u, v, c, xp=jnp):
    return a * xp.exp(-((x["u"] - u) ** 2 + (x["v"] - v) ** 2) / 4) + c


def test_points_on_a_grid_are_an_image():
    mask = np.arange(63) != 12
    u, _, one = image_of(spot, mask)
    left, right = one.plot()
    shown = left.collections[0].get_array().reshape(7, 9)
    assert np.ma.getmaskarray(shown)[1, 3]
    expected = np.where(mask, one.predict() - one.residuals, np.nan).reshape(u.shape)
    np.testing.assert_allclose(np.ma.filled(shown, np.nan), expected, rtol=1e-9)
    assert (left.get_xlabel(), left.get_ylabel()) == ("u", "v")
    assert len(left.collections) == 2  # and contours
    low, high = right.collections[0].get_clim()
    assert low == -high  # residuals of either sign alike
    (ax,) = one.plot_grid()
    assert len(ax.collections) == 2


def test_without_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import numpy as np; from jaxlsq import fit\n"
        "fit(lambda t, a: a * t, np.arange(3.0), np.ones(3), [1.0]).plot()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: Plots need matplotlib: pip install 'jaxlsq[plot]'." in run.stderr


def test_general_functions_have_no_plot():
    result = fit(decay, T, Y, P0)
    assert jnp.ndim(result.x) == 2
    from jaxlsq import least_squares_batch

    general = least_squares_batch(lambda p, y: decay(T, p[0], p[1]) - y, P0, Y)
    with pytest.raises(ValueError, match="plots need data that are fitted by a model"):
        general.plot(0)
