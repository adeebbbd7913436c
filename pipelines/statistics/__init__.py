"""Statistics of the training rows as exact monoids, in NumPy alone."""
