"""A batch of problems: groups of one shape each, and how they are solved together."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.batch import polish
from jaxlsq.batch.functions import Band, Prediction, given_places
from jaxlsq.batch.inputs import batch_options, float_dtype, in_memory
from jaxlsq.batch.kept import Keeper
from jaxlsq.batch.limits import Limits
from jaxlsq.batch.polish import POLISHES
from jaxlsq.batch.starts import Spread, Start
from jaxlsq.constraints import check_box
from jaxlsq.containers import as_array_like
from jaxlsq.forked import check_not_forked
from jaxlsq.numerics.loss import POISSON
from jaxlsq.params import Layout
from jaxlsq.results.interrupted import Interrupted
from jaxlsq.results.result import SAME_COST, FitResult
from jaxlsq.schedule.interruption import Interruption
from jaxlsq.schedule.pool import Ended
from jaxlsq.schedule.progress import reporter
from jaxlsq.schedule.sources import converted
from jaxlsq.status import SUCCESS, Status

__all__ = ["Problem", "Settings"]


@dataclass(frozen=True)
class Settings:
    """What may change from one solution of a problem to the next."""

    ftol: float | None = None
    xtol: float | None = None
    gtol: float | None = 0.0
    x_scale: object = None
    max_nfev: int | None = None
    starts: object = 1
    polish: str | None = "auto"
    progress: object = False

    @classmethod
    def of(cls, **values):
        """With its numbers checked, before anything else happens.

        Raises
        ------
        TypeError, ValueError
            For a name that is not a field, or an improper value.
        """
        check_not_forked()
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise TypeError(f"{unknown} can't be changed; what can is {known}.")
        settings = cls(**values)
        given = settings.polish
        if not (given is None or isinstance(given, str)) or given not in POLISHES:
            raise ValueError(f"polish must be 'auto', 'float64' or None, got {given!r}.")
        numbers = {name: getattr(settings, name) for name in ("ftol", "xtol", "gtol", "max_nfev")}
        batch_options(1, np.dtype(np.float64), x_scale=None, **numbers)
        return settings

    def kept(self, keeper):
        """The same, which the caller's arrays no longer reach."""
        arrays = {name: keeper.array(name, getattr(self, name)) for name in ("x_scale", "starts")}
        return replace(self, **arrays)


