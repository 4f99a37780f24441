"""Errors in x: against closed forms, published fits, and all shifts as parameters in SciPy."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import jaxlsq
from jaxlsq import Status, fit
from tests.decays import Sliced

TIGHT = {"ftol": 1e-14, "xtol": 1e-14}
RNG = np.random.default_rng(15)
B, M = 6, 20
T = np.linspace(0.0, 4.0, M)
TRUTH = RNG.uniform((1.0, 0.3), (3.0, 2.0), (B, 2))
SX, SY = RNG.uniform(0.02, 0.1, (2, B, M))
X = T + SX * RNG.normal(size=(B, M))
Y = TRUTH[:, :1] * np.exp(-TRUTH[:, 1:] * T) + SY * RNG.normal(size=(B, M))
P0 = (1.0, 1.0)


def decay(x, a, k):
    return a * jnp.exp(-k * x)


def line(x, a, b):
    return a + b * x


def with_shifts(model, x, y, sx, sy, p):
    """Parameters, chi-squared and covariance of a fit whose shifts are parameters of SciPy's."""
    n, m = len(p), len(y)

    def residual(z):
        return np.r_[(model(x + z[n:], *z[:n]) - y) / sy, z[n:] / sx]

    out = scipy.optimize.least_squares(
        residual, np.r_[p, np.zeros(m)], x_scale="jac", jac="3-point", ftol=1e-14, xtol=1e-14
    )
    inverse = np.linalg.inv(out.jac.T @ out.jac)[:n, :n]
    return out.x[:n], 2 * out.cost, inverse * 2 * out.cost / (m - n), out.x[n:]


def decay_np(x, a, k):
    return a * np.exp(-k * x)


@pytest.fixture(scope="module")
def result():
    return fit(decay, X, Y, P0, sigma=SY, xsigma=SX, **TIGHT)


def test_all_is_that_of_a_fit_of_all_shifts(result):
    assert result.success.all()
    assert result.engine == "compiled lanes"
    shifts = result.x_shifts
    for i in range(B):
        p, chi2, cov, d = with_shifts(decay_np, X[i], Y[i], SX[i], SY[i], TRUTH[i])
        np.testing.assert_allclose(result.x[i], p, rtol=1e-7)
        np.testing.assert_allclose(result.chi2[i], chi2, rtol=1e-10)
        np.testing.assert_allclose(result.cov[i], cov, rtol=1e-5)
        np.testing.assert_allclose(shifts[i], d, atol=1e-7)
    np.testing.assert_allclose(np.sum(result.residuals**2, axis=1), result.chi2, rtol=1e-12)
    np.testing.assert_array_equal(result.dof, M - 2)


def test_all_is_scipys_odr():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        odr = pytest.importorskip("scipy.odr")
    result = fit(decay, X, Y, P0, sigma=SY, xsigma=SX, **TIGHT)
    for i in range(B):
        data = odr.RealData(X[i], Y[i], sx=SX[i], sy=SY[i])
        out = odr.ODR(data, odr.Model(lambda p, x: decay_np(x, *p)), TRUTH[i], partol=1e-12).run()
        np.testing.assert_allclose(result.x[i], out.beta, rtol=1e-6)
        np.testing.assert_allclose(result.stderr[i], out.sd_beta, rtol=1e-3)  # by differences
        np.testing.assert_allclose(result.chi2[i], out.sum_square, rtol=1e-9)


# ODRPACK's guide (Boggs, Byrd, Rogers, Schnabel, NISTIR 92-4834), the example of an explicit model;
# x at both ends is exact.  The answers in all digits are a Newton iteration's, which ODRPACK's
# printed ones meet to six.
GUIDE_X = np.array([0, 0, 5, 7, 7.5, 10, 16, 26, 30, 34, 34.5, 100.0])
GUIDE_Y = [1265, 1263.6, 1258, 1254, 1253, 1249.8, 1237, 1218, 1220.6, 1213.8, 1215.5, 1212]
GUIDE_SIGMA = np.array([0.0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0])


def guide(x, b0, b1, b2):
    return b0 + b1 * (jnp.exp(b2 * x) - 1) ** 2


