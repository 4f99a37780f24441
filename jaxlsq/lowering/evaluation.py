"""The program that evaluates a block of data sets once, at parameters that it is given.

In the words of a function::

    evaluate(first, last, points, table, scratch):
        the stage
        for each register of data sets:
            their data, their parameters
            for each point:  residual and columns, added to J'J, J'f and f'f
            their row of results

With linear parameters those are found first, as `jaxlsq.lowering.eliminating` says.
"""

from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.lowering.algebra import square
from jaxlsq.lowering.arrays import Lowering, listed
from jaxlsq.lowering.eliminating import Elimination, completed, reduced_sums
from jaxlsq.lowering.emitter import Emitter, type_name
from jaxlsq.lowering.inputs import ALIGNMENT, Inputs, input_bytes, take_numbers
from jaxlsq.lowering.mode import flush_subnormals, restore_mode
from jaxlsq.lowering.point_program import PointProgram
from jaxlsq.lowering.structural import boxed
from jaxlsq.lowering.sums import sums_of
from jaxlsq.lowering.target import Target
from jaxlsq.numerics.sweep import certainty

__all__ = ["EVALUATION_SIGNATURE", "EVALUATION_TABLE", "Evaluation", "evaluation_text"]

EVALUATION_TABLE = ("x", "rows")
EVALUATION_SIGNATURE = (
    "void @evaluate(i64 %first, i64 %last, i64 %points, ptr %table, ptr noalias %scratch)"
)


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated of each data set.

    Attributes
    ----------
    point : PointProgram
    n : int
        Parameters that are given.
    elimination : Elimination or None
        Of linear parameters, which are not among the n.
    complete : bool
        Whether a row is, with linear parameters, all parameters and the reciprocal of the largest
        variance inflation of those that are free, which is given after the n; if not, half of
        J'J, J'f and f'f.
    """

    point: PointProgram
    n: int
    elimination: Elimination | None
    complete: bool

    @property
    def given(self) -> int:
        """Numbers of each data set that are given."""
        return 2 * self.n if self.complete else self.n

    @property
    def results(self) -> int:
        """Numbers of a row."""
        if self.complete:
            assert self.elimination is not None
            return self.elimination.n + 1
        return self.n * (self.n + 1) // 2 + self.n + 1

    def scratch_bytes(self, width: int, points: int) -> int:
        """Memory that a call needs."""
        return input_bytes(self.point, width, points) + ALIGNMENT


def evaluation_text(evaluation: Evaluation, target: Target) -> str:
    """The module of LLVM IR, in float64."""
    dtype = np.dtype(np.float64)
    emitter = Emitter(target.width(dtype))
    _Writer(evaluation, emitter, dtype).write(target.architecture)
    return emitter.module(EVALUATION_SIGNATURE, target.cpu_attributes)


class _Writer:
    """Writes the function of an evaluation."""

    def __init__(self, evaluation, emitter, dtype):
        self.evaluation, self.e, self.dtype = evaluation, emitter, dtype
        self.lowering = Lowering(emitter)

    def write(self, architecture):
        e, one = self.e, self.evaluation
        self.x, self.rows = (
            e.read(f"load ptr, ptr {e.address('%table', 'ptr', k)}") for k in range(2)
        )
        self.inputs = Inputs(self.lowering, one.point, len(EVALUATION_TABLE))
        mode = flush_subnormals(e, architecture)
        self.inputs.run_stage()
        self.given = e.slot(e.vector(self.dtype), one.given)
        self.found = e.slot(e.vector(self.dtype), one.results)
        e.repeat("%first", "%last", self._block, e.width)
        restore_mode(e, architecture, mode)
        e.do("ret void")

    def _block(self, first):
        e, one = self.e, self.evaluation
        last = e.named("sub i64 %last, 1")

        def give(lane):
            place = e.lesser(e.sum(first, lane), last)
            kind = one.given, self.dtype
            take_numbers(e, (self.x, place), (self.given, lane), kind)
            self.inputs.give(place, lane)

        e.repeat("0", str(e.width), give)
        numbers = e.loads(self.given, self.dtype, one.given)
        for k, value in enumerate(self._results(numbers)):
            e.store(value, e.address(self.found, e.vector(self.dtype), k))

        def put(lane):
            place = e.sum(first, lane)
            with e.when(e.named(f"icmp slt i64 {place}, %last")):
                row, name = e.product(place, one.results), type_name(self.dtype)
                for k in range(one.results):
                    value = e.scalar(self.found, name, e.sum(lane, k * e.width))
                    e.put(value, self.rows, name, e.sum(row, k))

        e.repeat("0", str(e.width), put)

    def _results(self, numbers):
        one, read = self.evaluation, self.inputs.reader
        xs = numbers[: one.n]
        if one.complete:
            found = completed(self.lowering, read, one.elimination, xs, self.dtype)
            rank = _rank(one.elimination, self.dtype)
            free = listed(numbers[one.n :])
            (value,) = self.lowering.run(rank.jaxpr, rank.consts, [found.sums.half, free])
            return [*found.x, value[()]]
        if one.elimination is None:
            sums = sums_of(self.lowering, read(map(boxed, xs)), one.n)
        else:
            sums = reduced_sums(self.lowering, read, one.elimination, xs, self.dtype)
        return [*sums.half, *sums.gradient, sums.square[()]]


@lru_cache(maxsize=64)
def _rank(one, dtype):
    """Of half of J'J, the linear parameters first, and flags of the others that are free."""
    n, k = one.n, len(one.linear)

    def rank(half, free):
        free = jnp.concatenate([jnp.ones(k), free]) > 0
        return certainty(square(half, n), free)

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        half = jax.ShapeDtypeStruct((n * (n + 1) // 2,), dtype)
        return jax.make_jaxpr(rank)(half, jax.ShapeDtypeStruct((n - k,), dtype))
