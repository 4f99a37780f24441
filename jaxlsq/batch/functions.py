"""What is fitted, as functions of one problem: models and general functions, masks and weights."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxlsq.numerics.jacobian import linearized
from jaxlsq.params import Layout

__all__ = [
    *("Band", "Counts", "FunJacobian", "FunResidual", "ModelJacobian", "ModelResidual", "Policy"),
    *("Predict", "Prediction", "all_points", "given_places", "scale_of"),
]


@dataclass(frozen=True)
class Predict:
    """The model as a function of ``(params, x)``; `expand` makes its parameters of ours."""

    model: object
    by_name: bool
    expand: object = None

    def __call__(self, params, x):
        if self.expand is not None:
            params = self.expand(params)
        values = self.model(x, **params) if self.by_name else self.model(x, *_scalars(params))
        values = jnp.asarray(values)
        if jnp.iscomplexobj(values):
            raise TypeError(
                f"model and jac must return real numbers, got dtype {values.dtype}. Fit real and "
                "imaginary parts as two halves of ydata."
            )
        return values


def _scalars(params):
    """A vector's elements, or a tuple as it is."""
    return params if isinstance(params, tuple) else tuple(params)


@dataclass(frozen=True)
class Policy:
    """Which points of a data set count.

    Two of them are equal where they do the same, so that it may be part of a program's key.
    """

    omit: bool
    masked: bool

    def live(self, lane, shared):
        """(m,) bool, or None for all."""
        y = lane["y"]
        live = _find("mask", lane, shared) if self.masked else None
        if live is not None:
            live = jnp.broadcast_to(live, y.shape)
        if not self.omit:
            return live
        present = ~jnp.isnan(y)
        return present if live is None else live & present

    def __call__(self, lane, shared, m):
        """`Task.check`: how many points count, and whether those are finite."""
        live, sigma = self.live(lane, shared), _find("sigma", lane, shared)
        good = jnp.isfinite(lane["y"])
        if sigma is not None:
            good = good & jnp.isfinite(sigma) & (sigma > 0)
        whitening = _find("whitening", lane, shared)
        if whitening is not None:
            good = good & jnp.all(jnp.isfinite(whitening))
        if live is None:
            return jnp.int32(m), jnp.all(good)
        return jnp.sum(live, dtype=jnp.int32), jnp.all(good | ~live)


def _find(key, lane, shared):
    return lane.get(key, shared.get(key))


@dataclass(frozen=True)
class ModelResidual:
    """``(model - y) / sigma`` where a point counts, else zero; for counts the model, else one."""

    predict: Predict
    policy: Policy
    x: object
    counts: bool = False

    def __call__(self, params, lane, shared):
        y = lane["y"]
        values = self.predict(params, self.x(lane, shared))
        if values.shape not in (y.shape, (), (1,)):
            raise ValueError(
                f"model(x, ...) must return one value per point, shape {y.shape}, got "
                f"{values.shape}. Do xdata and ydata have the same length?"
            )
        live = self.policy.live(lane, shared)
        if self.counts:
            values = jnp.broadcast_to(values, y.shape).astype(y.dtype)
            return values if live is None else jnp.where(live, values, jnp.ones((), y.dtype))
        if live is not None:
            y = jnp.where(live, y, jnp.zeros((), y.dtype))
        residual = _weighted(values - y, lane, shared, live)
        return residual.astype(y.dtype)

    def about_mean(self, task, lane, shared):
        """The weighted sum of squares of the data about their mean, or the deviance of counts."""
        y, live = lane["y"], self.policy.live(lane, shared)
        y = y if live is None else jnp.where(live, y, jnp.zeros((), y.dtype))
        ones = _weighted(jnp.ones_like(y), lane, shared, live)
        scaled = _weighted(y, lane, shared, live)
        mean = jnp.sum(ones * scaled) / jnp.sum(ones * ones)
        if not self.counts:
            return jnp.sum(jnp.square(scaled - mean * ones))
        means = mean * ones if live is None else jnp.where(live, mean, jnp.ones((), y.dtype))
        return jnp.sum(task.loss(means, task.extra(lane, shared))[2])


@dataclass(frozen=True)
class Counts:
    """Poisson's counts: y, and one where a point does not count."""

    policy: Policy

    def __call__(self, lane, shared):
        y, live = lane["y"], self.policy.live(lane, shared)
        return y if live is None else jnp.where(live, y, jnp.ones((), y.dtype))


def scale_of(lane, shared):
    """The scale of a robust loss."""
    return _find("f_scale", lane, shared)


def _weighted(rows, lane, shared, live):
    """Rows, one per point, over sigma, and zero where the point does not count."""
    column = (slice(None),) + (None,) * (rows.ndim - 1)
    whitening = _find("whitening", lane, shared)
    if whitening is not None:
        return jnp.matmul(whitening, rows, precision="highest")
    sigma = _find("sigma", lane, shared)
    if sigma is not None:
        rows = rows / sigma[column]
    return rows if live is None else jnp.where(live[column], rows, jnp.zeros((), rows.dtype))


@dataclass(frozen=True)
class ModelJacobian:
    """The user's Jacobian of the model, weighted as the residual is."""

    jac: object
    by_name: bool
    policy: Policy
    x: object

    def __call__(self, params, lane, shared):
        rows = Predict(self.jac, self.by_name)(params, self.x(lane, shared))
        expected = (*lane["y"].shape, len(jax.tree.leaves(params)))
        if rows.shape != expected:
            raise ValueError(f"jac must return shape {expected}, got {rows.shape}.")
        live = self.policy.live(lane, shared)
        return _weighted(rows, lane, shared, live).astype(lane["y"].dtype)


@dataclass(frozen=True)
class FunResidual:
    """A general residual on one problem's data."""

    fun: object
    join: object

    def __call__(self, params, lane, shared):
        f = jnp.asarray(self.fun(params, self.join(lane, shared)))
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

    jac: object
    join: object

    def __call__(self, params, lane, shared):
        return jnp.asarray(self.jac(params, self.join(lane, shared)))


def all_points(lane, shared, m):
    return jnp.int32(m), jnp.bool_(True)


# --- the model elsewhere ------------------------------------------------------------


def given_places(lane, shared):
    """Places that are not the data's own."""
    return shared["at"]


@dataclass(frozen=True)
class Prediction:
    """The model at the parameters x."""

    model: object
    layout: Layout
    places: object

    def __call__(self, x, lane, shared):
        return self.model(self.layout.from_vector(x), self.places(lane, shared))


@dataclass(frozen=True)
class Band(Prediction):
    """Its standard error by the delta method, of parameters that their covariance follows."""

    def __call__(self, both, lane, shared):
        n = self.layout.n
        x, cov = both[:n], both[n:].reshape(n, n)

        def values(*xs):
            return self.model(self.layout.from_scalars(xs), self.places(lane, shared))

        _, rows = linearized(values, "jacfwd", 0.0)(tuple(x))
        rows = jnp.stack([jnp.ravel(row) for row in rows])
        known = jnp.all(jnp.isfinite(cov))
        variance = jnp.sum(rows * (jnp.where(known, cov, 0.0) @ rows), axis=0)
        return jnp.where(known, jnp.sqrt(jnp.maximum(variance, 0.0)), jnp.inf)
