r"""Householder triangularization of a few columns of any length, in machine code.

For a matrix A of columns :math:`a_k`, each step takes :math:`v = a_k / \operatorname{sign}(a_{kk})
\lVert a_k \rVert + e_k`, as MINPACK's ``qrfac`` does, and subtracts :math:`v\, v^T a_j / v_k` from
the columns after it, with what is left of them, below row k.  The rows that are done leave the
columns, so that every sum runs over whole columns, a register of elements at a time.
"""

import numpy as np

from jaxlsq.lowering.arrays import Lowering
from jaxlsq.lowering.emitter import Emitter
from jaxlsq.lowering.target import Target

__all__ = ["SIGNATURE", "reduction_text"]

SIGNATURE = "i64 @reduction(i64 %columns, i64 %stride, ptr %work, ptr %out)"
# Squares of elements between these neither overflow nor vanish.
SMALLEST, LARGEST = 1e-100, 1e100

_REAL = np.dtype(np.float64)


def reduction_text(target: Target) -> str:
    """A module of LLVM IR with ``reduction(columns, stride, work, out)``.

    `work` holds the columns, each of `stride` numbers: a multiple of the register's width, no less
    than the number of columns, and zero behind the data.  It is overwritten.  `out` is a square
    array with rows of as many numbers as there are columns, of which R is written on and above the
    diagonal.  The result is zero, and R is not written, where the squares of some element would
    leave the range of the type.
    """
    emitter = Emitter(target.width(_REAL))
    _Writer(emitter).write()
    return emitter.module(SIGNATURE, target.cpu_attributes)


class _Writer:
    def __init__(self, emitter):
        self.e = emitter
        lowering = Lowering(emitter)
        self.op, self.compare, self.where = lowering.op, lowering.compare, lowering.where
        self.zero, self.one = (emitter.constant(k, _REAL) for k in (0, 1))

    def write(self):
        e = self.e
        fine = e.slot("i1")
        e.do(f"store i1 true, ptr {fine}")
        e.repeat("0", "%columns", lambda k: self._check(self._column(k), fine))
        eliminate, leave = e.fresh("eliminate"), e.fresh("leave")
        e.fork(e.read(f"load i1, ptr {fine}"), eliminate, leave, likely=True)
        e.begin(leave)
        e.do("ret i64 0")
        e.begin(eliminate)
        with e.scope():
            e.repeat("0", "%columns", self._eliminate)
        e.do("ret i64 1")

    # --- columns ------------------------------------------------------------------

    def _column(self, k):
        return self.e.address("%work", "double", self.e.product(k, "%stride"))

    def _along(self, body):
        self.e.repeat("0", "%stride", body, step=self.e.width)

    def _at(self, column, i):
        return self.e.load(self.e.address(column, "double", i), _REAL, 8)

    def _gathered(self, body, word, begin):
        """What `word` makes of ``body(i)`` along the column, in all elements of a value."""
        e = self.e
        slot = e.slot(e.vector(_REAL))
        e.store(begin, slot)
        self._along(lambda i: e.store(body(i, e.load(slot, _REAL)), slot))
        total, kind = e.load(slot, _REAL), f"v{e.width}f64"
        if word == "fadd":
            given, kinds = "double 0.0, ", f"double, {e.vector(_REAL)}"
        else:
            given, kinds = "", e.vector(_REAL)
        name = e.declare(f"llvm.vector.reduce.{word}.{kind}", "double", kinds)
        scalar = e.named(f"call reassoc double {name}({given}{e.vector(_REAL)} {total.name})")
        return e.spread(scalar, _REAL)

    def _dot(self, a, b):
        def more(i, total):
            return self.op("add", total, self.op("mul", self._at(a, i), self._at(b, i)))

        return self._gathered(more, "fadd", self.zero)

    def _largest(self, a):
        def more(i, most):
            return self.op("max", most, self.op("abs", self._at(a, i)))

        return self._gathered(more, "fmaximum", self.zero)

    # --- steps --------------------------------------------------------------------

    def _check(self, column, fine):
        """Whether the elements of a column are in range; a NaN is not."""
        e, most = self.e, self._largest(column)
        inside = self.op(
            "and",
            self.compare("gt", most, SMALLEST),
            self.compare("lt", most, LARGEST),
            dtype=bool,
        )
        good = self.op("or", inside, self.compare("eq", most, 0), dtype=bool)
        both = e.named(f"and i1 {self.e.first(good)}, {e.read(f'load i1, ptr {fine}')}")
        e.do(f"store i1 {both}, ptr {fine}")

    def _eliminate(self, k):
        e, op, column = self.e, self.op, self._column(k)
        row = e.address("%out", "double", e.product(k, "%columns"))
        square = self._dot(column, column)
        blank = self.compare("eq", square, 0)
        head, norm = e.spread(e.scalar(column, "double", k), _REAL), op("sqrt", square)
        signed = self.where(self.compare("lt", head, 0), op("neg", norm), norm)
        divisor = self.where(blank, self.one, signed)

        def divide(i):
            scaled = op("div", self._at(column, i), divisor)
            e.store(scaled, e.address(column, "double", i), 8)

        self._along(divide)
        e.put(self.e.first(op("neg", signed)), row, "double", k)
        scaled = e.spread(e.scalar(column, "double", k), _REAL)
        pivot = op("add", scaled, self.where(blank, self.zero, self.one))
        e.put(self.e.first(pivot), column, "double", k)
        pivot = self.where(blank, self.one, pivot)

        def reflect(j):
            other = self._column(j)
            weight = op("div", self._dot(column, other), pivot)

            def subtract(i):
                new = op("sub", self._at(other, i), op("mul", weight, self._at(column, i)))
                e.store(new, e.address(other, "double", i), 8)

            self._along(subtract)
            e.put(e.scalar(other, "double", k), row, "double", j)
            e.put("0.0", other, "double", k)

        e.repeat(e.sum(k, 1), "%columns", reflect)
