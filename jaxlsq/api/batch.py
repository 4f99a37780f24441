"""`fit` and `least_squares_batch`: thousands to millions of problems from the host."""

import inspect
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.batches import Group
from jaxlsq.inputs import (
    Start,
    as_array_like,
    as_start,
    as_tree_start,
    batch_options,
    broadcast_source,
    float_dtype,
    is_ragged,
    per_lane,
    split_data,
)
from jaxlsq.numerics.jacobian import METHODS
from jaxlsq.params import Layout
from jaxlsq.problems import Problem, Settings
from jaxlsq.program import Task
from jaxlsq.schedule.sources import Source

__all__ = ["fit", "least_squares_batch"]

NAN_POLICIES = ("propagate", "omit", "raise")


def fit(
    model,
    xdata,
    ydata,
    p0,
    *,
    sigma=None,
    absolute_sigma=False,
    mask=None,
    nan_policy="propagate",
    bounds=None,
    fixed=None,
    loss="linear",
    jac="jacfwd",
    ftol=None,
    xtol=None,
    gtol=0.0,
    x_scale=None,
    max_nfev=None,
    starts=1,
    polish=None,
    progress=False,
):
    r"""Fit one model to many data sets.

    .. math:: \min_{p_i} \tfrac12 \sum_j \left(\frac{f(x_j, p_i) - y_{ij}}{\sigma_{ij}}\right)^2
              \quad \text{for every data set } i

    Parameters
    ----------
    model : callable
        ``model(x, *params) -> (m,)``, or ``model(x, **params)`` where `p0` is a dict; for one
        data set, written in jax.numpy.
    xdata : (m,), (d, m) or (..., m) array, or pytree of those
        Passed to the model.  An array whose shape begins with the batch's shape (and goes on)
        is per data set, and so is a list of arrays where `ydata` is one; anything else is
        shared.  To share one that looks as if it were per data set, put axes of length one
        in front for the batch's.
    ydata : (..., m) array, or list of 1-D arrays
        The data, with any batch shape in front.  Anything with `shape`, `dtype` and slicing
        is read in blocks: NumPy, JAX, memmap, HDF5, zarr.  A list of arrays of different
        lengths is fitted in groups of similar length.
    p0 : (n,) or (..., n) array, dict of numbers or (...) arrays, or callable
        Starting parameters, shared or per data set.  A callable is ``guess(x, y)`` of one
        data set, in jax.numpy, and returns an (n,) array or a dict of numbers.
    sigma : array_like, optional
        Standard deviations of the data; broadcasts to `ydata`.
    absolute_sigma : bool
        Whether `sigma` is in the units of the data; if not, `FitResult.cov` is scaled so that
        the reduced chi-squared is one.
    mask : bool array_like, optional
        True for points that count; broadcasts to `ydata`.
    nan_policy : {'propagate', 'omit', 'raise'}
        What a NaN in `ydata` does: end its fit with NONFINITE_DATA; count as masked; raise.
    bounds, fixed, loss
        Not yet: only their defaults.
    jac : str or callable
        'jacfwd', 'jacrev', '2-point', '3-point', or ``jac(x, *params) -> (m, n)`` of the model.
    ftol, xtol, gtol : float, optional
        Tolerances, as for `leastsq`; None for 1.5e-8 in float64 and 1e-5 in float32.
    x_scale : (n,) array_like, optional
        Typical size of each parameter; None for MINPACK's scaling.
    max_nfev : int, optional
        Limit on evaluations of each fit, ``100 (n + 1)`` if not given.
    starts : int or array
        How many starts each fit has, `p0` and others around it; or further starts, (k, n) or
        (..., k, n).  The best is returned.
    polish : {None, 'float64'}
        Go on in float64 from what float32 found, where that is not exact.
    progress : bool or callable
        Show a bar, or call ``progress(done, total)``.

    Returns
    -------
    FitResult
        Arrays with the batch's shape in front.  A failed fit has its own `status`, and its
        last good parameters.

    Raises
    ------
    ValueError, TypeError
        For improper input, before anything is compiled.
    NotImplementedError
        For `bounds`, `fixed` and `loss`.

    Notes
    -----
    float32 data are computed in float32, all others in float64, whatever JAX's settings.
    Ctrl-C ends the run with what is done; the rest has the status INTERRUPTED.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from jaxlsq import fit
    >>> t = np.linspace(0, 4, 50)
    >>> rates = np.array([0.5, 1.0, 2.0])
    >>> y = 3.0 * np.exp(-rates[:, None] * t)
    >>> result = fit(lambda t, a, b: a * jnp.exp(-b * t), t, y, p0=[1.0, 1.0])
    >>> result.params[:, 1].round(6)
    array([0.5, 1. , 2. ])
    >>> result.success
    array([ True,  True,  True])
    """
    _check_unavailable(bounds=bounds, fixed=fixed, loss=None if loss == "linear" else loss)
    if nan_policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy must be one of {NAN_POLICIES}, got {nan_policy!r}.")
    settings = _settings(
        ftol=ftol,
        xtol=xtol,
        gtol=gtol,
        x_scale=x_scale,
        max_nfev=max_nfev,
        starts=starts,
        polish=polish,
        progress=progress,
    )
    _check_callable("model", model)
    jac = _check_jac(jac)
    ragged = is_ragged(ydata)
    if ragged:
        parts = _ragged_parts(xdata, ydata, sigma, mask)
        batch = (len(ydata),)
    else:
        xdata = _stacked(xdata, ydata)
        ydata = as_array_like(ydata, "ydata")
        if len(ydata.shape) == 0 or ydata.shape[-1] == 0:
            raise ValueError(
                f"ydata must have shape (..., m) with m of at least 1, got {tuple(ydata.shape)}."
            )
        batch = tuple(ydata.shape[:-1])
        parts = [(np.arange(int(np.prod(batch))), xdata, ydata, sigma, mask)]
    policy = _Policy(nan_policy == "omit", mask is not None or ragged)
    if nan_policy == "raise":
        _check_nan(parts)
    groups = []
    for index, x, y, s, live in parts:
        shape = (len(index),) if ragged else batch
        groups.append((index, _Pieces.of(x, y, s, live, shape)))
    start, by_name = _start_of(p0, batch, groups)
    predict = _Predict(model, by_name)
    return Problem(
        groups=tuple(
            (index, pieces.group(predict, policy, jac, start.layout)) for index, pieces in groups
        ),
        batch=batch,
        start=start,
        layout=start.layout,
        names=start.layout.names if by_name else _names_of(model, start.layout),
        read_start=lambda p0, batch: _start_of(p0, batch, groups)[0],
        settings=settings,
        absolute_sigma=absolute_sigma,
        lengths=np.array([len(y) for y in ydata]) if ragged else None,
        model=predict,
        places=groups[0][1].x,
    ).solve()


