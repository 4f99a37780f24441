"""Primitives of JAX that act element by element, as instructions."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.lax import RoundingMethod

from jaxlsq.lowering.choosing import choose, comparison, extreme, is_float
from jaxlsq.lowering.emitter import Emitter, Value, type_name
from jaxlsq.lowering.not_lowered import NotLowered

__all__ = ["ELEMENTWISE", "elementwise"]

# A product that is added to something is rounded once: processors do both in one instruction.
FUSED = "contract"
# Several divisions by one number, or one in a loop, may be products with its reciprocal: rounded
# twice, and ten times as fast.
RECIPROCAL = "arcp"


def elementwise(
    emitter: Emitter, name: str, params: Mapping[str, Any], arguments: Sequence[Value], dtype: Any
) -> Value:
    """The result of a primitive of `ELEMENTWISE`, of a given type.

    Raises
    ------
    NotLowered
        If it can't be written for these types.
    """
    known = _folded(name, arguments, np.dtype(dtype))
    if known is not None:
        return known if isinstance(known, Value) else emitter.constant(known, dtype)
    return ELEMENTWISE[name](emitter, params, arguments, np.dtype(dtype))


_FOLDED = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "and": operator.and_,
    "or": operator.or_,
    # Python's own of a number and a NaN is the first of them.
    "min": np.minimum,
    "max": np.maximum,
    "not": lambda a: (not a) if a.dtype == bool else ~a,
    "convert_element_type": lambda a: a,
}


def _folded(name, arguments, dtype):
    """The result where it is known: of numbers that are, or of a choice that is."""
    if name == "select_n" and arguments[0].known is not None:
        return arguments[1 + int(arguments[0].known)]
    if any(a.known is None for a in arguments) or name not in _FOLDED:
        return None
    with np.errstate(all="ignore"):
        return _of_type(_FOLDED[name](*(a.known for a in arguments)), dtype)


def _of_type(number, dtype):
    """A number in another type: what no integer of it is, the nearest one, and zero for a NaN."""
    if number.dtype.kind != "f" or dtype.kind not in "iu":
        return number.astype(dtype)
    ends = np.iinfo(dtype)
    if not ends.min < number < ends.max:
        number = 0 if np.isnan(number) else ends.min if number <= ends.min else ends.max
    return dtype.type(number)


def _is_bool(dtype):
    return dtype.kind == "b"


def _binary(real, integer, boolean=None):
    def write(emitter, params, arguments, dtype):
        a, b = arguments
        kind = emitter.vector(a.dtype)
        if is_float(a):
            return emitter.value(f"{real} {FUSED} {kind} {a.name}, {b.name}", dtype)
        word = boolean if boolean and _is_bool(a.dtype) else integer
        return emitter.value(f"{word} {kind} {a.name}, {b.name}", dtype)

    return write


def _unary_intrinsic(word):
    def write(emitter, params, arguments, dtype):
        return emitter.intrinsic(word, arguments[0])

    return write


def _neg(emitter, params, arguments, dtype):
    (a,) = arguments
    kind = emitter.vector(dtype)
    if is_float(a):
        return emitter.value(f"fneg {kind} {a.name}", dtype)
    return emitter.value(f"sub {kind} zeroinitializer, {a.name}", dtype)


def _not(emitter, params, arguments, dtype):
    ones = emitter.constant(np.invert(dtype.type(0)), dtype)
    return emitter.value(f"xor {emitter.vector(dtype)} {arguments[0].name}, {ones.name}", dtype)


def _abs(emitter, params, arguments, dtype):
    (a,) = arguments
    if is_float(a):
        return emitter.intrinsic("fabs", a)
    return extreme("gt")(emitter, {}, [a, _neg(emitter, {}, [a], dtype)], dtype)


def _square(emitter, params, arguments, dtype):
    return ELEMENTWISE["mul"](emitter, {}, [arguments[0]] * 2, dtype)


def _one_minus_square(emitter, params, arguments, dtype):
    """``(1 - x) (1 + x)``."""
    one = emitter.constant(1, dtype)
    factors = [
        ELEMENTWISE[word](emitter, {}, [one, arguments[0]], dtype) for word in ("sub", "add")
    ]
    return ELEMENTWISE["mul"](emitter, {}, factors, dtype)


def _polynomial(emitter, params, arguments, dtype):
    """By Horner's rule, of x and coefficients from the constant one on."""
    x, *coefficients = arguments
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        product = ELEMENTWISE["mul"](emitter, {}, [value, x], dtype)
        value = ELEMENTWISE["add"](emitter, {}, [product, coefficient], dtype)
    return value


