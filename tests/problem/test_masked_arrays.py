"""What is masked does not count and is never read, whatever it is; nothing left is MASKED_OUT."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, curve_fit, fit, least_squares_batch, leastsq

T = np.linspace(0.0, 4.0, 30)
P0 = [1.0, 1.0, 0.0]
TRUTH = np.array([[2.5, 1.3, 0.3], [2.0, 0.8, 0.1]])
HOLES = np.zeros((2, 30), bool)
HOLES[0, [4, 9]] = HOLES[1, [0, 12]] = True


def decay(t, a, k, c, xp=jnp):
    return a * xp.exp(-k * t) + c


Y = decay(T, *TRUTH.T[:, :, None], np) + 0.01 * np.random.default_rng(0).normal(size=(2, 30))


@pytest.fixture(scope="module")
def expected():
    return fit(decay, T, Y, P0, mask=~HOLES)


class Variable:
    """A variable of a file whose slices are masked arrays, as netCDF4 has them."""

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, index):
        return self._array[index]


JUNK = [1e3, np.nan, np.inf, 9.97e36, 1e300]
SHORT = [f"{where}-jacfwd-{junk}" for where in ("x", "y", "sigma") for junk in JUNK]


@pytest.mark.long_but(*SHORT, *[f"x-jacrev-{junk}" for junk in JUNK])
@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("jac", ["jacfwd", "jacrev"])
@pytest.mark.parametrize("where", ["y", "x", "sigma"])
def test_a_mask_counts_whatever_is_under_it(expected, junk, jac, where):
    def holed(values):
        values = np.array(np.broadcast_to(values, Y.shape))
        values[HOLES] = junk
        return np.ma.array(values, mask=HOLES)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if where == "y":
            result = fit(decay, T, holed(Y), P0, jac=jac)
        elif where == "x":
            result = fit(decay, holed(T), Y, P0, jac=jac)
        else:
            result = fit(decay, T, Y, P0, jac=jac, sigma=holed(1.0))
    np.testing.assert_allclose(result.params, expected.params, rtol=1e-6)
    np.testing.assert_array_equal(result.dof, [25, 25])
    np.testing.assert_allclose(result.cov, expected.cov, rtol=1e-5)
    np.testing.assert_array_equal(result.residuals == 0, HOLES)


@pytest.mark.parametrize("kind", ["list", "variable", "float32", "integer", "memmap", "ragged"])
def test_containers_of_masked_arrays(expected, kind, tmp_path):
    bad = np.where(HOLES, 1e4, Y)
    y = np.ma.array(bad, mask=HOLES)
    rtol = 1e-6
    if kind == "list":
        y = list(y)
    elif kind == "variable":
        y = Variable(y)
    elif kind == "float32":
        y, rtol = y.astype(np.float32), 1e-4
    elif kind == "integer":
        expected = fit(decay, T, np.round(1e4 * Y), [1e4, 1.0, 0.0], mask=~HOLES)
        scaled = np.ma.array(
            np.where(HOLES, -32767, np.round(1e4 * Y)).astype(np.int16), mask=HOLES
        )
        result = fit(decay, T, scaled, [1e4, 1.0, 0.0])
        np.testing.assert_allclose(result.params, expected.params, rtol=1e-6)
        return
    elif kind == "memmap":
        np.save(tmp_path / "y.npy", bad)
        y = np.ma.array(np.load(tmp_path / "y.npy", mmap_mode="r"), mask=HOLES, copy=False)
    else:
        x = [T, T[:25]]
        first = fit(decay, T, Y[0], P0, mask=~HOLES[0]).params
        second = fit(decay, T[:25], Y[1, :25], P0, mask=~HOLES[1, :25]).params
        result = fit(decay, x, [y[0], y[1, :25]], P0)
        np.testing.assert_allclose(result.params, [first, second], rtol=1e-5)
        np.testing.assert_array_equal(result.dof, [25, 20])
        return
    result = fit(decay, T, y, P0)
    np.testing.assert_allclose(result.params, expected.params, rtol=rtol)
    np.testing.assert_array_equal(result.dof, [25, 25])


def test_a_mask_of_one_variable_is_one_of_its_points(expected):
    x = np.ma.array(np.stack([T, np.ones(30)]), mask=False)
    x[1, 4] = np.ma.masked
    model = lambda x, a, k, c: decay(x[0], a, k, c * x[1])  # noqa: E731
    result = fit(model, x[None], Y, P0)
    want = fit(decay, T, Y, P0, mask=np.arange(30) != 4)
    np.testing.assert_allclose(result.params, want.params, rtol=1e-6)
    with pytest.raises(ValueError, match="masked elements in an array of shape"):
        fit(lambda x, a: a * x[0] + x[1][0], (T, np.ma.array([1.0, 2.0], mask=[0, 1])), Y, [1.0])


def test_masks_and_the_argument_mask_add_up():
    y = np.ma.array(Y, mask=HOLES)
    keep = np.arange(30) > 1
    result = fit(decay, T, y, P0, mask=keep)
    want = fit(decay, T, Y, P0, mask=keep & ~HOLES)
    np.testing.assert_array_equal(result.params, want.params)
    again = result[0].refit(where=True, xtol=1e-12)
    np.testing.assert_allclose(again.params, want.params[0], rtol=1e-5)


def test_a_guess_does_not_see_what_is_masked(expected):
    y = np.ma.array(np.where(HOLES, 1e20, Y), mask=HOLES)
    guess = lambda x, y: (jnp.max(y) - jnp.min(y), 1.0, jnp.min(y))  # noqa: E731
    for result in (
        fit(decay, T, y, guess),
        fit(decay, T, np.where(HOLES, np.nan, Y), guess, nan_policy="omit"),
        fit(decay, T, np.where(HOLES, 1e20, Y), guess, mask=~HOLES),
    ):
        np.testing.assert_allclose(result.params, expected.params, rtol=1e-5)


@pytest.mark.long_but("options0")
@pytest.mark.parametrize("options", [{}, {"bounds": (0, 10)}])
def test_curve_fit_leaves_masked_points_out(expected, options):
    scipy_optimize = pytest.importorskip("scipy.optimize")
    live = ~HOLES[0]
    x, y = np.where(HOLES[0], -1e3, T), np.where(HOLES[0], np.nan, Y[0])
    sigma = np.where(HOLES[0], -1.0, 0.5 + T)

    def model(t, a, k, c):
        return decay(t, a, k, c, np)

    popt, pcov = scipy_optimize.curve_fit(
        model, T[live], Y[0][live], P0, sigma=sigma[live], **options
    )
    for masked in range(3):
        arrays = [T.copy(), Y[0].copy(), 0.5 + T]
        arrays[masked] = np.ma.array((x, y, sigma)[masked], mask=HOLES[0])
        for f in (decay, model):
            ours = curve_fit(f, *arrays[:2], P0, arrays[2], **options)
            np.testing.assert_allclose(ours[0], popt, rtol=1e-4)
            np.testing.assert_allclose(ours[1], pcov, rtol=1e-2)
    both = np.ma.array(np.stack([x, T]), mask=[HOLES[0], T < 0])
    ours = curve_fit(lambda x, a, k, c: decay(x[0], a, k, c), both, Y[0], P0, 0.5 + T, **options)
    np.testing.assert_allclose(ours[0], popt, rtol=1e-4)
    with pytest.raises(ValueError, match="all of its points are masked"):
        curve_fit(decay, T, np.ma.masked_all(30), P0)


@pytest.mark.parametrize(
    "options",
    [
        {"p0": np.ma.array(P0, mask=[0, 1, 0])},
        {"p0": {"a": np.ma.array([1.0, 2.0], mask=[0, 1]), "k": 1.0, "c": 0.0}},
        {"bounds": (0, np.ma.array([5.0, 5.0, 5.0], mask=[0, 0, 1]))},
        {"bounds": {"a": (0, np.ma.array([5.0, 5.0], mask=[0, 1]))}},
        {"mask": np.ma.array(~HOLES, mask=HOLES)},
        {"starts": np.ma.array(np.ones((2, 3)), mask=True)},
    ],
)
def test_masked_starts_and_bounds_raise(options):
    with pytest.raises(ValueError, match="masked elements"):
        fit(decay, T, Y, **({"p0": P0} | options))


def test_elsewhere_masked_arrays_raise():
    masked = np.ma.array(Y, mask=HOLES)
    with pytest.raises(ValueError, match="data has 4 masked elements of 60"):
        least_squares_batch(lambda p, d: decay(T, *p) - d, P0, masked)
    with pytest.raises(ValueError, match="what func returned has 2 masked elements"):
        leastsq(lambda p: decay(T, *p, np) - masked[0], P0)
    with pytest.raises(ValueError, match="x0 has 1 masked"):
        leastsq(lambda p: p - 1.0, np.ma.array([1.0, 2.0], mask=[0, 1]))
    x, ier = leastsq(lambda p: (decay(T, *p, np) - masked[0]).compressed(), P0)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, fit(decay, T, masked[0], P0).params, rtol=1e-5)


# --- nothing left ---------------------------------------------------------------------


def test_masked_out_is_a_status_of_its_own():
    y = np.ma.array(np.tile(Y, (2, 1)), mask=np.tile(HOLES, (2, 1)))
    y[1] = np.ma.masked
    few = np.ones((4, 30), bool)
    few[2, 2:] = False
    result = fit(decay, T, y, P0, mask=few, bounds=([0, 0, -1], 9), starts=2)
    assert result.status[1] == Status.MASKED_OUT == -9
    assert result.status[2] == Status.TOO_FEW_POINTS
    np.testing.assert_array_equal(result.masked_out, [False, True, False, False])
    np.testing.assert_array_equal(result.failed, [False, False, True, False])
    np.testing.assert_array_equal(result.success, [True, False, False, True])
    assert np.isnan(result.params[1]).all()
    assert np.isnan(result.cost[1])
    assert np.isnan(result.stderr[1]).all()
    assert np.all(result.nfev[1] == 0)
    assert "No point of this data set counts" in result.message(1)
    again = result.refit(where=[False, True, False, False])
    assert again.status[1] == Status.MASKED_OUT


@pytest.mark.parametrize("polish", [None, "float64"])
def test_all_nan_is_masked_out_only_if_they_are_omitted(polish):
    x, y = T.astype(np.float32), Y.astype(np.float32)
    y[1] = np.nan
    result = fit(decay, x, y, P0, nan_policy="omit", polish=polish)
    assert result.status[1] == Status.MASKED_OUT
    assert result.success[0]
    assert fit(decay, x, y, P0, polish=polish).status[1] == Status.NONFINITE_DATA
