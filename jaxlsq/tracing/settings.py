"""JAX's settings while our own code compiles and runs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax

__all__ = ["contexts_to_enter", "has_64_bits", "own_settings"]


def _allow(_):
    return jax.transfer_guard("allow")


_GUARDS = ("host_to_device", "device_to_host", "device_to_device")
# Settings, what we work under, and how that is asked for.
_OWN = (
    ("jax_disable_jit", False, jax.disable_jit),
    ("jax_debug_nans", False, jax.debug_nans),
    ("jax_debug_infs", False, jax.debug_infs),
    ("jax_numpy_rank_promotion", "allow", jax.numpy_rank_promotion),
    ("jax_numpy_dtype_promotion", "standard", jax.numpy_dtype_promotion),
    ("jax_check_tracer_leaks", False, jax.check_tracer_leaks),
    *((f"jax_transfer_guard_{way}", None, _allow) for way in _GUARDS),
)


@contextmanager
def own_settings() -> Iterator[None]:
    """JAX's defaults, in the place of what people debug their own functions with.

    Under such settings our code would raise where nothing is wrong: its programs are compiled
    ahead, are given NumPy arrays, and hold infinities and NaN for what has not been computed.  What
    is of a user is traced, or called in Python, outside of it.
    """
    with ExitStack() as stack:
        for context, own in contexts_to_enter():
            stack.enter_context(context(own))
        yield


def contexts_to_enter() -> list[tuple[Callable[..., Any], Any]]:
    """What `own_settings` changes of the settings as they are: contexts and their values."""
    return [(context, own) for name, own, context in _OWN if getattr(jax.config, name) != own]


def has_64_bits() -> bool:
    """Whether JAX has 64 bits here (``jax_enable_x64``)."""
    # JAX gives its settings their attributes at run time.
    return bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]
