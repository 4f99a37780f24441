"""`least_squares` inside a JAX program: under `vmap`, under `grad`, with its history."""
