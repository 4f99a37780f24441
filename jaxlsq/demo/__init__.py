"""What ``python -m jaxlsq`` shows."""