def test_odrpacks_guide():
    result = fit(guide, GUIDE_X, GUIDE_Y, (1500.0, -50.0, -0.1), xsigma=GUIDE_SIGMA, **TIGHT)
    exact = [1264.654810501, -54.01838682269, -0.08784985176208]
    np.testing.assert_allclose(result.x, exact, rtol=1e-8)
    np.testing.assert_allclose(result.chi2, 21.4455016594016, rtol=1e-12)
    sd = [1.034927234836, 1.5839967124, 0.006332219037]
    np.testing.assert_allclose(result.stderr, sd, rtol=1e-6)
    printed = [1264.654805, -54.0184099567, -0.0878497121653]
    np.testing.assert_allclose(result.x, printed, rtol=3e-6)
    np.testing.assert_array_equal(result.x_shifts[GUIDE_SIGMA == 0], 0.0)
    effective = {"xsigma": GUIDE_SIGMA, "x_errors": "effective_variance"}
    result = fit(guide, GUIDE_X, GUIDE_Y, (1500.0, -50.0, -0.1), **effective, **TIGHT)
    np.testing.assert_allclose(result.x, [1264.64566, -54.03704, -0.0872677], rtol=1e-6)


def test_a_bound_that_holds():
    """ODRPACK95's example with a bound, whose published answer (1.633, S 0.267) is no minimum."""
    x, y = [0.982, 1.998, 4.978, 6.01], [2.7, 7.4, 148.0, 403.0]
    bounds = ([0.0, 0.0], [10.0, 0.9])
    result = fit(
        lambda x, a, b: a * jnp.exp(b * x), x, y, (1.1, 0.85), xsigma=1.0, bounds=bounds, **TIGHT
    )
    np.testing.assert_allclose(result.x, [1.439981548378, 0.9], rtol=1e-9)
    np.testing.assert_allclose(result.chi2, 0.191868103185, rtol=1e-10)
    shifts = [-0.244296291394, -0.175345858597, 0.169303761782, 0.250338388209]
    np.testing.assert_allclose(result.x_shifts, shifts, rtol=1e-7)
    np.testing.assert_array_equal(result.active_mask, [0, 1])


