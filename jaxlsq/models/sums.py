"""The guess of a sum of models.

Parts are placed one after another, each on what those before it leave; their amplitudes, and the
baselines', stay free all the while (orthogonal matching pursuit). Then each is moved beside the
others, some rounds. Two peaks that overlap tempt the first one to cover both: all is done for
several limits of the width, and what fits best is taken.

Source: Y. C. Pati, R. Rezaiifar, P. S. Krishnaprasad, Proc. 27th Asilomar Conf. Signals, Systems
and Computers (1993) 40.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxlsq.models.baseline import Baseline
from jaxlsq.models.columns import least_squares, orthonormal, without
from jaxlsq.models.compose import Renamed
from jaxlsq.models.once import compiled_once
from jaxlsq.models.sample import Sample, sample_of, scaled
from jaxlsq.models.scan import Found, Scan, better

__all__ = ["SumGuess", "inner_guess"]

# Of the widths over the range of x.
_LIMITS = (0.3, 0.12, 0.07, 0.045, 0.03)
# How often the parts are moved beside the others: anywhere, and nearby.
_SETTLED, _ANYWHERE, _ROUNDS = 3, 2, 4


def inner_guess(guess: Any) -> tuple[Any, str]:
    """What a guess is below its prefixes, and the prefixes."""
    prefix = ""
    while isinstance(guess, Renamed):
        prefix, guess = prefix + guess.prefix, guess.inner
    return guess, prefix


@dataclass(frozen=True)
class SumGuess:
    """Of models with signs: scanned ones together, others on what those leave, baselines last."""

    terms: tuple[tuple[float, Any], ...]

    @compiled_once
    def __call__(self, x: Any, y: Any) -> dict[str, jax.Array]:
        kinds = [inner_guess(model.guess)[0] for _, model in self.terms]
        scanned = [t for t, k in zip(self.terms, kinds, strict=True) if isinstance(k, Scan)]
        lines = [t for t, k in zip(self.terms, kinds, strict=True) if isinstance(k, Baseline)]
        done = [*scanned, *lines]
        others = [term for term in self.terms if all(term is not one for one in done)]
        found: dict[str, Any] = {}
        rest = jnp.asarray(y) * 1.0
        if scanned:
            baselines = [inner_guess(model.guess)[0] for _, model in lines]
            found = _together(x, rest, scanned, [c for b in baselines for c in b.columns_of(x, y)])
            for sign, model in scanned:
                rest = rest - sign * _values(model, x, found)
        for sign, model in [*others, *lines]:
            found |= model.guess(x, sign * rest)
            rest = rest - sign * _values(model, x, found)
        return {name: found[name] for _, model in self.terms for name in model.names}

    def prefixed(self, prefix: str) -> "SumGuess":
        """Of the terms that `Model.prefixed` gives."""
        return SumGuess(tuple((sign, model.prefixed(prefix)) for sign, model in self.terms))


def _values(model: Any, x: Any, found: dict[str, Any]):
    return model(x, **{name: found[name] for name in model.names})


def _together(x: Any, y: Any, terms: list[tuple[float, Any]], beside: list[Any]):
    """Parameters of scanned models, with columns beside them."""
    sample, size = scaled(sample_of(x, y))
    scans = tuple(inner_guess(model.guess)[0] for _, model in terms)
    values = _in_order(scans, _placed(sample, scans, tuple(beside)))
    columns = [list(s.columns(sample.x, *v)) for s, v in zip(scans, values, strict=True)]
    flat = [c for some in columns for c in some]
    coefficients = least_squares([*flat, *beside], sample.y, sample.weights)
    found: dict[str, Any] = {}
    first = 0
    for (sign, model), scan, some, own in zip(terms, scans, columns, values, strict=True):
        last = first + len(some)
        own = scan.params(sample, own, [sign * size * c for c in coefficients[first:last]])
        prefix = inner_guess(model.guess)[1]
        found |= {prefix + name: value for name, value in own.items()}
        first = last
    return found


def _in_order(scans: tuple[Scan, ...], values: Any):
    """Of peaks of one kind, those with smaller x first."""
    values = list(values)
    for scan in dict.fromkeys(scans):
        same = [k for k, other in enumerate(scans) if other == scan and scan.placed]
        if len(same) < 2:
            continue
        order = jnp.argsort(jnp.stack([values[k][0] for k in same]))
        stacked = [jnp.stack(v)[order] for v in zip(*(values[k] for k in same), strict=True)]
        for place, k in enumerate(same):
            values[k] = tuple(v[place] for v in stacked)
    return tuple(values)


def _placed(sample: Sample, scans: tuple[Scan, ...], beside: tuple[Any, ...]) -> Any:
    """The values of all parts, by the best one of several ways."""
    search = _Search(sample, scans, beside)
    if len(scans) == 1:
        return (scans[0].refined(sample, *search.first())[1],)
    many = any(scan.placed for scan in scans)
    ways = [(w, s) for w in _LIMITS for s in (True, False)] if many else [(1.0, False)]
    widths, alike = (jnp.asarray(v) for v in zip(*ways, strict=True))
    costs, values = lax.map(search, (widths.astype(sample.y.dtype), alike))
    best = jnp.argmin(costs)
    values = jax.tree.map(lambda v: v[best], values)
    values = lax.fori_loop(0, _ANYWHERE, lambda k, v: search.moved(v, k, everywhere=True), values)
    return lax.fori_loop(0, _ROUNDS, lambda k, v: search.moved(v, k), values)


@dataclass(frozen=True)
class _Search:
    """All parts beside one another."""

    sample: Any
    scans: tuple[Scan, ...]
    beside: tuple[jax.Array, ...]

    def others(self, values: Any, but: int = -1) -> jax.Array:
        """Orthonormal columns of the baselines and of the parts that have values, but for one."""
        columns = list(self.beside)
        for k, own in enumerate(values):
            if own is not None and k != but:
                columns += self.scans[k].columns(self.sample.x, *own)
        return orthonormal(columns, self.sample)

    def first(self) -> tuple[Found, jax.Array]:
        """Of one part alone: the best candidate, and the baselines."""
        others = self.others(())
        return self.scans[0].searched(self.sample, others), others

    def __call__(self, way: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        """The sum of squares that is left, and the values of all parts.

        Parameters
        ----------
        way : (number, bool)
            Of the widths over the range of x, the largest for now; whether peaks must have the
            sign of the first one.
        """
        widest, alike = way
        most = widest * self.sample.span * 1.001
        values: list[Any] = [None] * len(self.scans)
        sign = None
        # What is wide comes first, or peaks would take its place.
        for k in sorted(range(len(self.scans)), key=lambda k: self.scans[k].placed):
            scan, allowed = self.scans[k], None
            if scan.placed:
                allowed = partial(_allowed, most, alike, sign)
            others = self.others(values)
            _, values[k], coefficients = scan.searched(self.sample, others, allowed)
            if scan.placed and sign is None:
                sign = sum(coefficients)
            # The next one shall not mend what this one does not fit yet.
            values = lax.fori_loop(0, _SETTLED, lambda n, v: self.moved(v, n, most=most), values)
        rest = without(self.sample.y, self.others(values))
        return jnp.sum(self.sample.weights * rest * rest), tuple(values)

    def moved(self, given: Any, number: Any = 0, everywhere: bool = False, most: Any = None) -> Any:
        """Each part where it is better beside the others: nearby, or anywhere."""
        values = list(given)
        for k, scan in enumerate(self.scans):
            if values[k] is None:
                continue
            others = self.others(values, k)
            now = scan.measured(self.sample, values[k], others)
            if everywhere:
                now = better(now, scan.searched(self.sample, others))
            allowed = None
            if scan.placed and most is not None:
                allowed = partial(_allowed, most, False, None)
            values[k] = scan.refined(self.sample, now, others, number, 1, allowed)[1]
        return type(given)(values)


def _allowed(widest: Any, alike: Any, sign: Any, values: Any, coefficients: Any):
    """Whether candidates are narrow enough, and of the sign, where that is asked."""
    narrow = values[1] <= widest
    if sign is None:
        return narrow
    return narrow & (~alike | (sum(coefficients) * sign >= 0))
