"""What is fitted, as functions of one problem: models and general functions, masks and weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.jacobian import linearized
from jaxlsq.numerics.norm import norm2
from jaxlsq.problem.host_models import HostModel
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.task import Seen
from jaxlsq.problem.types import Parts, PyTree
from jaxlsq.tracing.numpy_arrays import as_numpy_would

__all__ = [
    "Band",
    "Counts",
    "FunJacobian",
    "FunResidual",
    "ModelJacobian",
    "ModelResidual",
    "Policy",
    "Predict",
    "Prediction",
    "all_points",
    "check_shape",
    "given_places",
    "scale_of",
]


@dataclass(frozen=True)
class Predict:
    """The model as a function of ``(params, x)``; `expand` makes its parameters of ours."""

    model: Callable[..., Any]
    by_name: bool
    expand: Callable[..., Any] | None = None

    def __call__(self, params: PyTree, x: PyTree) -> jax.Array:
        if self.expand is not None:
            params = self.expand(params)
        several, named = ((), params) if self.by_name else (_scalars(params), {})
        values = as_numpy_would(self.model, x, *several, **named)
        if values is None:
            raise TypeError("model returned None; expected an array. Is a return missing?")
        values = jnp.asarray(values)
        if jnp.iscomplexobj(values):
            raise TypeError(
                f"model and jac must return real numbers, got dtype {values.dtype}. Fit real and "
                "imaginary parts as two halves of ydata."
            )
        return values

    @property
    def differentiable(self) -> bool:
        """Whether JAX has its derivatives."""
        return not isinstance(self.model, HostModel)


def _scalars(params):
    """A vector's elements, or a tuple as it is."""
    return params if isinstance(params, tuple) else tuple(params)


@dataclass(frozen=True)
class Policy:
    """Which points of a data set count.

    Two of them are equal where they do the same, so that it may be part of a program's key.

    Attributes
    ----------
    omit : bool
        Whether NaN in x, y, sigma or xsigma leaves a point out.
    masked : bool
        Whether there may be masks: entries of the data that are called ``mask...``.
    """

    omit: bool
    masked: bool

    @property
    def some(self) -> bool:
        """Whether there may be points that do not count."""
        return self.omit or self.masked

    def live(self, lane: Parts, shared: Parts) -> jax.Array | None:
        """(m,) bool, or None for all."""
        return self._live(lane, shared, jnp, 0)

    def live_of(self, lanes: Parts, shared: Parts, xp: ModuleType) -> Any:
        """(D, m) bool of data sets, which are in front, or None for all."""
        return self._live(lanes, shared, xp, 1)

    def _live(self, lanes, shared, xp, front):
        """`live` of lanes with `front` axes before their own."""
        if not self.some:
            return None
        y, sigma = lanes["y"], _find("sigma", lanes, shared)
        parts = _of_points("mask", lanes, shared, xp, front)
        if self.omit:
            parts += [~xp.isnan(y), *_of_points("known", lanes, shared, xp, front)]
            parts += [] if sigma is None else [~xp.isnan(sigma)]
            parts += _of_points("xsigma", lanes, shared, xp, front, lambda v: ~xp.isnan(v))
        if not parts:
            return None
        return xp.broadcast_to(reduce(xp.logical_and, parts), y.shape)

    def __call__(self, lanes: Parts, shared: Parts, m: int, xp: ModuleType) -> tuple[Seen, Any]:
        """`Task.check`: how many points count, and whether those are finite.

        A sigma may be infinite, which is no weight.
        """
        live, sigma = self.live_of(lanes, shared, xp), _find("sigma", lanes, shared)
        y, whitening = lanes["y"], _find("whitening", lanes, shared)
        count = np.int32(m) if live is None else xp.sum(live, axis=-1, dtype=np.int32)
        seen = Seen(xp.broadcast_to(count, y.shape[:1]), _size(lanes, shared, live, xp))
        if self.some:
            known = _of_points("known", lanes, shared, xp, 1)
        else:
            known = _known_x(lanes, shared, xp)
        known += _of_points("xsigma", lanes, shared, xp, 1, lambda v: (v >= 0) & xp.isfinite(v))
        if sigma is not None:
            known = [*known, sigma > 0]
        if live is None and not known and whitening is None:
            return seen, _all_finite(y, seen.size, xp)
        good = reduce(xp.logical_and, known, xp.isfinite(y))
        if whitening is not None:
            good = good & xp.all(xp.isfinite(whitening), axis=(-2, -1))[..., None]
        good = good if live is None else good | ~live
        return seen, xp.all(xp.broadcast_to(good, y.shape), axis=-1)

    def filled(self, lane: Parts, shared: Parts) -> jax.Array:
        """y with the last value before each point that does not count in its place."""
        y, live = lane["y"], self.live(lane, shared)
        if live is None:
            return y
        places = jnp.where(live, jnp.arange(y.size), -1)
        last = lax.cummax(places)
        return y[jnp.where(last < 0, jnp.argmax(live), last)]


