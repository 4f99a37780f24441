"""Types that more than one file of the tracing names."""

from typing import Any, TypeAlias

__all__ = ["Equation", "Jaxpr"]

# JAX's JaxprEqn and Jaxpr; its types do not say that their variables have a shape and a dtype.
Equation: TypeAlias = Any
Jaxpr: TypeAlias = Any
