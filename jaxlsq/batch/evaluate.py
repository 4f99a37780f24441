"""What a result asks of its problem: the model, its derivatives and errors, at its parameters."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxlsq.batch.alike import differs
from jaxlsq.batch.costs import contribution, cost, left, values_at
from jaxlsq.batch.evaluation import gram_of
from jaxlsq.batch.group import Group
from jaxlsq.problem.containers import as_array_like
from jaxlsq.problem.elsewhere import BesideTheData, Elsewhere, lives_on_its_grid
from jaxlsq.problem.functions import Band, ModelResidual, Prediction, given_places
from jaxlsq.problem.inputs import float_dtype, in_memory
from jaxlsq.problem.parameters import Layout
from jaxlsq.problem.shifted import OrthogonalResidual, Shifts
from jaxlsq.problem.sources import converted
from jaxlsq.problem.types import Batch, PyTree
from jaxlsq.results.evaluator import Errors

__all__ = ["Answers"]


class Answers:
    """The answers of a `Problem`; each is of all fits, whose parameters it is given."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    groups: tuple[tuple[NDArray[Any], Group], ...]
    batch: Batch
    layout: Layout
    names: tuple[str, ...]
    lengths: NDArray[Any] | None
    model: Callable[..., Any] | None
    places: Callable[..., Any] | None

    if TYPE_CHECKING:

        @property
        def total(self) -> int: ...

    def _gather(self, call: Callable[..., Any], x: NDArray[Any]) -> Any:
        """One array from a call on every group, or a list where their shapes differ."""
        flat = x.reshape(self.total, x.shape[-1])
        pieces = [(index, call(group, flat[index])) for index, group in self.groups]
        if self.lengths is not None:
            out: list[Any] = [None] * self.total
            for index, piece in pieces:
                for i, row in zip(index, piece, strict=True):
                    out[i] = row[..., : self.lengths[i]]
            return out if self.batch else out[0]
        whole = np.empty((self.total, *pieces[0][1].shape[1:]), pieces[0][1].dtype)
        for index, piece in pieces:
            whole[index] = piece
        return whole.reshape((*self.batch, *whole.shape[1:]))

    def gram(self, x: NDArray[Any]) -> NDArray[Any]:
        """(..., n, n) J'J, in float64."""
        single = replace(self, lengths=None)
        return single._gather(lambda group, x: gram_of(group.in_float64(), x), x)

    def residuals(self, x: NDArray[Any]) -> NDArray[Any] | list[NDArray[Any]]:
        """(..., m) residuals."""
        return self._gather(lambda group, x: group.in_type_of(x).residuals(x), x)

    def predict(self, x: NDArray[Any], at: PyTree) -> NDArray[Any] | list[NDArray[Any]]:
        """(..., k) values of the model."""
        return self._at("predict", Prediction, x, at)

    def band(
        self, x: NDArray[Any], cov: NDArray[Any], at: PyTree
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """(..., k) standard errors of the model's values."""
        return self._at("band", Band, _with_cov(x, cov), at)

    def _at(self, name, function, x, at):
        model = self.model
        if model is None or self.places is None:
            raise ValueError(f"{name} needs a model: use fit, or evaluate your function yourself.")
        own, wide = self.places, False
        if at is not None:
            at = jax.tree.map(_place, at, is_leaf=lambda v: isinstance(v, list))
            wide = float_dtype((), [np.empty(1, np.float32), *jax.tree.leaves(at)]) == np.float64

        def call(group, x):
            group = group.in_type_of(x)
            layout = group.task.layout
            if at is None:
                return group.map(function(model, layout, own), x)
            # In the type of the fit, or wider if that would lose digits.
            group = group.in_float64() if wide else group
            there = jax.tree.map(lambda v: converted(v, group.dtype), at)
            group = replace(group, shared={**group.shared, "at": there})
            if lives_on_its_grid(model):
                return group.map(function(Elsewhere(model), layout, BesideTheData(own)), x)
            return group.map(function(model, layout, given_places), x)

        return (self if at is None else replace(self, lengths=None))._gather(call, x)

    def data_of_one(self) -> tuple[Any, NDArray[Any], Errors, NDArray[Any]]:
        """x, y, their errors, and which points count, of a problem that is one data set."""
        if self.model is None or self.places is None:
            raise ValueError("plots need data that are fitted by a model: use fit.")
        _, group = self.groups[0]
        lane = {key: values[0] for key, values in group.block(0, 1, 1).items()}
        y = lane["y"]
        residual = group.task.residual
        assert isinstance(residual, ModelResidual)  # since there is a model
        live = residual.policy.live(lane, group.shared)
        live = np.ones(y.size, bool) if live is None else np.asarray(live)
        of_x, of_y = _xsigma_of(lane | group.shared, y), _sigma_of(lane | group.shared, y)
        x = self.places(lane, group.shared)
        if self.lengths is not None:
            m = int(np.ravel(self.lengths)[0])
            x = jax.tree.map(lambda v: v[..., :m], x)
            y, live = y[:m], live[:m]
            of_x, of_y = (one if one is None else one[:m] for one in (of_x, of_y))
        return x, y, (of_x, of_y), live & np.isfinite(y)

    def variation(self, x: NDArray[Any]) -> NDArray[Any]:
        """(..., 2) variation of the data about the model, and about their mean."""
        if self.model is None:
            raise ValueError("r2 needs data that are fitted by a model: use fit.")
        single = replace(self, lengths=None)
        return single._gather(lambda group, x: group.in_type_of(x).variation(x), x)

    def x_shifts(self, x: NDArray[Any]) -> PyTree:
        """(..., m) shifts, for each array of x."""
        _, group = self.groups[0]
        residual = group.task.residual
        if not isinstance(residual, OrthogonalResidual):
            raise ValueError(
                "x_shifts are of orthogonal distances: use fit with xsigma, and x_errors='odr'."
            )
        structure = jax.tree.structure(residual.x(group.lanes, group.shared))

        def of_leaf(number):
            def call(group, x):
                task = group.task
                return group.in_type_of(x).map(Shifts(task.residual, task.layout, number), x)

            return self._gather(call, x)

        return jax.tree.unflatten(structure, map(of_leaf, range(structure.num_leaves)))

    def derived(
        self, x: NDArray[Any], cov: NDArray[Any], function: Callable[..., Any] | None
    ) -> tuple[PyTree, PyTree]:
        """Values of a function of the parameters, and their standard errors, as it returns them."""
        of_params: Callable[..., Any] = function or self._models_own()
        layout, empty = _layout_of(of_params, self.layout)
        if not layout.shapes:  # as of a polynomial
            return empty, empty

        def values(params, _):
            return layout.pack(of_params(params), xp=jnp)

        def places(lane, shared):
            return None

        single = replace(self, lengths=None)
        out = []
        for evaluate, at in ((Prediction, x.astype(np.float64)), (Band, _with_cov(x, cov))):
            of = evaluate(values, self.layout, places)
            out.append(single._gather(lambda g, at, of=of: g.in_type_of(at).map(of, at), at))
        return tuple(layout.unpack(values) for values in out)

    def costs(self, places: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """(k,) costs of the fits at flat places with other parameters; inf where not finite."""
        return values_at(self, places, x, cost)

    def left(self, places: NDArray[Any], x: NDArray[Any], free: NDArray[Any]) -> NDArray[Any]:
        """By what steps would lower chi-squared, see `jaxlsq.batch.costs.left`."""
        return left(self, places, x, free)

    def contributions(self, places: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """(k,) norms of what their parameters contribute to the residuals."""
        return values_at(self, places, x, contribution)

    def differs(self, other: Self) -> str | None:
        """What another problem has of other data or another loss, or None."""
        return differs(self, other)

    def own(self, what: str) -> Any:
        """What the model has of its own, by that name, or None."""
        plain = getattr(self.model, "expand", None) is None  # with the parameters that are fitted
        return getattr(getattr(self.model, "model", None), what, None) if plain else None

    def _models_own(self):
        """The model's own `derived`, of its parameters by name."""
        own = self.own("derived")
        if own is None:
            raise TypeError("derived needs a function: the model has no `derived` of its own.")

        def function(params):
            return own(dict(zip(self.names, jax.tree.leaves(tuple(params)), strict=True)))

        return own if self.layout.keys else function


def _layout_of(of_params, layout):
    """How what a function of the parameters returns is laid out, and it itself where it is empty.

    In the orders that its dicts are written in, which JAX's own transformations sort.
    """
    found = []

    def seen(x):
        out = of_params(layout.unpack(x))
        found.append((Layout.as_given(out), jax.tree.map(lambda _: None, out)))
        return ()

    jax.eval_shape(seen, np.zeros(layout.n))
    return found[0]


def _with_cov(x, cov):
    """Parameters and their covariances, in one vector of float64, as `Band` reads them.

    A variance, a square, may be below what float32 holds.
    """
    return np.concatenate([x, cov.reshape(*cov.shape[:-2], -1)], axis=-1, dtype=np.float64)


def _place(x):
    """Where the model is evaluated, as an array."""
    return in_memory(as_array_like(x, "x"))


def _xsigma_of(data, y):
    """Standard deviations of one data set's x, where that is one variable; or None."""
    xsigma = data.get("xsigma.0")
    return xsigma if np.shape(xsigma) == y.shape else None


def _sigma_of(data, y):
    """Standard deviations of one data set's points, or None."""
    if "whitening" in data:
        factor = np.linalg.inv(data["whitening"])
        return np.sqrt(np.sum(factor * factor, axis=1))
    return np.broadcast_to(data["sigma"], y.shape) if "sigma" in data else None
