"""`curvefit` with the signature, the names and the rules of xarray's own."""

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from keyword import iskeyword
from numbers import Real
from typing import Any, NoReturn

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from jaxlsq.problem.names import unknown_name
from jaxlsq.results.result import FitResult
from jaxlsq.status import Status
from jaxlsq.tracing.arguments import POSITIONAL, parameters_of
from jaxlsq.xarray.blocks import Output, Part, fitted
from jaxlsq.xarray.places import as_dims, check_dims, numbers, over_points

__all__ = ["curvefit"]

# SciPy's names of what `fit` has under another one.
RENAMED = {"maxfev": "max_nfev", "max_nfev": "max_nfev"}
PASSED = (
    *("absolute_sigma", "ftol", "xtol", "gtol", "x_scale", "jac", "loss", "f_scale"),
    *("sigma", "workers", "starts", "polish"),
)
WITHOUT_MEANING = ("method", "check_finite")
UNEXPECTED = (
    "{what} for '{name}' has unexpected dimensions {{unexpected}}. It should only have dimensions "
    "that are in data dimensions {{allowed}}."
)


def curvefit(
    obj: xr.DataArray | xr.Dataset,
    coords: Any,
    func: Callable[..., Any],
    reduce_dims: Any = None,
    skipna: bool = True,
    p0: Mapping[Any, Any] | None = None,
    bounds: Mapping[Any, tuple[Any, Any]] | None = None,
    param_names: Sequence[Hashable] | None = None,
    errors: str = "raise",
    kwargs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    r"""Fit a curve to every series of an array, as ``DataArray.curvefit`` does it.

    .. math:: \min_{p_i} \sum_j \left(f(x_j, p_i) - y_{ij}\right)^2 \quad \text{for every series } i

    Parameters
    ----------
    obj : DataArray or Dataset
        Dask's arrays stay lazy; the dims that are fitted over must be in one chunk.
    coords : str, DataArray, or several of them
        The model's variables; with several it is given ``(x0, x1)``, each of all points.
    func : callable
        ``func(x, *params)``, in jax.numpy, NumPy, or any Python, as `jaxlsq.fit` takes it.
    reduce_dims : str or several, optional
        Dims that are fitted over besides those of the coordinates: their points are pooled.
    skipna : bool
        Whether missing points are left out; a series of nothing else has NaN for parameters.
    p0 : dict of numbers or DataArrays, optional
        Starting values of some parameters.  The others' are the defaults in the signature of
        `func`, or 1; inside of the bounds, where that is outside.
    bounds : dict of pairs of numbers or DataArrays, optional
    param_names : sequence, optional
        Those in the signature of `func` after the first, if not given.
    errors : {'raise', 'ignore'}
        Whether a fit that fails raises, or has NaN for its parameters.
    kwargs : dict, optional
        Of SciPy's `curve_fit` and `jaxlsq.fit`: ``maxfev ftol xtol gtol sigma absolute_sigma jac
        loss f_scale x_scale starts polish workers``.  A `sigma` that is a DataArray may have any
        of the data's dims.

    Returns
    -------
    Dataset
        ``curvefit_coefficients``, with the dim ``param``, and ``curvefit_covariance``, with
        ``cov_i`` and ``cov_j``, which takes no notice of bounds that hold; of a Dataset, for each
        variable, with ``<variable>_`` in front.

    Raises
    ------
    RuntimeError
        For a fit that fails, if `errors` says so: of Dask's arrays when they are computed.
    ValueError, TypeError
        For improper input.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from jaxlsq.xarray import curvefit
    >>> t = np.linspace(0, 4, 50)
    >>> tau = np.array([0.5, 1.0, 2.0])
    >>> decays = xr.DataArray(3 * np.exp(-t / tau[:, None]), {"t": t}, ("x", "t"))
    >>> out = curvefit(decays, "t", lambda t, a, tau: a * np.exp(-t / tau))
    >>> out.curvefit_coefficients.sel(param="tau").values.round(6)
    array([0.5, 1. , 2. ])
    """
    if errors not in ("raise", "ignore"):
        raise ValueError(f"errors must be either 'raise' or 'ignore', got {errors!r}.")
    options, sigma = _options(kwargs or {})
    variables, dims = _places(obj, coords, reduce_dims)
    kept = [dim for dim in obj.dims if dim not in dims]
    p0, bounds = _by_name(p0, "p0"), _by_name(bounds, "bounds")
    names, defaults = _parameters(func, param_names)
    for name in (*p0, *bounds):
        if name not in names:
            raise ValueError(unknown_name(name, names, "p0" if name in p0 else "bounds"))
    inputs = _starts(names, defaults, p0, bounds, kept)
    options |= {"nan_policy": "omit" if skipna else "propagate"}
    n = len(names)
    outputs = [
        Output(("param",), (n,), np.float64),
        Output(("cov_i", "cov_j"), (n, n), np.float64),
    ]
    arrays = obj.data_vars if isinstance(obj, xr.Dataset) else {None: obj}
    _check_variables(arrays, dims)
    own = _internal(names)
    made = {}
    for key, data in arrays.items():
        parts = dict(inputs)
        for number, variable in enumerate(variables):
            parts["xdata", number] = over_points(variable, data, dims, "coords")
        if sigma is not None:
            parts["sigma", None] = _weights(sigma, data, dims)
        read = _Read(errors == "raise")
        several = len(variables) > 1
        data = _with_dims_of(parts, data, dims)
        values = fitted(_Renamed(func, own), data, dims, parts, options, outputs, read, several)
        front = "" if key is None else f"{key}_"
        made[f"{front}curvefit_coefficients"], made[f"{front}curvefit_covariance"] = values
    places = dict.fromkeys(("param", "cov_i", "cov_j"), names)
    return xr.Dataset(made, attrs=obj.attrs).assign_coords(places)


@dataclass(frozen=True)
class _Renamed:
    """The user's function with parameters that have names: its own may not."""

    func: Callable[..., Any]
    names: tuple[str, ...]

    @property
    def __signature__(self):
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        first = "x" if "x" not in self.names else "".join(("x_", *self.names))
        names = [first, *self.names]
        return inspect.Signature([inspect.Parameter(name, kind) for name in names])

    def __call__(self, x: Any, /, **params: Any):
        return self.func(x, *(params[name] for name in self.names))


def _internal(names: Sequence[Hashable]) -> tuple[str, ...]:
    """Names that Python's functions may have: the user's where those are such, for messages."""
    words = [name for name in names if isinstance(name, str) and name.isidentifier()]
    if len(set(words)) == len(names) and not any(map(iskeyword, words)):
        return tuple(words)
    return tuple(f"p{number}" for number in range(len(names)))


def _by_name(values: Any, name: str) -> dict[Any, Any]:
    """A dict of what is said of some parameters."""
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(
            f"{name} must be a dict with the names of parameters, got {type(values).__name__}."
        )
    return dict(values or {})


def _check_variables(arrays: Mapping[Any, xr.DataArray], dims: Sequence[Hashable]):
    """Raise ValueError for a Dataset's variable that lacks one of the dims of the points."""
    for key, data in arrays.items():
        missing = [dim for dim in dims if dim not in data.dims]
        if missing:
            raise ValueError(
                f"the variable {key!r} has the dims {tuple(data.dims)}, and is to be fitted along "
                f"{', '.join(map(repr, missing))}; leave it out with drop_vars."
            )


def _with_dims_of(
    parts: Mapping[Part, Any], data: xr.DataArray, dims: Sequence[Hashable]
) -> xr.DataArray:
    """A Dataset's variable, repeated along dims of starts and bounds that others of it have."""
    sizes: dict[Hashable, int] = {}
    for value in parts.values():
        if isinstance(value, xr.DataArray):
            sizes |= {d: value.sizes[d] for d in value.dims if d not in (*data.dims, *dims)}
    kept = [dim for dim in data.dims if dim not in dims]
    return data.expand_dims(sizes).transpose(*kept, *sizes, *dims) if sizes else data


@dataclass(frozen=True)
class _Read:
    """Coefficients and covariances; NaN where a fit failed, or an error."""

    strict: bool

    def __call__(self, result: FitResult) -> tuple[NDArray[Any], NDArray[Any]]:
        # SciPy returns parameters that the data do not determine, with an infinite covariance.
        good = result.success | (result.status == Status.SINGULAR_JACOBIAN)
        bad = ~good & ~result.masked_out
        if self.strict and bad.any():
            place = tuple(map(int, np.argwhere(bad)[0])) if bad.ndim else ()
            _raise(result, place, int(np.count_nonzero(bad)))
        x = np.where(good[..., None], result.x, np.nan)
        # SciPy's covariance takes no notice of bounds that hold.
        free = result
        if result.active_mask.any():
            free = replace(result, active_mask=np.zeros_like(result.active_mask))
        cov = np.where(good[..., None, None], free.cov, np.nan)
        return x, cov


def _raise(result: FitResult, place: tuple[int, ...], count: int) -> NoReturn:
    message = result.message(place)
    where = f" (fit {place} of {result.shape}; {count} failed in all)" if result.shape else ""
    status = result.status[place]
    if status == Status.NONFINITE_DATA:
        raise ValueError(f"array must not contain infs or NaNs.{where}")
    if status == Status.MAX_NFEV:
        message = "Number of calls to function has reached maxfev; pass a larger one in kwargs."
    raise RuntimeError(f"Optimal parameters not found: {message}{where}")


def _options(kwargs: Mapping[str, Any]):
    """Options of `fit`, and sigma, from those of SciPy's `curve_fit`."""
    unknown = [k for k in kwargs if k not in (*RENAMED, *PASSED, *WITHOUT_MEANING)]
    if unknown:
        known = (*RENAMED, *PASSED, *WITHOUT_MEANING)
        raise TypeError(f"kwargs has {unknown[0]!r}, which is none of {', '.join(known)}.")
    method = kwargs.get("method")
    if method not in (None, "lm", "trf", "dogbox"):
        raise ValueError(f"kwargs' method must be 'lm', 'trf' or 'dogbox', got {method!r}.")
    options = {RENAMED.get(k, k): v for k, v in kwargs.items() if k not in WITHOUT_MEANING}
    return options, options.pop("sigma", None)


def _places(obj: xr.DataArray | xr.Dataset, coords: Any, reduce_dims: Any):
    """The model's variables, and the dims of the points."""
    if isinstance(coords, (str, xr.DataArray)) or not isinstance(coords, Iterable):
        coords = [coords]
    variables = [c if isinstance(c, xr.DataArray) else obj[c] for c in coords]
    dims = list(as_dims(reduce_dims))
    for dim in dims:
        if dim not in obj.dims:
            raise ValueError(f"reduce_dims has {dim!r}, and the dims are {tuple(obj.dims)}.")
    for variable in variables:
        dims += [dim for dim in obj.dims if dim not in dims and variable.equals(obj[dim])]
    if not dims:
        raise ValueError(
            "No arguments to `coords` were identified as a dimension on the calling object, and "
            "no dims were supplied to `reduce_dims`. This would result in fitting on scalar data."
        )
    return [numbers(variable) for variable in variables], dims


def _parameters(func: Callable[..., Any], param_names: Sequence[Hashable] | None):
    """Names of the parameters, and the defaults of those that have some."""
    found = parameters_of(func)
    if param_names is None:
        if found is None:
            raise ValueError(
                "Unable to inspect `func` signature, and `param_names` was not provided."
            )
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in found):
            raise ValueError(
                "`param_names` must be provided because `func` takes variable length arguments."
            )
        param_names = [p.name for p in found if p.kind in POSITIONAL]
    names = list(param_names)
    if not names:
        raise ValueError("`func` has no parameters after its first argument.")
    given = {p.name: p.default for p in found or () if isinstance(p.default, Real)}
    return names, given


