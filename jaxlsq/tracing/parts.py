"""The programs that equations of a jaxpr hold: those of calls, and of loops."""

from typing import Any

from jaxlsq.tracing.types import Jaxpr

__all__ = ["CALLS", "REMATERIALIZED", "RULES", "opened", "scan_counts"]

# Primitives that only call a jaxpr, by where they have it; those that compute it again for
# derivatives; and those with derivatives of their own.
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
REMATERIALIZED = {"remat2": "jaxpr", "checkpoint": "jaxpr"}
RULES = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def opened(jaxpr: Jaxpr) -> tuple[Jaxpr, list[Any]]:
    """A jaxpr and its constants, whether it is closed over them or has none."""
    return getattr(jaxpr, "jaxpr", jaxpr), list(getattr(jaxpr, "consts", ()))


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many of a scan's arguments are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()  # since JAX 0.11
    return len(consts), len(carry)
