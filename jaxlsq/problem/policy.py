"""Which points of a data set count, and what they weigh."""

from dataclasses import dataclass
from functools import reduce
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxlsq.numerics.norm import norm2
from jaxlsq.problem.task import Seen
from jaxlsq.problem.types import Parts

__all__ = ["Policy", "find", "weighted"]


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
        y, sigma = lanes["y"], find("sigma", lanes, shared)
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
        live, sigma = self.live_of(lanes, shared, xp), find("sigma", lanes, shared)
        y, whitening = lanes["y"], find("whitening", lanes, shared)
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
        """y with the last value before each point without weight in its place."""
        y, live, sigma = lane["y"], self.live(lane, shared), find("sigma", lane, shared)
        if sigma is not None:  # an infinite one is no weight
            weighs = jnp.broadcast_to(~jnp.isinf(sigma), y.shape)
            live = weighs if live is None else live & weighs
        if live is None:
            return y
        places = jnp.where(live, jnp.arange(y.size), -1)
        last = lax.cummax(places)
        return y[jnp.where(last < 0, jnp.argmax(live), last)]


def _size(lanes, shared, live, xp):
    """Norms of the data over sigma."""
    y = lanes["y"]
    y = y if live is None else xp.where(live, y, xp.zeros((), y.dtype))
    scaled = weighted(y, lanes, shared, live, xp)
    if xp is jnp:
        return norm2(scaled)
    # One pass over the data does, where no square leaves the range.
    with np.errstate(all="ignore"):
        squares = np.einsum("ij,ij->i", scaled, scaled)
        size = np.sqrt(squares)
        doubtful = ~((squares > np.finfo(y.dtype).tiny * 1e6) & (squares < np.inf))
        if doubtful.any():
            size[doubtful] = norm2(scaled[doubtful], xp=np)
    return size


def _all_finite(y, size, xp):
    """Which data sets are finite, of those without weights: then and only then their norms are."""
    if xp is jnp:
        return xp.all(xp.isfinite(y), axis=-1)
    finite = np.isfinite(size)
    some = np.flatnonzero(~finite)  # a norm may overflow
    finite[some] = np.isfinite(y[some]).all(axis=-1)
    return finite


def find(key: str, lane: Parts, shared: Parts) -> Any:
    """An entry of a data set's own data, or of what all share; None where there is none."""
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


def weighted(rows: Any, lane: Parts, shared: Parts, live: Any, xp: ModuleType = jnp) -> Any:
    """Rows, one per point, over sigma, and zero where the point does not count."""
    column = (..., None) if rows.ndim > lane["y"].ndim else ...
    whitening = find("whitening", lane, shared)
    if whitening is not None:
        return _whitened(whitening, rows, lane["y"].ndim, xp)
    sigma = find("sigma", lane, shared)
    if sigma is not None:
        if live is not None:  # derivatives of what does not count are finite too
            sigma = xp.where(live, sigma, xp.ones((), sigma.dtype))
        with np.errstate(divide="ignore", invalid="ignore"):  # a sigma of zero ends its fit
            rows = rows / sigma[column]
    return rows if live is None else xp.where(live[column], rows, xp.zeros((), rows.dtype))


def _whitened(whitening, rows, ndim, xp):
    """Rows of data sets times their matrices."""
    if xp is jnp and ndim == 1:
        return jnp.matmul(whitening, rows, precision="highest")
    with np.errstate(all="ignore"):
        return xp.matmul(whitening, rows[..., None])[..., 0]