@pytest.mark.long_but("odr-float32", "effective_variance-float64")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("x_errors", ["odr", "effective_variance"])
def test_lines_have_a_closed_form(dtype, x_errors):
    """Deming's, with one sigma of x and one of y; there effective variance is the same."""
    sx, sy = 0.3, 0.2
    x = (T + sx * RNG.normal(size=(B, M))).astype(dtype)
    y = (1.0 - 0.7 * T + sy * RNG.normal(size=(B, M))).astype(dtype)
    options = {"sigma": sy, "xsigma": sx, "x_errors": x_errors, "absolute_sigma": True}
    result = fit(line, x, y, (0.0, 0.0), polish=None, **options)
    assert result.x.dtype == dtype
    assert result.success.all()
    wide_x, wide_y = x.astype(float), y.astype(float)
    dx, dy = (v - v.mean(axis=1, keepdims=True) for v in (wide_x, wide_y))
    xx, yy, xy = (np.sum(a * b, axis=1) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    ratio = (sy / sx) ** 2
    b = (yy - ratio * xx + np.sqrt((yy - ratio * xx) ** 2 + 4 * ratio * xy**2)) / (2 * xy)
    a = wide_y.mean(axis=1) - b * wide_x.mean(axis=1)
    rtol = 1e-6 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(result.x, np.stack([a, b], axis=1), rtol=rtol, atol=rtol)
    chi2 = np.sum((wide_y - a[:, None] - b[:, None] * wide_x) ** 2, axis=1)
    chi2 /= sy**2 + (b * sx) ** 2
    np.testing.assert_allclose(result.chi2, chi2, rtol=rtol)


def test_float32_finds_what_float64_does(result):
    arrays = [a.astype(np.float32) for a in (X, Y, SY, SX)]
    x, y, sy, sx = arrays
    narrow = fit(decay, x, y, P0, sigma=sy, xsigma=sx, polish=None)
    assert narrow.x.dtype == np.float32
    assert narrow.success.all()
    np.testing.assert_allclose(narrow.x, result.x, rtol=3e-4)
    np.testing.assert_allclose(narrow.x_shifts, result.x_shifts, atol=1e-4)
    np.testing.assert_allclose(narrow.stderr, result.stderr, rtol=1e-3)
    polished = fit(decay, x, y, P0, sigma=sy, xsigma=sx, polish="float64", **TIGHT)
    np.testing.assert_allclose(polished.x, result.x, rtol=1e-5)


def test_without_errors_in_x_it_is_the_plain_fit():
    plain = fit(decay, X, Y, P0, sigma=SY, **TIGHT)
    for x_errors in ("odr", "effective_variance"):
        exact = fit(decay, X, Y, P0, sigma=SY, xsigma=0.0, x_errors=x_errors, **TIGHT)
        np.testing.assert_allclose(exact.x, plain.x, rtol=1e-9)
        np.testing.assert_allclose(exact.chi2, plain.chi2, rtol=1e-12)
        np.testing.assert_allclose(exact.cov, plain.cov, rtol=1e-8)


@pytest.mark.long_but("lanes")
@pytest.mark.parametrize("engine", ["lanes", "xla"])
def test_each_is_fitted_as_if_alone(engine):
    with jaxlsq.using(engine):
        batch = fit(decay, X, Y, P0, sigma=SY, xsigma=SX)
        assert len(np.unique(batch.nit)) > 1
        for i in (1, 4):
            one = fit(decay, X[i], Y[i], P0, sigma=SY[i], xsigma=SX[i])
            np.testing.assert_array_equal(batch.x[i], one.x)
            assert batch.nfev[i] == one.nfev
            assert batch.cost[i] == one.cost


def test_engines_agree(result):
    with jaxlsq.using("xla"):
        other = fit(decay, X, Y, P0, sigma=SY, xsigma=SX, **TIGHT)
    assert other.engine.startswith("XLA")
    np.testing.assert_allclose(other.x, result.x, rtol=1e-9)
    np.testing.assert_allclose(other.cost, result.cost, rtol=1e-12)


def test_one_bad_data_set_is_alone(result):
    for name, value in (("x", np.nan), ("y", np.inf), ("xsigma", np.nan), ("xsigma", -1.0)):
        data = {"x": X.copy(), "y": Y.copy(), "xsigma": SX.copy()}
        data[name][2, 3] = value
        bad = fit(decay, data["x"], data["y"], P0, sigma=SY, xsigma=data["xsigma"], **TIGHT)
        assert bad.status[2] == Status.NONFINITE_DATA
        np.testing.assert_array_equal(np.delete(bad.x, 2, 0), np.delete(result.x, 2, 0))
    assert "xsigma negative" in bad.message(2)


def test_points_that_do_not_count():
    mask = np.arange(M) % 5 != 2
    without = fit(decay, X[:, mask], Y[:, mask], P0, sigma=SY[:, mask], xsigma=SX[:, mask], **TIGHT)
    holed = np.where(mask, SX, np.nan)
    ways = {
        "mask": {"xsigma": SX, "mask": mask},
        "of a bad x": {"xsigma": np.where(mask, SX, -1.0), "mask": mask},
        "omit": {"xsigma": holed, "nan_policy": "omit"},
        "masked array": {"xsigma": np.ma.masked_invalid(holed)},
    }
    for way, options in ways.items():
        result = fit(decay, X, Y, P0, sigma=SY, **options, **TIGHT)
        np.testing.assert_allclose(result.x, without.x, rtol=1e-8, err_msg=way)
        np.testing.assert_array_equal(result.dof, without.dof)
        np.testing.assert_allclose(result.x_shifts[:, mask], without.x_shifts, atol=1e-8)
        np.testing.assert_array_equal(result.x_shifts[:, ~mask], 0.0)
    with pytest.raises(ValueError, match="xsigma contains NaN"):
        fit(decay, X, Y, P0, xsigma=holed, nan_policy="raise")


def test_lists_of_different_lengths():
    sizes = [M, 12, 15, M, 15, 12]
    x, y, sx, sy = ([row[:k] for row, k in zip(a, sizes, strict=True)] for a in (X, Y, SX, SY))
    ragged = fit(decay, x, y, P0, sigma=sy, xsigma=sx)
    for i, k in enumerate(sizes):
        one = fit(decay, x[i], y[i], P0, sigma=sy[i], xsigma=sx[i])
        np.testing.assert_allclose(ragged.x[i], one.x, rtol=1e-7)
        assert ragged.x_shifts[i].shape == (k,)
        np.testing.assert_allclose(ragged.x_shifts[i], one.x_shifts, atol=1e-7)
    same = fit(decay, x, y, P0, sigma=sy, xsigma=0.05)
    each = fit(decay, x, y, P0, sigma=sy, xsigma=[np.full(k, 0.05) for k in sizes])
    np.testing.assert_array_equal(same.x, each.x)


# --- several variables ------------------------------------------------------------------

U = RNG.normal(size=(2, B, M))
SU = np.array([0.2, 0.05])
Z = 1.0 + U[0] - 2.0 * U[1] + 0.1 * RNG.normal(size=(B, M))
UNCERTAIN = U + SU[:, None, None] * RNG.normal(size=U.shape)


def plane(x, a, b, c):
    return a + b * x[0] + c * x[1]


def plane_fits(deviations):
    """Of the residual that has the shifts eliminated in closed form."""
    out = []
    for u, v, z in zip(*UNCERTAIN, Z, strict=True):

        def residual(p, u=u, v=v, z=z):
            size = 0.1**2 + (p[1] * deviations[0]) ** 2 + (p[2] * deviations[1]) ** 2
            return (plane((u, v), *p) - z) / np.sqrt(size)

        options = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}
        out.append(scipy.optimize.least_squares(residual, (1.0, 1.0, -2.0), **options).x)
    return np.array(out)


