"""Plots: what is drawn, and where."""

import subprocess
import sys
from dataclasses import replace

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas
import pytest

from jaxlsq import fit
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


def test_plot_of_one_fit(result):
    upper, lower = result.plot((0, 1))
    curve, data = upper.lines[0], upper.lines[1]
    np.testing.assert_allclose(curve.get_ydata()[0], result.x[0, 1, 0], rtol=1e-6)
    np.testing.assert_array_equal(data.get_ydata(), Y[1])
    np.testing.assert_array_equal(data.get_xdata(), T)
    np.testing.assert_allclose(lower.lines[1].get_ydata(), result.predict()[0, 1] - Y[1], rtol=1e-9)
    assert "FTOL" in upper.get_title(loc="left")
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
    assert [title.split(" FTOL")[0] for title in titles] == places
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
