"""What is true of where a fit ended, by formulas of their own: cost, and descent from there."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import jax
import numpy as np
from scipy.optimize import least_squares

from tests.fuzz.curves import Curve
from tests.fuzz.draw import Lanes

__all__ = ["Question", "compiled", "rho"]

# Singular values of a Jacobian of unit columns below this are taken for zero.
SINGULAR = 1e-9


def rho(loss, z):
    """A loss and its derivative of z, the square of a residual."""
    if loss == "linear":
        return z, np.ones_like(z)
    if loss == "soft_l1":
        root = np.sqrt(1.0 + z)
        return 2.0 * z / (1.0 + root), 1.0 / root
    if loss == "huber":
        small = z <= 1.0
        root = np.sqrt(np.where(small, 1.0, z))
        return np.where(small, z, 2.0 * root - 1.0), np.where(small, 1.0, 1.0 / root)
    if loss == "cauchy":
        return np.log1p(z), 1.0 / (1.0 + z)
    if loss == "arctan":
        return np.arctan(z), 1.0 / (1.0 + z**2)
    raise ValueError(loss)


@lru_cache
def compiled(curve: Curve):
    """Values and derivatives at (size, n) parameters, and at one: of x and parameters."""
    function = curve.traced

    def jacobian(x, p):
        return jax.jacfwd(lambda q: function(x, *q))(p)

    def values(x, p):
        return function(x, *p)

    many = [jax.jit(jax.vmap(f, (None, 0))) for f in (values, jacobian)]
    return many, [jax.jit(values), jax.jit(jacobian)]


@dataclass(frozen=True)
class Question:
    """The fits of some lanes, as anybody may ask them."""

    lanes: Lanes

    @cached_property
    def _functions(self):
        return compiled(self.lanes.curve)

    def residuals(self, params: np.ndarray) -> np.ndarray:
        """(size, m) weighted residuals, zero where a point does not count."""
        lanes = self.lanes
        with jax.enable_x64(True):
            values = np.asarray(self._functions[0][0](lanes.x, params))
        values = np.broadcast_to(values, lanes.y.shape)
        with np.errstate(all="ignore"):
            return np.where(lanes.live, lanes.weight * (values - lanes.y), 0.0)

    def jacobians(self, params: np.ndarray) -> np.ndarray:
        """(size, m, n) their derivatives."""
        lanes = self.lanes
        with jax.enable_x64(True):
            jac = np.asarray(self._functions[0][1](lanes.x, params))
        jac = np.broadcast_to(jac, (*lanes.y.shape, lanes.curve.n))
        with np.errstate(all="ignore"):
            return np.where(lanes.live[..., None], lanes.weight[..., None] * jac, 0.0)

    def costs(self, params: np.ndarray) -> np.ndarray:
        """(size,) costs, of the loss with scale one."""
        with np.errstate(all="ignore"):
            return 0.5 * rho(self.lanes.loss, self.residuals(params) ** 2)[0].sum(axis=1)

    def rounding(self, params: np.ndarray, eps: float = 2.0**-52) -> np.ndarray:
        """(size,) what rounding can make of a cost: of the data, and of values as large."""
        lanes = self.lanes
        with np.errstate(all="ignore"):
            size = lanes.weights * np.abs(np.where(lanes.live, lanes.y, 0.0))
            f = self.residuals(params)
            error = 16.0 * eps * (2.0 * size + np.abs(f))
            slope = np.abs(f) * rho(lanes.loss, f**2)[1]
            return np.sum(slope * error / np.sqrt(f.shape[1]) + error**2, axis=1)

    def descent(self, params: np.ndarray) -> np.ndarray:
        """(size,) part of the cost that a Gauss-Newton step inside the bounds promises to save."""
        lanes = self.lanes
        f, jac = self.residuals(params), self.jacobians(params)
        good = np.all(np.isfinite(f), axis=1) & np.all(np.isfinite(jac), axis=(1, 2))
        f, jac = np.where(good[:, None], f, 0.0), np.where(good[:, None, None], jac, 0.0)
        with np.errstate(all="ignore"):
            value, slope = rho(lanes.loss, f**2)
            root = np.sqrt(slope)
            f, jac = f * root, jac * root[..., None]
            norms = np.linalg.norm(jac, axis=1, keepdims=True)
            jac = jac / np.where(norms > 0, norms, 1.0)
            gradient = np.einsum("kmn,km->kn", jac, f)
            low, high = params <= lanes.lower, params >= lanes.upper
            held = np.asarray((low & (gradient >= 0)) | (high & (gradient <= 0)))
            jac = np.where(np.expand_dims(held, 1), 0.0, jac)
            u, s, _ = np.linalg.svd(jac, full_matrices=False)
            along = np.einsum("kmn,km->kn", u, f)
            along = np.where(s > SINGULAR, along, 0.0)
            part = 0.5 * np.sum(along**2, axis=1) / np.maximum(0.5 * value.sum(1), 1e-300)
        return np.where(good, part, np.nan)

    # --- one lane, for SciPy -----------------------------------------------------------

    def one(self, lane: int):
        """``fun(params) -> (m,)`` and ``jac(params) -> (m, n)`` of one lane, in NumPy."""
        lanes, (values, jacobian) = self.lanes, self._functions[1]
        x, y, w = lanes.x, lanes.y[lane], lanes.weight[lane]
        w = np.where(lanes.live[lane], w, 0.0)
        y = np.where(lanes.live[lane], y, 0.0)

        def fun(params):
            with jax.enable_x64(True), np.errstate(all="ignore"):
                found = np.broadcast_to(np.asarray(values(x, np.asarray(params, float))), y.shape)
                return w * (found - y)

        def jac(params):
            with jax.enable_x64(True), np.errstate(all="ignore"):
                found = np.asarray(jacobian(x, np.asarray(params, float)))
                found = np.broadcast_to(found, (y.size, len(params)))
                return w[:, None] * found

        return fun, jac

    def trf(self, lane: int, start: np.ndarray, method: str = "trf", **options):
        """SciPy's `least_squares` of one lane, or None where it raises."""
        lanes, (fun, jac) = self.lanes, self.one(lane)
        low, high = lanes.lower[lane], lanes.upper[lane]
        still = low >= high
        whole = np.array(start, float)

        def full(free):
            p = whole.copy()
            p[~still] = free
            return p

        try:
            with np.errstate(all="ignore"):
                found = least_squares(
                    lambda q: fun(full(q)),
                    whole[~still],
                    lambda q: jac(full(q))[:, ~still],
                    bounds=(low[~still], high[~still]),
                    x_scale="jac",
                    loss=lanes.loss,
                    method=method,
                    **options,
                )
        except (ValueError, np.linalg.LinAlgError):
            return None
        found.x = full(found.x)
        return found

    def lowest_from(self, lane: int, start: np.ndarray) -> float:
        """The lowest cost that SciPy's fits with tight tolerances reach from a place."""
        tight = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14, "max_nfev": 300}
        costs = [np.inf]
        for method in ("trf", "dogbox"):
            found = self.trf(lane, start, method, **tight)
            if found is not None and np.isfinite(found.cost):
                costs.append(found.cost)
        return min(costs)
