"""Losses at the front doors, and what goes with them."""

from collections.abc import Callable
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import NDArray

from jaxlsq.numerics.loss import POISSON, RHOS, Loss, Robust
from jaxlsq.tracing.trace import Traced, trace

__all__ = ["check_no_sigma", "check_scale", "check_weights", "loss_of", "not_counts", "traced_loss"]


@overload
def loss_of(loss: str | Callable[..., Any], counts: Literal[False] = False) -> Robust | None: ...
@overload
def loss_of(loss: str | Callable[..., Any], counts: bool) -> Loss | None: ...
def loss_of(loss: str | Callable[..., Any], counts: bool = False) -> Loss | None:
    """The `Robust`, `POISSON` or, for squares, None that a caller's `loss` stands for.

    Parameters
    ----------
    loss : str or callable
    counts : bool
        Whether there are data that may be counts.

    Raises
    ------
    ValueError
        For an unknown name, and for 'poisson' without counts.
    """
    if callable(loss):
        return Robust(loss)
    names = ["linear", *RHOS, *(["poisson"] if counts else [])]
    if not isinstance(loss, str) or loss not in names:
        hint = ""
        if isinstance(loss, str) and loss == "poisson":
            hint = " The likelihood of counts needs a model and data: use `fit`."
        raise ValueError(f"`loss` must be one of {names} or a callable, got {loss!r}.{hint}")
    if loss == "poisson":
        return POISSON
    return None if loss == "linear" else Robust(RHOS[loss])


def traced_loss(loss: Loss | None, f: Any) -> Traced | None:
    """A callable loss of the user's as a `Traced` function of squares like f; else None.

    What it closes over are data too.
    """
    if not isinstance(loss, Robust) or loss.rho in RHOS.values():
        return None

    def rho(z):
        out = loss.rho(z)
        return tuple(out) if isinstance(out, (tuple, list)) else tuple(jnp.atleast_2d(out))

    return trace(rho, jax.ShapeDtypeStruct(f.shape, f.dtype))


def not_counts(values: NDArray[Any]) -> NDArray[Any]:
    """Which elements of an array are not whole numbers from zero on; NaN is none either."""
    bad = values < 0
    return bad | (values != np.rint(values)) if values.dtype.kind == "f" else bad


def check_no_sigma(sigma: Any) -> None:
    """Raise ValueError for a sigma of counts."""
    if sigma is not None:
        raise ValueError("loss='poisson' takes no sigma: the variance of a count is its mean.")


def check_weights(loss: Loss | None, sigma: Any, absolute_sigma: bool, f_scale: Any) -> None:
    """Raise ValueError where scale, sigma and loss do not go together."""
    check_scale(f_scale)
    if loss is POISSON:
        check_no_sigma(sigma)
    if absolute_sigma and sigma is None and loss is not POISSON:
        raise ValueError(
            "absolute_sigma=True says that sigma is in the units of the data; pass sigma too."
        )


def check_scale(f_scale: Any) -> None:
    """Raise ValueError unless a concrete `f_scale` is positive."""
    if isinstance(f_scale, Tracer):
        return
    values = np.asarray(f_scale)
    if values.dtype.kind not in "fiu" or not np.all((values > 0) & np.isfinite(values)):
        got = repr(f_scale) if values.ndim == 0 else "an array that holds another"
        raise ValueError(f"`f_scale` must be positive and finite, got {got}.")
