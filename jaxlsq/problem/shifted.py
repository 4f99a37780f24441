"""What is fitted where x is uncertain too: distances of points from the curve, as one residual."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.orthogonal import (
    Arrays,
    Rounding,
    distance,
    nearest_shifts,
    slopes_of,
    tangent_length,
)
from jaxlsq.problem.functions import ModelJacobian, ModelResidual, check_shape
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.policy import find
from jaxlsq.problem.types import Parts, PyTree

__all__ = [
    "EFFECTIVE",
    "ORTHOGONAL",
    "X_ERRORS",
    "EffectiveResidual",
    "OrthogonalJacobian",
    "OrthogonalResidual",
    "ShiftedResidual",
    "Shifts",
    "with_x_errors",
]

ORTHOGONAL, EFFECTIVE = "odr", "effective_variance"
X_ERRORS = (ORTHOGONAL, EFFECTIVE)


@dataclass(frozen=True)
class _Variables:
    """The variables of a data set that are uncertain, and x with them shifted.

    Attributes
    ----------
    leaves : list of arrays
        Of x.
    structure : PyTreeDef
    sigmas : list of arrays or None
        Of each leaf, in its shape.
    """

    leaves: list[jax.Array]
    structure: Any
    sigmas: list[jax.Array | None]

    @classmethod
    def of(cls, x: PyTree, lane: Parts, shared: Parts, live: jax.Array | None) -> "_Variables":
        """Those of one data set; what does not count is exact."""
        leaves, structure = jax.tree.flatten(x)
        sigmas: list[jax.Array | None] = []
        for number in range(len(leaves)):
            sigma = find(f"xsigma.{number}", lane, shared)
            if sigma is not None and live is not None:
                sigma = jnp.where(live, sigma, jnp.zeros((), sigma.dtype))
            sigmas.append(sigma)
        return cls(leaves, structure, sigmas)

    def rows(self, leaves: list[jax.Array], m: int) -> Arrays:
        """One array (m,) for each uncertain variable, of arrays like x's leaves."""
        out = []
        for leaf, sigma in zip(leaves, self.sigmas, strict=True):
            if sigma is not None:
                out += [leaf] if leaf.ndim == 1 else list(jnp.reshape(leaf, (-1, m)))
        return tuple(out)

    def deviations(self, m: int) -> Arrays:
        """Standard deviations of each variable."""
        pairs = zip(self.leaves, self.sigmas, strict=True)
        return self.rows([leaf if sigma is None else sigma for leaf, sigma in pairs], m)

    def lengths(self, shifts: Arrays) -> list[jax.Array | None]:
        """Shifts in the units and the shapes of x's leaves; None for those that are exact."""
        rest, out = list(shifts), []
        for leaf, sigma in zip(self.leaves, self.sigmas, strict=True):
            count = 0 if sigma is None else leaf.size // leaf.shape[-1]
            own, rest = rest[:count], rest[count:]
            if sigma is None:
                out.append(None)
            else:
                own = own[0] if leaf.ndim == 1 else jnp.reshape(jnp.stack(own), leaf.shape)
                out.append(sigma * own)
        return out

    def shifted(self, shifts: Arrays) -> PyTree:
        """x with its variables shifted, by multiples of their standard deviations."""
        pairs = zip(self.leaves, self.lengths(shifts), strict=True)
        leaves = [leaf if length is None else leaf + length for leaf, length in pairs]
        return jax.tree.unflatten(self.structure, leaves)


@dataclass(frozen=True)
class ShiftedResidual(ModelResidual):
    """The residual of a data set as a function of shifts, in units of xsigma."""

    def of_shifts(
        self, params: PyTree, lane: Parts, shared: Parts
    ) -> tuple[Callable[..., jax.Array], _Variables]:
        """``residual(*shifts) -> (m,)``, over sigma, and the variables that are shifted."""
        y, live = lane["y"], self.policy.live(lane, shared)
        variables = _Variables.of(self.x(lane, shared), lane, shared, live)
        weights, zeros = self.weights(lane, shared), jnp.zeros_like(y)
        y = y if live is None else jnp.where(live, y, zeros)

        def residual(*shifts):
            x = variables.shifted(shifts)
            values = self.predict(params, x)
            check_shape(values.shape, y.shape, x)
            rows = (values - y).astype(y.dtype)
            # A model may be infinite where a point does not count.
            return (rows if live is None else jnp.where(live, rows, zeros)) * weights

        return residual, variables

    def weights(self, lane: Parts, shared: Parts) -> jax.Array:
        """One over sigma, since a product is quicker; zero for points that do not count."""
        return self.weighted(jnp.ones_like(lane["y"]), lane, shared)

    def shifts(
        self, params: PyTree, lane: Parts, shared: Parts
    ) -> tuple[Arrays, jax.Array, _Variables]:
        """The shifts that bring each point nearest to the curve, and where they were found.

        Parameters must not be differentiated by.
        """
        residual, variables = self.of_shifts(params, lane, shared)
        y, live = lane["y"], self.policy.live(lane, shared)
        deviations = variables.deviations(y.size)
        free = reduce(add, deviations) > 0
        sizes = tuple(jnp.abs(x) for x in variables.rows(variables.leaves, y.size))
        size = jnp.abs(y if live is None else jnp.where(live, y, jnp.zeros((), y.dtype)))
        rounding = Rounding(size * self.weights(lane, shared), sizes, deviations)
        shifts, settled = nearest_shifts(residual, free, rounding)
        return shifts, settled, variables


