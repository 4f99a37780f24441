"""A prefix in front of a model that is made of models: its parts, ties and guess have it too."""

import numpy as np
import pytest

from jaxlsq import fit
from jaxlsq.models import Constant, Exponential, Gaussian, Linear, Model

X = np.linspace(-3.0, 7.0, 61)
PEAK = Gaussian("a_") + Constant()
PAIR = (Gaussian("a_") + Gaussian("b_")).tied(
    b_sigma="a_sigma", b_center=lambda p: p["a_center"] + 4.0
)
VALUES = {"a_amplitude": 2.0, "a_center": 1.0, "a_sigma": 0.5}


def test_a_sum():
    long = PEAK.prefixed("q_")
    values = {f"q_{name}": value for name, value in (VALUES | {"c": 0.3}).items()}
    y = long(X, **values)
    np.testing.assert_array_equal(y, PEAK(X, **VALUES, c=0.3))
    parts = long.components(X, **values)
    np.testing.assert_array_equal(parts["q_a_"], Gaussian()(X, 2.0, 1.0, 0.5))
    np.testing.assert_array_equal(parts["q_"], np.full(X.size, 0.3))
    assert long == PEAK.prefixed("q_") != PEAK
    assert hash(long) == hash(PEAK.prefixed("q_"))


@pytest.mark.long
def test_a_sum_guesses_what_it_guesses_without_a_prefix():
    y = PEAK(X, **VALUES, c=0.3)
    expected = {f"q_{k}": v for k, v in PEAK.guess(X, y).items()}
    assert PEAK.prefixed("q_").guess(X, y) == expected


def test_a_sum_of_sums_guesses_its_start():
    y = PEAK(X, **VALUES, c=0.3) + 0.1 * X
    model = PEAK.prefixed("q_") + Linear().tied(intercept=lambda p: 0.0 * p["slope"])
    result = fit(model, X, y)
    assert result.success
    found = [result.params[name] for name in ("q_a_amplitude", "q_a_center", "q_c", "slope")]
    np.testing.assert_allclose(found, [2.0, 1.0, 0.3, 0.1], rtol=1e-6)
    parts = result.components(X)
    np.testing.assert_allclose(parts["q_a_"], Gaussian()(X, 2.0, 1.0, 0.5), atol=1e-6)


def test_ties():
    long = PAIR.prefixed("w_")
    assert long.names == tuple(f"w_{name}" for name in PAIR.names)
    values = {f"w_{name}": value for name, value in (VALUES | {"b_amplitude": 1.0}).items()}
    np.testing.assert_array_equal(long(X, **values), PAIR(X, **VALUES, b_amplitude=1.0))
    parts = long.components(X, **values)
    np.testing.assert_array_equal(parts["w_b_"], Gaussian()(X, 1.0, 5.0, 0.5))
    again = long.prefixed("v_") + Constant()
    values = {f"v_{name}": value for name, value in values.items()}
    parts = again.components(X, **values, c=1.0)
    np.testing.assert_array_equal(parts["v_w_b_"], Gaussian()(X, 1.0, 5.0, 0.5))
    for key, value in PAIR.derived(VALUES | {"b_amplitude": 1.0}).items():
        assert again.derived(values | {"c": 1.0})[f"v_w_{key}"] == value


def test_a_tie_that_reads_no_parameter_says_so():
    wrong = (Gaussian("a_") + Constant()).tied(c=lambda p: p["b"]).prefixed("q_")
    with pytest.raises(KeyError, match="a tie reads 'b'"):
        wrong(X, **{f"q_{name}": value for name, value in VALUES.items()})


def test_products_and_responses():
    for model in (
        Gaussian() * Model(lambda x, k=0.1: 1.0 + k * x),
        (Exponential() + Constant()).convolved([1.0, 2.0, 1.0]),
    ):
        values = dict.fromkeys(model.names, 1.2)
        long = {f"p_{name}": value for name, value in values.items()}
        np.testing.assert_array_equal(model.prefixed("p_")(X, **long), model(X, **values))
        parts = model.prefixed("p_").components(X, **long)
        np.testing.assert_allclose(sum(parts.values()), model(X, **values), rtol=1e-12)
