"""One lane's arithmetic: pure functions on ``(n,)``, ``(m,)`` and ``(m, n)`` arrays.

Nothing here knows of batches, of the host or of SciPy's calling conventions,
and nothing here lowers to a custom call (LAPACK, cuSOLVER): every function
runs unchanged under ``jit``, under ``vmap`` and on a GPU.
"""
