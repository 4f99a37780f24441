"""`fit` on blocks of labelled arrays: in memory at once, and lazily where they are Dask's."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from jaxlsq.api.fit import fit
from jaxlsq.problem.readings import EACH, SHARED, Leaf
from jaxlsq.problem.types import Batch
from jaxlsq.results.result import FitResult

__all__ = ["Output", "Part", "fitted", "is_lazy"]

# Where an input goes: an argument of `fit`, and which of its parts.
Part = tuple[str, Any]
# Arguments whose arrays have the dims of the points.
OF_POINTS = ("xdata", "xsigma", "sigma", "mask", "f_scale")


class Output(NamedTuple):
    """What is made of a block's result: an array of the batch's shape, with more dims behind."""

    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    dtype: type


@dataclass(frozen=True)
class _Block:
    """`fit` of one block, as a function of arrays alone.

    Attributes
    ----------
    model : callable
    parts : tuple of Part
        Of all inputs, in their order.
    constants : dict of Part
        Values of those that are the same in every block; the arrays are the others'.
    options : dict
        Of `fit`.
    read : callable
        ``read(result) -> tuple of arrays``.
    points : int
        How many axes of the data are those of the points.
    several : bool
        Whether x are several variables, one after the other.
    """

    model: Callable[..., Any]
    parts: tuple[Part, ...]
    constants: dict[Part, Any]
    options: dict[str, Any]
    read: Callable[[FitResult], tuple[NDArray[Any], ...]]
    points: int
    several: bool

    def __call__(self, y: NDArray[Any], *arrays: NDArray[Any]) -> Any:
        y = np.asarray(y)
        batch = y.shape[: y.ndim - self.points]
        rest = iter(arrays)
        arguments: dict[str, Any] = {}
        for part in self.parts:
            name, key = part
            if part in self.constants:
                value = self.constants[part]
            else:
                value = self._of_block(part, np.asarray(next(rest)), batch)
            if key is None:
                arguments[name] = value
            else:
                arguments.setdefault(name, {})[key] = value
        x = list(arguments.pop("xdata").values())
        if "xsigma" in arguments:
            arguments["xsigma"] = self._xsigma(list(arguments["xsigma"].values()), x, batch)
        lower, upper = arguments.pop("lower", {}), arguments.pop("upper", {})
        if lower:
            arguments["bounds"] = {name: (lower[name], upper[name]) for name in lower}
        y = y.reshape(*batch, math.prod(y.shape[y.ndim - self.points :]))
        return self.read(fit(self.model, self._x(x, batch), y, **self.options, **arguments))

    def _of_block(self, part: Part, array: NDArray[Any], batch: Batch):
        """An array with the block's axes in front, and the points' in one."""
        points = self.points if part[0] in OF_POINTS else 0
        front = array.shape[: array.ndim - points]
        tail = (math.prod(array.shape[array.ndim - points :]),) if points else ()
        if all(size == 1 for size in front) and points:  # the same for all
            return array.reshape(-1)
        front = (1,) * (len(batch) - len(front)) + front
        array = array.reshape(*front, *tail)
        return np.broadcast_to(array, (*batch, *array.shape[len(front) :]))

    def _x(self, variables: list[NDArray[Any]], batch: Batch):
        """One variable, or several stacked: shared, or with the batch in front."""
        shared = all(x.ndim == 1 for x in variables)
        reading = SHARED if shared else EACH
        if not self.several:
            return Leaf(variables[0], reading)
        if shared:
            return Leaf(np.stack(variables), reading)
        shape = (*batch, variables[0].shape[-1])
        return Leaf(np.stack([np.broadcast_to(x, shape) for x in variables], axis=-2), reading)

    def _xsigma(self, sigmas: list[Any], variables: list[NDArray[Any]], batch: Batch):
        """Standard deviations of one variable, or of several, stacked as those are."""
        if not self.several:
            return sigmas[0]
        each = any(np.ndim(one) > 1 for one in (*sigmas, *variables))
        shape = (*(batch if each else ()), variables[0].shape[-1])
        return np.stack([np.broadcast_to(one, shape) for one in sigmas], axis=-2)


def is_lazy(array: xr.DataArray) -> bool:
    """Whether an array is computed when it is asked for."""
    return array.chunks is not None


def fitted(
    model: Callable[..., Any],
    data: xr.DataArray,
    dims: Sequence[Any],
    inputs: Mapping[Part, Any],
    options: Mapping[str, Any],
    outputs: Sequence[Output],
    read: Callable[[FitResult], tuple[NDArray[Any], ...]],
    several: bool,
) -> tuple[xr.DataArray, ...]:
    """Arrays that are read off the fits of one array, lazily if that is Dask's.

    Parameters
    ----------
    model : callable
    data : DataArray
    dims : sequence
        Of the points.
    inputs : dict
        By `Part`: x, sigma, starts, bounds; DataArrays, or what is the same for all.
    options : dict
        Of `fit`.
    outputs : sequence of Output
    read : callable
        ``read(result)``, an array for each of the outputs.
    several : bool
        Whether x are several variables.

    Raises
    ------
    ValueError
        If fits start from neighbours and chunks part those.
    """
    dims, options = list(dims), dict(options)
    arrays, constants = {}, {}
    for part, value in inputs.items():
        if isinstance(value, xr.DataArray) and (set(value.dims) - set(dims) or is_lazy(value)):
            arrays[part] = value
        else:
            constants[part] = _constant(part, value, dims)
    if is_lazy(data):
        _check_whole(data, dims, options)
        options = {"workers": 1} | options  # a worker of Dask is one thread
        arrays = {part: _in_chunks_of(data, array) for part, array in arrays.items()}
    else:
        arrays = {part: array.compute() for part, array in arrays.items()}
    block = _Block(model, tuple(inputs), constants, options, read, len(dims), several)
    core = [dims if part[0] in OF_POINTS else [] for part in arrays]
    made = xr.apply_ufunc(
        block,
        data,
        *arrays.values(),
        input_core_dims=[dims, *core],
        output_core_dims=[list(output.dims) for output in outputs],
        exclude_dims=set(dims),
        keep_attrs=False,
        dask="parallelized",
        output_dtypes=[output.dtype for output in outputs],
        dask_gufunc_kwargs={
            "output_sizes": {
                dim: size
                for output in outputs
                for dim, size in zip(output.dims, output.sizes, strict=True)
            },
        },
    )
    # Coordinates stay with their attributes; the data's are not those of what was fitted.
    kept = {k: one for k, one in data.coords.items() if not set(one.dims) & set(dims)}
    return tuple(_without_strays(array, kept).assign_coords(kept) for array in made)


def _check_whole(data: xr.DataArray, dims: Sequence[Hashable], options: Mapping[str, Any]):
    """Raise ValueError where fits start from neighbours that are in other chunks."""
    cut = [dim for dim, sizes in data.chunksizes.items() if dim not in dims and len(sizes) > 1]
    if cut and isinstance(options.get("starts"), str):
        raise ValueError(
            f"starts={options['starts']!r} needs neighbours in one chunk, and the data have "
            f"several along {', '.join(map(repr, cut))}; use .chunk() or .compute() first."
        )


def _without_strays(array: xr.DataArray, kept: Iterable[Hashable]):
    """Without what is said of an input alone: of a start ``data.isel(time=0)``, its time."""
    return array.drop_vars([k for k in array.coords if k not in kept and k not in array.dims])


def _in_chunks_of(data: xr.DataArray, array: xr.DataArray):
    """An array with the data's chunks along the dims that both have."""
    return array.chunk({dim: data.chunksizes[dim] for dim in array.dims if dim in data.dims})


def _constant(part: Part, value: Any, dims: Sequence[Hashable]) -> Any:
    """What is the same in every block, as `fit` takes it."""
    if not isinstance(value, xr.DataArray):
        return value
    if part[0] in OF_POINTS:
        return value.transpose(*dims).to_numpy().reshape(-1)
    return value.to_numpy()[()]
