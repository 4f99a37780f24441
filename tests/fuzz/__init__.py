"""Fits that are drawn at random, against SciPy, against themselves alone, and between types."""