def _integer_pow(emitter, params, arguments, dtype):
    power, (base,) = params["y"], arguments
    if power == 0:
        return emitter.constant(1, dtype)
    result, k = None, abs(power)
    while k:
        if k & 1:
            result = (
                base if result is None else ELEMENTWISE["mul"](emitter, {}, [result, base], dtype)
            )
        k >>= 1
        if k:
            base = _square(emitter, {}, [base], dtype)
    assert result is not None
    if power > 0:
        return result
    return ELEMENTWISE["div"](emitter, {}, [emitter.constant(1, dtype), result], dtype)


def _div(emitter, params, arguments, dtype):
    a, b = arguments
    if is_float(a):
        flags = FUSED if b.is_exact else f"{FUSED} {RECIPROCAL}"
        text = f"fdiv {flags} {emitter.vector(dtype)} {a.name}, {b.name}"
        return emitter.value(text, dtype)
    if b.known is None or b.known == 0:
        raise NotLowered("a division of integers")
    word = "sdiv" if dtype.kind == "i" else "udiv"
    return emitter.value(f"{word} {emitter.vector(dtype)} {a.name}, {b.name}", dtype)


def _rem(emitter, params, arguments, dtype):
    a, b = arguments
    if is_float(a):
        return emitter.value(f"frem {emitter.vector(dtype)} {a.name}, {b.name}", dtype)
    if b.known is None or b.known == 0:
        raise NotLowered("a remainder of integers")
    word = "srem" if dtype.kind == "i" else "urem"
    return emitter.value(f"{word} {emitter.vector(dtype)} {a.name}, {b.name}", dtype)


def _sign(emitter, params, arguments, dtype):
    (a,) = arguments
    zero, one, less = (emitter.constant(v, dtype) for v in (0, 1, -1 if dtype.kind != "u" else 0))
    positive = ELEMENTWISE["gt"](emitter, {}, [a, zero], bool)
    negative = ELEMENTWISE["lt"](emitter, {}, [a, zero], bool)
    return choose(emitter, positive, one, choose(emitter, negative, less, a))


def _round(emitter, params, arguments, dtype):
    to_even = params["rounding_method"] == RoundingMethod.TO_NEAREST_EVEN
    return emitter.intrinsic("roundeven" if to_even else "round", arguments[0])


def _rsqrt(emitter, params, arguments, dtype):
    root = emitter.intrinsic("sqrt", arguments[0])
    return ELEMENTWISE["div"](emitter, {}, [emitter.constant(1, dtype), root], dtype)


def _is_finite(emitter, params, arguments, dtype):
    size, kind = emitter.intrinsic("fabs", arguments[0]), emitter.vector(arguments[0].dtype)
    infinity = emitter.constant(np.inf, arguments[0].dtype)
    return emitter.value(f"fcmp one {kind} {size.name}, {infinity.name}", bool)


def _select_n(emitter, params, arguments, dtype):
    which, *cases = arguments
    if _is_bool(which.dtype):
        return choose(emitter, which, cases[1], cases[0])
    result = cases[-1]
    for k in reversed(range(len(cases) - 1)):
        here = ELEMENTWISE["eq"](emitter, {}, [which, emitter.constant(k, which.dtype)], bool)
        result = choose(emitter, here, cases[k], result)
    return result


def _clamp(emitter, params, arguments, dtype):
    low, x, high = arguments
    raised = ELEMENTWISE["max"](emitter, {}, [x, low], dtype)
    return ELEMENTWISE["min"](emitter, {}, [raised, high], dtype)