@pytest.mark.long
def test_several_variables_in_an_array():
    x = np.moveaxis(UNCERTAIN, 0, 1)  # (B, 2, M)
    expected = plane_fits(SU)
    for x_errors in ("odr", "effective_variance"):
        options = {"sigma": 0.1, "x_errors": x_errors, **TIGHT}
        result = fit(plane, x, Z, (0.0, 0.0, 0.0), xsigma=SU[:, None], **options)
        np.testing.assert_allclose(result.x, expected, rtol=1e-7)
    whole = np.broadcast_to(SU[:, None], x.shape)
    result = fit(plane, x, Z, (0.0, 0.0, 0.0), xsigma=whole, sigma=0.1, **TIGHT)
    np.testing.assert_allclose(result.x, expected, rtol=1e-7)
    assert result.x_shifts.shape == x.shape
    # By the normal of the plane.
    slopes = result.x[:, 1:, None] * SU[:, None] ** 2
    size = 0.1**2 + np.sum(slopes * result.x[:, 1:, None], axis=1)
    height = result.predict() - Z
    np.testing.assert_allclose(
        result.x_shifts, -slopes * (height / size)[:, None], rtol=1e-6, atol=1e-9
    )


def test_several_variables_of_which_one_is_exact():
    result = fit(
        plane, tuple(UNCERTAIN), Z, (0.0, 0.0, 0.0), sigma=0.1, xsigma=(0.2, None), **TIGHT
    )
    np.testing.assert_allclose(result.x, plane_fits((0.2, 0.0)), rtol=1e-7)
    first, second = result.x_shifts
    assert np.abs(first).max() > 0.01
    np.testing.assert_array_equal(second, np.zeros((B, M)))


@pytest.mark.long
def test_a_curved_surface():
    def surface(x, a, k):
        return a * jnp.exp(-k * x["t"]) * x["z"]

    z = np.linspace(0.8, 1.2, M)
    y = Y * z
    sigma = {"t": SX, "z": 0.03}
    x = {"t": X, "z": np.broadcast_to(z, X.shape)}
    result = fit(surface, x, y, {"a": 1.0, "k": 1.0}, sigma=0.05, xsigma=sigma, **TIGHT)
    assert result.success.all()
    shifts = result.x_shifts
    for i in range(B):

        def residual(q, i=i):
            a, k, d, e = *q[:2], q[2 : M + 2], q[M + 2 :]
            values = a * np.exp(-k * (X[i] + d)) * (z + e)
            return np.r_[(values - y[i]) / 0.05, d / SX[i], e / 0.03]

        begin = np.r_[TRUTH[i], np.zeros(2 * M)]
        options = {"x_scale": "jac", "ftol": 1e-14, "xtol": 1e-14}
        out = scipy.optimize.least_squares(residual, begin, jac="3-point", **options)
        np.testing.assert_allclose(result.x[i], out.x[:2], rtol=1e-6)
        np.testing.assert_allclose(shifts["t"][i], out.x[2 : M + 2], atol=1e-6)
        np.testing.assert_allclose(shifts["z"][i], out.x[M + 2 :], atol=1e-6)