def _size(lanes, shared, live, xp):
    """Norms of the data over sigma."""
    y = lanes["y"]
    y = y if live is None else xp.where(live, y, xp.zeros((), y.dtype))
    weighted = _weighted(y, lanes, shared, live, xp)
    if xp is jnp:
        return norm2(weighted)
    # One pass over the data does, where no square leaves the range.
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij->i", weighted, weighted)
        size = np.sqrt(squares)
        doubtful = ~((squares > np.finfo(y.dtype).tiny * 1e6) & (squares < np.inf))
        if doubtful.any():
            size[doubtful] = norm2(weighted[doubtful], xp=np)
    return size


def _all_finite(y, size, xp):
    """Which data sets are finite, of those without weights: then and only then their norms are."""
    if xp is jnp:
        return xp.all(xp.isfinite(y), axis=-1)
    finite = np.isfinite(size)
    some = np.flatnonzero(~finite)  # a norm may overflow
    finite[some] = np.isfinite(y[some]).all(axis=-1)
    return finite


def _find(key, lane, shared):
    return lane.get(key, shared.get(key))


def _of_points(kind, lanes, shared, xp, front, good=lambda values: values):
    """(..., m) bool from each entry of a kind, over all variables of a point."""
    entries = {**shared, **lanes}
    names = sorted(name for name in entries if name.split(".")[0] == kind)
    fronts = [front if name in lanes else 0 for name in names]
    return [
        _over_variables(good(entries[name]), k, xp) for name, k in zip(names, fronts, strict=True)
    ]


def _over_variables(good, front, xp):
    """Of a point: whether all of its variables are good."""
    return xp.all(good, axis=tuple(range(front, good.ndim - 1)))


def _known_x(lanes, shared, xp):
    """Where the points of x are not NaN, as `_of_points`; nothing of what has none in NumPy."""
    m, out = lanes["y"].shape[-1], []
    for name, v in sorted({**shared, **lanes}.items()):
        front = 1 if name in lanes else 0
        if name.startswith("xdata.") and v.ndim > front and v.shape[-1] == m:
            known = _over_variables(~xp.isnan(v), front, xp)
            if xp is jnp or not known.all():
                out.append(known)
    return out


@dataclass(frozen=True)
class ModelResidual:
    """``(model - y) / sigma`` where a point counts, else zero; for counts the model, else one."""

    predict: Predict
    policy: Policy
    x: Callable[..., Any]
    counts: bool = False

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        y = lane["y"]
        x = self.x(lane, shared)
        values = self.predict(params, x)
        check_shape(values.shape, y.shape, x)
        live = self.policy.live(lane, shared)
        if self.counts:
            values = jnp.broadcast_to(values, y.shape).astype(y.dtype)
            return values if live is None else jnp.where(live, values, jnp.ones((), y.dtype))
        if live is not None:
            y = jnp.where(live, y, jnp.zeros((), y.dtype))
        residual = _weighted(values - y, lane, shared, live)
        return residual.astype(y.dtype)

    def weighted(self, rows: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
        """Rows, one per point, over sigma, and zero where the point does not count."""
        return _weighted(rows, lane, shared, self.policy.live(lane, shared))

    def about_mean(self, task: Any, lane: Parts, shared: Parts) -> jax.Array:
        """The weighted sum of squares of the data about their mean, or the deviance of counts."""
        y, live = lane["y"], self.policy.live(lane, shared)
        y = y if live is None else jnp.where(live, y, jnp.zeros((), y.dtype))
        ones = _weighted(jnp.ones_like(y), lane, shared, live)
        scaled = _weighted(y, lane, shared, live)
        mean = jnp.sum(ones * scaled) / jnp.sum(ones * ones)
        if not self.counts:
            return jnp.sum(jnp.square(scaled - mean * ones))
        means = mean * ones if live is None else jnp.where(live, mean, jnp.ones((), y.dtype))
        return jnp.sum(task.loss(means, task.extra(lane, shared)).value)


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...], x: PyTree) -> None:
    """Raise ValueError unless a model gave a value per point, or one for all where x has no more.

    Parameters
    ----------
    shape, expected : tuple of int
    x : pytree of arrays
        What the model was given.
    """
    shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(x)]
    if shape == expected or (shape == () and (expected == (1,) or max(map(len, shapes)) <= 1)):
        return
    of_x = shapes[0] if len(shapes) == 1 else shapes
    raise ValueError(
        f"model(x, ...) must return one value per point, shape {expected}, got {shape} for x of "
        f"shape {of_x}. Do xdata and ydata have the same length? The points are ydata's last "
        "axis, all of them: pass ydata.T if they are its first, images as ydata.reshape(n, -1)."
    )


