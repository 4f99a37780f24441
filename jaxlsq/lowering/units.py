"""Float32 and its range: units of each lane's residual and parameters, powers of two.

They are taken out of the sums over points once those are made, which rounds nothing, wherever no
square can have left the range of the type.  Where one may have, as is seen at a fit's first trial,
the largest elements are looked for, and the fit is evaluated in its units from then on, beside the
others.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlsq.lowering.algebra import triangle
from jaxlsq.lowering.arrays import Lowering
from jaxlsq.lowering.control import Carry
from jaxlsq.lowering.reading import Reader
from jaxlsq.lowering.structural import boxed
from jaxlsq.lowering.sums import Factors, Sums, largest_elements, row_count, sums_of
from jaxlsq.numerics.norm import power_of_two
from jaxlsq.schedule.pool import sizes_of

__all__ = ["Units"]

# Between its reciprocal and this, sums of squares are far from both ends of float32.
SAFE = 1e25
# The same of the sizes of parameters.
SAFE_SIZE = 1e10
# A column whose squares vanish counts where its parameter is so much larger than the residual.
NEGLIGIBLE = 2.0**20


@lru_cache(maxsize=64)
def _from_sums(n, dtype):
    """Units of a lane whose sums are safe."""
    real, several = jax.ShapeDtypeStruct((), dtype), jax.ShapeDtypeStruct((n,), dtype)

    def units(square, x0):
        return power_of_two(jnp.sqrt(square)), sizes_of(x0)

    with jax.enable_x64(False):
        return jax.make_jaxpr(units)(real, several)


@lru_cache(maxsize=64)
def _from_largest(n, dtype, steady, is_loss):
    """Units of one whose sums are not, by the largest elements."""
    real, several = jax.ShapeDtypeStruct((), dtype), jax.ShapeDtypeStruct((n,), dtype)

    def units(largest, columns, x0):
        unit = power_of_two(jnp.sqrt(largest) if is_loss else largest)
        exact = unit / power_of_two(columns)
        return unit, jnp.where(jnp.array(steady) & (columns > 0), exact, sizes_of(x0))

    with jax.enable_x64(False):
        return jax.make_jaxpr(units)(real, several, several)


class Units:
    """The units of the lanes of a kernel.

    Parameters
    ----------
    lowering : Lowering
    n : int
        Parameters.
    dtype : dtype
    """

    def __init__(self, lowering: Lowering, n: int, dtype: Any) -> None:
        self.lowering: Lowering = lowering
        self.n: int = n
        self.dtype: Any = dtype
        ones = [lowering.lift(np.ones(shape, dtype)) for shape in ((), (n,))]
        self._ones = [*ones, lowering.lift(np.zeros((), bool))]
        self.carry: Carry = Carry(lowering.emitter, self._ones)

    def forget(self, filled: Any) -> None:
        """Of the lanes of a mask: they have new problems."""
        self.carry.choose(filled, self._ones)

    @property
    def now(self) -> tuple[Any, Any]:
        """Unit of the residual, and sizes of the parameters."""
        unit, sizes, _ = self.carry.load()
        return unit, sizes

    @property
    def _far(self) -> Any:
        """A mask of the lanes that are evaluated in their units."""
        return self.carry.load()[2][()]

    @property
    def factors(self) -> Factors:
        """What makes rows and columns of these units."""
        unit, sizes = self.now
        op, one = self.lowering.op, self.lowering.emitter.constant(1, self.dtype)
        return Factors(op("div", one, unit[()]), [op("div", s, unit[()]) for s in sizes])

    def sums(self, reader: Reader, begins: Any, x0: Any) -> tuple[Sums, Any]:
        """The sums in the units, and a mask of the lanes that are to be evaluated once more.

        Parameters
        ----------
        reader : Reader
        begins : Value
            A mask of the lanes whose first trial this is.
        x0 : (n,) array of values
            Where that is.
        """
        e, lowering = self.lowering.emitter, self.lowering
        sums = sums_of(lowering, reader, self.n)
        again = Carry(e, [lowering.lift(np.zeros((), np.int8))])
        with e.when(e.any(begins)):
            self._measure(reader, begins, x0, sums, again)
        factors = self.factors
        out = Carry(e, sums.times(lowering, factors))
        far = self._far
        with e.when(e.any(far), likely=False):
            out.choose(far, sums_of(lowering, reader, self.n, factors))
        (flags,) = again.load()
        mask = lowering.compare("ne", flags.item(), 0)
        return Sums(*out.load()), mask

    def _measure(self, reader, begins, x0, sums, again):
        """Choose units at first trials."""
        e, lowering = self.lowering.emitter, self.lowering
        usual = _from_sums(self.n, self.dtype)
        unit, sizes = lowering.run(usual.jaxpr, usual.consts, [sums.square, x0])
        far = self._far
        first = lowering.all_of(begins, lowering.invert(far))
        safe: Any = self._is_safe(sums, unit[()], sizes)
        extreme = lowering.all_of(first, lowering.invert(safe))
        off = lowering.lift(np.zeros((), bool))
        self.carry.choose(lowering.all_of(first, safe), [unit, sizes, off])
        again.store([boxed(lowering.op("convert_element_type", extreme, dtype=np.int8))])
        with e.when(e.any(extreme), likely=False):
            largest = largest_elements(lowering, reader, self.n)
            program = reader.program
            rows = row_count(len(program.jaxpr.outvars), self.n)
            steady = program.steady[rows : rows + self.n]
            found = _from_largest(self.n, self.dtype, steady, rows > 1)
            inputs = [boxed(largest[0]), largest[1:], x0]
            unit, sizes = lowering.run(found.jaxpr, found.consts, inputs)
            self.carry.choose(extreme, [unit, sizes, lowering.lift(np.ones((), bool))])

    def _is_safe(self, sums, unit, sizes):
        """Where no square has left the range, or none that matters."""
        compare, all_of, e = self.lowering.compare, self.lowering.all_of, self.lowering.emitter
        square = sums.square[()]
        safe = all_of(compare("gt", square, 1.0 / SAFE), compare("lt", square, SAFE))
        least = self.lowering.op("mul", unit, e.constant(NEGLIGIBLE, self.dtype))
        diagonal = [s for s, (i, j) in zip(sums.half, triangle(self.n), strict=True) if i == j]
        for element, size in zip(diagonal, sizes, strict=True):
            hidden = all_of(
                compare("lt", element, 1.0 / SAFE),
                self.lowering.op("gt", size, least, dtype=bool),
            )
            safe = all_of(
                safe,
                self.lowering.invert(hidden),
                compare("lt", element, SAFE),
                compare("gt", size, 1.0 / SAFE_SIZE),
                compare("lt", size, SAFE_SIZE),
            )
        return safe
