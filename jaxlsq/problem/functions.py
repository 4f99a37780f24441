"""A model and its Jacobian as functions of one data set, and its values at other places."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxlsq.numerics.jacobian import linearized
from jaxlsq.problem.host_models import HostModel
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.policy import Policy, find, weighted
from jaxlsq.problem.types import Parts, PyTree
from jaxlsq.tracing.numpy_arrays import as_numpy_would

__all__ = [
    "Band",
    "Counts",
    "ModelJacobian",
    "ModelResidual",
    "Predict",
    "Prediction",
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
        residual = weighted(values - y, lane, shared, live)
        return residual.astype(y.dtype)

    def weighted(self, rows: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
        """Rows, one per point, over sigma, and zero where the point does not count."""
        return weighted(rows, lane, shared, self.policy.live(lane, shared))

    def about_mean(self, task: Any, lane: Parts, shared: Parts) -> jax.Array:
        """The weighted sum of squares of the data about their mean, or the deviance of counts."""
        y, live = lane["y"], self.policy.live(lane, shared)
        y = y if live is None else jnp.where(live, y, jnp.zeros((), y.dtype))
        ones = weighted(jnp.ones_like(y), lane, shared, live)
        scaled = weighted(y, lane, shared, live)
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
    return find("f_scale", lane, shared)


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
        return weighted(rows, lane, shared, live).astype(lane["y"].dtype)


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
