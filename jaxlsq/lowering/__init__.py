"""Compiled lanes: one fit in each element of a SIMD register.

A batch of fits is one algorithm on many data sets. XLA works it as arrays of lanes that are
written and read between kernels. Here the program of **one** fit is written down as machine code
in which each scalar is a vector register, and each element of it belongs to another fit: eight of
float64 or sixteen of float32 go through the same instructions. Nothing of the numerics is written
twice.

From Python to a register
-------------------------
Take ``a * exp(-k * x) - y``, at 50 points.  JAX traces it, with its derivatives, to a jaxpr::

    f:f64[50] = mul (neg k) x        what a point needs of x is x at this point
    g:f64[50] = exp f
    h:f64[50] = mul a g
    r:f64[50] = sub h y

1. **One point** (`points`, `axes`, `unrolled`). From the results backwards, each array has a
   *place*: the axes along which the points lie in it. Where a point's result is made of that
   point's operands only, the same equations with one in the place of 50 are the program of one
   point, and the number of points is no longer in it: data of another length compile nothing. What
   mixes data that do not depend on the parameters is computed beforehand. Where the model mixes
   points (a cumulative sum, pieces put together), a few of them are taken as one point with several
   residuals; many raise `NotLowered`, and the XLA pool works those fits.
2. **One lane** (`algebra`). `judge`, `relinearize` and `propose`, the functions that the pool
   works with, are traced for one fit without an axis of lanes.
3. **Text** (`emitter`, `elementwise`, `functions`, `structural`, `control`, `arrays`). A jaxpr is
   interpreted on NumPy arrays whose elements are operands of LLVM's language: ``mul`` writes ``%7
   = fmul contract <8 x double> %5, %6``. An array of n parameters is n registers; a reshape or a
   slice writes nothing. A ``while`` goes on while any of the eight lanes is in it, and the others
   keep what they have; a ``cond`` computes both and selects. Exponentials and the like are
   polynomials (`jaxlsq.numerics.elementary`); what is rare asks the C library, element by element.
4. **Around it** (`kernel`, `reading`, `sums`, `units`, `repair`, `mode`). Loops are written around
   both programs: over points, with J'J, J'f and f'f in registers, and over trials. A lane whose
   fit has ended is written out, and its element of all registers is given to the next problem, so
   that each fit costs what it needs and no more.
5. **Machine code** (`target`, `engine`). LLVM compiles the text for this processor, in a tenth to
   a few tenths of a second; the code is remembered by the structure of what it was made from.

One fit on the host
-------------------
`routine` writes any jaxpr of a few numbers for one lane: a function of the addresses of its
arrays. ``leastsq`` and ``curve_fit`` of NumPy functions take `judge`, `relinearize` and `propose`
from it, a microsecond each, and `reduction` makes the triangle of a Jacobian that they need, with
a register's elements along the data.

What holds of it
----------------
- A lane's arithmetic is a sequence of operations on its element. Neither its neighbours nor the
  size or order of the batch nor the number of threads change a bit of a result.
- The same statuses, counts and solutions as the pool's, up to the rounding of sums; see
  ``tests/lowering/test_engine.py``.
- Subnormal numbers are zero inside, as they are in XLA, and the processor's mode is restored.
- The code owns nothing: buffers in, buffers out. Between two trials it looks at a flag that stops
  it.

Which engine worked is told by ``result.engine``, with the reason where it is XLA's pool: no
llvmlite, a GPU, too many parameters, or an operation that is not known here. To see the pool's
result beside it, `jaxlsq.lowering.engine.using`, or ``JAXLSQ_ENGINE=xla``.
"""
