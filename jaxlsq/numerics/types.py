"""Types that more than one file of the numerics names."""

from typing import Any, TypeAlias

__all__ = ["AnyArray"]

# NumPy's on the host and JAX's in a program; no type has the operators of both.
AnyArray: TypeAlias = Any
