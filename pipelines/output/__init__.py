"""The output directory: its names, its state, and the lock that keeps two builds out of it."""
