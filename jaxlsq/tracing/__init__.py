"""A Python function as a program: traced, compared, rewritten, compiled once."""
