"""Files and folders that are in their place when all of them is written, and not before."""

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["put"]


def put(path: Any, write: Callable[[str], None]) -> None:
    """Let ``write(place)`` write beside a path, and move that to it when it is whole."""
    target = os.path.realpath(path)
    beside = f"{target}.{uuid.uuid4().hex}.tmp"
    try:
        write(beside)
        old = f"{beside}.old" if os.path.isdir(target) else None
        if old:
            os.rename(target, old)
        elif os.path.exists(target):
            shutil.copymode(target, beside)
        try:
            os.replace(beside, target)
        except BaseException:
            if old:
                os.rename(old, target)
            raise
        if old:
            shutil.rmtree(old)
    except BaseException:
        with suppress(FileNotFoundError):
            shutil.rmtree(beside) if os.path.isdir(beside) else os.unlink(beside)
        raise
