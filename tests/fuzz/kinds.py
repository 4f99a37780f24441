"""Five ways to ask the same question twice."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.optimize

from jaxlsq import curve_fit, fit, least_squares_batch, leastsq, using
from jaxlsq.status import SUCCESS, Status
from tests.fuzz.causes import Ends, causes
from tests.fuzz.checks import Question, compiled
from tests.fuzz.curves import CURVES, SIMPLE
from tests.fuzz.draw import Lanes, boxes, draw

__all__ = ["KINDS"]

POINTS = (8, 12, 25, 60)
LOSSES = ("linear", "linear", "linear", "soft_l1", "huber", "cauchy", "arctan")
EPS32, TOL32 = 2.0**-23, 1e-5


def _lanes(rng, size, curves=CURVES, bounded=None, losses=("linear",)):
    curve = curves[rng.integers(len(curves))]
    m = max(int(rng.choice(POINTS)), curve.n + int(rng.integers(0, 3)))
    m += m == size  # else sigma could be a covariance
    lanes = draw(curve, rng, size, m, str(rng.choice(losses)))
    bounded = rng.random() < 0.4 if bounded is None else bounded
    return boxes(lanes, rng) if bounded else lanes


def _fit(lanes: Lanes, dtype: Any = float, model: Callable[..., Any] | None = None, **options):
    """All lanes by `fit`."""
    if lanes.bounded:
        options["bounds"] = (lanes.lower, lanes.upper)
    return fit(
        model or lanes.curve.traced,
        lanes.x.astype(dtype),
        lanes.y.astype(dtype),
        lanes.p0,
        sigma=(1.0 / lanes.weight).astype(dtype),
        absolute_sigma=True,
        mask=lanes.live,
        loss=lanes.loss,
        **options,
    )


def _ends(result) -> Ends:
    ends = result.x, result.success, result.status, result.nfev, result.cost
    return Ends(*ends, lambda: result.suspect)


def _gathered(rows) -> Ends:
    """`Ends` of tuples (x, status, nfev)."""
    x, status, nfev = (np.array(column) for column in zip(*rows, strict=True))
    return Ends(x, np.isin(status, [*SUCCESS]), status, nfev)


# --- leastsq and curve_fit beside SciPy's ------------------------------------------------


def with_scipy(rng: np.random.Generator, size: int) -> tuple[Lanes, list[str]]:
    """`leastsq` or `curve_fit`, in JAX or in Python, beside SciPy's function of the name."""
    in_python = rng.random() < 0.6
    lanes = _lanes(rng, size, SIMPLE if in_python else CURVES, bounded=False)
    door = _leastsq if rng.random() < 0.7 else _curve_fit
    question, pairs = Question(lanes), []
    derivatives = bool(rng.random() < 0.5)
    for i in range(size):
        pairs.append(door(question, i, in_python, derivatives, _options(rng, lanes.curve.n)))
    ours, theirs = (_gathered(rows) for rows in zip(*pairs, strict=True))
    return lanes, causes(question, ours, theirs, _by_minpack)


def _by_minpack(lanes):
    """Fits by SciPy's `leastsq` with its own tolerances."""
    question, rows = Question(lanes), []
    for i in range(len(lanes)):
        fun, jac = question.one(i)
        rows.append(_called(scipy.optimize.leastsq, fun, lanes.p0[i], {"Dfun": jac}))
    return _gathered(rows)


def _options(rng, n):
    """Of `leastsq`; most lanes have the defaults."""
    options = {}
    if rng.random() < 0.1:
        options["maxfev"] = int(rng.choice([1, 2, 5, 20, 1000]))
    if rng.random() < 0.1:
        options[str(rng.choice(["ftol", "xtol"]))] = float(rng.choice([0.0, 1e-12, 1e-5]))
    if rng.random() < 0.05:
        options["gtol"] = float(rng.choice([1e-10, 1e-5]))
    if rng.random() < 0.1:
        options["factor"] = float(rng.choice([0.1, 1.0, 10.0]))
    if rng.random() < 0.05:
        options["diag"] = 10.0 ** rng.integers(-2, 3, n)
    return options


def _leastsq(question, i, in_python, derivatives, options):
    lanes, start = question.lanes, question.lanes.p0[i]
    fun, jac = question.one(i)
    ours, x, y, w = fun, lanes.x, lanes.y[i], lanes.weights[i]
    if in_python:
        fun = ours = _opaque(lanes, i)
        jac = jac if derivatives else None
        how = {"Dfun": jac}
    else:
        curve = lanes.curve.traced

        def residual(p, x, y, w):
            return w * (curve(x, *p) - y)

        ours, how = residual, {}
        y = np.where(lanes.live[i], y, 0.0)
        how["args"] = (x, y, w)
    return (
        _called(leastsq, ours, start, options | how),
        _called(scipy.optimize.leastsq, fun, start, options | {"Dfun": jac}),
    )


def _opaque(lanes, i):
    """A residual that JAX can't trace, in NumPy."""
    x, w = lanes.x, lanes.weights[i]
    y = np.where(lanes.live[i], lanes.y[i], 0.0)
    function = lanes.curve.in_numpy

    def residual(p):
        with np.errstate(all="ignore"):
            values = np.asarray(function(x, *p), np.float64)
            return w * (values - y)

    return residual


