"""A formula in a text as a model: read by a grammar of its own, nothing of it is run by Python.

Python's parser makes a tree of the text, and no code.  The walk over the tree knows numbers, names,
arithmetic, comparisons and calls of the functions below; whatever else is in it is an error.  What
comes out are nested functions, one for each node.
"""

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import Parameter, Signature
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from jaxlsq.cli.grammar import COMPARISONS, CONSTANTS, FUNCTIONS, ONE, OPERATORS, TWO, WORDS
from jaxlsq.cli.spelling import GREEK, normal_name

__all__ = ["Formula", "parse"]

# Beyond these a text is no formula that anyone has written; they bound time and memory.
MOST_CHARACTERS, MOST_NODES, MOST_LEVELS = 10_000, 2_000, 100
# Exponents up to which a power is one of products.
MOST_PRODUCTS = 64


@dataclass(frozen=True)
class Formula:
    """A model made of a text: ``formula(x, *params)``, or with the parameters by name.

    Attributes
    ----------
    text : str
        As it was given.
    names : tuple of str
        Of the parameters, in the order in which they first appear.
    variable : str
        The name of the independent variable.
    """

    text: str
    names: tuple[str, ...]
    variable: str
    _value: Callable[[dict[str, Any]], Any] = field(repr=False, compare=False)

    @property
    def __signature__(self) -> Signature:
        kind = Parameter.POSITIONAL_OR_KEYWORD
        return Signature([Parameter(name, kind) for name in (self.variable, *self.names)])

    def __call__(self, *arguments: Any, **named: Any) -> jax.Array:
        bound = self.__signature__.bind(*arguments, **named)
        return self._value({name: jnp.asarray(value) for name, value in bound.arguments.items()})


def parse(text: str, variable: str = "x") -> Formula:
    """A model, in jax.numpy, of a formula such as ``a*exp(-b*x) + c``.

    Parameters
    ----------
    text : str
        Numbers, names, ``+ - * / % **`` (``^`` is ``**``: it binds more strongly than a sign, and
        from the right), ``< <= > >= == !=``, ``and or not``, ``value if condition else other``,
        and calls of `FUNCTIONS`.  Names that are neither functions nor `CONSTANTS` are
        parameters; they have Latin and Greek letters, digits and ``_``.  Numbers are
        floating-point: ``1/2`` is 0.5.  A comparison outside of a condition counts as 1 or 0.
    variable : str
        The independent variable, which has to be in the formula.

    Returns
    -------
    Formula

    Raises
    ------
    TypeError
        For anything but a text.
    ValueError
        For what is no formula, and for one that is too long; it says where.

    Examples
    --------
    >>> from jaxlsq.cli.formula import parse
    >>> model = parse("a*exp(-b*x) + c")
    >>> model.names
    ('a', 'b', 'c')
    >>> float(model(0.0, a=2.0, b=1.0, c=0.5))
    2.5
    """
    walk = _Walk(text, variable)
    root = walk.node(_tree(text), 0)
    if variable not in walk.seen:
        raise ValueError(
            f"the formula {_short(text)} does not have the variable {variable} in it; its names "
            f"are {', '.join(walk.seen) or 'none'}. A constant is for example c + 0*{variable}."
        )
    names = tuple(name for name in sorted(walk.seen, key=walk.seen.__getitem__) if name != variable)
    if not names:
        raise ValueError(f"the formula {_short(text)} has no parameter: there is nothing to fit.")
    return Formula(text, names, variable, _as_number(root).value)


