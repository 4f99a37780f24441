"""``da.lsq.fit``: fits of a DataArray, with parameters as a Dataset."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from jaxlsq.problem.captions import units_of
from jaxlsq.problem.fit_data import FitArguments, read
from jaxlsq.problem.settings import Settings
from jaxlsq.results.result import FitResult
from jaxlsq.results.tables import flags, free_names
from jaxlsq.xarray.blocks import Output, Part, fitted
from jaxlsq.xarray.places import as_dims, check_dims, numbers, over_points

__all__ = ["LeastSquaresAccessor"]

# What is said of the data's values, and not of what was fitted to them.
OF_VALUES = ("units", "long_name", "standard_name", "valid_range", "scale_factor", "add_offset")
PER_FIT: dict[str, type] = {
    "success": np.bool_,
    "status": np.int32,
    "cost": np.float64,
    "redchi": np.float64,
    "nfev": np.int32,
    "dof": np.int32,
    "at_bound": np.bool_,
}
OF_MODEL = ("absolute_sigma", "expand", "linear", "loss", "f_scale", "jac", "x_errors")


@xr.register_dataarray_accessor("lsq")
class LeastSquaresAccessor:
    """The accessor ``lsq`` of a DataArray, which ``import jaxlsq.xarray`` registers."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def fit(
        self,
        model: Callable[..., Any],
        dim: Hashable | Sequence[Hashable],
        p0: Any = None,
        *,
        x: Any = None,
        sigma: Any = None,
        xsigma: Any = None,
        mask: Any = None,
        bounds: Any = None,
        fixed: Any = None,
        skipna: bool = True,
        cov: bool = False,
        **options: Any,
    ) -> xr.Dataset:
        """Fit a model along a dim, for every element of all others.

        Arrays of Dask stay lazy: each block is fitted when it is computed, and `dim` must be in
        one chunk.

        Parameters
        ----------
        model : callable
            ``model(x, *params)`` for one series, as `jaxlsq.fit` takes it.
        dim : str or sequence of str
            Of the points.  With several, the model is given ``(x0, x1)``, each of all points.
        p0 : sequence, dict, Dataset or callable, optional
            As for `jaxlsq.fit`; values by name may be DataArrays with the other dims.
        x : DataArray or sequence of DataArrays, optional
            What the model is given, if not the coordinates of `dim`; may have the other dims too.
        sigma, mask : DataArray or array, optional
            With any of the array's dims.
        xsigma : DataArray, number or sequence of those, optional
            Standard deviations of `x`, with any of the array's dims: one for each variable where
            there are several, zero for those that are exact.
        bounds, fixed : optional
            As for `jaxlsq.fit`; values by name may be DataArrays with the other dims.
        skipna : bool
            Whether missing points are left out; if not, they end their fit.
        cov : bool
            Whether there is the covariance too, with the dims ``param_i`` and ``param_j``.
        **options
            Others of `jaxlsq.fit`.

        Returns
        -------
        Dataset
            A variable for each parameter and for its standard error (``<name>_stderr``), and
            ``success``, ``status`` (whose attributes say what its codes mean), ``cost``,
            ``redchi``, ``nfev``, ``dof`` and ``at_bound`` (a parameter that ended at a bound has
            an error of zero).  A fit that failed has its status, and its last good
            parameters: ``out.where(out.success)`` leaves it out.

        Raises
        ------
        ValueError, TypeError
            For improper input, before anything is computed.

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import xarray as xr
        >>> import jaxlsq.xarray
        >>> t = np.linspace(0, 4, 50)
        >>> k = np.array([0.5, 1.0, 2.0])
        >>> decays = xr.DataArray(3 * np.exp(-k[:, None] * t), {"t": t}, ("pixel", "t"))
        >>> out = decays.lsq.fit(lambda t, a, k: a * jnp.exp(-k * t), "t", p0={"a": 1, "k": 1})
        >>> out.k.values.round(6)
        array([0.5, 1. , 2. ])
        """
        data, dims = self._array, as_dims(dim)
        for one in dims:
            if one not in data.dims:
                raise ValueError(f"dim has {one!r}, and the array's dims are {tuple(data.dims)}.")
        if not dims:
            raise ValueError("dim names no dim; the points must be along one at least.")
        _check_options(options)
        kept = [one for one in data.dims if one not in dims]
        variables = _variables(data, dims, x)
        options |= {"nan_policy": "omit" if skipna else "propagate"}
        inputs: dict[Part, Any] = {}
        for number, variable in enumerate(variables):
            inputs["xdata", number] = over_points(variable, data, dims, "x")
        for name, value in (("sigma", sigma), ("mask", mask)):
            if value is not None:
                inputs[name, None] = _of_points(value, name, data, dims)
        for number, value in enumerate(_sigmas(xsigma, len(variables))):
            inputs["xsigma", number] = _of_points(value, "xsigma", data, dims)
        for name, value in (("p0", p0), ("fixed", fixed)):
            inputs |= _by_name(name, value, kept)
        inputs |= _bounds(bounds, kept)
        several = len(variables) > 1
        names = _names(model, data.dtype, len(variables), inputs, options)
        outputs, keys = _outputs(names, cov, {*data.coords, *kept})
        made = fitted(model, data, dims, inputs, options, outputs, _Read(len(names), cov), several)
        attrs = {k: v for k, v in data.attrs.items() if k not in OF_VALUES}
        out = xr.Dataset(dict(zip(keys, made, strict=True)), attrs=attrs)
        if cov:
            out = out.assign_coords(param_i=list(names), param_j=list(names))
        out.status.attrs |= flags()
        own = dict(zip(names, keys[: 2 * len(names) : 2], strict=True))
        _add_units(out, model, own, data, variables[0])
        return out


