"""A process that was forked after JAX was used has none of JAX's threads: a fit would hang."""

import os

from jax._src import xla_bridge  # nothing public says whether JAX has been used

__all__ = ["check_not_forked"]


class _Fork:
    """What is known of the forks that this process came by."""

    jax_was_used = False
    must_not_fit = False


def _before():
    _Fork.jax_was_used = xla_bridge.backends_are_initialized()


def _in_child():
    _Fork.must_not_fit = _Fork.must_not_fit or _Fork.jax_was_used


if hasattr(os, "register_at_fork") and hasattr(xla_bridge, "backends_are_initialized"):
    os.register_at_fork(before=_before, after_in_child=_in_child)


def check_not_forked() -> None:
    """To be called before a fit from the host.

    Raises
    ------
    RuntimeError
        In a child process that was forked after JAX was used.
    """
    if _Fork.must_not_fit:
        raise RuntimeError(
            "This process was forked after JAX was used, and a fit would wait for ever for threads "
            "that it does not have. Use the start method 'spawn': "
            "multiprocessing.get_context('spawn')."
        )