def _tree(text: Any) -> ast.expr:
    """Python's tree of a text, unless that is none, or too long or too deep to be looked at."""
    if not isinstance(text, str):
        raise TypeError(f"a formula must be a text, got {type(text).__name__}.")
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"the formula has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read. "
            "Write it as a function in a file, and pass it as module:function."
        )
    if "#" in text:
        raise ValueError(f"the formula {_short(text)} has a #: there are no comments in formulas.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a number that goes on as a name, such as 2if
            return ast.parse(" ".join(text.split()).replace("^", "**"), mode="eval").body
    except SyntaxError as error:
        why = re.split(r"[.;] ", error.msg)[0]
        raise ValueError(
            f"the formula {_short(text)} can't be read: {why}. Products have a star: 2*x, "
            "a*(x - b)."
        ) from None
    except (ValueError, RecursionError, MemoryError):  # a NUL; the parser's limits of nesting
        raise ValueError(
            f"the formula {_short(text)} can't be read: it is nested too deeply, or has characters "
            "that are none of a formula's."
        ) from None


class _Node(NamedTuple):
    """A part of a formula: a function of the names' values, or a number that is known."""

    value: Callable[[dict[str, Any]], Any]
    constant: float | None = None
    is_condition: bool = False


def _number(constant: float):
    return _Node(lambda names: constant, constant)


def _as_number(node: _Node):
    """A condition as 1 or 0; a number as it is."""
    if not node.is_condition:
        return node
    return _Node(lambda names: jnp.where(node.value(names), 1.0, 0.0))


class _Walk:
    """The walk over a tree: `node` of the root, then `seen` has the names in their order."""

    def __init__(self, text: str, variable: str):
        self.text, self.variable = text, variable
        self.seen: dict[str, int] = {}  # names, and where they first appear
        self.count = 0

    def node(self, tree: ast.AST, level: int) -> _Node:
        """A node and all below it."""
        self.count += 1
        if level > MOST_LEVELS or self.count > MOST_NODES:
            raise ValueError(
                f"the formula {_short(self.text)} is too long: at most {MOST_NODES:,} parts, "
                f"{MOST_LEVELS} inside each other, are read. Write it as a function in a file."
            )
        read = getattr(self, f"_{type(tree).__name__}", None)
        if read is None:
            self.refuse(tree, f"{WORDS.get(type(tree), 'this')} is not allowed in a formula")
        return read(tree, level + 1)

    def refuse(self, tree: ast.AST, why: str, hint: str = "") -> NoReturn:
        """Raise for a part of the formula."""
        part = f" (in {_short(ast.unparse(tree))})" if isinstance(tree, ast.expr) else ""
        if isinstance(tree, ast.Attribute) and tree.attr in FUNCTIONS:
            hint = f" Functions go without a module: {tree.attr}(...)."
        raise ValueError(f"the formula {_short(self.text)}: {why}{part}.{hint}")

    def number(self, tree: ast.AST, level: int) -> _Node:
        """A node that is a number."""
        return _as_number(self.node(tree, level))

    def condition(self, tree: ast.AST, level: int) -> _Node:
        """A node that is a condition."""
        node = self.node(tree, level)
        if not node.is_condition:
            self.refuse(tree, "a condition is expected, such as x > 0")
        return node

    def folded(self, tree: ast.AST, function: Any, nodes: list[_Node]) -> _Node:
        """A function of numbers; at once where all of them are known."""
        constants = [node.constant for node in nodes]
        if any(constant is None for constant in constants):
            values = [node.value for node in nodes]
            return _Node(lambda names: function(*(value(names) for value in values)))
        try:
            result = function(*constants)
            constant = math.nan if isinstance(result, complex) else float(result)
        except (OverflowError, ZeroDivisionError):
            constant = math.nan
        if not math.isfinite(constant):
            self.refuse(tree, "this number is not finite, or not real")
        return _number(constant)

    # --- one method for each kind of node that is allowed -------------------------

    def _Constant(self, tree: ast.Constant, level: int) -> _Node:
        if type(tree.value) not in (int, float):
            self.refuse(tree, "this is no real number")
        try:
            value = float(tree.value)  # pyright: ignore[reportArgumentType]
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            self.refuse(tree, "this number is beyond 1.8e308")
        return _number(value)

    def _Name(self, tree: ast.Name, level: int) -> _Node:
        name = tree.id
        if name in CONSTANTS:
            return _number(CONSTANTS[name])
        if name in FUNCTIONS:
            self.refuse(tree, f"{name} is a function, and no parameter's name; write {name}(...)")
        if normal_name(name) != name:
            self.refuse(
                tree,
                f"a name begins with a letter, and has Latin letters, digits, _ and {GREEK[:6]}... "
                "in it",
            )
        self.seen[name] = min(self.seen.get(name, tree.col_offset), tree.col_offset)
        return _Node(lambda names: names[name])

    def _UnaryOp(self, tree: ast.UnaryOp, level: int) -> _Node:
        if isinstance(tree.op, ast.Not):
            node = self.condition(tree.operand, level)
            return _Node(lambda names: jnp.logical_not(node.value(names)), is_condition=True)
        if isinstance(tree.op, ast.Invert):
            self.refuse(tree, "~ is not allowed in a formula")
        node = self.number(tree.operand, level)
        minus = isinstance(tree.op, ast.USub)
        return self.folded(tree, operator.neg, [node]) if minus else node

    def _BinOp(self, tree: ast.BinOp, level: int) -> _Node:
        left, right = self.number(tree.left, level), self.number(tree.right, level)
        if isinstance(tree.op, ast.Pow):
            return self.folded(tree, _power(right.constant), [left, right])
        function = OPERATORS.get(type(tree.op))
        if function is None:
            self.refuse(tree, "this operator is not allowed in a formula")
        return self.folded(tree, function, [left, right])

    def _Compare(self, tree: ast.Compare, level: int) -> _Node:
        nodes = [self.number(part, level) for part in (tree.left, *tree.comparators)]
        tests = [COMPARISONS[type(op)] for op in tree.ops if type(op) in COMPARISONS]
        if len(tests) < len(tree.ops):
            self.refuse(tree, "only < <= > >= == != compare numbers")
        values = [node.value for node in nodes]

        def value(names: dict[str, Any]):
            sides = [jnp.asarray(side(names)) for side in values]
            holds = [test(*sides[i : i + 2]) for i, test in enumerate(tests)]  # a < b < c
            return _all(jnp.logical_and, holds)

        return _Node(value, is_condition=True)

    def _BoolOp(self, tree: ast.BoolOp, level: int) -> _Node:
        nodes = [self.condition(part, level) for part in tree.values]
        join = jnp.logical_and if isinstance(tree.op, ast.And) else jnp.logical_or
        return _Node(
            lambda names: _all(join, [node.value(names) for node in nodes]), is_condition=True
        )

    def _IfExp(self, tree: ast.IfExp, level: int) -> _Node:
        return self.choice(tree.test, tree.body, tree.orelse, level)

    def choice(self, test: ast.AST, one: ast.AST, other: ast.AST, level: int) -> _Node:
        """``where(test, one, other)``."""
        holds = self.condition(test, level)
        first, second = self.number(one, level), self.number(other, level)
        return _Node(
            lambda names: jnp.where(holds.value(names), first.value(names), second.value(names))
        )

    def _Call(self, tree: ast.Call, level: int) -> _Node:
        name = tree.func.id if isinstance(tree.func, ast.Name) else None
        if name is None and isinstance(tree.func, ast.Attribute):
            self.node(tree.func, level)  # raises
        if name not in FUNCTIONS:
            what = f"{name} is no function of a formula" if name else "only functions can be called"
            near = get_close_matches(name, FUNCTIONS, 1) if name else ()
            meant = f" Did you mean {near[0]}?" if near else ""
            known = f" A product is written a*(...); functions are {' '.join(sorted(FUNCTIONS))}."
            self.refuse(tree, what, meant or known)
        if tree.keywords or len(tree.args) != FUNCTIONS[name]:
            count = f"{FUNCTIONS[name]} argument{'s' * (FUNCTIONS[name] > 1)}"
            self.refuse(tree, f"{name} takes {count}, without names")
        if name == "where":
            test, one, other = tree.args
            return self.choice(test, one, other, level)
        nodes = [self.number(argument, level) for argument in tree.args]
        values, function = [node.value for node in nodes], {**ONE, **TWO}[name]
        return _Node(lambda names: function(*(value(names) for value in values)))


def _power(exponent: float | None) -> Callable[[Any, Any], Any]:
    """``left ** right``, by products where the exponent is a small whole number."""
    if exponent is not None and exponent.is_integer() and abs(exponent) <= MOST_PRODUCTS:
        return lambda left, right: left ** int(exponent)
    return operator.pow


def _all(join: Callable[..., Any], conditions: Sequence[Any]):
    first, *rest = conditions
    for condition in rest:
        first = join(first, condition)
    return first


def _short(text: str) -> str:
    """A text in a message, its middle left out where it is long."""
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}")
