"""The program of a block of fits: lanes in registers, around the points of one, around trials.

In the words of a function::

    kernel(count, points, starts, stop, order, table, scratch):
        the stage: what is the same for all lanes and costs much, at each point
        while True:
            if any lane is free:  write what has ended; give its place to the next problem
            if no lane is busy, or stop is set:  return
            for each point:  residual and columns, added to J'J, J'f and f'f
            turn: judge, relinearize, propose

Each scalar is a register with one lane in each element; problems come and go element by element.
Arithmetic is that of `jaxlsq.lowering.algebra` and of the user's function at one point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxlsq.lowering.algebra import Algebra, algebra_of
from jaxlsq.lowering.arrays import Lowering, listed
from jaxlsq.lowering.control import Carry
from jaxlsq.lowering.eliminating import Elimination, reduced_sums
from jaxlsq.lowering.emitter import Emitter, type_name
from jaxlsq.lowering.inputs import ALIGNMENT, Inputs, input_bytes, take_numbers
from jaxlsq.lowering.mode import flush_subnormals, restore_mode
from jaxlsq.lowering.point_program import PointProgram
from jaxlsq.lowering.reading import shared_number
from jaxlsq.lowering.repair import Repair, repair
from jaxlsq.lowering.structural import boxed
from jaxlsq.lowering.sums import row_count, sums_of
from jaxlsq.lowering.target import Target
from jaxlsq.lowering.units import Units
from jaxlsq.status import Status

__all__ = ["SIGNATURE", "TABLE", "Kernel", "kernel_text", "scratch_bytes"]

# Up to so many, all of LLVM's passes together take a fifth of a second.
FEW_PARAMETERS = 8
# What the table of pointers holds, before the inputs of the program of one point.
TABLE = ("x0", "lower", "upper", "options", "max_nfev", "reals", "counts")
SIGNATURE = (
    "i64 @lanes(i64 %count, i64 %points, i64 %starts, ptr %stop, ptr %order, ptr %table, "
    "ptr noalias %scratch)"
)


@dataclass(frozen=True)
class Kernel:
    """What a kernel is made for.

    Attributes
    ----------
    point : PointProgram
    n : int
        Parameters.
    dtype : dtype
        Of the computation.
    bounded : bool
    evaluations : int
        Of the residual, that one Jacobian takes.
    repairs : bool
        Whether derivatives that are not finite are taken by differences; if not, a fit ends with
        them.
    wide : bool
        Whether JAX had 64 bits when it was traced.
    elimination : Elimination or None
        Of linear parameters, which are not among the n; then the program is of more.
    """

    point: PointProgram
    n: int
    dtype: np.dtype[Any]
    bounded: bool
    evaluations: int
    repairs: bool
    wide: bool
    elimination: Elimination | None = None

    @property
    def algebra(self) -> Algebra:
        """The iteration's jaxprs."""
        final = self.repairs or bool(self.evaluations)
        return algebra_of(self.n, self.dtype, self.bounded, final, self.wide)

    @property
    def optimization(self) -> int:
        """The level that it is compiled at.

        Of many parameters all of LLVM's passes take half a second more, for a percent of speed.
        """
        return 2 if self.n <= FEW_PARAMETERS else 1

    @property
    def rows(self) -> int:
        """Of the program of one point: the residual, or the parts of a loss."""
        return row_count(len(self.point.jaxpr.outvars), self.n)


def scratch_bytes(kernel: Kernel, width: int, points: int) -> int:
    """Memory that a call needs: for the lanes' data, for the stage, and for repaired columns."""
    columns = kernel.n * kernel.dtype.itemsize * width * kernel.point.rows if kernel.repairs else 0
    return input_bytes(kernel.point, width, points) + columns * points + ALIGNMENT


def kernel_text(kernel: Kernel, target: Target) -> str:
    """The module of LLVM IR."""
    writer = _Writer(kernel, target)
    writer.write()
    return writer.emitter.module(SIGNATURE, target.cpu_attributes)


