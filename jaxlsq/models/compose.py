"""Functions, guesses and derived quantities of models that are made of models."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "Defaults",
    "Product",
    "ProductGuess",
    "Renamed",
    "Sum",
    "SumDerived",
    "Tied",
    "TiedDerived",
    "TiedGuess",
]


@dataclass(frozen=True)
class Defaults:
    """A guess that looks at no data."""

    values: tuple[tuple[str, float], ...]

    def __call__(self, x: Any, y: Any) -> dict[str, jax.Array]:
        dtype = jnp.result_type(y, 1.0)
        return {name: jnp.asarray(value, dtype) for name, value in self.values}


@dataclass(frozen=True)
class Renamed:
    """A function that returns a dict, or takes one too, with a prefix in front of the names."""

    inner: Callable[..., dict[str, Any]]
    prefix: str
    of_params: bool = False

    def __call__(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        if self.of_params:
            (params,) = arguments
            size = len(self.prefix)
            own = {k[size:]: v for k, v in params.items() if k.startswith(self.prefix)}
            arguments = (own,)
        found = self.inner(*arguments, **options)
        return {self.prefix + name: value for name, value in found.items()}


# --- sums -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """The sum of models, each with a sign."""

    terms: tuple[tuple[float, Any], ...]

    def __call__(self, x: Any, *params: Any) -> Any:
        total, first = None, 0
        for sign, model in self.terms:
            last = first + len(model.names)
            values, first = model(x, *params[first:last]), last
            if total is None:
                total = values if sign > 0 else -values
            else:
                total = total + values if sign > 0 else total - values
        return total

    def components(self, x: Any, params: dict[str, Any]) -> dict[str, Any]:
        """Each term by its prefix, or its name."""
        found: dict[str, Any] = {}
        for sign, model in self.terms:
            own = {name: params[name] for name in model.names}
            parts = model.components(x, **own)
            for key, values in parts.items():
                number, free = 2, key
                while free in found:
                    free, number = f"{key}{number}", number + 1
                found[free] = values if sign > 0 else -values
        return found

    def prefixed(self, prefix: str) -> "Sum":
        """Of the terms that `Model.prefixed` gives."""
        return Sum(tuple((sign, model.prefixed(prefix)) for sign, model in self.terms))

    def elsewhere(self, x: Any) -> "Sum":
        """Of the terms that `Model.elsewhere` gives."""
        return Sum(tuple((sign, model.elsewhere(x)) for sign, model in self.terms))

    @property
    def on_grid(self) -> bool:
        """Whether a term is seen through a response."""
        return any(model.on_grid for _, model in self.terms)


@dataclass(frozen=True)
class SumDerived:
    """What follows from the parameters of several models."""

    models: tuple[Any, ...]

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for model in self.models:
            found |= model.derived({name: params[name] for name in model.names})
        return found


# --- products -------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """The product or the quotient of two models."""

    left: Any
    right: Any
    divided: bool

    def __call__(self, x: Any, *params: Any) -> Any:
        n = len(self.left.names)
        left, right = self.left(x, *params[:n]), self.right(x, *params[n:])
        return left / right if self.divided else left * right

    def elsewhere(self, x: Any) -> "Product":
        """Of the factors that `Model.elsewhere` gives."""
        return replace(self, left=self.left.elsewhere(x), right=self.right.elsewhere(x))

    @property
    def on_grid(self) -> bool:
        """Whether a factor is seen through a response."""
        return self.left.on_grid or self.right.on_grid


@dataclass(frozen=True)
class ProductGuess:
    """The left model of the data; the right one of what remains where the left one is large."""

    left: Any
    right: Any
    divided: bool

    def __call__(self, x: Any, y: Any) -> dict[str, jax.Array]:
        found = self.left.guess(x, y)
        left = self.left(x, **found)
        y = jnp.asarray(y) * 1.0
        top, bottom = (left, y) if self.divided else (y, left)
        large = jnp.abs(bottom) > 0.1 * jnp.max(jnp.abs(bottom))
        ratio = jnp.where(large, top / jnp.where(large, bottom, 1.0), 1.0)
        return {**found, **self.right.guess(x, ratio)}


# --- ties -----------------------------------------------------------------------------

Ties = tuple[tuple[str, Any], ...]


def _completed(params: dict[str, Any], ties: Ties) -> dict[str, Any]:
    """With the parameters that follow from these."""
    params = dict(params)
    free = _Left(params)
    for name, source in ties:
        params[name] = free[source] if isinstance(source, str) else source(free.copied())
    return params


class _Left(dict[str, Any]):
    """The parameters that are left, which say so where a tie asks for another."""

    def __missing__(self, name: str):
        raise KeyError(f"a tie reads {name!r}, which is none of the parameters left: {tuple(self)}")

    def copied(self) -> "_Left":
        return _Left(self)


@dataclass(frozen=True)
class _OfPrefixed:
    """A tie, which asks for parameters by their names before they had a prefix."""

    tie: Callable[..., Any]
    prefix: str

    def __call__(self, params: dict[str, Any]) -> Any:
        size = len(self.prefix)
        return self.tie(_Left({name[size:]: value for name, value in params.items()}))


@dataclass(frozen=True)
class Tied:
    """A model, some of whose parameters follow from others."""

    model: Any
    free: tuple[str, ...]
    ties: Ties

    def __call__(self, x: Any, *params: Any) -> Any:
        return self.model(x, **self.completed(dict(zip(self.free, params, strict=True))))

    def completed(self, params: dict[str, Any]) -> dict[str, Any]:
        """With the parameters that are tied."""
        return _completed(params, self.ties)

    def prefixed(self, prefix: str) -> "Tied":
        """Of what `Model.prefixed` gives."""
        ties = tuple(
            (prefix + name, prefix + tie if isinstance(tie, str) else _OfPrefixed(tie, prefix))
            for name, tie in self.ties
        )
        return Tied(self.model.prefixed(prefix), tuple(prefix + n for n in self.free), ties)

    def elsewhere(self, x: Any) -> "Tied":
        """Of what `Model.elsewhere` gives."""
        return replace(self, model=self.model.elsewhere(x))

    @property
    def on_grid(self) -> bool:
        """Whether the model, or a part of it, is seen through a response."""
        return self.model.on_grid


@dataclass(frozen=True)
class TiedGuess:
    """The guess of the parameters that are left."""

    guess: Callable[..., dict[str, Any]]
    free: tuple[str, ...]

    def __call__(self, x: Any, y: Any) -> dict[str, jax.Array]:
        found = self.guess(x, y)
        return {name: found[name] for name in self.free}


@dataclass(frozen=True)
class TiedDerived:
    """What follows from all parameters, the tied ones too."""

    model: Any
    ties: Ties

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        return self.model.derived(_completed(params, self.ties))