@dataclass(frozen=True)
class Problem:
    """Everything that a `FitResult` needs to be computed, or computed again.

    Attributes
    ----------
    groups : tuple of (index, Group)
        Problems of one shape, and their places in the batch, flat.
    batch : tuple of int
    start : Start
    layout : Layout
        Of the parameters as the caller sees them.
    names : tuple of str
        Of the parameters.
    read_start : callable
        ``read_start(p0, batch) -> Start``.
    settings : Settings
    absolute_sigma : bool
    lengths : (total,) int array, optional
        Of the data sets, where they differ.
    model : callable, optional
        ``model(params, x)``, for predictions.
    places : Callable
        ``places(lane, shared) -> x``, the data's own.
    limits : Limits, optional
    watched : tuple, optional
        What a result reads and was not copied, each with a method `check`; None before anything
        was.
    """

    groups: tuple
    batch: tuple
    start: Start
    layout: Layout
    names: tuple
    read_start: Callable
    settings: Settings
    absolute_sigma: bool = False
    lengths: np.ndarray | None = None
    model: Callable | None = None
    places: Callable | None = None
    limits: Limits | None = None
    watched: tuple | None = None

    @property
    def loss(self):
        """Of `jaxlsq.numerics.loss`, None for squares."""
        return self.groups[0][1].task.loss

    @property
    def is_narrow(self):
        """Whether some of it is computed in float32, before any polish."""
        return not all(group.wide for _, group in self.groups)

    @property
    def total(self):
        """Number of problems."""
        return int(np.prod(self.batch))

    def solve(self):
        """Fit all.

        Returns
        -------
        FitResult

        Raises
        ------
        Interrupted
            On Ctrl-C, with what is done.
        """
        n, settings = self.layout.n, self.settings
        spread = Spread.of(settings.starts, n, self.batch)
        kept = self.kept()
        with Interruption() as interrupts:
            parts, before = [], 0
            with reporter(settings.progress, self.total) as report:
                for (index, group), (_, given) in zip(kept.groups, self.groups, strict=True):
                    group = replace(group, task=given.task)  # one that was traced before
                    watch = interrupts, _offset(report, before)
                    part = _unless_asked(interrupts, self._solve_group, index, group, spread, watch)
                    parts.append((index, part or _not_begun(len(index), n, group.dtype)))
                    before += len(index)
            result = kept.result_of(parts)
            interrupts.settle()
            if interrupts.asked:
                raise Interrupted(result)
        return result

    def _solve_group(self, index, group, spread, watch):
        """Arrays of one group's fits, by name."""
        n, settings = self.layout.n, self.settings
        if not len(index):
            return _not_begun(0, n, group.dtype)
        options = self._options(group.dtype)
        start = None
        if self.start.array is not None:
            rows = self.start.array if self.start.array.ndim == 1 else self.start.array[index]

            def start(first, last):
                return replace(self.start, array=rows).read(first, last)

        given = spread.given
        if given is not None and given.ndim == 3:
            spread = replace(spread, given=given[index])
        limits = self.limits and self.limits.take(index)
        begin = start, self.start.guess
        ended, seen = group.solve(begin, options, spread, watch, limits)
        arrays = _best(ended, spread.starts)
        if not group.wide:
            some = polish.chosen(settings.polish, arrays, seen)
            if some.size:
                given = start and start(0, len(index))
                again = self._in_float64(group, arrays, some, given, watch[0])
                arrays = polish.polished(arrays, again, some) if again else arrays
        arrays = {k: v for k, v in arrays.items() if k not in ("fnorm", "rank", "damping")}
        arrays["dof"] = seen.live - (limits.varying() if limits else n)
        nothing = np.broadcast_to(np.int8(0), arrays["x"].shape)
        active = limits.active(arrays["x"], group.dtype) if limits else nothing
        arrays["active_mask"] = active
        return arrays

    def _in_float64(self, group, arrays, some, given, interrupts):
        """Arrays of some of a group's fits, gone on with in float64; None if interrupted."""
        wide, n = group.take(some).in_float64(), self.layout.n
        limits = self.limits and self.limits.take(some)
        x = polish.continued(arrays, given, some)
        if limits and given is not None:  # what is fixed, as it was given
            x = np.where(limits.fixed, given[some], x)
        begin = (lambda first, last: x[first:last]), self.start.guess
        options, spread = self._options(wide.dtype, True), Spread.of(1, n, self.batch)
        watch = interrupts, None
        again = _unless_asked(interrupts, wide.solve, begin, options, spread, watch, limits)
        return again and _best(again[0], 1)

    def _options(self, dtype, polishing=False):
        s = self.settings
        names = ("x_scale", "max_nfev") if polishing else ("ftol", "xtol", "x_scale", "max_nfev")
        values = dict.fromkeys(("ftol", "xtol")) | {name: getattr(s, name) for name in names}
        # A float32 solution that is exact in float64 too ends at its first Jacobian.
        gtol = max(s.gtol or 0.0, 1e-8) if polishing else s.gtol
        return batch_options(self.layout.n, dtype, gtol=gtol, loss=self.loss, **values)

    def kept(self):
        """The same problem, which later changes of the caller's data and functions don't reach."""
        if self.watched is not None:
            return self
        keeper = Keeper()
        groups = tuple((index, group.kept(keeper)) for index, group in self.groups)
        return replace(
            self,
            groups=groups,
            model=keeper.function(self.model),
            start=replace(self.start, guess=keeper.function(self.start.guess)),
            limits=self.limits and self.limits.kept(keeper),
            settings=self.settings.kept(keeper),
            watched=tuple(keeper.watched),
        )

    def check(self):
        """Raise RuntimeError where what was fitted has changed."""
        for watched in self.watched or ():
            watched.check()

    def result_of(self, parts):
        """The `FitResult` of the arrays of all groups."""
        arrays = dict(parts[0][1]) if len(parts) == 1 else {}
        for index, part in parts if len(parts) > 1 else ():
            for name, values in part.items():
                if name not in arrays:
                    widest = np.result_type(*(p[name].dtype for _, p in parts))
                    arrays[name] = np.empty((self.total, *values.shape[1:]), widest)
                arrays[name][index] = values
        shaped = {k: v.reshape((*self.batch, *v.shape[1:])) for k, v in arrays.items()}
        everywhere = (*self.batch, self.layout.n)
        fixed = np.zeros(self.layout.n, bool) if self.limits is None else self.limits.fixed
        fixed = np.broadcast_to(fixed, (self.total, self.layout.n)) if fixed.ndim == 1 else fixed
        shaped["fixed"] = fixed.reshape(everywhere)
        return FitResult(
            **shaped,
            layout=self.layout,
            names=self.names,
            problem=self,
            of_counts=self.loss is POISSON,
            absolute_sigma=self.absolute_sigma,
        )

    # --- for results -------------------------------------------------------------

    def take(self, index, batch):
        """The problem of some of the fits, with a batch shape of their own."""
        groups = []
        for members, group in self.groups:
            place = np.full(self.total, -1)
            place[members] = np.arange(len(members))
            chosen = np.flatnonzero(place[index] >= 0)
            groups.append((chosen, group.take(place[index[chosen]])))
        groups = [pair for pair in groups if pair[0].size] or groups[:1]
        array = self.start.array
        if array is not None and array.ndim == 2:
            array = array[index]
        start = replace(self.start, array=array)
        lengths = None if self.lengths is None else self.lengths[index]
        settings, starts = self.settings, self.settings.starts
        if np.ndim(starts) > 2:
            each = np.asarray(starts).reshape(self.total, *np.shape(starts)[-2:])[index]
            settings = replace(settings, starts=each.reshape(*batch, *each.shape[-2:]))
        return replace(
            self,
            groups=tuple(groups),
            batch=tuple(batch),
            start=start,
            lengths=lengths,
            settings=settings,
            limits=self.limits and self.limits.take(index),
        )

    def changed_settings(self, changes):
        """The settings with some of them changed, checked."""
        return Settings.of(**(vars(self.settings) | changes))

    def again(self, index, x, p0, settings):
        """Fit some of them again; see `FitResult.refit`."""
        problem = self.take(index, (len(index),))
        if p0 is not None:
            start = self.read_start(p0, self.batch)
            if start.layout != self.layout:
                raise ValueError(
                    f"p0 must have the parameters of the first fit, {self.names}; got "
                    f"{start.layout.names}."
                )
            if start.array is not None and start.array.ndim == 2:
                start = replace(start, array=start.array[index])
            problem = replace(problem, start=start)
            limits = problem.limits
            if limits and start.array is not None:
                check_box(limits.lower, limits.upper, start.array, "p0", self.names)
        else:
            last = x.reshape(self.total, self.layout.n)[index]
            first = problem.start.array
            if first is not None:
                last = np.where(np.all(np.isfinite(last), axis=1, keepdims=True), last, first)
            problem = replace(problem, start=replace(problem.start, array=last))
        return replace(problem, settings=settings).solve()

    def _gather(self, call, x):
        """One array from a call on every group, or a list where their shapes differ."""
        flat = x.reshape(self.total, x.shape[-1])
        pieces = [(index, call(group, flat[index])) for index, group in self.groups]
        if self.lengths is not None:
            out = [None] * self.total
            for index, piece in pieces:
                for i, row in zip(index, piece, strict=True):
                    out[i] = row[: self.lengths[i]]
            return out if self.batch else out[0]
        out = np.empty((self.total, *pieces[0][1].shape[1:]), pieces[0][1].dtype)
        for index, piece in pieces:
            out[index] = piece
        return out.reshape((*self.batch, *out.shape[1:]))

    def gram(self, x):
        """(..., n, n) J'J, in float64."""
        single = replace(self, lengths=None)
        return single._gather(lambda group, x: group.in_float64().gram(x), x)

    def residuals(self, x):
        """(..., m) residuals."""
        return self._gather(lambda group, x: group.in_type_of(x).residuals(x), x)

    def predict(self, x, at):
        """(..., k) values of the model."""
        return self._at("predict", Prediction, x, at)

    def band(self, x, cov, at):
        """(..., k) standard errors of the model's values."""
        return self._at("band", Band, _with_cov(x, cov), at)

    def _at(self, name, function, x, at):
        if self.model is None:
            raise ValueError(f"{name} needs a model: use fit, or evaluate your function yourself.")
        if at is not None:
            at = jax.tree.map(_place, at, is_leaf=lambda v: isinstance(v, list))
            wide = float_dtype((), [np.empty(1, np.float32), *jax.tree.leaves(at)]) == np.float64

        def call(group, x):
            places, group = self.places, group.in_type_of(x)
            if at is not None:  # in the type of the fit, or wider if that would lose digits
                group = group.in_float64() if wide else group
                there = jax.tree.map(lambda v: converted(v, group.dtype), at)
                group = replace(group, shared={**group.shared, "at": there})
                places = given_places
            return group.map(function(self.model, group.task.layout, places), x)

        return (self if at is None else replace(self, lengths=None))._gather(call, x)

    def data_of_one(self):
        """x, y, sigma or None, and which points count, of a problem that is one data set."""
        if self.model is None:
            raise ValueError("plots need data that are fitted by a model: use fit.")
        _, group = self.groups[0]
        lane = {key: values[0] for key, values in group.block(0, 1, 1).items()}
        y = lane["y"]
        live = group.task.residual.policy.live(lane, group.shared)
        live = np.ones(y.size, bool) if live is None else np.asarray(live)
        sigma = _sigma_of(lane | group.shared, y)
        x = self.places(lane, group.shared)
        if self.lengths is not None:
            m = int(np.ravel(self.lengths)[0])
            x = jax.tree.map(lambda v: v[..., :m], x)
            y, live = y[:m], live[:m]
            sigma = sigma if sigma is None else sigma[:m]
        return x, y, sigma, live & np.isfinite(y)

    def variation(self, x):
        """(..., 2) variation of the data about the model, and about their mean."""
        if self.model is None:
            raise ValueError("r2 needs data that are fitted by a model: use fit.")
        single = replace(self, lengths=None)
        return single._gather(lambda group, x: group.in_type_of(x).variation(x), x)

    def derived(self, x, cov, function):
        """Values of a function of the parameters, and their standard errors, as it returns them."""
        example = self.layout.unpack(np.zeros(self.layout.n))
        tree = jax.eval_shape(function, example)
        layout = Layout.of(jax.tree.map(lambda s: np.zeros(s.shape), tree))

        def values(params, _):
            leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(function(params))]
            return jnp.concatenate(leaves)

        def places(lane, shared):
            return None

        single = replace(self, lengths=None)
        out = []
        for evaluate, at in ((Prediction, x.astype(np.float64)), (Band, _with_cov(x, cov))):
            of = evaluate(values, self.layout, places)
            out.append(single._gather(lambda g, at, of=of: g.in_type_of(at).map(of, at), at))
        return tuple(layout.unpack(values) for values in out)