@dataclass(frozen=True)
class _Read:
    """The arrays of a block's result, in the order of `_outputs`."""

    n: int
    cov: bool

    def __call__(self, result: FitResult) -> tuple[NDArray[Any], ...]:
        cov = result.cov
        errors = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
        parts = [a[..., j].astype(float) for j in range(self.n) for a in (result.x, errors)]
        parts += [getattr(result, name).astype(kind) for name, kind in PER_FIT.items()]
        return (*parts, cov) if self.cov else tuple(parts)


def _check_options(options: Mapping[str, Any]):
    """Raise TypeError or ValueError for what is no option of `fit`, or has an improper value."""
    known = [field.name for field in fields(Settings)]
    for name in options:
        if name not in (*known, *OF_MODEL):
            near = get_close_matches(name, (*known, *OF_MODEL), 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"fit has no option {name!r}.{hint}")
    Settings.of(**{name: options[name] for name in known if name in options})


def _outputs(
    names: tuple[str, ...], cov: bool, taken: Iterable[Hashable]
) -> tuple[list[Output], list[str]]:
    """`Output` of each variable, and its name; ``_param`` where one is taken."""
    own = free_names(names, {*taken, *PER_FIT, "cov", "param_i", "param_j"})
    keys = [key for name in own for key in (name, f"{name}_stderr")] + list(PER_FIT)
    kinds = [np.float64] * (2 * len(names)) + list(PER_FIT.values())
    outputs = [Output((), (), kind) for kind in kinds]
    if cov:
        pair = ("param_i", "param_j")
        outputs.append(Output(pair, (len(names), len(names)), np.float64))
        keys.append("cov")
    return outputs, keys


def _variables(data: xr.DataArray, dims: Sequence[Hashable], x: Any):
    """What the model is given: the coordinates of the points, or what is said."""
    if x is None:
        return [numbers(data[dim]) for dim in dims]
    given = x if isinstance(x, (list, tuple)) else [x]
    variables = [data[one] if isinstance(one, str) else one for one in given]
    for number, variable in enumerate(variables):
        if not isinstance(variable, xr.DataArray):
            shape = np.shape(variable)
            if len(dims) != 1 or shape != (data.sizes[dims[0]],):
                raise ValueError(
                    f"x must be a DataArray, or have the shape {(data.sizes[dims[0]],)} of "
                    f"{dims[0]!r}; got shape {shape}."
                )
            variables[number] = xr.DataArray(variable, dims=dims)
        check_dims(
            variables[number], data.dims, "x has the dims {unexpected}, and the data {allowed}."
        )
    return [numbers(variable) for variable in variables]


