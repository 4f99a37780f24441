"""Linear parameters eliminated, against least squares by SVD and differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq.numerics.elimination import best, eliminated

T = np.linspace(0.0, 2.0, 30)
Y = 2.0 * np.exp(-0.7 * T) + 0.5 * np.exp(-3.0 * T) + 0.1 + 0.02 * np.cos(40 * T)
RATES = (0.6, 2.5)
pytestmark = pytest.mark.usefixtures("x64")


def separate(fast, slow):
    return -jnp.asarray(Y), jnp.exp(-fast * T), jnp.exp(-slow * T), jnp.ones(T.size)


MOVES = ((False, True, False, False), (False, False, True, False))


def projected(rates):
    basis = np.stack(separate(*rates)[1:], axis=1)
    return basis @ np.linalg.lstsq(basis, Y, rcond=None)[0] - Y


def test_coefficients_are_those_of_an_svd():
    f0, *basis = separate(*RATES)
    found = best(f0, basis)
    matrix = np.stack(basis, axis=1)
    np.testing.assert_allclose(found.c, np.linalg.lstsq(matrix, Y, rcond=None)[0], rtol=1e-11)
    np.testing.assert_allclose(found.f, projected(RATES), atol=1e-13)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_neither_units_of_the_basis_nor_of_the_data_matter(scale):
    f0, *basis = separate(*RATES)
    found, scaled = best(f0, basis), best(f0 * scale, [b * scale for b in basis])
    np.testing.assert_allclose(scaled.c, found.c, rtol=1e-12)


def test_columns_are_the_whole_derivative():
    _, columns = eliminated(separate, MOVES)(tuple(map(jnp.asarray, RATES)))
    h = 1e-6
    for j, column in enumerate(columns):
        ahead, behind = list(RATES), list(RATES)
        ahead[j], behind[j] = RATES[j] + h, RATES[j] - h
        expected = (projected(ahead) - projected(behind)) / (2 * h)
        np.testing.assert_allclose(column, expected, atol=1e-9)


def test_columns_are_those_of_automatic_differentiation():
    def residual(rates):
        f0, *basis = separate(*rates)
        return best(f0, basis).f

    _, columns = eliminated(separate, MOVES)(tuple(map(jnp.asarray, RATES)))
    expected = jax.jacfwd(residual)(jnp.array(RATES))
    np.testing.assert_allclose(jnp.stack(columns, axis=1), expected, atol=1e-12)


def test_a_column_that_others_span_has_no_coefficient():
    basis = [jnp.exp(-T), jnp.exp(-T), jnp.ones(T.size)]
    found = best(-jnp.asarray(Y), basis)
    assert float(found.c[1]) == 0.0
    expected = np.linalg.lstsq(np.stack([basis[0], basis[2]], axis=1), Y, rcond=None)[0]
    np.testing.assert_allclose([found.c[0], found.c[2]], expected, rtol=1e-11)


@pytest.mark.long
def test_float32_is_as_good_as_an_svd_of_float32():
    wide = np.stack(separate(*RATES)[1:], axis=1)
    narrow = wide.astype(np.float32)
    f0, *basis = (jnp.asarray(v, jnp.float32) for v in separate(*RATES))
    expected = np.linalg.lstsq(wide, Y, rcond=None)[0]
    by_svd = np.linalg.lstsq(narrow, Y.astype(np.float32), rcond=None)[0]
    error = np.abs(np.array(best(f0, basis).c) - expected).max()
    assert error < 20 * max(np.abs(by_svd - expected).max(), 1e-6)
