"""The on-disk contract: names, manifest, and records, which are encoded and read here. NumPy, but for `arrow`."""
