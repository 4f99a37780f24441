"""Where fits go astray: columns of rounding, dead bounds, derivatives that are not finite."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import curve_fit as scipy_curve_fit
from scipy.optimize import least_squares as scipy_least_squares

from jaxlsq import Status, curve_fit, fit, least_squares, leastsq

# --- a column that is zero but for rounding ------------------------------------------

PIXELS = np.array([v.ravel() for v in np.meshgrid(np.arange(16.0), np.arange(16.0))])


def ellipse(x, a, x0, y0, sx, sy, angle, xp=jnp):
    """A Gaussian spot of two widths, turned by an angle."""
    c, s = xp.cos(angle), xp.sin(angle)
    u, v = (x[0] - x0) * c - (x[1] - y0) * s, (x[0] - x0) * s + (x[1] - y0) * c
    return a * xp.exp(-0.5 * ((u / sx) ** 2 + (v / sy) ** 2))


def spots(count, seed=0):
    rng = np.random.default_rng(seed)
    low, high = [5, 6, 6, 2.5, 1.5, 0.2], [15, 9, 9, 4, 2.2, 1.2]
    truth = rng.uniform(low, high, (count, 6))
    clean = ellipse(PIXELS, *truth.T[:, :, None], xp=np)
    return clean + 0.01 * rng.normal(size=clean.shape)


@pytest.mark.long_but("float32-0.0")
@pytest.mark.parametrize("angle", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_ellipse_that_starts_as_a_circle(dtype, angle):
    """The angle has no effect at the start; what is left of its column is rounding."""
    y = spots(40)
    start = [9.0, 7.0, 8.0, 3.0, 3.0, angle]
    result = fit(ellipse, PIXELS.astype(dtype), y.astype(dtype), start)
    assert result.success.all()
    rms = np.sqrt(2.0 * result.cost / 256)
    np.testing.assert_allclose(rms, 0.01, rtol=0.15)
    assert np.ptp(result.nfev) > 0
    assert np.all(np.abs(result.x[:, 5]) < 1e3)  # it may turn, and does not fly off


def by_least_squares(y, start):
    with jax.enable_x64(True):
        return least_squares(lambda p: ellipse(PIXELS, *p) - y, jnp.asarray(start)).x


FRONTS = {
    "curve_fit": lambda y, start: curve_fit(ellipse, PIXELS, y, start)[0],
    "bounds": lambda y, start: curve_fit(ellipse, PIXELS, y, start, bounds=(-50, 50))[0],
    "leastsq": lambda y, start: leastsq(lambda p: ellipse(PIXELS, *p) - y, start)[0],
    "least_squares": by_least_squares,
}


@pytest.mark.long_but("leastsq")
@pytest.mark.parametrize("front", FRONTS)
def test_the_ellipse_in_every_front(front):
    y = spots(1)[0]
    params = np.asarray(FRONTS[front](y, [9.0, 7.0, 8.0, 3.0, 3.0, 0.0]))
    residual = ellipse(PIXELS, *params, xp=np) - y
    np.testing.assert_allclose(np.sqrt(np.mean(residual**2)), 0.01, rtol=0.15)


@pytest.mark.parametrize("power", [-18, -15, 15, 18])
def test_a_parameter_in_a_small_unit_is_no_rounding(power):
    """Its column is as small as rounding, and exact."""
    t = np.linspace(0.0, 1.0, 20)
    rng = np.random.default_rng(3)
    y = 1.0 + 2.0 * t + 0.01 * rng.normal(size=(5, t.size))
    unit = 10.0**power
    result = fit(lambda x, a, b: a + b * x, t * unit, y, [1.0, 1.0])
    slope, offset = np.polynomial.polynomial.polyfit(t, y.T, 1)[::-1]
    assert result.success.all()
    np.testing.assert_allclose(result.x[:, 1] * unit, slope, rtol=1e-9)
    np.testing.assert_allclose(result.x[:, 0], offset, rtol=1e-9)
    popt, _ = curve_fit(lambda x, a, b: a + b * x, t * unit, y[0])
    np.testing.assert_allclose(popt * [1.0, unit], [offset[0], slope[0]], rtol=1e-9)


# --- bounds where nothing depends on anything -----------------------------------------


def cosine(t, w, a, o, s, xp=jnp):
    """A damped cosine."""
    return a * xp.cos(t * w + o) * xp.exp(-t / s)


@pytest.mark.long_but(*[f"{floor}-fit" for floor in (1e-9, 1e-5, 1e-3)])
@pytest.mark.parametrize("door", ["fit", "curve_fit"])
@pytest.mark.parametrize("floor", [1e-9, 1e-5, 1e-3])
def test_a_floor_far_away_is_no_trap(floor, door):
    t = np.linspace(0, 10, 101)
    y = cosine(t, 4, 10, 0.2, 4.5, np) + 0.05 * np.random.default_rng(0).normal(size=101)
    start, box = [5.0, 5.0, 0.5, 3.0], ([-np.inf] * 3 + [floor], [np.inf] * 4)
    expected, _ = scipy_curve_fit(lambda t, *p: cosine(t, *p, xp=np), t, y, start, bounds=box)
    if door == "curve_fit":
        found = curve_fit(cosine, t, y, start, bounds=box)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        return
    result = fit(cosine, t, np.stack([y, y[::-1], y]), start, bounds=box)
    np.testing.assert_allclose(result.x[[0, 2]], [expected, expected], rtol=1e-5)
    assert result.success[[0, 2]].all()


def rician(t, signal, decay, offset, xp=jnp):
    """Magnitude of a decaying signal over a floor."""
    return xp.sqrt((signal * xp.exp(-t / decay)) ** 2 + offset**2)


def test_what_a_bound_holds_is_not_undetermined():
    """The column of the floor is zero where the floor is."""
    t = np.linspace(10, 80, 8)
    rng = np.random.default_rng(5)
    truth = rng.uniform([50, 50], [200, 120], (60, 2))
    y = truth[:, :1] * np.exp(-t / truth[:, 1:]) + 0.5 * rng.normal(size=(60, 8))
    bounds = ([0, 1, 0], [1e4, 1e4, 1e3])
    result = fit(rician, t, y, [100.0, 80.0, 5.0], bounds=bounds, absolute_sigma=False)
    held = (result.active_mask[:, 2] == -1) | (result.x[:, 2] == 0)
    assert held.sum() > 10
    assert result.success.all()
    assert np.all(np.isfinite(result.stderr[:, :2]))

    def off(y, p):
        return rician(t, *p, xp=np) - y

    for i in range(0, 60, 7):
        best = min(
            scipy_least_squares(lambda p: rician(t, *p, xp=np) - y[i], start, bounds=bounds).cost  # noqa: B023
            for start in ([100.0, 80.0, 5.0], [100.0, 80.0, 1e-3])
        )
        assert result.cost[i] <= best * (1 + 1e-4)


# --- derivatives that are not finite ---------------------------------------------------

DOSE = np.array([0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100.0])


def hill(x, low, high, c, n, xp=jnp):
    """A response to a dose, of which one is zero."""
    return low + (high - low) / (1 + (c / x) ** n)


def sigmoid(x, a, b, c, xp=jnp):
    """A step whose exponential overflows."""
    return a / (1 + xp.exp(-b * (x - c)))


@pytest.mark.long
def test_dose_zero():
    y = np.array([5 + 95 / (1 + (0.8 / max(x, 1e-300)) ** 1.3) if x else 5.0 for x in DOSE])
    start = [0.0, 90.0, 1.0, 1.0]
    expected = [5.0, 100.0, 0.8, 1.3]
    for bounds in (None, (0, np.inf)):
        result = fit(hill, DOSE, np.stack([y, y + 1.0]), start, bounds=bounds)
        np.testing.assert_allclose(result.x, [expected, np.add(expected, [1, 1, 0, 0])], rtol=1e-6)
        assert result.success.all()
        assert np.all(np.isfinite(result.cov))
    for options in ({}, {"bounds": (0, np.inf)}, {"method": "trf", "loss": "huber"}):
        popt, pcov = curve_fit(hill, DOSE, y, start, **options)
        np.testing.assert_allclose(popt, expected, rtol=1e-6)
        assert np.all(np.isfinite(pcov))


@pytest.mark.long_but("huber-float64-8.0")
@pytest.mark.parametrize(("dtype", "slope"), [(np.float32, 1.0), (np.float64, 8.0)])
@pytest.mark.parametrize("loss", ["linear", "huber", "cauchy"])
def test_a_sigmoid_that_overflows(dtype, slope, loss):
    x = np.linspace(0, 200, 100)
    y = np.stack([sigmoid(x, 3, 0.2, c, np) for c in (90, 95, 108)])
    rng = np.random.default_rng(0)
    y += 0.01 * rng.normal(size=y.shape)
    start = [1.0, slope, 100.0]
    result = fit(sigmoid, x.astype(dtype), y.astype(dtype), start, loss=loss)
    for i in range(3):
        expected = scipy_least_squares(
            lambda p: sigmoid(x, *p, xp=np) - y[i],  # noqa: B023
            [3, 0.2, 95],
            loss=loss,
        ).x
        np.testing.assert_allclose(result.x[i], expected, rtol=2e-3)
    assert np.ptp(result.nfev) > 0


@pytest.mark.long_but("fit")
@pytest.mark.parametrize("door", ["fit", "curve_fit"])
def test_an_infinite_derivative_on_a_bound(door):
    t = np.linspace(0.1, 4, 40)

    def model(t, a, b, c, xp=jnp):
        return a * xp.sqrt(b + t) + c * xp.sqrt(b)

    y = model(t, 2, 0.02, 1, np) + 0.02 * np.random.default_rng(0).normal(size=40)
    start = [1.0, 1.0, 1.0]
    expected, _ = scipy_curve_fit(
        lambda t, *p: model(t, *p, xp=np), t, y, start, bounds=(0, np.inf)
    )
    if door == "fit":
        found = fit(model, t, np.stack([y] * 3), start, bounds=(0, np.inf)).x
    else:
        found = curve_fit(model, t, y, start, bounds=(0, np.inf))[0]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-3)


@pytest.mark.parametrize("given", [True, False])
def test_a_given_jacobian_with_nan_is_repaired(given):
    """In Python too; its evaluations are counted."""
    x = np.linspace(0, 4, 30)
    y = 2.5 * np.exp(-1.3 * x)

    def jac(p):
        rows = np.stack([np.exp(-p[1] * x), -p[0] * x * np.exp(-p[1] * x)], axis=1)
        rows[3, 1] = np.nan
        return rows

    def residual(p):
        return p[0] * np.exp(-p[1] * x) - y

    p, _, info, _, ier = leastsq(residual, [1.0, 1.0], Dfun=jac, full_output=True)
    np.testing.assert_allclose(p, [2.5, 1.3], rtol=1e-7)
    assert ier in (1, 2, 3)
    assert info["nfev"] > info["njev"] * 2


# --- differences inside bounds ----------------------------------------------------------


@pytest.mark.parametrize("jac", ["2-point", "3-point"])
def test_differences_stay_inside_bounds(jac):
    """The model is not a number outside."""
    x = np.linspace(0, 1, 20)

    def model(x, a, b):
        return jnp.where((a >= 0) & (a <= 1), a, jnp.nan) * x + b

    y = np.stack([1.2 * x + 0.3, 0.5 * x, -0.3 * x + 1.0])
    result = fit(model, x, y, [0.5, 0.0], bounds=([0, -5], [1, 5]), jac=jac)
    slopes = np.clip([1.2, 0.5, -0.3], 0, 1)
    np.testing.assert_allclose(result.x[:, 0], slopes, atol=1e-7)
    offsets = [np.mean(row - slope * x) for row, slope in zip(y, slopes, strict=True)]
    np.testing.assert_allclose(result.x[:, 1], offsets, atol=1e-7)
    assert result.success.all()


# --- ends that are none -------------------------------------------------------------------


def test_success_and_infinite_errors_exclude_each_other():
    """A fit that runs away along a valley ends where nothing is determined."""
    t = np.linspace(0, 4, 50)
    rng = np.random.default_rng(0)
    rates = np.array([0.5, 1.0, 1.5, 2.0])
    y = 2.5 * np.exp(-rates[:, None] * t) + 0.3 + 0.02 * rng.normal(size=(4, 50))
    scales = np.linspace(1, 60, 60)[:, None, None]
    result = fit(lambda t, a, k, c: a * jnp.exp(-k * t) + c, t, scales * y, [1.0, 1.0, 0.0])
    finite = np.all(np.isfinite(result.stderr), axis=-1)
    assert np.all(finite[result.success])
    assert np.count_nonzero(~result.success) >= 1


def test_a_cost_beyond_float32_is_kept():
    t = np.linspace(0.1, 4, 24, dtype=np.float32)
    y = np.stack([2 * np.sin(3 * t + 0.5), 1e25 * np.cos(t)]).astype(np.float32)
    result = fit(lambda t, a, c: a * jnp.sin(3 * t) + c, t, y, [1.0, 1.0])
    assert np.all(np.isfinite(result.cost))
    assert result.cost[1] > 1e49
    wide = fit(lambda t, a, c: a * jnp.sin(3 * t) + c, t.astype(float), y.astype(float), [1.0, 1.0])
    np.testing.assert_allclose(result.cost, wide.cost, rtol=1e-4)
    np.testing.assert_allclose(result.x, wide.x, rtol=1e-4)


def test_success_is_finite_in_least_squares():
    """There the cost is in the type of the parameters."""
    residual = jnp.array([1e25, -1e25], jnp.float32)
    result = least_squares(lambda p: p[0] * jnp.ones(2) - residual, jnp.ones(1, jnp.float32))
    assert not bool(result.success & ~jnp.isfinite(result.cost))
    near = least_squares(lambda p: p[0] * residual - 2 * residual[0], jnp.ones(1, jnp.float32))
    assert not bool(near.success)
    assert near.status in (Status.NONFINITE_COST, Status.SINGULAR_JACOBIAN)


# --- least_squares -----------------------------------------------------------------------


@pytest.mark.long
def test_least_squares_and_its_vmap_repair_too():
    x = np.linspace(0, 200, 100)
    centres = np.array([90.0, 95.0, 108.0])
    y = jnp.asarray(np.stack([sigmoid(x, 3, 0.2, c, np) for c in centres]))
    with jax.enable_x64(True):
        y = jnp.asarray(y, jnp.float64)

        def solve(y, **options):
            start = jnp.array([1.0, 8.0, 100.0])
            return least_squares(lambda p: sigmoid(x, *p) - y, start, **options)

        mapped = jax.vmap(solve)(y)
        single = [solve(row) for row in y]
        robust = jax.vmap(lambda row: solve(row, loss="huber"))(y)
        followed = solve(y[0], return_history=5)
    expected = np.column_stack([np.full(3, 3.0), np.full(3, 0.2), centres])
    np.testing.assert_allclose(mapped.x, expected, rtol=1e-6)
    np.testing.assert_allclose([s.x for s in single], expected, rtol=1e-6)
    np.testing.assert_allclose(robust.x, expected, rtol=1e-5)
    np.testing.assert_allclose(followed.x, expected[0], rtol=1e-6)
    assert mapped.success.all()


RESPONSE = np.array([5.0, 100.0, 0.8, 1.3])


def responses():
    with np.errstate(divide="ignore"):
        return hill(DOSE, *RESPONSE, np) + np.random.default_rng(3).normal(0, 0.5, (3, DOSE.size))


def solved(y):
    return least_squares(lambda p: hill(DOSE, *p) - y, jnp.asarray(RESPONSE * 1.2))


def test_the_jacobian_that_least_squares_returns_is_repaired(x64):
    """Of a dose of zero the derivative is 0 times infinity, at the solution too."""
    y = responses()
    mapped = jax.vmap(solved)(jnp.asarray(y))
    assert mapped.success.all()
    assert np.all(np.isfinite(mapped.jac))
    assert np.max(mapped.optimality) < 1e-3  # of a gradient whose parts are about 1e2
    for i, row in enumerate(y):
        with np.errstate(divide="ignore"):
            popt, pcov = scipy_curve_fit(partial(hill, xp=np), DOSE, row, RESPONSE * 1.2)
        np.testing.assert_allclose(mapped.x[i], popt, rtol=1e-5)
        np.testing.assert_allclose(mapped.cov[i], pcov, rtol=1e-4, atol=1e-9)


@pytest.mark.long
def test_a_repaired_jacobian_is_the_same_alone_nested_and_differentiated(x64):
    y = responses()
    mapped = jax.vmap(solved)(jnp.asarray(y))
    nested = jax.jit(jax.vmap(jax.vmap(solved)))(jnp.asarray(y)[:, None])
    for i, row in enumerate(y):
        np.testing.assert_allclose(nested.jac[i, 0], mapped.jac[i], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(solved(row).jac, mapped.jac[i], rtol=1e-6, atol=1e-9)
    slopes = jax.grad(lambda y: solved(y).x[2])(jnp.asarray(y[0]))
    assert np.all(np.isfinite(slopes))


@pytest.mark.long
@pytest.mark.parametrize("jac", ["2-point", "3-point"])
def test_differences_of_least_squares_stay_inside_bounds(jac):
    x = jnp.linspace(0, 1, 20)
    slopes = jnp.array([1.2, 0.5, -0.3])

    def solve(slope):
        def residual(p):
            inside = (p[0] >= 0) & (p[0] <= 1)
            return jnp.where(inside, p[0], jnp.nan) * x + p[1] - slope * x - 0.3

        return least_squares(residual, jnp.array([0.5, 0.0]), jac=jac, bounds=([0, -5], [1, 5]))

    result = jax.vmap(solve)(slopes)
    np.testing.assert_allclose(result.x[:, 0], np.clip(slopes, 0, 1), atol=1e-3)
    assert result.success.all()
