"""The processor's mode for subnormal numbers: they are zero inside, as in XLA.

Processors that have them in microcode would take a hundred times as long, and a peak whose tails
vanish is full of them.
"""

from jaxlsq.lowering.emitter import Emitter

__all__ = ["flush_subnormals", "restore_mode"]

# Bits that take subnormal arguments and results for zero.
_X86, _ARM = 0x8040, 1 << 24


def flush_subnormals(e: Emitter, architecture: str) -> str:
    """Take subnormal numbers for zero; returns the mode as it was."""
    if architecture == "x86_64":
        slot = e.slot("i32")
        e.declare("llvm.x86.sse.stmxcsr", "void", "ptr")
        e.declare("llvm.x86.sse.ldmxcsr", "void", "ptr")
        e.do(f"call void @llvm.x86.sse.stmxcsr(ptr {slot})")
        old = e.read(f"load i32, ptr {slot}")
        e.do(f"store i32 {e.named(f'or i32 {old}, {_X86}')}, ptr {slot}")
        e.do(f"call void @llvm.x86.sse.ldmxcsr(ptr {slot})")
        return old
    e.declare("llvm.aarch64.get.fpcr", "i64", "")
    e.declare("llvm.aarch64.set.fpcr", "void", "i64")
    old = e.read("call i64 @llvm.aarch64.get.fpcr()")
    e.do(f"call void @llvm.aarch64.set.fpcr(i64 {e.named(f'or i64 {old}, {_ARM}')})")
    return old


def restore_mode(e: Emitter, architecture: str, old: str) -> None:
    """The mode that `flush_subnormals` returned."""
    if architecture == "x86_64":
        slot = e.slot("i32")
        e.do(f"store i32 {old}, ptr {slot}")
        e.do(f"call void @llvm.x86.sse.ldmxcsr(ptr {slot})")
    else:
        e.do(f"call void @llvm.aarch64.set.fpcr(i64 {old})")
