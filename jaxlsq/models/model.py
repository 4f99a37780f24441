"""`Model`: a function with names, a guess, bounds and what is derived from its parameters."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxlsq.models.checks import check_prefix, check_tie, defaults_of, names_of
from jaxlsq.models.compose import (
    Product,
    ProductGuess,
    Renamed,
    Sum,
    SumDerived,
    Tied,
    TiedDerived,
    TiedGuess,
)
from jaxlsq.models.convolved import seen_through
from jaxlsq.models.sums import SumGuess
from jaxlsq.tracing.numpy_arrays import as_numpy_would

__all__ = ["Model"]

_OF_THE_HOST = (np.ndarray, np.generic, float, int)


def _nothing(params: dict[str, Any]) -> dict[str, Any]:
    """What follows from a dict of the parameters: nothing, if it is not said."""
    return {}


@dataclass(frozen=True)
class Model:
    """A model that `jaxlsq.fit` takes: a function, and what is known of it.

    ``Model(f)`` makes one of a plain function ``f(x, a, b=1.0)``.  Where all parameters have
    defaults, those are its guess.  ``+``, ``-``, ``*`` and ``/`` of two models, or of a model and
    a plain function, make one of the parameters of both.

    Attributes
    ----------
    function : callable
        ``function(x, *params) -> (m,)``, of one data set, in jax.numpy or NumPy.
    names : tuple of str
        Of the parameters, in their order; from the function's signature where not given.
    guess : callable or None
        ``guess(x, y) -> dict`` of starting parameters of one data set, in jax.numpy.
    bounds : dict
        ``{name: (lower, upper)}`` of the parameters that have some; None is infinite.
    derived : callable
        ``derived(params) -> dict`` of what follows from a dict of the parameters, in jax.numpy.
    units : dict
        ``{name: unit}`` in terms of those of x and y, such as ``"x*y"``; "" for a pure number.
    name : str
        What it is called.
    prefix : str
        In front of the names.

    Raises
    ------
    TypeError, ValueError
        For a function without parameters, or names, a guess or bounds that do not fit it.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxlsq.models import Constant, Model
    >>> def decay(x, height=1.0, rate=1.0):
    ...     return height * jnp.exp(-rate * x)
    >>> model = Model(decay, bounds={"rate": (0.0, None)}) + Constant()
    >>> model.names
    ('height', 'rate', 'c')
    >>> print(model(np.array([0.0, 1.0]), height=2.0, rate=0.0, c=0.5))
    [2.5 2.5]
    """

    function: Callable[..., Any]
    names: tuple[str, ...] = ()
    guess: Callable[..., dict[str, Any]] | None = None
    bounds: Mapping[str, tuple[Any, Any]] = field(default_factory=dict[str, tuple[Any, Any]])
    derived: Callable[[dict[str, Any]], dict[str, Any]] = _nothing
    units: Mapping[str, str] = field(default_factory=dict[str, str])
    name: str = ""
    prefix: str = ""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"function must be callable as f(x, a, b, ...), got {type(self.function).__name__}."
            )
        put = object.__setattr__
        put(self, "names", tuple(self.names) or names_of(self.function))
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names must differ from one another, got {self.names}.")
        if "x" in self.names:
            raise ValueError(
                "a parameter can't be called 'x', as a model's first argument is; give other "
                "names, such as names=('x0',)."
            )
        if self.guess is None:
            put(self, "guess", defaults_of(self.function, self.names))
        put(self, "bounds", dict(self.bounds))
        put(self, "name", self.name or getattr(self.function, "__name__", "model"))
        for what in ("bounds", "units"):
            unknown = [name for name in getattr(self, what) if name not in self.names]
            if unknown:
                raise ValueError(
                    f"{what} names {unknown[0]!r}, but the parameters are {self.names}."
                )
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in ("x", *self.names)]
        put(self, "__signature__", inspect.Signature(parameters))

    def __call__(self, x: Any, *params: Any, **named: Any) -> Any:
        """Its values at x, of parameters in their order or by name.

        Of NumPy's arrays and numbers alone they are NumPy's too, in float64 unless x is narrower,
        whatever JAX's settings: a Julian date in float32 is off by hours.
        """
        values = self._in_order(params, named)
        if not all(isinstance(v, _OF_THE_HOST) for v in jax.tree.leaves((x, values))):
            return as_numpy_would(self.function, x, *values)
        with jax.enable_x64(True):
            x = jax.tree.map(jnp.asarray, np.asarray(x) if isinstance(x, list) else x)
            return np.asarray(as_numpy_would(self.function, x, *values))

    def _in_order(self, params: tuple[Any, ...], named: dict[str, Any]):
        given = dict(zip(self.names, params, strict=False))
        surplus = [name for name in named if name not in self.names or name in given]
        missing = [name for name in self.names if name not in given and name not in named]
        if surplus or missing or len(params) > len(self.names):
            raise TypeError(
                f"{self.name} takes the parameters {self.names}, once each; got {len(params)} "
                f"in order and {tuple(named)} by name."
            )
        return [given[name] if name in given else named[name] for name in self.names]

    def __hash__(self) -> int:
        what = (self.function, self.names, self.guess, self.derived, self.name, self.prefix)
        limits = tuple((name, tuple(self.bounds[name])) for name in sorted(self.bounds))
        return hash((*what, limits, tuple(sorted(self.units.items()))))

    def __repr__(self) -> str:
        prefix = f", prefix {self.prefix!r}" if self.prefix else ""
        return f"<Model {self.name}({', '.join(self.names)}){prefix}>"

    # --- other models of it ---------------------------------------------------------

    def prefixed(self, prefix: str) -> Self:
        """The same model with a prefix in front of all its names.

        Raises
        ------
        TypeError, ValueError
            For what can't begin a name.
        """
        check_prefix(prefix)
        if not prefix:
            return self
        function, guess = self.function, self.guess
        if isinstance(function, (Sum, Tied)):  # whose parts are read by their names
            function = function.prefixed(prefix)
        if isinstance(guess, SumGuess):
            guess = guess.prefixed(prefix)
        else:
            guess = guess and Renamed(guess, prefix)
        return replace(
            self,
            function=function,
            names=tuple(prefix + name for name in self.names),
            guess=guess,
            bounds={prefix + name: pair for name, pair in self.bounds.items()},
            derived=self.derived
            if self.derived is _nothing
            else Renamed(self.derived, prefix, of_params=True),
            units={prefix + name: unit for name, unit in self.units.items()},
            prefix=prefix + self.prefix,
        )

    def tied(self, **ties: str | Callable[[dict[str, Any]], Any]) -> "Model":
        """The same model with parameters that follow from others.

        Parameters
        ----------
        **ties : str or callable
            ``name="other"``, a parameter that it equals, or ``name=lambda p: ...``, a function
            of a dict of those that are left, in jax.numpy.  The name is none of the new model's.

        Raises
        ------
        ValueError, TypeError
            For names that the model does not have or that are tied themselves.

        Examples
        --------
        >>> from jaxlsq.models import Gaussian
        >>> two = Gaussian("p1_") + Gaussian("p2_")
        >>> two.tied(p2_sigma="p1_sigma", p2_center=lambda p: p["p1_center"] + 1.2).names
        ('p1_amplitude', 'p1_center', 'p1_sigma', 'p2_amplitude')
        """
        free = tuple(name for name in self.names if name not in ties)
        for name, source in ties.items():
            if name not in self.names:
                raise ValueError(f"tied names {name!r}, but the parameters are {self.names}.")
            check_tie(name, source, free)
        if not free:
            raise ValueError(f"tied leaves none of the parameters {self.names}; keep one.")
        pairs = tuple(ties.items())
        return Model(
            function=Tied(self, free, pairs),
            names=free,
            guess=self.guess and TiedGuess(self.guess, free),
            bounds={name: pair for name, pair in self.bounds.items() if name in free},
            derived=TiedDerived(self, pairs),
            units={name: unit for name, unit in self.units.items() if name in free},
            name=self.name,
            prefix=self.prefix,
        )

    def convolved(self, response: ArrayLike) -> "Model":
        r"""The same model seen through an instrument whose response was measured.

        .. math:: g(x_i) = \sum_{j=0}^{i} \frac{r_j}{\sum_k r_k} f(x_{i-j})

        It is causal (the response begins at no delay), and its sum is taken for one, so that
        heights and areas keep their meaning.  Both are on one uniform grid, x in rising order,
        and f counts as zero before the first point.  A fit knows its grid: `FitResult.predict`
        sums over that wherever it is asked.

        Parameters
        ----------
        response : (k,) array_like
            Measured at the spacing of x.

        Raises
        ------
        ValueError
            For one that is not a vector of finite numbers with a sum above zero; and when the
            model is called, for an x that is no such grid.  Within a fit its values are then NaN.

        Examples
        --------
        >>> import numpy as np
        >>> from jaxlsq.models import Exponential
        >>> model = Exponential().convolved([0.0, 1.0])
        >>> print(model(np.arange(3.0), amplitude=8.0, decay=1e9).round(3))
        [0. 8. 8.]
        """
        values = np.asarray(response, float)
        good = values.ndim == 1 and values.size > 0 and bool(np.isfinite(values).all())
        if not good or not values.sum() > 0:
            raise ValueError(
                "response must be a vector of finite numbers whose sum is above zero, got shape "
                f"{values.shape}."
            )
        return seen_through(self, tuple(float(v) for v in values / values.sum()))

    @property
    def on_grid(self) -> bool:
        """Whether it, or a part of it, is `convolved`, and so must be called with a grid."""
        return bool(getattr(self.function, "on_grid", False))

    def elsewhere(self, x: Any) -> "Model":
        """The same model at any places; where it is `convolved`, of a response on the grid x."""
        function: Any = self.function
        return replace(self, function=function.elsewhere(x)) if self.on_grid else self

    def components(self, x: Any, **params: Any) -> dict[str, Any]:
        """What it is the sum of, by prefix, or by name where there is none."""
        values = dict(zip(self.names, self._in_order((), params), strict=True))
        if isinstance(self.function, Sum):
            return self.function.components(x, values)
        if isinstance(self.function, Tied):
            return self.function.model.components(x, **self.function.completed(values))
        return {self.prefix or self.name: self(x, **params)}

    # --- arithmetic -----------------------------------------------------------------

    def __add__(self, other: Any) -> "Model":
        return _joined(self, other, "+")

    def __radd__(self, other: Any) -> "Model":
        return _joined(other, self, "+")

    def __sub__(self, other: Any) -> "Model":
        return _joined(self, other, "-")

    def __rsub__(self, other: Any) -> "Model":
        return _joined(other, self, "-")

    def __mul__(self, other: Any) -> "Model":
        return _joined(self, other, "*")

    def __rmul__(self, other: Any) -> "Model":
        return _joined(other, self, "*")

    def __truediv__(self, other: Any) -> "Model":
        return _joined(self, other, "/")

    def __rtruediv__(self, other: Any) -> "Model":
        return _joined(other, self, "/")


def _joined(left: Any, right: Any, sign: str):
    """Of two models, or a model and a plain function."""
    if not callable(left) or not callable(right):
        return NotImplemented
    left, right = (m if isinstance(m, Model) else Model(m) for m in (left, right))
    both = set(left.names) & set(right.names)
    if both:
        raise ValueError(
            f"both models have parameters {sorted(both)}: give them prefixes, such as "
            "Gaussian('p1_') + Gaussian('p2_')."
        )
    models = (left, right)
    if sign in "+-":
        factor = 1.0 if sign == "+" else -1.0
        terms = (*_terms(left, 1.0), *_terms(right, factor))
        function, guess = Sum(terms), SumGuess(terms)
    else:
        function = Product(left, right, sign == "/")
        guess = ProductGuess(left, right, sign == "/")
    return Model(
        function=function,
        names=left.names + right.names,
        guess=guess if all(m.guess is not None for m in models) else None,
        bounds={**left.bounds, **right.bounds},
        derived=SumDerived(models),
        units={} if sign in "*/" else {**left.units, **right.units},
        name=f"({left.name} {sign} {right.name})",
    )


def _terms(model: Model, factor: float):
    """The models that one is the sum of."""
    if isinstance(model.function, Sum):
        return tuple((factor * sign, one) for sign, one in model.function.terms)
    return ((factor, model),)
