"""One problem of the host's doors, and where its fit ended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.numerics.loss import sum_of
from jaxlsq.numerics.minimize import Terms
from jaxlsq.numerics.state import Options, State
from jaxlsq.numerics.types import AnyArray
from jaxlsq.tracing.settings import own_settings
from jaxlsq.tracing.signature import Signature

__all__ = ["Problem", "Solution", "complete_options", "name_of", "result_fields", "solution_of"]


@dataclass(frozen=True)
class Problem:
    """A residual function, its arguments and how to differentiate it.

    Attributes
    ----------
    func : callable
        ``func(x, *args) -> (m,)``.
    x0 : (n,) float64 array
    args : tuple
    jac : str, callable or None
        A method of `jaxlsq.numerics.jacobian`; or ``jac(x, *args)``; or None for
        'jacfwd' where `func` is traceable and '2-point' where not.
    col_deriv : bool
        Whether a callable returns the Jacobian transposed.
    terms : Terms, optional
        Bounds and a loss.
    """

    func: Callable[..., Any]
    x0: NDArray[Any]
    args: tuple[Any, ...]
    jac: str | Callable[..., Any] | None
    col_deriv: bool
    terms: Terms | None = None

    @property
    def signature(self) -> Signature:
        """What decides whether it is traceable."""
        return Signature(self.func, self.jac, self.args)


@dataclass(frozen=True)
class Solution:
    """Where a fit ended: parameters, residual and the last factorization.

    Attributes
    ----------
    x : (n,) array
    f : (m,) array
        Residual at x.
    r, perm, qtf : (n, n), (n,), (n,) arrays, or None
        Of the last Jacobian, see `jaxlsq.numerics.factor.Factor`; without terms.
    jac, cost : (m, n) array and scalar, or None
        The Jacobian at x, with its rows weighted by the loss, and the cost; with terms.
    nfev, njev, status : int
    max_nfev : int
        The limit that applied.
    analytic : bool
        Whether the Jacobian came without evaluations of the residual.
    """

    x: NDArray[Any]
    f: NDArray[Any]
    nfev: int
    njev: int
    status: int
    max_nfev: int
    analytic: bool
    r: AnyArray = None
    perm: AnyArray = None
    qtf: AnyArray = None
    jac: AnyArray = None
    cost: AnyArray = None


def complete_options(settings: dict[str, Any], n: int, analytic: bool, dtype: Any) -> Options:
    """`Options` with SciPy's defaults filled in.

    Parameters
    ----------
    settings : dict
        As `jaxlsq.single.solve.solve` takes them.
    n : int
        Parameters.
    analytic : bool
        Whether the Jacobian takes no evaluations of the residual.
    dtype : dtype
        Of the residual.
    """
    filled = dict(settings)
    if filled["max_nfev"] <= 0:
        filled["max_nfev"] = (100 if analytic else 200) * (n + 1)
    if filled["epsfcn"] is None:
        filled["epsfcn"] = np.finfo(dtype).eps
    filled["max_nfev"] = np.int32(min(filled["max_nfev"], np.iinfo(np.int32).max))
    return Options(
        **{k: v if k == "max_nfev" else np.asarray(v, np.float64) for k, v in filled.items()}
    )


def result_fields(
    state: State,
    f: AnyArray,
    terms: Terms | None = None,
    jacobian: Callable[..., AnyArray] | None = None,
) -> dict[str, AnyArray]:
    """The fields of a `Solution` that a computation gives, with ``jacobian(x, f)`` for terms."""
    point = state.point
    counts = {"nfev": state.nfev, "njev": state.njev, "status": state.status}
    if terms is None or jacobian is None:
        factor: Any = point.factor  # by QR
        last = {"r": factor.r, "perm": factor.perm, "qtf": factor.qtf}
    else:
        last = _jacobian_and_cost(terms, jacobian(point.x, f), f)
    return {"x": point.x, "f": f} | last | counts


@own_settings()
def _jacobian_and_cost(terms, jac, f):
    rows, columns = terms.exact(jac, f)
    return {"jac": jnp.stack(columns, axis=1), "cost": 0.5 * sum_of(rows)}


def solution_of(fields: dict[str, AnyArray], options: Options, evaluations: int) -> Solution:
    """The `Solution` of `result_fields`, with arrays that the caller may change."""
    fields = {k: np.asarray(v) for k, v in fields.items()}
    own: dict[str, Any] = {
        k: v.copy() if v.dtype.kind == "f" or v.ndim else int(v) for k, v in fields.items()
    }
    return Solution(**own, max_nfev=int(options.max_nfev), analytic=evaluations == 0)


def name_of(function: Any) -> str:
    """What messages call a function of the user's."""
    return getattr(function, "__name__", type(function).__name__)
