"""What is in formulas: functions, constants, operators; and words for what is not."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.scipy import special

__all__ = ["COMPARISONS", "CONSTANTS", "FUNCTIONS", "ONE", "OPERATORS", "TWO", "WORDS"]

CONSTANTS = {"pi": math.pi, "π": math.pi}
ONE: dict[str, Callable[..., Any]] = {
    **{name: getattr(jnp, name) for name in ("exp", "expm1", "log", "log1p", "log2", "log10")},
    **{name: getattr(jnp, name) for name in ("sqrt", "cbrt", "abs", "sign", "sin", "cos", "tan")},
    **{name: getattr(jnp, name) for name in ("sinh", "cosh", "tanh")},
    **{"ln": jnp.log, "erf": special.erf, "erfc": special.erfc},
    **{f"arc{name}": getattr(jnp, f"arc{name}") for name in ("sin", "cos", "tan")},
    **{f"a{name}": getattr(jnp, f"arc{name}") for name in ("sin", "cos", "tan")},
    **{f"arc{name}": getattr(jnp, f"arc{name}") for name in ("sinh", "cosh", "tanh")},
    **{f"a{name}": getattr(jnp, f"arc{name}") for name in ("sinh", "cosh", "tanh")},
}
TWO: dict[str, Callable[..., Any]] = {
    **{"arctan2": jnp.arctan2, "atan2": jnp.arctan2, "hypot": jnp.hypot},
    **{"minimum": jnp.minimum, "min": jnp.minimum, "maximum": jnp.maximum, "max": jnp.maximum},
}
# Names of functions, and how many arguments they take.
FUNCTIONS = {**dict.fromkeys(ONE, 1), **dict.fromkeys(TWO, 2), "where": 3}

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
# What is not in the grammar, in words.
WORDS: dict[type[ast.AST], str] = {
    ast.Attribute: "an attribute (a dot)",
    ast.Subscript: "an index in brackets",
    ast.Lambda: "a lambda",
    ast.NamedExpr: "an assignment (:=)",
    ast.JoinedStr: "a string",
    ast.Starred: "a star before an argument",
    ast.List: "a list",
    ast.Tuple: "a comma outside of a function's parentheses",
    ast.Dict: "a dict",
    ast.Set: "a set",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    **dict.fromkeys((ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp), "a loop"),
}