def least_squares_batch(
    fun,
    x0,
    data,
    *,
    bounds=None,
    loss="linear",
    jac="jacfwd",
    ftol=None,
    xtol=None,
    gtol=0.0,
    x_scale=None,
    max_nfev=None,
    starts=1,
    polish=None,
    progress=False,
):
    r"""Solve many least-squares problems with one residual function.

    .. math:: \min_{x_i} \tfrac12 \lVert f(x_i, d_i) \rVert^2 \quad \text{for every problem } i

    Parameters
    ----------
    fun : callable
        ``fun(params, data_of_one) -> (m,)`` residuals, in jax.numpy.
    x0 : (n,) or (B, n) array, or pytree
        Starting parameters.  In a pytree, leaves are per problem if all of them have B in
        front.
    data : pytree of (B, ...) arrays
        Read in blocks, as `fit` does; float32 if all its floats are.
    bounds, loss
        Not yet: only their defaults.
    jac : str or callable
        'jacfwd', 'jacrev', '2-point', '3-point', or ``jac(params, data_of_one) -> (m, n)``.
    ftol, xtol, gtol, x_scale, max_nfev, starts, polish, progress
        As for `fit`.

    Returns
    -------
    FitResult
        With the batch shape (B,), and parameters as `x0` was given.

    Raises
    ------
    ValueError, TypeError
        For improper input, before anything is compiled.

    Examples
    --------
    >>> import numpy as np
    >>> from jaxlsq import least_squares_batch
    >>> targets = np.array([[1.0, 4.0], [9.0, 16.0]])
    >>> result = least_squares_batch(lambda x, d: x**2 - d, [1.0, 1.0], targets)
    >>> result.params.round(6)
    array([[1., 2.],
           [3., 4.]])
    """
    _check_unavailable(bounds=bounds, loss=None if loss == "linear" else loss)
    _check_callable("fun", fun)
    jac = _check_jac(jac)
    settings = _settings(
        ftol=ftol,
        xtol=xtol,
        gtol=gtol,
        x_scale=x_scale,
        max_nfev=max_nfev,
        starts=starts,
        polish=polish,
        progress=progress,
    )
    leaves = [as_array_like(leaf, "data") for leaf in jax.tree.leaves(data)]
    sizes = {leaf.shape[0] if leaf.shape else None for leaf in leaves}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            "every array of data must have the problems along its first axis; got shapes "
            f"{[tuple(leaf.shape) for leaf in leaves]}."
        )
    batch = (sizes.pop(),)
    floats = [leaf for leaf in leaves if np.dtype(leaf.dtype).kind == "f"]
    dtype = float_dtype(*(floats or [np.asarray(leaf) for leaf in jax.tree.leaves(x0)]))
    start = as_tree_start(x0, batch)
    lanes, join = per_lane(data, batch, dtype)
    task = Task(
        layout=start.layout,
        residual=_FunResidual(fun, join),
        jac=_FunJacobian(jac, join) if callable(jac) else jac,
        check=_all_points,
    )
    group = Group(task, lanes, {}, batch[0], dtype)
    return Problem(
        groups=((np.arange(batch[0]), group),),
        batch=batch,
        start=start,
        layout=start.layout,
        names=start.layout.names,
        read_start=as_tree_start,
        settings=settings,
    ).solve()


