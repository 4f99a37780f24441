"""Many fits from the host: read in blocks, worked by a pool or by compiled lanes, put away."""
