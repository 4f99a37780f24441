"""Errors of functions that JAX can't trace, in a sentence with the way out."""

import ctypes
import traceback

import jax

__all__ = ["JAX_ERRORS", "Untraceable", "untraceable"]

# What JAX raises for values that it does not know while it traces, and what C functions do.
JAX_ERRORS = (jax.errors.JAXTypeError, jax.errors.JAXIndexError, ctypes.ArgumentError)

_THEIRS = ("jax", "jaxlib", "jaxlsq", "numpy")
_CAUSES = (
    (ctypes.ArgumentError, "calls a C function with what is fitted"),
    (
        jax.errors.TracerArrayConversionError,
        "calls NumPy or SciPy with what is fitted: use jax.numpy instead (for what has no "
        "counterpart there, curve_fit in a loop takes any function)",
    ),
    (
        jax.errors.TracerBoolConversionError,
        "decides with `if` (or `and`, `max`, ...) by a value: use jax.numpy.where(condition, a, b)",
    ),
    (
        jax.errors.NonConcreteBooleanIndexError,
        "picks elements by a condition, x[x > 1]: use jax.numpy.where(condition, a, b) or mask=",
    ),
)


class Untraceable(TypeError):
    """A function of the user's that JAX can't trace.

    Attributes
    ----------
    reason : str
        What in it, and where.
    """

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} must be one that JAX can trace, and this one{reason}.")
        self.reason = reason


def untraceable(error: BaseException, what: str) -> Untraceable:
    """The error to raise in the place of one of `JAX_ERRORS`.

    Parameters
    ----------
    error : Exception
    what : str
        Which of the user's functions.

    Returns
    -------
    TypeError
    """
    cause = next(
        (text for kind, text in _CAUSES if isinstance(error, kind)),
        "needs the value of something that is not known yet: write it with jax.numpy, and with "
        "jnp.where instead of `if`",
    )
    return Untraceable(what, f"{_line(error)} {cause}")


def _line(error):
    """Where in the user's code an error was raised."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = frame.filename.replace("\\", "/").split("/")
        if not any(name in parts for name in _THEIRS) and frame.line:
            return f", in line {frame.lineno}, `{frame.line.strip()[:60]}`,"
    return ""
