"""Builds the C and C++ drivers when first asked for, and calls them through ctypes."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np

SOURCES = Path(__file__).parent / "native"
BUILT = Path(__file__).parent / "__pycache__"
KERNELS = ("peak", "decay", "sinusoid", "spot", "peaks")
# The driver's source, its compiler, the headers' folders and the libraries.
DRIVERS = {
    "minpack": ("minpack.c", "gcc", ["cminpack-1"], ["-lcminpack", "-lm"]),
    "tinysolver": ("tinysolver.cpp", "g++", ["eigen3"], ["-lm"]),
}

_int = ctypes.c_int
_doubles = np.ctypeslib.ndpointer(np.float64, flags="C")
_ints = np.ctypeslib.ndpointer(np.intc, flags="C")


def _build(driver, fast_math):
    """The library's path; it is kept until the sources, the options or the machine change."""
    source, compiler, folders, libraries = DRIVERS[driver]
    flags = ["-O3", "-march=native", "-DNDEBUG", "-fPIC"]
    flags += ["-ffast-math"] if fast_math else []
    flags += [f"-I{root}/include/{f}" for root in ("/usr", "/usr/local") for f in folders]
    code = b"".join((SOURCES / name).read_bytes() for name in ("models.h", source))
    key = hashlib.sha256(code + repr((flags, libraries, platform.node())).encode()).hexdigest()[:16]
    target = BUILT / f"{driver}-{key}.so"
    if not target.exists():
        BUILT.mkdir(exist_ok=True)
        built = BUILT / f"{driver}-{key}-{os.getpid()}"
        partial, unlinked = built.with_suffix(".so"), built.with_suffix(".o")
        # Linked without -ffast-math, which would turn off subnormals in the whole process.
        compile_ = [compiler, *flags, "-c", str(SOURCES / source), "-o", str(unlinked)]
        link = [compiler, "-shared", str(unlinked), "-o", str(partial), *libraries]
        for command in (compile_, link):
            subprocess.run(command, check=True, capture_output=True)
        unlinked.unlink()
        partial.replace(target)
    return target


@functools.cache
def load(driver, fast_math=False):
    """The driver's library, or None where the compiler, a header or a library is missing."""
    if shutil.which(DRIVERS[driver][1]) is None:
        return None
    try:
        library = ctypes.CDLL(str(_build(driver, fast_math)))
    except (subprocess.CalledProcessError, OSError):
        return None
    library.fit.argtypes = [_int, ctypes.c_ssize_t, _int, _int] + [_doubles] * 5 + [_ints] * 2
    return library


def fit(library, workload, x, y, p0):
    """Fit each lane: params (B, n), cost (B,), evaluations (B,) and the library's status (B,)."""
    x, y, p0 = (np.ascontiguousarray(v, np.float64) for v in (x, y, p0))
    (count, m), n = y.shape, p0.shape[1]
    params, cost = np.empty((count, n)), np.empty(count)
    nfev, status = np.empty(count, np.intc), np.empty(count, np.intc)
    kind = KERNELS.index(workload.kernel)
    failed = library.fit(kind, count, m, n, x, y, p0, params, cost, nfev, status)
    if failed:
        raise RuntimeError(f"the driver gave up on m = {m}, n = {n}: {failed}")
    return params, cost, nfev, status


def evaluate(workload, x, y, params):
    """Residuals (m,) and Jacobian (m, n) of one lane by the C code, to check its derivatives."""
    library = load("minpack")
    library.evaluate.argtypes = [_int, _int] + [_doubles] * 5
    library.evaluate.restype = None
    x, y, params = (np.ascontiguousarray(v, np.float64) for v in (x, y, params))
    residual, columns = np.empty(len(y)), np.empty((len(params), len(y)))
    kind = KERNELS.index(workload.kernel)
    library.evaluate(kind, len(y), x, y, params, residual, columns)
    return residual, columns.T
