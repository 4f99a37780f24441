"""One fit from the host: compiled whole, or around a function that Python calls."""
