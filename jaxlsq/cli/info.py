"""What a bug report needs to say of a machine."""

import importlib.metadata
import os
import platform
import sys
from typing import Any

import jax

from jaxlsq import __version__
from jaxlsq.lowering import engine
from jaxlsq.lowering.not_lowered import NotLowered
from jaxlsq.schedule.devices import usable_cores

__all__ = ["facts", "text"]

PACKAGES = (
    *("jax", "jaxlib", "numpy", "llvmlite", "scipy", "matplotlib", "polars", "pandas"),
    *("h5py", "zarr", "tqdm"),
)
VARIABLES = ("JAXLSQ_ENGINE", "JAX_PLATFORMS", "JAX_ENABLE_X64", "XLA_FLAGS")


def facts() -> dict[str, Any]:
    """Versions, devices, engine and settings.

    Examples
    --------
    >>> from jaxlsq.cli.info import facts
    >>> sorted(facts())
    ['cores', 'devices', 'engine', 'environment', 'jax_cache', 'packages', 'platform', 'python']
    """
    return {
        "packages": {"jaxlsq": __version__} | {name: _version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "platform": f"{platform.platform()}, {platform.machine()}",
        "cores": usable_cores(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "engine": _engine(),
        "jax_cache": jax.config.jax_compilation_cache_dir,  # pyright: ignore[reportAttributeAccessIssue]
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def text() -> str:
    """The same, a line each."""
    known = facts()
    versions = [f"{name} {version}" for name, version in known["packages"].items() if version]
    missing = [name for name, version in known["packages"].items() if not version]
    lines = {
        "versions": ", ".join(versions),
        "not there": ", ".join(missing) or "-",
        "python": known["python"],
        "platform": known["platform"],
        "cores": known["cores"],
        "devices": ", ".join(known["devices"]),
        "engine": known["engine"],
        "JAX's cache": known["jax_cache"] or "none on disk (JAX_COMPILATION_CACHE_DIR)",
        "environment": ", ".join(f"{k}={v}" for k, v in known["environment"].items()) or "-",
    }
    return "\n".join(f"{name:<12} {value}" for name, value in lines.items())


def _version(name: str):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _engine():
    """What works batches of small models, and why it is not compiled lanes."""
    try:
        target = engine.target_for(1, float)
    except NotLowered as reason:
        return f"{engine.XLA}: {reason}"
    except ValueError as error:
        return str(error)
    return f"{engine.LANES}: {target.name}, registers of {8 * target.vector_bytes} bits"