@dataclass(frozen=True)
class OrthogonalResidual(ShiftedResidual):
    """Signed distances of the points from the curve, of orthogonal distance regression."""

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        return self.beside(params, lane, shared)(params)

    def beside(self, params: PyTree, lane: Parts, shared: Parts) -> Callable[..., jax.Array]:
        """The distances as a function of parameters beside some, of which the shifts are."""
        still = jax.tree.map(lax.stop_gradient, params)
        shifts, settled, _ = self.shifts(still, lane, shared)
        value, slopes = slopes_of(self.of_shifts(still, lane, shared)[0], shifts)
        length = distance(value, slopes, shifts)
        length = jnp.where(settled, length, jnp.full_like(length, jnp.nan))
        part = 1.0 / tangent_length(slopes)

        def distances(params):
            # See `distance` for the derivative; of the parameters themselves the change is zero.
            change = self.of_shifts(params, lane, shared)[0](*shifts) - value
            return length + change * part

        return distances


@dataclass(frozen=True)
class OrthogonalJacobian:
    """The user's Jacobian of the model, as derivatives of the distances."""

    jac: Callable[..., Any]
    residual: OrthogonalResidual

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        shifts, _, variables = self.residual.shifts(params, lane, shared)
        _, slopes = slopes_of(self.residual.of_shifts(params, lane, shared)[0], shifts)
        moved = self.residual.predict.by_name, self.residual.policy, _moved(variables, shifts)
        rows = ModelJacobian(self.jac, *moved)(params, lane, shared)
        return rows / tangent_length(slopes)[:, None]


def _moved(variables, shifts):
    return lambda lane, shared: variables.shifted(shifts)


@dataclass(frozen=True)
class EffectiveResidual(ShiftedResidual):
    r"""Residuals over standard deviations to which x's add along the tangent.

    .. math:: r = \frac{f(x, p) - y}{\sqrt{\sigma_y^2 + (\sigma_x \, \partial f / \partial x)^2}}

    The root is a function of the parameters, and differentiated as one.
    """

    def __call__(self, params: PyTree, lane: Parts, shared: Parts) -> jax.Array:
        residual, variables = self.of_shifts(params, lane, shared)
        count = len(variables.deviations(lane["y"].size))
        value, slopes = slopes_of(residual, (jnp.zeros_like(lane["y"]),) * count)
        return value / tangent_length(slopes)


def with_x_errors(
    residual: ModelResidual, jac: ModelJacobian | str, x_errors: str
) -> tuple[ShiftedResidual, Any]:
    """Residual and Jacobian of a model where x is uncertain, from those where it is exact.

    Parameters
    ----------
    residual : ModelResidual
    jac : ModelJacobian or str
    x_errors : str
        One of `X_ERRORS`.
    """
    kind = OrthogonalResidual if x_errors == ORTHOGONAL else EffectiveResidual
    shifted = kind(residual.predict, residual.policy, residual.x)
    if isinstance(jac, ModelJacobian):
        assert isinstance(shifted, OrthogonalResidual)  # as was checked
        return shifted, OrthogonalJacobian(jac.jac, shifted)
    return shifted, jac


@dataclass(frozen=True)
class Shifts:
    """The shift of one of x's arrays, in its own units, at a vector of parameters."""

    residual: OrthogonalResidual
    layout: Layout
    number: int

    def __call__(self, x: jax.Array, lane: Parts, shared: Parts) -> jax.Array:
        params = self.layout.from_vector(x)
        shifts, settled, variables = self.residual.shifts(params, lane, shared)
        length = variables.lengths(shifts)[self.number]
        if length is None:
            return jnp.zeros_like(variables.leaves[self.number])
        return jnp.where(settled, length, jnp.full_like(length, jnp.nan))