@dataclass(frozen=True)
class Counts:
    """Poisson's counts: y, and one where a point does not count."""

    policy: Policy

    def __call__(self, lane: Parts, shared: Parts) -> jax.Array:
        y, live = lane["y"], self.policy.live(lane, shared)
        return y if live is None else jnp.where(live, y, jnp.ones((), y.dtype))


def scale_of(lane: Parts, shared: Parts) -> Any:
    """The scale of a robust loss."""
    return _find("f_scale", lane, shared)


def _weighted(rows, lane, shared, live, xp=jnp):
    """Rows, one per point, over sigma, and zero where the point does not count."""
    column = (..., None) if rows.ndim > lane["y"].ndim else ...
    whitening = _find("whitening", lane, shared)
    if whitening is not None:
        return _whitened(whitening, rows, lane["y"].ndim, xp)
    sigma = _find("sigma", lane, shared)
    if sigma is not None:
        if live is not None:  # derivatives of what does not count are finite too
            sigma = xp.where(live, sigma, xp.ones((), sigma.dtype))
        rows = rows / sigma[column]
    return rows if live is None else xp.where(live[column], rows, xp.zeros((), rows.dtype))


def _whitened(whitening, rows, ndim, xp):
    """Rows of data sets times their matrices."""
    if xp is jnp and ndim == 1:
        return jnp.matmul(whitening, rows, precision="highest")
    with np.errstate(all="ignore"):
        return xp.matmul(whitening, rows[..., None])[..., 0]


@dataclass(frozen=True)
class ModelJacobian:
    """The user's Jacobian of the model, weighted as the residual is."""

    jac: Callable[..., Any]
    by_name: bool
    policy: Policy
    x: Callable[..., Any]

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        rows = Predict(self.jac, self.by_name)(params, self.x(lane, shared))
        expected = (*lane["y"].shape, len(jax.tree.leaves(params)))
        if rows.shape != expected:
            raise ValueError(f"jac must return shape {expected}, got {rows.shape}.")
        live = self.policy.live(lane, shared)
        return _weighted(rows, lane, shared, live).astype(lane["y"].dtype)


@dataclass(frozen=True)
class FunResidual:
    """A general residual on one problem's data."""

    fun: Callable[..., Any]
    join: Callable[..., Any]

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        f = as_numpy_would(self.fun, params, self.join(lane, shared))
        if f is None:
            raise TypeError("fun returned None; expected an array. Is a return missing?")
        f = jnp.asarray(f)
        if f.ndim != 1:
            raise ValueError(
                f"fun must return a 1-D array of residuals, got shape {f.shape}. Flatten it with "
                ".ravel()."
            )
        if jnp.iscomplexobj(f):
            raise TypeError(
                f"fun must return real numbers, got dtype {f.dtype}. Return real and imaginary "
                "parts, one after the other."
            )
        return f.astype(jnp.result_type(*jax.tree.leaves(params)))


@dataclass(frozen=True)
class FunJacobian:
    """A general Jacobian on one problem's data."""

    jac: Callable[..., Any]
    join: Callable[..., Any]

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        return jnp.asarray(as_numpy_would(self.jac, params, self.join(lane, shared)))


def all_points(lanes: Parts, shared: Parts, m: int, xp: ModuleType) -> tuple[Seen, Any]:
    """`Task.check` of a general residual, of whose data nothing is known."""
    arrays = jax.tree.leaves(lanes)
    count = arrays[0].shape[:1] if arrays else (1,)
    seen = Seen(xp.full(count, m, np.int32), xp.zeros(count, jnp.zeros(()).dtype))
    return seen, xp.ones(count, bool)


# --- the model elsewhere ------------------------------------------------------------


def given_places(lane: Parts, shared: Parts) -> PyTree:
    """Places that are not the data's own."""
    return shared["at"]


@dataclass(frozen=True)
class Prediction:
    """The model at the parameters x."""

    model: Callable[..., Any]
    layout: Layout
    places: Callable[..., Any]

    def __call__(self, x: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
        return self.model(self.layout.from_vector(x), self.places(lane, shared))


@dataclass(frozen=True)
class Band(Prediction):
    """Its standard error by the delta method, of parameters that their covariance follows."""

    def __call__(self, both: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
        n = self.layout.n
        x, cov = both[:n], both[n:].reshape(n, n)

        def values(*xs):
            return self.model(self.layout.from_scalars(xs), self.places(lane, shared))

        exact = getattr(self.model, "differentiable", True)
        _, rows = linearized(values, "jacfwd" if exact else "2-point", 0.0)(tuple(x))
        rows = jnp.stack([jnp.ravel(row) for row in rows])
        known = jnp.all(jnp.isfinite(cov))
        variance = jnp.sum(rows * (jnp.where(known, cov, 0.0) @ rows), axis=0)
        return jnp.where(known, jnp.sqrt(jnp.maximum(variance, 0.0)), jnp.inf)