# --- what else goes with it ---------------------------------------------------------------


def decay_jac(x, a, k):
    e = jnp.exp(-k * x)
    return jnp.stack([e, -a * x * e], axis=1)


@pytest.mark.long_but("3-point")
@pytest.mark.parametrize("jac", ["jacrev", "3-point", decay_jac])
def test_derivatives_of_every_kind(result, jac):
    other = fit(decay, X, Y, P0, sigma=SY, xsigma=SX, jac=jac, **TIGHT)
    np.testing.assert_allclose(other.x, result.x, rtol=1e-6)
    np.testing.assert_allclose(other.stderr, result.stderr, rtol=1e-4)


def test_fixed_tied_and_by_name(result):
    p0 = {"a": 1.0, "k": result.x[:, 1]}
    fixed = fit(decay, X, Y, p0, sigma=SY, xsigma=SX, fixed="k", **TIGHT)
    np.testing.assert_allclose(fixed.params["a"], result.x[:, 0], rtol=1e-6)
    tied = fit(
        decay,
        X,
        Y,
        {"a": 1.0, "life": 1.0},
        sigma=SY,
        xsigma=SX,
        expand=lambda p: {"a": p["a"], "k": 1.0 / p["life"]},
        **TIGHT,
    )
    np.testing.assert_allclose(1.0 / tied.params["life"], result.x[:, 1], rtol=1e-6)


def test_parameters_that_data_sets_share():
    """From a start whose nearest places are far from the data."""
    y = TRUTH[:, :1] * np.exp(-0.8 * T) + SY * RNG.normal(size=(B, M))
    errors = {"sigma": SY, "xsigma": SX}
    result = fit(decay, X, y, {"a": 30.0, "k": 5.0}, shared="k", **errors)
    assert result.success.all()

    def residual(z):
        a, k, d = z[:B, None], z[B], z[B + 1 :].reshape(B, M)
        return np.r_[((a * np.exp(-k * (X + d)) - y) / SY).ravel(), (d / SX).ravel()]

    begin = np.r_[TRUTH[:, 0], 0.8, np.zeros(B * M)]
    options = {"x_scale": "jac", "jac": "3-point", "ftol": 1e-14, "xtol": 1e-14}
    out = scipy.optimize.least_squares(residual, begin, **options)
    np.testing.assert_allclose(result.params["a"], out.x[:B], rtol=1e-6)
    np.testing.assert_allclose(result.params["k"], out.x[B], rtol=1e-6)
    np.testing.assert_allclose(result.x_shifts, out.x[B + 1 :].reshape(B, M), atol=1e-5)


def test_starts_and_guesses(result):
    several = fit(decay, X, Y, (30.0, 9.0), sigma=SY, xsigma=SX, starts=3, **TIGHT)
    np.testing.assert_allclose(several.x, result.x, rtol=1e-6)
    given = fit(decay, X, Y, (30.0, 9.0), sigma=SY, xsigma=SX, starts=[P0], **TIGHT)
    np.testing.assert_allclose(given.x, result.x, rtol=1e-6)
    guessed = fit(decay, X, Y, lambda x, y: jnp.stack([y[0], 1.0]), sigma=SY, xsigma=SX, **TIGHT)
    np.testing.assert_allclose(guessed.x, result.x, rtol=1e-6)


