"""The nearest place of a curve, against closed forms and against SciPy's minimization of each."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxlsq.numerics.orthogonal import (
    Rounding,
    distance,
    local_of,
    nearest_shifts,
    slopes_of,
    tangent_length,
)

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
M = 200


def rounding(*sizes):
    return Rounding(sizes[0], sizes[1:], (jnp.ones_like(sizes[0]),) * len(sizes[1:]))


def nearest(residual, variables=1, dtype=np.float64, m=M):
    zeros = jnp.zeros(m, dtype)
    return nearest_shifts(residual, jnp.ones(m, bool), rounding(*[zeros] * (variables + 1)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_line_has_its_foot(strict, dtype):
    slope, height = (RNG.normal(size=M).astype(dtype) for _ in range(2))
    (u,), settled = nearest(lambda u: slope * u + height, dtype=dtype)
    assert settled.all()
    rtol = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(u, -slope * height / (1 + slope**2), rtol=rtol)
    value, slopes = slopes_of(lambda u: slope * u + height, (u,))
    np.testing.assert_allclose(
        distance(value, slopes, (u,)), height / np.sqrt(1 + slope**2), rtol=rtol
    )
    np.testing.assert_allclose(tangent_length(slopes), np.sqrt(1 + slope**2), rtol=rtol)


def test_planes_of_several_variables_have_their_foot():
    slopes, height = RNG.normal(size=(3, M)), RNG.normal(size=M)

    def plane(*u):
        return sum(a * one for a, one in zip(slopes, u, strict=True)) + height

    shifts, settled = nearest(plane, 3)
    assert settled.all()
    foot = -slopes * height / (1 + np.sum(slopes**2, axis=0))
    np.testing.assert_allclose(np.stack(shifts), foot, rtol=1e-12, atol=1e-15)


def test_curves_are_met_where_scipy_finds_them():
    """Of exponentials, with points as far from them as their radius of curvature."""
    rate, y = RNG.uniform(0.2, 2.0, M), RNG.normal(1.0, 1.0, M)

    def residual(u, k=rate, y=y, xp=jnp):
        return xp.exp(-k * u) - y

    (u,), settled = nearest(residual)
    assert settled.all()
    value, slopes = slopes_of(residual, (u,))
    # What is left of the gradient is rounding.
    np.testing.assert_allclose(u + value * slopes[0], 0.0, atol=1e-9)
    for k, one, level in zip(rate, np.asarray(u), y, strict=True):

        def square(u, k=k, level=level):
            return residual(u, k, level, np) ** 2 + u**2

        best = scipy.optimize.minimize_scalar(square, (one - 0.1, one + 0.1), tol=1e-12)
        assert square(one) <= best.fun * (1 + 1e-12)


def test_surfaces_are_met_where_the_gradient_is_zero():
    x, z, y = RNG.uniform(0.5, 2.0, (3, M))

    def residual(u, v):
        return (x + 0.3 * u) * jnp.exp(-(z + 0.5 * v)) - y

    shifts, settled = nearest(residual, 2)
    assert settled.all()
    value, slopes = slopes_of(residual, shifts)
    for u, slope in zip(shifts, slopes, strict=True):
        np.testing.assert_allclose(u + value * slope, 0.0, atol=1e-9)


def test_derivatives_are_those_of_two_variables():
    u, v = RNG.normal(size=(2, M))
    at = local_of(lambda u, v: u**2 * v + 3 * v**3, (u, v))
    np.testing.assert_allclose(at.value, u**2 * v + 3 * v**3)
    np.testing.assert_allclose(at.slopes, [2 * u * v, u**2 + 9 * v**2], rtol=1e-13)
    np.testing.assert_allclose(at.curvatures[0][0], 2 * v, rtol=1e-13)
    np.testing.assert_allclose(at.curvatures[1], [2 * u, 18 * v], rtol=1e-13)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_units_do_not_matter(unit):
    """Shifts and residuals may both be in any unit; the curve is then as curved as before."""
    y = RNG.normal(2.0, 0.5, M)

    def residual(u):
        return (jnp.exp(u / unit) - y) * unit

    zeros = jnp.zeros(M)
    shifts, settled = nearest_shifts(residual, jnp.ones(M, bool), rounding(zeros, zeros))
    assert settled.all()
    value, slopes = slopes_of(residual, shifts)
    np.testing.assert_allclose((shifts[0] + value * slopes[0]) / unit, 0.0, atol=1e-9)


def test_points_that_are_not_free_stay_and_others_do_not_depend_on_them():
    height = RNG.normal(size=M)
    free = RNG.random(M) < 0.5

    def residual(u):
        return jnp.exp(u) * jnp.where(free, 1.0, jnp.nan) - height

    zeros = jnp.zeros(M)
    (u,), settled = nearest_shifts(residual, jnp.asarray(free), rounding(zeros, zeros))
    assert settled.all()
    np.testing.assert_array_equal(u[~free], 0.0)
    for j in np.flatnonzero(free)[:5]:
        one, _ = nearest(lambda u, j=j: jnp.exp(u) - height[j], m=1)
        np.testing.assert_array_equal(one[0], u[j])


def test_kinks_end_by_halved_steps():
    """A roof's edge is nearest to points below."""
    depth = RNG.uniform(1.0, 2.0, M)
    (u,), settled = nearest(lambda u: -2.0 * jnp.abs(u - 0.3) + depth)
    assert settled.all()
    value = -2.0 * np.abs(u - 0.3) + depth
    assert np.all(value**2 + u**2 <= (depth - 0.6) ** 2 * (1 + 1e-12))


def test_where_the_nearest_place_is_no_minimum_it_is_said():
    """A root's begin, with an infinite slope, is nearest to points on its other side."""
    _, settled = nearest(lambda u: jnp.sqrt(0.1 + u) + 3.0)
    assert not settled.any()


def test_what_is_nowhere_finite_ends_at_once_and_stays():
    (u,), _ = nearest(lambda u: u * jnp.nan)
    np.testing.assert_array_equal(u, 0.0)
