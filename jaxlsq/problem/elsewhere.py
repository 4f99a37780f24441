"""Models that know the data's own places, evaluated at others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax

from jaxlsq.problem.functions import given_places
from jaxlsq.problem.types import Parts, PyTree

__all__ = ["BesideTheData", "Elsewhere", "lives_on_its_grid"]


def lives_on_its_grid(model: Any) -> bool:
    """Whether a `Predict` is of a model whose values depend on all of the data's places.

    Such a model has an attribute `on_grid`, which is true, and ``elsewhere(x)``, the same model
    for any places where x are the data's; see `jaxlsq.models.Model`.
    """
    return bool(getattr(getattr(model, "model", None), "on_grid", False))


@dataclass(frozen=True)
class Elsewhere:
    """A `Predict` of such a model as a function of ``(params, (x, the data's own x))``."""

    predict: Any

    def __call__(self, params: PyTree, x: tuple[PyTree, PyTree]) -> jax.Array:
        at, own = x
        model = self.predict.model.elsewhere(own)
        return replace(self.predict, model=model)(params, at)


@dataclass(frozen=True)
class BesideTheData:
    """Places that are given, and the data's own."""

    places: Callable[..., Any]

    def __call__(self, lane: Parts, shared: Parts) -> tuple[PyTree, PyTree]:
        return given_places(lane, shared), self.places(lane, shared)