def _starts(
    names: list[Hashable],
    defaults: Mapping[Any, Any],
    p0: Mapping[Any, Any],
    bounds: Mapping[Any, tuple[Any, Any]],
    kept: Iterable[Hashable],
):
    """Inputs for starting values and bounds."""
    inputs: dict[Part, Any] = {}
    for name, own in zip(names, _internal(names), strict=True):
        check_dims(p0.get(name), kept, UNEXPECTED.format(what="Initial guess", name=name))
        lower, upper = _sides(bounds.get(name, (None, None)), name)
        for side, what in ((lower, "Lower"), (upper, "Upper")):
            check_dims(side, kept, UNEXPECTED.format(what=f"{what} bound", name=name))
        start = p0.get(name)
        if start is None:
            start = _feasible(defaults.get(name, 1.0), lower, upper)
        inputs["p0", own] = start
        if name in bounds:
            inputs["lower", own], inputs["upper", own] = lower, upper
    return inputs


def _sides(pair: Any, name: Hashable) -> tuple[Any, Any]:
    """The lower and the upper bound of a parameter; None is infinite."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"bounds[{name!r}] must be a pair (lower, upper), got {pair!r}.")
    lower, upper = pair
    return -np.inf if lower is None else lower, np.inf if upper is None else upper


def _feasible(start: Any, lower: Any, upper: Any) -> Any:
    """A start inside of bounds: their middle if both are finite, else one off the one that is."""
    low, high = (np.isfinite(side) for side in (lower, upper))
    labelled = any(isinstance(value, xr.DataArray) for value in (start, lower, upper))
    where: Any = xr.where if labelled else np.where
    one_sided = where(low, lower + 1.0, where(high, upper - 1.0, start))
    inside = where(low & high, _middle(lower, upper), one_sided)
    moved = where((start < lower) | (start > upper), inside, start)
    return moved if isinstance(moved, xr.DataArray) and moved.ndim else np.asarray(moved)[()]


def _middle(lower: Any, upper: Any):
    with np.errstate(invalid="ignore"):  # of infinite ones, which is not taken
        return 0.5 * (lower + upper)


def _weights(sigma: Any, data: xr.DataArray, dims: Sequence[Hashable]):
    """Standard deviations of the points."""
    if not isinstance(sigma, xr.DataArray):
        return sigma
    check_dims(sigma, data.dims, "sigma has the dims {unexpected}, and the data {allowed}.")
    return over_points(sigma, data, dims, "sigma")