# --- settings -----------------------------------------------------------------


def _check_unavailable(**arguments):
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"{name} is not available yet; leave it out.")


def _settings(**values):
    """`Settings`, with its numbers checked before anything else happens."""
    if values["polish"] not in (None, "float64"):
        raise ValueError(f"polish must be None or 'float64', got {values['polish']!r}.")
    names = ("ftol", "xtol", "gtol", "max_nfev")
    batch_options(1, np.dtype(np.float64), x_scale=None, **{name: values[name] for name in names})
    return Settings(**values)


def _check_callable(name, function):
    if not callable(function):
        raise TypeError(f"{name} must be callable, got {type(function).__name__}.")


def _check_jac(jac):
    if not callable(jac) and not (isinstance(jac, str) and jac in METHODS):
        raise ValueError(f"jac must be callable or one of {sorted(METHODS)}, got {jac!r}.")
    return jac


def _names_of(model, layout):
    """The model's names of its parameters, where it has as many."""
    try:
        names = tuple(inspect.signature(model).parameters)[1:]
    except (TypeError, ValueError):  # some callables have no signature
        names = ()
    return names if len(names) == layout.n else layout.names


# --- one problem, as the program sees it -------------------------------------------


@dataclass(frozen=True)
class _Predict:
    """The model as a function of ``(params, x)``."""

    model: object
    by_name: bool

    def __call__(self, params, x):
        values = self.model(x, **params) if self.by_name else self.model(x, *_scalars(params))
        values = jnp.asarray(values)
        if jnp.iscomplexobj(values):
            raise TypeError(
                f"model and jac must return real numbers, got dtype {values.dtype}. Fit real and "
                "imaginary parts as two halves of ydata."
            )
        return values


def _scalars(params):
    """A vector's elements, or a tuple as it is."""
    return params if isinstance(params, tuple) else tuple(params)


@dataclass(frozen=True)
class _Policy:
    """Which points of a data set count.

    Two of them are equal where they do the same, so that it may be part of a program's key.
    """

    omit: bool
    masked: bool

    def live(self, lane, shared):
        """(m,) bool, or None for all."""
        y = lane["y"]
        live = _find("mask", lane, shared) if self.masked else None
        if live is not None:
            live = jnp.broadcast_to(live, y.shape)
        if not self.omit:
            return live
        present = ~jnp.isnan(y)
        return present if live is None else live & present

    def __call__(self, lane, shared, m):
        """`Task.check`: how many points count, and whether those are finite."""
        live, sigma = self.live(lane, shared), _find("sigma", lane, shared)
        good = jnp.isfinite(lane["y"])
        if sigma is not None:
            good = good & jnp.isfinite(sigma) & (sigma > 0)
        if live is None:
            return jnp.int32(m), jnp.all(good)
        return jnp.sum(live, dtype=jnp.int32), jnp.all(good | ~live)


def _find(key, lane, shared):
    return lane.get(key, shared.get(key))


