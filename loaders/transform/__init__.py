"""The transform of a data set, applied to raw features and inverted."""