class _Writer:
    """Writes the function of a kernel."""

    def __init__(self, kernel, target):
        self.kernel, self.target = kernel, target
        self.n, self.dtype = kernel.n, kernel.dtype
        self.emitter = Emitter(target.width(kernel.dtype))
        self.lowering = Lowering(self.emitter)
        self.width = self.emitter.width
        self.algebra = kernel.algebra

    def write(self):
        """Write it."""
        e = self.emitter
        self.table = {}
        for k, name in enumerate(TABLE):
            self.table[name] = e.read(f"load ptr, ptr {e.address('%table', 'ptr', k)}")
        self.inputs = Inputs(self.lowering, self.kernel.point, len(TABLE))
        mode = flush_subnormals(e, self.target.architecture)
        self._prepare()
        self.inputs.run_stage()
        head, busy, work, out = (e.fresh(name) for name in ("round", "busy", "work", "out"))
        e.go(head)
        e.begin(head)
        with e.scope():
            status = self.state.load()[self.algebra.status][()]
            free = self.lowering.compare("ne", status, int(Status.RUNNING))
            with e.when(e.any(free)):
                self._refill(free)
            e.fork(e.any(self._held()), busy, out)
            e.begin(busy)
            stop = e.read("load volatile i32, ptr %stop")
            e.fork(e.named(f"icmp eq i32 {stop}, 0"), work, out, likely=True)
            e.begin(work)
            self._round()
            e.go(head)
        e.begin(out)
        restore_mode(e, self.target.architecture, mode)
        e.do(f"ret i64 {e.read(f'load i64, ptr {self.following}')}")

    # --- memory ---------------------------------------------------------------------------

    def _prepare(self):
        e, n = self.emitter, self.n
        real = e.vector(self.dtype)
        self.state = Carry(e, [self.lowering.lift(v) for v in self.algebra.empty])
        self.units = Units(self.lowering, n, self.dtype) if self.dtype == np.float32 else None
        self.ids = e.slot(e.vector(np.int64))
        e.store(e.constant(-1, np.int64), self.ids)
        self.following = e.slot("i64")
        e.do(f"store i64 0, ptr {self.following}")
        self.x0 = e.slot(real, n)
        self.bounds = [e.slot(real, n) for _ in range(2 if self.kernel.bounded else 0)]
        numbers = range(n + 5)
        read = [shared_number(self.lowering, self.table["options"], k, self.dtype) for k in numbers]
        ftol, xtol, gtol, factor, epsfcn, *diag = read
        limit = shared_number(self.lowering, self.table["max_nfev"], 0, np.int32)
        # The leaves of `Options`, in their order.
        self.options = [*map(boxed, (ftol, xtol, gtol, limit, factor)), listed(diag), boxed(epsfcn)]

    def _box(self):
        return [listed(self.emitter.loads(slot, self.dtype, self.n)) for slot in self.bounds]

    def _run(self, closed, *arguments):
        return self.lowering.run(closed.jaxpr, closed.consts, arguments)

    def _held(self):
        """Lanes that have a problem."""
        return self.lowering.compare("ge", self.emitter.load(self.ids, np.int64), 0)

    # --- problems come and go ---------------------------------------------------------------

    def _refill(self, free):
        """Write the lanes that have ended, and give their places away."""
        e, n = self.emitter, self.n
        reals, counts = self._run(self.algebra.report, *self.state.load(), *self._box())
        rows = []
        for name, values in (("reals", reals), ("counts", counts)):
            dtype = values[0].dtype
            slot = e.slot(e.vector(dtype), len(values))
            for k, value in enumerate(values):
                e.store(value, e.address(slot, e.vector(dtype), k))
            rows.append((self.table[name], slot, len(values), type_name(dtype)))

        def of_lane(lane):
            problem = e.scalar(self.ids, "i64", lane)
            with e.when(e.named(f"icmp sge i64 {problem}, 0")):
                for out, slot, size, kind in rows:
                    row = e.product(problem, size)
                    for k in range(size):
                        one = e.scalar(slot, kind, e.sum(lane, k * self.width))
                        e.put(one, out, kind, e.sum(row, k))
            self._give(lane)

        self._each_lane(free, of_lane)
        filled = self.lowering.all_of(free, self._held())
        x0 = listed(e.loads(self.x0, self.dtype, n))
        self.state.choose(filled, self._run(self.algebra.begin, x0, *self.state.load()))
        if self.units:
            self.units.forget(filled)

    def _each_lane(self, mask, body: Callable[[str], None]):
        """``body(lane)`` for each lane of a mask, by a scalar of 64 bits."""
        e = self.emitter
        bits = e.named(f"bitcast {e.vector(bool)} {mask.name} to i{self.width}")
        left = e.slot("i64")
        e.do(f"store i64 {e.named(f'zext i{self.width} {bits} to i64')}, ptr {left}")
        e.declare("llvm.cttz.i64", "i64", "i64, i1")

        def enter():
            rest = e.read(f"load i64, ptr {left}")
            return rest, e.named(f"icmp ne i64 {rest}, 0")

        def turn(rest):
            lane = e.named(f"call i64 @llvm.cttz.i64(i64 {rest}, i1 true)")
            fewer = e.named(f"and i64 {rest}, {e.named(f'sub i64 {rest}, 1')}")
            e.do(f"store i64 {fewer}, ptr {left}")
            body(lane)

        e.loop(enter, turn)

    def _give(self, lane):
        """Give a lane the next problem, if there is one."""
        e, n = self.emitter, self.n
        following = e.read(f"load i64, ptr {self.following}")
        e.put("-1", self.ids, "i64", lane)
        with e.when(e.named(f"icmp slt i64 {following}, %count")):
            e.do(f"store i64 {e.sum(following, 1)}, ptr {self.following}")
            problem = e.named(f"sext i32 {e.scalar('%order', 'i32', following)} to i64")
            e.put(problem, self.ids, "i64", lane)
            data = e.named(f"sdiv i64 {problem}, %starts")
            take_numbers(e, (self.table["x0"], problem), (self.x0, lane), (n, self.dtype))
            for name, slot in zip(("lower", "upper"), self.bounds, strict=False):
                take_numbers(e, (self.table[name], data), (slot, lane), (n, self.dtype))
            self.inputs.give(data, lane)

    # --- one round ----------------------------------------------------------------------------

    def _round(self):
        e, algebra = self.emitter, self.algebra
        self.lowering.held = self._held()
        old = self.state.load()
        x = old[algebra.x]
        again = factors = None
        if self.units is None:
            sums = self._sums(x)
            unit, sizes = (self.lowering.lift(np.ones(k, self.dtype)) for k in ((), (self.n,)))
        else:
            begins = self.lowering.compare("eq", old[algebra.begun][()], 0)
            reader = self.inputs.reader(map(boxed, x))
            sums, again = self.units.sums(reader, begins, x)
            factors, (unit, sizes) = self.units.factors, self.units.now
        evaluations = e.constant(self.kernel.evaluations, np.int32)
        if self.kernel.repairs:
            read = self.inputs.reader, factors, self.kernel.rows
            where = Repair(x, self._box(), self.inputs.end, *read)
            sums, evaluations = repair(self.lowering, sums, where)
        self.lowering.held = None  # our own loops end for any numbers
        how = unit, sizes, boxed(evaluations), *self.options, *self._box()
        new = self._run(algebra.turn, *old, *sums, *how)
        if again is None:
            self.state.store(new)
        else:
            self.state.choose(self.lowering.invert(again), new)

    def _sums(self, x):
        """The sums of normal equations at parameters, in units of one."""
        elimination, read = self.kernel.elimination, self.inputs.reader
        if elimination is None:
            return sums_of(self.lowering, read(map(boxed, x)), self.n)
        return reduced_sums(self.lowering, read, elimination, x, self.dtype)
