"""The Jacobian at a solution, with differences for derivatives that are not finite there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.numerics.bounds import Bounds
from jaxlsq.numerics.repair import repaired
from jaxlsq.tracing.hoisted import Hoisted

__all__ = ["repaired_solution"]


def repaired_solution(
    residual: Callable[..., Any],
    x: jax.Array,
    f: jax.Array,
    jac: jax.Array,
    bounds: Bounds | None,
) -> jax.Array:
    """A Jacobian without elements that are not finite where the residual is, as far as possible.

    Under `vmap` the differences are taken if any lane needs them, and else cost nothing.  They
    have no derivative.

    Parameters
    ----------
    residual : callable
        ``residual(*xs) -> (m,)`` of n scalars.
    x, f, jac : (n,), (m,), (m, n) arrays
    bounds : Bounds or None

    Returns
    -------
    (m, n) array
    """
    hoisted, constants = Hoisted.of(lambda *xs: (residual(*xs),), *(x[j] for j in range(len(x))))

    def differences(x, f, jac, bounds, constants):
        return repaired(lambda x: hoisted(constants, *x)[0], x, f, jac, bounds)[0]

    bad = ~jnp.isfinite(jac) & jnp.isfinite(f)[:, None]
    fixed = jax.tree.map(lax.stop_gradient, (x, f, jac, bounds, constants))
    return jnp.where(bad, _if_any_lane(jnp.any(bad), differences, fixed[2], fixed), jac)


def _if_any_lane(needed, function, default, arguments):
    """``function(*arguments)`` where any lane of an enclosing `vmap` needs it, else the default.

    A condition on each lane would be a selection, for which all lanes compute both.
    """

    @jax.custom_batching.custom_vmap
    def chosen(needed, default, arguments):
        return lax.cond(needed, lambda: function(*arguments), lambda: default)

    @chosen.def_vmap
    def rule(size, batched, needed, default, arguments):
        _, default_is, arguments_are = batched
        axes = jax.tree.map(lambda is_mapped: 0 if is_mapped else None, tuple(arguments_are))

        def mapped(*arguments):
            return jax.vmap(function, in_axes=axes, axis_size=size)(*arguments)

        if not default_is:
            default = jnp.broadcast_to(default, (size, *default.shape))
        return _if_any_lane(jnp.any(needed), mapped, default, arguments), True

    return chosen(needed, default, arguments)