def test_refits_go_on_where_fits_ended(result):
    """And not from a fit with exact x again: those that ended early then never came further."""
    early = fit(decay, X, Y, P0, sigma=SY, xsigma=SX, max_nfev=3, **TIGHT)
    assert early.failed.any()
    again = early
    for _ in range(4):
        again = again.refit()
    assert again.success.all()
    np.testing.assert_allclose(again.x, result.x, rtol=1e-6)
    anew = early.refit(p0=[2.0, 1.0], max_nfev=100)
    np.testing.assert_allclose(anew.x, result.x, rtol=1e-6)


def test_parts_and_files(result, tmp_path):
    some = result[[1, 4]]
    np.testing.assert_array_equal(some.x_shifts, result.x_shifts[[1, 4]])
    stored = fit(decay, X, Y, P0, sigma=SY, xsigma=SX, out=tmp_path / "fits", **TIGHT)
    np.testing.assert_array_equal(stored.load().x, result.x)
    same = fit(decay, X, Y, P0, sigma=SY, xsigma=SX, out=tmp_path / "fits", **TIGHT)
    np.testing.assert_array_equal(same.load().x, result.x)
    others = {"xsigma": 0.1}, {"xsigma": SX, "x_errors": "effective_variance"}, {"xsigma": 2 * SX}
    for other in (*others, {}):
        with pytest.raises(ValueError, match=r"another run|are not those"):
            fit(decay, X, Y, P0, sigma=SY, out=tmp_path / "fits", **other, **TIGHT)


@pytest.mark.long
def test_standard_errors_are_those_of_many_draws():
    draws = 2000
    rng = np.random.default_rng(4)
    x = T + 0.05 * rng.normal(size=(draws, M))
    y = decay_np(T, 2.0, 0.8) + 0.05 * rng.normal(size=(draws, M))
    errors = {"sigma": 0.05, "xsigma": 0.05, "absolute_sigma": True}
    result = fit(decay, x, y, P0, **errors)
    assert result.success.all()
    pulls = (result.x - [2.0, 0.8]) / result.stderr
    np.testing.assert_allclose(pulls.std(axis=0), 1.0, atol=3 / np.sqrt(2 * draws))
    np.testing.assert_allclose(result.redchi.mean(), 1.0, atol=3 * np.sqrt(2 / (M - 2) / draws))


def test_intervals_of_a_lines_slope():
    """Of which the sum of squares, at the best intercept, is a ratio of parabolas."""
    sx, sy = 0.3, 0.2
    x = T + sx * RNG.normal(size=T.size)
    y = 1.0 - 0.7 * T + sy * RNG.normal(size=T.size)
    result = fit(line, x, y, (0.0, 0.0), sigma=sy, xsigma=sx, **TIGHT)
    dx, dy = x - x.mean(), y - y.mean()

    def chi2(b):
        return np.sum((dy - b * dx) ** 2) / (sy**2 + (b * sx) ** 2)

    best = scipy.optimize.minimize_scalar(chi2, (-1.0, -0.4), tol=1e-12)
    level = best.fun * (1 + scipy.stats.t.ppf(0.975, M - 2) ** 2 / (M - 2))
    ends = [
        scipy.optimize.brentq(lambda b: chi2(b) - level, best.x, best.x + side, xtol=1e-13)
        for side in (-0.5, 0.5)
    ]
    found = result.interval(0.95, "b", method="profile")
    np.testing.assert_allclose(found[0], ends, rtol=1e-6)


def test_comparisons_are_of_the_same_errors(result):
    three = fit(
        lambda x, a, k, c: a * jnp.exp(-k * x) + c, X, Y, (1.0, 1.0, 0.0), sigma=SY, xsigma=SX
    )
    assert jaxlsq.compare(result, three).aicc.shape == (B, 2)
    for other in ({}, {"xsigma": 2 * SX}, {"xsigma": SX, "x_errors": "effective_variance"}):
        with pytest.raises(ValueError, match="xsigma"):
            jaxlsq.compare(result, fit(decay, X, Y, P0, sigma=SY, **other))


