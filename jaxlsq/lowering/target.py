"""The processor that code is made for, and LLVM, which makes it."""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

__all__ = ["Code", "Target", "compile_text", "host"]

# Branches that are taken, and branches that are not.
_WEIGHTS = '!0 = !{!"branch_weights", i32 2000, i32 1}\n!1 = !{!"branch_weights", i32 1, i32 2000}'
_LOCK = threading.Lock()
# By what the system calls them.
_ARCHITECTURES = {
    **{"x86_64": "x86_64", "amd64": "x86_64"},
    **{"aarch64": "aarch64", "arm64": "aarch64"},
}


@dataclass(frozen=True)
class Target:
    """A processor.

    Attributes
    ----------
    name, features : str
        As LLVM calls them.
    architecture : str
        'x86_64' or 'aarch64'.
    vector_bytes : int
        Of its registers.
    """

    name: str
    features: str
    architecture: str
    vector_bytes: int

    def width(self, dtype: Any) -> int:
        """Lanes in a register."""
        return self.vector_bytes // np.dtype(dtype).itemsize

    @property
    def cpu_attributes(self) -> str:
        """What a function for it is marked with."""
        wide = f'"prefer-vector-width"="{8 * self.vector_bytes}"'
        least = f'"min-legal-vector-width"="{8 * self.vector_bytes}"'
        return f'nounwind "no-builtins" "reciprocal-estimates"="none" {wide} {least}'


@cache
def host() -> Target | None:
    """This machine's processor; None without llvmlite, or where it is of a kind not known here."""
    try:
        import llvmlite.binding as llvm
    except ImportError:
        return None
    if llvm.llvm_version_info[0] < 19:  # which can't read constants as they are written here
        return None
    with _LOCK:
        for name in ("initialize", "initialize_native_target", "initialize_native_asmprinter"):
            _initialize(getattr(llvm, name, None))
    features = llvm.get_host_cpu_features()
    architecture = _ARCHITECTURES.get(llvm.get_process_triple().split("-")[0])
    vector_bytes = 16
    if architecture == "x86_64":
        if not features.get("avx2") or not features.get("fma"):
            return None
        vector_bytes = 64 if features.get("avx512f") and features.get("avx512dq") else 32
    if architecture is None:
        return None
    return Target(llvm.get_host_cpu_name(), features.flatten(), architecture, vector_bytes)


def _initialize(initializer):
    """Call one of LLVM's initializers; where LLVM has called it itself it is gone, or raises."""
    if initializer is not None:
        try:
            initializer()
        except RuntimeError:
            return


@dataclass(frozen=True)
class _Function:
    """A function of machine code, and the code, which must last as long."""

    call: Callable[..., Any]
    code: Any

    def __call__(self, *arguments):
        return self.call(*arguments)


class Code:
    """Machine code, for as long as something refers to it.

    Parameters
    ----------
    engine
        LLVM's, which owns it.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def address(self, name: str) -> int:
        """Of a function."""
        return self._engine.get_function_address(name)

    def function(self, name: str, *kinds: Any, result: Any = None) -> Callable[..., Any]:
        """A function to call from Python; it releases the interpreter's lock."""
        function = ctypes.CFUNCTYPE(result, *kinds)(self.address(name))
        return _Function(function, self)


def compile_text(text: str, target: Target, level: int = 2) -> Code:
    """Machine code of a module of LLVM IR.

    Parameters
    ----------
    text : str
    target : Target
        This machine.
    level : int
        Of optimization: 0 for what is run a few times, 1 for one round over each function, which
        compiles in half the time and runs some percent slower, 2 for all that LLVM has.

    Returns
    -------
    Code
    """
    import llvmlite.binding as llvm

    with _LOCK:
        module = llvm.parse_assembly(f"{text}\n{_WEIGHTS}\n")
        module.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=target.name, features=target.features, opt=min(2 * level, 2), jit=True
        )
        options = llvm.create_pipeline_tuning_options(speed_level=level)
        options.loop_vectorization = options.slp_vectorization = False  # lanes are vectors already
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, options)
        if level == 1:
            passes = builder.getFunctionPassManager()
            for function in module.functions:
                if not function.is_declaration:
                    passes.run(function, builder)
        else:
            builder.getModulePassManager().run(module, builder)
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
    return Code(engine)
