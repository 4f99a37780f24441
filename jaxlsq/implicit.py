r"""Derivatives of a solution, by the implicit function theorem.

A solution x of :math:`g(x, c) = J(x, c)^T r(x, c) = 0` moves with the data c as

.. math:: \frac{dx}{dc} = - \left(\frac{\partial g}{\partial x}\right)^{-1}
          \frac{\partial g}{\partial c},

where :math:`\partial g / \partial x` is the full Hessian of the cost, with the second
derivatives of r that Gauss-Newton leaves out.  The iteration is not differentiated.

Source: A. Griewank, A. Walther, "Evaluating Derivatives", SIAM 2008, chapter 15.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

__all__ = ["with_derivatives"]


def with_derivatives(solve, residual, x0, data):
    """``solve(x0, data)``, with the derivatives of what it solves.

    Parameters
    ----------
    solve : callable
        ``solve(x0, data) -> x, counts``.
    residual : callable
        ``residual(x) -> (m,)``; derivatives are with respect to what it closes over.
    x0 : (n,) array
    data : sequence of arrays
        What the solver reads of the same closure.

    Returns
    -------
    x : (n,) array
    counts : pytree of int arrays
    """
    closed = jax.make_jaxpr(residual)(x0)

    def gradient(x, constants):
        fun = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, constants))
        f, pull = jax.vjp(lambda x: fun(x)[0], x)
        return pull(f)[0]

    @jax.custom_jvp
    def solution(x0, data, constants):
        return solve(x0, data)

    @solution.defjvp
    def rule(primals, tangents):
        constants, moved = primals[2], tangents[2]
        x, counts = solution(*primals)
        _, moved_gradient = jax.jvp(lambda c: gradient(x, c), (constants,), (moved,))
        hessian = jax.jacfwd(gradient)(x, constants)
        moved_x = -jnp.linalg.solve(hessian, moved_gradient)
        still = jax.tree.map(lambda v: np.zeros(v.shape, jax.dtypes.float0), counts)
        return (x, counts), (moved_x, still)

    fixed = jax.tree.map(jax.lax.stop_gradient, (x0, tuple(data)))
    return solution(*fixed, list(closed.consts))