def _of_points(value: Any, name: str, data: xr.DataArray, dims: Sequence[Hashable]):
    if not isinstance(value, xr.DataArray):
        return value
    check_dims(value, data.dims, f"{name} has the dims {{unexpected}}, and the data {{allowed}}.")
    return over_points(value, data, dims, name)


def _sigmas(xsigma: Any, count: int) -> list[Any]:
    """Standard deviations of each of the variables; none where they are exact."""
    if xsigma is None:
        return []
    if count == 1:
        return [xsigma]
    if not isinstance(xsigma, (list, tuple)) or len(xsigma) != count:
        raise ValueError(
            f"xsigma must be a sequence of {count}, one for each of the variables that the model "
            f"is given, and zero for an exact one; got {type(xsigma).__name__}."
        )
    return list(xsigma)


def _by_name(name: str, value: Any, kept: Sequence[Hashable]) -> dict[Part, Any]:
    """Inputs by parameter, where values are given by name; one for all else."""
    if isinstance(value, xr.Dataset):
        value = dict(value.data_vars)
    if not isinstance(value, Mapping):
        return {} if value is None else {(name, None): value}
    message = f"{name} for '{{key}}' has the dims {{{{unexpected}}}}, of {{{{allowed}}}} it may."
    for key, one in value.items():
        check_dims(one, kept, message.format(key=key))
    return {(name, key): one for key, one in value.items()}


def _bounds(bounds: Any, kept: Sequence[Hashable]) -> dict[Part, Any]:
    if not isinstance(bounds, Mapping):
        return {} if bounds is None else {("bounds", None): bounds}
    inputs: dict[Part, Any] = {}
    for key, pair in bounds.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(f"bounds[{key!r}] must be a pair (lower, upper), got {pair!r}.")
        for side, value, infinite in zip(("lower", "upper"), pair, (-np.inf, np.inf), strict=True):
            check_dims(
                value, kept, f"bounds of '{key}' have the dims {{unexpected}}, not of {{allowed}}."
            )
            inputs[side, key] = infinite if value is None else value
    return inputs


def _names(
    model: Callable[..., Any],
    dtype: Any,
    variables: int,
    inputs: Mapping[Part, Any],
    options: Mapping[str, Any],
):
    """Names of the parameters, of one short series: what is improper is said here."""
    one = np.float32 if dtype == np.float32 else np.float64
    x = np.linspace(1.0, 2.0, 4, dtype=one)
    p0 = {key: 1.0 for name, key in inputs if name == "p0" and key is not None}
    p0 = p0 or inputs.get(("p0", None))
    usual: dict[str, Any] = {
        "absolute_sigma": False,
        "expand": None,
        "loss": "linear",
        "jac": "jacfwd",
    }
    others = {key: options[key] for key in OF_MODEL if key in options and key != "f_scale"}
    data = read(
        FitArguments(
            model=model,
            xdata=x if variables == 1 else np.stack([x] * variables),
            ydata=np.ones(4, one),
            p0=p0,
            sigma=1.0 if ("sigma", None) in inputs else None,
            xsigma=1.0 if ("xsigma", 0) in inputs else None,
            mask=None,
            nan_policy="omit",
            bounds=None,
            fixed=None,
            **(usual | others),
            f_scale=1.0,
        )
    )
    return data.names


def _add_units(
    out: xr.Dataset,
    model: Callable[..., Any],
    names: Mapping[str, str],
    data: xr.DataArray,
    x: xr.DataArray,
):
    """Units of parameters, where the model says what they are in, and the data have some.

    `names` says by parameter what its variable is called.
    """
    own = [str(of.attrs.get("units") or "") for of in (x, data)]
    for name, units in units_of(model, *own).items():
        if name in names:
            for key in (names[name], f"{names[name]}_stderr"):
                out[key].attrs["units"] = units
