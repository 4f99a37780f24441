"""One clear line for each mistake: it names the argument, and says what to do."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlsq import Status, curve_fit, fit, least_squares_batch, leastsq
from jaxlsq.status import describe

T = np.linspace(0.1, 4.0, 30)
Y = np.stack([2.5 * np.exp(-1.3 * T)] * 4)


def decay(t, a, k, c):
    return a * jnp.exp(-k * t) + c


def two(t, a, k):
    return a * jnp.exp(-k * t)


def says(error, match, call):
    with pytest.raises(error, match=match) as raised:
        call()
    text = str(raised.value)
    assert len(text) < 400
    assert text.count("\n") <= 2


def branching(t, a, k):
    return two(t, a, k) if a > 0 else two(t, -a, k)


CASES = {
    "too few": (TypeError, "p0 has 2 values, the model takes 3: a, k, c", decay, {}),
    "too many": (TypeError, "p0 has 2 values, the model takes 1: p", lambda t, p: p * t, {}),
    "a name": (
        TypeError,
        r"p0 names \['rate'\].*lacks \['k'\].*\['a', 'k'\]",
        two,
        {"p0": {"a": 1.0, "rate": 1.0}},
    ),
    "none": (TypeError, "model returned None.*return missing", lambda t, a, k: None, {}),
    "numpy": (
        TypeError,
        r"jax\.numpy instead.*curve_fit",
        lambda t, a, k: np.array([a, k]) @ np.stack([t, t]),
        {"jac": "jacrev"},
    ),
    "if": (TypeError, r"`if`.*numpy\.where", branching, {"jac": "jacrev"}),
    "boolean index": (
        TypeError,
        r"x\[x > 1\].*mask=",
        lambda t, a, k: a * t[t > 1],
        {"jac": "jacrev"},
    ),
    "boolean index, on the host": (
        TypeError,
        r"one value per point, shape \(30,\), got \(23,\)",
        lambda t, a, k: a * t[t > 1],
        {},
    ),
    "if in a guess": (
        TypeError,
        r"p0, as a function, must .*`if`.*numpy\.where",
        two,
        {"p0": lambda t, y: (1.0, 1.0) if y[0] > 0 else (2.0, 1.0)},
    ),
    "p0 None": (TypeError, "p0 is None", two, {"p0": None}),
    "p0 transposed": (ValueError, r"p0\.T", two, {"p0": np.ones((2, 4))}),
    "y transposed": (ValueError, r"ydata\.T", two, {"ydata": Y.T}),
    "images": (ValueError, r"ydata\.reshape\(n, -1\)", two, {"ydata": np.ones((4, 5, 6))}),
    "outside": (ValueError, "`p0` is infeasible: 'k' starts at 1", two, {"bounds": (0, [9, 0.5])}),
    "swapped": (ValueError, "those of 'a' are 1.0 and 0.0", two, {"bounds": ([1.0, 0], [0.0, 9])}),
    "all fixed": (ValueError, "data set 2 are fixed", two, {"fixed": np.eye(4)[:, [2, 2]] > 0}),
}


@pytest.mark.parametrize("case", CASES)
def test_fit(case):
    error, match, model, options = CASES[case]
    given = {"ydata": Y, "p0": [1.0, 1.0]} | options
    says(error, match, lambda: fit(model, T, **given))


def test_the_line_of_the_model_is_named():
    with pytest.raises(TypeError, match=r"in line \d+, `return two\(t, a, k\) if a > 0"):
        fit(branching, T, Y, [1.0, 1.0], jac="jacrev")


def test_a_general_residual_without_return():
    says(
        TypeError,
        "fun returned None",
        lambda: least_squares_batch(lambda p, d: None, [1.0], Y),
    )


CURVES = {
    "too few": (TypeError, "p0 has 2 values, the model takes 3: a, k, c", {"f": decay}),
    "complex": (TypeError, "ydata must be real.*two halves", {"ydata": Y[0] + 1j}),
    "loss": (TypeError, "takes loss= with method='trf'", {"loss": "soft_l1"}),
    "max_nfev": (TypeError, "takes max_nfev= with method='trf'", {"max_nfev": 50}),
    "atol": (TypeError, "unexpected keyword argument 'atol'.*ftol", {"atol": 1e-8}),
    "atol, bounds": (TypeError, "'atol'.*ftol", {"atol": 1e-8, "bounds": (0, 9)}),
    "Dfun": (TypeError, "'Dfun': the Jacobian is jac", {"Dfun": "2-point"}),
    "outside": (ValueError, "`p0` is infeasible: 'k' starts at 1", {"bounds": (0, [9, 0.5])}),
    "masked": (ValueError, "p0 has 1 masked", {"p0": np.ma.array([1.0, 1.0], mask=[0, 1])}),
}


@pytest.mark.parametrize("case", CURVES)
def test_curve_fit(case):
    error, match, options = CURVES[case]
    given = {"f": two, "xdata": T, "ydata": Y[0], "p0": [1.0, 1.0]} | options
    says(error, match, lambda: curve_fit(**given))


def test_leastsq():
    def residual(p):
        return two(T, *p) - Y[0]

    for name, match in (("atol", "ftol"), ("jac", "Dfun"), ("max_nfev", "maxfev")):
        says(
            TypeError,
            f"{name!r}.*{match}",
            lambda name=name: leastsq(residual, [1, 1], **{name: 1}),
        )


def test_each_door_has_its_own_words():
    jacobian = describe(Status.NONFINITE_JACOBIAN)
    for word in ("jac='2-point'", "exponential", "float32"):
        assert word in jacobian
    assert "max_nfev" in describe(Status.MAX_NFEV)

    def lone(x, p):  # nothing but its start is finite, not even for differences
        return jnp.where(p == 1.0, 1.0, jnp.nan) * p * x

    message = leastsq(lambda p: lone(T, p[0]) - 2.0, [1.0], Dfun="2-point", full_output=True)[3]
    assert "Dfun='2-point'" in message
    with pytest.raises(RuntimeError, match=r"jac='2-point'") as error:
        curve_fit(lone, T, Y[0], [1.0], jac="2-point")
    assert "Dfun" not in str(error.value)
    result = fit(lone, T, Y, [1.0], jac="2-point")
    assert "jac='2-point'" in result.message(0)
