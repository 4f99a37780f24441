"""What code reaches that is not in it, and what of that stays as it is."""

import sys
from dis import get_instructions, opmap
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from jaxlsq.tracing.signature import LIBRARIES

__all__ = ["OURS", "imported", "is_known", "is_of_library", "is_outside"]

OURS = __name__.split(".")[0]
_KNOWN = {*LIBRARIES, OURS}

# What code may reach, by these names, that is not in it: other names, files, clocks, chance.
_OUTSIDE = {
    *("getattr", "globals", "locals", "vars", "eval", "exec", "open", "input", "next"),
    *("__globals__", "__builtins__", "attrgetter", "methodcaller"),
    *("__import__", "import_module", "environ", "random", "time", "perf_counter", "now"),
    *("time_ns", "monotonic", "today", "utcnow", "getenv", "urandom", "default_rng"),
    *("load", "loadtxt", "loadmat", "genfromtxt", "fromfile", "fromregex", "memmap"),
    *("read", "readline", "read_text", "read_bytes", "read_csv", "read_table", "read_fwf"),
    *("read_json", "read_excel", "read_parquet", "read_feather", "read_pickle", "read_hdf"),
    *("read_sql", "open_dataset", "open_dataarray", "open_mfdataset", "open_zarr"),
    *("pure_callback", "io_callback", "callback"),
}
_IMPORT = opmap["IMPORT_NAME"]


def is_outside(name: Any) -> bool:
    """Whether what has this name may do another thing at each call."""
    return name in _OUTSIDE


def is_known(module: Any) -> bool:
    """Whether a module's name is of a library, or of this package."""
    return isinstance(module, str) and module.split(".")[0] in _KNOWN


def imported(code: CodeType) -> list[str] | None:
    """The modules that a function, or one inside of it, imports; None where it can't be told."""
    if not _imports(code):
        return []
    names, before = {}, (None, None)
    for step in get_instructions(code):
        if step.opcode == _IMPORT:
            name, level = step.argval, before[0]
            if level != 0 or name not in sys.modules:  # a relative one, or of what is yet to run
                return None
            names |= {name: None, name.split(".")[0]: None}
        before = before[1], step.argval
    for const in code.co_consts:
        inner = imported(const) if isinstance(const, CodeType) else []
        if inner is None:
            return None
        names |= dict.fromkeys(inner)
    return list(names)


def _imports(code):
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return _IMPORT in code.co_code[::2] or any(map(_imports, inner))


def is_of_library(value: Any) -> bool:
    """Whether it is a library's own function, class or ufunc, which stay as they are."""
    if isinstance(value, BuiltinFunctionType):
        return isinstance(value.__self__, (ModuleType, type(None)))
    if isinstance(value, np.ufunc):
        # Of objects alone: np.frompyfunc's, which calls a function of the caller's.
        return any(set(types) - set("O->") for types in value.types)
    if isinstance(value, (MethodType, partial, ModuleType)):
        return False
    if isinstance(value, FunctionType):
        # Where it was written: functools.wraps gives it the names of another function.
        if not is_known(value.__globals__.get("__name__")):
            return False
        return not value.__closure__ or _found(value) is value
    return _found(value) is value


def _found(value):
    """What a library has under a value's name: not always the value, which one may have made."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not is_known(module) or not isinstance(name, str):
        return None
    found = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
