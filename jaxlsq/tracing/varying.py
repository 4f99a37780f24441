"""Values that vary over the axes of a mesh, inside ``shard_map(check_vma=True)``.

There the type of a value says over which axes of the mesh it differs between devices, JAX's
functions cast their operands so that all vary alike, and a loop must carry what it began with.  An
equation of a jaxpr is bare of such casts, since it was traced where nothing varied: here they are
made.  Loops and branches are built anew, with all that goes into them cast.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxlsq.tracing.parts import CALLS, REMATERIALIZED, RULES, opened, scan_counts
from jaxlsq.tracing.types import Equation

__all__ = [
    "alike",
    "axes_of",
    "is_cast",
    "results_that_vary",
    "varies",
    "without_mesh",
]

# ``run(jaxpr, consts, inputs)`` gives the outputs of an open jaxpr.
Run = Callable[[Any, Sequence[Any], Sequence[Any]], list[Any]]


def _axes(value):
    return jax.typeof(value).manual_axis_type.varying if isinstance(value, Tracer) else frozenset()


def axes_of(tree: Any) -> frozenset[str]:
    """The axes of the mesh over which any leaf of a pytree varies."""
    return frozenset().union(*map(_axes, jax.tree.leaves(tree)))


def alike(tree: Any, axes: frozenset[str] | None = None) -> Any:
    """A pytree whose leaves all vary over the axes, or over those of any of them."""
    axes = axes_of(tree) if axes is None else axes

    def cast(leaf):
        missing = tuple(sorted(axes - _axes(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


def is_cast(eqn: Equation) -> bool:
    """Whether an equation only says that a value varies."""
    return eqn.primitive.name in ("pvary", "pcast")


def varies(eqn: Equation, arguments: Sequence[Any]) -> bool:
    """Whether values vary, or did where an equation was traced."""
    was = (atom.aval for atom in (*eqn.invars, *eqn.outvars))
    return any(map(_axes, arguments)) or any(
        getattr(getattr(aval, "manual_axis_type", None), "varying", None) for aval in was
    )


def results_that_vary(eqn: Equation, arguments: Sequence[Any], run: Run, bind: Any) -> list[Any]:
    """What an equation gives for arguments of which some vary.

    Parameters
    ----------
    eqn : JaxprEqn
        Of which `varies` is true.
    arguments : list of arrays
    run : callable
        For the jaxprs of loops and branches.
    bind : callable
        ``bind(eqn, arguments)`` for any other equation.
    """
    arguments = alike(list(arguments))
    axes = axes_of(arguments)

    def ran(closed, *inputs):
        jaxpr, consts = opened(closed)
        return alike(run(jaxpr, alike(consts, axes), inputs), axes)

    name = eqn.primitive.name
    if name in _CALLED:
        return ran(eqn.params[_CALLED[name]], *arguments)
    if name in _BUILT:
        return list(_BUILT[name](eqn.params, arguments, ran))
    is_own = name in RULES
    results = [] if is_own else list(bind(eqn, arguments))
    # What has a program inside takes the types of its results from there.
    has_program = any("jaxpr" in key for key in eqn.params)
    if is_own or (has_program and any(_axes(v) != axes for v in results)):
        raise NotImplementedError(
            f"fun calls {name}, whose program can't be told what varies over the axes of the mesh "
            f"({', '.join(sorted(axes))}). Pass check_vma=False to jax.shard_map."
        )
    return results


def without_mesh(constant: Any) -> Any:
    """A jaxpr's constant without the mesh under which JAX remembers its type, if there is one."""
    is_view = isinstance(constant, np.ndarray) and type(constant) is not np.ndarray
    has_mesh = is_view and not jax.typeof(constant).sharding.mesh.empty
    return np.array(constant) if has_mesh else constant


def _while(params, arguments, ran):
    cond_count, count = params["cond_nconsts"], params["body_nconsts"]
    of_cond = arguments[:cond_count]
    of_body = arguments[cond_count : cond_count + count]

    def goes_on(carry):
        return ran(params["cond_jaxpr"], *of_cond, *carry)[0]

    def turn(carry):
        new, going = ran(params["body_jaxpr"], *of_body, *carry), goes_on(carry)
        # Where `vmap` made many loops one, each with an end of its own, lanes come first.
        return [_kept(going, *pair) for pair in zip(new, carry, strict=True)] if going.ndim else new

    return lax.while_loop(lambda c: jnp.any(goes_on(c)), turn, arguments[cond_count + count :])


def _kept(going, new, old):
    going = going.reshape(*going.shape, *[1] * (new.ndim - going.ndim))
    return jnp.where(going, new, old)


def _scan(params, arguments, ran):
    count, carried = scan_counts(params)
    of_all, carry = arguments[:count], arguments[count : count + carried]

    def body(carry, xs):
        out = ran(params["jaxpr"], *of_all, *carry, *xs)
        return out[:carried], out[carried:]

    how = {name: params[name] for name in ("length", "reverse", "unroll")}
    carry, rows = lax.scan(body, carry, arguments[count + carried :], **how)
    return [*carry, *rows]


def _cond(params, arguments, ran):
    which, *operands = arguments
    branches = [lambda *a, branch=branch: ran(branch, *a) for branch in params["branches"]]
    if which.dtype == bool:
        return lax.cond(which, branches[1], branches[0], *operands)
    return lax.switch(which, branches, *operands)


_CALLED = CALLS | REMATERIALIZED | {"custom_vmap_call": "call"}
_BUILT = {"while": _while, "scan": _scan, "cond": _cond}
