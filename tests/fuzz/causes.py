"""Why two fits of the same data differ, and whether the one that is judged is wrong."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jaxlsq.status import Status
from tests.fuzz.checks import Question, rho
from tests.fuzz.draw import Lanes

__all__ = ["CAUSES", "OUTSIDE", "UNSAID", "WRONG", "Ends", "causes"]

SAME = "the same"
PATH = "the same minimum by another number of steps, or another test held first"
FLAT = "the same cost with other parameters: the data do not determine them"
LOWER = "two minima, ours the lower"
HIGHER = "two minima, ours the higher"
SHORT = "neither is at a minimum, or the other is not: ours is lower"
RULE = "the tests hold short of the minimum, for the other too"
DOUBTED = "short of a minimum, and `suspect` says so"
FAR = "what is left is below the tolerance, beside the data or the start"
SAID = "ours failed and says why"
THEIRS = "the other failed, ours is at a minimum"
BOTH = "both failed"
ALLOWED = (SAME, PATH, FLAT, LOWER, HIGHER, SHORT, RULE, DOUBTED, FAR, SAID, THEIRS, BOTH)
# What must not be.
OUTSIDE = "WRONG: outside of the bounds"
UNTRUE = "WRONG: the cost that is reported is not that of the parameters"
EARLY = "WRONG: success short of a minimum"
UNSAID = "WRONG: failed for a reason that does not hold"
WRONG = (OUTSIDE, UNTRUE, EARLY, UNSAID)
CAUSES = (*ALLOWED, *WRONG)

# Costs that differ by a smaller part are the same.
NEAR, NEAR_NARROW = 1e-5, 1e-3
# A fit that could go down by more is not at a minimum.
DESCENT = 1e-3
# Parts of the cost at the start that are rounding, in epsilons squared; of that of the data the
# tolerance squared is about one epsilon.
FAINT = 1e6
# Starts that differ by rounding, from which the other goes ways of its own.
SHAKES = 16


@dataclass(frozen=True)
class Ends:
    """Where fits ended.

    Attributes
    ----------
    x : (size, n) array
    success : (size,) bool array
    status : (size,) int array
    nfev : (size,) int array
    cost : (size,) array, optional
        As it is reported.
    suspect : callable, optional
        Gives the (size,) bool array of those that are suspected.
    """

    x: np.ndarray
    success: np.ndarray
    status: np.ndarray
    nfev: np.ndarray
    cost: np.ndarray | None = None
    suspect: Callable[[], np.ndarray] | None = None


def causes(
    question: Question,
    ours: Ends,
    other: Ends,
    again: Callable[[Lanes], Ends],
    eps: float = 2.0**-52,
) -> list[str]:
    """The cause of each lane's difference, of `CAUSES`.

    Parameters
    ----------
    question : Question
    ours, other : Ends
        What is judged, and what it is judged by.
    again : callable
        The other's fits, with our tolerances, of other lanes.
    eps : float
        Of the type that ours was computed in.
    """
    lanes = question.lanes
    near = NEAR if eps < 1e-10 else NEAR_NARROW
    mine, theirs = question.costs(ours.x), question.costs(other.x)
    floor = question.rounding(ours.x, eps) + question.rounding(other.x, eps)
    floor = np.where(np.isfinite(floor), floor, 0.0) + 1e-280
    with np.errstate(all="ignore"):
        begun = question.costs(np.clip(lanes.p0, lanes.lower, lanes.upper)) * FAINT * eps**2
        data = 0.5 * np.sum((lanes.weights * np.where(lanes.live, lanes.y, 0.0)) ** 2, axis=1)
        begun += eps * data
    promise = question.descent(ours.x)
    close = np.all(np.isclose(ours.x, other.x, rtol=50 * eps**0.5, atol=1e-9), axis=1)
    out = []
    for i in range(len(lanes)):
        at = _Lane(question, i, ours, other, again, near, eps, floor[i], begun[i])
        out.append(_cause(at, (mine[i], theirs[i]), promise[i], bool(close[i])))
    return out


@dataclass(frozen=True)
class _Lane:
    question: Question
    lane: int
    ours: Ends
    other: Ends
    again: Callable[[Lanes], Ends]
    near: float
    eps: float
    floor: float
    faint: float

    def same(self, a: float, b: float) -> bool:
        """Whether two costs are the same but for rounding."""
        return abs(a - b) <= self.near * max(abs(a), abs(b)) + self.floor

    @property
    def lowest(self) -> float:
        """Where SciPy's fits get from our end."""
        return self.question.lowest_from(self.lane, self.ours.x[self.lane])


