"""What is to be solved: starts, bounds, losses, weights and data, read and checked."""