def _with_cov(x, cov):
    """Parameters and their covariances, in one vector of float64, as `Band` reads them.

    A variance, a square, may be below what float32 holds.
    """
    return np.concatenate([x, cov.reshape(*cov.shape[:-2], -1)], axis=-1, dtype=np.float64)


def _place(x):
    """Where the model is evaluated, as an array."""
    return in_memory(as_array_like(x, "x"))


def _sigma_of(data, y):
    """Standard deviations of one data set's points, or None."""
    if "whitening" in data:
        factor = np.linalg.inv(data["whitening"])
        return np.sqrt(np.sum(factor * factor, axis=1))
    return np.broadcast_to(data["sigma"], y.shape) if "sigma" in data else None


def _unless_asked(interrupts, call, *arguments):
    """``call(*arguments)``, and None where an interrupt came before it had anything."""
    if interrupts.asked:
        return None
    try:
        return call(*arguments)
    except KeyboardInterrupt:
        interrupts.ask()
        return None


def _offset(report, before):
    return report and (lambda done: report(done + before))


def _not_begun(size, n, dtype):
    """Arrays of fits that an interruption left out."""
    real, whole = np.full(size, np.nan), np.zeros(size, np.int32)
    status = np.full(size, Status.INTERRUPTED, np.int32)
    counts = dict.fromkeys(("nfev", "njev", "nit", "dof", "agreed"), whole)
    x = np.full((size, n), np.nan, dtype)
    reals = {"x": x, "cost": real, "optimality": real.astype(dtype)}
    return reals | counts | {"status": status, "active_mask": np.zeros((size, n), np.int8)}


def _best(ended: Ended, starts):
    """Of each problem's starts the best one: converged before not, then the smallest cost."""
    arrays = vars(ended).copy()
    # In float64: the square of what float32 holds may leave its range.
    arrays["cost"] = 0.5 * np.square(arrays["fnorm"].astype(np.float64))
    if starts == 1:
        return arrays | {"agreed": np.isfinite(arrays["cost"]).astype(np.int32)}
    cost, status = (arrays[k].reshape(-1, starts) for k in ("cost", "status"))
    rank = np.where(np.isnan(cost), np.inf, cost)
    good = np.isin(status, sorted(SUCCESS))
    some = good.any(axis=1, keepdims=True)
    rank = np.where(good | ~some, rank, np.inf)
    best = np.argmin(rank, axis=1)
    lowest = np.take_along_axis(rank, best[:, None], axis=1)
    with np.errstate(invalid="ignore"):
        agreed = np.count_nonzero(rank <= lowest * (1 + SAME_COST), axis=1)
    rows = np.arange(len(best)) * starts + best
    arrays = {name: values[rows] for name, values in arrays.items()}
    return arrays | {"agreed": np.where(np.isfinite(lowest[:, 0]), agreed, 0).astype(np.int32)}