def test_questions_to_a_result(result):
    flat = fit(lambda x, a: a + 0 * x, X, Y, (0.0,), sigma=SY, xsigma=SX, **TIGHT)
    np.testing.assert_allclose(flat.r2, 0.0, atol=1e-9)
    np.testing.assert_allclose(result.r2, 1 - result.chi2 / flat.chi2, rtol=1e-7)
    np.testing.assert_allclose(result.predict(), decay_np(X, *result.x.T[:, :, None]), rtol=1e-12)
    plain = fit(decay, X, Y, P0)
    with pytest.raises(ValueError, match="x_shifts are of orthogonal distances"):
        _ = plain.x_shifts
    with pytest.raises(ValueError, match="errors in y alone"):
        result.bootstrap(10)


def test_what_is_read_in_blocks(result):
    read = fit(decay, Sliced(X), Sliced(Y), P0, sigma=Sliced(SY), xsigma=Sliced(SX), **TIGHT)
    np.testing.assert_array_equal(read.x, result.x)
    np.testing.assert_array_equal(read.x_shifts, result.x_shifts)
    np.testing.assert_array_equal(read[2:].cov, result.cov[2:])


def test_named_dims_and_tables_are_aligned(result):
    xr, pd = pytest.importorskip("xarray"), pytest.importorskip("pandas")
    y = xr.DataArray(Y, dims=("row", "time"))
    x, sy, sx = (xr.DataArray(a.T, dims=("time", "row")) for a in (X, SY, SX))
    named = fit(decay, x, y, P0, sigma=sy, xsigma=sx, **TIGHT)
    np.testing.assert_array_equal(named.x, result.x)
    row = xr.DataArray(SX[:, 0], dims="row")
    of_rows = fit(decay, x, y, P0, sigma=sy, xsigma=row)
    same = fit(decay, X, Y, P0, sigma=SY, xsigma=SX[:, :1])
    np.testing.assert_array_equal(of_rows.x, same.x)
    keys = list("abcdef")
    table, sigmas = pd.DataFrame(Y, index=keys), pd.DataFrame(SX, index=keys)
    mixed = fit(decay, X, table, P0, sigma=SY, xsigma=sigmas.iloc[::-1], **TIGHT)
    np.testing.assert_array_equal(mixed.x, result.x)
    columns = fit(decay, X.T, Y.T, P0, sigma=SY.T, xsigma=SX.T, axis=0, **TIGHT)
    np.testing.assert_array_equal(columns.x, result.x)


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"xsigma": -1.0}, "xsigma must be positive, or zero"),
        ({"xsigma": np.full(M, np.nan)}, "xsigma must be positive, or zero"),
        ({"xsigma": np.inf}, "xsigma must be positive, or zero"),
        ({"xsigma": np.ones(M + 1)}, "xsigma must broadcast to the shape of xdata"),
        ({"xsigma": np.ones(B)}, "append axes of length one"),
        ({"xsigma": (0.1, 0.1)}, "xsigma must broadcast"),
        ({"xsigma": {"t": 0.1}}, "xsigma must"),
        ({"xsigma": 0.1, "loss": "huber"}, "squares alone"),
        ({"xsigma": 0.1, "loss": "poisson"}, "squares alone"),
        ({"xsigma": 0.1, "sigma": np.eye(M)}, "covariance matrix as sigma does not go with xsigma"),
        ({"xsigma": 0.1, "linear": "a"}, "xsigma does not go with linear"),
        ({"xsigma": 0.1, "x_errors": "orthogonal"}, "x_errors must be one of"),
        ({"x_errors": "effective_variance"}, "pass xsigma too"),
        (
            {"xsigma": 0.1, "x_errors": "effective_variance", "jac": lambda x, a, k: x},
            "which jac does not give",
        ),
    ],
)
def test_what_does_not_go_together(compiles, options, words):
    before = compiles()
    with pytest.raises((ValueError, TypeError), match=words):
        fit(decay, X, Y, P0, **options)
    assert compiles() == before


def test_structures_must_be_those_of_x():
    with pytest.raises(ValueError, match="structure of xdata"):
        fit(plane, tuple(UNCERTAIN), Z, (0.0, 0.0, 0.0), xsigma=0.1)
    with pytest.raises(ValueError, match="whose last axis is not theirs"):
        fit(
            lambda x, a, k: a * jnp.exp(-k * x[0]) + x[1][0],
            (X, np.zeros((B, 3))),
            Y,
            P0,
            xsigma=(0.1, 0.1),
        )
