"""What must not matter: units of the parameters, order of the data, layout of the Jacobian."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlsq import leastsq

T = np.linspace(0.0, 3.0, 15)
Y = 2.0 * np.exp(-1.2 * T) + 0.4 + 0.05 * np.cos(23.0 * T)
QUICK = settings(max_examples=15, deadline=None, derandomize=True)
STARTS = st.tuples(st.floats(0.5, 6.0), st.floats(0.2, 4.0), st.floats(-2.0, 2.0))


def decay(p, unit, t, y):
    p = p / unit
    return p[0] * jnp.exp(-p[1] * t) + p[2] - y


def numpy_residual(p):
    return np.asarray(p[0] * np.exp(-p[1] * T) + p[2] - Y, np.float64)


def rows(p):
    e = np.exp(-p[1] * T)
    return np.stack([np.asarray(e), -p[0] * T * e, np.ones_like(T)], axis=1)


def columns(p):
    return np.ascontiguousarray(rows(p).T)


def fit(x0, unit=1.0, order=None):
    order = np.arange(T.size) if order is None else order
    unit = np.full(3, unit)
    args = (unit, T[order], Y[order])
    x, _, info, _, status = leastsq(decay, np.array(x0) * unit, args, full_output=True)
    return x, info, status


@QUICK
@given(x0=STARTS, exponent=st.integers(-12, 12))
def test_a_power_of_two_as_unit_of_all_parameters_changes_no_bit(x0, exponent):
    unit = 2.0**exponent
    x, info, status = fit(x0)
    scaled, scaled_info, scaled_status = fit(x0, unit)
    assert (scaled_info["nfev"], scaled_status) == (info["nfev"], status)
    np.testing.assert_array_equal(scaled, x * unit)
    np.testing.assert_array_equal(scaled_info["fvec"], info["fvec"])


@QUICK
@given(x0=STARTS, exponents=st.tuples(*[st.integers(-12, 12)] * 3))
def test_a_unit_per_parameter_gives_the_same_fit(x0, exponents):
    unit = 2.0 ** np.array(exponents)
    x, info, status = fit(x0)
    scaled, scaled_info, scaled_status = fit(x0, unit)
    assert (scaled_info["nfev"], scaled_status) == (info["nfev"], status)
    np.testing.assert_allclose(scaled / unit, x, rtol=1e-9)


@QUICK
@given(x0=STARTS, order=st.permutations(range(T.size)))
def test_the_order_of_the_data_does_not_matter(x0, order):
    order = np.array(order)
    x, info, _ = fit(x0)
    permuted, permuted_info, _ = fit(x0, order=order)
    np.testing.assert_allclose(permuted, x, rtol=1e-9)
    np.testing.assert_allclose(permuted_info["fvec"], info["fvec"][order], atol=1e-9)


@QUICK
@given(x0=STARTS)
def test_jacobian_by_rows_or_by_columns_changes_no_bit(x0):
    by_rows = leastsq(numpy_residual, x0, Dfun=rows, full_output=True)
    by_columns = leastsq(numpy_residual, x0, Dfun=columns, col_deriv=True, full_output=True)
    for k in (0, 1):
        np.testing.assert_array_equal(by_rows[k], by_columns[k])
    assert by_rows[2].keys() == by_columns[2].keys()
    for key in by_rows[2]:
        np.testing.assert_array_equal(by_rows[2][key], by_columns[2][key])
    assert by_rows[3:] == by_columns[3:]


@QUICK
@given(x0=STARTS)
def test_traced_and_host_fits_agree(x0):
    traced, info, status = fit(x0)
    host, _, host_info, _, host_status = leastsq(numpy_residual, x0, Dfun=rows, full_output=True)
    assert (host_info["nfev"], host_info["njev"]) == (info["nfev"], info["njev"])
    assert host_status == status
    np.testing.assert_allclose(host, traced, rtol=1e-9)