def _called(function, residual, start, options):
    """(x, status, nfev) of one call; what raises is improper input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            x, _, info, _, status = function(residual, start.copy(), full_output=True, **options)
        except (TypeError, ValueError):
            return start, int(Status.IMPROPER_INPUT), 0
    return x, status, info["nfev"]


def _curve_fit(question, i, in_python, derivatives, options):
    lanes, start = question.lanes, question.lanes.p0[i]
    live, x = lanes.live[i], lanes.x
    y = np.where(live, lanes.y[i], 0.0)
    sigma = np.where(live, 1.0 / lanes.weight[i], np.inf)
    traced = lanes.curve.traced
    options = {k: v for k, v in options.items() if k != "maxfev"} | {"sigma": sigma}
    found = []
    for door in (curve_fit, scipy.optimize.curve_fit):
        function, how = lanes.curve.in_numpy if in_python else traced, {}
        if door is not curve_fit and not in_python:
            function, how["jac"] = _on_the_host(lanes.curve)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                p, _, info, _, status = door(
                    function, x, y, start, full_output=True, **options, **how
                )
                found.append((p, status, info["nfev"]))
            except (TypeError, ValueError):
                found.append((start, int(Status.IMPROPER_INPUT), 0))
            except RuntimeError:
                found.append((start, int(Status.MAX_NFEV), 0))
    return tuple(found)


def _on_the_host(curve):
    """A function of JAX and its Jacobian as NumPy's, in float64."""
    value, slope = compiled(curve)[1]

    def called(function):
        def on_the_host(x, *p):
            with jax.enable_x64(True):
                return np.asarray(function(x, np.array(p, float)))

        return on_the_host

    return called(value), called(slope)


# --- many beside one ---------------------------------------------------------------------


def with_alone(rng: np.random.Generator, size: int) -> tuple[Lanes, list[str]]:
    """A batch beside each of its fits alone: `fit` and `least_squares_batch`."""
    lanes = _lanes(rng, size, losses=LOSSES)
    question = Question(lanes)
    by_residual = rng.random() < 0.4 and lanes.loss == "linear"
    together = _residuals(lanes) if by_residual else _fit(lanes)
    rows = []
    for i in range(size):
        one = lanes.take(np.array([i]))
        result = _fit(one) if not by_residual else _residuals(one)
        rows.append((result.x[0], result.status[0], result.nfev[0]))
    return lanes, causes(question, _ends(together), _gathered(rows), _in_xla)


def _residuals(lanes):
    """All lanes by `least_squares_batch`."""
    curve = lanes.curve.traced

    def residual(p, data):
        x, y, w = data["x"], data["y"], data["w"]
        return w * (curve(x, *p) - y)

    x = np.broadcast_to(lanes.x, lanes.y.shape)
    y = np.where(lanes.live, lanes.y, 0.0)
    bounds = (lanes.lower, lanes.upper) if lanes.bounded else None
    data = {"x": x, "y": y, "w": lanes.weights}
    return least_squares_batch(residual, lanes.p0, data, bounds=bounds)


# --- bounds ------------------------------------------------------------------------------


def with_bounded(rng: np.random.Generator, size: int) -> tuple[Lanes, list[str]]:
    """Fits in boxes beside the better of SciPy's trf and dogbox."""
    lanes = _lanes(rng, size, bounded=True, losses=LOSSES)
    question = Question(lanes)
    limit = int(rng.choice([0, 0, 0, 8]))
    result = _fit(lanes, **({"max_nfev": limit} if limit else {}))
    theirs = _by_trf_or_dogbox(lanes)
    return lanes, causes(question, _ends(result), theirs, _by_trf_or_dogbox)


def _by_trf_or_dogbox(lanes):
    question, rows = Question(lanes), []
    for i in range(len(lanes)):
        found = [question.trf(i, lanes.p0[i], method) for method in ("trf", "dogbox")]
        found = [one for one in found if one is not None and np.isfinite(one.cost)]
        if not found:
            rows.append((lanes.p0[i], int(Status.IMPROPER_INPUT), 0))
            continue
        best = min(found, key=lambda one: one.cost)
        status = {0: Status.MAX_NFEV, 1: Status.GTOL, 2: Status.FTOL, 3: Status.XTOL}
        rows.append((best.x, int(status.get(best.status, Status.FTOL_AND_XTOL)), best.nfev))
    return _gathered(rows)


# --- types and engines -------------------------------------------------------------------


def with_float64(rng: np.random.Generator, size: int) -> tuple[Lanes, list[str]]:
    """float32 beside float64, of the same data."""
    lanes = _lanes(rng, size, losses=LOSSES).rounded()
    lanes = _inside(lanes)
    narrow, wide = _fit(lanes, np.float32), _fit(lanes)

    def again(lanes):
        return _ends(_fit(lanes, ftol=TOL32, xtol=TOL32))

    return lanes, causes(Question(lanes), _ends(narrow), _ends(wide), again, EPS32)


def _inside(lanes):
    """With starts inside of bounds in float32 too."""
    lower, upper = (side.astype(np.float32).astype(float) for side in (lanes.lower, lanes.upper))
    own = {name: getattr(lanes, name) for name in vars(lanes)}
    own |= {"lower": lower, "upper": upper, "p0": np.clip(lanes.p0, lower, upper)}
    return Lanes(**own)


def with_xla(rng: np.random.Generator, size: int) -> tuple[Lanes, list[str]]:
    """Compiled lanes beside the XLA pool."""
    lanes = _lanes(rng, size, losses=LOSSES)
    options = {"max_nfev": 12} if rng.random() < 0.2 else {}
    result = _fit(lanes, **options)
    with using("xla"):
        other = _fit(lanes, **options)
    return lanes, causes(Question(lanes), _ends(result), _ends(other), _in_xla)


def _in_xla(lanes):
    with using("xla"):
        return _ends(_fit(lanes))


# Name: function, part of all cases, studies at 100,000 cases.
KINDS = {
    "SciPy": (with_scipy, 0.06, 14),
    "one alone": (with_alone, 0.04, 8),
    "trf, dogbox": (with_bounded, 0.015, 12),
    "float64": (with_float64, 0.50, 24),
    "XLA": (with_xla, 0.385, 8),
}
