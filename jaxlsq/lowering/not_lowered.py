"""The exception that sends a program to XLA: something in it is not known to the lowering."""

__all__ = ["NotLowered"]


class NotLowered(Exception):
    """What a program holds that can't be lowered; the message is the reason."""