@dataclass(frozen=True)
class _ModelResidual:
    """``(model - y) / sigma`` where a point counts, zero elsewhere."""

    predict: _Predict
    policy: _Policy
    x: object

    def __call__(self, params, lane, shared):
        y = lane["y"]
        values = self.predict(params, self.x(lane, shared))
        if values.shape not in (y.shape, (), (1,)):
            raise ValueError(
                f"model(x, ...) must return one value per point, shape {y.shape}, got "
                f"{values.shape}. Do xdata and ydata have the same length?"
            )
        live = self.policy.live(lane, shared)
        if live is not None:
            y = jnp.where(live, y, jnp.zeros((), y.dtype))
        residual = _weighted(values - y, lane, shared, live)
        return residual.astype(y.dtype)


def _weighted(rows, lane, shared, live):
    """Rows, one per point, over sigma, and zero where the point does not count."""
    column = (slice(None),) + (None,) * (rows.ndim - 1)
    sigma = _find("sigma", lane, shared)
    if sigma is not None:
        rows = rows / sigma[column]
    return rows if live is None else jnp.where(live[column], rows, jnp.zeros((), rows.dtype))


@dataclass(frozen=True)
class _ModelJacobian:
    """The user's Jacobian of the model, weighted as the residual is."""

    jac: object
    by_name: bool
    policy: _Policy
    x: object

    def __call__(self, params, lane, shared):
        rows = _Predict(self.jac, self.by_name)(params, self.x(lane, shared))
        expected = (*lane["y"].shape, len(jax.tree.leaves(params)))
        if rows.shape != expected:
            raise ValueError(f"jac must return shape {expected}, got {rows.shape}.")
        live = self.policy.live(lane, shared)
        return _weighted(rows, lane, shared, live).astype(lane["y"].dtype)


@dataclass(frozen=True)
class _FunResidual:
    """A general residual on one problem's data."""

    fun: object
    join: object

    def __call__(self, params, lane, shared):
        f = jnp.asarray(self.fun(params, self.join(lane, shared)))
        if f.ndim != 1:
            raise ValueError(
                f"fun must return a 1-D array of residuals, got shape {f.shape}. Flatten it with "
                ".ravel()."
            )
        if jnp.iscomplexobj(f):
            raise TypeError(
                f"fun must return real numbers, got dtype {f.dtype}. Return real and imaginary "
                "parts, one after the other."
            )
        return f.astype(jnp.result_type(*jax.tree.leaves(params)))


@dataclass(frozen=True)
class _FunJacobian:
    """A general Jacobian on one problem's data."""

    jac: object
    join: object

    def __call__(self, params, lane, shared):
        return jnp.asarray(self.jac(params, self.join(lane, shared)))


def _all_points(lane, shared, m):
    return jnp.int32(m), jnp.bool_(True)


# --- data of `fit` -----------------------------------------------------------------


@dataclass(frozen=True)
class _Pieces:
    """The arrays of problems of one shape."""

    lanes: dict
    shared: dict
    x: object
    batch: tuple
    dtype: np.dtype

    @classmethod
    def of(cls, xdata, ydata, sigma, mask, batch):
        """Sources and shared arrays from what the caller gave."""
        dtype = float_dtype(ydata)
        lanes, shared, x = split_data(xdata, batch, dtype, "xdata")
        lanes["y"] = Source(ydata, batch, dtype)
        shape = (*batch, ydata.shape[-1])
        for name, value, kind in (("sigma", sigma, dtype), ("mask", mask, np.dtype(bool))):
            if value is None:
                continue
            part = broadcast_source(value, shape, batch, kind, name)
            if isinstance(part, Source):
                lanes[name] = part
            else:
                shared[name] = part
                if name == "sigma" and not np.all(part > 0):
                    raise ValueError("sigma must be positive: it holds zero, negative or NaN.")
        return cls(lanes, shared, x, batch, dtype)

    def group(self, predict, policy, jac, layout):
        """The `Group` of these problems."""
        task = Task(
            layout=_scalar_layout(layout, predict.by_name),
            residual=_ModelResidual(predict, policy, self.x),
            jac=_ModelJacobian(jac, predict.by_name, policy, self.x) if callable(jac) else jac,
            check=policy,
        )
        return Group(task, self.lanes, self.shared, int(np.prod(self.batch)), self.dtype)


def _scalar_layout(layout, by_name):
    """Parameters as separate scalars, each of which is differentiated by alone."""
    return layout if by_name else Layout.of((0.0,) * layout.n)