def _cause(at, costs, promise, close):
    i, ours, other = at.lane, at.ours, at.other
    lanes, (mine, theirs) = at.question.lanes, costs
    x = ours.x[i]
    if np.any((x < lanes.lower[i]) | (x > lanes.upper[i])):
        return OUTSIDE
    if not ours.success[i]:
        if not _holds(at, mine):
            return UNSAID
        return SAID if other.success[i] else BOTH
    if mine <= at.faint and not at.same(mine, theirs):
        return FAR
    if ours.cost is not None and not at.same(mine, float(ours.cost[i])):
        return UNTRUE
    if not np.isfinite(mine):
        return UNTRUE
    if other.success[i] and at.same(mine, theirs):
        if not close:
            return FLAT
        same = ours.nfev[i] == other.nfev[i] and ours.status[i] == other.status[i]
        return SAME if same else PATH
    if promise * mine > DESCENT * mine + at.floor and _could_fall(at, mine):
        return _of_early(at, mine, theirs)
    if not other.success[i]:
        return THEIRS
    return LOWER if mine < theirs else _of_higher(at, mine, theirs)


def _could_fall(at, mine):
    return mine - at.lowest > DESCENT * mine + at.floor


def _of_higher(at, mine, theirs):
    """A higher cost than the other's: a minimum, or not."""
    return _of_early(at, mine, theirs) if _could_fall(at, mine) else HIGHER


def _of_early(at, mine, theirs):
    if mine <= theirs:
        return SHORT
    if _other_too(at, mine):
        return RULE
    doubted = at.ours.suspect is not None and at.ours.suspect()[at.lane]
    return DOUBTED if doubted else EARLY


def _other_too(at, mine):
    """Whether the other ends as high, from our end or from starts that differ by rounding."""
    lanes, i = at.question.lanes, at.lane
    rng = np.random.default_rng(i)
    many = lanes.take(np.full(SHAKES + 2, i))
    part = 1e5 * at.eps * rng.standard_normal((SHAKES, lanes.curve.n))
    starts = np.concatenate([at.ours.x[[i]], lanes.p0[[i]], lanes.p0[i] * (1.0 + part)])
    many = replace(many, p0=np.clip(starts, many.lower, many.upper))
    found = at.again(many)
    return bool(np.any(found.success & (Question(many).costs(found.x) > mine * (1.0 - DESCENT))))


def _holds(at, mine):
    """Whether what the status of a failure says is true."""
    lanes, i = at.question.lanes, at.lane
    status, x = int(at.ours.status[i]), at.ours.x[i]
    live = lanes.live[i]
    free = lanes.lower[i] < lanes.upper[i]
    fun, jac = at.question.one(i)
    good = np.isfinite(lanes.y[i][live]).all()
    if status == Status.NONFINITE_DATA:
        return not good
    if status == Status.MASKED_OUT:
        return not live.any()
    if status == Status.TOO_FEW_POINTS:
        return np.count_nonzero(live) < np.count_nonzero(free)
    if status == Status.NONFINITE_START:
        f = fun(np.clip(lanes.p0[i], lanes.lower[i], lanes.upper[i]))
        return not np.abs(f).max() < 1e15
    if status == Status.SINGULAR_JACOBIAN:
        f = fun(x)
        root = np.sqrt(rho(lanes.loss, f**2)[1])
        return mine <= at.faint or _singular(f, root[:, None] * jac(x)[:, free], x)
    if status == Status.NONFINITE_COST:
        return not mine < 1e30
    if status == Status.NONFINITE_JACOBIAN:
        return not np.abs(jac(x)).max() < 1e100
    # A limit, steps that lead nowhere, and tolerances that can't be met say so of themselves.
    return status in (
        Status.MAX_NFEV,
        Status.NONFINITE_STEPS,
        Status.FTOL_TOO_SMALL,
        Status.XTOL_TOO_SMALL,
        Status.GTOL_TOO_SMALL,
        Status.IMPROPER_INPUT,
    )


def _singular(f, jac, x):
    """Whether columns of parameters that may move are dependent, to half the digits."""
    if not np.isfinite(jac).all():
        return True
    norms = np.linalg.norm(jac, axis=0)
    if norms.min() <= 1e-7 * np.linalg.norm(f) / max(np.abs(x).max(), 1.0):
        return True
    values = np.linalg.svd(jac / norms, compute_uv=False)
    return bool(values[-1] <= 1e-5 * values[0])