def _shift(word):
    def write(emitter, params, arguments, dtype):
        a, b = arguments
        if b.known is None or not 0 <= b.known < 8 * dtype.itemsize:
            raise NotLowered("a shift by a variable")
        return emitter.value(f"{word} {emitter.vector(dtype)} {a.name}, {b.name}", dtype)

    return write


def _bitcast(emitter, params, arguments, dtype):
    (a,) = arguments
    if a.dtype.itemsize != dtype.itemsize or _is_bool(a.dtype) or _is_bool(dtype):
        raise NotLowered("a change of type by bits to one of another size")
    if type_name(a.dtype) == type_name(dtype):
        return Value(a.name, dtype)
    text = f"bitcast {emitter.vector(a.dtype)} {a.name} to {emitter.vector(dtype)}"
    return emitter.value(text, dtype)


def _convert(emitter, params, arguments, dtype):
    (a,) = arguments
    given, wanted = emitter.vector(a.dtype), emitter.vector(dtype)
    if a.dtype == dtype:
        return a
    if _is_bool(dtype):
        zero = emitter.constant(0, a.dtype)
        return ELEMENTWISE["ne"](emitter, {}, [a, zero], bool)
    if dtype.kind == "f":
        if a.dtype.kind == "f":
            word = "fptrunc" if a.dtype.itemsize > dtype.itemsize else "fpext"
        else:
            word = "sitofp" if a.dtype.kind == "i" else "uitofp"
        return emitter.value(f"{word} {given} {a.name} to {wanted}", dtype)
    if a.dtype.kind == "f":
        sign = "s" if dtype.kind == "i" else "u"
        kind = f"f{8 * a.dtype.itemsize}"
        called = f"llvm.fpto{sign}i.sat.v{emitter.width}{type_name(dtype)}.v{emitter.width}{kind}"
        emitter.declare(called, wanted, given)
        return emitter.value(f"call {wanted} @{called}({given} {a.name})", dtype)
    size, new = (1 if _is_bool(t) else 8 * t.itemsize for t in (a.dtype, dtype))
    if size == new:
        return Value(a.name, dtype)
    widen = "sext" if a.dtype.kind == "i" else "zext"
    word = "trunc" if size > new else widen
    return emitter.value(f"{word} {given} {a.name} to {wanted}", dtype)


def _same(emitter, params, arguments, dtype):
    return arguments[0]


ELEMENTWISE: dict[str, Callable[..., Value]] = {
    "add": _binary("fadd", "add", "or"),
    "add_any": _binary("fadd", "add", "or"),
    "sub": _binary("fsub", "sub"),
    "mul": _binary("fmul", "mul", "and"),
    "div": _div,
    "rem": _rem,
    "and": _binary("", "and"),
    "or": _binary("", "or"),
    "xor": _binary("", "xor"),
    "max": extreme("gt"),
    "min": extreme("lt"),
    **{word: comparison(word) for word in ("lt", "le", "gt", "ge", "eq", "ne")},
    "neg": _neg,
    "not": _not,
    "abs": _abs,
    "sign": _sign,
    "square": _square,
    "integer_pow": _integer_pow,
    # Since JAX 0.12.
    "one_minus_square": _one_minus_square,
    "polynomial": _polynomial,
    "sqrt": _unary_intrinsic("sqrt"),
    "rsqrt": _rsqrt,
    "floor": _unary_intrinsic("floor"),
    "ceil": _unary_intrinsic("ceil"),
    "round": _round,
    "is_finite": _is_finite,
    "select_n": _select_n,
    "clamp": _clamp,
    "shift_left": _shift("shl"),
    "shift_right_logical": _shift("lshr"),
    "shift_right_arithmetic": _shift("ashr"),
    "bitcast_convert_type": _bitcast,
    "convert_element_type": _convert,
    "copy": _same,
    "copy_p": _same,
    "stop_gradient": _same,
    # Where values lie: one lane's are in registers.
    "reshard": _same,
    "pvary": _same,
    "pcast": _same,
    "sharding_constraint": _same,
}