@dataclass(frozen=True)
class _Guess:
    """The user's guess as a vector."""

    guess: object
    layout: Layout
    x: object

    def __call__(self, lane, shared):
        params = _as_params(self.guess(self.x(lane, shared), lane["y"]))
        packed = self.layout.pack(params, (), jnp)
        return packed.astype(lane["y"].dtype)


def _start_of(p0, batch, groups):
    """`Start`, and whether the parameters have names."""
    if not callable(p0):
        start = as_start(p0, batch)
        return start, isinstance(p0, dict)
    _, pieces = groups[0]
    one = {k: jax.ShapeDtypeStruct(s.tail, s.dtype) for k, s in pieces.lanes.items()}
    with jax.enable_x64(pieces.dtype == np.float64):
        shapes = jax.eval_shape(
            lambda lane, shared: _as_params(p0(pieces.x(lane, shared), lane["y"])),
            one,
            pieces.shared,
        )
    example = jax.tree.map(lambda s: np.zeros(s.shape), shapes)
    layout = Layout.of(example)
    return Start(layout, None, _Guess(p0, layout, pieces.x)), isinstance(example, dict)


def _as_params(params):
    """A guess as a dict of scalars or a vector."""
    if isinstance(params, dict) and params:
        return params
    several = isinstance(params, (tuple, list)) or getattr(params, "ndim", 0) == 1
    if not several or len(params) == 0:
        raise TypeError(
            "p0, as a function, must return a dict of numbers or a sequence of them, one for each "
            f"parameter; got {params!r}."
        )
    return jnp.stack([jnp.asarray(p) for p in params])


def _check_nan(parts):
    for _, _, ydata, *_ in parts:
        single = len(ydata.shape) == 1
        for first in range(0, 1 if single else ydata.shape[0], 1024):
            block = np.asarray(ydata[:] if single else ydata[first : first + 1024])
            if block.dtype.kind == "f" and np.isnan(block).any():
                raise ValueError(
                    "ydata contains NaN. Pass nan_policy='omit' to leave such points out, or "
                    "'propagate' to end only their fits."
                )


def _stacked(xdata, ydata):
    """A list of arrays, where ydata is a list of as many, as one array; a tuple is a pytree."""
    if isinstance(xdata, list) and all(np.ndim(x) == 0 for x in xdata):
        return np.asarray(xdata)
    lists = isinstance(xdata, list) and isinstance(ydata, (list, tuple))
    if lists and len(xdata) == len(ydata) and all(np.ndim(x) > 0 for x in xdata):
        return np.stack(xdata)
    return xdata


def _ragged_parts(xdata, ydata, sigma, mask):
    """Groups of similar length: their places, and padded arrays with a mask."""
    for y in ydata:
        as_array_like(y, "ydata")
    lengths = np.array([len(y) for y in ydata])
    if lengths.min() == 0:
        raise ValueError(f"ydata[{int(lengths.argmin())}] is empty.")
    for name, values in (("xdata", xdata), ("sigma", sigma), ("mask", mask)):
        if values is None and name != "xdata":
            continue
        if not isinstance(values, (list, tuple)) or len(values) != len(ydata):
            raise ValueError(
                f"{name} must be a list of {len(ydata)} arrays, as ydata is; got "
                f"{type(values).__name__}."
            )
        for i, (value, length) in enumerate(zip(values, lengths, strict=True)):
            as_array_like(value, name)
            if np.shape(value)[-1:] != (length,):
                raise ValueError(
                    f"{name}[{i}] must have {length} points, as ydata[{i}]; got shape "
                    f"{np.shape(value)}."
                )
    buckets = np.array([_bucket(length) for length in lengths])
    parts = []
    for size in np.unique(buckets):
        index = np.flatnonzero(buckets == size)
        padded = [
            None if v is None else np.stack([_pad(np.asarray(v[i]), size) for i in index])
            for v in (xdata, ydata, sigma)
        ]
        live = np.arange(size)[None, :] < lengths[index][:, None]
        if mask is not None:
            live = live & np.stack([_pad(np.asarray(mask[i], bool), size) for i in index])
        parts.append((index, *padded, live))
    return parts


def _bucket(length):
    """The next of 4, 6, 8, 12, 16, 24, 32, ...: few shapes, a third of padding at most."""
    power = 1 << max(int(length) - 1, 3).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power


def _pad(array, size):
    """The last axis continued with its last value, at which the model is finite."""
    widths = [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])]
    return np.pad(array, widths, mode="edge")
